//! What a job reads and writes in device memory: two jobs that touch the same must run in their order.

use crate::places::Places;
use rnnc_plan::{
    Instruction, LookUp, Map, Matrix, Op, OuterSum, Product, Read, RowSum, ScatterSum, Vector, View,
};
use std::ops::Range;

/// Numbers of a region.
#[derive(Clone, Debug, PartialEq)]
enum Area {
    /// Columns of a buffer, in all rows; and the numbers of the whole buffer, since others may lie there at other times.
    Columns { buffer: usize, columns: Range<usize>, numbers: Range<usize> },
    /// Some of the flat gradients.
    Gradients(Range<usize>),
}

impl Area {
    fn meets(&self, other: &Area) -> bool {
        let overlap = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        match (self, other) {
            (
                Area::Columns { buffer, columns, numbers },
                Area::Columns { buffer: others, columns: other_columns, numbers: other_numbers },
            ) => match buffer == others {
                true => overlap(columns, other_columns),
                false => overlap(numbers, other_numbers),
            },
            (Area::Gradients(a), Area::Gradients(b)) => overlap(a, b),
            _ => false,
        }
    }
}

/// What is read and written of values and gradients. Weights are only read in a pass, scratch and counters are a job's
/// own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    reads: Vec<Area>,
    writes: Vec<Area>,
    /// Numbers of a row, as far as they are values.
    pub per_row: usize,
}

impl Access {
    /// Whether the two must run in their order.
    pub fn meets(&self, other: &Access) -> bool {
        let any = |a: &[Area], b: &[Area]| a.iter().any(|a| b.iter().any(|b| a.meets(b)));
        any(&self.writes, &other.writes) || any(&self.writes, &other.reads) || any(&self.reads, &other.writes)
    }

    /// Writes some of the flat gradients.
    pub fn gradients(&mut self, numbers: Range<usize>) {
        self.writes.push(Area::Gradients(numbers));
    }

    /// The elements of a matrix, and all that lies between them.
    fn gradient(&mut self, matrix: Matrix, rows: usize, columns: usize) {
        let last =
            rows.saturating_sub(1) * matrix.row_stride + columns.saturating_sub(1) * matrix.column_stride;
        self.gradients(matrix.offset..matrix.offset + last + 1);
    }

    fn read(&mut self, places: &Places<'_>, read: &Read) {
        self.per_row += read.view.len;
        self.reads.push(area(places, read.view));
    }

    fn write(&mut self, places: &Places<'_>, view: View) {
        self.per_row += view.len;
        self.writes.push(area(places, view));
    }

    /// Of an operation.
    pub fn op(&mut self, places: &Places<'_>, op: &Op) {
        match op {
            Op::MatMul(products) => products.iter().for_each(|p| self.product(places, p)),
            Op::Gather(look_ups) => look_ups.iter().for_each(|l| self.look_up(places, l)),
            Op::Map(map) => self.map(places, map),
            Op::Vector(vector) => self.vector(places, vector),
            Op::WeightGradient(sums) => sums.iter().for_each(|s| self.outer(places, s)),
            Op::TableGradient(sums) => sums.iter().for_each(|s| self.scatter(places, s)),
            Op::Reduce(sums) => self.sums(places, sums),
        }
    }

    pub fn product(&mut self, places: &Places<'_>, product: &Product) {
        self.read(places, &product.from);
        self.write(places, product.to);
    }

    pub fn look_up(&mut self, places: &Places<'_>, look_up: &LookUp) {
        self.read(places, &look_up.symbol);
        self.write(places, look_up.to);
    }

    pub fn map(&mut self, places: &Places<'_>, map: &Map) {
        for step in &map.program {
            match step {
                Instruction::Load { read, .. } | Instruction::LoadRepeated { read, .. } => {
                    self.read(places, read)
                }
                Instruction::Store { to, .. } => self.write(places, *to),
                _ => {}
            }
        }
    }

    pub fn vector(&mut self, places: &Places<'_>, vector: &Vector) {
        vector.operands.iter().for_each(|read| self.read(places, read));
        self.write(places, vector.to);
    }

    pub fn outer(&mut self, places: &Places<'_>, sum: &OuterSum) {
        self.reads.push(area(places, sum.error));
        self.read(places, &sum.source);
        self.per_row += sum.error.len;
        self.gradient(sum.gradient, sum.error.len, sum.source.view.len);
    }

    pub fn scatter(&mut self, places: &Places<'_>, sum: &ScatterSum) {
        self.reads.push(area(places, sum.error));
        self.read(places, &sum.symbol);
        self.per_row += sum.error.len;
        self.gradient(sum.gradient, sum.error.len, sum.symbols);
    }

    pub fn sums(&mut self, places: &Places<'_>, sums: &[RowSum]) {
        for sum in sums {
            self.reads.push(area(places, sum.error));
            self.per_row += sum.error.len;
            sum.source.iter().for_each(|source| self.read(places, source));
            self.gradients(sum.gradient..sum.gradient + sum.error.len);
        }
    }
}

fn area(places: &Places<'_>, view: View) -> Area {
    let (first, frame) = places.buffer(view.buffer.0);
    let frames = places.plan.buffers[view.buffer.0].history + places.setup.window;
    Area::Columns {
        buffer: view.buffer.0,
        columns: view.column..view.column + view.len,
        numbers: first..first + frames * frame,
    }
}

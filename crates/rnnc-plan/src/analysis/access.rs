//! What a job (an operation, a part of one, or a loop) reads and writes: two jobs that touch the same must run in their
//! order.

use super::overlaps::Overlaps;
use crate::ir::{
    LookUp, Map, Matrix, Op, OuterSum, Placed, Product, Read, RowSum, ScatterSum, Stage, StageKind, Task,
    Vector, View,
};
use rnnc_graph::Direction;
use std::collections::HashMap;
use std::ops::Range;

/// Some numbers.
#[derive(Clone, Debug, PartialEq)]
enum Area {
    /// Columns of a buffer, in all rows; of a read, those of other frames if it has a delay.
    Columns { buffer: usize, columns: Range<usize>, delay: i64 },
    /// Some of the flat gradients.
    Gradients(Range<usize>),
}

/// What is read and written of values and gradients. Weights are only read in a pass, scratch and counters are a job's
/// own.
#[derive(Clone, Debug, Default)]
pub struct Access {
    reads: Vec<Area>,
    writes: Vec<Area>,
    /// Values of a row that are read and written.
    values: usize,
    /// Floating-point operations of a row, in products.
    flops: usize,
}

/// Where in time a job runs that has some frames of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Chunks of one pipeline are compared by their numbers.
    pub pipeline: usize,
    /// Chunks come in the order of steps.
    pub number: usize,
    /// Of steps.
    pub direction: Direction,
}

/// Of each buffer, the numbers that it takes; of those that are not listed, no others take the same.
pub type Lying = [Range<usize>];

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Area {
    /// The buffer, if it is of one.
    fn buffer(&self) -> Option<usize> {
        match self {
            Area::Columns { buffer, .. } => Some(*buffer),
            Area::Gradients(_) => None,
        }
    }

    /// Which columns or gradients.
    fn numbers(&self) -> Range<usize> {
        match self {
            Area::Columns { columns: numbers, .. } | Area::Gradients(numbers) => numbers.clone(),
        }
    }

    /// Whether the two have a number in common, and whether only in frames that the chunks say.
    fn overlaps(&self, other: &Area, lying: &Lying) -> (bool, bool) {
        match (self, other) {
            (
                Area::Columns { buffer: a, columns, .. },
                Area::Columns { buffer: b, columns: other_columns, .. },
            ) => match a == b {
                true => (overlap(columns, other_columns), true),
                false => (lying.get(*a).zip(lying.get(*b)).is_some_and(|(a, b)| overlap(a, b)), false),
            },
            (Area::Gradients(a), Area::Gradients(b)) => (overlap(a, b), false),
            _ => (false, false),
        }
    }

    /// The chunks whose frames it touches in a chunk.
    fn chunks(&self, chunk: Chunk) -> Range<usize> {
        let Area::Columns { delay, .. } = *self else { return 0..usize::MAX };
        let back = if chunk.direction == Direction::Forward { delay } else { -delay };
        match back {
            0 => chunk.number..chunk.number + 1,
            1.. => 0..chunk.number + 1,
            _ => chunk.number..usize::MAX,
        }
    }
}

impl Access {
    /// Whether two jobs, of whole passes or of chunks, must run in their order.
    pub fn overlaps(
        &self,
        chunk: Option<Chunk>,
        other: &Access,
        others: Option<Chunk>,
        lying: &Lying,
    ) -> bool {
        let at_once = |a: &Area, b: &Area| match (chunk, others) {
            (Some(own), Some(others)) if own.pipeline == others.pipeline => {
                overlap(&a.chunks(own), &b.chunks(others))
            }
            _ => true,
        };
        let overlap = |a: &Area, b: &Area| match a.overlaps(b, lying) {
            (true, by_frames) => !by_frames || at_once(a, b),
            (false, _) => false,
        };
        self.any_overlap(other, lying, overlap)
    }

    /// Whether a later job can have some frames before this one has the next ones, in that direction of time. Sums over
    /// rows are no hindrance: they go on from frames to frames.
    pub fn lets_pass(&self, later: &Access, direction: Direction) -> bool {
        let chunk = |number| Chunk { pipeline: 0, number, direction };
        let overlap = |a: &Area, b: &Area| match (a.overlaps(b, &[]), a) {
            ((true, _), Area::Columns { .. }) => overlap(&a.chunks(chunk(1)), &b.chunks(chunk(0))),
            _ => false,
        };
        !self.any_overlap(later, &[], overlap)
    }

    /// Whether any area that one of the two writes overlaps one that the other touches. `overlap` holds for no areas but those that
    /// [`Area::overlaps`] lets overlap.
    fn any_overlap(&self, other: &Access, lying: &Lying, overlap: impl Fn(&Area, &Area) -> bool) -> bool {
        /// Fewer pairs than these are looked at one by one.
        const PAIRS: usize = 1 << 12;
        let any = |a: &[Area], b: &[Area]| match a.len().saturating_mul(b.len()) < PAIRS {
            true => a.iter().any(|a| b.iter().any(|b| overlap(a, b))),
            false => {
                let areas = Areas::new(b, lying);
                a.iter().any(|a| areas.near(a).any(|b| overlap(a, b)))
            }
        };
        any(&self.writes, &other.writes) || any(&self.writes, &other.reads) || any(&self.reads, &other.writes)
    }

    /// Whether it has sums over rows, which can only be had of all.
    pub fn sums_rows(&self) -> bool {
        self.writes.iter().any(|area| matches!(area, Area::Gradients(_)))
    }

    /// Floating-point operations in products, and bytes, of so many rows.
    pub fn cost(&self, rows: usize) -> (f64, f64) {
        (self.flops as f64 * rows as f64, 4.0 * self.values as f64 * rows as f64)
    }

    /// Bytes of device memory that so many rows cannot do without: each value once, however often it is touched, and the
    /// matrices of products once.
    pub fn least_bytes(&self, rows: usize) -> f64 {
        let mut columns: Vec<(usize, Range<usize>)> = Vec::new();
        for area in self.reads.iter().chain(&self.writes) {
            if let Area::Columns { buffer, columns: range, .. } = area {
                columns.push((*buffer, range.clone()));
            }
        }
        columns.sort_by_key(|(buffer, columns)| (*buffer, columns.start));
        let (mut values, mut counted) = (0, (usize::MAX, 0));
        for (buffer, columns) in columns {
            let first = if counted.0 == buffer { columns.start.max(counted.1) } else { columns.start };
            values += columns.end.saturating_sub(first);
            counted = (buffer, columns.end.max(first));
        }
        // A row has two operations for each number of a matrix.
        4.0 * (values as f64 * rows as f64 + self.flops as f64 / 2.0)
    }

    /// Of a stage's jobs, in their order: of a frames stage one for each part of an operation, of a loop stage one for
    /// each loop, of a scan stage one.
    pub fn of_stage(stage: &Stage) -> Vec<Access> {
        fn placed(tasks: &[Task]) -> impl Iterator<Item = &Placed> {
            tasks.iter().flat_map(|t| &t.phases).flat_map(|p| &p.ops)
        }
        fn all<'a>(ops: impl Iterator<Item = &'a Placed>) -> Access {
            Access::of(|access| {
                ops.flat_map(|placed| Access::parts(&placed.op)).for_each(|part| access.add(part))
            })
        }
        match stage.kind {
            StageKind::Frames => placed(&stage.tasks).flat_map(|placed| Access::parts(&placed.op)).collect(),
            StageKind::Scan => vec![all(placed(&stage.tasks))],
            StageKind::Loop => {
                stage.tasks.iter().map(|task| all(placed(std::slice::from_ref(task)))).collect()
            }
        }
    }

    /// Writes some of the flat gradients.
    pub fn of_gradients(numbers: Range<usize>) -> Access {
        Access::of(|access| access.gradients(numbers))
    }

    fn of(touch: impl FnOnce(&mut Access)) -> Access {
        let mut access = Access::default();
        touch(&mut access);
        access
    }

    fn add(&mut self, other: Access) {
        self.reads.extend(other.reads);
        self.writes.extend(other.writes);
        self.values += other.values;
        self.flops += other.flops;
    }

    /// Of each part of an operation.
    fn parts(op: &Op) -> Vec<Access> {
        match op {
            Op::MatMul(products) => products.iter().map(|p| Access::of(|a| a.product(p))).collect(),
            Op::Gather(look_ups) => look_ups.iter().map(|l| Access::of(|a| a.look_up(l))).collect(),
            Op::Map(map) => vec![Access::of(|a| a.map(map))],
            Op::Vector(vector) => vec![Access::of(|a| a.vector(vector))],
            Op::WeightGradient(sums) => sums.iter().map(|s| Access::of(|a| a.outer(s))).collect(),
            Op::TableGradient(sums) => sums.iter().map(|s| Access::of(|a| a.scatter(s))).collect(),
            Op::Reduce(sums) => vec![Access::of(|a| sums.iter().for_each(|sum| a.sum(sum)))],
        }
    }

    fn read(&mut self, read: &Read) {
        self.values += read.view.len;
        self.reads.push(area(read.view, read.delay));
    }

    fn read_view(&mut self, view: View) {
        self.values += view.len;
        self.reads.push(area(view, 0));
    }

    fn write(&mut self, view: View) {
        self.values += view.len;
        self.writes.push(area(view, 0));
    }

    fn gradients(&mut self, numbers: Range<usize>) {
        self.writes.push(Area::Gradients(numbers));
    }

    /// The elements of a matrix, and all that lies between them.
    fn gradient(&mut self, matrix: Matrix, rows: usize, columns: usize) {
        let last =
            rows.saturating_sub(1) * matrix.row_stride + columns.saturating_sub(1) * matrix.column_stride;
        self.gradients(matrix.offset..matrix.offset + last + 1);
    }

    fn product(&mut self, product: &Product) {
        self.read(&product.from);
        self.write(product.to);
        self.flops += 2 * product.to.len * product.from.view.len;
    }

    fn look_up(&mut self, look_up: &LookUp) {
        self.read(&look_up.symbol);
        self.write(look_up.to);
    }

    fn map(&mut self, map: &Map) {
        map.reads().for_each(|read| self.read(read));
        map.stores().for_each(|to| self.write(to));
    }

    fn vector(&mut self, vector: &Vector) {
        vector.operands.iter().for_each(|read| self.read(read));
        self.write(vector.to);
    }

    fn outer(&mut self, sum: &OuterSum) {
        self.read_view(sum.error);
        self.read(&sum.source);
        self.gradient(sum.gradient, sum.error.len, sum.source.view.len);
        self.flops += 2 * sum.error.len * sum.source.view.len;
    }

    fn scatter(&mut self, sum: &ScatterSum) {
        self.read_view(sum.error);
        self.read(&sum.symbol);
        self.gradient(sum.gradient, sum.error.len, sum.symbols);
    }

    fn sum(&mut self, sum: &RowSum) {
        self.read_view(sum.error);
        sum.source.iter().for_each(|source| self.read(source));
        self.gradients(sum.gradient..sum.gradient + sum.error.len);
    }
}

fn area(view: View, delay: i64) -> Area {
    Area::Columns { buffer: view.buffer.0, columns: view.column..view.column + view.len, delay }
}

/// Many areas, to find those that may overlap one.
struct Areas<'a> {
    /// Of each buffer, and of the gradients.
    same: HashMap<Option<usize>, Overlaps<&'a Area>>,
    /// Of each buffer one, by where the buffer lies.
    places: Overlaps<&'a Area>,
    lying: &'a Lying,
}

impl<'a> Areas<'a> {
    fn new(areas: &'a [Area], lying: &'a Lying) -> Areas<'a> {
        let mut same: HashMap<Option<usize>, Vec<(Range<usize>, &Area)>> = HashMap::new();
        for area in areas {
            same.entry(area.buffer()).or_default().push((area.numbers(), area));
        }
        let place = |(buffer, areas): (&Option<usize>, &Vec<(Range<usize>, &'a Area)>)| {
            Some((lying.get((*buffer)?)?.clone(), areas[0].1))
        };
        let places = Overlaps::new(same.iter().filter_map(place).collect());
        let same = same.into_iter().map(|(buffer, areas)| (buffer, Overlaps::new(areas))).collect();
        Areas { same, places, lying }
    }

    fn near(&self, area: &Area) -> impl Iterator<Item = &'a Area> {
        let (buffer, numbers) = (area.buffer(), area.numbers());
        let same = self.same.get(&buffer).into_iter().flat_map(move |areas| areas.with(numbers.clone()));
        let place = buffer.and_then(|buffer| self.lying.get(buffer));
        let others = place.into_iter().flat_map(|place| self.places.with(place.clone()));
        same.chain(others.filter(move |other| other.buffer() != buffer)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::BufferId;

    #[test]
    fn jobs_of_many_areas_overlap_where_any_two_of_them_do() {
        let view = |buffer, column| View { buffer: BufferId(buffer), column, len: 2 };
        let many = |buffer: usize, write: bool| {
            Access::of(|a| {
                let views = (0..100).map(|place| view(buffer, 4 * place));
                views.for_each(|view| if write { a.write(view) } else { a.read_view(view) });
            })
        };
        let overlaps = |a: &Access, b: &Access, lying: &Lying| a.overlaps(None, b, None, lying);
        let mut other = Access::of(|a| (0..100).for_each(|place| a.read_view(view(1, 4 * place + 2))));
        assert!(!overlaps(&many(1, true), &other, &[]), "every other two columns");
        other.write(view(1, 4 * 50 + 1));
        assert!(overlaps(&many(1, true), &other, &[]) && overlaps(&other, &many(1, true), &[]));
        assert!(overlaps(&many(1, false), &other, &[]) && !overlaps(&many(1, false), &many(1, false), &[]));
        // Two buffers in one place, and apart.
        assert!(overlaps(&many(1, true), &many(2, false), &[0..0, 0..400, 300..700]));
        assert!(!overlaps(&many(1, true), &many(2, false), &[0..0, 0..400, 400..800]));
    }

    #[test]
    fn a_value_counts_once_however_often_it_is_touched() {
        let view = |buffer, column, len| View { buffer: BufferId(buffer), column, len };
        let access = Access::of(|a| {
            a.read_view(view(1, 4, 8));
            a.write(view(1, 0, 6));
            a.read_view(view(1, 5, 2));
            a.read_view(view(0, 4, 8));
            a.gradients(0..100);
            a.flops += 2 * 30;
        });
        // 12 columns of one buffer and 8 of another; a matrix of 30 numbers, once for all rows.
        assert_eq!(access.least_bytes(10), 4.0 * (200.0 + 30.0));
        assert_eq!(access.cost(10), (600.0, 4.0 * 240.0));
        assert_eq!(Access::default().least_bytes(10), 0.0);
    }
}

//! Gradients that more than one sum adds to. Each worker has a part of every sum, by the sum's own units; where two sums of
//! different extent meet in the flat gradient buffer, a number would be two workers' at once. So the second waits for the
//! first: they come into phases of their own.

use rnnc_plan::{Matrix, Op, Phase, Placed};

/// Where a sum is added, and how it is shared out.
#[derive(Clone, Copy, PartialEq)]
struct Extent {
    matrix: Matrix,
    rows: usize,
    columns: usize,
    /// Whether it is a table's: these are shared out otherwise than matrices are.
    is_table: bool,
}

impl Extent {
    /// One past its last number.
    fn end(&self) -> usize {
        let Extent { matrix, rows, columns, .. } = *self;
        let last = |n: usize, stride: usize| n.saturating_sub(1) * stride;
        matrix.offset + last(rows, matrix.row_stride) + last(columns, matrix.column_stride) + 1
    }

    /// Whether workers may add to both without a meeting between. Matrices that lie within each other's gaps may not, for
    /// simplicity's sake.
    fn goes_with(&self, other: &Extent) -> bool {
        self == other
            || self.end() <= other.matrix.offset
            || other.end() <= self.matrix.offset
            || self.is_beside(other)
    }

    /// Whether both are columns of one matrix, and no column is of both.
    fn is_beside(&self, other: &Extent) -> bool {
        let width = self.matrix.row_stride;
        if width == 0
            || [self, other].iter().any(|e| e.matrix.row_stride != width || e.matrix.column_stride != 1)
        {
            return false;
        }
        let columns = |e: &Extent| (e.matrix.offset % width, e.matrix.offset % width + e.columns);
        let ((a, a_end), (b, b_end)) = (columns(self), columns(other));
        a_end <= width && b_end <= width && (a_end <= b || b_end <= a)
    }
}

/// The phases of a phase of a frames stage: such that within each no two sums meet, but for those of one extent.
pub(super) fn rounds(phase: &Phase) -> Vec<Phase> {
    let mut rounds = vec![Phase::default()];
    let mut taken = Vec::new();
    for Placed { offset, op } in &phase.ops {
        let mut add = |op: Op, extent: Option<Extent>| {
            if extent.is_some_and(|extent| !taken.iter().all(|other| extent.goes_with(other))) {
                rounds.push(Phase::default());
                taken.clear();
            }
            taken.extend(extent);
            // There is a round.
            let Some(ops) = rounds.last_mut().map(|round| &mut round.ops) else { return };
            // What is done together stays together.
            match (ops.last_mut().map(|placed| &mut placed.op), op) {
                (Some(Op::WeightGradient(list)), Op::WeightGradient(more)) => list.extend(more),
                (Some(Op::TableGradient(list)), Op::TableGradient(more)) => list.extend(more),
                (Some(Op::Reduce(list)), Op::Reduce(more)) => list.extend(more),
                (_, op) => ops.push(Placed { offset: *offset, op }),
            }
        };
        match op {
            Op::WeightGradient(list) => list.iter().for_each(|sum| {
                let (matrix, rows, columns) = (sum.gradient, sum.error.len, sum.source.view.len);
                let extent = Extent { matrix, rows, columns, is_table: false };
                add(Op::WeightGradient(vec![*sum]), Some(extent));
            }),
            Op::TableGradient(list) => list.iter().for_each(|sum| {
                let (matrix, rows, columns) = (sum.gradient, sum.error.len, sum.symbols);
                let extent = Extent { matrix, rows, columns, is_table: true };
                add(Op::TableGradient(vec![*sum]), Some(extent));
            }),
            Op::Reduce(list) => list.iter().for_each(|sum| {
                let matrix = Matrix { offset: sum.gradient, row_stride: 1, column_stride: 0 };
                let extent = Extent { matrix, rows: sum.error.len, columns: 1, is_table: false };
                add(Op::Reduce(vec![*sum]), Some(extent));
            }),
            other => add(other.clone(), None),
        }
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use rnnc_plan::{BufferId, OuterSum, Read, RowSum, StartValue, View};

    /// Sums into these places, so many numbers each.
    fn sums(places: &[(usize, usize)]) -> Vec<usize> {
        let sum = |&(gradient, len): &(usize, usize)| {
            let error = View { buffer: BufferId(0), column: 0, len };
            RowSum { error, source: None, crossing: None, scale: 1.0, gradient, accumulate: true }
        };
        let op = Op::Reduce(places.iter().map(sum).collect());
        let rounds = rounds(&Phase { ops: vec![Placed { offset: 0, op }] });
        let count = |phase: &Phase| match &phase.ops[..] {
            [Placed { op: Op::Reduce(list), .. }] => list.len(),
            other => panic!("{other:?}"),
        };
        rounds.iter().map(count).collect()
    }

    #[test]
    fn sums_that_meet_in_part_wait_for_each_other_and_others_do_not() {
        assert_eq!(sums(&[(0, 24), (24, 8), (0, 24)]), [3]);
        assert_eq!(sums(&[(0, 24), (24, 8), (8, 16), (32, 4)]), [2, 2]);
        assert_eq!(sums(&[(0, 24), (16, 8), (0, 24)]), [1, 1, 1]);
    }

    #[test]
    fn columns_of_one_matrix_go_together_and_what_lies_across_them_waits() {
        // Of a matrix of 3 rows and 8 columns from place 10 on: the first column, and how many.
        let rounds = |parts: &[(usize, usize)]| -> usize {
            let sum = |&(first, columns): &(usize, usize)| {
                let view = |len| View { buffer: BufferId(0), column: 0, len };
                let start = StartValue::Number(0.0);
                let source = Read { view: view(columns), delay: 0, start, history: true };
                let gradient = Matrix { offset: 10 + first, row_stride: 8, column_stride: 1 };
                OuterSum { error: view(3), source, gradient, accumulate: true }
            };
            let op = Op::WeightGradient(parts.iter().map(sum).collect());
            rounds(&Phase { ops: vec![Placed { offset: 0, op }] }).len()
        };
        assert_eq!(rounds(&[(0, 6)]), 1);
        // Place 10 is 2 past a multiple of 8: columns from 6 on would be taken for the first two.
        assert_eq!(rounds(&[(0, 2), (2, 4)]), 1);
        assert_eq!(rounds(&[(0, 3), (2, 4)]), 2);
    }
}

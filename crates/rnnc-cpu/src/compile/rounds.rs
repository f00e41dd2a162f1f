//! Gradients that more than one sum adds to. Each worker has a part of every sum, by the sum's own units; where two sums of
//! different extent meet in the flat gradient buffer, a number would be two workers' at once. So the second waits for the
//! first: they come into phases of their own.

use rnnc_plan::{Matrix, Op, Phase, Placed};
use std::collections::BTreeMap;
use std::ops::Range;

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

    /// If it can be some columns of a wider matrix: how wide that is, and which.
    fn columns(&self) -> Option<(usize, Range<usize>)> {
        let width = self.matrix.row_stride;
        let first = self.matrix.offset.checked_rem(width)?;
        let columns = first..first + self.columns;
        (self.matrix.column_stride == 1 && columns.end <= width).then_some((width, columns))
    }
}

/// By their first numbers, ranges that do not overlap: where each ends, and what is said of it.
type Ranges<T> = BTreeMap<usize, (usize, T)>;

/// Those that overlap one.
fn overlapping<T>(ranges: &Ranges<T>, range: Range<usize>) -> impl Iterator<Item = (usize, &T)> {
    let before = ranges.range(..range.end).rev();
    before.take_while(move |(_, (end, _))| *end > range.start).map(|(&start, (_, of))| (start, of))
}

/// Extents that overlap.
enum Heap {
    /// One, over and over.
    Same(Extent),
    /// Columns of a matrix so wide, each of one extent alone.
    Columns(usize, Ranges<Extent>),
}

impl Heap {
    fn new(extent: Extent) -> Heap {
        match extent.columns() {
            Some((width, columns)) => Heap::Columns(width, [(columns.start, (columns.end, extent))].into()),
            None => Heap::Same(extent),
        }
    }

    /// Takes in another, if all of it goes with all here.
    fn takes(&mut self, other: Heap) -> bool {
        match (self, other) {
            (Heap::Same(own), Heap::Same(other)) => *own == other,
            (Heap::Columns(width, own), Heap::Columns(others, mut other)) if *width == others => {
                // The fewer into the more.
                if own.len() < other.len() {
                    std::mem::swap(own, &mut other);
                }
                other.into_iter().all(|(start, (end, extent))| {
                    let goes = overlapping(own, start..end).all(|(_, there)| *there == extent);
                    own.insert(start, (end, extent));
                    goes
                })
            }
            _ => false,
        }
    }
}

/// Extents of which workers may add to all without a barrier between: each two are the same, or apart, or different columns of
/// one matrix. Matrices that lie within each other's gaps are not, for simplicity's sake.
#[derive(Default)]
struct Taken(Ranges<Heap>);

impl Taken {
    /// Takes one more, if it goes with all others; if not, what was taken is lost.
    fn takes(&mut self, extent: Extent) -> bool {
        let (mut start, mut end) = (extent.matrix.offset, extent.end());
        let mut all = Heap::new(extent);
        let met: Vec<usize> = overlapping(&self.0, start..end).map(|(at, _)| at).collect();
        for at in met {
            let Some((to, heap)) = self.0.remove(&at) else { continue };
            (start, end) = (start.min(at), end.max(to));
            if !all.takes(heap) {
                return false;
            }
        }
        self.0.insert(start, (end, all));
        true
    }
}

/// The phases of a phase of a frames stage: such that within each no two sums meet, but for those of one extent.
pub(super) fn rounds(phase: &Phase) -> Vec<Phase> {
    let mut rounds = vec![Phase::default()];
    let mut taken = Taken::default();
    for Placed { offset, op } in &phase.ops {
        let mut add = |op: Op, extent: Option<Extent>| {
            if let Some(extent) = extent
                && !taken.takes(extent)
            {
                rounds.push(Phase::default());
                taken = Taken::default();
                taken.takes(extent);
            }
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
        let rounds = rounds(&Phase { ops: vec![Placed { offset: 0, op }], ..Phase::default() });
        let count = |phase: &Phase| match &phase.ops[..] {
            [Placed { op: Op::Reduce(list), .. }] => list.len(),
            other => panic!("{other:?}"),
        };
        rounds.iter().map(count).collect()
    }

    #[test]
    fn sums_that_overlap_in_part_wait_for_each_other_and_others_do_not() {
        assert_eq!(sums(&[(0, 24), (24, 8), (0, 24)]), [3]);
        assert_eq!(sums(&[(0, 24), (24, 8), (8, 16), (32, 4)]), [2, 2]);
        assert_eq!(sums(&[(0, 24), (16, 8), (0, 24)]), [1, 1, 1]);
    }

    #[test]
    fn many_sums_take_a_time_that_grows_with_them_alone() {
        // Hours, if each were compared with all others.
        let apart: Vec<(usize, usize)> = (0..1_000_000).map(|n| (3 * n, 2)).collect();
        assert_eq!(sums(&apart), [1_000_000]);
        let across = [(0, 3), (2, 1)].repeat(1000);
        assert_eq!(sums(&across).len(), 2000);
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
            rounds(&Phase { ops: vec![Placed { offset: 0, op }], ..Phase::default() }).len()
        };
        assert_eq!(rounds(&[(0, 6)]), 1);
        // Place 10 is 2 past a multiple of 8: columns from 6 on would be taken for the first two.
        assert_eq!(rounds(&[(0, 2), (2, 4)]), 1);
        assert_eq!(rounds(&[(0, 3), (2, 4)]), 2);
        assert_eq!(rounds(&[(0, 2), (4, 2), (0, 2), (2, 2), (4, 2)]), 1);
        assert_eq!(rounds(&[(0, 2), (4, 2), (1, 4)]), 2);
    }
}

//! Repeated operands: which place a unit reads, said once for all executors.

use super::views::Read;

/// How values are repeated: unit u, counted from the first of those that read them, reads place (first + u) / times of the
/// view. Whoever reads repeated values asks here, and needs to know of no layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Repeat {
    /// How many units in a row read the same place.
    pub times: usize,
    /// How many of those that read the view's first place come before the first unit; less than `times`.
    pub first: usize,
}

impl Repeat {
    /// Each place so many times.
    pub fn of(times: usize) -> Repeat {
        Repeat { times, first: 0 }
    }

    /// The place that a unit reads.
    #[inline]
    pub fn place(self, unit: usize) -> usize {
        (self.first + unit) / self.times
    }

    /// How many places so many units read.
    pub fn places(self, len: usize) -> usize {
        (self.first + len).div_ceil(self.times)
    }

    /// What `len` of the units read, from unit `start` on, of whatever is read.
    pub fn part(self, read: Read, start: usize, len: usize) -> (Read, Repeat) {
        let first = self.first + start;
        let repeat = Repeat { first: first % self.times, ..self };
        (read.part(first / self.times, repeat.places(len)), repeat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{BufferId, StartValue, View};

    #[test]
    fn units_of_a_part_read_what_they_read_of_the_whole_and_its_view_is_that_alone() {
        for (times, places) in [(1, 6), (2, 3), (3, 4), (7, 1)] {
            let view = View { buffer: BufferId(0), column: 5, len: places };
            let whole = Read { view, delay: 1, start: StartValue::Weight(40), history: true };
            for start in 0..times * places {
                for len in 1..=times * places - start {
                    let (read, repeat) = Repeat::of(times).part(whole, start, len);
                    let place = |unit| read.view.column + repeat.place(unit);
                    for unit in 0..len {
                        assert_eq!(place(unit), view.column + (start + unit) / times);
                    }
                    assert_eq!(place(len - 1) + 1, read.view.column + read.view.len);
                    assert!(repeat.first < times);
                    // The start begins where the view does.
                    assert_eq!(read.start, StartValue::Weight(40 + read.view.column - view.column));
                    // A part of a part is a part.
                    let (inner, again) = repeat.part(read, len / 2, len - len / 2);
                    assert_eq!((inner, again), Repeat::of(times).part(whole, start + len / 2, len - len / 2));
                }
            }
        }
    }
}

//! Which of many ranges overlap one, found without looking at all of them.
//!
//! The ranges lie in the order of their starts, under a tree of how far those of each part of the list reach (the augmented
//! tree of Cormen, Leiserson, Rivest & Stein, "Introduction to Algorithms", section 14.3).

use crate::ir::{BufferId, View};
use std::collections::HashMap;
use std::ops::Range;

/// Ranges, and what is said of each.
#[derive(Debug)]
pub struct Overlaps<T> {
    /// By start.
    items: Vec<(Range<usize>, T)>,
    /// How far those of a node reach: the root is number 1, the halves of a node are twice its number and the next, and
    /// the leaves are the items. A power of two of leaves.
    reach: Vec<usize>,
}

impl<T> Overlaps<T> {
    /// Of these.
    pub fn new(mut items: Vec<(Range<usize>, T)>) -> Overlaps<T> {
        items.sort_by_key(|(range, _)| range.start);
        let leaves = items.len().next_power_of_two();
        let mut reach = vec![0; 2 * leaves];
        for (leaf, (range, _)) in reach[leaves..].iter_mut().zip(&items) {
            *leaf = range.end;
        }
        for node in (1..leaves).rev() {
            reach[node] = reach[2 * node].max(reach[2 * node + 1]);
        }
        Overlaps { items, reach }
    }

    /// Those that begin before the end of a range and end after its start, by start.
    pub fn with(&self, range: Range<usize>) -> impl Iterator<Item = &T> {
        let leaves = self.reach.len() / 2;
        // Only the first so many begin before its end.
        let before = self.items.partition_point(|(item, _)| item.start < range.end);
        // Nodes with their height.
        let mut open = vec![(1, leaves.ilog2())];
        std::iter::from_fn(move || {
            loop {
                let (node, height) = open.pop()?;
                let first = (node << height) - leaves;
                if first >= before || self.reach[node] <= range.start {
                    continue;
                }
                match height {
                    0 => return Some(&self.items[first].1),
                    _ => open.extend([(2 * node + 1, height - 1), (2 * node, height - 1)]),
                }
            }
        })
    }
}

/// Which views of each buffer something is known of.
#[derive(Debug)]
pub struct Views<T>(HashMap<BufferId, Overlaps<T>>);

impl<T> Views<T> {
    /// Of these.
    pub fn new(views: impl IntoIterator<Item = (View, T)>) -> Views<T> {
        let mut of_buffer: HashMap<BufferId, Vec<(Range<usize>, T)>> = HashMap::new();
        for (view, what) in views {
            of_buffer.entry(view.buffer).or_default().push((columns(view), what));
        }
        Views(of_buffer.into_iter().map(|(buffer, views)| (buffer, Overlaps::new(views))).collect())
    }

    /// What is known of those that overlap one.
    pub fn with(&self, view: View) -> impl Iterator<Item = &T> {
        self.0.get(&view.buffer).into_iter().flat_map(move |views| views.with(columns(view)))
    }
}

fn columns(view: View) -> Range<usize> {
    view.column..view.column + view.len
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_those_that_looking_at_all_finds(
            ranges in proptest::collection::vec((0usize..30, 0usize..12), 0..40),
            (start, len) in (0usize..30, 0usize..12),
        ) {
            let items: Vec<_> = ranges.iter().map(|&(a, n)| a..a + n).zip(0..).collect();
            let mut expected: Vec<usize> =
                items.iter().filter(|(r, _)| r.start < start + len && start < r.end).map(|i| i.1).collect();
            let mut found: Vec<usize> = Overlaps::new(items).with(start..start + len).copied().collect();
            expected.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}

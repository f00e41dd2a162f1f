//! First fit: the lowest place that is free during some levels, found without looking at all that was placed before.
//!
//! A segment tree over levels (Bentley 1977). Whatever is taken during a level of a node's is in one of two of its unions of
//! places: what is taken during all of them, and what during any. A search looks at those of as many nodes as the
//! tree is high; since neighbours in a union are one, there are few in each.

use std::collections::BTreeMap;

/// Which places are taken, and when.
pub(crate) struct FirstFit {
    /// How many levels there are, a power of two.
    levels: usize,
    /// The root is number 1, and the halves of a node are twice its number and the next.
    nodes: Vec<Node>,
}

#[derive(Clone, Default)]
struct Node {
    during_all: Union,
    during_any: Union,
}

impl FirstFit {
    /// Nothing is taken, in so many levels.
    pub fn new(levels: usize) -> FirstFit {
        let levels = levels.max(1).next_power_of_two();
        FirstFit { levels, nodes: vec![Node::default(); 2 * levels] }
    }

    /// Takes the lowest place of so many numbers that is free from the first level to the last.
    pub fn take(&mut self, size: u128, (first, last): (usize, usize)) -> u128 {
        if size == 0 {
            return 0;
        }
        let last = last.min(self.levels - 1);
        let mut taken: Vec<&Union> = Vec::new();
        self.visit((first, last), |node, whole| {
            taken.push(if whole { &self.nodes[node].during_any } else { &self.nodes[node].during_all });
        });
        taken.retain(|union| !union.0.is_empty());
        let mut at = 0;
        loop {
            let before = at;
            at = taken.iter().fold(at, |at, union| union.free_from(at, size));
            if at == before {
                break;
            }
        }
        let mut visited = Vec::new();
        self.visit((first, last), |node, whole| visited.push((node, whole)));
        for (node, whole) in visited {
            self.nodes[node].during_any.add(at, at + size);
            if whole {
                self.nodes[node].during_all.add(at, at + size);
            }
        }
        at
    }

    /// Calls `each` with the largest nodes that have only levels from the first to the last, and with all above them, and
    /// whether it is one of the former.
    fn visit(&self, (first, last): (usize, usize), mut each: impl FnMut(usize, bool)) {
        let mut open = vec![(1, 0, self.levels - 1)];
        while let Some((node, from, to)) = open.pop() {
            let whole = first <= from && to <= last;
            each(node, whole);
            if !whole {
                let middle = from.midpoint(to);
                if first <= middle {
                    open.push((2 * node, from, middle));
                }
                if last > middle {
                    open.push((2 * node + 1, middle + 1, to));
                }
            }
        }
    }
}

/// Places that neither overlap nor touch: the end of each by its first.
#[derive(Clone, Default)]
struct Union(BTreeMap<u128, u128>);

impl Union {
    /// The lowest place from `at` on where so many numbers are free.
    fn free_from(&self, mut at: u128, size: u128) -> u128 {
        // Of those that begin before its end, the last is the one that ends last.
        while let Some((_, &end)) = self.0.range(..at + size).next_back().filter(|(_, end)| **end > at) {
            at = end;
        }
        at
    }

    fn add(&mut self, mut first: u128, mut end: u128) {
        while let Some((&other, &its_end)) = self.0.range(..=end).next_back().filter(|(_, e)| **e >= first) {
            self.0.remove(&other);
            (first, end) = (first.min(other), end.max(its_end));
        }
        self.0.insert(first, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_place_that_looking_at_all_others_finds(
            items in proptest::collection::vec((0u128..5, 0usize..20, 0usize..8), 0..60),
        ) {
            let mut fit = FirstFit::new(20);
            let mut taken: Vec<(u128, u128, usize, usize)> = Vec::new();
            for (size, first, more) in items {
                let last = if more == 7 { usize::MAX } else { (first + more).min(19) };
                let at = fit.take(size, (first, last));
                let free = |at: u128| {
                    taken.iter().all(|&(place, len, a, b)| {
                        a > last || first > b || place + len <= at || at + size <= place
                    })
                };
                prop_assert_eq!(at, (0..).find(|&at| size == 0 || free(at)).unwrap());
                taken.push((at, size, first, last));
            }
        }
    }
}

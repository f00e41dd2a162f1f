//! Groups of streams: streams exchange nothing with each other, so a loop's blocks can be several sets, each with some streams and
//! a copy of the weights of its own. Blocks of different groups never wait for each other.
//!
//! All of a group's layout is that of a loop with so many streams. What it has of its own is where its streams begin, its
//! counters, and its part of the scratch region. More groups than run side by side take turns: in a cluster or a block as
//! the device launches them, on the grid each set of blocks does one group's window after the other's.

use serde::Serialize;

/// How a loop's streams are dealt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Groups {
    /// Of all groups.
    pub all: usize,
    /// Streams of a group: the last may have fewer.
    pub streams: usize,
    /// How many groups are launched; each set of blocks goes on with every so manieth.
    pub launched: usize,
}

impl Groups {
    /// All streams in one.
    pub fn one(all: usize) -> Groups {
        Groups { all, streams: all, launched: 1 }
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.all.div_ceil(self.streams.max(1)).max(1)
    }

    /// Groups that a set of blocks does one after the other, at most.
    pub fn turns(self) -> usize {
        self.count().div_ceil(self.launched.max(1))
    }

    /// Whether there are several.
    pub fn several(self) -> bool {
        self.count() > 1
    }

    /// The type of what generated functions are told.
    pub(super) fn args(self) -> &'static str {
        if self.several() { "GroupArgs" } else { "Args" }
    }

    /// The expression of the row of `frame` in which a stream of the group is.
    pub(super) fn row(self, stream: &str) -> String {
        let own = if self.several() { "a.stream + " } else { "" };
        format!("(u32)frame * {}u + {own}{stream}", self.all)
    }

    /// The expression of `stream` counted among all.
    pub(super) fn stream(self) -> &'static str {
        if self.several() { "(a.stream + stream)" } else { "stream" }
    }

    /// Whether all have as many streams.
    pub fn are_equal(self) -> bool {
        self.all.is_multiple_of(self.streams.max(1))
    }

    /// The expression of a group's own streams.
    pub(super) fn own(self) -> String {
        if self.are_equal() { format!("{}u", self.streams) } else { "a.streams".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::Groups;

    #[test]
    fn all_streams_are_in_some_group_and_all_groups_have_their_turn() {
        for all in 1..70usize {
            for streams in 1..=all {
                for launched in 1..=all.div_ceil(streams) {
                    let groups = Groups { all, streams, launched };
                    let (count, turns) = (groups.count(), groups.turns());
                    assert!((count - 1) * streams < all && all <= count * streams);
                    assert!((turns - 1) * launched < count && count <= turns * launched);
                    assert_eq!(groups.are_equal(), count * streams == all);
                }
            }
        }
    }
}

//! Debug builds: which share touched each number since the workers synchronized last.
//!
//! Workers write one memory through raw pointers, and the plan promises that what one share writes, no other touches before
//! the workers have met (`memory.rs`). Debug builds hold every access against that promise: operations say what they read
//! and write where they make slices or call kernels (`Shared::reads` and `Shared::writes` of `memory.rs`), and an access that another share's
//! access is not kept apart from is an internal error, which stops the run. Shares count, not threads: a run on one thread, or
//! whose threads happened to come in order, is checked as one on many.
//!
//! Two accesses are kept apart by a barrier of the whole team between them, or by one of their part of it. So a number's record
//! is who wrote it last and who has read it, in the time since the whole team synchronized.
//!
//! Release builds have none of this.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// More numbers, or more workers, are not watched: a record takes ten times the room of its number.
const MOST: usize = 1 << 21;
const MOST_WORKERS: usize = 64;

/// Where a thread is in a run.
#[derive(Clone, Copy)]
struct Now {
    /// Which run of the executor; in its low half, how often the whole team has met.
    time: u64,
    /// How often the part has met since.
    met: u32,
    share: u8,
    /// The shares of its part of the team: a bit each.
    part: u64,
}

thread_local! {
    static NOW: Cell<Now> = const { Cell::new(Now { time: 0, met: 0, share: 0, part: u64::MAX }) };
}

fn change(to: impl FnOnce(&mut Now)) {
    if cfg!(debug_assertions) {
        let mut now = NOW.get();
        to(&mut now);
        NOW.set(now);
    }
}

/// The thread has come to a barrier, of the whole team or of its part.
pub(crate) fn met(whole: bool) {
    change(|now| match whole {
        true => *now = Now { time: now.time + 1, met: 0, part: u64::MAX, ..*now },
        false => now.met += 1,
    });
}

/// The thread is one of these workers, until the whole team synchronizes.
pub(crate) fn joined(part: &Range<usize>) {
    change(|now| now.part = part.clone().fold(0, |bits, share| bits | bit(share as u8)));
}

/// What follows on this thread is of a share.
pub(crate) fn takes(share: usize) {
    change(|now| now.share = share as u8);
}

fn bit(share: u8) -> u64 {
    1 << (share & 63)
}

/// Who has touched a number.
#[derive(Clone, Copy, Default)]
struct Record {
    /// When; what was before does not count.
    time: u64,
    /// The share that wrote it last, and how often its part had met.
    written: Option<(u8, u32)>,
    /// All shares that have read it.
    readers: u64,
    /// Those of them that did when their part had met so often.
    late: (u32, u64),
}

impl Record {
    /// Takes note of an access; returns a share whose access it is not kept apart from.
    fn touch(&mut self, now: &Now, writes: bool) -> Option<u32> {
        if self.time != now.time {
            *self = Record { time: now.time, ..Record::default() };
        }
        let own = bit(now.share);
        let writer = self
            .written
            .filter(|&(share, met)| share != now.share && (now.part & bit(share) == 0 || met == now.met));
        let others = self.readers & !own;
        let late = if self.late.0 == now.met { self.late.1 & !own } else { 0 };
        let readers = if writes { others & !now.part | late & now.part } else { 0 };
        if writes {
            self.written = Some((now.share, now.met));
        } else {
            self.readers |= own;
            self.late = (now.met, own | if self.late.0 == now.met { self.late.1 } else { 0 });
        }
        writer.map(|(share, _)| u32::from(share)).or((readers != 0).then(|| readers.trailing_zeros()))
    }
}

/// Numbers that shares write, each with its record.
#[derive(Default)]
pub(crate) struct Owners {
    records: Mutex<Vec<Record>>,
    runs: AtomicU64,
}

impl Owners {
    /// For so many numbers and workers; `None` where nothing is watched.
    pub fn new(numbers: usize, workers: usize) -> Option<Owners> {
        let watched = cfg!(debug_assertions) && numbers <= MOST && (2..=MOST_WORKERS).contains(&workers);
        watched.then(|| Owners { records: Mutex::new(vec![Record::default(); numbers]), ..Owners::default() })
    }

    /// This thread's share touches so many numbers from a place on, which are `first`, .. of what they are called in messages.
    #[track_caller]
    pub fn touches(&self, place: usize, len: usize, (what, first): (&str, usize), writes: bool) {
        let now = NOW.get();
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, record) in records[place..][..len].iter_mut().enumerate() {
            if let Some(other) = record.touch(&now, writes) {
                let does = if writes { "writes" } else { "reads" };
                panic!(
                    "share {} {does} {what} {}, which share {other} touches too, with no barrier between",
                    now.share,
                    first + number
                );
            }
        }
    }

    /// A run begins.
    pub fn next_run(&self) -> u64 {
        (self.runs.fetch_add(1, Ordering::Relaxed) + 1) << 32
    }
}

/// This thread comes to a run.
pub(crate) fn enters(run: u64) {
    change(|now| *now = Now { time: run, met: 0, share: 0, part: u64::MAX });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that shares of a team of four touch, in parts 0..2 and 2..4: (share, barriers of all, of its part, writes).
    fn clash(accesses: &[(u8, u64, u32, bool)]) -> Option<u32> {
        let mut record = Record::default();
        let mut clash = None;
        for &(share, time, met, writes) in accesses {
            let part = if share < 2 { 0b11 } else { 0b1100 };
            clash = clash.or(record.touch(&Now { time, met, share, part }, writes));
        }
        clash
    }

    #[test]
    fn a_number_that_one_share_writes_is_no_others_until_a_barrier() {
        // Whoever is first.
        assert_eq!(clash(&[(0, 1, 0, true), (1, 1, 0, true)]), Some(0));
        assert_eq!(clash(&[(0, 1, 0, true), (1, 1, 0, false)]), Some(0));
        assert_eq!(clash(&[(0, 1, 0, false), (1, 1, 0, true)]), Some(0));
        assert_eq!(clash(&[(0, 1, 0, false), (1, 1, 0, false), (2, 1, 0, false)]), None);
        assert_eq!(clash(&[(0, 1, 0, true), (0, 1, 0, false), (0, 1, 0, true)]), None);
        assert_eq!(clash(&[(0, 1, 0, true), (1, 2, 0, false), (1, 2, 0, true)]), None);
    }

    #[test]
    fn a_barrier_of_a_part_is_none_for_the_others() {
        assert_eq!(clash(&[(0, 1, 0, true), (1, 1, 1, false), (1, 1, 1, true)]), None);
        assert_eq!(clash(&[(0, 1, 0, true), (2, 1, 1, false)]), Some(0));
        assert_eq!(clash(&[(0, 1, 0, false), (2, 1, 1, true)]), Some(0));
        // One that read before its part met, and one that reads now.
        assert_eq!(clash(&[(0, 1, 0, false), (1, 1, 1, false), (1, 1, 1, true)]), None);
        assert_eq!(clash(&[(1, 1, 0, false), (0, 1, 1, false), (1, 1, 1, true)]), Some(0));
        // Those of another part have read since.
        assert_eq!(clash(&[(0, 1, 1, false), (3, 1, 7, false), (1, 1, 1, true)]), Some(3));
    }
}

//! Which stream runs which sequences of data that is read once: each whole, from its start to its end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

/// Streams of this many rows together are enough to keep a machine busy.
const ROWS: usize = 512;

/// For a network that looks ahead, whose windows are as long as the longest sequence, no more rows than these side by
/// side, for memory's sake.
const MOST_ROWS: usize = 1 << 16;

/// Sequences on streams, in calls of some frames each. Where a stream has nothing to read, it reads no frame.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packing {
    /// What each stream reads, from which position on, in order.
    streams: Vec<BTreeMap<usize, Range<usize>>>,
    /// The frames of each call.
    calls: Vec<usize>,
}

impl Packing {
    /// Lays sequences on at most `most` streams, to be run in windows of `window` frames or somewhat more. State goes from
    /// window to window; but a network that looks ahead has to have all of a sequence in one.
    pub fn new(sequences: &[Range<usize>], most: usize, window: usize, looks_ahead: bool) -> Packing {
        // The longest first, each to where there is least: no stream is then much longer than it must be.
        let mut order: Vec<&Range<usize>> = sequences.iter().filter(|s| !s.is_empty()).collect();
        order.sort_by_key(|s| (Reverse(s.len()), s.start));
        let longest = order.first().map_or(1, |s| s.len());
        let total: usize = order.iter().map(|s| s.len()).sum();
        // No more than have something to do while the longest sequence runs.
        let most = most.min(total.div_ceil(longest)).max(1);
        if looks_ahead {
            Packing::at_once(&order, most.min(MOST_ROWS / longest))
        } else {
            Packing::in_windows(&order, most, window)
        }
    }

    /// All streams run in windows, and each begins a sequence when it has ended one.
    fn in_windows(order: &[&Range<usize>], streams: usize, window: usize) -> Packing {
        let mut lanes = vec![BTreeMap::new(); streams];
        // Where each ends; the one that ends first is on top, of several the first.
        let mut ends: BinaryHeap<_> = (0..streams).map(|lane| Reverse((0, lane))).collect();
        let mut frames = 0;
        for &sequence in order {
            let Some(Reverse((end, lane))) = ends.pop() else { break };
            lanes[lane].insert(end, sequence.clone());
            ends.push(Reverse((end + sequence.len(), lane)));
            frames = frames.max(end + sequence.len());
        }
        let window = window.max(ROWS / streams).clamp(1, frames.max(1));
        let calls = (0..frames).step_by(window).map(|at| window.min(frames - at)).collect();
        Packing { streams: lanes, calls }
    }

    /// Each call runs one sequence of each stream, from its start to its end.
    fn at_once(order: &[&Range<usize>], streams: usize) -> Packing {
        let streams = streams.max(1);
        let mut packing = Packing { streams: vec![BTreeMap::new(); streams], calls: Vec::new() };
        let mut position = 0;
        for side_by_side in order.chunks(streams) {
            for (lane, &sequence) in packing.streams.iter_mut().zip(side_by_side) {
                lane.insert(position, sequence.clone());
            }
            let frames = side_by_side.iter().map(|s| s.len()).max().unwrap_or(0);
            packing.calls.push(frames);
            position += frames;
        }
        packing
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// The frames of each call.
    pub fn calls(&self) -> &[usize] {
        &self.calls
    }

    /// The frame that a stream reads at a position, if any.
    pub fn frame(&self, stream: usize, position: usize) -> Option<usize> {
        let (begin, sequence) = self.streams[stream].range(..=position).next_back()?;
        let frame = sequence.start + (position - begin);
        sequence.contains(&frame).then_some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every stream reads, call by call; `.` is nothing.
    fn read(lengths: &[usize], streams: usize, window: usize, looks_ahead: bool) -> Vec<Vec<String>> {
        let letters = "abcdefghijklmnopqrstuvwxyz".as_bytes();
        let (mut sequences, mut at) = (Vec::new(), 0);
        for &length in lengths {
            sequences.push(at..at + length);
            at += length;
        }
        let packing = Packing::new(&sequences, streams, window, looks_ahead);
        let (mut position, mut calls) = (0, Vec::new());
        for &frames in packing.calls() {
            let letter = |stream, t| packing.frame(stream, t).map_or('.', |frame| char::from(letters[frame]));
            let stream = |stream| (position..position + frames).map(|t| letter(stream, t)).collect();
            calls.push((0..packing.streams()).map(stream).collect());
            position += frames;
        }
        calls
    }

    #[test]
    fn each_frame_is_read_once_and_in_the_order_of_its_sequence() {
        assert_eq!(read(&[2, 5, 1, 3], 2, 1000, false), [["cdefgh", "ijkab."]]);
        assert_eq!(read(&[2, 5, 3], 2, 1000, true), [vec!["cdefg", "hij.."], vec!["ab", ".."]]);
        for looks_ahead in [false, true] {
            for streams in 1..8 {
                let calls = read(&[3, 1, 0, 7, 2, 2, 11], streams, 4, looks_ahead);
                let mut frames: Vec<char> = calls.concat().concat().chars().filter(|&c| c != '.').collect();
                frames.sort_unstable();
                assert_eq!(frames.iter().collect::<String>(), "abcdefghijklmnopqrstuvwxyz");
            }
        }
    }

    #[test]
    fn one_sequence_runs_on_one_stream_in_windows() {
        let packing = Packing::new(&[0..1300, 1300..1300], 16, 64, false);
        assert_eq!((packing.streams(), packing.calls()), (1, &[512, 512, 276][..]));
        assert_eq!(packing.frame(0, 1299), Some(1299));
        assert_eq!(packing.frame(0, 1300), None);
        let packing = Packing::new(&[0..1300, 1300..1300], 16, 64, true);
        assert_eq!((packing.streams(), packing.calls()), (1, &[1300][..]));
    }

    #[test]
    fn no_stream_runs_empty_beside_a_sequence_that_is_longer_than_all_others() {
        let packing = Packing::new(&[0..1000, 1000..1100, 1100..1200], 16, 64, false);
        assert_eq!(packing.streams(), 2);
        assert_eq!(packing.calls().iter().sum::<usize>(), 1000);
    }

    #[test]
    fn nothing_makes_no_calls() {
        assert_eq!(Packing::new(&[], 3, 5, false).calls(), [0; 0]);
        assert_eq!(Packing::new(&[0..0, 0..0], 3, 5, true).calls(), [0; 0]);
    }
}

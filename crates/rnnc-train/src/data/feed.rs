//! Which frame each stream reads when: along the line of all sequences, or whole sequences in an order that chance gives anew each
//! time through.

use crate::data::sequences::Sequences;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;

/// What streams read.
pub(crate) enum Feed {
    /// Stream b of B begins b/B of the way along the line, and goes round.
    Line,
    /// Each stream that has ended a sequence begins the next one that no other has.
    Shuffled(Shuffled),
}

/// Sequences in a new order each time through.
pub(crate) struct Shuffled {
    sequences: Vec<Range<usize>>,
    seed: u64,
    /// How often all were dealt out.
    rounds: u64,
    /// Those that are left of this time, the next one last.
    left: Vec<Range<usize>>,
    /// Where each stream's last sequence ends; the one that ends first is on top, of several the first.
    ends: BinaryHeap<Reverse<(u64, usize)>>,
    /// What each stream reads, with the position of its first frame.
    streams: Vec<VecDeque<(u64, Range<usize>)>>,
    /// All before is forgotten.
    from: u64,
}

impl Feed {
    /// For so many streams; `seed`, if the order is to be another each time.
    pub(crate) fn new(data: &Sequences, streams: usize, seed: Option<u64>) -> Feed {
        match seed {
            Some(seed) => Feed::Shuffled(Shuffled::new(data.ranges(), streams, seed)),
            None => Feed::Line,
        }
    }

    /// Makes ready for `frames` frames from a position on. To go back takes the time of all from the beginning.
    pub(crate) fn prepare(&mut self, position: u64, frames: usize) {
        if let Feed::Shuffled(shuffled) = self {
            if position < shuffled.from {
                *shuffled = Shuffled::new(
                    std::mem::take(&mut shuffled.sequences),
                    shuffled.streams.len(),
                    shuffled.seed,
                );
            }
            shuffled.advance(position, position.saturating_add(frames as u64));
        }
    }

    /// The frame that a stream reads at a position for which it was made ready.
    pub(crate) fn frame(
        &self,
        data: &Sequences,
        stream: usize,
        streams: usize,
        position: u64,
    ) -> Option<usize> {
        match self {
            Feed::Line => Some(data.frame(stream, streams, position)),
            Feed::Shuffled(shuffled) => shuffled.frame(stream, position),
        }
    }
}

impl Shuffled {
    fn new(sequences: Vec<Range<usize>>, streams: usize, seed: u64) -> Shuffled {
        Shuffled {
            sequences,
            seed,
            rounds: 0,
            left: Vec::new(),
            ends: (0..streams).map(|stream| Reverse((0, stream))).collect(),
            streams: vec![VecDeque::new(); streams],
            from: 0,
        }
    }

    /// The next sequence. There is one: data without frames is not trained on.
    fn deal(&mut self) -> Range<usize> {
        if self.left.is_empty() {
            self.left.clone_from(&self.sequences);
            let seed = self.seed ^ self.rounds.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.left.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            self.rounds += 1;
        }
        self.left.pop().unwrap_or(0..1)
    }

    fn advance(&mut self, from: u64, to: u64) {
        while let Some(&Reverse((end, stream))) = self.ends.peek()
            && end < to
        {
            let sequence = self.deal();
            let next = end + sequence.len().max(1) as u64;
            self.ends.pop();
            self.ends.push(Reverse((next, stream)));
            // What ends before is not read any more.
            if next > from {
                self.streams[stream].push_back((end, sequence));
            }
        }
        for stream in &mut self.streams {
            while stream.front().is_some_and(|(begin, sequence)| begin + sequence.len() as u64 <= from) {
                stream.pop_front();
            }
        }
        self.from = from;
    }

    fn frame(&self, stream: usize, position: u64) -> Option<usize> {
        let ahead = &self.streams[stream];
        let place = ahead.partition_point(|(begin, _)| *begin <= position).checked_sub(1)?;
        let (begin, sequence) = &ahead[place];
        let frame = sequence.start + (position - begin) as usize;
        sequence.contains(&frame).then_some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(lengths: &[usize]) -> Sequences {
        let starts = lengths.iter().scan(0, |at, n| Some(std::mem::replace(at, *at + n))).collect();
        Sequences { starts, frames: lengths.iter().sum(), ..Sequences::default() }
    }

    /// What each stream reads, in windows of these lengths from a position on.
    fn read(
        feed: &mut Feed,
        data: &Sequences,
        streams: usize,
        mut position: u64,
        windows: &[usize],
    ) -> Vec<Vec<usize>> {
        let mut all = vec![Vec::new(); streams];
        for &window in windows {
            feed.prepare(position, window);
            for (stream, all) in all.iter_mut().enumerate() {
                all.extend(
                    (0..window).map(|t| feed.frame(data, stream, streams, position + t as u64).unwrap()),
                );
            }
            position += window as u64;
        }
        all
    }

    #[test]
    fn every_sequence_is_read_whole_and_once_each_time_through() {
        let data = data(&[3, 1, 5, 2, 4]);
        let mut feed = Feed::new(&data, 1, Some(7));
        let times = read(&mut feed, &data, 1, 0, &[15, 15, 15]).remove(0);
        let mut orders = Vec::new();
        for time in times.chunks(15) {
            let mut sorted = time.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..15).collect::<Vec<_>>());
            for pair in time.windows(2) {
                assert!(pair[1] == pair[0] + 1 || data.begins(pair[1]), "a sequence is cut: {time:?}");
            }
            orders.push(time.to_vec());
        }
        assert!(orders[0] != orders[1] || orders[1] != orders[2], "always in one order");
    }

    #[test]
    fn streams_share_sequences_out_and_no_stream_waits() {
        let data = data(&[3, 1, 5, 2, 4, 6]);
        let mut feed = Feed::new(&data, 3, Some(1));
        let streams = read(&mut feed, &data, 3, 0, &[4, 9, 1, 400]);
        let mut counts = vec![0usize; data.frames];
        streams.concat().iter().for_each(|&frame| counts[frame] += 1);
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 2, "{counts:?}");
    }

    #[test]
    fn windows_of_any_length_and_from_any_position_read_the_same() {
        let data = data(&[3, 1, 5, 2, 4, 6, 1, 1]);
        let new = || Feed::new(&data, 3, Some(3));
        let all = read(&mut new(), &data, 3, 0, &[90]);
        assert_eq!(read(&mut new(), &data, 3, 0, &[1, 20, 7, 62]), all);
        let behind: Vec<Vec<usize>> = all.iter().map(|stream| stream[41..].to_vec()).collect();
        assert_eq!(read(&mut new(), &data, 3, 41, &[10, 39]), behind);
        let mut back = new();
        read(&mut back, &data, 3, 70, &[10]);
        assert_eq!(read(&mut back, &data, 3, 41, &[49]), behind);
    }
}

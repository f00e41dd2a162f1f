//! A window of data: what B streams read of a line of sequences, in the form that executors take.

use crate::data::feed::Feed;
use crate::data::sequences::{Column, Sequences};
use rnnc_plan::{NO_SYMBOL, Values};

/// A window of data in the form that executors take: `[frames, streams, ...]`.
#[derive(Clone, Debug)]
pub struct Batch {
    frames: usize,
    /// What was read: so many frames lie before it.
    position: Option<u64>,
    streams: usize,
    columns: Vec<BatchColumn>,
    /// `[frames, streams]`
    resets: Vec<bool>,
    /// `[frames, streams]`: whose loss counts.
    loss_mask: Vec<bool>,
}

#[derive(Clone, Debug)]
enum BatchColumn {
    Numbers { size: usize, values: Vec<f32> },
    Symbols(Vec<u32>),
}

impl Batch {
    /// Room for a window of at most `frames` frames of `streams` streams.
    pub fn new(data: &Sequences, streams: usize, frames: usize) -> Batch {
        let n = frames * streams;
        let column = |column: &Column| match column {
            Column::Numbers { size, .. } => BatchColumn::Numbers { size: *size, values: vec![0.0; n * size] },
            _ => BatchColumn::Symbols(vec![NO_SYMBOL; n]),
        };
        Batch {
            frames,
            position: None,
            streams,
            columns: data.columns.iter().map(column).collect(),
            resets: vec![false; n],
            loss_mask: vec![true; n],
        }
    }

    /// Reads the `frames` frames that follow after `position` frames. `data` has frames, and the columns that
    /// the batch was made for; `frames` is at most what it has room for.
    pub fn fill(&mut self, data: &Sequences, position: u64, frames: usize) {
        self.fill_from(data, &mut Feed::Line, position, frames);
    }

    /// Reads the frames that streams are fed after `position` frames.
    pub(crate) fn fill_from(&mut self, data: &Sequences, feed: &mut Feed, position: u64, frames: usize) {
        self.position = Some(position);
        let streams = self.streams;
        feed.prepare(position, frames);
        self.fill_by(data, frames, |stream, t| feed.frame(data, stream, streams, position + t as u64));
    }

    /// Reads `frames` frames: which, `frame` says of each stream and number. Where there is none, a sequence of one
    /// frame of zeros stands that does not count.
    pub(crate) fn fill_by(
        &mut self,
        data: &Sequences,
        frames: usize,
        frame: impl Fn(usize, usize) -> Option<usize>,
    ) {
        self.frames = frames;
        for t in 0..frames {
            for stream in 0..self.streams {
                let to = t * self.streams + stream;
                match frame(stream, t) {
                    Some(frame) => self.copy(data, frame, to),
                    None => self.clear(to),
                }
            }
        }
    }

    fn clear(&mut self, to: usize) {
        self.resets[to] = true;
        self.loss_mask[to] = false;
        for column in &mut self.columns {
            match column {
                BatchColumn::Numbers { size, values } => values[to * *size..][..*size].fill(0.0),
                BatchColumn::Symbols(values) => values[to] = NO_SYMBOL,
            }
        }
        self.drop_target(to);
    }

    /// Whose loss does not count has no target: then the output, whatever it is, gives neither a loss nor an error. A number
    /// times 0 would be none if it is not finite.
    fn drop_target(&mut self, to: usize) {
        match self.columns.last_mut() {
            Some(BatchColumn::Symbols(target)) => target[to] = NO_SYMBOL,
            Some(BatchColumn::Numbers { size, values }) => values[to * *size..][..*size].fill(f32::NAN),
            None => {}
        }
    }

    fn copy(&mut self, data: &Sequences, frame: usize, to: usize) {
        self.resets[to] = data.begins(frame);
        self.loss_mask[to] = data.loss_mask.as_ref().is_none_or(|c| c[frame]);
        for (column, source) in self.columns.iter_mut().zip(&data.columns) {
            match (column, source) {
                (BatchColumn::Numbers { size, values }, Column::Numbers { values: from, .. }) => {
                    values[to * *size..][..*size].copy_from_slice(&from[frame * *size..][..*size]);
                }
                (BatchColumn::Symbols(values), Column::Symbols(from)) => values[to] = from[frame],
                (BatchColumn::Symbols(values), Column::Bytes(from)) => values[to] = u32::from(from[frame]),
                (BatchColumn::Symbols(values), Column::NextByte { .. }) => {
                    let next = frame + 1;
                    values[to] = match data.bytes(source) {
                        Some(from) if next < data.frames && !data.begins(next) => u32::from(from[next]),
                        _ => NO_SYMBOL,
                    };
                }
                // `Batch::new` made the columns after the data's.
                _ => {}
            }
        }
        // A frame without a target has no loss to count.
        if let Some(BatchColumn::Symbols(target)) = self.columns.last() {
            self.loss_mask[to] &= target[to] != NO_SYMBOL;
        }
        if !self.loss_mask[to] {
            self.drop_target(to);
        }
    }

    /// Whether the last [`fill`](Batch::fill) was of that position and so many frames.
    pub fn holds(&self, position: u64, frames: usize) -> bool {
        (self.position, self.frames) == (Some(position), frames)
    }

    /// How many frames were last read.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The inputs, the target last.
    pub fn inputs(&self) -> Vec<Values<'_>> {
        let n = self.frames * self.streams;
        let column = |column| match column {
            &BatchColumn::Numbers { size, ref values } => Values::F32(&values[..n * size]),
            BatchColumn::Symbols(values) => Values::Symbols(&values[..n]),
        };
        self.columns.iter().map(column).collect()
    }

    /// `[frames, streams]`: which frames begin a sequence.
    pub fn resets(&self) -> &[bool] {
        &self.resets[..self.frames * self.streams]
    }

    /// `[frames, streams]`: whose loss counts.
    pub fn loss_mask(&self) -> &[bool] {
        &self.loss_mask[..self.frames * self.streams]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::sequences::tests::text;

    fn symbols(batch: &Batch, column: usize) -> String {
        let Values::Symbols(values) = batch.inputs()[column] else { panic!("not symbols") };
        values.iter().map(|&s| if s == NO_SYMBOL { '.' } else { s as u8 as char }).collect()
    }

    #[test]
    fn streams_begin_apart_and_go_round_with_resets_where_sequences_begin() {
        let data = text();
        let mut batch = Batch::new(&data, 2, 5);
        assert!(!batch.holds(0, 5), "nothing was read");
        batch.fill(&data, 0, 5);
        assert!(batch.holds(0, 5) && !batch.holds(5, 5) && !batch.holds(0, 4));
        // Stream 0 from the first frame, stream 1 from frame 3; interleaved.
        assert_eq!(symbols(&batch, 0), "adbecfdgea");
        assert_eq!(symbols(&batch, 1), "b.cfdg..fb");
        let resets: Vec<usize> = (0..10).filter(|&i| batch.resets()[i]).collect();
        assert_eq!(resets, [0, 3, 8, 9]);
        let uncounted: Vec<usize> = (0..10).filter(|&i| !batch.loss_mask()[i]).collect();
        assert_eq!(uncounted, [1, 6, 7]);
    }

    #[test]
    fn windows_of_any_length_read_the_same_line() {
        let data = text();
        let read = |steps: &[usize]| {
            let mut batch = Batch::new(&data, 3, 9);
            let (mut position, mut all) = (u64::MAX / 2, String::new());
            for &step in steps {
                batch.fill(&data, position, step);
                all += &symbols(&batch, 0);
                position += step as u64;
            }
            all
        };
        assert_eq!(read(&[9, 9]), read(&[1, 5, 3, 2, 7]));
    }

    #[test]
    fn no_target_reaches_into_the_next_part() {
        let split = Sequences { starts: vec![0], ..text() }.split(0.0, 0.3);
        let mut batch = Batch::new(&split.train, 1, 5);
        batch.fill(&split.train, 0, 5);
        assert_eq!((symbols(&batch, 0), symbols(&batch, 1)), ("abcde".into(), "bcde.".into()));
        batch.fill(&split.test, 0, 2);
        assert_eq!((symbols(&batch, 0), symbols(&batch, 1)), ("fg".into(), "g.".into()));
        assert!(batch.resets()[0]);
    }

    #[test]
    fn vectors_and_masks_follow_their_frames() {
        let data = Sequences {
            columns: vec![
                Column::Numbers { size: 2, values: (0..8).map(|i| i as f32).collect() },
                Column::Numbers { size: 1, values: vec![10.0, 11.0, 12.0, 13.0] },
            ],
            starts: vec![0, 2],
            loss_mask: Some(vec![false, true, false, true]),
            frames: 4,
        };
        let mut batch = Batch::new(&data, 2, 2);
        batch.fill(&data, 1, 2);
        let Values::F32(x) = batch.inputs()[0] else { panic!("not numbers") };
        assert_eq!(x, [2.0, 3.0, 6.0, 7.0, 4.0, 5.0, 0.0, 1.0]);
        assert_eq!(batch.loss_mask(), [true, true, false, false]);
        assert_eq!(batch.resets(), [false, false, true, true]);
    }
}

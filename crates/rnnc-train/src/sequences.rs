//! Training data: sequences laid end to end in one long line of frames, read by B streams.
//!
//! Stream b of B begins b/B of the way along the line and every stream moves on by one frame at a time, past the
//! line's end to its beginning: frames never end, there is no padding, and one number, the frames read so far,
//! says where all streams are. A frame that begins a sequence is marked as a reset. With B columns of T frames
//! each, stream b begins with column b.

use rnnc_plan::{NO_SYMBOL, Values};

/// What every frame of the line has one of.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// A vector of `size` numbers.
    Numbers {
        /// How many.
        size: usize,
        /// Frame by frame.
        values: Vec<f32>,
    },
    /// A symbol, or [`NO_SYMBOL`].
    Symbols(Vec<u32>),
    /// A byte as a symbol.
    Bytes(Vec<u8>),
    /// The byte that column `of` has in the next frame of the same sequence; in a sequence's last frame, no symbol.
    NextByte {
        /// The place of a column of bytes.
        of: usize,
    },
}

/// Sequences laid end to end in one line of frames, which B streams read side by side: stream b begins b/B of the
/// way along and goes on past the end to the beginning.
///
/// ```
/// use rnnc_train::{Batch, Column, Sequences};
/// let data = Sequences {
///     columns: vec![Column::Bytes(b"to be".to_vec()), Column::NextByte { of: 0 }],
///     starts: vec![0],
///     counted: None,
///     frames: 5,
/// };
/// let mut batch = Batch::new(&data, 1, 5);
/// batch.fill(&data, 0, 5); // reads t o _ b e, with the targets o _ b e and none
/// assert_eq!(batch.counted(), [true, true, true, true, false]);
/// assert_eq!(batch.resets(), [true, false, false, false, false]);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequences {
    /// One for each input of the training graph, in its order: the network's inputs, then the target.
    pub columns: Vec<Column>,
    /// The frames that begin a sequence, in order; the first is 0.
    pub starts: Vec<usize>,
    /// Whether each frame's loss counts; `None` if all do.
    pub counted: Option<Vec<bool>>,
    /// How many frames there are.
    pub frames: usize,
}

/// The parts that data is split in.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// To learn from: the first part.
    pub train: Sequences,
    /// To watch: the middle.
    pub validation: Sequences,
    /// To report at the end: the last part.
    pub test: Sequences,
}

impl Sequences {
    /// Splits by position: the last `test` of the frames, before them `validation` of the frames, and the rest.
    /// A part's first frame begins a sequence, and no target reaches into the next part.
    pub fn split(self, validation: f64, test: f64) -> Split {
        let part = |fraction: f64| ((self.frames as f64 * fraction) as usize).min(self.frames);
        let from_test = self.frames - part(test);
        let from_validation = from_test - part(validation).min(from_test);
        Split {
            validation: self.part(from_validation, from_test),
            test: self.part(from_test, self.frames),
            train: self.part(0, from_validation),
        }
    }

    fn part(&self, from: usize, to: usize) -> Sequences {
        let column = |column: &Column| match column {
            Column::Numbers { size, values } => {
                Column::Numbers { size: *size, values: values[from * size..to * size].to_vec() }
            }
            Column::Symbols(values) => Column::Symbols(values[from..to].to_vec()),
            Column::Bytes(values) => Column::Bytes(values[from..to].to_vec()),
            Column::NextByte { of } => Column::NextByte { of: *of },
        };
        let inside = self.starts.iter().filter(|&&s| from < s && s < to).map(|s| s - from);
        Sequences {
            columns: self.columns.iter().map(column).collect(),
            starts: (from < to).then_some(0).into_iter().chain(inside).collect(),
            counted: self.counted.as_ref().map(|c| c[from..to].to_vec()),
            frames: to - from,
        }
    }

    fn begins(&self, frame: usize) -> bool {
        self.starts.binary_search(&frame).is_ok()
    }

    /// The frame of the line that stream `stream` of `streams` reads after `position` frames.
    fn frame(&self, stream: usize, streams: usize, position: u64) -> usize {
        let frames = self.frames as u128;
        let first = stream as u128 * frames / streams as u128;
        // Less than `frames`, which is a usize.
        ((first + u128::from(position)) % frames) as usize
    }
}

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
    counted: Vec<bool>,
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
            counted: vec![true; n],
        }
    }

    /// Reads the `frames` frames that follow after `position` frames. `data` has frames, and the columns that
    /// the batch was made for; `frames` is at most what it has room for.
    pub fn fill(&mut self, data: &Sequences, position: u64, frames: usize) {
        self.frames = frames;
        self.position = Some(position);
        for t in 0..frames {
            for b in 0..self.streams {
                let frame = data.frame(b, self.streams, position + t as u64);
                self.copy(data, frame, t * self.streams + b);
            }
        }
    }

    fn copy(&mut self, data: &Sequences, frame: usize, to: usize) {
        self.resets[to] = data.begins(frame);
        self.counted[to] = data.counted.as_ref().is_none_or(|c| c[frame]);
        for (column, source) in self.columns.iter_mut().zip(&data.columns) {
            match (column, source) {
                (BatchColumn::Numbers { size, values }, Column::Numbers { values: from, .. }) => {
                    values[to * *size..][..*size].copy_from_slice(&from[frame * *size..][..*size]);
                }
                (BatchColumn::Symbols(values), Column::Symbols(from)) => values[to] = from[frame],
                (BatchColumn::Symbols(values), Column::Bytes(from)) => values[to] = u32::from(from[frame]),
                (BatchColumn::Symbols(values), Column::NextByte { of }) => {
                    let next = frame + 1;
                    values[to] = match &data.columns[*of] {
                        Column::Bytes(from) if next < data.frames && !data.begins(next) => {
                            u32::from(from[next])
                        }
                        _ => NO_SYMBOL,
                    };
                }
                // `Batch::new` made the columns after the data's.
                _ => {}
            }
        }
        // A frame without a target has no loss to count.
        if let Some(BatchColumn::Symbols(target)) = self.columns.last() {
            self.counted[to] &= target[to] != NO_SYMBOL;
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
    pub fn counted(&self) -> &[bool] {
        &self.counted[..self.frames * self.streams]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sequences, "abcd" and "efg".
    fn text() -> Sequences {
        Sequences {
            columns: vec![Column::Bytes(b"abcdefg".to_vec()), Column::NextByte { of: 0 }],
            starts: vec![0, 4],
            counted: None,
            frames: 7,
        }
    }

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
        let uncounted: Vec<usize> = (0..10).filter(|&i| !batch.counted()[i]).collect();
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
    fn a_split_cuts_by_position_and_no_target_crosses_it() {
        let split = text().split(0.3, 0.3);
        assert_eq!((split.train.frames, split.validation.frames, split.test.frames), (3, 2, 2));
        assert_eq!(split.validation.starts, [0, 1]);
        let mut batch = Batch::new(&split.train, 1, 3);
        batch.fill(&split.train, 0, 3);
        assert_eq!((symbols(&batch, 0), symbols(&batch, 1)), ("abc".into(), "bc.".into()));
        batch.fill(&split.test, 0, 2);
        assert_eq!((symbols(&batch, 0), symbols(&batch, 1)), ("fg".into(), "g.".into()));
    }

    #[test]
    fn a_split_that_takes_all_leaves_nothing() {
        let split = text().split(1.0, 1.0);
        assert_eq!((split.train.frames, split.validation.frames, split.test.frames), (0, 0, 7));
        assert!(split.train.starts.is_empty());
    }

    #[test]
    fn vectors_and_masks_follow_their_frames() {
        let data = Sequences {
            columns: vec![
                Column::Numbers { size: 2, values: (0..8).map(|i| i as f32).collect() },
                Column::Numbers { size: 1, values: vec![10.0, 11.0, 12.0, 13.0] },
            ],
            starts: vec![0, 2],
            counted: Some(vec![false, true, false, true]),
            frames: 4,
        };
        let mut batch = Batch::new(&data, 2, 2);
        batch.fill(&data, 1, 2);
        let Values::F32(x) = batch.inputs()[0] else { panic!("not numbers") };
        assert_eq!(x, [2.0, 3.0, 6.0, 7.0, 4.0, 5.0, 0.0, 1.0]);
        assert_eq!(batch.counted(), [true, true, false, false]);
        assert_eq!(batch.resets(), [false, false, true, true]);
    }
}

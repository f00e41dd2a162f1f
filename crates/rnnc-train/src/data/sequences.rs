//! Training data: sequences laid end to end in one long line of frames, read by B streams.
//!
//! Stream b of B begins b/B of the way along the line and every stream moves on by one frame at a time, past the
//! line's end to its beginning: frames never end, there is no padding, and one number, the frames read so far,
//! says where all streams are. A frame that begins a sequence is marked as a reset. With B columns of T frames
//! each, stream b begins with column b.

use crate::error::TrainError;
use rnnc_graph::{Graph, LayerKind, count};
use rnnc_plan::NO_SYMBOL;
use std::ops::Range;

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

impl Column {
    /// Vectors of `size` numbers, frame by frame.
    pub fn numbers(size: usize, values: Vec<f32>) -> Column {
        Column::Numbers { size, values }
    }

    /// How many frames it has; `None` if that is another column's affair.
    fn frames(&self) -> Option<usize> {
        match self {
            Column::Numbers { size, values } => Some(values.len().checked_div(*size).unwrap_or(0)),
            Column::Symbols(values) => Some(values.len()),
            Column::Bytes(values) => Some(values.len()),
            Column::NextByte { .. } => None,
        }
    }
}

/// Sequences laid end to end in one line of frames, which B streams read side by side: stream b begins b/B of the
/// way along and goes on past the end to the beginning.
///
/// ```
/// use rnnc_train::{Batch, Column, Sequences};
/// let data = Sequences {
///     columns: vec![Column::Bytes(b"to be".to_vec()), Column::NextByte { of: 0 }],
///     starts: vec![0],
///     loss_mask: None,
///     frames: 5,
/// };
/// let mut batch = Batch::new(&data, 1, 5);
/// batch.fill(&data, 0, 5); // reads t o _ b e, with the targets o _ b e and none
/// assert_eq!(batch.loss_mask(), [true, true, true, true, false]);
/// assert_eq!(batch.resets(), [true, false, false, false, false]);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequences {
    /// One for each input of the training graph, in its order: the network's inputs, then the target.
    pub columns: Vec<Column>,
    /// The frames that begin a sequence, in order; the first is 0.
    pub starts: Vec<usize>,
    /// Whether each frame's loss counts; `None` if all do.
    pub loss_mask: Option<Vec<bool>>,
    /// How many frames there are.
    pub frames: usize,
}

impl Sequences {
    /// One sequence.
    ///
    /// # Errors
    /// Columns of different numbers of frames.
    pub fn one(columns: Vec<Column>) -> Result<Sequences, TrainError> {
        let frames = columns.iter().find_map(Column::frames).unwrap_or(0);
        let sequences = Sequences { columns, starts: vec![0], loss_mask: None, frames };
        sequences.check_lengths()?;
        Ok(sequences)
    }

    /// The bytes that a column reads, its own or another's.
    pub(crate) fn bytes<'a>(&'a self, column: &'a Column) -> Option<&'a [u8]> {
        match column {
            Column::Bytes(bytes) => Some(bytes),
            Column::NextByte { of } => match self.columns.get(*of) {
                Some(Column::Bytes(bytes)) => Some(bytes),
                _ => None,
            },
            Column::Numbers { .. } | Column::Symbols(_) => None,
        }
    }

    /// Checks that all columns have as many frames, and that sequences begin at some of them.
    fn check_lengths(&self) -> Result<(), TrainError> {
        let frames = self.frames;
        let wrong = |what: String| {
            Err(TrainError::Setting(format!("the data has {}, but {what}", count(frames, "frame"))))
        };
        for (index, column) in self.columns.iter().enumerate() {
            match column {
                Column::Numbers { size, values } if size.checked_mul(frames) != Some(values.len()) => {
                    return wrong(format!(
                        "column {index} has {}, at {size} a frame",
                        count(values.len(), "number")
                    ));
                }
                Column::NextByte { of } if self.bytes(column).is_none() => {
                    return wrong(format!("column {index} wants the bytes of column {of}, which has none"));
                }
                column if column.frames().is_some_and(|found| found != frames) => {
                    return wrong(format!("column {index} has {}", column.frames().unwrap_or(0)));
                }
                _ => {}
            }
        }
        if self.loss_mask.as_ref().is_some_and(|loss_mask| loss_mask.len() != frames) {
            return wrong("its loss mask has others".into());
        }
        let ordered = self.starts.windows(2).all(|pair| pair[0] < pair[1]);
        if frames > 0
            && (self.starts.first() != Some(&0) || !ordered || self.starts.iter().any(|&s| s >= frames))
        {
            return wrong("its sequences do not begin at frame 0 and then later, one after the other".into());
        }
        Ok(())
    }

    /// Checks that there is a column for each input of a network with its loss, of its kind and size.
    pub(crate) fn check(&self, graph: &Graph) -> Result<(), TrainError> {
        self.check_lengths()?;
        let problem = |problem: String| TrainError::Network { network: graph.name().into(), problem };
        let inputs = graph.inputs();
        if self.columns.len() != inputs.len() {
            let names: Vec<String> =
                inputs.iter().map(|&input| format!("`{}`", graph.layer_at(input).name)).collect();
            return Err(problem(format!(
                "its inputs, with the target last, are {}; the data has {} columns",
                names.join(", "),
                self.columns.len()
            )));
        }
        for (&input, column) in inputs.iter().zip(&self.columns) {
            let layer = graph.layer_at(input);
            let symbols = matches!(layer.kind, LayerKind::Symbol);
            let found = match column {
                Column::Numbers { size, .. } if !symbols && *size == layer.size => continue,
                Column::Symbols(values) if symbols => {
                    match values.iter().find(|&&s| s as usize >= layer.size && s != NO_SYMBOL) {
                        None => continue,
                        Some(symbol) => format!("symbol {symbol}"),
                    }
                }
                Column::Bytes(_) | Column::NextByte { .. } if symbols => {
                    let bytes = self.bytes(column).unwrap_or_default();
                    match bytes.iter().find(|&&b| usize::from(b) >= layer.size) {
                        None => continue,
                        Some(byte) => format!("byte {byte}"),
                    }
                }
                Column::Numbers { size, .. } => format!("vectors of {}", count(*size, "number")),
                Column::Symbols(_) => "symbols".into(),
                Column::Bytes(_) | Column::NextByte { .. } => "bytes".into(),
            };
            let expected = if symbols {
                format!("one of {}", count(layer.size, "symbol"))
            } else {
                count(layer.size, "number")
            };
            return Err(problem(format!(
                "input `{}` takes {expected} a frame; the data has {found}",
                layer.name
            )));
        }
        self.check_targets()
    }

    /// Refuses a target that is NaN where its loss counts: it would be taken for one that is not there.
    fn check_targets(&self) -> Result<(), TrainError> {
        let Some(Column::Numbers { size, values }) = self.columns.last() else { return Ok(()) };
        let mut targets = values.chunks(*size.max(&1)).enumerate().filter(|&(frame, _)| self.counts(frame));
        let missing =
            targets.find_map(|(frame, target)| Some((frame, target.iter().position(|x| x.is_nan())?)));
        match missing {
            None => Ok(()),
            Some((frame, unit)) => Err(TrainError::Setting(format!(
                "the target is NaN in frame {frame}, unit {unit}: give a number, or a mask without that frame"
            ))),
        }
    }

    /// Leaves out the losses of the first `burn_in` frames of each sequence and, with `last`, of all frames but the last one that has
    /// a target.
    pub(crate) fn mask_losses(&mut self, burn_in: usize, last: bool) {
        if burn_in == 0 && !last {
            return;
        }
        let ranges = self.ranges();
        let mut mask = vec![false; self.frames];
        for range in ranges {
            let own = range.start + burn_in.min(range.len())..range.end;
            match last {
                true => own
                    .rev()
                    .find(|&frame| self.counts(frame))
                    .into_iter()
                    .for_each(|frame| mask[frame] = true),
                false => own.for_each(|frame| mask[frame] = self.counts(frame)),
            }
        }
        self.loss_mask = Some(mask);
    }

    /// Drops all frames from that one on.
    pub(crate) fn truncate(&mut self, frames: usize) {
        let frames = frames.min(self.frames);
        for column in &mut self.columns {
            match column {
                Column::Numbers { size, values } => values.truncate(frames * *size),
                Column::Symbols(values) => values.truncate(frames),
                Column::Bytes(values) => values.truncate(frames),
                Column::NextByte { .. } => {}
            }
        }
        self.starts.retain(|&start| start < frames);
        self.loss_mask.iter_mut().for_each(|loss_mask| loss_mask.truncate(frames));
        self.frames = frames;
    }

    /// The frames of each sequence.
    pub(crate) fn ranges(&self) -> Vec<Range<usize>> {
        let ends = self.starts.iter().skip(1).copied().chain([self.frames]);
        self.starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
    }

    /// Whether there is a frame whose loss counts.
    pub(crate) fn has_rows_in_loss(&self) -> bool {
        (0..self.frames).any(|frame| self.counts(frame))
    }

    /// Whether a frame's loss counts: it has a target, and no mask leaves it out.
    fn counts(&self, frame: usize) -> bool {
        let has_target = match self.columns.last() {
            Some(Column::Symbols(values)) => values[frame] != NO_SYMBOL,
            Some(Column::NextByte { .. }) => frame + 1 < self.frames && !self.begins(frame + 1),
            _ => true,
        };
        has_target && self.loss_mask.as_ref().is_none_or(|mask| mask[frame])
    }

    /// A hash of all of it, for a run that goes on to tell whether it is on the same data.
    pub(crate) fn hash(&self) -> u64 {
        // As rustc's FxHash mixes: fast, and of no secret.
        let mix = |hash: u64, x: u64| (hash.rotate_left(5) ^ x).wrapping_mul(0x517c_c1b7_2722_0a95);
        let word = |bytes: &[u8]| bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
        let mut hash = mix(0, self.frames as u64);
        for column in &self.columns {
            hash = match column {
                Column::Numbers { values, .. } => {
                    values.iter().fold(hash, |hash, x| mix(hash, u64::from(x.to_bits())))
                }
                Column::Symbols(values) => values.iter().fold(hash, |hash, &x| mix(hash, u64::from(x))),
                Column::Bytes(values) => values.chunks(8).fold(hash, |hash, bytes| mix(hash, word(bytes))),
                Column::NextByte { of } => mix(hash, *of as u64),
            };
        }
        hash = self.starts.iter().fold(hash, |hash, &start| mix(hash, start as u64));
        self.loss_mask.iter().flatten().fold(hash, |hash, &counts| mix(hash, u64::from(counts)))
    }

    pub(crate) fn begins(&self, frame: usize) -> bool {
        self.starts.binary_search(&frame).is_ok()
    }

    /// The frame of the line that stream `stream` of `streams` reads after `position` frames.
    pub(crate) fn frame(&self, stream: usize, streams: usize, position: u64) -> usize {
        let frames = self.frames as u128;
        let first = stream as u128 * frames / streams as u128;
        // Less than `frames`, which is a usize.
        ((first + u128::from(position)) % frames) as usize
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two sequences, "abcd" and "efg".
    pub(crate) fn text() -> Sequences {
        Sequences {
            columns: vec![Column::Bytes(b"abcdefg".to_vec()), Column::NextByte { of: 0 }],
            starts: vec![0, 4],
            loss_mask: None,
            frames: 7,
        }
    }

    /// Sequences of so many frames each.
    pub(crate) fn lengths(lengths: &[usize]) -> Sequences {
        let frames = lengths.iter().sum();
        let starts = lengths.iter().scan(0, |at, n| Some(std::mem::replace(at, *at + n))).collect();
        Sequences {
            columns: vec![Column::Symbols((0..frames as u32).collect())],
            starts,
            loss_mask: None,
            frames,
        }
    }

    #[test]
    fn whether_a_frame_counts_is_known_from_masks_and_targets() {
        assert!(text().has_rows_in_loss());
        assert!(
            !Sequences { starts: (0..7).collect(), ..text() }.has_rows_in_loss(),
            "no byte has a next one"
        );
        assert!(!Sequences { loss_mask: Some(vec![false; 7]), ..text() }.has_rows_in_loss());
        let last = [vec![false; 6], vec![true]].concat();
        assert!(
            !Sequences { loss_mask: Some(last), ..text() }.has_rows_in_loss(),
            "the last byte has no next one"
        );
        let none = Sequences { columns: vec![Column::Symbols(vec![NO_SYMBOL; 4])], ..lengths(&[4]) };
        assert!(!none.has_rows_in_loss());
        assert!(!Sequences::default().has_rows_in_loss());
    }

    #[test]
    fn other_data_has_another_hash() {
        let data = Sequences {
            columns: vec![
                Column::Numbers { size: 1, values: vec![0.0, 1.0, 2.0] },
                Column::Symbols(vec![0, 1, 2]),
                Column::Bytes(b"abc".to_vec()),
            ],
            starts: vec![0, 2],
            loss_mask: Some(vec![true, true, false]),
            frames: 3,
        };
        let mut others = vec![data.clone(); 5];
        others[0].columns[0] = Column::Numbers { size: 1, values: vec![-0.0, 1.0, 2.0] };
        others[1].columns[1] = Column::Symbols(vec![1, 0, 2]);
        others[2].columns[2] = Column::Bytes(b"acb".to_vec());
        others[3].starts = vec![0, 1];
        others[4].loss_mask = Some(vec![true, false, true]);
        assert!(others.iter().all(|other| other.hash() != data.hash()));
        assert_eq!(data.clone().hash(), data.hash());
    }

    #[test]
    fn losses_count_after_the_burn_in_or_in_the_last_frame_with_a_target() {
        let masked = |burn_in, last| {
            let mut data = Sequences {
                columns: vec![Column::Symbols(vec![1, 2, NO_SYMBOL, 1, 2, 3])],
                starts: vec![0, 3],
                loss_mask: Some(vec![true, true, true, false, true, true]),
                frames: 6,
            };
            data.mask_losses(burn_in, last);
            let mask = data.loss_mask.unwrap();
            (0..6).filter(|&frame| mask[frame]).collect::<Vec<_>>()
        };
        assert_eq!(masked(1, false), [1, 4, 5]);
        assert_eq!(masked(2, false), [5]);
        assert_eq!(masked(0, true), [1, 5]);
        assert_eq!(masked(9, true), [0; 0]);
    }
}

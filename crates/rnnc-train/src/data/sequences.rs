//! Training data: sequences laid end to end in one long line of frames, read by B streams.
//!
//! Stream b of B begins b/B of the way along the line and every stream moves on by one frame at a time, past the
//! line's end to its beginning: frames never end, there is no padding, and one number, the frames read so far,
//! says where all streams are. A frame that begins a sequence is marked as a reset. With B columns of T frames
//! each, stream b begins with column b.

use crate::error::TrainError;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
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

/// The parts that data is split in.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// To learn from: the first part.
    pub train: Sequences,
    /// To watch: the middle.
    pub validation: Sequences,
    /// To report at the end: the last part.
    pub test: Sequences,
    /// Where a sequence was cut, since none begins near: its tail begins the next part.
    pub cuts: Vec<usize>,
}

impl Split {
    /// Whether there is another sequence beside those that were cut.
    pub(crate) fn has_several(&self) -> bool {
        let starts: usize = [&self.train, &self.validation, &self.test].iter().map(|p| p.starts.len()).sum();
        starts > self.cuts.len() + 1
    }
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
        let counts = |frame: usize| self.loss_mask.as_ref().is_none_or(|loss_mask| loss_mask[frame]);
        let mut targets = values.chunks(*size.max(&1)).enumerate().filter(|&(frame, _)| counts(frame));
        let missing =
            targets.find_map(|(frame, target)| Some((frame, target.iter().position(|x| x.is_nan())?)));
        match missing {
            None => Ok(()),
            Some((frame, unit)) => Err(TrainError::Setting(format!(
                "the target is NaN in frame {frame}, unit {unit}: give a number, or a mask without that frame"
            ))),
        }
    }

    /// Splits off whole sequences: the last `test` of the frames, before them `validation` of the frames, and the rest. A
    /// part begins at the sequence nearest to where the fractions say, as long as no part becomes less than half, or a
    /// part that is split off more than twice, of what was asked for. Where no sequence begins there, one is cut: its tail
    /// is then a sequence of its own, and no target reaches into it.
    pub fn split(mut self, validation: f64, test: f64) -> Split {
        let frames = self.frames;
        let part = |fraction: f64| ((frames as f64 * fraction) as usize).min(frames);
        let test = part(test);
        let validation = part(validation).min(frames - test);
        let train = frames - test - validation;
        // Where the part behind begins, when this one is half as long as asked for.
        let half = |from: usize, len: usize| from + len.div_ceil(2);
        let least = if validation > 0 { half(train, validation) } else { half(0, train) };
        let from_test = self.part_near(frames, test, train + validation, least);
        let from_validation = self.part_near(from_test, validation, train, half(0, train));
        let inside = |&cut: &usize| cut < frames && !self.begins(cut);
        let mut cuts: Vec<usize> = [from_validation, from_test].into_iter().filter(inside).collect();
        cuts.dedup();
        let (validation, test) = (self.part(from_validation, from_test), self.part(from_test, frames));
        self.truncate(from_validation);
        Split { train: self, validation, test, cuts }
    }

    /// Splits off whole sequences that chance takes, by a seed: as near to the shares as they come, and with `stratified` the same
    /// share of each class. The parts keep the order of the data.
    ///
    /// # Errors
    /// `stratified`, where targets are no classes.
    pub(crate) fn split_by_chance(
        self,
        validation: f64,
        test: f64,
        seed: u64,
        stratified: bool,
    ) -> Result<Split, TrainError> {
        let ranges = self.ranges();
        let mut order: Vec<usize> = (0..ranges.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        if stratified {
            let Some(Column::Symbols(targets)) = self.columns.last() else {
                let problem = "`data.split = \"stratified\"` is for targets that are classes: write `split = \"random\"`";
                return Err(TrainError::Setting(problem.into()));
            };
            // Those of one class in a row, in an order of chance.
            let class = |range: &Range<usize>| targets[range.clone()].iter().rfind(|&&s| s != NO_SYMBOL);
            order.sort_by_key(|&sequence| class(&ranges[sequence]));
        }
        // Every n-th, so that each stretch of the order gives its share.
        let takes = |place: usize, share: f64| {
            let before = |place: usize| (place as f64 * share + 0.5).floor();
            before(place + 1) > before(place)
        };
        let (validation, rest) = divide(order, |place| takes(place, validation));
        let of_rest = if validation.is_empty() && rest.is_empty() {
            0.0
        } else {
            test * ranges.len() as f64 / rest.len().max(1) as f64
        };
        let (test, train) = divide(rest, |place| takes(place, of_rest.min(1.0)));
        let part = |mut sequences: Vec<usize>| {
            sequences.sort_unstable();
            self.select(sequences.iter().map(|&sequence| &ranges[sequence]))
        };
        Ok(Split { train: part(train), validation: part(validation), test: part(test), cuts: Vec::new() })
    }

    /// Some whole sequences as data of their own.
    fn select<'a>(&self, sequences: impl Iterator<Item = &'a Range<usize>> + Clone) -> Sequences {
        fn gather<'a, T: Copy + 'a>(
            from: &[T],
            size: usize,
            sequences: impl Iterator<Item = &'a Range<usize>>,
        ) -> Vec<T> {
            sequences.flat_map(|range| from[range.start * size..range.end * size].iter().copied()).collect()
        }
        let column = |column: &Column| match column {
            Column::Numbers { size, values } => {
                Column::Numbers { size: *size, values: gather(values, *size, sequences.clone()) }
            }
            Column::Symbols(values) => Column::Symbols(gather(values, 1, sequences.clone())),
            Column::Bytes(values) => Column::Bytes(gather(values, 1, sequences.clone())),
            Column::NextByte { of } => Column::NextByte { of: *of },
        };
        let mut frames = 0;
        let mut starts = Vec::new();
        for range in sequences.clone() {
            starts.push(frames);
            frames += range.len();
        }
        Sequences {
            columns: self.columns.iter().map(column).collect(),
            starts,
            loss_mask: self.loss_mask.as_ref().map(|mask| gather(mask, 1, sequences.clone())),
            frames,
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

    /// Where a part of `len` frames before `end` begins: at the sequence nearest to `wanted`, but not before `least`.
    fn part_near(&self, end: usize, len: usize, wanted: usize, least: usize) -> usize {
        if len == 0 {
            return end;
        }
        let allowed = end.saturating_sub(2 * len).max(least)..=end.saturating_sub(len.div_ceil(2));
        let starts = self.starts.iter().copied().filter(|start| allowed.contains(start));
        starts.min_by_key(|start| start.abs_diff(wanted)).unwrap_or(wanted)
    }

    /// A part as data of its own: its first frame begins a sequence, and its last has no target behind it.
    pub(crate) fn part(&self, from: usize, to: usize) -> Sequences {
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
            loss_mask: self.loss_mask.as_ref().map(|c| c[from..to].to_vec()),
            frames: to - from,
        }
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

/// Those at places that are taken, and the others, in their order.
fn divide(order: Vec<usize>, takes: impl Fn(usize) -> bool) -> (Vec<usize>, Vec<usize>) {
    let (taken, others): (Vec<_>, Vec<_>) =
        order.into_iter().enumerate().partition(|&(place, _)| takes(place));
    let strip = |pairs: Vec<(usize, usize)>| pairs.into_iter().map(|(_, sequence)| sequence).collect();
    (strip(taken), strip(others))
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
    fn lengths(lengths: &[usize]) -> Sequences {
        let frames = lengths.iter().sum();
        let starts = lengths.iter().scan(0, |at, n| Some(std::mem::replace(at, *at + n))).collect();
        Sequences {
            columns: vec![Column::Symbols((0..frames as u32).collect())],
            starts,
            loss_mask: None,
            frames,
        }
    }

    /// The lengths of the sequences of training, validation and test data, and where a sequence was cut.
    fn parts(data: &[usize], validation: f64, test: f64) -> ([Vec<usize>; 3], Vec<usize>) {
        let whole = lengths(data);
        let Split { train, validation, test, cuts } = whole.clone().split(validation, test);
        let mut line = Vec::new();
        let parts = [train, validation, test].map(|part| {
            let Column::Symbols(values) = &part.columns[0] else { panic!("not symbols") };
            assert_eq!(values.len(), part.frames);
            line.extend(values.clone());
            part.ranges().into_iter().map(|range| range.len()).collect()
        });
        assert_eq!(line, (0..whole.frames as u32).collect::<Vec<_>>(), "a frame is lost or read twice");
        (parts, cuts)
    }

    #[test]
    fn a_split_takes_whole_sequences() {
        let parts_of = |data: &[usize], validation, test| {
            let (parts, cuts) = parts(data, validation, test);
            assert_eq!(cuts, [0; 0]);
            parts
        };
        assert_eq!(parts_of(&[5; 20], 0.1, 0.1), [vec![5; 16], vec![5; 2], vec![5; 2]]);
        assert_eq!(parts_of(&[7; 20], 0.1, 0.04), [vec![7; 17], vec![7; 2], vec![7; 1]]);
        assert_eq!(
            parts_of(&[1500, 900, 2200, 1300, 700], 0.1, 0.1),
            [vec![1500, 900, 2200], vec![1300], vec![700]]
        );
        assert_eq!(parts_of(&[5; 20], 0.0, 0.2), [vec![5; 16], vec![], vec![5; 4]]);
        assert_eq!(parts_of(&[5; 20], 0.2, 0.0), [vec![5; 16], vec![5; 4], vec![]]);
        assert_eq!(parts_of(&[60, 40], 0.5, 0.0), [vec![60], vec![40], vec![]]);
    }

    #[test]
    fn where_no_sequence_begins_near_one_is_cut_and_its_tail_begins_anew() {
        assert_eq!(parts(&[100], 0.1, 0.2), ([vec![70], vec![10], vec![20]], vec![70, 80]));
        // The last sequence alone would be eighteen times too much.
        assert_eq!(parts(&[10, 90], 0.05, 0.0), ([vec![10, 85], vec![5], vec![]], vec![95]));
        assert_eq!(parts(&[90, 10], 0.5, 0.0), ([vec![50], vec![40, 10], vec![]], vec![50]));
    }

    #[test]
    fn no_part_that_is_asked_for_is_left_empty() {
        for count in 1..8usize {
            for length in [1, 3, 50] {
                for (validation, test) in [(0.3, 0.4), (0.05, 0.9), (0.5, 0.45), (0.1, 0.1)] {
                    let data: Vec<usize> = (0..count).map(|i| length + i).collect();
                    let all: usize = data.iter().sum();
                    let ([train, v, t], _) = parts(&data, validation, test);
                    let sum = |part: &[usize]| part.iter().sum::<usize>();
                    for (part, asked) in
                        [(sum(&train), 1.0 - validation - test), (sum(&v), validation), (sum(&t), test)]
                    {
                        let asked = (all as f64 * asked) as usize;
                        assert!(part >= asked / 2, "{data:?} {validation} {test}: {train:?} {v:?} {t:?}");
                    }
                }
            }
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

    /// `count` sequences of two frames; that of number k is of class k / 10.
    fn sorted_by_class(count: u32) -> Sequences {
        Sequences {
            columns: vec![
                Column::Symbols((0..2 * count).map(|frame| frame / 2).collect()),
                Column::Symbols((0..2 * count).map(|frame| frame / 20).collect()),
            ],
            starts: (0..count as usize).map(|k| 2 * k).collect(),
            loss_mask: None,
            frames: 2 * count as usize,
        }
    }

    #[test]
    fn a_split_by_chance_takes_whole_sequences_once_and_by_the_seed() {
        let numbers = |part: &Sequences| {
            let Column::Symbols(values) = &part.columns[0] else { panic!() };
            assert!(values.chunks(2).all(|pair| pair[0] == pair[1]), "a sequence is cut");
            values.iter().step_by(2).copied().collect::<Vec<u32>>()
        };
        let split = |seed| {
            let Split { train, validation, test, cuts } =
                sorted_by_class(40).split_by_chance(0.2, 0.1, seed, false).unwrap();
            assert!(cuts.is_empty());
            [train, validation, test].map(|part| numbers(&part))
        };
        let [train, validation, test] = split(1);
        assert_eq!((train.len(), validation.len(), test.len()), (28, 8, 4));
        let mut all = [train, validation.clone(), test].concat();
        all.sort_unstable();
        assert_eq!(all, (0..40).collect::<Vec<_>>());
        assert_eq!(split(1)[1], validation);
        assert_ne!(split(2)[1], validation);
    }

    #[test]
    fn a_stratified_split_takes_the_same_share_of_each_class() {
        for seed in 0..5 {
            let split = sorted_by_class(40).split_by_chance(0.2, 0.1, seed, true).unwrap();
            for (part, each) in [(&split.train, 7), (&split.validation, 2), (&split.test, 1)] {
                let Column::Symbols(classes) = &part.columns[1] else { panic!() };
                for class in 0..4 {
                    let count = classes.iter().filter(|&&c| c == class).count() / 2;
                    assert_eq!(count, each, "seed {seed}, class {class}");
                }
            }
        }
        let error = text().split_by_chance(0.5, 0.0, 1, true).unwrap_err().to_string();
        assert!(error.contains("write `split = \"random\"`"), "{error}");
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

    #[test]
    fn a_split_that_takes_all_leaves_nothing() {
        let split = text().split(1.0, 1.0);
        assert_eq!((split.train.frames, split.validation.frames, split.test.frames), (0, 0, 7));
        assert!(split.train.starts.is_empty());
    }
}

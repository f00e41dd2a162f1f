//! Parts of data: to learn from, to watch, and to report at the end. They are whole sequences, of the data's end or by chance.

use crate::data::sequences::{Column, Sequences};
use crate::error::TrainError;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rnnc_plan::NO_SYMBOL;
use std::ops::Range;

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
        let of_rest = test * ranges.len() as f64 / rest.len().max(1) as f64;
        let (test, train) = divide(rest, |place| takes(place, of_rest.min(1.0)));
        let part = |mut sequences: Vec<usize>| {
            sequences.sort_unstable();
            self.select(sequences.iter().map(|&sequence| &ranges[sequence]))
        };
        Ok(Split { train: part(train), validation: part(validation), test: part(test), cuts: Vec::new() })
    }

    /// Some whole sequences as data of their own.
    fn select<'a>(&self, sequences: impl Iterator<Item = &'a Range<usize>> + Clone) -> Sequences {
        fn gather<'a, T: Copy>(
            from: &[T],
            size: usize,
            sequences: impl Iterator<Item = &'a Range<usize>>,
        ) -> Vec<T> {
            let each = sequences.map(|range| &from[range.start * size..range.end * size]);
            each.collect::<Vec<_>>().concat()
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
        let inside = self.starts.iter().filter(|&&s| from < s && s < to).map(|s| s - from);
        let starts = (from < to).then_some(0).into_iter().chain(inside).collect();
        Sequences { starts, ..self.select(std::iter::once(&(from..to))) }
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
mod tests {
    use super::*;
    use crate::data::sequences::tests::{lengths, text};

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
    fn a_split_that_takes_all_leaves_nothing() {
        let split = text().split(1.0, 1.0);
        assert_eq!((split.train.frames, split.validation.frames, split.test.frames), (0, 0, 7));
        assert!(split.train.starts.is_empty());
    }
}

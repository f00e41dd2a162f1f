//! Arrays as data: `.npz` files with the network's inputs and a target, whole or as a list of sequences.

use crate::data::files::DataFiles;
use crate::data::sequences::{Column, Sequences};
use crate::error::TrainError;
use crate::task::losses::LossNetwork;
use rnnc_graph::LayerKind;
use rnnc_io::{Array, ArrayFile, Dimension, FileError, index_of, make_room};

const TARGET: &str = "target";
const LABEL: &str = "label";
const RESET: &str = "reset";
const MASK: &str = "mask";

/// What memory is taken for.
const DATA: &str = "the data";

/// Reads files and globs as data for a network with a loss.
///
/// A file has one of two forms. Whole: for each input `NAME` an array `NAME` of `[T, B, N]` floats, or of
/// `[T, B]` integers for a symbol input; the array `target` likewise (with cross-entropy a negative target is
/// none: that frame's loss does not count; where `mask` says that it does not count, a number may be anything, NaN too);
/// optionally `reset` `[T, B]`, the frames that begin a sequence; and
/// optionally `mask` `[T, B]`, the frames whose loss counts. Each of the B columns is a sequence, or, by its
/// resets, several.
///
/// Or a list of sequences, each of its own length: `NAME.0` of `[T, N]` (or `[T]`), `NAME.1` and so on, with
/// `target.0`, and optionally `mask.0`, likewise. Instead of targets there may be an array `label`, `[K]`, a symbol for each of K
/// sequences: the target of all its frames.
///
/// A frame whose loss does not count sends no error back: whatever its output is, NaN and infinity too, the error of the output
/// is 0. Behind the output, numbers are what IEEE 754 says: where an input or a layer is not finite in such a frame, the
/// gradients of what multiplies it, or is behind a function of it, are 0 times NaN, which is NaN; and in a recurrence it spoils
/// the frames that follow.
///
/// The sequences of all files, each file once, are laid end to end in the order of files, columns and numbers.
///
/// # Errors
/// Anything that does not fit, by file and array; numbers that are not finite; targets that the loss is not for; an input called
/// `target`, `reset` or `mask`.
pub fn read_series(named: &DataFiles<'_>, network: &LossNetwork) -> Result<Sequences, TrainError> {
    let wanted = wanted(network)?;
    let mut data = Sequences {
        columns: wanted.iter().map(Wanted::empty).collect(),
        loss_mask: Some(Vec::new()),
        ..Sequences::default()
    };
    for path in named.paths()? {
        let mut file = ArrayFile::open(path)?;
        if file.contains(LABEL) && !wanted.iter().any(|w| w.name == LABEL) {
            read_labelled(&mut file, &wanted, &mut data)?;
        } else if file.contains(&format!("{TARGET}.0")) {
            read_list(&mut file, &wanted, &mut data)?;
        } else {
            read_whole(&mut file, &wanted, &mut data)?;
        }
    }
    if data.frames == 0 {
        let problem = format!("there is no data: the files of `{}` have no frames", named.setting);
        return Err(TrainError::Setting(problem));
    }
    Ok(data)
}

/// One input of the network, or the target.
struct Wanted {
    name: String,
    size: usize,
    symbols: bool,
    target: bool,
    /// The least and the largest number.
    range: (f64, f64),
}

fn wanted(network: &LossNetwork) -> Result<Vec<Wanted>, TrainError> {
    let graph = &network.graph;
    let last = graph.inputs().len() - 1; // the target: a network with a loss has one
    let mut wanted = Vec::new();
    for (i, &input) in graph.inputs().iter().enumerate() {
        let layer = graph.layer_at(input);
        let name = if i == last { TARGET.to_string() } else { layer.name.clone() };
        if i != last && [TARGET, RESET, MASK].contains(&name.as_str()) {
            return Err(TrainError::Network {
                network: graph.name().into(),
                problem: format!(
                    "input `{name}`: in data files that name is taken; call the input something else"
                ),
            });
        }
        let symbols = layer.kind == LayerKind::Symbol;
        let target = i == last;
        let range = if target { network.targets } else { (f64::NEG_INFINITY, f64::INFINITY) };
        wanted.push(Wanted { name, size: layer.size, symbols, target, range });
    }
    Ok(wanted)
}

impl Wanted {
    fn empty(&self) -> Column {
        if self.symbols {
            Column::Symbols(Vec::new())
        } else {
            Column::Numbers { size: self.size, values: Vec::new() }
        }
    }

    /// Reads its array, whose name ends so, of so many frames.
    fn read(&self, file: &mut ArrayFile, end: &str, frames: &[Dimension<'_>]) -> Result<Array, TrainError> {
        let mut shape = frames.to_vec();
        if !self.symbols {
            shape.push(Dimension::Units(self.size));
        }
        Ok(file.read_shaped(&format!("{}{end}", self.name), &shape)?)
    }

    /// Refuses numbers of an array that are not finite or out of the range, but for frames that `mask` leaves out.
    fn check(&self, array: &Array, values: &[f32], mask: Option<&[bool]>) -> Result<(), TrainError> {
        let (least, most) = self.range;
        let wrong = |(row, units): (usize, &[f32])| {
            let counts = mask.is_none_or(|mask| mask[row]);
            let is_wrong = |&x: &f32| !x.is_finite() || !(least..=most).contains(&f64::from(x));
            units.iter().position(is_wrong).filter(|_| counts).map(|unit| row * self.size + unit)
        };
        let Some(place) = values.chunks_exact(self.size).enumerate().find_map(wrong) else { return Ok(()) };
        let mut expected = String::from("finite numbers");
        if least.is_finite() {
            expected = format!("numbers from {least} to {most}");
        }
        if self.target {
            expected.push_str(" in frames whose loss counts (`mask` says which do)");
        }
        Err(array
            .error(&expected, format!("{} at {:?}", values[place], index_of(place, array.shape())))
            .into())
    }

    /// Appends an array's frames, sequence by sequence: `streams` of them lie side by side in it. Of those that `mask` leaves out,
    /// numbers may be anything.
    fn append(
        &self,
        array: &Array,
        mask: Option<&[bool]>,
        streams: usize,
        column: &mut Column,
    ) -> Result<(), TrainError> {
        match column {
            Column::Symbols(to) => {
                let symbols = array.symbols(self.size, self.target)?;
                make_room(to, symbols.len(), DATA)?;
                to.extend((0..streams).flat_map(|b| symbols.iter().skip(b).step_by(streams)));
            }
            Column::Numbers { size, values: to } => {
                let values = array.f32s()?;
                self.check(array, &values, mask)?;
                make_room(to, values.len(), DATA)?;
                let rows = |b| values.chunks_exact(*size).skip(b).step_by(streams);
                to.extend((0..streams).flat_map(rows).flatten());
            }
            // `empty` makes no other columns.
            Column::Bytes(_) | Column::NextByte { .. } => {}
        }
        Ok(())
    }
}

/// Reads a file whose columns are sequences.
fn read_whole(file: &mut ArrayFile, wanted: &[Wanted], data: &mut Sequences) -> Result<(), TrainError> {
    let mut names: Vec<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
    names.extend([RESET, MASK]);
    file.refuse_others(&names, "the network's inputs, the target, resets and mask")?;

    let (frames, streams) = read_arrays(file, wanted, "", &[Dimension::Any("T"), Dimension::Any("B")], data)?;
    let resets = read_flags(file, RESET, &[Dimension::Size(frames), Dimension::Size(streams)])?;
    let resets: Option<Vec<bool>> = resets.map(|flags| by_streams(&flags, streams).collect());
    let begins = |&i: &usize| i % frames == 0 || resets.as_ref().is_some_and(|resets| resets[i]);
    data.starts.extend((0..frames * streams).filter(begins).map(|i| data.frames + i));
    data.frames += frames * streams;
    Ok(())
}

/// Reads a file that is a list of sequences.
fn read_list(file: &mut ArrayFile, wanted: &[Wanted], data: &mut Sequences) -> Result<(), TrainError> {
    let count = (0..).take_while(|k| file.contains(&format!("{TARGET}.{k}"))).count();
    let mut names: Vec<String> =
        (0..count).flat_map(|k| wanted.iter().map(move |w| format!("{}.{k}", w.name))).collect();
    names.extend((0..count).map(|k| format!("{MASK}.{k}")));
    refuse_gaps(file, wanted, count)?;
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    file.refuse_others(&known, "sequences of the network's inputs, target and mask")?;

    for k in 0..count {
        let (frames, _) = read_arrays(file, wanted, &format!(".{k}"), &[Dimension::Any("T")], data)?;
        if frames > 0 {
            data.starts.push(data.frames);
            data.frames += frames;
        }
    }
    Ok(())
}

/// Reads a file that is a list of sequences with a symbol for each.
fn read_labelled(file: &mut ArrayFile, wanted: &[Wanted], data: &mut Sequences) -> Result<(), TrainError> {
    let Some((target, inputs)) = wanted.split_last() else { return Ok(()) };
    let array = file.read_shaped(LABEL, &[Dimension::Any("K")])?;
    if !target.symbols {
        let expected = "targets of numbers, `target.0` and so on, for this loss";
        return Err(array.error(expected, "a class for each sequence").into());
    }
    let labels = array.symbols(target.size, true)?;
    let of = |k: usize| inputs.iter().map(move |w| format!("{}.{k}", w.name));
    let mut names: Vec<String> = (0..labels.len()).flat_map(of).collect();
    names.push(LABEL.into());
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    file.refuse_others(&known, "sequences of the network's inputs, numbered as `label` has symbols")?;
    for (k, &label) in labels.iter().enumerate() {
        let mut shape = vec![Dimension::Any("T")];
        for (w, column) in inputs.iter().zip(&mut data.columns) {
            let array = w.read(file, &format!(".{k}"), &shape)?;
            shape = vec![Dimension::Size(array.shape()[0])];
            w.append(&array, None, 1, column)?;
        }
        let [Dimension::Size(frames)] = shape[..] else { continue };
        if let Some(Column::Symbols(targets)) = data.columns.last_mut() {
            make_room(targets, frames, DATA)?;
            targets.extend(std::iter::repeat_n(label, frames));
        }
        let loss_mask = data.loss_mask.get_or_insert_default();
        make_room(loss_mask, frames, DATA)?;
        loss_mask.extend(std::iter::repeat_n(true, frames));
        if frames > 0 {
            data.starts.push(data.frames);
            data.frames += frames;
        }
    }
    Ok(())
}

/// Refuses sequences behind a number that is left out.
fn refuse_gaps(file: &ArrayFile, wanted: &[Wanted], count: usize) -> Result<(), TrainError> {
    let is_sequence = |stem: &str| stem == MASK || wanted.iter().any(|w| w.name == stem);
    let behind = |name: &String| match name.rsplit_once('.') {
        Some((stem, number)) => is_sequence(stem) && number.parse::<usize>().is_ok_and(|k| k >= count),
        None => false,
    };
    match file.names().into_iter().find(behind) {
        None => Ok(()),
        Some(array) => Err(FileError::Array {
            path: file.path().into(),
            array,
            expected: "sequences whose numbers run 0, 1, 2, .. without a gap, each with a target".into(),
            found: format!("no `{TARGET}.{count}`"),
        }
        .into()),
    }
}

/// Appends the arrays whose names end so. `any` is the shape of a number in each frame, of one stream or of several; gives
/// how many frames and streams there are.
fn read_arrays(
    file: &mut ArrayFile,
    wanted: &[Wanted],
    end: &str,
    any: &[Dimension<'_>],
    data: &mut Sequences,
) -> Result<(usize, usize), TrainError> {
    // The target says how many, and stands last: see `wanted`.
    let mut shape = any.to_vec();
    let (mut streams, mut mask) = (1, None);
    for (w, column) in wanted.iter().zip(&mut data.columns).rev() {
        let array = w.read(file, end, &shape)?;
        shape = array.shape()[..any.len()].iter().map(|&n| Dimension::Size(n)).collect();
        streams = array.shape()[..any.len()].get(1).copied().unwrap_or(1);
        if w.target {
            mask = read_flags(file, &format!("{MASK}{end}"), &shape)?;
        }
        w.append(&array, mask.as_deref().filter(|_| w.target), streams, column)?;
    }
    let [Dimension::Size(frames), ..] = shape[..] else { return Ok((0, 0)) };
    let loss_mask = data.loss_mask.get_or_insert_default();
    make_room(loss_mask, frames * streams, DATA)?;
    match mask {
        Some(flags) => loss_mask.extend(by_streams(&flags, streams)),
        None => loss_mask.extend(std::iter::repeat_n(true, frames * streams)),
    }
    Ok((frames, streams))
}

/// Reads truth values, if they are there.
fn read_flags(
    file: &mut ArrayFile,
    name: &str,
    shape: &[Dimension<'_>],
) -> Result<Option<Vec<bool>>, TrainError> {
    if !file.contains(name) {
        return Ok(None);
    }
    Ok(Some(file.read_shaped(name, shape)?.flags()?))
}

/// The values of all frames of some streams, stream by stream.
fn by_streams(flags: &[bool], streams: usize) -> impl Iterator<Item = bool> {
    (0..streams).flat_map(move |b| flags.iter().skip(b).step_by(streams)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Loss;
    use rnnc_graph::{Activation, Connect, Graph, Init};
    use rnnc_io::Elements;
    use rnnc_io::write_arrays;

    /// Input `x` of 2 numbers, output of 1 or, for cross-entropy, 3.
    fn network(loss: Loss) -> LossNetwork {
        let size = if loss == Loss::CrossEntropy { 3 } else { 1 };
        let mut graph = Graph::new("net");
        let x = graph.input("x", 2);
        let y = graph.sum("y", size, Activation::Identity);
        let w = graph.weight("y.W.x", &[size, 2], Init::Zeros);
        graph.connect(x, y, Connect::full(w));
        graph.output("y", y);
        loss.of(&graph, None).unwrap()
    }

    fn floats(name: &str, shape: &[usize]) -> Array {
        let n: usize = shape.iter().product();
        Array::new(name, shape, Elements::F32((0..n).map(|i| i as f32).collect()))
    }

    fn read(arrays: &[Array], loss: Loss) -> Result<Sequences, TrainError> {
        let directory = tempfile::tempdir().unwrap();
        write_arrays(&directory.path().join("d.npz"), arrays).unwrap();
        let (patterns, base) = (&["d.npz".into()], directory.path());
        read_series(&DataFiles { setting: "data.files", patterns, base }, &network(loss))
    }

    #[test]
    fn columns_are_laid_end_to_end_with_resets_and_masks() {
        let data = read(
            &[
                floats("x", &[3, 2, 2]),
                floats("target", &[3, 2, 1]),
                Array::new(
                    "reset",
                    &[3, 2],
                    Elements::Booleans(vec![false, false, false, true, true, false]),
                ),
                Array::new("mask", &[3, 2], Elements::Integers(vec![1, 0, 1, 1, 1, 1])),
            ],
            Loss::MeanSquaredError,
        )
        .unwrap();
        let x = [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11].map(|i| i as f32).to_vec();
        let target = [0, 2, 4, 1, 3, 5].map(|i| i as f32).to_vec();
        assert_eq!(
            data,
            Sequences {
                columns: vec![
                    Column::Numbers { size: 2, values: x },
                    Column::Numbers { size: 1, values: target }
                ],
                starts: vec![0, 2, 3, 4],
                loss_mask: Some(vec![true, true, true, false, true, true]),
                frames: 6,
            }
        );
    }

    /// The target of four frames, of which a mask leaves out the second.
    fn masked(target: [f32; 4], loss: Loss) -> Result<Sequences, TrainError> {
        let arrays = [
            floats("x", &[4, 1, 2]),
            Array::new("target", &[4, 1, 1], Elements::F32(target.to_vec())),
            Array::new("mask", &[4, 1], Elements::Booleans(vec![true, false, true, true])),
        ];
        read(&arrays, loss)
    }

    #[test]
    fn a_target_that_no_loss_counts_may_be_anything() {
        for anything in [f32::NAN, f32::INFINITY, -7.0] {
            masked([0.0, anything, 1.0, 0.5], Loss::BinaryCrossEntropy).unwrap();
        }
        let error = masked([0.0, 0.0, f32::NAN, 0.0], Loss::MeanSquaredError).unwrap_err().to_string();
        assert!(error.contains("`mask` says which do") && error.contains("NaN at [2, 0, 0]"), "{error}");
    }

    #[test]
    fn a_target_that_the_loss_is_not_for_is_refused_with_its_place() {
        masked([3.0, 0.0, -2.0, 0.0], Loss::MeanSquaredError).unwrap();
        for wrong in [-0.5, 1.0001, 7.0] {
            let error = masked([0.0, 0.0, 1.0, wrong], Loss::BinaryCrossEntropy).unwrap_err().to_string();
            assert!(error.contains("numbers from 0 to 1") && error.contains("at [3, 0, 0]"), "{error}");
        }
    }

    #[test]
    fn a_list_of_sequences_of_any_lengths_is_read_in_order() {
        let arrays = [
            floats("x.0", &[1, 2]),
            floats("x.1", &[2, 2]),
            Array::new("target.0", &[1], Elements::Integers(vec![2])),
            Array::new("target.1", &[2], Elements::Integers(vec![-1, 0])),
            Array::new("mask.1", &[2], Elements::Booleans(vec![true, false])),
        ];
        let data = read(&arrays, Loss::CrossEntropy).unwrap();
        assert_eq!((data.frames, &data.starts[..]), (3, &[0, 1][..]));
        assert_eq!(data.columns[1], Column::Symbols(vec![2, rnnc_plan::NO_SYMBOL, 0]));
        assert_eq!(data.loss_mask, Some(vec![true, true, false]));
    }

    #[test]
    fn a_label_is_the_target_of_all_frames_of_its_sequence() {
        let label =
            |labels: &[i64]| Array::new("label", &[labels.len()], Elements::Integers(labels.to_vec()));
        let sequences = [floats("x.0", &[1, 2]), floats("x.1", &[0, 2]), floats("x.2", &[3, 2])];
        let with = |labels: &[i64]| [&sequences[..], &[label(labels)]].concat();
        let data = read(&with(&[2, 1, 0]), Loss::CrossEntropy).unwrap();
        assert_eq!((data.frames, &data.starts[..]), (4, &[0, 1][..]));
        assert_eq!(data.columns[1], Column::Symbols(vec![2, 0, 0, 0]));
        let error = |labels: &[i64], loss| read(&with(labels), loss).unwrap_err().to_string();
        assert!(
            error(&[2, 1], Loss::CrossEntropy)
                .contains("array `x.2`: expected sequences of the network's inputs")
        );
        assert!(
            error(&[2, 1, 0, 1], Loss::CrossEntropy).contains("array `x.3`: expected an array of this name")
        );
        assert!(error(&[2, 1, 3], Loss::CrossEntropy).contains("array `label`"));
        assert!(
            error(&[2, 1, 0], Loss::MeanSquaredError).contains("array `label`: expected targets of numbers")
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |arrays: &[Array]| {
            let message = read(arrays, Loss::MeanSquaredError).unwrap_err().to_string();
            message.split_once("d.npz: ").unwrap().1.to_string()
        };
        let target = floats("target", &[3, 2, 1]);
        assert_eq!(
            error(&[floats("x", &[4, 2, 2]), target.clone()]),
            "array `x`: expected shape [3, 2, 2], found shape [4, 2, 2]"
        );
        assert_eq!(
            error(std::slice::from_ref(&target)),
            "array `x`: expected an array of this name, found only `target`"
        );
        assert_eq!(
            error(&[floats("x", &[3, 2, 2]), target, floats("z", &[1])]),
            "array `z`: expected the network's inputs, the target, resets and mask (`x`, `target`, `reset`, `mask`), \
             found an array of another name"
        );
        assert_eq!(
            error(&[floats("x", &[3, 2, 2]), floats("target", &[3, 2])]),
            "array `target`: expected shape [T, B, 1], found shape [3, 2] (of a single unit, `target[..., None]` has it)"
        );
        assert_eq!(
            error(&[floats("x.0", &[3, 2]), floats("target.0", &[3])]),
            "array `target.0`: expected shape [T, 1], found shape [3] (of a single unit, `target.0[..., None]` has it)"
        );
        let (gap, behind) = (floats("x.2", &[3, 2]), floats("target.2", &[3, 1]));
        assert_eq!(
            error(&[floats("x.0", &[3, 2]), floats("target.0", &[3, 1]), gap, behind]),
            "array `target.2`: expected sequences whose numbers run 0, 1, 2, .. without a gap, each with a target, found \
             no `target.1`"
        );
        let bad = Array::new("target", &[1, 1, 1], Elements::F64(vec![f64::NAN]));
        assert_eq!(
            error(&[floats("x", &[1, 1, 2]), bad]),
            "array `target`: expected finite numbers in frames whose loss counts (`mask` says which do), found NaN at [0, 0, 0]"
        );
    }

    #[test]
    fn arrays_without_frames_are_no_data() {
        let error = read(&[floats("x", &[0, 2, 2]), floats("target", &[0, 2, 1])], Loss::MeanSquaredError);
        assert!(error.unwrap_err().to_string().starts_with("there is no data"));
    }
}

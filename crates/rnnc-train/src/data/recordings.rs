//! Sound as data: recordings of what goes into a device, and of what comes out of it, in pairs of WAV files.

use crate::data::files::DataFiles;
use crate::data::sequences::{Column, Sequences};
use crate::error::TrainError;
use crate::task::losses::LossNetwork;
use rnnc_graph::{LayerKind, count};
use rnnc_io::{Audio, make_room, read_audio};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// How the name of a recording ends that goes in.
const INPUT: &str = "-input.wav";
/// How the name of the one ends that comes out.
const TARGET: &str = "-target.wav";

/// Reads pairs of files `NAME-input.wav` and `NAME-target.wav` as data for a network with a loss: each pair is a sequence, and each
/// sample of all channels a frame. The files that are named are the inputs; targets may be among them, as where a glob names all.
///
/// # Errors
/// A file of another name, or without its other half; recordings that differ in length or rate, or have other channels than the
/// network has units; a network of other inputs than one vector; a loss of symbols.
pub fn read_recordings(named: &DataFiles<'_>, network: &LossNetwork) -> Result<Sequences, TrainError> {
    let (units, target_units) = sizes(network)?;
    let mut inputs = vec![];
    let mut targets = vec![];
    let mut data = Sequences::default();
    let mut first: Option<(PathBuf, u32)> = None;
    let paths = named.paths()?;
    for path in &paths {
        let Some(other) = other_half(path, INPUT, TARGET) else {
            let is_target = other_half(path, TARGET, INPUT).is_some_and(|input| paths.contains(&input));
            if is_target {
                continue;
            }
            return Err(TrainError::file(
                path,
                format!(
                    "recordings come in pairs: call what goes in `NAME{INPUT}`, and what comes out `NAME{TARGET}`, beside it"
                ),
            ));
        };
        let (input, target) = (read_audio(path)?, read_audio(&other)?);
        check_channels(path, &input, units, "input")?;
        check_channels(&other, &target, target_units, "output")?;
        let (frames, rate) = (input.frames(), input.rate);
        if (target.frames(), target.rate) != (frames, rate) {
            return Err(TrainError::file(
                &other,
                format!(
                    "{} at {} Hz, and {} has {} at {rate} Hz: both halves of a pair are recorded together",
                    count(target.frames(), "frame"),
                    target.rate,
                    path.display(),
                    count(frames, "frame")
                ),
            ));
        }
        match &first {
            Some((other, expected)) if *expected != rate => {
                return Err(TrainError::file(
                    path,
                    format!(
                        "recorded at {rate} Hz, and {} at {expected} Hz: to a network a frame is a frame, so convert one",
                        other.display()
                    ),
                ));
            }
            Some(_) => {}
            None => first = Some((path.clone(), rate)),
        }
        let (least, most) = network.targets;
        if let Some(sample) = target.samples.iter().find(|&&x| !(least..=most).contains(&f64::from(x))) {
            let problem =
                format!("has a sample of {sample}, and the loss takes targets from {least} to {most}");
            return Err(TrainError::file(&other, problem));
        }
        if frames > 0 {
            data.starts.push(data.frames);
            data.frames += frames;
        }
        for (to, from) in [(&mut inputs, input.samples), (&mut targets, target.samples)] {
            make_room(to, from.len(), "the data")?;
            to.extend(from);
        }
    }
    if data.frames == 0 {
        let problem = format!("there is no data: the files of `{}` have no frames", named.setting);
        return Err(TrainError::Setting(problem));
    }
    let column = |size, values| Column::Numbers { size, values };
    data.columns = vec![column(units, inputs), column(target_units, targets)];
    Ok(data)
}

/// The units of the network's input and of its target.
fn sizes(network: &LossNetwork) -> Result<(usize, usize), TrainError> {
    let graph = &network.graph;
    let problem =
        |problem: &str| Err(TrainError::Network { network: graph.name().into(), problem: problem.into() });
    let layers: Vec<_> = graph.inputs().iter().map(|&input| graph.layer_at(input)).collect();
    match layers[..] {
        [input, target] if input.kind == LayerKind::Input && target.kind == LayerKind::Input => {
            Ok((input.size, target.size))
        }
        [_, target] if target.kind != LayerKind::Input => problem(
            "sound has numbers as targets: `training.loss` must be one of vectors, such as \"mean_squared_error\"",
        ),
        _ => problem("sound is read by a network of one input, a vector with a unit for each channel"),
    }
}

fn check_channels(path: &Path, audio: &Audio, units: usize, what: &str) -> Result<(), TrainError> {
    if audio.channels == units {
        return Ok(());
    }
    let channels = count(audio.channels, "channel");
    let problem = format!("a sound of {channels}, and the network's {what} has {}", count(units, "unit"));
    Err(TrainError::file(path, problem))
}

/// The path of the other half of a pair, if the name ends as that of one half.
fn other_half(path: &Path, own: &str, other: &str) -> Option<PathBuf> {
    let name = path.file_name().and_then(OsStr::to_str)?;
    Some(path.with_file_name(format!("{}{other}", name.strip_suffix(own)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::losses::Loss;
    use rnnc_graph::{Activation, Connect, Graph};
    use rnnc_io::write_audio;

    /// y = x, `units` each.
    fn network(units: usize, loss: Loss) -> LossNetwork {
        let mut graph = Graph::new("net");
        let x = graph.input("x", units);
        let y = graph.sum("y", units, Activation::Identity);
        graph.connect(x, y, Connect::identity());
        graph.output("y", y);
        loss.of(&graph, None).unwrap()
    }

    fn audio(rate: u32, channels: usize, frames: usize) -> Audio {
        let samples = (0..frames * channels).map(|i| i as f32 / 100.0).collect();
        Audio { rate, channels, samples }
    }

    fn read(files: &[(&str, Audio)], patterns: &[&str], network: &LossNetwork) -> Result<Sequences, String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, audio) in files {
            write_audio(&directory.path().join(name), audio).unwrap();
        }
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.into()).collect();
        let named = DataFiles { setting: "data.files", patterns: &patterns, base: directory.path() };
        read_recordings(&named, network).map_err(|error| error.to_string())
    }

    #[test]
    fn each_pair_is_a_sequence_of_frames() {
        let files = [
            ("a-input.wav", audio(8000, 2, 3)),
            ("a-target.wav", audio(8000, 2, 3)),
            ("b-input.wav", audio(8000, 2, 5)),
            ("b-target.wav", audio(8000, 2, 5)),
        ];
        let network = network(2, Loss::MeanSquaredError);
        for patterns in [&["*-input.wav"][..], &["*.wav"], &["a-input.wav", "b-input.wav", "a-target.wav"]] {
            let data = read(&files, patterns, &network).unwrap();
            assert_eq!((data.frames, &data.starts[..]), (8, &[0, 3][..]));
            let expected: Vec<f32> = files[0].1.samples.iter().chain(&files[2].1.samples).copied().collect();
            for column in &data.columns {
                assert!(matches!(column, Column::Numbers { size: 2, values } if *values == expected));
            }
        }
    }

    #[test]
    fn recordings_that_do_not_fit_are_refused_with_what_to_do() {
        let network = network(1, Loss::MeanSquaredError);
        let pair = |input, target| [("a-input.wav", input), ("a-target.wav", target)];
        let one = |frames| audio(8000, 1, frames);
        for (files, patterns, expected) in [
            (pair(one(3), one(4)), "*-input.wav", "4 frames at 8000 Hz, and"),
            (pair(one(3), audio(9000, 1, 3)), "*-input.wav", "3 frames at 9000 Hz"),
            (
                pair(audio(8000, 2, 3), one(3)),
                "*-input.wav",
                "a sound of 2 channels, and the network's input has 1 unit",
            ),
            (pair(one(3), audio(8000, 2, 3)), "*-input.wav", "the network's output has 1 unit"),
            (pair(one(0), one(0)), "*-input.wav", "there is no data"),
            ([("a-input.wav", one(3)), ("b.wav", one(3))], "*-input.wav", "a-target.wav"),
            ([("a-input.wav", one(3)), ("b.wav", one(3))], "b.wav", "call what goes in `NAME-input.wav`"),
            ([("a-target.wav", one(3)), ("b.wav", one(3))], "a-target.wav", "recordings come in pairs"),
        ] {
            let error = read(&files, &[patterns], &network).unwrap_err();
            assert!(error.contains(expected), "{expected:?} is not in {error}");
        }
        let files = [
            ("a-input.wav", one(3)),
            ("a-target.wav", one(3)),
            ("b-input.wav", audio(9000, 1, 3)),
            ("b-target.wav", audio(9000, 1, 3)),
        ];
        assert!(read(&files, &["*.wav"], &network).unwrap_err().contains("so convert one"));
        let symbols = self::network(1, Loss::CrossEntropy);
        let error = read(&pair(one(3), one(3)), &["*.wav"], &symbols).unwrap_err();
        assert!(error.contains("`training.loss` must be one of vectors"), "{error}");
    }
}

//! What `run` and `grad` read: frames of some streams, in an `.npz` file, a sound in a `.wav` file, or the bytes of a text.
//!
//! One array for each input of the network, `[T, B, N]` floats or `[T, B]` integers for a symbol input; `reset`,
//! `[T, B]` of bool or uint8, may be left out; and for `grad`, for each output, the gradient of a scalar with
//! respect to it, `d_NAME`, `[T, B, N]`. Or, for `run`, a list of sequences, as `NAME.0` `[T, N]`, `NAME.1` and so on: these are laid
//! end to end on one stream. What only `train` reads, `target` and `mask`, may be there too, so that one file serves all.

use crate::failure::bad_input;
use crate::numbers::Numbers;
use rnnc_graph::{Graph, Layer, LayerKind, count};
use rnnc_io::{ArrayFile, Dimension, read_audio};
use rnnc_plan::Values;
use rnnc_train::{Column, DataFiles, Preparation, TableInputs, Text, read_table_inputs};
use rnnc_verify::{Array, Window};
use std::ops::Range;
use std::path::Path;

const RESET: &str = "reset";

/// What `train` reads beside inputs and resets.
const OF_TRAINING: [&str; 2] = ["target", "mask"];

/// The same of a list of sequences as a whole.
const LABEL: &str = "label";

/// T frames of B streams.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    /// T
    pub frames: usize,
    /// B
    pub streams: usize,
    /// One for each input of the network, in its order.
    inputs: Vec<Numbers>,
    /// Units of each input; 1 for symbols.
    sizes: Vec<usize>,
    resets: Option<Vec<bool>>,
    /// One for each output of the network, in its order; none for `run`.
    output_gradients: Vec<Numbers>,
    /// Of a sound, its frames a second.
    pub rate: Option<u32>,
    /// Of a list of sequences, how long each is.
    pub lengths: Option<Vec<usize>>,
    /// Of a table, the first row of each sequence, and what it is called.
    pub table: Option<Vec<(usize, Option<String>)>>,
}

/// Whether a path is that of a sound.
pub fn is_audio(path: &Path) -> bool {
    has_extension(path, "wav")
}

/// Whether a path is that of a table.
pub fn is_table(path: &Path) -> bool {
    has_extension(path, "csv")
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

/// How many numbers each input has in a row: of symbols one.
fn row_sizes(inputs: &[&Layer]) -> Vec<usize> {
    inputs.iter().map(|input| if input.kind == LayerKind::Symbol { 1 } else { input.size }).collect()
}

/// The name of the array of the gradient with respect to an input or an output.
pub fn gradient_name(name: &str) -> String {
    format!("d_{name}")
}

/// What becomes of the gradients with respect to outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputGradients {
    /// They may be there, so that one file serves `run` and `grad`, and are not read.
    Unread,
    /// All are read.
    Needed,
    /// All are read if one of them is there.
    IfThere,
}

impl Sequence {
    /// Reads the file.
    pub fn read(
        path: &Path,
        graph: &Graph,
        gradients: OutputGradients,
        double: bool,
    ) -> anyhow::Result<Sequence> {
        let inputs: Vec<_> = graph.inputs().iter().map(|&id| graph.layer_at(id)).collect();
        let outputs: Vec<_> =
            graph.outputs().iter().map(|o| (gradient_name(&o.name), graph.layer_at(o.layer).size)).collect();
        if let Some(input) =
            inputs.iter().find(|i| i.name == RESET || outputs.iter().any(|(d, _)| *d == i.name))
        {
            return bad_input(format!(
                "network `{}` has an input `{}`, and an array of that name means something else in {}: rename the input",
                graph.name(),
                input.name,
                path.display()
            ));
        }

        if is_audio(path) {
            return Sequence::of_audio(path, graph, gradients, double);
        }
        if let [Layer { kind: LayerKind::Symbol, size, .. }] = inputs[..]
            && !has_extension(path, "npz")
            && gradients != OutputGradients::Needed
        {
            return Sequence::of_text(path, *size);
        }
        let mut file = ArrayFile::open(path)?;
        if inputs.iter().any(|i| file.contains(&format!("{}.0", i.name))) {
            if gradients == OutputGradients::Needed {
                return bad_input(format!(
                    "{}: this is a list of sequences (`{}.0`, ..), which `run` and `train` read: for gradients an array holds \
                     streams side by side, [T, B, ..]",
                    path.display(),
                    inputs[0].name
                ));
            }
            return Sequence::of_list(&mut file, &inputs, double);
        }
        let known: Vec<&str> = inputs
            .iter()
            .map(|i| &*i.name)
            .chain(outputs.iter().map(|(d, _)| &**d))
            .chain([RESET])
            .chain(OF_TRAINING)
            .collect();
        file.refuse_others(
            &known,
            "the network's inputs, gradients of its outputs, `reset`, and `target` and `mask` of training",
        )?;

        let mut extent = Extent::default();
        let mut values = Vec::new();
        for input in &inputs {
            values.push(if input.kind == LayerKind::Symbol {
                Numbers::Symbols(extent.read(&mut file, &input.name, None)?.symbols(input.size, false)?)
            } else {
                Numbers::floats(&extent.read(&mut file, &input.name, Some(input.size))?, double)?
            });
        }
        let mut output_gradients = Vec::new();
        let are_read = match gradients {
            OutputGradients::Unread => false,
            OutputGradients::Needed => true,
            OutputGradients::IfThere => outputs.iter().any(|(name, _)| file.contains(name)),
        };
        for (name, size) in outputs.iter().filter(|_| are_read) {
            output_gradients.push(Numbers::floats(&extent.read(&mut file, name, Some(*size))?, double)?);
        }
        let mut resets = None;
        if file.contains(RESET) {
            resets = Some(extent.read(&mut file, RESET, None)?.flags()?);
        }
        let Some((frames, streams)) = extent.0 else {
            return bad_input(format!(
                "{}: network `{}` has no inputs, so that only `{RESET}`, of shape [T, B], can say how many frames and \
                 streams to run, and the file has none",
                path.display(),
                graph.name()
            ));
        };
        Ok(Sequence {
            frames,
            streams,
            inputs: values,
            sizes: row_sizes(&inputs),
            resets,
            output_gradients,
            ..Sequence::default()
        })
    }

    /// The sequences of a list, laid end to end on one stream: each begins with a reset.
    fn of_list(file: &mut ArrayFile, inputs: &[&Layer], double: bool) -> anyhow::Result<Sequence> {
        let first = &inputs[0].name;
        let count = (0..).take_while(|k| file.contains(&format!("{first}.{k}"))).count();
        let of =
            |k: usize| inputs.iter().map(|i| &*i.name).chain(OF_TRAINING).map(move |n| format!("{n}.{k}"));
        let mut names: Vec<String> = (0..count).flat_map(of).collect();
        names.push(LABEL.into());
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        file.refuse_others(
            &known,
            "sequences of the network's inputs, numbered 0, 1, 2, .., and `target` and `mask` of training",
        )?;
        let empty = |input: &&Layer| match input.kind {
            LayerKind::Symbol => Numbers::Symbols(Vec::new()),
            _ => Numbers::zeros(0, double),
        };
        let mut values: Vec<Numbers> = inputs.iter().map(empty).collect();
        let (mut lengths, mut resets) = (Vec::new(), Vec::new());
        for k in 0..count {
            let mut frames = Dimension::Any("T");
            for (input, values) in inputs.iter().zip(&mut values) {
                let name = format!("{}.{k}", input.name);
                let symbols = input.kind == LayerKind::Symbol;
                let shape = [frames, Dimension::Units(input.size)];
                let array = file.read_shaped(&name, &shape[..if symbols { 1 } else { 2 }])?;
                frames = Dimension::Size(array.shape()[0]);
                values.append(match symbols {
                    true => Numbers::Symbols(array.symbols(input.size, false)?),
                    false => Numbers::floats(&array, double)?,
                });
            }
            let Dimension::Size(frames) = frames else { continue };
            lengths.push(frames);
            resets.extend((0..frames).map(|t| t == 0));
        }
        if resets.is_empty() {
            return bad_input(format!("{}: its sequences have no frames", file.path().display()));
        }
        Ok(Sequence {
            frames: resets.len(),
            streams: 1,
            inputs: values,
            sizes: row_sizes(inputs),
            resets: Some(resets),
            lengths: Some(lengths),
            ..Sequence::default()
        })
    }

    /// The rows of a table as one stream, as a network reads them that was trained so; each sequence begins with a reset.
    pub fn of_table(path: &Path, graph: &Graph, preparation: &Preparation) -> anyhow::Result<Sequence> {
        let inputs: Vec<_> = graph.inputs().iter().map(|&id| graph.layer_at(id)).collect();
        if let Some(symbol) = inputs.iter().find(|input| input.kind == LayerKind::Symbol) {
            return bad_input(format!(
                "{}: input `{}` is a symbol, and the columns of tables are numbers",
                path.display(),
                symbol.name
            ));
        }
        let sizes: Vec<usize> = inputs.iter().map(|input| input.size).collect();
        let TableInputs { inputs, sequences, rows } = read_table_inputs(path, &sizes, preparation)?;
        let mut resets = vec![false; rows];
        sequences.iter().for_each(|&(row, _)| resets[row] = true);
        Ok(Sequence {
            frames: rows,
            streams: 1,
            inputs: inputs.into_iter().map(Numbers::Single).collect(),
            sizes,
            resets: Some(resets),
            table: Some(sequences),
            ..Sequence::default()
        })
    }

    /// The bytes of a text as one stream, each a symbol of a frame.
    fn of_text(path: &Path, symbols: usize) -> anyhow::Result<Sequence> {
        let patterns = [path.display().to_string()];
        let files = DataFiles { setting: "--input", patterns: &patterns, base: Path::new("") };
        let text = Text::read(&files)?;
        let frames = text.len();
        let bytes = text.sequences(symbols)?.columns.into_iter().find_map(|column| match column {
            Column::Bytes(bytes) => Some(bytes),
            _ => None,
        });
        let symbols = bytes.unwrap_or_default().into_iter().map(u32::from).collect();
        Ok(Sequence {
            frames,
            streams: 1,
            inputs: vec![Numbers::Symbols(symbols)],
            sizes: vec![1],
            ..Sequence::default()
        })
    }

    /// A sound as one stream, each sample of all channels a frame.
    fn of_audio(
        path: &Path,
        graph: &Graph,
        gradients: OutputGradients,
        double: bool,
    ) -> anyhow::Result<Sequence> {
        let inputs: Vec<_> = graph.inputs().iter().map(|&id| graph.layer_at(id)).collect();
        let [Layer { kind: LayerKind::Input, size, .. }] = inputs[..] else {
            return bad_input(format!(
                "{}: a sound is read by a network of one input, a vector with a unit for each channel; `{}` has others",
                path.display(),
                graph.name()
            ));
        };
        if gradients == OutputGradients::Needed {
            return bad_input(format!(
                "{}: a sound has no gradients of outputs: give arrays, `d_NAME` among them",
                path.display()
            ));
        }
        let audio = read_audio(path)?;
        if audio.channels != *size {
            return bad_input(format!(
                "{}: a sound of {}, and the input of network `{}` has {}",
                path.display(),
                count(audio.channels, "channel"),
                graph.name(),
                count(*size, "unit")
            ));
        }
        let frames = audio.frames();
        let values = match double {
            true => Numbers::Double(audio.samples.into_iter().map(f64::from).collect()),
            false => Numbers::Single(audio.samples),
        };
        Ok(Sequence {
            frames,
            streams: 1,
            inputs: vec![values],
            sizes: vec![*size],
            rate: Some(audio.rate),
            ..Sequence::default()
        })
    }

    /// The inputs in some of the frames.
    pub fn inputs(&self, frames: &Range<usize>) -> Vec<Values<'_>> {
        let row = |size: usize| frames.start * self.streams * size..frames.end * self.streams * size;
        self.inputs.iter().zip(&self.sizes).map(|(input, &size)| input.part(row(size))).collect()
    }

    /// The resets in some of the frames.
    pub fn resets(&self, frames: &Range<usize>) -> Option<&[bool]> {
        self.resets.as_deref().map(|r| &r[frames.start * self.streams..frames.end * self.streams])
    }

    /// Gives a window of as many frames and streams these inputs and resets, and these gradients of outputs, if there are any.
    pub fn give(self, window: &mut Window) {
        let array = |numbers: Numbers| match numbers {
            Numbers::Single(values) => Array::Numbers(values),
            Numbers::Double(values) => Array::Numbers(values.into_iter().map(|x| x as f32).collect()),
            Numbers::Symbols(symbols) => Array::Symbols(symbols),
        };
        window.resets = self.resets;
        window.inputs = self.inputs.into_iter().map(array).collect();
        for (into, given) in window.output_gradients.iter_mut().zip(self.output_gradients) {
            if let Array::Numbers(values) = array(given) {
                *into = Some(values);
            }
        }
    }

    /// The gradients with respect to the outputs, in all frames.
    pub fn output_gradients(&self) -> Vec<Option<Values<'_>>> {
        self.output_gradients.iter().map(|g| Some(g.all())).collect()
    }
}

/// T and B, as the first array said.
#[derive(Default)]
struct Extent(Option<(usize, usize)>);

impl Extent {
    /// Reads an array of as many frames and streams.
    fn read(
        &mut self,
        file: &mut ArrayFile,
        name: &str,
        size: Option<usize>,
    ) -> anyhow::Result<rnnc_io::Array> {
        let mut expected = match self.0 {
            None => vec![Dimension::Any("T"), Dimension::Any("B")],
            Some((frames, streams)) => vec![Dimension::Size(frames), Dimension::Size(streams)],
        };
        expected.extend(size.map(Dimension::Size));
        let array = file.read_shaped(name, &expected)?;
        let (frames, streams) = (array.shape()[0], array.shape()[1]);
        if frames == 0 || streams == 0 {
            return Err(array
                .error("at least one frame and one stream", format!("shape {:?}", array.shape()))
                .into());
        }
        self.0 = Some((frames, streams));
        Ok(array)
    }
}

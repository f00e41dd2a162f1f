//! `rnnc run`: a network over arrays.

use crate::executors::ExecutorArgs;
use crate::failure::{Outcome, bad_input};
use crate::network::NetworkArgs;
use crate::numbers::Numbers;
use crate::outputs::{are_same, check_output};
use crate::sequence::{OutputGradients, Sequence, is_audio, is_table};
use crate::tables::TrainedOnTables;
use clap::Args;
use rnnc_graph::Graph;
use rnnc_io::{Audio, Weights, read_state, write_arrays, write_audio, write_state};
use rnnc_plan::{PlanOptions, check_available};
use rnnc_train::About;
use std::io::Write;
use std::path::PathBuf;

/// Long inputs run in windows of so many frames. Of a causal network, that changes no value.
const WINDOW: usize = 1024;

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
IN.npz holds one array for each input of the network, named like it: [T, B, N] (T frames of B streams) \
floats of any width, or integers that these hold exactly, or [T, B] integers for a symbol input; and it may hold `reset`, [T, B] bool or uint8, which is true where a stream begins a \
new sequence. (Arrays `d_NAME`, which `grad` reads, and `target` and `mask`, which `train` reads, may be there too.) OUT.npz gets one array [T, B, N] for each \
output.

A state file holds, for each layer that is read with a delay, `LAYER` [D, B, N], its last D frames, oldest first; and \
`since_reset` [B], how many frames ago each stream began or was reset. Without --state-in all streams begin.

IN.npz may also be a list of sequences, as `train` reads them: `NAME.0` [T, N], `NAME.1` and so on, each of its own length and run from \
its start; OUT.npz gets `OUTPUT.0`, `OUTPUT.1` and so on. A network of one symbol input also reads a text: any file whose name does \
not end in .npz, each byte a frame of one stream.

A network of one vector input may also read a sound, SOUND.wav: each sample of all channels is a frame of one stream. If it has one \
output, it may write one, of the same rate.

With a checkpoint that was trained on tables, IN.csv is a table with the columns of its inputs, and OUT.csv one with a row for each of \
its rows: the targets' columns in their own units, or `class` and the output's units, one a class.

Numbers are written as float32, and by the reference executor as float64.

Examples:
  rnnc init net.rnn --output w.safetensors
  rnnc run net.rnn --weights w.safetensors --input in.npz --output out.npz
  rnnc run amp.rnn --weights run/best.safetensors --input clean.wav --output driven.wav
  python -c 'import numpy; numpy.savez(\"in.npz\", x=numpy.zeros((100, 1, 3), \"float32\"))'  # 100 frames of 1 stream")]
pub struct Run {
    #[command(flatten)]
    network: NetworkArgs,
    /// The weights, as `init` and `train` write them
    #[arg(long, value_name = "W.safetensors")]
    weights: PathBuf,
    /// The inputs, a table, a sound, or a text
    #[arg(long, value_name = "IN.npz|IN.csv|IN.wav|IN.txt")]
    input: PathBuf,
    /// Where to write the outputs, a table, or a sound
    #[arg(long, value_name = "OUT.npz|OUT.csv|OUT.wav")]
    output: PathBuf,
    /// The state to go on from
    #[arg(long, value_name = "S.npz")]
    state_in: Option<PathBuf>,
    /// Where to write the state after the last frame
    #[arg(long, value_name = "S.npz")]
    state_out: Option<PathBuf>,
    #[command(flatten)]
    executor: ExecutorArgs,
}

impl Run {
    /// Runs the network.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let network = ("the network", Some(&*self.network.file));
        let weights = ("its weights", Some(&*self.weights));
        let input = ("its input", Some(&*self.input));
        let state = ("the state to go on from", self.state_in.as_deref());
        check_output("--output", &self.output, &[network, weights, input, state])?;
        if let Some(path) = &self.state_out {
            // A state may be brought up to date.
            check_output("--state-out", path, &[network, weights, input])?;
            if are_same(path, &self.output) {
                return bad_input(
                    "`--output` and `--state-out` name the same file: name another for one of them",
                );
            }
        }
        let double = self.executor.executor.is_double();
        let graph = self.network.read()?;
        let to_audio = is_audio(&self.output);
        if to_audio && (!is_audio(&self.input) || graph.outputs().len() != 1) {
            return bad_input(format!(
                "{}: a sound is written of a network's only output, where its input is a sound too; name a file that ends in .npz",
                self.output.display()
            ));
        }
        let weights = Weights::load(&self.weights, &graph)?;
        let trained = if is_table(&self.input) { Some(self.tables(&graph)?) } else { None };
        if is_table(&self.output) && trained.is_none() {
            return bad_input(format!(
                "{}: a table is written where the input is one; name a file that ends in .npz",
                self.output.display()
            ));
        }
        let sequence = match &trained {
            Some(trained) => Sequence::of_table(&self.input, &graph, &trained.preparation)?,
            None => Sequence::read(&self.input, &graph, OutputGradients::Unread, double)?,
        };
        let (frames, streams) = (sequence.frames, sequence.streams);

        if sequence.lengths.is_some() && (self.state_in.is_some() || self.state_out.is_some()) {
            return bad_input(format!(
                "{}: each sequence of a list runs from its start, and so neither from a state nor to one: leave out --state-in and --state-out",
                self.input.display()
            ));
        }
        if graph.looks_ahead() && (self.state_in.is_some() || self.state_out.is_some()) {
            // The outputs are worth more than a terminal that is closed.
            let _ = writeln!(
                std::io::stderr(),
                "warning: network `{}` looks ahead: frames at the end of one run do not see those of the next, so \
                 runs that go on from a state give other values there than one run of all frames",
                graph.name()
            );
        }

        // What looks ahead must see all.
        let window = if graph.looks_ahead() { frames } else { frames.min(WINDOW) };
        let mut executor = self.executor.make(&graph, PlanOptions::inference(streams, window), &weights)?;
        if let Some(path) = &self.state_in {
            let state = read_state(path, &executor.forward_state()?)?;
            executor.set_state(&state)?;
        }

        let sizes: Vec<usize> = graph.outputs().iter().map(|o| graph.layer_at(o.layer).size).collect();
        check_available(
            "holding the outputs of all frames",
            Numbers::bytes(frames, streams, &sizes, double),
        )?;
        let mut outputs: Vec<Numbers> =
            sizes.iter().map(|size| Numbers::zeros(frames * streams * size, double)).collect();
        for start in (0..frames).step_by(window) {
            let part = start..frames.min(start + window);
            executor.forward(part.len(), &sequence.inputs(&part), sequence.resets(&part))?;
            for (place, (output, size)) in outputs.iter_mut().zip(&sizes).enumerate() {
                let row = streams * size;
                executor.output(place, output.part_mut(part.start * row..part.end * row))?;
            }
        }

        if let Some(trained) = &trained {
            trained.unscale(&mut outputs, &sizes);
        }
        if let (Some(trained), true) = (&trained, is_table(&self.output)) {
            trained.write(&self.output, &outputs, &sizes, &sequence)?;
        } else if to_audio
            && let (Some(rate), [output], [channels]) = (sequence.rate, &mut outputs[..], &sizes[..])
        {
            let samples = std::mem::replace(output, Numbers::Single(Vec::new())).into_singles();
            write_audio(&self.output, &Audio { rate, channels: *channels, samples })?;
        } else {
            self.write_outputs(&graph, outputs, &sequence)?;
        }
        if let Some(path) = &self.state_out {
            write_state(path, executor.forward_state()?, double)?;
        }
        Ok(Outcome::Done)
    }

    /// What the weights' file says of tables.
    fn tables(&self, graph: &Graph) -> anyhow::Result<TrainedOnTables> {
        let about = About::read(&self.weights).ok().filter(|about| !about.preparation.is_none());
        let Some(About { preparation, identity, .. }) = about else {
            return bad_input(format!(
                "{}: it does not say which columns of a table the network reads: give a checkpoint of a run with `data.kind = \"csv\"`",
                self.weights.display()
            ));
        };
        let output = graph.outputs().iter().position(|output| output.name == identity.output).unwrap_or(0);
        Ok(TrainedOnTables { preparation, output })
    }

    fn write_outputs(&self, graph: &Graph, outputs: Vec<Numbers>, sequence: &Sequence) -> anyhow::Result<()> {
        let (frames, streams) = (sequence.frames, sequence.streams);
        let names = graph.outputs().iter().map(|o| (&o.name, graph.layer_at(o.layer).size));
        if let Some(lengths) = &sequence.lengths {
            let mut arrays = Vec::new();
            for (output, (name, size)) in outputs.iter().zip(names) {
                let mut start = 0;
                for (k, &length) in lengths.iter().enumerate() {
                    let part = output.copied(start * size..(start + length) * size);
                    arrays.push(part.into_array(format!("{name}.{k}"), &[length, size]));
                    start += length;
                }
            }
            return Ok(write_arrays(&self.output, &arrays)?);
        }
        let arrays: Vec<_> = outputs
            .into_iter()
            .zip(names)
            .map(|(output, (name, size))| output.into_array(name, &[frames, streams, size]))
            .collect();
        Ok(write_arrays(&self.output, &arrays)?)
    }
}

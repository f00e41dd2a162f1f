//! `rnnc grad`: gradients of weights and inputs.

use crate::executors::ExecutorArgs;
use crate::failure::Outcome;
use crate::network::NetworkArgs;
use crate::numbers::Numbers;
use crate::outputs::check_output;
use crate::sequence::{OutputGradients, Sequence, gradient_name};
use clap::Args;
use rnnc_graph::{LayerKind, WeightId};
use rnnc_io::{Weights, write_arrays};
use rnnc_plan::{ParameterArray, PlanOptions, check_available};
use std::path::PathBuf;

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
IN.npz holds what `rnnc run` reads, and for each output one array `d_NAME` [T, B, N]: the gradient of a scalar with \
respect to that output. GRADS.npz gets that scalar's gradients: one array for each weight, by its full name and in \
its shape, and `d_NAME` [T, B, N] for each vector input. Errors go back through all T frames; all streams begin at \
their start.

Numbers are written as float32, and by the reference executor as float64.

Example:
  rnnc grad net.rnn --weights w.safetensors --input in.npz --output grads.npz")]
pub struct Grad {
    #[command(flatten)]
    network: NetworkArgs,
    /// The weights, as `init` and `train` write them
    #[arg(long, value_name = "W.safetensors")]
    weights: PathBuf,
    /// The inputs and the gradients with respect to the outputs
    #[arg(long, value_name = "IN.npz")]
    input: PathBuf,
    /// Where to write the gradients
    #[arg(long, value_name = "GRADS.npz")]
    output: PathBuf,
    #[command(flatten)]
    executor: ExecutorArgs,
}

impl Grad {
    /// Computes the gradients.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let network = ("the network", Some(&*self.network.file));
        let weights = ("its weights", Some(&*self.weights));
        check_output("--output", &self.output, &[network, weights, ("its input", Some(&*self.input))])?;
        let double = self.executor.executor.is_double();
        let graph = self.network.read()?;
        let weights = Weights::load(&self.weights, &graph)?;
        let sequence = Sequence::read(&self.input, &graph, OutputGradients::Needed, double)?;
        let (frames, streams) = (sequence.frames, sequence.streams);

        let options = PlanOptions::training(streams, frames).with_input_gradients();
        let mut executor = self.executor.make(&graph, options, &weights)?;
        let all = 0..frames;
        executor.forward(frames, &sequence.inputs(&all), sequence.resets(&all))?;
        executor.backward(frames, &sequence.output_gradients())?;

        let weights = graph.weights().iter().map(|weight| weight.len());
        let inputs = graph.inputs().iter().map(|&id| graph.layer_at(id).size);
        let (weights, inputs) = (weights.collect::<Vec<_>>(), inputs.collect::<Vec<_>>());
        let bytes = Numbers::bytes(1, 1, &weights, double) + Numbers::bytes(frames, streams, &inputs, double);
        check_available("holding the gradients of all weights and inputs", bytes)?;
        let mut arrays = Vec::new();
        for (place, weight) in graph.weights().iter().enumerate() {
            let mut gradient = Numbers::zeros(weight.len(), double);
            executor.read(
                ParameterArray::Gradient,
                WeightId::from_index(place),
                gradient.part_mut(0..weight.len()),
            )?;
            arrays.push(gradient.into_array(&weight.name, &weight.shape));
        }
        for (place, &id) in graph.inputs().iter().enumerate() {
            let layer = graph.layer_at(id);
            if layer.kind == LayerKind::Symbol {
                continue;
            }
            let count = frames * streams * layer.size;
            let mut gradient = Numbers::zeros(count, double);
            executor.input_gradient(place, gradient.part_mut(0..count))?;
            arrays.push(gradient.into_array(gradient_name(&layer.name), &[frames, streams, layer.size]));
        }
        write_arrays(&self.output, &arrays)?;
        Ok(Outcome::Done)
    }
}

//! The reference executor: windows of frames, forward, backward, update, state.

use crate::before::Before;
use crate::borders::{self, copy_out};
use crate::gradients;
use crate::network::{Network, Surroundings, width};
use crate::non_finite::{NonFinite, NonFiniteDerivative, first_to_leave};
use crate::order::{self, Pair};
use crate::rounding::Roundings;
use crate::update::{self, Learned};
use crate::window::{Place, Window};
use rnnc_graph::{Adjoint, AdjointOptions, Graph, GraphError, Layer, LayerId, LayerKind, Output, WeightId};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, History, Kept, ParameterArray, Plan, State, Update, Values,
    ValuesMut, check_available,
};
use std::ops::Range;

/// Runs a plan's network frame by frame, in double precision, on the caller's thread.
///
/// ```
/// use rnnc_graph::{Activation, Connect, Graph};
/// use rnnc_plan::{ExecutionConfig, Executor, Plan, PlanOptions, Values, ValuesMut};
/// // s counts: s = x + s[t-1]
/// let mut graph = Graph::new("counter");
/// let x = graph.input("x", 1);
/// let s = graph.sum("s", 1, Activation::Identity);
/// graph.connect(x, s, Connect::identity());
/// graph.connect(s, s, Connect::identity().delay(1));
/// graph.output("s", s);
///
/// let plan = Plan::new(&graph, PlanOptions::inference(1, 3)).unwrap();
/// let mut executor = rnnc_reference::ReferenceExecutor::new(plan, ExecutionConfig::new(1, 3)).unwrap();
/// executor.forward(3, &[Values::F64(&[1.0, 2.0, 3.0])], None).unwrap();
/// let mut sums = [0.0; 3];
/// executor.output(0, ValuesMut::F64(&mut sums)).unwrap();
/// assert_eq!(sums, [1.0, 3.0, 6.0]);
/// ```
pub struct ReferenceExecutor {
    plan: Plan,
    config: ExecutionConfig,
    weights: Vec<Vec<f64>>,
    learned: Vec<Learned>,
    forward: Network,
    adjoint: Option<Network>,
    /// The layers that depend on parameters alone, and what carries their errors back.
    constants: Option<(Network, Network)>,
    /// What carries errors to the state before a window.
    before: Option<Before>,
    window: Window,
    /// How many past frames the forward network reads.
    depths: Vec<usize>,
    /// Frames run in every stream since the beginning.
    frames_run: u64,
    /// How many of the window's frames errors can go back through: those run, or kept by a state.
    kept: usize,
    /// The frames of the last forward call.
    new: usize,
    /// The frames of the last backward call, 0 before the first.
    back: usize,
    /// The forward network's layers in the frames of the last call, in the order of their computation.
    order: Vec<Pair>,
    /// Where the last backward call left the numbers that are finite.
    left: Option<NonFiniteDerivative>,
    roundings: Roundings,
}

impl ReferenceExecutor {
    /// Makes an executor; weights begin as 0, every stream at its start. Of the config, `threads` has no bearing:
    /// this executor has none of its own.
    ///
    /// # Errors
    /// Streams, step or window out of bounds; a step shorter than the window for a network that looks ahead; more
    /// memory than the machine has.
    pub fn new(plan: Plan, config: ExecutionConfig) -> Result<ReferenceExecutor, ExecutorError> {
        plan.check_config(NAME, config)?;
        let graph = &plan.forward;
        check_memory(&plan, config)?;
        let zeros = || graph.weights().iter().map(|w| vec![0.0; w.len()]);
        let derived = graph.derived().iter().map(|w| vec![0.0; w.len()]);
        let constants = plan.constants.as_ref().map(|constants| {
            let Adjoint { forward, graph, .. } =
                Adjoint::of_normal(constants.graph.clone(), AdjointOptions::default())?;
            Ok((Network::new(&forward, 1), Network::new(&graph, 1)))
        });
        let constants = constants.transpose().map_err(|error: GraphError| ExecutorError::Unsupported {
            executor: NAME,
            what: error.to_string(),
        })?;
        let slots = if plan.adjoint.is_some() { config.optimizer.slots().len() } else { 0 };
        Ok(ReferenceExecutor {
            weights: zeros().chain(derived).collect(),
            constants,
            before: plan.state_adjoint.as_ref().map(|state| Before::new(state, graph, config.streams)),
            learned: zeros().map(|z| Learned { slots: vec![z.clone(); slots], gradient: z }).collect(),
            forward: Network::new(graph, config.streams),
            adjoint: plan.adjoint.as_ref().map(|adjoint| Network::new(adjoint, config.streams)),
            window: Window::new(config.streams),
            depths: graph.history_depths(),
            frames_run: 0,
            kept: 0,
            new: 0,
            back: 0,
            order: Vec::new(),
            left: None,
            roundings: Roundings::default(),
            plan,
            config,
        })
    }

    /// Gives every number that it computes a random error of up to `unit` of its size: so results show what roundings of an
    /// executor of that precision may do to them. Errors are drawn by `seed`.
    pub fn with_rounding(self, unit: f64, seed: u64) -> ReferenceExecutor {
        ReferenceExecutor { roundings: Roundings { unit, seed }, ..self }
    }

    /// The values of a layer of the plan's forward graph in the frames of the last forward call:
    /// `[frames, B, N]`. A symbol layer has one number, -1 for no symbol.
    pub fn layer_values(&self, layer: LayerId) -> &[f64] {
        let of_layer = &self.forward.layer_values[layer.index()];
        &of_layer.values[self.new_frames().start * of_layer.frame_len()..]
    }

    /// The first value of the last forward call, by frame and then in the order of computation, that is not
    /// finite or is larger than single precision holds.
    pub fn first_non_finite(&self) -> Option<NonFinite> {
        self.first_non_finite_of(|_, _, _| true)
    }

    /// The same of those layers, frames of the last forward call and streams for which `looks` holds.
    pub fn first_non_finite_of(&self, looks: impl Fn(LayerId, usize, usize) -> bool) -> Option<NonFinite> {
        self.first_of(f64::from(f32::MAX), looks)
    }

    /// The first value of the last forward call that is not a number or is larger than `most`.
    pub fn first_beyond(&self, most: f64) -> Option<NonFinite> {
        self.first_of(most, |_, _, _| true)
    }

    fn first_of(&self, most: f64, looks: impl Fn(LayerId, usize, usize) -> bool) -> Option<NonFinite> {
        let begin = self.new_frames().start;
        let given = |frame| {
            let layers = self.forward.graph.layer_ids().filter(|&id| self.forward.is_given(id));
            layers.map(move |layer| Pair { layer, frame })
        };
        let mut pairs: Vec<Pair> =
            self.new_frames().flat_map(given).chain(self.order.iter().copied()).collect();
        // Stable: given layers come first in their frame, the others as they were computed.
        pairs.sort_by_key(|pair| pair.frame);
        pairs.into_iter().find_map(|Pair { layer, frame }| {
            let mut streams = (0..self.config.streams).filter(|&stream| looks(layer, frame - begin, stream));
            streams.find_map(|stream| {
                let units = self.forward.layer_values[layer.index()].at(Place { frame, stream });
                let unit = units.iter().position(|x| x.is_nan() || x.abs() > most)?;
                let value = units[unit];
                Some(NonFinite { layer, frame: frame - begin, stream, unit, value })
            })
        })
    }

    /// Where the errors of the last backward call first left the numbers that are finite, in the order of computation.
    /// All that was read there was finite.
    pub fn first_non_finite_derivative(&self) -> Option<&NonFiniteDerivative> {
        self.left.as_ref()
    }

    /// The frames of the last forward call, in the window.
    fn new_frames(&self) -> Range<usize> {
        self.window.len() - self.new..self.window.len()
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            window: &self.window,
            first: 0,
            weights: &self.weights,
            saved: None,
            training: self.config.training,
            seed: self.config.seed,
            frames_before: self.frames_run.wrapping_sub(self.window.len() as u64),
            roundings: self.roundings,
        }
    }

    /// Forgets frames that neither an error goes back through nor a delayed read finds.
    fn drop_old_frames(&mut self) {
        let depth = self.depths.iter().copied().max().unwrap_or(0);
        let old = self.window.len().saturating_sub(self.config.window.saturating_add(depth));
        self.window.drop_oldest(old);
        for of_layer in &mut self.forward.layer_values {
            let len = of_layer.frame_len();
            of_layer.values.drain(..old * len);
        }
        self.kept = self.kept.min(self.window.len());
    }

    /// Computes the derived weights: the values of the constant layers in one frame.
    fn derive(&mut self) -> Result<(), ExecutorError> {
        let Some((mut network, adjoint)) = self.constants.take() else { return Ok(()) };
        let mut window = Window::new(1);
        window.push(1, None);
        for of_layer in &mut network.layer_values {
            of_layer.values.clear();
            of_layer.values.resize(of_layer.frame_len(), 0.0);
        }
        let around = Surroundings { window: &window, ..self.surroundings() };
        let order = order::run(&mut network, &around, 0..1);
        let learned = self.learned.len();
        for (weight, output) in self.weights[learned..].iter_mut().zip(network.graph.outputs()) {
            weight.copy_from_slice(&network.layer_values[output.layer.index()].values);
        }
        let result = order.map(drop).map_err(|pair| stuck(&network.graph, pair));
        self.constants = Some((network, adjoint));
        result
    }

    /// Adds to the gradients of the weights what those of the derived ones give.
    fn derive_back(&mut self, gradients: &mut [Vec<f64>]) -> Result<(), ExecutorError> {
        let Some((constants, mut network)) = self.constants.take() else { return Ok(()) };
        let mut window = Window::new(1);
        window.push(1, None);
        for of_layer in &mut network.layer_values {
            of_layer.values.clear();
            of_layer.values.resize(of_layer.frame_len(), 0.0);
        }
        for (id, errors) in network.graph.inputs().iter().zip(&gradients[self.learned.len()..]) {
            network.layer_values[id.index()].values.copy_from_slice(errors);
        }
        let around = Surroundings { window: &window, saved: Some(&constants), ..self.surroundings() };
        let order = order::run(&mut network, &around, 0..1);
        gradients::accumulate(&network, &around, 0..1, gradients);
        if let (None, Ok(order)) = (&self.left, &order) {
            let left = first_to_leave(&network, &around, order, &constants.graph);
            self.left = left.map(|left| NonFiniteDerivative { frame: None, ..left });
        }
        let result = order.map(drop).map_err(|pair| stuck(&network.graph, pair));
        self.constants = Some((constants, network));
        result
    }

    fn array(&self, part: ParameterArray, weight: WeightId) -> &[f64] {
        let learned = &self.learned[weight.index()];
        match part {
            ParameterArray::Weight => &self.weights[weight.index()],
            ParameterArray::Gradient => &learned.gradient,
            ParameterArray::Slot(slot) => &learned.slots[slot],
        }
    }
}

const NAME: &str = "reference";

impl Executor for ReferenceExecutor {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn config(&self) -> ExecutionConfig {
        self.config
    }

    fn forward(
        &mut self,
        frames: usize,
        inputs: &[Values<'_>],
        resets: Option<&[bool]>,
    ) -> Result<(), ExecutorError> {
        // All of the input is checked before anything changes.
        self.plan.check_inputs(self.config, frames, inputs, resets)?;
        self.derive()?;
        self.drop_old_frames();
        self.window.push(frames, resets);
        self.frames_run += frames as u64;
        self.kept += frames;
        self.new = frames;
        self.back = 0;
        let len = self.window.len();
        for of_layer in &mut self.forward.layer_values {
            of_layer.values.resize(len * of_layer.frame_len(), 0.0);
        }
        let new = self.new_frames();
        for (&id, &values) in self.plan.forward.inputs().iter().zip(inputs) {
            let of_layer = &mut self.forward.layer_values[id.index()];
            let start = new.start * of_layer.frame_len();
            borders::copy_in(values, &mut of_layer.values[start..]);
        }
        // The network is put aside so that what surrounds it can be borrowed.
        let mut network = std::mem::replace(&mut self.forward, Network::empty());
        let order = order::run(&mut network, &self.surroundings(), new);
        self.forward = network;
        self.order = order.map_err(|pair| stuck(&self.plan.forward, pair))?;
        Ok(())
    }

    fn output(&self, output: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        let Output { name, layer } = self.plan.check_output(output)?;
        let shape = [self.new, self.config.streams, self.plan.forward.layer_at(*layer).size];
        copy_out(name, &shape, self.layer_values(*layer), into)
    }

    fn backward(
        &mut self,
        frames: usize,
        output_gradients: &[Option<Values<'_>>],
    ) -> Result<(), ExecutorError> {
        self.backward_from(frames, output_gradients, &[])
    }

    fn backward_from(
        &mut self,
        frames: usize,
        output_gradients: &[Option<Values<'_>>],
        state_gradients: &[Option<Values<'_>>],
    ) -> Result<(), ExecutorError> {
        // Older frames are kept only where windows overlap.
        let most =
            if self.config.step == self.config.window { self.new } else { self.kept.min(self.config.window) };
        self.plan.check_output_gradients(self.config, self.new, most, frames, output_gradients)?;
        self.plan.check_state_gradients(self.config, state_gradients)?;
        self.derive()?;
        let Some(mut network) = self.adjoint.take() else { return Ok(()) };
        let len = self.window.len();
        for of_layer in &mut network.layer_values {
            of_layer.values.clear();
            of_layer.values.resize(len * of_layer.frame_len(), 0.0);
        }
        for (id, errors) in network.graph.inputs().iter().zip(output_gradients) {
            let of_layer = &mut network.layer_values[id.index()];
            let start = self.new_frames().start * of_layer.frame_len();
            if let Some(errors) = *errors {
                borders::copy_in(errors, &mut of_layer.values[start..]);
            }
        }
        let span = len - frames..len;
        let mut before = self.before.take();
        if let Some(before) = &mut before {
            before.begin(state_gradients, frames);
            before.seed(&mut network, self.plan.forward.outputs().len(), span.clone());
        }
        let around = Surroundings { first: span.start, saved: Some(&self.forward), ..self.surroundings() };
        let order = order::run(&mut network, &around, span.clone());
        let mut gradients: Vec<Vec<f64>> = self.weights.iter().map(|w| vec![0.0; w.len()]).collect();
        gradients::accumulate(&network, &around, span.clone(), &mut gradients);
        let before = before.map(|before| before.run(&network, &around, span)).transpose();
        let new = self.new_frames().start;
        let left = order
            .as_ref()
            .ok()
            .and_then(|order| first_to_leave(&network, &around, order, &self.plan.forward));
        let left = left.map(|left| NonFiniteDerivative {
            frame: left.frame.and_then(|frame| frame.checked_sub(new)),
            ..left
        });
        let result = order.map(drop).map_err(|pair| stuck(&network.graph, pair));
        self.adjoint = Some(network);
        self.before = before.map_err(|pair| stuck(&self.plan.forward, pair))?;
        self.left = left;
        self.derive_back(&mut gradients)?;
        for (learned, gradient) in self.learned.iter_mut().zip(gradients) {
            learned.gradient = gradient;
        }
        self.back = frames;
        result
    }

    fn state_gradient(&self, vector: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        let (layer, depth) = self.plan.check_state_gradient(vector, self.back)?;
        let Layer { name, size, .. } = self.plan.forward.layer_at(layer);
        let gradient = self.before.as_ref().map_or(&[][..], |before| before.gradient(vector));
        copy_out(name, &[depth, self.config.streams, *size], gradient, into)
    }

    fn input_gradient(&self, input: usize, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        let layer = self.plan.check_input_gradient(input, self.back)?;
        let Some(network) = &self.adjoint else { return Ok(()) };
        let (of_layer, Layer { name, size, .. }) =
            (&network.layer_values[layer.index()], network.graph.layer_at(layer));
        let start = (self.window.len() - self.back) * of_layer.frame_len();
        copy_out(name, &[self.back, self.config.streams, *size], &of_layer.values[start..], into)
    }

    fn update(&mut self, update: &Update) -> Result<f64, ExecutorError> {
        self.plan.check_update(self.config, update)?;
        Ok(update::update(&mut self.weights, &mut self.learned, update))
    }

    fn read(&self, part: ParameterArray, weight: WeightId, into: ValuesMut<'_>) -> Result<(), ExecutorError> {
        self.plan.check_weight(self.config, part, weight, into.len())?;
        let found = self.plan.forward.weight_at(weight);
        copy_out(&found.name, &found.shape, self.array(part, weight), into)
    }

    fn write(
        &mut self,
        part: ParameterArray,
        weight: WeightId,
        values: Values<'_>,
    ) -> Result<(), ExecutorError> {
        self.plan.check_written(self.config, part, weight, values)?;
        let learned = &mut self.learned[weight.index()];
        let array = match part {
            ParameterArray::Weight => &mut self.weights[weight.index()],
            ParameterArray::Gradient => &mut learned.gradient,
            ParameterArray::Slot(slot) => &mut learned.slots[slot],
        };
        borders::copy_in(values, array);
        Ok(())
    }

    fn state(&self) -> Result<State, ExecutorError> {
        Ok(State {
            kept: self.kept_state(),
            ..self.histories_state(0, self.window.next_since_reset(), self.frames_run)
        })
    }

    fn forward_state(&self) -> Result<State, ExecutorError> {
        Ok(self.histories_state(0, self.window.next_since_reset(), self.frames_run))
    }

    fn state_before(&self) -> Result<State, ExecutorError> {
        let frames = self.frames_run - self.new as u64;
        Ok(self.histories_state(self.new, self.window.previous_since_reset(), frames))
    }

    fn set_state(&mut self, state: &State) -> Result<(), ExecutorError> {
        state.check(&self.plan, self.config)?;
        let kept = state.kept_frames(&self.plan, self.config);
        let mut since_reset = Vec::new();
        let mut older: &[History] = &[];
        if let Some(found) = state.kept.as_ref().filter(|_| kept > 0) {
            since_reset.extend(&found.since_reset[(found.frames - kept) * self.config.streams..]);
            older = &found.layers;
        }
        since_reset.extend(&state.since_reset);
        let depth = self.depths.iter().copied().max().unwrap_or(0);
        self.window = Window::resume(depth, since_reset, self.config.streams);
        for of_layer in &mut self.forward.layer_values {
            of_layer.values.clear();
            of_layer.values.resize((depth + kept) * of_layer.frame_len(), 0.0);
        }
        let graph = &self.plan.forward;
        let read = graph.layer_ids().filter(|id| self.depths[id.index()] > 0);
        for (id, history) in read.zip(&state.histories) {
            self.forward.layer_values[id.index()].put_before(0, &history.values);
        }
        for (id, history) in self.plan.residual_layers().into_iter().zip(older) {
            let of_layer = &mut self.forward.layer_values[id.index()];
            let newest = (history.depth - kept) * of_layer.frame_len();
            of_layer.put_before(self.depths[id.index()], &history.values[newest..]);
        }
        self.frames_run = state.frames;
        self.forget_calls();
        self.kept = kept;
        Ok(())
    }

    fn clear_state(&mut self) {
        self.window = Window::new(self.config.streams);
        self.forward.layer_values.iter_mut().for_each(|of_layer| of_layer.values.clear());
        self.frames_run = 0;
        self.forget_calls();
    }
}

impl ReferenceExecutor {
    /// Frames of a layer, up to the one `end` frames back: `[depth, B, N]`.
    fn history(&self, id: LayerId, depth: usize, end: usize) -> History {
        let layer = self.plan.forward.layer_at(id);
        let symbols = layer.kind == LayerKind::Symbol;
        let of_layer = &self.forward.layer_values[id.index()];
        let end = self.window.len().saturating_sub(end);
        // Frames before the stream's first are never read; they are 0, or no symbol.
        let known = depth.min(end);
        let mut values = vec![if symbols { -1.0 } else { 0.0 }; (depth - known) * of_layer.frame_len()];
        values.extend(&of_layer.values[(end - known) * of_layer.frame_len()..end * of_layer.frame_len()]);
        History { layer: layer.name.clone(), depth, size: of_layer.width, symbols, values }
    }

    /// What forward calls read of the frames up to the one `end` frames back, behind which it is so many steps since each
    /// stream's reset.
    fn histories_state(&self, end: usize, since_reset: &[u64], frames: u64) -> State {
        let read = self.plan.forward.layer_ids().filter(|id| self.depths[id.index()] > 0);
        let histories = read.map(|id| self.history(id, self.depths[id.index()], end)).collect();
        State { histories, since_reset: since_reset.to_vec(), frames, kept: None }
    }

    /// What the next backward call reads of older frames.
    fn kept_state(&self) -> Option<Kept> {
        let frames = self.kept.min(self.plan.kept_frames(self.config));
        let older = |id: LayerId| self.history(id, frames, self.depths[id.index()]);
        (frames > 0).then(|| Kept {
            frames,
            since_reset: self.window.last_since_reset(frames).to_vec(),
            layers: self.plan.residual_layers().into_iter().map(older).collect(),
        })
    }

    /// No frame was run yet that errors could go back through.
    fn forget_calls(&mut self) {
        self.kept = 0;
        self.new = 0;
        self.back = 0;
        self.order.clear();
    }
}

fn stuck(graph: &Graph, pair: Pair) -> ExecutorError {
    let layer = &graph.layer_at(pair.layer).name;
    ExecutorError::Unsupported { executor: NAME, what: format!("`{layer}`, which waits for itself") }
}

/// An error if the values of all layers in all kept frames are more than the machine has room for.
fn check_memory(plan: &Plan, config: ExecutionConfig) -> Result<(), ExecutorError> {
    let depth = plan.forward.history_depths().into_iter().max().unwrap_or(0);
    let frames = config.window as u128 + depth as u128;
    let width = |graph: &Graph| graph.layer_ids().map(|id| width(graph, id) as u128).sum::<u128>();
    let all = width(&plan.forward) + plan.adjoint.as_ref().map_or(0, width);
    let values = frames.saturating_mul(config.streams as u128).saturating_mul(all);
    let weights: u128 = plan.forward.weights().iter().map(|w| 4 * w.len() as u128).sum();
    let bytes = values.saturating_add(weights).saturating_mul(8);
    let what = format!("running {} streams over {frames} frames in double precision", config.streams);
    check_available(&what, bytes)
}

//! Runs a case on an executor and on the reference, and compares all that comes out.

use crate::altered::{Alteration, Altered};
use crate::case::Case;
use crate::data::{Data, WindowData};
use rnnc_graph::{LayerKind, WeightId};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, History, Kept, ParameterArray, Plan, PlanOptions, State,
    Update, Values, ValuesMut,
};
use rnnc_reference::ReferenceExecutor;

/// Makes the executor under test.
pub type Make<'a> = &'a dyn Fn(Plan, ExecutionConfig) -> Result<Box<dyn Executor>, ExecutorError>;

/// Compares an executor with the reference on a case: outputs, all gradients and state, window by window; going on
/// from a state and from the beginning; other weights, written later; any split against the whole; losses and weights over some updates. Some windows
/// are handed in ahead, some of them wrongly.
///
/// Numbers may differ by `tolerance` times the largest magnitude in their array plus a hundredth.
///
/// # Errors
/// Says what differs: the array, the place, both values.
pub fn check(case: &Case, make: Make<'_>, tolerance: f64) -> Result<(), String> {
    let data = Data::draw(case);
    let bench = Bench { case, data: &data, make, tolerance };
    let says = |what: &'static str| move |error: String| format!("{}: {what}: {error}", case.name);
    bench.windows().map_err(says("window by window"))?;
    bench.goes_on().map_err(says("from a state"))?;
    if !case.graph.looks_ahead() {
        bench.split().map_err(says("split against whole"))?;
    }
    bench.training().map_err(says("training"))
}

/// Whether the case is one whose numbers hardly change with the last bits of its weights, and with the roundings of single
/// precision on all that is computed: where a gate is all but 1, what is left of it is in its last bits. Random networks may
/// amplify rounding errors beyond any tolerance; those say nothing about an executor.
pub fn is_well_conditioned(case: &Case, tolerance: f64) -> bool {
    let moved: Make<'_> = &|plan, config| Altered::make(plan, config, Alteration::LastBits);
    let data = Data::draw(case);
    let rounded = |seed| {
        let make: Make<'_> = &|plan, config| {
            Ok(Box::new(ReferenceExecutor::new(plan, config)?.with_rounding(f32::EPSILON.into(), seed)))
        };
        // Not the updates, which take a gradient's direction even where it is all rounding.
        Bench { case, data: &data, make, tolerance: tolerance / 2.0 }.windows().is_ok()
    };
    check(case, moved, tolerance / 4.0).is_ok() && (0..2).all(rounded)
}

struct Bench<'a> {
    case: &'a Case,
    data: &'a Data,
    make: Make<'a>,
    tolerance: f64,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Bench<'_> {
    fn candidate(&self) -> Result<Box<dyn Executor>, String> {
        let plan = self.case.plan().map_err(text)?;
        let mut executor = (self.make)(plan, self.case.config()).map_err(text)?;
        executor.plan().verify()?;
        self.write_weights(executor.as_mut())?;
        Ok(executor)
    }

    fn reference(&self) -> Result<ReferenceExecutor, String> {
        let plan = self.case.plan().map_err(text)?;
        let mut executor = ReferenceExecutor::new(plan, self.case.config()).map_err(text)?;
        self.write_weights(&mut executor)?;
        Ok(executor)
    }

    fn write_weights(&self, executor: &mut dyn Executor) -> Result<(), String> {
        self.write_scaled(executor, 1.0)
    }

    /// Writes the case's weights times a power of two.
    fn write_scaled(&self, executor: &mut dyn Executor, scale: f32) -> Result<(), String> {
        for (id, values) in self.data.weights.iter().enumerate() {
            let values: Vec<f32> = values.iter().map(|value| scale * value).collect();
            executor
                .write(ParameterArray::Weight, WeightId::from_index(id), Values::F32(&values))
                .map_err(text)?;
        }
        Ok(())
    }

    fn compare(&self, name: &str, expected: &[f64], found: &[f64]) -> Result<(), String> {
        compare(name, expected, found, self.tolerance)
    }

    /// Forward and backward, in all windows.
    fn windows(&self) -> Result<(), String> {
        let (mut reference, mut candidate) = (self.reference()?, self.candidate()?);
        let (mut run, mut brought) = (0, false);
        for (place, window) in self.data.windows.iter().enumerate() {
            let says = |error: String| format!("window {place}: {error}");
            run += window.frames;
            let before = candidate.forward_state();
            forward(&mut reference, window)?;
            forward_brought(candidate.as_mut(), window, brought)?;
            self.compare_outputs(&reference, candidate.as_ref(), window.frames).map_err(says)?;
            let outputs = self.outputs(candidate.as_ref(), window.frames)?;
            let back = match self.case.step == self.case.window {
                true => window.frames,
                false => run.min(self.case.window),
            };
            backward(&mut reference, window, back)?;
            backward(candidate.as_mut(), window, back)?;
            brought = self.prefetch(candidate.as_mut(), place)?;
            for (before, after) in outputs.iter().zip(&self.outputs(candidate.as_ref(), window.frames)?) {
                compare("an output behind the backward pass", before, after, 0.0).map_err(says)?;
            }
            if candidate.state_before() != before {
                return Err(says("the state before is not what the state was".into()));
            }
            let tolerance = self.tolerance;
            self.compare_weights(&reference, candidate.as_ref(), ParameterArray::Gradient, tolerance)
                .map_err(says)?;
            self.compare_input_gradients(&reference, candidate.as_ref(), back, tolerance).map_err(says)?;
            let (expected, found) = (reference.state().map_err(text)?, candidate.state().map_err(text)?);
            self.compare_states(&expected, &found, tolerance).map_err(says)?;
        }
        // Back to the beginning.
        if let Some(window) = self.data.windows.first() {
            reference.clear_state();
            candidate.clear_state();
            forward(&mut reference, window)?;
            forward(candidate.as_mut(), window)?;
            let says = |error| format!("after clear_state: {error}");
            self.compare_outputs(&reference, candidate.as_ref(), window.frames).map_err(says)?;
            // What an executor has made of its weights, packed or copied, it makes anew once others are written.
            let says = |error| format!("with other weights: {error}");
            self.write_scaled(&mut reference, 0.5)?;
            self.write_scaled(candidate.as_mut(), 0.5)?;
            for executor in [&mut reference as &mut dyn Executor, candidate.as_mut()] {
                executor.clear_state();
                forward(executor, window)?;
                backward(executor, window, window.frames)?;
            }
            self.compare_outputs(&reference, candidate.as_ref(), window.frames).map_err(says)?;
            self.compare_weights(&reference, candidate.as_ref(), ParameterArray::Gradient, self.tolerance)
                .map_err(says)?;
        }
        Ok(())
    }

    /// A fresh executor goes on from the state and weights of another, half-way through some updates, to the same
    /// bits: what it computes from then on does not depend on who computed what came before.
    fn goes_on(&self) -> Result<(), String> {
        let (mut first, mut second) = (self.candidate()?, self.candidate()?);
        let half = self.data.windows.len() / 2;
        let (mut run, mut brought) = (0, false);
        for (place, window) in self.data.windows.iter().enumerate() {
            if place == half {
                self.copy_weights(first.as_ref(), second.as_mut())?;
                let state = first.state().map_err(text)?;
                second.set_state(&state).map_err(text)?;
                self.compare_states(&state, &second.state().map_err(text)?, 0.0)?;
                if first.forward_state() != Ok(State { kept: None, ..state }) {
                    return Err("the forward state is not the state without kept frames".into());
                }
            }
            let update = update(place);
            let back = window.frames + run.min(self.case.window - self.case.step);
            let expected = train(first.as_mut(), window, brought, back, &update)?;
            // One of the two is told what comes next.
            brought = self.prefetch(first.as_mut(), place)?;
            if place >= half {
                let found = train(second.as_mut(), window, false, back, &update)?;
                compare(&format!("loss and gradient norm of update {place}"), &expected, &found, 0.0)?;
                self.compare_input_gradients(first.as_ref(), second.as_ref(), back, 0.0)?;
            }
            run += window.frames;
        }
        for part in [ParameterArray::Weight, ParameterArray::Moment1, ParameterArray::Moment2] {
            self.compare_weights(first.as_ref(), second.as_ref(), part, 0.0)?;
        }
        self.compare_states(&first.state().map_err(text)?, &second.state().map_err(text)?, 0.0)
    }

    /// Weights and their moments, from one executor to another.
    fn copy_weights(&self, from: &dyn Executor, to: &mut dyn Executor) -> Result<(), String> {
        for (id, weight) in self.case.graph.weights().iter().enumerate() {
            let id = WeightId::from_index(id);
            for part in [ParameterArray::Weight, ParameterArray::Moment1, ParameterArray::Moment2] {
                let mut values = vec![0.0; weight.len()];
                from.read(part, id, ValuesMut::F64(&mut values)).map_err(text)?;
                to.write(part, id, Values::F64(&values)).map_err(text)?;
            }
        }
        Ok(())
    }

    /// All windows in one call of the reference.
    fn split(&self) -> Result<(), String> {
        let joined = self.data.joined(&self.case.graph);
        let options = PlanOptions::inference(self.case.streams, joined.frames);
        let plan = Plan::new(&self.case.graph, options).map_err(text)?;
        let config = ExecutionConfig { window: joined.frames, step: joined.frames, ..self.case.config() };
        let mut whole = ReferenceExecutor::new(plan, config).map_err(text)?;
        self.write_weights(&mut whole)?;
        forward(&mut whole, &joined)?;

        let mut candidate = self.candidate()?;
        let mut parts: Vec<Vec<f64>> = vec![Vec::new(); self.case.graph.outputs().len()];
        for window in &self.data.windows {
            forward(candidate.as_mut(), window)?;
            for (output, part) in parts.iter_mut().enumerate() {
                part.extend(output_values(candidate.as_ref(), output, window.frames)?);
            }
        }
        for (output, part) in parts.iter().enumerate() {
            let expected = output_values(&whole, output, joined.frames)?;
            self.compare(&self.case.graph.outputs()[output].name, &expected, part)?;
        }
        Ok(())
    }

    /// Hands in ahead what comes behind the window at `place`: the right one, the right one after a wrong one, or a wrong one.
    /// Whether it is the right one, and the executor brings it.
    fn prefetch(&self, executor: &mut dyn Executor, place: usize) -> Result<bool, String> {
        let [wrong, right] = [place, place + 1].map(|place| self.data.windows.get(place));
        let ahead = match place % 3 {
            0 => [None, right],
            1 => [wrong, right],
            _ => [None, wrong],
        };
        let mut brings = false;
        for window in ahead.into_iter().flatten() {
            let inputs: Vec<Values<'_>> = window.inputs.iter().map(|input| input.values()).collect();
            brings = executor.prefetch(window.frames, &inputs).map_err(text)?;
        }
        Ok(brings && right.is_some() && place % 3 < 2)
    }

    /// Some updates, each executor along its own errors.
    fn training(&self) -> Result<(), String> {
        let (mut reference, mut candidate) = (self.reference()?, self.candidate()?);
        let mut run = 0;
        let updates = self.data.windows.iter().cycle().take(self.data.windows.len().max(4));
        for (place, window) in updates.enumerate() {
            let update = update(place);
            run += window.frames;
            let back = match self.case.step == self.case.window {
                true => window.frames,
                false => run.min(self.case.window),
            };
            let expected = train(&mut reference, window, false, back, &update)?;
            let found = train(candidate.as_mut(), window, false, back, &update)?;
            self.compare(&format!("loss and gradient norm of update {place}"), &expected, &found)?;
        }
        for part in [ParameterArray::Weight, ParameterArray::Moment1, ParameterArray::Moment2] {
            self.compare_weights(&reference, candidate.as_ref(), part, self.tolerance)?;
        }
        Ok(())
    }

    fn outputs(&self, executor: &dyn Executor, frames: usize) -> Result<Vec<Vec<f64>>, String> {
        (0..self.case.graph.outputs().len()).map(|output| output_values(executor, output, frames)).collect()
    }

    fn compare_outputs(
        &self,
        reference: &dyn Executor,
        candidate: &dyn Executor,
        frames: usize,
    ) -> Result<(), String> {
        for (output, o) in self.case.graph.outputs().iter().enumerate() {
            let expected = output_values(reference, output, frames)?;
            let found = output_values(candidate, output, frames)?;
            self.compare(&format!("output `{}`", o.name), &expected, &found)?;
        }
        Ok(())
    }

    fn compare_weights(
        &self,
        reference: &dyn Executor,
        candidate: &dyn Executor,
        part: ParameterArray,
        tolerance: f64,
    ) -> Result<(), String> {
        for (id, weight) in self.case.graph.weights().iter().enumerate() {
            let read = |executor: &dyn Executor| {
                let mut values = vec![0.0; weight.len()];
                let id = WeightId::from_index(id);
                executor.read(part, id, ValuesMut::F64(&mut values)).map_err(text).map(|()| values)
            };
            let name = format!("{part:?} of `{}`", weight.name);
            compare(&name, &read(reference)?, &read(candidate)?, tolerance)?;
        }
        Ok(())
    }

    fn compare_input_gradients(
        &self,
        reference: &dyn Executor,
        candidate: &dyn Executor,
        frames: usize,
        tolerance: f64,
    ) -> Result<(), String> {
        for (input, &id) in self.case.graph.inputs().iter().enumerate() {
            let layer = self.case.graph.layer_at(id);
            if layer.kind == LayerKind::Symbol {
                continue;
            }
            let read = |executor: &dyn Executor| {
                let mut values = vec![0.0; frames * self.case.streams * layer.size];
                executor.input_gradient(input, ValuesMut::F64(&mut values)).map_err(text).map(|()| values)
            };
            let name = format!("gradient of input `{}`", layer.name);
            compare(&name, &read(reference)?, &read(candidate)?, tolerance)?;
        }
        Ok(())
    }

    fn compare_states(&self, expected: &State, found: &State, tolerance: f64) -> Result<(), String> {
        if (&expected.since_reset, expected.frames) != (&found.since_reset, found.frames) {
            return Err(format!(
                "state: ages {:?} after {} frames, not {:?} after {}",
                found.since_reset, found.frames, expected.since_reset, expected.frames
            ));
        }
        self.compare_histories("state", expected, &expected.histories, &found.histories, tolerance)?;
        match (&expected.kept, &found.kept) {
            (None, None) => Ok(()),
            (Some(kept), Some(found))
                if (kept.frames, &kept.since_reset) == (found.frames, &found.since_reset) =>
            {
                self.compare_histories("kept frames", expected, &kept.layers, &found.layers, tolerance)
            }
            (expected, found) => {
                let say = |kept: &Option<Kept>| match kept {
                    None => "no kept frames".into(),
                    Some(kept) => format!("{} kept frames with ages {:?}", kept.frames, kept.since_reset),
                };
                Err(format!("state: {}, not {}", say(found), say(expected)))
            }
        }
    }

    /// Compares the histories of a state, or the layers of its kept frames.
    fn compare_histories(
        &self,
        what: &str,
        state: &State,
        expected: &[History],
        found: &[History],
        tolerance: f64,
    ) -> Result<(), String> {
        let shape = |histories: &[History]| -> Vec<_> {
            histories.iter().map(|h| (h.layer.clone(), h.depth, h.size, h.symbols)).collect()
        };
        if shape(expected) != shape(found) {
            return Err(format!("{what}: {:?}, not {:?}", shape(found), shape(expected)));
        }
        for (expected, found) in expected.iter().zip(found) {
            // Kept frames lie before those of the layer's history.
            let own = state.histories.iter().find(|h| h.layer == expected.layer);
            let end = own.filter(|own| !std::ptr::eq(*own, expected)).map_or(0, |own| own.depth);
            let seen = |values: &[f64]| -> Vec<f64> {
                let mut seen = values.to_vec();
                for (place, units) in seen.chunks_mut(expected.size).enumerate() {
                    let (frame, stream) = (place / self.case.streams, place % self.case.streams);
                    if !is_read(state, end + expected.depth - frame, stream) {
                        units.fill(0.0);
                    }
                }
                seen
            };
            let name = format!("{what} of `{}`", expected.layer);
            compare(&name, &seen(&expected.values), &seen(&found.values), tolerance)?;
        }
        Ok(())
    }
}

/// Whether anything may yet read the frame that lies so many back. Frames before a reset, or before the stream began,
/// are read from no later one.
fn is_read(state: &State, back: usize, stream: usize) -> bool {
    let by_new = back as u64 <= state.since_reset[stream];
    let by_kept =
        |kept: &Kept| back <= kept.frames || (back - kept.frames) as u64 <= kept.since_reset[stream];
    by_new || state.kept.as_ref().is_some_and(by_kept)
}

fn compare(name: &str, expected: &[f64], found: &[f64], tolerance: f64) -> Result<(), String> {
    if expected.len() != found.len() {
        return Err(format!("{name}: {} values, not {}", found.len(), expected.len()));
    }
    let largest = expected.iter().filter(|x| x.is_finite()).fold(0.0f64, |m, x| m.max(x.abs()));
    let allowed = tolerance * (largest + 0.01);
    let differs = |(&e, &f): (&f64, &f64)| !(e == f || e.is_nan() && f.is_nan() || (e - f).abs() <= allowed);
    match expected.iter().zip(found).position(differs) {
        None => Ok(()),
        Some(place) => Err(format!(
            "{name}: value {place} of {} is {:e}, not {:e}; {allowed:.1e} is allowed where the largest is {largest:.3e}",
            expected.len(),
            found[place],
            expected[place]
        )),
    }
}

fn forward(executor: &mut dyn Executor, window: &WindowData) -> Result<(), String> {
    forward_brought(executor, window, false)
}

/// A forward call, where the executor brought the inputs ahead one that takes those.
fn forward_brought(executor: &mut dyn Executor, window: &WindowData, brought: bool) -> Result<(), String> {
    let inputs: Vec<Values<'_>> = window.inputs.iter().map(|input| input.values()).collect();
    // No reset may be said in two ways.
    let resets = window.resets.as_deref().filter(|r| r.contains(&true) || window.frames.is_multiple_of(2));
    match brought {
        true => executor.forward_prefetched(resets).map_err(text),
        false => executor.forward(window.frames, &inputs, resets).map_err(text),
    }
}

fn backward(executor: &mut dyn Executor, window: &WindowData, frames: usize) -> Result<(), String> {
    let errors: Vec<Option<Values<'_>>> =
        window.errors.iter().map(|e| e.as_deref().map(Values::F32)).collect();
    executor.backward(frames, &errors).map_err(text)
}

fn output_values(executor: &dyn Executor, output: usize, frames: usize) -> Result<Vec<f64>, String> {
    let graph = &executor.plan().forward;
    let size = graph.layer_at(graph.outputs()[output].layer).size;
    let mut values = vec![0.0; frames * executor.config().streams * size];
    executor.output(output, ValuesMut::F64(&mut values)).map_err(text)?;
    Ok(values)
}

/// The settings of an update, counted from 0.
fn update(place: usize) -> Update {
    // A large epsilon, or the first steps would blow up the rounding errors of tiny gradients.
    Update {
        learning_rate: 0.02,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 0.05,
        step: place as u64 + 1,
        clip_norm: Some(1.0),
    }
}

/// One update towards outputs of 0: the loss, half the mean square of all outputs, and the gradient's norm.
fn train(
    executor: &mut dyn Executor,
    window: &WindowData,
    brought: bool,
    back: usize,
    update: &Update,
) -> Result<[f64; 2], String> {
    forward_brought(executor, window, brought)?;
    let (mut loss, mut errors) = (0.0, Vec::new());
    for output in 0..window.errors.len() {
        let values = output_values(executor, output, window.frames)?;
        let count = values.len() as f64;
        loss += values.iter().map(|y| 0.5 * y * y / count).sum::<f64>();
        errors.push(values.iter().map(|y| y / count).collect::<Vec<_>>());
    }
    let errors: Vec<_> = errors.iter().map(|e| Some(Values::F64(e))).collect();
    executor.backward(back, &errors).map_err(text)?;
    Ok([loss, executor.update(update).map_err(text)?])
}

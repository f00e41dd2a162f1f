//! Runs a case on an executor and on the reference, and compares all that comes out.

use crate::case::Case;
use rnnc_graph::WeightId;
use rnnc_plan::{
    Executor, Optimizer, OptimizerSettings, ParameterArray, Plan, PlanOptions, State, Update, Values,
    ValuesMut,
};
use rnnc_reference::ReferenceExecutor;
use rnnc_verify::{
    LAST_BITS, Make, Named, Trial, Window, agree, input_gradients, moved, outputs, state_arrays,
    weight_arrays, write_double, write_weights,
};

/// Compares an executor with the reference on a case: outputs, all gradients and state, window by window; going on
/// from a state and from the beginning; other weights, written later; any split against the whole; losses and weights over some updates. Some windows
/// are handed in ahead, some of them wrongly.
///
/// Numbers may differ by `tolerance` times the largest magnitude in their array plus a hundredth.
///
/// # Errors
/// Says what differs: the array, the place, both values.
pub fn check(case: &Case, make: Make<'_>, tolerance: f64) -> Result<(), String> {
    Bench { case, trial: &case.trial()?, make, moved_by: 0.0, tolerance }.all()
}

/// That the last bits of a case's weights hardly have a bearing: the same of the reference with and without them.
///
/// # Errors
/// Says what differs.
pub fn check_last_bits(case: &Case, tolerance: f64) -> Result<(), String> {
    let make: Make<'_> = &|plan, config| Ok(Box::new(ReferenceExecutor::new(plan, config)?));
    Bench { case, trial: &case.trial()?, make, moved_by: LAST_BITS, tolerance }.all()
}

/// Whether the case is one whose numbers hardly change with the last bits of its weights, and with the roundings of single
/// precision on all that is computed: where a gate is all but 1, what is left of it is in its last bits. Random networks may
/// amplify rounding errors beyond any tolerance; those say nothing about an executor.
pub fn is_well_conditioned(case: &Case, tolerance: f64) -> bool {
    let Ok(trial) = case.trial() else { return false };
    let rounded = |seed| {
        let make: Make<'_> = &|plan, config| {
            Ok(Box::new(ReferenceExecutor::new(plan, config)?.with_rounding(f32::EPSILON.into(), seed)))
        };
        // Not the updates, which take a gradient's direction even where it is all rounding.
        Bench { case, trial: &trial, make, moved_by: 0.0, tolerance: tolerance / 2.0 }.windows().is_ok()
    };
    check_last_bits(case, tolerance / 4.0).is_ok() && (0..2).all(rounded)
}

struct Bench<'a> {
    case: &'a Case,
    trial: &'a Trial<'a>,
    make: Make<'a>,
    /// How far the weights of the executor under test are moved, of themselves.
    moved_by: f64,
    tolerance: f64,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Bench<'_> {
    fn all(&self) -> Result<(), String> {
        let says = |what: &'static str| move |error: String| format!("{}: {what}: {error}", self.case.name);
        self.windows().map_err(says("window by window"))?;
        self.goes_on().map_err(says("from a state"))?;
        if !self.case.graph.looks_ahead() {
            self.split().map_err(says("split against whole"))?;
        }
        self.training().map_err(says("training"))
    }

    fn candidate(&self) -> Result<Box<dyn Executor>, String> {
        let mut executor = (self.make)(self.trial.plan().map_err(text)?, self.trial.config).map_err(text)?;
        executor.plan().verify()?;
        self.write_candidate(executor.as_mut(), 1.0)?;
        Ok(executor)
    }

    fn reference(&self) -> Result<ReferenceExecutor, String> {
        let plan = self.trial.plan().map_err(text)?;
        let mut executor = ReferenceExecutor::new(plan, self.trial.config).map_err(text)?;
        write_weights(&mut executor, &self.trial.weights).map_err(text)?;
        Ok(executor)
    }

    /// The case's weights times a power of two.
    fn scaled(&self, scale: f32) -> Vec<Vec<f32>> {
        self.trial.weights.iter().map(|w| w.iter().map(|value| scale * value).collect()).collect()
    }

    fn write_candidate(&self, executor: &mut dyn Executor, scale: f32) -> Result<(), String> {
        let weights = self.scaled(scale);
        match self.moved_by == 0.0 {
            true => write_weights(executor, &weights),
            false => write_double(executor, &moved(&weights, self.moved_by)),
        }
        .map_err(text)
    }

    /// Forward and backward, in all windows.
    fn windows(&self) -> Result<(), String> {
        let (mut reference, mut candidate) = (self.reference()?, self.candidate()?);
        let (mut run, mut brought) = (0, false);
        for (place, window) in self.trial.windows.iter().enumerate() {
            let says = |error: String| format!("window {place}: {error}");
            run += window.frames;
            let before = candidate.forward_state();
            window.forward(&mut reference).map_err(text)?;
            forward(candidate.as_mut(), window, brought)?;
            self.compare_outputs(&reference, candidate.as_ref(), window.frames).map_err(says)?;
            let outputs_before = outputs(candidate.as_ref(), window.frames).map_err(text)?;
            let back = self.trial.back(window.frames, run);
            window.backward(&mut reference, back).map_err(text)?;
            window.backward(candidate.as_mut(), back).map_err(text)?;
            brought = self.prefetch(candidate.as_mut(), place)?;
            let outputs_behind = outputs(candidate.as_ref(), window.frames).map_err(text)?;
            agree(&outputs_before, &outputs_behind, 0.0)
                .map_err(|error| says(format!("behind the backward pass: {error}")))?;
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
        if let Some(window) = self.trial.windows.first() {
            reference.clear_state();
            candidate.clear_state();
            window.forward(&mut reference).map_err(text)?;
            window.forward(candidate.as_mut()).map_err(text)?;
            let says = |error| format!("after clear_state: {error}");
            self.compare_outputs(&reference, candidate.as_ref(), window.frames).map_err(says)?;
            // What an executor has made of its weights, packed or copied, it makes anew once others are written.
            let says = |error| format!("with other weights: {error}");
            write_weights(&mut reference, &self.scaled(0.5)).map_err(text)?;
            self.write_candidate(candidate.as_mut(), 0.5)?;
            for executor in [&mut reference as &mut dyn Executor, candidate.as_mut()] {
                executor.clear_state();
                window.forward(executor).map_err(text)?;
                window.backward(executor, window.frames).map_err(text)?;
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
        let half = self.trial.windows.len() / 2;
        let (mut run, mut brought) = (0, false);
        for (place, window) in self.trial.windows.iter().enumerate() {
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
                compare_updates(place, expected, found, 0.0)?;
                self.compare_input_gradients(first.as_ref(), second.as_ref(), back, 0.0)?;
            }
            run += window.frames;
        }
        for part in ParameterArray::trained(first.config().optimizer) {
            self.compare_weights(first.as_ref(), second.as_ref(), part, 0.0)?;
        }
        self.compare_states(&first.state().map_err(text)?, &second.state().map_err(text)?, 0.0)
    }

    /// Weights and their slots, from one executor to another.
    fn copy_weights(&self, from: &dyn Executor, to: &mut dyn Executor) -> Result<(), String> {
        for (id, weight) in self.case.graph.weights().iter().enumerate() {
            let id = WeightId::from_index(id);
            for part in ParameterArray::trained(from.config().optimizer) {
                let mut values = vec![0.0; weight.len()];
                from.read(part, id, ValuesMut::F64(&mut values)).map_err(text)?;
                to.write(part, id, Values::F64(&values)).map_err(text)?;
            }
        }
        Ok(())
    }

    /// All windows in one call of the reference.
    fn split(&self) -> Result<(), String> {
        let joined = self.trial.joined();
        let frames = joined.config.window;
        let options = PlanOptions::inference(self.case.streams, frames);
        let plan = Plan::new(&self.case.graph, options).map_err(text)?;
        let mut whole = ReferenceExecutor::new(plan, joined.config).map_err(text)?;
        write_weights(&mut whole, &joined.weights).map_err(text)?;
        joined.windows[0].forward(&mut whole).map_err(text)?;

        let mut candidate = self.candidate()?;
        let mut found: Vec<Named> = Vec::new();
        for window in &self.trial.windows {
            window.forward(candidate.as_mut()).map_err(text)?;
            let parts = outputs(candidate.as_ref(), window.frames).map_err(text)?;
            match found.is_empty() {
                true => found = parts,
                false => found.iter_mut().zip(parts).for_each(|(all, part)| all.values.extend(part.values)),
            }
        }
        agree(&outputs(&whole, frames).map_err(text)?, &found, self.tolerance)
    }

    /// Hands in ahead what comes behind the window at `place`: the right one, the right one after a wrong one, or a wrong one.
    /// Whether it is the right one, and the executor brings it.
    fn prefetch(&self, executor: &mut dyn Executor, place: usize) -> Result<bool, String> {
        let [wrong, right] = [place, place + 1].map(|place| self.trial.windows.get(place));
        let ahead = match place % 3 {
            0 => [None, right],
            1 => [wrong, right],
            _ => [None, wrong],
        };
        let mut brings = false;
        for window in ahead.into_iter().flatten() {
            brings = executor.prefetch(window.frames, &window.inputs()).map_err(text)?;
        }
        Ok(brings && right.is_some() && place % 3 < 2)
    }

    /// Some updates, each executor along its own errors.
    fn training(&self) -> Result<(), String> {
        let (mut reference, mut candidate) = (self.reference()?, self.candidate()?);
        let mut run = 0;
        let updates = self.trial.windows.iter().cycle().take(self.trial.windows.len().max(4));
        for (place, window) in updates.enumerate() {
            let update = update(place);
            run += window.frames;
            let back = self.trial.back(window.frames, run);
            let expected = train(&mut reference, window, false, back, &update)?;
            let found = train(candidate.as_mut(), window, false, back, &update)?;
            compare_updates(place, expected, found, self.tolerance)?;
        }
        for part in ParameterArray::trained(candidate.config().optimizer) {
            self.compare_weights(&reference, candidate.as_ref(), part, self.tolerance)?;
        }
        Ok(())
    }

    fn compare_outputs(
        &self,
        reference: &dyn Executor,
        candidate: &dyn Executor,
        frames: usize,
    ) -> Result<(), String> {
        let arrays = |executor| outputs(executor, frames).map_err(text);
        agree(&arrays(reference)?, &arrays(candidate)?, self.tolerance)
    }

    fn compare_weights(
        &self,
        reference: &dyn Executor,
        candidate: &dyn Executor,
        part: ParameterArray,
        tolerance: f64,
    ) -> Result<(), String> {
        let arrays = |executor| weight_arrays(executor, part).map_err(text);
        agree(&arrays(reference)?, &arrays(candidate)?, tolerance)
    }

    fn compare_input_gradients(
        &self,
        reference: &dyn Executor,
        candidate: &dyn Executor,
        frames: usize,
        tolerance: f64,
    ) -> Result<(), String> {
        let arrays = |executor| input_gradients(executor, frames).map_err(text);
        agree(&arrays(reference)?, &arrays(candidate)?, tolerance)
    }

    fn compare_states(&self, expected: &State, found: &State, tolerance: f64) -> Result<(), String> {
        agree(&state_arrays(expected), &state_arrays(found), tolerance)
    }
}

/// A forward call, where the executor brought the inputs ahead one that takes those.
fn forward(executor: &mut dyn Executor, window: &Window, brought: bool) -> Result<(), String> {
    match brought {
        true => executor.forward_prefetched(window.resets.as_deref()).map_err(text),
        false => window.forward(executor).map_err(text),
    }
}

/// The settings of an update, counted from 0.
fn update(place: usize) -> Update {
    // A large epsilon, or the first steps would blow up the rounding errors of tiny gradients.
    let adam = OptimizerSettings::new(Optimizer::Adam);
    let adam = adam.with("betas", &[0.9, 0.99]).and_then(|adam| adam.with("epsilon", &[0.05]));
    Update {
        learning_rate: 0.02,
        step: place as u64 + 1,
        clip_norm: Some(1.0),
        optimizer: adam.unwrap_or_default(), // Adam has these settings
    }
}

/// One update towards outputs of 0: the loss, half the mean square of all outputs, and the gradient's norm.
fn train(
    executor: &mut dyn Executor,
    window: &Window,
    brought: bool,
    back: usize,
    update: &Update,
) -> Result<[f64; 2], String> {
    forward(executor, window, brought)?;
    let (mut loss, mut errors) = (0.0, Vec::new());
    for Named { values, .. } in outputs(executor, window.frames).map_err(text)? {
        let count = values.len() as f64;
        loss += values.iter().map(|y| 0.5 * y * y / count).sum::<f64>();
        errors.push(values.iter().map(|y| y / count).collect::<Vec<_>>());
    }
    let errors: Vec<_> = errors.iter().map(|e| Some(Values::F64(e))).collect();
    executor.backward(back, &errors).map_err(text)?;
    Ok([loss, executor.update(update).map_err(text)?])
}

fn compare_updates(place: usize, expected: [f64; 2], found: [f64; 2], tolerance: f64) -> Result<(), String> {
    let named =
        |values: [f64; 2]| [Named::new(format!("loss and gradient norm of update {place}"), values.to_vec())];
    agree(&named(expected), &named(found), tolerance)
}

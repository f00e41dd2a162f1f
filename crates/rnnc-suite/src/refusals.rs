//! What every executor must refuse, by name, and without being changed by it.

use crate::net::Net;
use rnnc_graph::{Activation, Graph, WeightId};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, Kept, ParameterArray, Plan, PlanOptions, State, Values,
    ValuesMut,
};
use rnnc_verify::Make;

fn network() -> Graph {
    let mut net = Net::new("refusals");
    let x = net.graph.input("x", 2);
    let symbol = net.graph.symbol("s", 3);
    let h = net.dense("h", 4, Activation::Tanh, &[(x, 0), (symbol, 2)]);
    net.full(h, h, 1);
    net.out(h)
}

const NUMBERS: [f32; 24] = [0.5; 24];
const SYMBOLS: [u32; 12] = [1; 12];

/// Hands an executor wrong arrays, numbers of frames, states and orders of calls.
///
/// # Errors
/// Says what was taken, or refused in the wrong way.
pub fn check_refusals(make: Make<'_>) -> Result<(), String> {
    let plan = |gradients: bool| {
        let options = PlanOptions::training(2, 4);
        Plan::new(&network(), PlanOptions { gradients, ..options }).map_err(|e| e.to_string())
    };
    let make_overlapping = || {
        make(plan(true)?, ExecutionConfig { step: 3, ..ExecutionConfig::new(2, 8) })
            .map_err(|e| e.to_string())
    };
    let make = |gradients| make(plan(gradients)?, ExecutionConfig::new(2, 4)).map_err(|e| e.to_string());
    let mut executor = make(true)?;
    let e = executor.as_mut();
    let weight = WeightId::from_index(1);

    // Before anything was run.
    expect("backward before forward", is_order, e.backward(1, &[None]))?;

    good_forward(e)?;
    let before = e.state().map_err(|error| error.to_string())?;
    let (x, s) = (Values::F32(&NUMBERS[..12]), Values::Symbols(&SYMBOLS[..6]));
    expect("no frames", is_range, e.forward(0, &[Values::F32(&[]), Values::Symbols(&[])], None))?;
    let many = [Values::F32(&NUMBERS[..20]), Values::Symbols(&SYMBOLS[..10])];
    expect("more frames than the step", is_range, e.forward(5, &many, None))?;
    expect("an input too few", is_count, e.forward(3, &[x], None))?;
    expect("an input too many", is_count, e.forward(3, &[x, s, s], None))?;
    expect("a short input", is_length, e.forward(3, &[Values::F32(&NUMBERS[..11]), s], None))?;
    expect("symbols for a vector", is_type, e.forward(3, &[Values::Symbols(&SYMBOLS), s], None))?;
    expect("numbers for a symbol", is_type, e.forward(3, &[x, Values::F32(&NUMBERS[..6])], None))?;
    let unknown = [x, Values::Symbols(&[0, 1, 2, 3, 0, 0])];
    let is_symbol = |error: &ExecutorError| {
        matches!(error, ExecutorError::Symbol { found: 3, symbols: 3, frame: 1, stream: 1, .. })
    };
    expect("a symbol past the last", is_symbol, e.forward(3, &unknown, None))?;
    let mut ahead = |frames: usize, inputs: &[Values<'_>]| e.prefetch(frames, inputs).map(|_| ());
    expect("a wrong number of frames ahead", is_range, ahead(0, &[x, s]))?;
    expect("an input too few ahead", is_count, ahead(3, &[x]))?;
    expect("a short input ahead", is_length, ahead(3, &[Values::F32(&NUMBERS[..11]), s]))?;
    expect("numbers for a symbol ahead", is_type, ahead(3, &[x, Values::F32(&NUMBERS[..6])]))?;
    expect("a symbol past the last ahead", is_symbol, ahead(3, &unknown))?;
    expect("a forward call without inputs", is_order, e.forward_prefetched(None))?;
    expect("short resets", is_length, e.forward(3, &[x, s], Some(&[false; 5])))?;
    let mut short = [0.0; 23];
    expect("a short output", is_length, e.output(0, ValuesMut::F32(&mut short)))?;
    expect("an output there is not", is_range, e.output(1, ValuesMut::F32(&mut short)))?;
    expect("backward through too few frames", is_range, e.backward(2, &[None]))?;
    expect("backward through too many frames", is_range, e.backward(5, &[None]))?;
    expect("an output gradient too few", is_count, e.backward(3, &[]))?;
    expect("a short output gradient", is_length, e.backward(3, &[Some(Values::F32(&NUMBERS[..23]))]))?;
    e.backward(3, &[Some(Values::F32(&NUMBERS))]).map_err(|e| e.to_string())?;
    expect("input gradients not planned for", is_order, e.input_gradient(0, ValuesMut::F32(&mut short)))?;
    let mut large = [0.5; 12];
    large[7] = 1e39;
    let is_large = |error: &ExecutorError| matches!(error, ExecutorError::TooLarge { place: 7, .. });
    let too_large = Values::F64(&large);
    expect("an input past single precision", is_large, e.forward(3, &[too_large, s], None))?;
    let mut history = before.clone();
    history.histories.iter_mut().filter(|h| !h.symbols).for_each(|h| h.values[7] = -1e39);
    match e.set_state(&history) {
        // An executor in double precision holds it.
        Ok(()) if e.state().is_ok_and(|now| now.histories == history.histories) => {
            e.set_state(&before).map_err(|e| e.to_string())?;
        }
        refused => expect("a state past single precision", is_large, refused)?,
    }
    expect(
        "a weight past single precision",
        is_large,
        e.write(ParameterArray::Weight, weight, Values::F64(&large[..8])),
    )?;
    expect("a short weight", is_length, e.write(ParameterArray::Weight, weight, Values::F32(&NUMBERS[..7])))?;
    expect(
        "symbols for a weight",
        is_type,
        e.write(ParameterArray::Weight, weight, Values::Symbols(&SYMBOLS[..8])),
    )?;
    expect(
        "room for too few numbers",
        is_length,
        e.read(ParameterArray::Weight, weight, ValuesMut::F32(&mut short)),
    )?;
    expect(
        "a weight there is not",
        is_range,
        e.write(ParameterArray::Weight, WeightId::from_index(99), Values::F32(&[])),
    )?;

    let mut state = before.clone();
    state.since_reset.pop();
    expect("a state of fewer streams", is_state, e.set_state(&state))?;
    let mut state = before.clone();
    state.histories.pop();
    expect("a state that lacks a layer", is_state, e.set_state(&state))?;
    let mut state = before.clone();
    state.histories[0].values.pop();
    expect("a state with a short history", is_state, e.set_state(&state))?;
    let mut state = before.clone();
    state.histories[0].layer = "other".into();
    expect("a state of another network", is_state, e.set_state(&state))?;
    let mut state = before.clone();
    for history in state.histories.iter_mut().filter(|h| h.symbols) {
        history.values[0] = 3.0;
    }
    expect("a state with a symbol past the last", is_state, e.set_state(&state))?;

    if e.state().as_ref() != Ok(&before) {
        return Err("something refused has changed the state".into());
    }
    let mut executor = make(false)?;
    good_forward(executor.as_mut())?;
    expect("backward without a plan for it", is_order, executor.backward(3, &[None]))?;
    check_kept_refusals(make_overlapping()?.as_mut())
}

/// Wrong states of an executor whose windows of 8 frames overlap in 5.
fn check_kept_refusals(e: &mut dyn Executor) -> Result<(), String> {
    good_forward(e)?;
    let before = e.state().map_err(|error| error.to_string())?;
    let Some(kept) = before.kept.clone() else {
        return Err("a state after 3 of 8 frames that errors go back through has no kept frames".into());
    };
    let with = |change: &dyn Fn(&mut Kept)| {
        let mut kept = kept.clone();
        change(&mut kept);
        State { kept: Some(kept), ..before.clone() }
    };
    let state = with(&|kept| kept.since_reset.truncate(3));
    expect("a state that lacks ages of kept frames", is_state, e.set_state(&state))?;
    let state = with(&|kept| kept.frames += 1);
    expect("a state with fewer kept frames than it says", is_state, e.set_state(&state))?;
    let state = with(&|kept| kept.frames = usize::MAX);
    expect("a state that says it has endless kept frames", is_state, e.set_state(&state))?;
    let state = with(&|kept| kept.layers.truncate(1));
    expect("a state that lacks a layer in its kept frames", is_state, e.set_state(&state))?;
    let state = with(&|kept| kept.layers[0].layer = "other".into());
    expect("a state with another layer in its kept frames", is_state, e.set_state(&state))?;
    let state = with(&|kept| kept.layers.reverse());
    expect("a state with kept layers out of order", is_state, e.set_state(&state))?;
    let state = with(&|kept| {
        kept.layers[0].values.pop();
    });
    expect("a state with a short array of kept frames", is_state, e.set_state(&state))?;
    let state = with(&|kept| kept.layers.iter_mut().filter(|h| h.symbols).for_each(|h| h.values[0] = 0.5));
    expect("a state with half a symbol in its kept frames", is_state, e.set_state(&state))?;
    if e.state().as_ref() != Ok(&before) {
        return Err("a refused state has changed kept frames".into());
    }
    e.set_state(&before).map_err(|error| error.to_string())
}

fn good_forward(e: &mut dyn Executor) -> Result<(), String> {
    let inputs = [Values::F32(&NUMBERS[..12]), Values::Symbols(&SYMBOLS[..6])];
    e.forward(3, &inputs, None).map_err(|error| error.to_string())
}

fn expect(
    what: &str,
    is: impl Fn(&ExecutorError) -> bool,
    result: Result<(), ExecutorError>,
) -> Result<(), String> {
    match result {
        Err(error) if is(&error) => Ok(()),
        Err(error) => Err(format!("{what} was refused with `{error}` ({error:?})")),
        Ok(()) => Err(format!("{what} was taken")),
    }
}

fn is_order(error: &ExecutorError) -> bool {
    matches!(error, ExecutorError::Order(_))
}

fn is_range(error: &ExecutorError) -> bool {
    matches!(error, ExecutorError::OutOfRange { .. })
}

fn is_count(error: &ExecutorError) -> bool {
    matches!(error, ExecutorError::Count { .. })
}

fn is_length(error: &ExecutorError) -> bool {
    matches!(error, ExecutorError::Length { .. })
}

fn is_type(error: &ExecutorError) -> bool {
    matches!(error, ExecutorError::Type { .. })
}

fn is_state(error: &ExecutorError) -> bool {
    matches!(error, ExecutorError::State(_))
}

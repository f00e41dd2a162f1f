//! Whether a call's arrays fit their ports: before anything is enqueued, and in words that name the port.

use rnnc_plan::{
    Array, Backward, Element, ExecutionConfig, ExecutorError, Forward, PortKind, Ports, StatePort,
};

/// An address of a tape is a multiple of this.
const TAPE_ALIGNMENT: usize = 64;

fn refuse(port: String, problem: String) -> ExecutorError {
    ExecutorError::Port { port, problem }
}

/// Checks what an array is made of, and its shape.
fn fits(
    port: impl Fn() -> String,
    array: &Array<'_>,
    shape: &[usize],
    elements: &[Element],
) -> Result<(), ExecutorError> {
    if !elements.contains(&array.element()) {
        let names: Vec<&str> = elements.iter().map(|element| element.name()).collect();
        let found = array.element().name();
        return Err(refuse(port(), format!("is of {found}; it is to be of {}", names.join(" or "))));
    }
    if array.shape() != shape {
        let found = array.shape();
        return Err(refuse(port(), format!("has shape {found:?}; the network takes {shape:?}")));
    }
    Ok(())
}

const NUMBERS: &[Element] = &[Element::F32, Element::F64];
const SYMBOLS: &[Element] = &[Element::I32, Element::I64, Element::U32];
const RESETS: &[Element] = &[Element::Bool, Element::U8];

fn elements(kind: PortKind) -> &'static [Element] {
    match kind {
        PortKind::Numbers => NUMBERS,
        PortKind::Symbols => SYMBOLS,
    }
}

fn count(what: &str, found: usize, expected: usize) -> Result<(), ExecutorError> {
    match found == expected {
        true => Ok(()),
        false => Err(refuse(what.into(), format!("are {found}; the network has {expected}"))),
    }
}

/// A list that may be empty instead.
fn count_or_none(what: &str, found: usize, expected: usize) -> Result<(), ExecutorError> {
    if found == 0 { Ok(()) } else { count(what, found, expected) }
}

/// The shape of a vector of the state.
fn state_shape(port: &StatePort, streams: usize) -> Vec<usize> {
    let mut shape = if port.depth == 1 { vec![streams] } else { vec![port.depth, streams] };
    if port.kind == PortKind::Numbers {
        shape.push(port.size);
    }
    shape
}

fn frames_fit(frames: usize, config: ExecutionConfig) -> Result<(), ExecutorError> {
    if (1..=config.window).contains(&frames) {
        return Ok(());
    }
    let expected = format!("1 to {}, the window it was compiled for", config.window);
    Err(ExecutorError::OutOfRange { what: "the frames of a call", expected, found: frames })
}

fn weights_fit(ports: &Ports, weights: &[Array<'_>]) -> Result<(), ExecutorError> {
    count("weights", weights.len(), ports.weights.len())?;
    for (port, array) in ports.weights.iter().zip(weights) {
        fits(|| format!("weight `{}`", port.name), array, &port.shape, NUMBERS)?;
    }
    Ok(())
}

fn resets_fit(resets: Option<&Array<'_>>, shape: [usize; 2]) -> Result<(), ExecutorError> {
    resets.map_or(Ok(()), |resets| fits(|| "the array of resets".into(), resets, &shape, RESETS))
}

fn tape_fits(array: &Array<'_>, len: usize) -> Result<(), ExecutorError> {
    let problem = match () {
        () if array.element() != Element::F32 => {
            format!("is of {}; it is to be of f32", array.element().name())
        }
        () if array.len() < len => format!("has {} numbers; the network's has {len}", array.len()),
        () if !array.is_contiguous() => "is not contiguous".into(),
        () if !array.address().is_multiple_of(TAPE_ALIGNMENT) => {
            format!("lies at {:#x}; its address is to be a multiple of {TAPE_ALIGNMENT}", array.address())
        }
        () => return Ok(()),
    };
    Err(refuse("the tape".into(), problem))
}

/// Checks a forward call.
pub(super) fn forward(
    ports: &Ports,
    config: ExecutionConfig,
    tape: usize,
    call: &Forward<'_, '_>,
) -> Result<(), ExecutorError> {
    frames_fit(call.frames, config)?;
    weights_fit(ports, call.weights)?;
    let (frames, streams) = (call.frames, config.streams);
    count("inputs", call.inputs.len(), ports.inputs.len())?;
    for (port, array) in ports.inputs.iter().zip(call.inputs) {
        let shape = [frames, streams, port.size];
        let shape = if port.kind == PortKind::Numbers { &shape[..] } else { &shape[..2] };
        fits(|| format!("input `{}`", port.name), array, shape, elements(port.kind))?;
    }
    resets_fit(call.resets.as_ref(), [frames, streams])?;
    if let Some(state) = call.state_in {
        count("arrays of the state before", state.len(), ports.state.len())?;
        for (port, array) in ports.state.iter().zip(state) {
            let name = || format!("state `{}` before", port.name);
            fits(name, array, &state_shape(port, streams), elements(port.kind))?;
        }
    }
    count_or_none("outputs", call.outputs.len(), ports.outputs.len())?;
    for (port, array) in ports.outputs.iter().zip(call.outputs.iter()) {
        let Some(array) = array else { continue };
        let shape = [frames, streams, port.size];
        fits(|| format!("output `{}`", port.name), &array.as_array(), &shape, elements(port.kind))?;
    }
    count_or_none("arrays of the state behind", call.state_out.len(), ports.state.len())?;
    for (port, array) in ports.state.iter().zip(call.state_out.iter()) {
        let Some(array) = array else { continue };
        let name = || format!("state `{}` behind", port.name);
        fits(name, &array.as_array(), &state_shape(port, streams), elements(port.kind))?;
    }
    call.tape.as_ref().map_or(Ok(()), |array| tape_fits(&array.as_array(), tape))
}

/// Checks a backward call.
pub(super) fn backward(
    ports: &Ports,
    config: ExecutionConfig,
    tape: usize,
    call: &Backward<'_, '_>,
) -> Result<(), ExecutorError> {
    if !ports.gradients {
        return Err(ExecutorError::Order("the plan was made without gradients"));
    }
    frames_fit(call.frames, config)?;
    weights_fit(ports, call.weights)?;
    let (frames, streams) = (call.frames, config.streams);
    resets_fit(call.resets.as_ref(), [frames, streams])?;
    tape_fits(&call.tape, tape)?;
    count_or_none("gradients of outputs", call.d_outputs.len(), ports.outputs.len())?;
    for (port, array) in ports.outputs.iter().zip(call.d_outputs) {
        let Some(array) = array else { continue };
        let name = || format!("the gradient of output `{}`", port.name);
        fits(name, array, &[frames, streams, port.size], NUMBERS)?;
    }
    count_or_none("gradients of weights", call.d_weights.len(), ports.weights.len())?;
    for (port, array) in ports.weights.iter().zip(call.d_weights.iter()) {
        let Some(array) = array else { continue };
        fits(|| format!("the gradient of weight `{}`", port.name), &array.as_array(), &port.shape, NUMBERS)?;
    }
    count_or_none("gradients of inputs", call.d_inputs.len(), ports.inputs.len())?;
    for (port, array) in ports.inputs.iter().zip(call.d_inputs.iter()) {
        let Some(array) = array else { continue };
        let name = || format!("the gradient of input `{}`", port.name);
        if !ports.input_gradients {
            return Err(refuse(name(), "is none: the plan was made without input gradients".into()));
        }
        if port.kind == PortKind::Symbols {
            return Err(refuse(name(), "is none: symbols have no gradient".into()));
        }
        fits(name, &array.as_array(), &[frames, streams, port.size], NUMBERS)?;
    }
    state_gradients_fit(ports, streams, "behind", call.d_state_out.iter().copied())?;
    let before = call.d_state_in.iter().map(|array| array.as_ref().map(|array| array.as_array()));
    state_gradients_fit(ports, streams, "before", before)
}

fn state_gradients_fit<'a>(
    ports: &Ports,
    streams: usize,
    when: &str,
    arrays: impl ExactSizeIterator<Item = Option<Array<'a>>>,
) -> Result<(), ExecutorError> {
    count_or_none(&format!("gradients of the state {when}"), arrays.len(), ports.state.len())?;
    for (port, array) in ports.state.iter().zip(arrays) {
        let Some(array) = array else { continue };
        let name = || format!("the gradient of state `{}` {when}", port.name);
        if !ports.state_gradients {
            return Err(refuse(name(), "is none: the plan was made without state gradients".into()));
        }
        if port.kind == PortKind::Symbols {
            return Err(refuse(name(), "is none: symbols have no gradient".into()));
        }
        fits(name, &array, &state_shape(port, streams), NUMBERS)?;
    }
    Ok(())
}

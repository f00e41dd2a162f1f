//! Whether the arrays of a call fit its ports: looked at before anything runs, for every executor in the same words.
//!
//! What can be known without reading the arrays is checked here, since they may lie on a device.

use super::array::{Array, ArrayMut, Element};
use super::checks::check_range;
use super::config::ExecutionConfig;
use super::errors::ExecutorError;
use super::ports::{Backward, Forward, Port, PortKind, Ports, StatePort};

/// Tapes begin at multiples of this many bytes.
const TAPE_ALIGNMENT: usize = 64;

/// How an array is refused.
fn refuse(port: &str, name: &str, problem: String) -> ExecutorError {
    let port = if name.is_empty() { port.into() } else { format!("{port} `{name}`") };
    ExecutorError::Port { port, problem }
}

/// What a port takes of each row.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    /// "input"
    what: &'a str,
    name: &'a str,
    kind: PortKind,
    size: usize,
    /// Frames, unless they are no dimension.
    frames: Option<usize>,
    /// Their name.
    frames_are: &'a str,
}

impl<'a> Wanted<'a> {
    fn of_port(what: &'a str, port: &'a Port, frames: usize) -> Wanted<'a> {
        let Port { name, kind, size, .. } = port;
        Wanted { what, name, kind: *kind, size: *size, frames: Some(frames), frames_are: "frames" }
    }

    fn of_state(what: &'a str, port: &'a StatePort) -> Wanted<'a> {
        let StatePort { name, kind, size, depth, .. } = port;
        let frames = (*depth != 1).then_some(*depth);
        Wanted { what, name, kind: *kind, size: *size, frames, frames_are: "frames, oldest first" }
    }

    fn check(self, streams: usize, array: &Array<'_>) -> Result<(), ExecutorError> {
        let Wanted { what, name, kind, size, frames, frames_are } = self;
        let units = (kind == PortKind::Numbers).then_some(size);
        let expected = frames.into_iter().chain([streams]).chain(units);
        if !expected.clone().eq(array.shape().iter().copied()) {
            let names =
                frames.map(|_| frames_are).into_iter().chain(["streams"]).chain(units.map(|_| "units"));
            let (names, expected): (Vec<&str>, Vec<usize>) = (names.collect(), expected.collect());
            let problem =
                format!("has shape {:?}; it must have {expected:?}: {}", array.shape(), names.join(", "));
            return Err(refuse(what, name, problem));
        }
        check_element(what, name, kind, array.element())
    }
}

fn check_element(what: &str, name: &str, kind: PortKind, element: Element) -> Result<(), ExecutorError> {
    let (fits, must) = match kind {
        PortKind::Numbers => (matches!(element, Element::F32 | Element::F64), "f32 or f64"),
        PortKind::Symbols => {
            (matches!(element, Element::I32 | Element::I64 | Element::U32), "i32, i64 or u32, for symbols")
        }
    };
    match fits {
        true => Ok(()),
        false => Err(refuse(what, name, format!("is of {}; it must be of {must}", element.name()))),
    }
}

/// Refuses a list that has not an entry for each port. An empty one of optional entries has none.
fn check_list<'a>(
    what: &'static str,
    names: impl ExactSizeIterator<Item = &'a str>,
    found: usize,
    optional: bool,
) -> Result<(), ExecutorError> {
    let expected = names.len();
    if found == expected || (optional && found == 0) {
        return Ok(());
    }
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    Err(ExecutorError::Count { what, expected, names: names.join(", "), found })
}

impl Ports {
    /// Checks a forward call, all but the values in its arrays.
    ///
    /// # Errors
    /// What does not fit, by the name of its port.
    pub fn check_forward(
        &self,
        config: ExecutionConfig,
        tape_len: usize,
        call: &Forward<'_, '_>,
    ) -> Result<(), ExecutorError> {
        let (frames, streams) = (call.frames, config.streams);
        check_range("the number of frames", frames, 1, config.window)?;
        self.check_weights("weight", call.weights.iter().map(|array| Some(*array)))?;
        check_list("inputs", self.inputs.iter().map(|port| &*port.name), call.inputs.len(), false)?;
        for (port, array) in self.inputs.iter().zip(call.inputs) {
            Wanted::of_port("input", port, frames).check(streams, array)?;
        }
        check_reset_array(streams, frames, call.resets.as_ref())?;
        if let Some(state) = call.state_in {
            check_list("state_in", self.state.iter().map(|port| &*port.name), state.len(), false)?;
            for (port, array) in self.state.iter().zip(state) {
                Wanted::of_state("state_in", port).check(streams, array)?;
            }
        }
        check_list("outputs", self.outputs.iter().map(|port| &*port.name), call.outputs.len(), true)?;
        for (port, array) in self.outputs.iter().zip(call.outputs.iter()) {
            if let Some(array) = array {
                Wanted::of_port("output", port, frames).check(streams, &array.as_array())?;
            }
        }
        check_list("state_out", self.state.iter().map(|port| &*port.name), call.state_out.len(), true)?;
        for (port, array) in self.state.iter().zip(call.state_out.iter()) {
            if let Some(array) = array {
                Wanted::of_state("state_out", port).check(streams, &array.as_array())?;
            }
        }
        match &call.tape {
            Some(_) if !self.gradients => Err(ExecutorError::Order(
                "the network was compiled without gradients: a forward call has no tape",
            )),
            Some(tape) => check_tape(tape_len, &tape.as_array()),
            None => Ok(()),
        }
    }

    /// Checks a backward call, all but the values in its arrays and what the tape says of itself.
    ///
    /// # Errors
    /// What does not fit, by the name of its port; a network that was compiled without these gradients.
    pub fn check_backward(
        &self,
        config: ExecutionConfig,
        tape_len: usize,
        call: &Backward<'_, '_>,
    ) -> Result<(), ExecutorError> {
        let (frames, streams) = (call.frames, config.streams);
        let wanted = |list: &[Option<ArrayMut<'_>>]| list.iter().any(Option::is_some);
        let missing = match () {
            () if !self.gradients => Some("the network was compiled without gradients"),
            () if !self.input_gradients && wanted(call.d_inputs) => {
                Some("the network was compiled without gradients of its inputs")
            }
            () if !self.state_gradients
                && (wanted(call.d_state_in) || call.d_state_out.iter().any(Option::is_some)) =>
            {
                Some("the network was compiled without gradients of its state")
            }
            () => None,
        };
        if let Some(missing) = missing {
            return Err(ExecutorError::Order(missing));
        }
        check_range("the number of frames", frames, 1, config.window)?;
        self.check_weights("weight", call.weights.iter().map(|array| Some(*array)))?;
        check_reset_array(streams, frames, call.resets.as_ref())?;
        check_tape(tape_len, &call.tape)?;
        let outputs = || self.outputs.iter().map(|port| &*port.name);
        check_list("gradients of outputs", outputs(), call.d_outputs.len(), true)?;
        for (port, array) in self.outputs.iter().zip(call.d_outputs) {
            if let Some(array) = array {
                Wanted::of_port("the gradient of output", port, frames).check(streams, array)?;
            }
        }
        let d_state_out = call.d_state_out.iter().copied();
        self.check_state_list("the gradient of state_out", "gradients of state_out", streams, d_state_out)?;
        let d_state_in = call.d_state_in.iter().map(|array| array.as_ref().map(ArrayMut::as_array));
        self.check_state_list("the gradient of state_in", "gradients of state_in", streams, d_state_in)?;
        let inputs = || self.inputs.iter().map(|port| &*port.name);
        check_list("gradients of inputs", inputs(), call.d_inputs.len(), true)?;
        for (port, array) in self.inputs.iter().zip(call.d_inputs.iter()) {
            if let Some(array) = array {
                let what = "the gradient of input";
                if port.kind == PortKind::Symbols {
                    return Err(refuse(what, &port.name, "is not there: symbols have none".into()));
                }
                Wanted::of_port(what, port, frames).check(streams, &array.as_array())?;
            }
        }
        if !call.d_weights.is_empty() {
            let d_weights = call.d_weights.iter().map(|array| array.as_ref().map(ArrayMut::as_array));
            self.check_weights("the gradient of weight", d_weights)?;
        }
        Ok(())
    }

    fn check_state_list<'a>(
        &self,
        what: &'static str,
        list: &'static str,
        streams: usize,
        arrays: impl ExactSizeIterator<Item = Option<Array<'a>>>,
    ) -> Result<(), ExecutorError> {
        check_list(list, self.state.iter().map(|port| &*port.name), arrays.len(), true)?;
        for (port, array) in self.state.iter().zip(arrays) {
            if let Some(array) = array {
                if port.kind == PortKind::Symbols {
                    return Err(refuse(what, &port.name, "is not there: symbols have none".into()));
                }
                Wanted::of_state(what, port).check(streams, &array)?;
            }
        }
        Ok(())
    }

    fn check_weights<'a>(
        &self,
        what: &'static str,
        arrays: impl ExactSizeIterator<Item = Option<Array<'a>>>,
    ) -> Result<(), ExecutorError> {
        let list = if what == "weight" { "weights" } else { "gradients of weights" };
        check_list(list, self.weights.iter().map(|port| &*port.name), arrays.len(), false)?;
        for (port, array) in self.weights.iter().zip(arrays) {
            let Some(array) = array else { continue };
            if port.shape != array.shape() {
                let problem = format!("has shape {:?}; it must have {:?}", array.shape(), port.shape);
                return Err(refuse(what, &port.name, problem));
            }
            check_element(what, &port.name, PortKind::Numbers, array.element())?;
        }
        Ok(())
    }
}

fn check_reset_array(streams: usize, frames: usize, resets: Option<&Array<'_>>) -> Result<(), ExecutorError> {
    let Some(resets) = resets else { return Ok(()) };
    if resets.shape() != [frames, streams] {
        let problem = format!(
            "have shape {:?}; they must have {:?}: frames, streams",
            resets.shape(),
            [frames, streams]
        );
        return Err(refuse("resets", "", problem));
    }
    match resets.element() {
        Element::U8 | Element::Bool => Ok(()),
        other => Err(refuse("resets", "", format!("are of {}; they must be of bool or u8", other.name()))),
    }
}

fn check_tape(tape_len: usize, tape: &Array<'_>) -> Result<(), ExecutorError> {
    let problem = match () {
        () if tape.element() != Element::F32 => format!("is of {}; it must be of f32", tape.element().name()),
        () if tape.len() < tape_len => format!("has {} numbers; it must have {tape_len} or more", tape.len()),
        () if !tape.is_contiguous() => {
            format!("has shape {:?} and strides {:?}; it must be contiguous", tape.shape(), tape.strides())
        }
        () if !tape.address().is_multiple_of(TAPE_ALIGNMENT) => {
            format!("lies at {:#x}; it must lie at a multiple of {TAPE_ALIGNMENT} bytes", tape.address())
        }
        () => return Ok(()),
    };
    Err(refuse("the tape", "", problem))
}

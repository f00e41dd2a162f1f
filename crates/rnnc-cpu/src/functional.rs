//! Calls that are functions of what they are given: weights, inputs, state, and, backward, the tape that the forward call left.
//!
//! What a call needs beside comes from workspaces that are kept between calls ([`kept_bytes`](rnnc_plan::ExecutionConfig::kept_bytes)). A call takes one, or
//! makes one where none is free, and puts it back; it never waits for another call. So calls may come from any threads, and in a
//! process that was forked while another thread made one.

#![allow(unsafe_code)] // the caller's tape, by address

use crate::arrays::{Strided, StridedMut};
use crate::compiled::Compiled;
use crate::flush::FlushSubnormals;
use crate::memory::Aligned;
use crate::slots::Slots;
use crate::workspace::{PassCall, Residuals, Workspace, before};
use rnnc_graph::WeightId;
use rnnc_plan::{
    Array, Backward, Element, ExecutorError, Forward, NO_SYMBOL, PortKind, StartValue, StatePort, TapeHeader,
    WeightView, check_available,
};
use std::ptr::with_exposed_provenance_mut;

/// A call's memory beside what it is given.
pub(crate) struct CallSpace {
    work: Workspace,
    /// The version of its weights, where the caller counts them.
    version: Option<u64>,
    /// For forward calls that have no tape.
    residuals: Option<Aligned>,
    /// `[window, B]`
    resets: Vec<bool>,
}

/// Workspaces that no call has: as many as there is room for in [`kept_bytes`](rnnc_plan::ExecutionConfig::kept_bytes), and at least one.
pub(crate) type Kept = Slots<CallSpace>;

/// More than these would not be found quickly.
pub(crate) const MOST_KEPT: usize = 64;

impl CallSpace {
    fn new(compiled: &Compiled) -> Result<Box<CallSpace>, ExecutorError> {
        let what = format!("a call of network `{}`", compiled.plan.forward.name());
        check_available(&what, compiled.memory.total())?;
        let rows = compiled.config.streams * compiled.config.window;
        Ok(Box::new(CallSpace {
            work: Workspace::new(compiled),
            version: None,
            residuals: None,
            resets: vec![false; rows],
        }))
    }

    /// Of weights whose changes nobody counts, 0.
    fn tag(version: Option<u64>) -> u64 {
        version.map_or(0, |version| version.wrapping_add(1))
    }
}

impl Compiled {
    /// How many `f32` a call's tape has: what the backward call reads of the forward call. 0 without gradients.
    pub fn tape_len(&self) -> usize {
        if self.backward.is_some() { TapeHeader::LEN + self.sizes.residuals } else { 0 }
    }

    /// Runs some frames, as a function of weights, inputs and state: see [`Forward`]. Nothing is allocated once as many calls were under
    /// way at a time as there are again, if what they work in is within [`kept_bytes`](rnnc_plan::ExecutionConfig::kept_bytes); so by one thread, from
    /// its second call on.
    ///
    /// # Errors
    ///
    /// An array that does not fit its port; a number of frames that is 0 or more than the window; memory that is not there. Nothing has
    /// run then.
    pub fn forward(&self, call: Forward<'_, '_>) -> Result<(), ExecutorError> {
        let ports = self.ports();
        ports.check_forward(self.config, self.tape_len(), &call)?;
        for (port, array) in ports.weights.iter().zip(call.weights) {
            check_values(&port.name, PortKind::Numbers, 0, &Strided::of_weight(array))?;
        }
        for (port, array) in ports.inputs.iter().zip(call.inputs) {
            check_values(&port.name, port.kind, port.size, &Strided::of(array))?;
        }
        for (port, array) in ports.state.iter().zip(call.state_in.unwrap_or_default()) {
            check_values(&port.name, port.kind, port.size, &Strided::of_state(array, port.depth))?;
        }
        let _flush = FlushSubnormals::begin();
        let mut space = self.take_space(call.weights, call.weights_version)?;
        let CallSpace { work, residuals: own, resets, .. } = &mut *space;
        let tape = call.tape.as_ref().map(|tape| with_exposed_provenance_mut::<f32>(tape.address()));
        let mut residuals = match tape {
            Some(tape) => {
                // SAFETY: the tape is as long as `tape_len`, on a cache line, and the call's own.
                unsafe { tape.cast::<[u32; TapeHeader::LEN]>().write([0; TapeHeader::LEN]) };
                // SAFETY: the same of what follows the header.
                unsafe { Residuals::at(tape.add(TapeHeader::LEN), self.sizes.residuals, false) }
            }
            None => {
                let own = own.get_or_insert_with(|| Aligned::new(self.sizes.residuals));
                Residuals::of(own.as_mut_slice())
            }
        };
        let (frames, first) = (call.frames, self.config.window - call.frames);
        let has_state = call.state_in.is_some();
        let resets = take_resets(call.resets.as_ref(), &mut resets[..frames * self.config.streams]);
        work.tracker.begin(has_state, call.first_frame);
        for (port, array) in ports.state.iter().zip(call.state_in.unwrap_or_default()) {
            self.take_state(work, &mut residuals, port, first, &Strided::of_state(array, port.depth));
        }
        work.tracker.advance(frames, Some(resets));
        let inputs = call.inputs;
        let given = |place: usize| Some((Strided::of(inputs.get(place)?), frames));
        work.run(self, PassCall { backward: false, first, residuals, seed: call.seed }, &given);
        for (port, array) in ports.outputs.iter().zip(call.outputs.iter_mut()) {
            let Some(array) = array else { continue };
            let view = self.view(false, port.layer).expect("an output is stored");
            work.copy_out(self, residuals.as_slice(), view, first as i64, &StridedMut::of(array));
        }
        for (port, array) in ports.state.iter().zip(call.state_out.iter_mut()) {
            let Some(array) = array else { continue };
            self.give_state(work, residuals.as_slice(), port, &StridedMut::of_state(array, port.depth));
        }
        if let Some(tape) = tape {
            let header = TapeHeader {
                program: self.program,
                frames,
                has_state,
                seed: call.seed,
                first_frame: call.first_frame,
                resets: TapeHeader::hash(resets),
                weights_version: call.weights_version,
            };
            // SAFETY: as above.
            unsafe { tape.cast::<[u32; TapeHeader::LEN]>().write(header.words()) };
        }
        self.put_back(space);
        Ok(())
    }

    /// Computes the gradients of a forward call: see [`Backward`]. It allocates as little as [`Compiled::forward`].
    ///
    /// # Errors
    ///
    /// An array that does not fit its port; a tape that is none of this program, or is of other frames, resets or weights; a plan
    /// without these gradients. Nothing has run then.
    pub fn backward(&self, call: Backward<'_, '_>) -> Result<(), ExecutorError> {
        let ports = self.ports();
        ports.check_backward(self.config, self.tape_len(), &call)?;
        for (port, array) in ports.weights.iter().zip(call.weights) {
            check_values(&port.name, PortKind::Numbers, 0, &Strided::of_weight(array))?;
        }
        for (port, array) in ports.outputs.iter().zip(call.d_outputs) {
            let Some(array) = array else { continue };
            check_values(&port.name, port.kind, port.size, &Strided::of(array))?;
        }
        for (port, array) in ports.state.iter().zip(call.d_state_out) {
            let Some(array) = array else { continue };
            check_values(&port.name, port.kind, port.size, &Strided::of_state(array, port.depth))?;
        }
        let tape = with_exposed_provenance_mut::<f32>(call.tape.address());
        // SAFETY: a tape is as long and aligned, as was checked, and may be read.
        let words = unsafe { tape.cast::<[u32; TapeHeader::LEN]>().read() };
        let header = TapeHeader::read(words, self.program, &call)?;
        let _flush = FlushSubnormals::begin();
        let mut space = self.take_space(call.weights, call.weights_version)?;
        let CallSpace { work, resets, .. } = &mut *space;
        let (frames, first) = (call.frames, self.config.window - call.frames);
        let resets = take_resets(call.resets.as_ref(), &mut resets[..frames * self.config.streams]);
        if let Err(error) = header.check_resets(resets) {
            self.put_back(space);
            return Err(error);
        }
        // SAFETY: the tape is as long as `tape_len`, on a cache line, and nobody writes it; a backward pass does not.
        let residuals = unsafe { Residuals::at(tape.add(TapeHeader::LEN), self.sizes.residuals, true) };
        work.tracker.begin(header.has_state, header.first_frame);
        work.tracker.advance(frames, Some(resets));
        if let Some(before) = &mut work.before {
            for (place, port) in ports.state.iter().enumerate() {
                let Some(vector) = port.vector else { continue };
                let left = call.d_state_out.get(place).and_then(Option::as_ref);
                before.take_left(vector, left.map(|array| Strided::of_state(array, port.depth)));
            }
            before.cut_left(&work.tracker);
            before.clear_starts(work.gradients.as_mut_slice());
        }
        let d_outputs = call.d_outputs;
        let errors = |place: usize| Some((Strided::of(d_outputs.get(place)?.as_ref()?), frames));
        work.run_backward(self, PassCall { backward: true, first, residuals, seed: header.seed }, &errors);
        if let Some(before) = &work.before {
            before.add_starts(work.gradients.as_mut_slice());
        }
        for (place, array) in call.d_weights.iter_mut().enumerate() {
            let Some(array) = array else { continue };
            let view = self.plan.weights.view(WeightId::from_index(place));
            give_weight(work.gradients.as_slice(), view, &StridedMut::of_weight(array));
        }
        for (place, array) in call.d_inputs.iter_mut().enumerate() {
            let Some(array) = array else { continue };
            let layer = self.plan.check_input_gradient(place, frames)?;
            let view = self.view(true, layer).expect("the gradient of an input is handed out");
            work.copy_out(self, residuals.as_slice(), view, first as i64, &StridedMut::of(array));
        }
        if call.d_state_in.iter().any(Option::is_some) {
            before::run(work, self, residuals.as_slice(), first);
        }
        for (port, array) in ports.state.iter().zip(call.d_state_in.iter_mut()) {
            let (Some(array), Some(vector), Some(before)) = (array, port.vector, &work.before) else {
                continue;
            };
            let to = StridedMut::of_state(array, port.depth);
            let rows = before.gradient(vector).chunks_exact(port.size.max(1)).enumerate();
            let streams = self.config.streams;
            // SAFETY: no other thread has the array.
            rows.for_each(|(row, values)| unsafe { to.write(row / streams, row % streams, 0, values) });
        }
        self.put_back(space);
        Ok(())
    }

    /// A workspace that has these weights.
    fn take_space(
        &self,
        weights: &[Array<'_>],
        version: Option<u64>,
    ) -> Result<Box<CallSpace>, ExecutorError> {
        let kept = self.kept.take(CallSpace::tag(version));
        let mut space = kept.map_or_else(|| CallSpace::new(self), Ok)?;
        if version.is_none() || space.version != version {
            for (place, array) in weights.iter().enumerate() {
                let view = self.plan.weights.view(WeightId::from_index(place));
                take_weight(&Strided::of_weight(array), view, space.work.weights.as_mut_slice());
            }
            space.work.weights_changed();
            space.version = version;
        }
        space.work.spoil();
        Ok(space)
    }

    fn put_back(&self, space: Box<CallSpace>) {
        let tag = CallSpace::tag(space.version);
        self.kept.put(space, tag);
    }

    /// Puts a vector of the state before the frame `first` of the window.
    fn take_state(
        &self,
        work: &mut Workspace,
        residuals: &mut Residuals<'_>,
        port: &StatePort,
        first: usize,
        values: &Strided<'_>,
    ) {
        let view = self.view(false, port.layer).expect("state is stored");
        for frame in 0..port.depth {
            let place = (first + frame) as i64 - port.depth as i64;
            for stream in 0..self.config.streams {
                values.read(frame, stream, 0, work.row(self, residuals, view, (place, stream)));
            }
        }
    }

    /// Copies a vector of the state behind the window's last frame: of frames before a stream's last reset, the layer's start.
    fn give_state(&self, work: &Workspace, residuals: &[f32], port: &StatePort, out: &StridedMut<'_>) {
        let view = self.view(false, port.layer).expect("state is stored");
        let first = self.config.window as i64 - port.depth as i64;
        work.copy_out(self, residuals, view, first, out);
        let since = work.tracker.last_since_reset(1);
        let start = self.plan.weights.start(self.plan.forward.layer_at(port.layer).start);
        for (stream, &since) in since.iter().enumerate() {
            // Those further back than the frames since.
            for frame in 0..(port.depth - 1).saturating_sub(since as usize) {
                match start {
                    StartValue::Weight(offset) => {
                        let values = &work.weights.as_slice()[offset..offset + view.len];
                        // SAFETY: no other thread has the array.
                        unsafe { out.write(frame, stream, 0, values) }
                    }
                    StartValue::Number(number) => {
                        let value = match port.kind {
                            PortKind::Symbols => f32::from_bits(NO_SYMBOL),
                            PortKind::Numbers => number as f32,
                            other => unreachable!("a state of {other:?}"),
                        };
                        // SAFETY: as above.
                        (0..view.len).for_each(|unit| unsafe { out.write(frame, stream, unit, &[value]) });
                    }
                }
            }
        }
    }
}

/// Copies the resets of a call; all false if there are none.
fn take_resets<'a>(resets: Option<&Array<'_>>, to: &'a mut [bool]) -> &'a [bool] {
    to.fill(false);
    if let Some(resets) = resets {
        let resets = Strided::of(resets);
        let streams = resets.shape()[1];
        let mut value = [0.0];
        for (row, to) in to.iter_mut().enumerate() {
            resets.read(row / streams, row % streams, 0, &mut value);
            *to = value[0] != 0.0;
        }
    }
    to
}

/// Refuses symbols past the last, and numbers that single precision cannot hold.
fn check_values(name: &str, kind: PortKind, size: usize, values: &Strided<'_>) -> Result<(), ExecutorError> {
    let name = || name.to_owned();
    if kind == PortKind::Symbols {
        let past = |x: f64| !(x == -1.0 || (x >= 0.0 && x < size as f64));
        let Some(([frame, stream, _], found)) = values.find(past) else { return Ok(()) };
        return Err(ExecutorError::Symbol {
            name: name(),
            symbols: size,
            found: found as i64,
            frame,
            stream,
        });
    }
    if !values.is_of(Element::F64) {
        return Ok(());
    }
    let Some(([i, j, k], found)) = values.find(|x| x.is_finite() && (x as f32).is_infinite()) else {
        return Ok(());
    };
    let [_, streams, units] = values.shape();
    Err(ExecutorError::TooLarge { name: name(), place: (i * streams + j) * units + k, found })
}

/// Numbers of a row that are copied at a time where they lie apart.
const PIECE: usize = 256;

/// Calls `each` with every row of a weight: its place in the canonical shape, its place in the flat buffer, how many numbers it has
/// there, and from one to the next. Rows whose numbers lie apart come in pieces, each with the first of its numbers.
fn for_each_piece([heads, rows, columns]: [usize; 3], view: WeightView, mut each: impl FnMut(Piece)) {
    // A vector has one column in the plan, and one row in its array.
    let (row_stride, stride) = match (rows, columns) == (view.rows, view.columns) {
        true => (view.row_stride, view.column_stride),
        false => (0, view.row_stride),
    };
    let most = if stride == 1 { columns } else { PIECE };
    for head in 0..heads {
        for row in 0..rows {
            for first in (0..columns).step_by(most.max(1)) {
                let at = view.offset + head * view.head_stride + row * row_stride + first * stride;
                each(Piece { head, row, first, at, len: most.min(columns - first), stride });
            }
        }
    }
}

/// Some numbers of a row of a weight.
struct Piece {
    head: usize,
    row: usize,
    first: usize,
    at: usize,
    len: usize,
    stride: usize,
}

/// Copies a weight to its place in the flat buffer.
fn take_weight(from: &Strided<'_>, view: WeightView, to: &mut [f32]) {
    let mut numbers = [0.0; PIECE];
    for_each_piece(from.shape(), view, |Piece { head, row, first, at, len, stride }| {
        if stride == 1 {
            return from.read(head, row, first, &mut to[at..at + len]);
        }
        let numbers = &mut numbers[..len];
        from.read(head, row, first, numbers);
        to[at..].iter_mut().step_by(stride).zip(numbers).for_each(|(to, from)| *to = *from);
    });
}

/// Copies a weight's gradient from its place in the flat buffer.
fn give_weight(from: &[f32], view: WeightView, to: &StridedMut<'_>) {
    let mut numbers = [0.0; PIECE];
    for_each_piece(to.shape(), view, |Piece { head, row, first, at, len, stride }| {
        if stride == 1 {
            // SAFETY: no other thread has the array.
            return unsafe { to.write(head, row, first, &from[at..at + len]) };
        }
        let numbers = &mut numbers[..len];
        from[at..].iter().step_by(stride).zip(&mut *numbers).for_each(|(from, to)| *to = *from);
        // SAFETY: as above.
        unsafe { to.write(head, row, first, numbers) };
    });
}

//! A network that runs as frames arrive. The arrays are NumPy's, which `python/rnnc/session.py` owns and hands in as addresses.

#![allow(unsafe_code)] // addresses from Python

use crate::network::Network;
use crate::{error, precision};
use pyo3::prelude::*;
use rnnc::cpu::SessionOptions;
use rnnc::graph::{LayerKind, WeightId};
use rnnc::plan::{State, Values, ValuesMut};

/// A session: see `rnnc.Session`, its only user.
#[pyclass(module = "rnnc._native")]
pub struct Session {
    session: rnnc::cpu::Session,
    /// Units of each input; of one that takes symbols, none.
    inputs: Vec<Option<usize>>,
    /// Units of each output.
    outputs: Vec<usize>,
    streams: usize,
    resets: Vec<bool>,
}

/// What a session carries from frame to frame.
#[pyclass(frozen, module = "rnnc._native")]
pub struct SessionState(State);

#[pymethods]
impl Session {
    #[new]
    fn new(
        network: &Network,
        weights: Vec<Vec<u8>>,
        streams: usize,
        threads: usize,
        block: usize,
        precision: &str,
    ) -> PyResult<Session> {
        let options = SessionOptions { streams, threads, block, precision: self::precision(precision)? };
        let graph = &network.graph;
        let mut session = rnnc::cpu::Session::with(graph, options).map_err(error)?;
        for (index, values) in network.of_bytes(&weights)?.0.iter().enumerate() {
            session.write(WeightId::from_index(index), Values::F64(values)).map_err(error)?;
        }
        let units = |&id| {
            let layer = graph.layer_at(id);
            (layer.kind != LayerKind::Symbol).then_some(layer.size)
        };
        Ok(Session {
            session,
            inputs: graph.inputs().iter().map(units).collect(),
            outputs: graph.outputs().iter().map(|output| graph.layer_at(output.layer).size).collect(),
            streams,
            resets: Vec::new(),
        })
    }

    /// Runs frames. Inputs are addresses of `[frames, B, N]` numbers in single precision, or of `[frames, B]` symbols of 32 bits;
    /// resets of `[frames, B]` bytes, or 0; outputs of room for `[frames, B, N]` numbers. All contiguous, and as long as the call
    /// runs nobody else's: `rnnc.Session` sees to that.
    fn run(
        &mut self,
        py: Python<'_>,
        frames: usize,
        inputs: Vec<usize>,
        resets: usize,
        outputs: Vec<usize>,
    ) -> PyResult<()> {
        let rows = frames * self.streams;
        let known = |address: &usize| *address != 0 && address.is_multiple_of(4);
        if inputs.len() != self.inputs.len() || outputs.len() != self.outputs.len() {
            return Err(error("a session got other arrays than its network has inputs and outputs"));
        }
        if !inputs.iter().chain(&outputs).all(known) {
            return Err(error("a session got an array that is not aligned"));
        }
        let values: Vec<Values<'_>> = inputs
            .iter()
            .zip(&self.inputs)
            .map(|(&address, &units)| {
                // SAFETY: the caller says that so many lie there, and that nothing changes them; they are aligned.
                unsafe {
                    match units {
                        Some(units) => {
                            Values::F32(std::slice::from_raw_parts(address as *const f32, rows * units))
                        }
                        None => Values::Symbols(std::slice::from_raw_parts(address as *const u32, rows)),
                    }
                }
            })
            .collect();
        let mut room: Vec<ValuesMut<'_>> = outputs
            .iter()
            .zip(&self.outputs)
            .map(|(&address, &units)| {
                // SAFETY: the caller says that there is room for so many, and that it is nobody else's; it is aligned.
                ValuesMut::F32(unsafe { std::slice::from_raw_parts_mut(address as *mut f32, rows * units) })
            })
            .collect();
        self.resets.clear();
        if resets != 0 {
            // SAFETY: the caller says that so many bytes lie there, and that nothing changes them.
            let bytes = unsafe { std::slice::from_raw_parts(resets as *const u8, rows) };
            self.resets.extend(bytes.iter().map(|&byte| byte != 0));
        }
        let (session, resets) = (&mut self.session, (resets != 0).then_some(&*self.resets));
        py.detach(|| session.run(frames, &values, resets, &mut room)).map_err(error)
    }

    /// Begins all streams anew.
    fn reset(&mut self) {
        self.session.reset();
    }

    /// What the next frame will read of those before.
    fn state(&self) -> SessionState {
        SessionState(self.session.state())
    }

    /// Goes on from a state.
    fn set_state(&mut self, state: &SessionState) -> PyResult<()> {
        self.session.set_state(&state.0).map_err(error)
    }
}

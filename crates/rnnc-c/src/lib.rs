//! Recurrent networks from C.
//!
//! [`rnnc_load`] reads a network and its weights, [`rnnc_run`] runs it as frames arrive, state kept in between. It is
//! [`rnnc::cpu::Session`] with C's types; `include/rnnc.h` is made of this file, and `examples/stream.c` shows its use.
//!
//! A function that can fail returns 0 or a session if it succeeds, and -1 or null if it fails; [`rnnc_error`] says what went
//! wrong. No panic leaves this library.

#![allow(unsafe_code)] // pointers from C

use rnnc::cpu::{Session, SessionOptions};
use rnnc::graph::LayerKind;
use rnnc::plan::{Values, ValuesMut};
use rnnc::{Model, ModelError};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// A network with its weights and its state.
#[allow(non_camel_case_types)] // as C writes it
pub struct rnnc_session {
    session: Session,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    streams: usize,
    /// Those of the last call.
    resets: Vec<bool>,
}

/// An input or an output.
struct Port {
    name: CString,
    /// Units; of symbols, how many there are.
    size: usize,
    symbols: bool,
}

/// Networks of more inputs or outputs than these allocate in every call.
const FEW: usize = 16;

thread_local! {
    static ERROR: RefCell<CString> = RefCell::default();
}

/// Keeps what went wrong for [`rnnc_error`].
fn fail(message: impl ToString) {
    let text = message.to_string().replace('\0', " ");
    ERROR.with_borrow_mut(|error| *error = CString::new(text).unwrap_or_default());
}

/// Does something; what goes wrong in it, panics included, is kept, and `otherwise` returned.
fn guarded<T>(otherwise: T, work: impl FnOnce() -> Result<T, String>) -> T {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return value,
        Ok(Err(message)) => fail(message),
        Err(_) => fail("internal error: rnnc panicked; the session must not be used again"),
    }
    otherwise
}

/// What went wrong in the last call on this thread that failed. Valid until the next one fails.
#[unsafe(no_mangle)]
pub extern "C" fn rnnc_error() -> *const c_char {
    ERROR.with_borrow(|error| error.as_ptr())
}

/// Loads a network and its weights (a weights file or a checkpoint), to run `streams` streams side by side on the calling thread,
/// at most `block` frames at a time: 1 if each frame must be answered before the next, more where blocks arrive. Null if that
/// fails.
///
/// # Safety
/// Both paths are strings that end with a 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rnnc_load(
    network: *const c_char,
    weights: *const c_char,
    streams: usize,
    block: usize,
) -> *mut rnnc_session {
    guarded(ptr::null_mut(), || {
        // SAFETY: the caller says so.
        let (network, weights) = unsafe { (path(network, "network")?, path(weights, "weights")?) };
        let session = load(network, weights, streams, block).map_err(|error| error.to_string())?;
        Ok(Box::into_raw(Box::new(session)))
    })
}

/// # Safety
/// It is null, or a string that ends with a 0.
unsafe fn path<'a>(path: *const c_char, what: &str) -> Result<&'a str, String> {
    if path.is_null() {
        return Err(format!("the path of the {what} is null"));
    }
    // SAFETY: the caller says so.
    unsafe { CStr::from_ptr(path) }.to_str().map_err(|_| format!("the path of the {what} is not UTF-8"))
}

fn load(network: &str, weights: &str, streams: usize, block: usize) -> Result<rnnc_session, ModelError> {
    let model = Model::load(network, weights)?;
    let session = model.session_with(SessionOptions { streams, block, ..SessionOptions::default() })?;
    let graph = model.graph();
    let port = |name: &str, layer| {
        let layer = graph.layer_at(layer);
        let name = CString::new(name).unwrap_or_default();
        Port { name, size: layer.size, symbols: layer.kind == LayerKind::Symbol }
    };
    Ok(rnnc_session {
        inputs: graph.inputs().iter().map(|&input| port(&graph.layer_at(input).name, input)).collect(),
        outputs: graph.outputs().iter().map(|output| port(&output.name, output.layer)).collect(),
        streams,
        // The session has taken more than that for them.
        resets: Vec::with_capacity(streams * block),
        session,
    })
}

/// Ends a session; null is ignored.
///
/// # Safety
/// It is of [`rnnc_load`], and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rnnc_free(session: *mut rnnc_session) {
    if !session.is_null() {
        // SAFETY: it came out of a box, and the caller gives it back.
        drop(unsafe { Box::from_raw(session) });
    }
}

/// # Safety
/// The session is null, which has none, or of [`rnnc_load`].
unsafe fn inputs<'a>(session: *const rnnc_session) -> &'a [Port] {
    // SAFETY: the caller says so.
    unsafe { session.as_ref() }.map_or(&[], |session| &session.inputs)
}

/// # Safety
/// As [`inputs`].
unsafe fn outputs<'a>(session: *const rnnc_session) -> &'a [Port] {
    // SAFETY: the caller says so.
    unsafe { session.as_ref() }.map_or(&[], |session| &session.outputs)
}

/// How many inputs the network has.
///
/// # Safety
/// The session is of [`rnnc_load`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rnnc_inputs(session: *const rnnc_session) -> usize {
    // SAFETY: the caller says so.
    unsafe { inputs(session) }.len()
}

/// How many outputs the network has.
///
/// # Safety
/// The session is of [`rnnc_load`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rnnc_outputs(session: *const rnnc_session) -> usize {
    // SAFETY: the caller says so.
    unsafe { outputs(session) }.len()
}

/// The name of an input; null if there is none.
///
/// # Safety
/// The session is of [`rnnc_load`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rnnc_input_name(session: *const rnnc_session, input: usize) -> *const c_char {
    // SAFETY: the caller says so.
    unsafe { inputs(session) }.get(input).map_or(ptr::null(), |port| port.name.as_ptr())
}

/// The name of an output; null if there is none.
///
/// # Safety
/// The session is of [`rnnc_load`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rnnc_output_name(session: *const rnnc_session, output: usize) -> *const c_char {
    // SAFETY: the caller says so.
    unsafe { outputs(session) }.get(output).map_or(ptr::null(), |port| port.name.as_ptr())
}

/// Numbers of an input in a frame of a stream, N; 0 for an input of symbols, and where there is none.
///
/// # Safety
/// The session is of [`rnnc_load`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rnnc_input_size(session: *const rnnc_session, input: usize) -> usize {
    // SAFETY: the caller says so.
    unsafe { inputs(session) }.get(input).filter(|port| !port.symbols).map_or(0, |port| port.size)
}

/// How many symbols an input has; 0 for an input of numbers, and where there is none.
///
/// # Safety
/// The session is of [`rnnc_load`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rnnc_input_symbols(session: *const rnnc_session, input: usize) -> usize {
    // SAFETY: the caller says so.
    unsafe { inputs(session) }.get(input).filter(|port| port.symbols).map_or(0, |port| port.size)
}

/// Numbers of an output in a frame of a stream, N; 0 where there is none.
///
/// # Safety
/// The session is of [`rnnc_load`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rnnc_output_size(session: *const rnnc_session, output: usize) -> usize {
    // SAFETY: the caller says so.
    unsafe { outputs(session) }.get(output).map_or(0, |port| port.size)
}

/// Runs `frames` frames, one or more, going on from the last call. Gives 0, or -1 if it fails; then nothing has run.
///
/// `inputs` has a pointer for each input: to `[frames, streams, N]` numbers (`float`), or `[frames, streams]` symbols
/// (`uint32_t`; `UINT32_MAX`: none). `outputs` has one for each output: to room for `[frames, streams, N]` numbers. `resets` is
/// null, or `[frames, streams]` bytes: where one is not 0, that stream begins anew in that frame.
///
/// Once the first call has been through, it allocates nothing (with up to 16 inputs, up to 16 outputs, and resets of up to `block`
/// frames; but for the words of an error), waits for nobody and makes no system call: a real-time thread may call it.
///
/// # Safety
/// The session is of [`rnnc_load`] and no other thread uses it meanwhile; the arrays are as large as that, and no output lies
/// in another array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rnnc_run(
    session: *mut rnnc_session,
    frames: usize,
    inputs: *const *const std::ffi::c_void,
    resets: *const u8,
    outputs: *const *mut f32,
) -> c_int {
    guarded(-1, || {
        // SAFETY: the caller says so.
        let session = unsafe { session.as_mut() }.ok_or("the session is null")?;
        // No slice may be larger, whatever the caller says: its numbers have 4 bytes each.
        let numbers = |rows: usize, of: usize| {
            let numbers = rows.checked_mul(of).filter(|&numbers| numbers <= isize::MAX as usize / 4);
            numbers.ok_or_else(|| format!("{frames} frames are more than memory can hold"))
        };
        let rows = numbers(frames, session.streams)?;
        let len = |port: &Port| numbers(rows, port.size);
        if (inputs.is_null() && !session.inputs.is_empty()) || outputs.is_null() {
            return Err("the list of inputs or of outputs is null".into());
        }
        // SAFETY: the caller says how many there are. As bytes, for C may have any number in one.
        let resets = (!resets.is_null()).then(|| unsafe { std::slice::from_raw_parts(resets, rows) });
        let mut given: SmallVec<[Values<'_>; FEW]> = SmallVec::new();
        for (place, port) in session.inputs.iter().enumerate() {
            // SAFETY: there is a pointer for each input.
            let input = unsafe { *inputs.add(place) };
            if input.is_null() {
                return Err(format!("the array of input `{}` is null", port.name.to_string_lossy()));
            }
            // SAFETY: the caller says what it points to.
            given.push(unsafe {
                match port.symbols {
                    true => Values::Symbols(std::slice::from_raw_parts(input.cast(), rows)),
                    false => Values::F32(std::slice::from_raw_parts(input.cast(), len(port)?)),
                }
            });
        }
        let mut taken: SmallVec<[ValuesMut<'_>; FEW]> = SmallVec::new();
        for (place, port) in session.outputs.iter().enumerate() {
            // SAFETY: there is a pointer for each output.
            let output = unsafe { *outputs.add(place) };
            if output.is_null() {
                return Err(format!("the array of output `{}` is null", port.name.to_string_lossy()));
            }
            // SAFETY: the caller says what it points to, and that no two overlap.
            taken.push(ValuesMut::F32(unsafe { std::slice::from_raw_parts_mut(output, len(port)?) }));
        }
        let resets = resets.map(|bytes| {
            session.resets.clear();
            session.resets.extend(bytes.iter().map(|&byte| byte != 0));
            &*session.resets
        });
        session.session.run(frames, &given, resets, &mut taken).map_err(|error| error.to_string())?;
        Ok(0)
    })
}

/// Begins all streams anew.
///
/// # Safety
/// The session is of [`rnnc_load`] and no other thread uses it meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rnnc_reset(session: *mut rnnc_session) {
    // SAFETY: the caller says so.
    if let Some(session) = unsafe { session.as_mut() } {
        session.session.reset();
    }
}

//! What a caller in C can do wrong is an error in words, and no crash.

#![allow(unsafe_code)] // calls as C makes them

use rnnc::Model;
use rnnc_c::*;
use std::ffi::{CStr, CString, c_void};
use std::ptr;

const NETWORK: &str = "network n {
    input x : vector(3)
    input s : symbol(5)
    h = elman(x; 4) + dense(s; 4)
    y = tanh(h)
    output h, y
}";

/// A session of that network, for so many streams and frames at a time.
fn session(streams: usize, block: usize) -> *mut rnnc_session {
    let directory = tempfile::tempdir().unwrap();
    let (network, weights) = (directory.path().join("n.rnn"), directory.path().join("w.safetensors"));
    std::fs::write(&network, NETWORK).unwrap();
    Model::read(&network).unwrap().save(&weights).unwrap();
    let [network, weights] = [network, weights].map(|path| CString::new(path.to_str().unwrap()).unwrap());
    // SAFETY: two strings.
    let session = unsafe { rnnc_load(network.as_ptr(), weights.as_ptr(), streams, block) };
    assert!(!session.is_null(), "{}", said());
    session
}

/// What the last call that failed says.
fn said() -> String {
    // SAFETY: nothing has failed since.
    unsafe { CStr::from_ptr(rnnc_error()) }.to_string_lossy().into_owned()
}

#[test]
fn a_session_says_what_it_takes_and_gives() {
    let session = session(2, 4);
    // SAFETY: the session is there until it is freed.
    unsafe {
        assert_eq!((rnnc_inputs(session), rnnc_outputs(session)), (2, 2));
        assert_eq!(CStr::from_ptr(rnnc_input_name(session, 1)).to_str().unwrap(), "s");
        assert_eq!(CStr::from_ptr(rnnc_output_name(session, 1)).to_str().unwrap(), "y");
        assert_eq!([0, 1, 2].map(|input| rnnc_input_size(session, input)), [3, 0, 0]);
        assert_eq!([0, 1, 2].map(|input| rnnc_input_symbols(session, input)), [0, 5, 0]);
        assert_eq!([0, 1, 2].map(|output| rnnc_output_size(session, output)), [4, 4, 0]);
        assert!(rnnc_input_name(session, 2).is_null() && rnnc_output_name(session, 2).is_null());
        rnnc_free(session);
    }
}

#[test]
fn streams_go_on_from_call_to_call_until_they_are_reset() {
    let session = session(2, 4);
    let (x, s) = ([0.5f32; 3 * 2 * 3], [1u32; 3 * 2]);
    let inputs = [x.as_ptr().cast::<c_void>(), s.as_ptr().cast()];
    let run = |resets: *const u8| {
        let (mut h, mut y) = ([0.0f32; 3 * 2 * 4], [0.0f32; 3 * 2 * 4]);
        let outputs = [h.as_mut_ptr(), y.as_mut_ptr()];
        // SAFETY: three frames of two streams, in and out.
        let status = unsafe { rnnc_run(session, 3, inputs.as_ptr(), resets, outputs.as_ptr()) };
        assert_eq!(status, 0, "{}", said());
        h
    };
    let first = run(ptr::null());
    assert_ne!(run(ptr::null()), first, "it goes on");
    // Of the first stream, in the first frame; any number is a reset.
    let again = run([7, 0, 0, 0, 0, 0].as_ptr());
    assert!(again[..4] == first[..4] && again[4..8] != first[4..8]);
    // SAFETY: the session is there until it is freed.
    unsafe { rnnc_reset(session) };
    assert_eq!(run(ptr::null()), first);
    // SAFETY: it is not used again.
    unsafe { rnnc_free(session) };
}

#[test]
fn what_is_wrong_is_said() {
    let session = session(1, 1);
    let (x, s, mut h) = ([0.5f32; 3], [9u32], [0.0f32; 4]);
    let mut y = h;
    let right = [x.as_ptr().cast::<c_void>(), s.as_ptr().cast()];
    let outputs = [h.as_mut_ptr(), y.as_mut_ptr()];
    let run = |session, frames, inputs: &[*const c_void], outputs: *const *mut f32| {
        // SAFETY: what is there is as large as one frame; whoever reads more must have refused before.
        let status = unsafe { rnnc_run(session, frames, inputs.as_ptr(), ptr::null(), outputs) };
        assert_eq!(status, -1);
        said()
    };
    assert_eq!(run(ptr::null_mut(), 1, &right, outputs.as_ptr()), "the session is null");
    assert!(run(session, 1, &right, outputs.as_ptr()).contains("symbol 9"));
    assert_eq!(run(session, 1, &right, ptr::null()), "the list of inputs or of outputs is null");
    assert_eq!(run(session, 1, &[ptr::null(), right[1]], outputs.as_ptr()), "the array of input `x` is null");
    assert_eq!(
        run(session, 1, &right, [outputs[0], ptr::null_mut()].as_ptr()),
        "the array of output `y` is null"
    );
    for frames in [usize::MAX, isize::MAX as usize / 4] {
        assert!(run(session, frames, &right, outputs.as_ptr()).contains("more than memory can hold"));
    }
    assert!(run(session, 0, &right, outputs.as_ptr()).contains("the number of frames"));
    let path = CString::new("nothing.rnn").unwrap();
    // SAFETY: strings, or null; the session is not used again.
    unsafe {
        assert!(rnnc_load(ptr::null(), path.as_ptr(), 1, 1).is_null());
        assert_eq!(said(), "the path of the network is null");
        assert!(rnnc_load(path.as_ptr(), path.as_ptr(), 1, 1).is_null());
        assert!(said().contains("nothing.rnn"));
        assert!(rnnc_load(c"\xff.rnn".as_ptr(), path.as_ptr(), 1, 1).is_null());
        assert_eq!(said(), "the path of the network is not UTF-8");
        rnnc_free(session);
        rnnc_free(ptr::null_mut());
    }
}

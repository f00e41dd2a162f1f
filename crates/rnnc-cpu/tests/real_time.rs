//! What a real-time thread may call makes no system call: so it neither waits nor takes memory of the system.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "a forked process gives up its system calls")]

mod counting;

use counting::{COUNT, network};
use rnnc_cpu::{Session, SessionOptions};
use rnnc_graph::WeightId;
use rnnc_plan::{Values, ValuesMut};
use std::sync::atomic::Ordering;

/// What a forked process ends with that runs this with no system call but `exit`; -1 if a signal ended it.
fn without_system_calls(run: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child takes no lock of another thread, and ends here.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: from here on the kernel ends the process at any call but `read`, `write` and `exit`.
        let strict = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) } == 0;
        let code = if !strict { 3 } else { libc::c_int::from(!run()) };
        // SAFETY: it ends the thread, the only one, without what the test's process would do at its end.
        unsafe { libc::syscall(libc::SYS_exit, code) };
    }
    let mut status = 0;
    // SAFETY: `child` is a child of this process, and `status` is there.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 }
}

#[test]
fn a_session_of_one_thread_runs_frames_and_takes_weights_without_system_calls_or_allocations() {
    let options = SessionOptions { block: 8, ..SessionOptions::default() };
    let mut session = Session::with(&network(), options).unwrap();
    let (x, s, mut y) = (vec![0.1; 5 * 20], vec![3; 20], vec![0.0; 40 * 20]);
    let numbers = vec![0.01; 40 * 40];
    let weight = session.plan().forward.weights().iter().position(|weight| weight.len() == numbers.len());
    let weight = WeightId::from_index(weight.unwrap());
    let mut all = || {
        session.reset();
        session.write(weight, Values::F32(&numbers)).is_ok()
            && session.step(&[Values::F32(&x[..5]), Values::Symbols(&s[..1])], Some(&[true])).is_ok()
            && session.output(0, ValuesMut::F32(&mut y[..40])).is_ok()
            && [20, 8, 1].into_iter().all(|frames| {
                let inputs = [Values::F32(&x[..5 * frames]), Values::Symbols(&s[..frames])];
                session.run(frames, &inputs, None, &mut [ValuesMut::F32(&mut y[..40 * frames])]).is_ok()
            })
    };
    assert!(all());
    let ended = without_system_calls(|| {
        let before = COUNT.load(Ordering::Relaxed);
        (0..50).all(|_| all()) && COUNT.load(Ordering::Relaxed) == before
    });
    assert_eq!(
        ended, 0,
        "1: an allocation or an error; -1: a system call; 3: the machine cannot forbid them"
    );
}

#[test]
fn a_system_call_is_seen() {
    let ended = without_system_calls(|| std::thread::spawn(|| ()).join().is_ok());
    assert_eq!(ended, -1);
}

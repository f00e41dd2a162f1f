//! What a forked process finds.

#![allow(unsafe_code)] // a process is forked

/// Runs something in a forked process, which says whether it went well: whether the process was waited for, and its status, which is
/// then 0. What is run takes no lock that another thread of the test may have.
pub fn forked(run: impl FnOnce() -> bool) -> (bool, i32) {
    // SAFETY: the child calls nothing but `run`, and leaves at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let well = run();
        // SAFETY: it ends the child, without what the test's process would do at its end.
        unsafe { libc::_exit(if well { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `child` is a child of this process, and `status` is there.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    (ended == child, status)
}

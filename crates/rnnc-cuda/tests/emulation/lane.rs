//! What kernels see of the scheduler: the records and the functions of `emulated.hpp`.

use super::scheduler::{Launch, Waits};
use std::ffi::{c_int, c_void};

/// What a thread knows of itself; stands at the top of its stack.
#[repr(C)]
pub struct Lane {
    pub thread: u32,
    pub threads: u32,
    pub block: u32,
    pub blocks: u32,
    pub rank: u32,
    /// Its place among the resident threads.
    pub id: u32,
    pub shared: *mut u8,
    pub shared_bytes: u64,
    /// The allocation that was used last.
    pub low: u64,
    pub size: u64,
    pub host: *mut Host,
}

/// Computes for all lanes of a warp what each handed in.
pub type Combine = unsafe extern "C" fn(*mut *mut c_void, u32);

/// The functions that kernels call, and the launch they belong to.
#[repr(C)]
pub struct Host {
    /// Whether this launch has put anything.
    pub buffered: u32,
    unused: u32,
    pub launch: *mut Launch,
    block_sync: unsafe extern "C" fn(*mut Lane, c_int),
    together: unsafe extern "C" fn(*mut Lane, c_int, *mut c_void, Combine),
    warp_sync: unsafe extern "C" fn(*mut Lane, c_int),
    cluster_arrive: unsafe extern "C" fn(*mut Lane, c_int),
    cluster_wait: unsafe extern "C" fn(*mut Lane, c_int),
    check: unsafe extern "C" fn(*mut Lane, c_int, u64, u32),
    check_constant: unsafe extern "C" fn(*mut Lane, c_int, u64, u32),
    put: unsafe extern "C" fn(*mut Lane, c_int, u64, u32),
    put_shared: unsafe extern "C" fn(*mut Lane, c_int, u64, u32, u32),
    post: unsafe extern "C" fn(*mut Lane, c_int, u64, u32),
    fresh: unsafe extern "C" fn(*mut Lane, c_int, u64) -> u32,
    own: unsafe extern "C" fn(*mut Lane, c_int, u64) -> u32,
    signal: unsafe extern "C" fn(*mut Lane, c_int, *mut u32),
    peek: unsafe extern "C" fn(*mut Lane, c_int, *mut u32) -> u32,
    ticket: unsafe extern "C" fn(*mut Lane, c_int, *mut u32) -> u32,
    reset: unsafe extern "C" fn(*mut Lane, c_int, *mut u32),
    raise: unsafe extern "C" fn(*mut Lane, c_int, *mut u32, u32),
}

impl Host {
    pub fn new() -> Host {
        Host {
            buffered: 0,
            unused: 0,
            launch: std::ptr::null_mut(),
            block_sync,
            together,
            warp_sync,
            cluster_arrive,
            cluster_wait,
            check,
            check_constant,
            put,
            put_shared,
            post,
            fresh,
            own,
            signal,
            peek,
            ticket,
            reset,
            raise,
        }
    }
}

// Each of the functions below is called by kernels alone, with the record of the thread that calls. A launch is borrowed
// only between switches.

/// The launch of a thread.
///
/// # Safety
/// The record is that of a resident thread; the borrow ends before the next switch.
unsafe fn launch<'a>(lane: *mut Lane) -> &'a mut Launch {
    // SAFETY: as the caller says.
    unsafe { &mut *(*(*lane).host).launch }
}

/// Lets others run; comes back when the scheduler says so.
///
/// # Safety
/// As [`launch`]; nothing is borrowed, and nothing that must be dropped is held.
unsafe fn suspend(lane: *mut Lane) {
    // SAFETY: as the caller says; the scheduler's context is that of its last switch to this thread.
    unsafe {
        let launch = launch(lane);
        let (switch, scheduler) = (launch.switch, launch.scheduler);
        let context = &raw mut launch.fibers[(*lane).id as usize].context;
        switch(context, scheduler);
    }
}

/// Goes on only if nothing is wrong with the launch.
///
/// # Safety
/// As [`suspend`].
unsafe fn unless_wrong(lane: *mut Lane) {
    // SAFETY: as the caller says.
    unsafe {
        while launch(lane).error.is_some() {
            suspend(lane);
        }
    }
}

macro_rules! with_launch {
    ($lane:ident, $line:ident, $waits:expr, $call:expr) => {{
        // SAFETY: kernels call with the record of the thread that calls.
        unsafe {
            let id = (*$lane).id as usize;
            let outcome = $call(launch($lane), id);
            if let Err(what) = outcome {
                launch($lane).fail(id, $line, what);
            }
            if $waits {
                suspend($lane);
            }
            unless_wrong($lane);
        }
    }};
}

unsafe extern "C" fn block_sync(lane: *mut Lane, line: c_int) {
    with_launch!(lane, line, true, |launch: &mut Launch, id| launch.block_sync(id, line));
}

unsafe extern "C" fn together(lane: *mut Lane, line: c_int, mine: *mut c_void, combine: Combine) {
    with_launch!(lane, line, true, |launch: &mut Launch, id| launch.together(id, line, mine, Some(combine)));
}

unsafe extern "C" fn warp_sync(lane: *mut Lane, line: c_int) {
    let none = std::ptr::null_mut();
    with_launch!(lane, line, true, |launch: &mut Launch, id| launch.together(id, line, none, None));
}

unsafe extern "C" fn cluster_arrive(lane: *mut Lane, line: c_int) {
    with_launch!(lane, line, false, |launch: &mut Launch, id| launch.cluster_arrive(id));
}

unsafe extern "C" fn cluster_wait(lane: *mut Lane, line: c_int) {
    with_launch!(lane, line, true, |launch: &mut Launch, id| launch.cluster_wait(id, line));
}

unsafe extern "C" fn check(lane: *mut Lane, line: c_int, address: u64, bytes: u32) {
    let mut found = (0, 0);
    with_launch!(lane, line, false, |launch: &mut Launch, _| {
        found = launch.check(address, bytes)?;
        Ok(())
    });
    // SAFETY: as above.
    unsafe { ((*lane).low, (*lane).size) = (found.0, found.1 as u64) };
}

unsafe extern "C" fn check_constant(lane: *mut Lane, line: c_int, address: u64, bytes: u32) {
    with_launch!(lane, line, false, |launch: &mut Launch, _| launch.check_constant(address, bytes));
}

unsafe extern "C" fn put(lane: *mut Lane, line: c_int, address: u64, bits: u32) {
    with_launch!(lane, line, false, |launch: &mut Launch, id| {
        launch.put(id, address, bits);
        Ok(())
    });
}

unsafe extern "C" fn put_shared(lane: *mut Lane, line: c_int, address: u64, rank: u32, bits: u32) {
    with_launch!(lane, line, false, |launch: &mut Launch, id| launch.put_shared(id, address, rank, bits));
}

unsafe extern "C" fn post(lane: *mut Lane, line: c_int, address: u64, bits: u32) {
    with_launch!(lane, line, false, |launch: &mut Launch, id| {
        launch.post(id, address, bits);
        Ok(())
    });
}

unsafe extern "C" fn fresh(lane: *mut Lane, _: c_int, address: u64) -> u32 {
    // SAFETY: as above.
    unsafe { launch(lane).fresh((*lane).id as usize, address) }
}

unsafe extern "C" fn own(lane: *mut Lane, _: c_int, address: u64) -> u32 {
    // SAFETY: as above.
    unsafe { launch(lane).own((*lane).id as usize, address) }
}

unsafe extern "C" fn signal(lane: *mut Lane, _: c_int, counter: *mut u32) {
    // SAFETY: as above; the address was checked.
    unsafe {
        launch(lane).release((*lane).id as usize);
        launch(lane).word_changed();
        *counter = (*counter).wrapping_add(1);
    }
}

unsafe extern "C" fn peek(lane: *mut Lane, line: c_int, counter: *mut u32) -> u32 {
    with_launch!(lane, line, true, |launch: &mut Launch, id| {
        launch.poll(id, line);
        Ok(())
    });
    // SAFETY: as above; the address was checked.
    unsafe {
        launch(lane).polled((*lane).id as usize);
        *counter
    }
}

unsafe extern "C" fn ticket(lane: *mut Lane, _: c_int, counter: *mut u32) -> u32 {
    // SAFETY: as above; the address was checked.
    unsafe {
        launch(lane).word_changed();
        let before = *counter;
        *counter = before.wrapping_add(1);
        before
    }
}

unsafe extern "C" fn reset(lane: *mut Lane, _: c_int, counter: *mut u32) {
    // SAFETY: as above; the address was checked.
    unsafe {
        launch(lane).word_changed();
        *counter = 0;
    }
}

unsafe extern "C" fn raise(lane: *mut Lane, _: c_int, flag: *mut u32, code: u32) {
    // SAFETY: as above; the address was checked.
    unsafe {
        launch(lane).word_changed();
        if *flag == 0 {
            *flag = code;
        }
    }
}

/// The first thing that runs on a fresh stack.
pub extern "C" fn begin() {
    let here = 0u8;
    let top = (std::hint::black_box(&raw const here) as usize | (super::stacks::STACK_BYTES - 1)) + 1;
    let lane = (top - size_of::<Lane>()) as *mut Lane;
    // SAFETY: the scheduler put the record there.
    unsafe {
        let (kernel, given) = (launch(lane).kernel, launch(lane).given.clone());
        given.call(kernel);
        launch(lane).ended((*lane).id as usize);
        loop {
            suspend(lane);
        }
    }
}

impl Waits {
    /// In words.
    pub fn in_words(self) -> String {
        match self {
            Waits::No => "runs".into(),
            Waits::Block(line) => format!("waits for its block in line {line}"),
            Waits::Warp(line) => format!("waits for its warp in line {line}"),
            Waits::Cluster(line) => format!("waits for its cluster in line {line}"),
            Waits::Word(line) => format!("polls in line {line}"),
            Waits::Ended => "has ended".into(),
        }
    }
}

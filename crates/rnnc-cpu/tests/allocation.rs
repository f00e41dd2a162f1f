//! Once the first window has run, no call allocates.

#![allow(unsafe_code)] // an allocator that counts

use rnnc_cpu::{CpuExecutor, Session};
use rnnc_graph::{Activation, Connect, Graph, Init, Operation};
use rnnc_plan::{Executor, Plan, PlanOptions, Setup, Update, Values, ValuesMut};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller vouches.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller vouches.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A loop, a scan, a vector function, a look-up and delays.
fn network() -> Graph {
    let mut g = Graph::new("all kinds");
    let (x, s) = (g.input("x", 5), g.symbol("s", 7));
    let h = g.sum("h", 40, Activation::Tanh);
    let leak = g.sum("leak", 40, Activation::Identity);
    let soft = g.operation("soft", 40, Operation::Softmax { groups: 2 });
    for (name, shape, from, to, delay) in [
        ("wx", [40, 5], x, h, 0),
        ("ws", [40, 7], s, h, 0),
        ("wh", [40, 40], h, h, 1),
        ("wl", [40, 40], h, leak, 2),
    ] {
        let weight = g.weight(name, &shape, Init::Uniform(0.2));
        g.connect(from, to, Connect::full(weight).delay(delay));
    }
    g.connect(leak, leak, Connect::scaled(0.5).delay(1));
    g.connect(leak, soft, Connect::identity());
    g.output("soft", soft);
    g
}

/// The allocations of each of some windows.
fn allocations(frames: usize, threads: usize) -> Vec<usize> {
    let plan = Plan::new(&network(), PlanOptions::training(1, frames)).unwrap();
    let mut executor = CpuExecutor::new(plan, Setup { threads, ..Setup::new(1, frames) }).unwrap();
    let (x, s) = (vec![0.1; 5 * frames], vec![3; frames]);
    let (mut y, errors) = (vec![0.0; 40 * frames], vec![0.5; 40 * frames]);
    let update =
        Update { learning_rate: 1e-3, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, step: 1, clip_norm: Some(1.0) };
    let mut window = || {
        let before = COUNT.load(Ordering::Relaxed);
        executor.forward(frames, &[Values::F32(&x), Values::Symbols(&s)], None).unwrap();
        executor.output(0, ValuesMut::F32(&mut y)).unwrap();
        executor.backward(frames, &[Some(Values::F32(&errors))]).unwrap();
        executor.update(&update).unwrap();
        COUNT.load(Ordering::Relaxed) - before
    };
    (0..5).map(|_| window()).collect()
}

/// The allocations of each of some frames of a session.
fn session_allocations(threads: usize) -> Vec<usize> {
    let mut session = Session::new(&network(), 1, threads).unwrap();
    let mut y = [0.0; 40];
    let mut frame = || {
        let before = COUNT.load(Ordering::Relaxed);
        session.step(&[Values::F32(&[0.1; 5]), Values::Symbols(&[3])], None).unwrap();
        session.output(0, ValuesMut::F32(&mut y)).unwrap();
        COUNT.load(Ordering::Relaxed) - before
    };
    (0..5).map(|_| frame()).collect()
}

// One test, since the count is of the whole process.
#[test]
fn no_window_after_the_first_allocates() {
    for (frames, threads) in [(2, 1), (2, 2), (64, 1), (64, 2)] {
        assert_eq!(allocations(frames, threads)[1..], [0; 4], "{frames} frames, {threads} threads");
        assert_eq!(session_allocations(threads)[1..], [0; 4], "a session, {threads} threads");
    }
}

//! An allocator that counts, and a network for it with all kinds of stages.

#![allow(unsafe_code)] // an allocator

use rnnc_graph::{Activation, Connect, Graph, Init, Operation};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

/// Allocations of the process.
pub static COUNT: AtomicUsize = AtomicUsize::new(0);

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

/// What each step allocates: the least of three trials, for the thread that started the test may allocate too.
#[allow(dead_code, reason = "each test takes what it needs")]
pub fn least(trial: impl Fn() -> Vec<usize>) -> Vec<usize> {
    let mut least = trial();
    for other in [trial(), trial()] {
        least.iter_mut().zip(other).for_each(|(least, other)| *least = other.min(*least));
    }
    least
}

/// A loop, a scan, a vector function, a look-up and delays.
pub fn network() -> Graph {
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

//! Once its first frame has run, a session allocates nothing.

mod counting;

use counting::{COUNT, least, network};
use rnnc_cpu::Session;
use rnnc_plan::{Values, ValuesMut};
use std::sync::atomic::Ordering;

/// The allocations of each of some frames.
fn allocations(streams: usize, threads: usize) -> Vec<usize> {
    let mut session = Session::new(&network(), streams, threads).unwrap();
    let (x, s, mut y) = (vec![0.1; 5 * streams], vec![3; streams], vec![0.0; 40 * streams]);
    let mut frame = || {
        let before = COUNT.load(Ordering::Relaxed);
        session.step(&[Values::F32(&x), Values::Symbols(&s)], None).unwrap();
        session.output(0, ValuesMut::F32(&mut y)).unwrap();
        COUNT.load(Ordering::Relaxed) - before
    };
    (0..20).map(|_| frame()).collect()
}

// One test, since the count is of the whole process.
#[test]
fn no_frame_after_the_first_allocates() {
    for (streams, threads) in [(1, 1), (1, 2), (3, 2)] {
        assert_eq!(
            least(|| allocations(streams, threads))[1..],
            [0; 19],
            "{streams} streams, {threads} threads"
        );
    }
}

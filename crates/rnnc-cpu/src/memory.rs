//! Memory that the workers share: allocated once, cut up by the plan.
//!
//! Workers write disjoint parts of it between two barriers; that they do is the plan's promise (units and rows are
//! partitioned without overlap, and what others wrote is read only after a barrier). The compiler cannot see it, so
//! the operations in `ops/` go through raw pointers, made here. Debug builds check the promise (`owners.rs`).

#![allow(unsafe_code)] // a view of one allocation as numbers

use crate::kernels::isa::Isa;
use crate::owners::Owners;
use rnnc_plan::ResetTracker;

/// A cache line of numbers.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([f32; 16]);

/// Numbers that begin on a cache line, all 0 at first.
pub(crate) struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// Room for `len` numbers.
    pub fn new(len: usize) -> Aligned {
        Aligned { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
    }

    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: a line is 16 numbers without padding, and there are at least `len` of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }

    /// Whole lines, the last of which may be longer than what was asked for.
    pub fn as_mut_lines(&mut self) -> &mut [[f32; 16]] {
        // SAFETY: a line is these numbers, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len()) }
    }

    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.lines.as_mut_ptr().cast()
    }
}

/// How many numbers there are of each kind. Debug builds hold every access against it; what the plan says of its views and
/// weights is checked when it is made (`Plan::verify`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Of each [`Region`](crate::places::Region).
    pub values: [usize; 2],
    pub weights: usize,
    /// As many as weights, if there is a backward pass.
    pub gradients: usize,
    pub constants: usize,
    pub packed: usize,
    pub found: usize,
}

/// Stops a debug build where so many numbers from a place on are not all there.
#[inline]
#[track_caller]
pub(crate) fn assert_inside(place: isize, len: usize, room: usize) {
    debug_assert!(
        usize::try_from(place).is_ok_and(|place| place + len <= room),
        "{len} numbers from {place} on, of {room}"
    );
}

/// What all workers see while a pass runs.
pub(crate) struct Shared<'a> {
    /// The buffers of the plan, in each [`Region`](crate::places::Region). A backward pass writes nothing among the residuals.
    pub values: [*mut f32; 2],
    /// Whether it is one.
    pub backward: bool,
    /// The flat weights, read only.
    pub weights: *const f32,
    /// The flat gradients.
    pub gradients: *mut f32,
    /// Vectors of start values.
    pub constants: *const f32,
    /// Weights packed for the loops.
    pub packed: *mut f32,
    /// What scans in chunks make of their states.
    pub found: *mut f32,
    pub room: Room,
    /// Debug builds: who touches what.
    pub owners: Option<&'a Owners>,
    pub tracker: &'a ResetTracker,
    pub isa: Isa,
    pub streams: usize,
    /// The first frame of the pass, in the window, and one past the last.
    pub first: usize,
    pub end: usize,
    /// Keys dropout masks; `None`: no dropout.
    pub dropout: Option<u64>,
}

// SAFETY: the pointers are to memory that the executor owns and has borrowed for the pass. What is written through
// them is partitioned without overlap between barriers (see above).
unsafe impl Sync for Shared<'_> {}

impl Shared<'_> {
    /// Says that this thread's share reads so many numbers.
    #[inline(always)]
    #[track_caller]
    pub fn reads(&self, at: *const f32, len: usize) {
        if cfg!(debug_assertions) {
            self.touches(at, len, false);
        }
    }

    /// Says that this thread's share writes so many numbers.
    #[inline(always)]
    #[track_caller]
    pub fn writes(&self, at: *mut f32, len: usize) {
        if cfg!(debug_assertions) {
            self.touches(at, len, true);
        }
    }

    #[track_caller]
    fn touches(&self, at: *const f32, len: usize, writes: bool) {
        let [working, residuals] = self.values;
        let among_residuals = at.addr().wrapping_sub(residuals.addr()) < 4 * self.room.values[1];
        assert!(!(writes && self.backward && among_residuals), "a backward pass writes among the residuals");
        let Some(owners) = self.owners else { return };
        let regions = [
            ("value", working, self.room.values[0]),
            ("residual", residuals, self.room.values[1]),
            ("gradient", self.gradients, self.room.gradients),
            ("packed weight", self.packed, self.room.packed),
            ("scan's form", self.found, self.room.found),
        ];
        let mut before = 0;
        for (what, begin, count) in regions {
            // Whatever else there is belongs to a thread, or is only read.
            if let Some(bytes) = at.addr().checked_sub(begin.addr())
                && bytes < 4 * count
            {
                let first = bytes / 4;
                assert!(first + len <= count, "{len} numbers from {what} {first} on, of {count}");
                return owners.touches(before + first, len, (what, first), writes);
            }
            before += count;
        }
    }
}

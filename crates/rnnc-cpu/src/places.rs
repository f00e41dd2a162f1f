//! Places in memory: where views of a plan's buffers lie, frame after frame.

/// A piece of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    /// What is used again in each call.
    Working,
    /// What the backward pass reads of the forward pass, where that is kept apart.
    Residuals,
}

impl Region {
    /// Of a buffer that lies among the residuals, or does not.
    pub fn of(residual: bool) -> Region {
        if residual { Region::Residuals } else { Region::Working }
    }
}

/// Where values are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub region: Region,
    /// Of the first unit in frame 0 of stream 0.
    pub base: usize,
    /// Numbers from a row to the next.
    pub width: usize,
    /// Units.
    pub len: usize,
    pub ring: Ring,
    pub delay: i64,
    pub start: StartPlace,
    /// Frames before the pass's first may be read.
    pub history: bool,
    /// Written by the forward pass for the backward one: too long ago to be in a cache.
    pub saved: bool,
}

/// Where the start values of a read are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StartPlace {
    /// Among the constants.
    Constant(usize),
    /// Among the weights.
    Weight(usize),
}

/// Where values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub region: Region,
    pub base: usize,
    pub width: usize,
    pub len: usize,
    pub ring: Ring,
}

/// Where in a buffer frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    /// The bits of a frame's number that say it.
    mask: i64,
}

impl Ring {
    /// Of a buffer with all frames.
    pub const NONE: Ring = Ring { mask: -1 };

    /// Of one with so many of them, a power of two, at a time.
    pub fn of(length: Option<usize>) -> Ring {
        length.map_or(Ring::NONE, |length| Ring { mask: length as i64 - 1 })
    }

    /// The place of a frame.
    #[inline]
    pub fn place(self, frame: i64) -> isize {
        (frame & self.mask) as isize
    }
}

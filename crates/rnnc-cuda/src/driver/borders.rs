//! What stands between a program's memory and arrays of other shapes: copies with strides, and the clock of resets. Four
//! kernels, the same for all programs (`source/borders.cuh`), and what they are given.

use super::{Address, Geometry, Source};
use crate::source;

/// What is copied.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// 4 bytes each, as they are.
    #[default]
    F32 = 0,
    /// Numbers in double precision.
    F64 = 1,
    /// Symbols of 64 bits.
    I64 = 2,
    /// Symbols of 32 bits.
    I32 = 3,
    /// Zeros, from nowhere.
    Nothing = 4,
}

/// What becomes of it.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum To {
    /// 4 bytes each, as they are.
    #[default]
    F32 = 0,
    /// Numbers in double precision.
    F64 = 1,
    /// Symbols of 64 bits.
    I64 = 2,
    /// Added to numbers in single precision.
    AddF32 = 3,
    /// Added to numbers in double precision.
    AddF64 = 4,
}

/// An array to be copied; `struct Move` of `borders.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrayMove {
    /// Its first element.
    pub from: Address,
    /// Where that goes.
    pub to: Address,
    /// From an element to the next along each axis, in elements.
    pub from_strides: [i64; 3],
    /// The same where it goes.
    pub to_strides: [i64; 3],
    /// Elements along each axis.
    pub shape: [u32; 3],
    /// What it is made of.
    pub from_kind: From,
    /// What becomes of that.
    pub to_kind: To,
    /// Of symbols, how many there are.
    pub limit: u32,
    /// Where a symbol beyond them is raised as a fault; 0: nowhere.
    pub flag: Address,
    /// The fault that it is.
    pub code: u32,
    /// With `since`: the array is the last so many frames of a layer, `[depth, B, N]`.
    pub depth: u32,
    /// Steps since reset of their last frame, `[B]`: frames before that reset become the start. 0: none do.
    pub since: Address,
    /// The start, of each unit; 0: the next.
    pub start: Address,
    /// The bits of the start of all units.
    pub bits: u32,
    /// So that the size is that of both languages.
    pub unused: u32,
}

impl ArrayMove {
    /// The first byte of each side's range, and how many bytes that has; `None` of a side that is not there, or empty.
    pub fn ranges(&self) -> [Option<(Address, u64)>; 2] {
        let size = |wide| if wide { 8 } else { 4 };
        let from = matches!(self.from_kind, From::F64 | From::I64);
        let to = matches!(self.to_kind, To::F64 | To::I64 | To::AddF64);
        let from = range(self.from, self.shape, self.from_strides, size(from));
        let to = range(self.to, self.shape, self.to_strides, size(to));
        [from.filter(|_| self.from_kind != From::Nothing), to]
    }

    fn elements(&self) -> usize {
        self.shape.iter().fold(1, |all, &len| all.saturating_mul(len as usize))
    }
}

/// The first byte of an array, and how many bytes it reaches over; `None` if it has none.
fn range(at: Address, shape: [u32; 3], strides: [i64; 3], bytes: i64) -> Option<(Address, u64)> {
    let ends = shape.iter().zip(strides).map(|(&len, stride)| (i64::from(len) - 1) * stride);
    let (low, high) = ends.fold((0, 0), |(low, high), end| (low + end.min(0), high + end.max(0)));
    let first = at.wrapping_add_signed(low * bytes);
    (!shape.contains(&0)).then_some((first, ((high - low + 1) * bytes) as u64))
}

/// Arrays that one launch copies at most: what it is given has 4096 bytes at most.
pub const MOST_MOVES: usize = 24;

/// A tape to be looked at; `struct TapeCheck` of `borders.cuh`, which explains each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TapeCheck {
    pub run: Address,
    pub program: u64,
    pub frames: u64,
    pub flag: Address,
    pub code: u32,
    pub unused: u32,
}

/// What the copying kernel is given; `struct Moves` of `borders.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // explained above
pub struct Moves {
    pub count: u32,
    pub unused: u32,
    pub check: TapeCheck,
    pub moves: [ArrayMove; MOST_MOVES],
}

/// What the clock's kernel is given; `struct Clock` of `borders.cuh`, which explains each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Clock {
    pub resets: Address,
    pub reset_strides: [i64; 2],
    pub since_reset: Address,
    pub ahead: Address,
    pub run: Address,
    pub seed: u64,
    pub program: u64,
    pub first_frame: u64,
    pub seed_at: Address,
    pub streams: u32,
    pub window: u32,
    pub first: u32,
    pub age: u32,
}

/// What the kernel is given that makes the clock of the frames around a window's first; `struct ClockBefore` of
/// `borders.cuh`, which explains each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ClockBefore {
    pub from: Address,
    pub since_reset: Address,
    pub ahead: Address,
    pub run: Address,
    pub streams: u32,
    pub window: u32,
    pub first: u32,
    pub depth: u32,
}

/// What the kernel is given that adds to a start's gradient; `struct StartGradient` of `borders.cuh`, which explains each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct StartGradient {
    pub from: Address,
    pub strides: [i64; 3],
    pub shape: [u32; 3],
    pub is_f64: u32,
    pub since: Address,
    pub to: Address,
}

/// A launch of one of these kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Border {
    /// Copies arrays, of which none is written that another reads or writes.
    Moves(Box<Moves>),
    /// Makes a window's clock of its resets.
    Clock(Clock),
    /// Makes the clock of the frames around a window's first.
    ClockBefore(ClockBefore),
    /// Adds the gradients of a state's frames before a reset to that of the start.
    StartGradient(StartGradient),
}

impl Border {
    /// Launches that copy these arrays.
    pub fn moves(moves: &[ArrayMove]) -> impl Iterator<Item = Border> + '_ {
        moves.chunks(MOST_MOVES).map(|some| {
            let mut all = [ArrayMove::default(); MOST_MOVES];
            all[..some.len()].copy_from_slice(some);
            Border::Moves(Box::new(Moves {
                count: some.len() as u32,
                unused: 0,
                check: TapeCheck::default(),
                moves: all,
            }))
        })
    }

    /// Its kernel's place in [`source()`].
    pub fn kernel(&self) -> usize {
        match self {
            Border::Moves(_) => 0,
            Border::Clock(_) => 1,
            Border::ClockBefore(_) => 2,
            Border::StartGradient(_) => 3,
        }
    }

    /// Its blocks and threads, on a device of so many multiprocessors; `None`: there is nothing to do.
    pub fn geometry(&self, multiprocessors: usize) -> Option<Geometry> {
        const THREADS: usize = 256;
        let elements = match self {
            Border::Moves(moves) => {
                moves.moves[..moves.count as usize].iter().map(ArrayMove::elements).max().unwrap_or(0)
            }
            // A warp a stream.
            Border::Clock(clock) => clock.streams as usize * 32,
            Border::ClockBefore(clock) => 2 * clock.depth as usize * clock.streams as usize,
            Border::StartGradient(gradient) => gradient.shape[2] as usize,
        };
        let blocks = elements.div_ceil(THREADS).min(multiprocessors * 8);
        let geometry = Geometry { blocks, threads: THREADS, shared_bytes: 0, cluster: 1, cooperative: false };
        (blocks > 0).then_some(geometry)
    }

    /// What the kernel is given.
    pub fn params(&self) -> *const std::ffi::c_void {
        match self {
            Border::Moves(moves) => std::ptr::from_ref(&**moves).cast(),
            Border::Clock(clock) => std::ptr::from_ref(clock).cast(),
            Border::ClockBefore(clock) => std::ptr::from_ref(clock).cast(),
            Border::StartGradient(gradient) => std::ptr::from_ref(gradient).cast(),
        }
    }

    /// The first byte and the number of bytes of each range that it touches.
    pub fn ranges(&self) -> Vec<(Address, u64)> {
        match self {
            Border::Moves(moves) => {
                let moves = &moves.moves[..moves.count as usize];
                let starts = |of: &ArrayMove| {
                    let [_, streams, units] = of.shape.map(u64::from);
                    let (since, start) = ((of.since, 4 * streams), (of.start, 4 * units));
                    [Some(since), Some(start)].map(|range| range.filter(|&(at, _)| at != 0))
                };
                moves.iter().flat_map(|of| of.ranges().into_iter().chain(starts(of))).flatten().collect()
            }
            Border::Clock(clock) => {
                let rows = 4 * u64::from(clock.streams) * u64::from(clock.window);
                vec![(clock.since_reset, rows), (clock.ahead, rows), (clock.run, 16)]
            }
            Border::StartGradient(gradient) => {
                let StartGradient { from, strides, shape, is_f64, since, to } = *gradient;
                let from = range(from, shape, strides, if is_f64 == 1 { 8 } else { 4 });
                let [_, streams, units] = shape.map(u64::from);
                from.into_iter().chain([(since, 4 * streams), (to, 4 * units)]).collect()
            }
            Border::ClockBefore(clock) => {
                let streams = 4 * u64::from(clock.streams);
                let own = 2 * u64::from(clock.depth) * streams;
                vec![
                    (clock.from, streams * u64::from(clock.window)),
                    (clock.since_reset, own),
                    (clock.ahead, own),
                    (clock.run, 8),
                ]
            }
        }
    }
}

/// The kernels, in the order of [`Border::kernel`].
pub fn source() -> Source {
    Source {
        name: "arrays at the border".into(),
        text: source::prelude() + include_str!("../source/borders.cuh"),
        kernels: ["rnnc_moves", "rnnc_clock", "rnnc_clock_before", "rnnc_start_gradient"]
            .map(String::from)
            .to_vec(),
    }
}

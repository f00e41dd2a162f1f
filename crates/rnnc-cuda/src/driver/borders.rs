//! What stands between a program's memory and arrays of other shapes: copies with strides, and the clock of resets. Three
//! kernels, the same for all programs (`source/borders.cuh`), and what they are given.

use super::{Address, Geometry, Source};
use crate::source;

/// How elements become others on their way.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// As they are, 4 bytes each.
    #[default]
    Copy = 0,
    /// From double precision.
    FromF64 = 1,
    /// To double precision.
    ToF64 = 2,
    /// Symbols of 64 bits.
    FromI64 = 3,
    /// Added to what is there.
    Add = 4,
    /// Zeros, from nowhere.
    Zero = 5,
    /// Symbols of 32 bits.
    FromI32 = 6,
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
    /// What becomes of them.
    pub kind: Kind,
    /// Of symbols, how many there are.
    pub limit: u32,
    /// The fault that a symbol beyond them is.
    pub code: u32,
    /// Where it is raised; 0: nowhere.
    pub flag: Address,
}

impl ArrayMove {
    /// The first byte of each side's range, and how many bytes that has; `None` of a side that is not there, or empty.
    pub fn ranges(&self) -> [Option<(Address, u64)>; 2] {
        let size = |wide| if wide { 8 } else { 4 };
        let from = matches!(self.kind, Kind::FromF64 | Kind::FromI64);
        let range = |at: Address, strides: [i64; 3], bytes: i64| {
            let ends = self.shape.iter().zip(strides).map(|(&len, stride)| (i64::from(len) - 1) * stride);
            let (low, high) = ends.fold((0, 0), |(low, high), end| (low + end.min(0), high + end.max(0)));
            let first = at.wrapping_add_signed(low * bytes);
            (!self.shape.contains(&0)).then_some((first, ((high - low + 1) * bytes) as u64))
        };
        let to = range(self.to, self.to_strides, size(self.kind == Kind::ToF64));
        [range(self.from, self.from_strides, size(from)).filter(|_| self.kind != Kind::Zero), to]
    }

    fn elements(&self) -> usize {
        self.shape.iter().fold(1, |all, &len| all.saturating_mul(len as usize))
    }
}

/// Arrays that one launch copies at most: what it is given has 4096 bytes at most.
pub const MOST_MOVES: usize = 24;

/// What the copying kernel is given; `struct Moves` of `borders.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // explained above
pub struct Moves {
    pub count: u32,
    pub unused: u32,
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

/// A launch of one of these kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Border {
    /// Copies arrays, of which none is written that another reads or writes.
    Moves(Box<Moves>),
    /// Makes a window's clock of its resets.
    Clock(Clock),
    /// Makes the clock of the frames around a window's first.
    ClockBefore(ClockBefore),
}

impl Border {
    /// Launches that copy these arrays.
    pub fn moves(moves: &[ArrayMove]) -> impl Iterator<Item = Border> + '_ {
        moves.chunks(MOST_MOVES).map(|some| {
            let mut all = [ArrayMove::default(); MOST_MOVES];
            all[..some.len()].copy_from_slice(some);
            Border::Moves(Box::new(Moves { count: some.len() as u32, unused: 0, moves: all }))
        })
    }

    /// Its kernel's place in [`source`].
    pub fn kernel(&self) -> usize {
        match self {
            Border::Moves(_) => 0,
            Border::Clock(_) => 1,
            Border::ClockBefore(_) => 2,
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
        }
    }

    /// The first byte and the number of bytes of each range that it touches.
    pub fn ranges(&self) -> Vec<(Address, u64)> {
        match self {
            Border::Moves(moves) => {
                moves.moves[..moves.count as usize].iter().flat_map(ArrayMove::ranges).flatten().collect()
            }
            Border::Clock(clock) => {
                let rows = 4 * u64::from(clock.streams) * u64::from(clock.window);
                vec![(clock.since_reset, rows), (clock.ahead, rows), (clock.run, 16)]
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
        kernels: ["rnnc_moves", "rnnc_clock", "rnnc_clock_before"].map(String::from).to_vec(),
    }
}

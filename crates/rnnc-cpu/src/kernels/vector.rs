//! Numbers side by side in a register, for the kernels that say which registers hold what.

#![allow(unsafe_code)] // instructions that not every CPU has
#![allow(clippy::needless_range_loop)] // an index says which register

use super::isa::{PORTABLE_FMA, mul_add};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// A register of numbers. Its methods may be called only where the CPU has its instructions.
pub(super) trait Vector: Copy {
    /// How many numbers: a divisor of 16.
    const LANES: usize;

    /// All lanes x.
    ///
    /// # Safety
    /// The CPU has the instructions.
    unsafe fn splat(x: f32) -> Self;

    /// The numbers at `from`, which need not be aligned.
    ///
    /// # Safety
    /// The CPU has the instructions, and LANES numbers lie at `from`.
    unsafe fn load(from: *const f32) -> Self;

    /// The numbers whose upper halves are the first ones of the pairs at `from`, which need not be aligned; their lower
    /// halves are 0.
    ///
    /// # Safety
    /// As for [`Vector::load`], with LANES pairs.
    unsafe fn load_firsts(from: *const [u16; 2]) -> Self;

    /// The same of the second ones.
    ///
    /// # Safety
    /// As for [`Vector::load_firsts`].
    unsafe fn load_seconds(from: *const [u16; 2]) -> Self;

    /// Writes the numbers to `to`, which need not be aligned.
    ///
    /// # Safety
    /// The CPU has the instructions, and LANES numbers may be written at `to`.
    unsafe fn store(self, to: *mut f32);

    /// self + other
    ///
    /// # Safety
    /// The CPU has the instructions.
    unsafe fn add(self, other: Self) -> Self;

    /// self * b + c
    ///
    /// # Safety
    /// The CPU has the instructions.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;

    /// a * b + c, rounded as [`Vector::mul_add`] does.
    fn mul_add_one(a: f32, b: f32, c: f32) -> f32;
}

/// The most numbers that the sums of a block have.
const MOST_SUMS: usize = 32 * 16;

/// Writes a block's sums, ROWS rows of VECS vectors of them: whole rows, that begin where `row` says.
///
/// # Safety
///
/// The CPU has the instructions of `V`, and so many numbers may be written, and read if `accumulate`, at every row.
#[inline(always)]
pub(super) unsafe fn put_sums<V: Vector, const ROWS: usize, const VECS: usize>(
    sums: &[[V; VECS]; ROWS],
    row: impl Fn(usize) -> *mut f32,
    accumulate: bool,
) {
    // Small loops, which the compiler unrolls: else the sums would lie in memory from the beginning.
    // SAFETY: the caller vouches for everything.
    unsafe {
        if accumulate {
            for r in 0..ROWS {
                for v in 0..VECS {
                    let out = row(r).add(v * V::LANES);
                    sums[r][v].add(V::load(out)).store(out);
                }
            }
        } else {
            for r in 0..ROWS {
                for v in 0..VECS {
                    // Added also where it is zero, so that -0 and 0 do not depend on what else is summed.
                    sums[r][v].add(V::splat(0.0)).store(row(r).add(v * V::LANES));
                }
            }
        }
    }
}

/// The same for `rows` rows of which only `columns` numbers are there, number j of row r at `at(r, j)`.
///
/// # Safety
///
/// The CPU has the instructions of `V`, and these numbers may be written, and read if `accumulate`.
#[inline(always)]
pub(super) unsafe fn put_some_sums<V: Vector, const ROWS: usize, const VECS: usize>(
    sums: &[[V; VECS]; ROWS],
    (rows, columns): (usize, usize),
    at: impl Fn(usize, usize) -> *mut f32,
    accumulate: bool,
) {
    const { assert!(ROWS * VECS * V::LANES <= MOST_SUMS) };
    let mut numbers = [0.0; MOST_SUMS];
    for r in 0..ROWS {
        for v in 0..VECS {
            let to = &mut numbers[(r * VECS + v) * V::LANES..][..V::LANES];
            // SAFETY: there is room for the vector.
            unsafe { sums[r][v].store(to.as_mut_ptr()) };
        }
    }
    for (r, sums) in numbers.chunks_exact(VECS * V::LANES).enumerate().take(rows) {
        for (j, sum) in sums.iter().enumerate().take(columns) {
            // SAFETY: the caller vouches for it.
            unsafe { *at(r, j) = sum + if accumulate { *at(r, j) } else { 0.0 } };
        }
    }
}

/// For every CPU: 4 numbers, which the compiler knows how to keep in a register.
#[derive(Clone, Copy)]
pub(super) struct Four([f32; 4]);

impl Vector for Four {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Four([x; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for 4 numbers at `from`; the read asks for no alignment.
        Four(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_firsts(from: *const [u16; 2]) -> Self {
        // SAFETY: the caller vouches for 4 pairs at `from`; the read asks for no alignment.
        let pairs = unsafe { from.cast::<[[u16; 2]; 4]>().read_unaligned() };
        Four(pairs.map(|[first, _]| f32::from_bits(u32::from(first) << 16)))
    }

    #[inline(always)]
    unsafe fn load_seconds(from: *const [u16; 2]) -> Self {
        // SAFETY: as above.
        let pairs = unsafe { from.cast::<[[u16; 2]; 4]>().read_unaligned() };
        Four(pairs.map(|[_, second]| f32::from_bits(u32::from(second) << 16)))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for room for 4 numbers at `to`; the write asks for no alignment.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Four([a + e, b + f, c + g, d + h])
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        let mut sum = c;
        for lane in 0..4 {
            sum.0[lane] = Self::mul_add_one(self.0[lane], b.0[lane], c.0[lane]);
        }
        sum
    }

    #[inline(always)]
    fn mul_add_one(a: f32, b: f32, c: f32) -> f32 {
        mul_add::<PORTABLE_FMA>(a, b, c)
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! x86_vector {
    ($vector:ident, $lanes:literal, $splat:ident, $load:ident, $store:ident, $add:ident, $mul_add:ident,
     $firsts:expr, $seconds:expr) => {
        impl Vector for $vector {
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn splat(x: f32) -> Self {
                // SAFETY: the caller vouches for the instructions.
                unsafe { $splat(x) }
            }

            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: the caller vouches for the instructions and the numbers.
                unsafe { $load(from) }
            }

            #[inline(always)]
            unsafe fn load_firsts(from: *const [u16; 2]) -> Self {
                // SAFETY: as above.
                unsafe { $firsts(from) }
            }

            #[inline(always)]
            unsafe fn load_seconds(from: *const [u16; 2]) -> Self {
                // SAFETY: as above.
                unsafe { $seconds(from) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: the caller vouches for the instructions and the room.
                unsafe { $store(to, self) }
            }

            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                // SAFETY: the caller vouches for the instructions.
                unsafe { $add(self, other) }
            }

            #[inline(always)]
            unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                // SAFETY: the caller vouches for the instructions.
                unsafe { $mul_add(self, b, c) }
            }

            #[inline(always)]
            fn mul_add_one(a: f32, b: f32, c: f32) -> f32 {
                a.mul_add(b, c)
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
x86_vector!(
    __m256,
    8,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_fmadd_ps,
    |from: *const [u16; 2]| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_loadu_si256(from.cast()))),
    |from: *const [u16; 2]| {
        let upper = _mm256_set1_epi32(0xffff << 16);
        _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(from.cast()), upper))
    }
);
#[cfg(target_arch = "x86_64")]
x86_vector!(
    __m512,
    16,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_fmadd_ps,
    |from: *const [u16; 2]| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_loadu_si512(from.cast()))),
    |from: *const [u16; 2]| {
        let upper = _mm512_set1_epi32(0xffff << 16);
        _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(from.cast()), upper))
    }
);

/// Makes functions that run one generic body, compiled for each instruction set, with its [`Vector`].
///
/// `pub unsafe fn name(x: f32) = body;` makes `pub unsafe fn name(isa: Isa, x: f32)`, which calls
/// `body::<V>`. The body is to be `#[inline(always)]`, so that it takes on the instructions of the function
/// around it.
macro_rules! vectorize {
    ($($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $body:ident;)*) => {$(
        $(#[$meta])*
        #[inline]
        $vis unsafe fn $name(isa: $crate::kernels::isa::Isa, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $type),*) {
                // SAFETY: the attribute asks for the instructions; the caller vouches for the rest.
                unsafe { $body::<std::arch::x86_64::__m256>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")]
            unsafe fn avx512($($arg: $type),*) {
                // SAFETY: as above.
                unsafe { $body::<std::arch::x86_64::__m512>($($arg),*) }
            }
            match isa.level() {
                // SAFETY: an Isa of this level exists only where the CPU has these instructions; the caller
                // vouches for the rest.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Level::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: every CPU can do this; the caller vouches for the rest.
                _ => unsafe { $body::<$crate::kernels::vector::Four>($($arg),*) },
            }
        }
    )*};
}
pub(super) use vectorize;

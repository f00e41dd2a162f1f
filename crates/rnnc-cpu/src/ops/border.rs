//! From the caller's arrays to the buffers, and from the buffers to the caller's arrays. Each worker copies what it will read
//! first, so that this too takes all cores, and leaves the values in the cache of the core that wants them; of results,
//! each takes the next piece.

#![allow(unsafe_code)] // rows of the shared buffers

use super::Share;
use crate::memory::Shared;
use crate::places::Target;
use crate::team::{Experience, TeamHandle, Work};
use crate::units::unit_range;
use rnnc_plan::Values;
use std::sync::{Mutex, PoisonError};

/// Copies a worker's share of some values `[frames, B, N]` into a buffer. They are those of the pass's last frames, from
/// `first` on; the frames before are filled with zeros, and if there are no values, so are all.
pub(crate) fn fill(
    shared: &Shared<'_>,
    to: &Target,
    share: &Share,
    first: usize,
    values: Option<Values<'_>>,
) {
    let units = unit_range(to.len, 1, share.part.0, share.part.1);
    if units.is_empty() {
        return;
    }
    if let Some(Values::F32(values)) = values
        && (to.width, units.len(), share.streams.len()) == (to.len, to.len, shared.streams)
        && first <= share.frames.start
    {
        // One row after the other, here and there.
        let frame = shared.streams * to.len;
        let from = &values[(share.frames.start - first) * frame..(share.frames.end - first) * frame];
        // SAFETY: the rows lie side by side, and no other worker has them.
        let out =
            unsafe { std::slice::from_raw_parts_mut(shared.target(to, share.frames.start, 0), from.len()) };
        shared.writes(out.as_mut_ptr(), out.len());
        return out.copy_from_slice(from);
    }
    for t in share.frames.clone() {
        for b in share.streams.clone() {
            // SAFETY: the row is as wide as the layer, and no other worker has these units of it.
            let out = unsafe {
                std::slice::from_raw_parts_mut(shared.target(to, t, b).add(units.start), units.len())
            };
            shared.writes(out.as_mut_ptr(), out.len());
            let at = (t.saturating_sub(first) * shared.streams + b) * to.len + units.start;
            let from = at..at + units.len();
            match values.filter(|_| t >= first) {
                None => out.fill(0.0),
                Some(Values::F32(v)) => out.copy_from_slice(&v[from]),
                Some(Values::F64(v)) => out.iter_mut().zip(&v[from]).for_each(|(o, v)| *o = *v as f32),
                Some(Values::Symbols(v)) => {
                    out.iter_mut().zip(&v[from]).for_each(|(o, v)| *o = f32::from_bits(*v))
                }
            }
        }
    }
}

/// Rows of a buffer.
pub(crate) struct BufferRows<'a> {
    /// From the first number of the first row on.
    pub values: &'a [f32],
    /// Numbers from a row to the next.
    pub width: usize,
    /// Numbers of a row.
    pub len: usize,
}

/// Copies rows to the caller's array `[frames, B, N]`, many of them by all workers.
pub(crate) fn copy_out<T: From<f32> + Send>(
    team: &TeamHandle,
    experience: &Mutex<Experience>,
    rows: &BufferRows<'_>,
    out: &mut [T],
) {
    /// Fewer numbers than these are not worth a barrier.
    const SHARED: usize = 1 << 16;
    /// About as many are a piece.
    const PIECE: usize = 1 << 14;
    let BufferRows { values, width, len } = *rows;
    let several = (PIECE / len.max(1)).max(1);
    let numbers = out.len();
    let pieces = Mutex::new(out.chunks_mut(several * len.max(1)).zip(0..));
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let copy = || {
        while let Some((out, piece)) = next() {
            let from = &values[piece * several * width..];
            // Rows without gaps are one row.
            let (width, len) = if width == len { (out.len(), out.len()) } else { (width, len) };
            for (out, row) in out.chunks_exact_mut(len).zip(from.chunks(width)) {
                out.iter_mut().zip(row).for_each(|(out, value)| *out = T::from(*value));
            }
        }
    };
    if numbers >= SHARED {
        let mut experience = experience.lock().unwrap_or_else(PoisonError::into_inner);
        team.share(&mut experience, Work::Copy, numbers, &|_| copy());
    } else {
        copy();
    }
}

//! From the caller's arrays to the buffers, and from the buffers to the caller's arrays. Each worker copies what it will read
//! first, so that this too takes all cores, and leaves the values in the cache of the core that wants them; of results,
//! each takes the next piece.

#![allow(unsafe_code)] // rows of the shared buffers, and of the caller's arrays

use super::Share;
use crate::arrays::{Strided, StridedMut};
use crate::memory::Shared;
use crate::places::Target;
use crate::team::{Experience, TeamHandle, Work};
use crate::units::unit_range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Copies a worker's share of some values `[frames, B, N]` into a buffer. They are those of the pass's last frames, from
/// `first` on; the frames before are filled with zeros, and if there are no values, so are all.
pub(crate) fn fill(
    shared: &Shared<'_>,
    to: &Target,
    share: &Share,
    first: usize,
    values: Option<Strided<'_>>,
) {
    let units = unit_range(to.len, 1, share.part.0, share.part.1);
    if units.is_empty() {
        return;
    }
    if let Some(values) = &values
        && (to.width, units.len(), share.streams.len()) == (to.len, to.len, shared.streams)
        && first <= share.frames.start
        && let Some(from) = values.slice_from(share.frames.start - first)
    {
        // One row after the other, here and there.
        let from = &from[..share.frames.len() * shared.streams * to.len];
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
            match values.filter(|_| t >= first) {
                None => out.fill(0.0),
                Some(values) => values.read(t - first, b, units.start, out),
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
pub(crate) fn copy_out(
    team: &TeamHandle,
    experience: &Mutex<Experience>,
    rows: &BufferRows<'_>,
    out: &StridedMut<'_>,
) {
    /// Fewer numbers than these are not worth a barrier.
    const SHARED: usize = 1 << 16;
    /// About as many are a piece.
    const PIECE: usize = 1 << 14;
    let BufferRows { values, width, len } = *rows;
    let [frames, streams, _] = out.shape();
    let (all, piece) = (frames * streams, (PIECE / len.max(1)).max(1));
    // Rows without gaps, here and there, are one row.
    let is_plain = width == len && out.is_plain();
    let next = AtomicUsize::new(0);
    let copy = || {
        loop {
            let first = next.fetch_add(piece, Ordering::Relaxed);
            let rows = first..all.min(first.saturating_add(piece));
            if rows.is_empty() {
                return;
            }
            if is_plain {
                // SAFETY: no other worker has this piece.
                unsafe { out.write_plain(first, &values[rows.start * len..rows.end * len]) };
                continue;
            }
            for row in rows {
                // SAFETY: no other worker has this row.
                unsafe { out.write(row / streams, row % streams, 0, &values[row * width..][..len]) };
            }
        }
    };
    if all * len >= SHARED {
        let mut experience = experience.lock().unwrap_or_else(PoisonError::into_inner);
        team.share(&mut experience, Work::Copy, all * len, &|_| copy());
    } else {
        copy();
    }
}

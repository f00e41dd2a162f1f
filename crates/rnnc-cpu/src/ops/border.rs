//! From the caller's arrays to the buffers: each worker copies what it will read first, so that this too takes all cores,
//! and leaves the values in the cache of the core that wants them.

#![allow(unsafe_code)] // rows of the shared buffers

use super::Share;
use crate::compile::Target;
use crate::memory::Shared;
use rnnc_plan::Values;

/// Copies a worker's share of some values `[frames, B, N]` into a buffer. They are those of the pass's last frames, from
/// `first` on; the frames before are filled with zeros, and if there are no values, so are all.
pub(crate) fn fill(
    shared: &Shared<'_>,
    to: &Target,
    share: &Share,
    first: usize,
    values: Option<Values<'_>>,
) {
    let units = super::unit_range(to.len, share.part.0, share.part.1);
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
        return out.copy_from_slice(from);
    }
    for t in share.frames.clone() {
        for b in share.streams.clone() {
            // SAFETY: the row is as wide as the layer, and no other worker has these units of it.
            let out = unsafe {
                std::slice::from_raw_parts_mut(shared.target(to, t, b).add(units.start), units.len())
            };
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

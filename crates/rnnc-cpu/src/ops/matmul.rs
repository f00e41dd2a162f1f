//! Products with weight matrices, and look-ups in tables.

#![allow(unsafe_code)] // rows of the shared buffers

use super::{Share, assert_matrix};
use crate::kernels::direct::{axpy_rows, dot_rows};
use crate::kernels::numbers::{Bf16, Number};
use crate::kernels::pack::{Strided, pack_panels, packed_len, packed_room};
use crate::kernels::panel::PANEL;
use crate::kernels::skinny::{skinny, skinny_bf16};
use crate::memory::{Shared, assert_inside};
use crate::program::{GatherOp, Kernel, ProductOp};
use crate::units::runs;
use rnnc_plan::Matrix;
use std::ops::Range;

/// Rows that are handed over together: what is read of the weights from far away is read once for all of them.
const MANY: usize = 192;

/// The same where there are no more: a step of a loop need not make room for many.
const FEW: usize = 24;

/// Runs products, one after the other.
pub(crate) fn matmul(shared: &Shared<'_>, products: &[ProductOp], share: &Share) {
    for product in products {
        if share.rows() > FEW {
            rows::<MANY>(shared, product, share)
        } else {
            rows::<FEW>(shared, product, share)
        }
    }
}

/// A product, ROWS rows at a time.
fn rows<const ROWS: usize>(shared: &Shared<'_>, p: &ProductOp, share: &Share) {
    let units = share.units(p.slice_len);
    if runs(p.to.len, p.slice_len, p.first, &units).next().is_none() {
        // Another worker's head.
        return;
    }
    let mut rows: [*const f32; ROWS] = [std::ptr::null(); ROWS];
    let mut outs: [*mut f32; ROWS] = [std::ptr::null_mut(); ROWS];
    let mut count = 0;
    let total = share.rows();
    for (n, (t, b)) in
        share.frames.clone().flat_map(|t| share.streams.clone().map(move |b| (t, b))).enumerate()
    {
        rows[count] = shared.source(&p.from, t, b);
        outs[count] = shared.target(&p.to, t, b);
        count += 1;
        if count == ROWS || n + 1 == total {
            few(shared, p, share, &units, &rows[..count], &mut outs[..count]);
            count = 0;
        }
    }
}

fn few(
    shared: &Shared<'_>,
    p: &ProductOp,
    share: &Share,
    units: &Range<usize>,
    rows: &[*const f32],
    outs: &mut [*mut f32],
) {
    let mut at = match &p.kernel {
        Kernel::Packed(places) => places[share.part.0.min(places.len() - 1)],
        _ => 0,
    };
    let columns = p.from.len;
    assert_matrix(p.weight, p.to.len, columns, shared.room.weights);
    rows.iter().for_each(|&row| shared.reads(row, columns));
    let mut moved = 0;
    for (first, n) in runs(p.to.len, p.slice_len, p.first, units) {
        assert_inside(first as isize, n, p.to.len);
        for out in outs.iter_mut() {
            // SAFETY: `first` lies within the units written, as did the runs before.
            *out = unsafe { out.add(first - moved) };
            shared.writes(*out, n);
        }
        moved = first;
        let weight = p.weight.offset + first * p.weight.row_stride;
        // SAFETY: rows and outs come from the compiler's places; each run of outputs is this worker's alone, and
        // the sources were written before the last barrier. Matrices lie within the weights, packed ones
        // within the room that was counted for them.
        unsafe {
            match &p.kernel {
                Kernel::Packed(_) => {
                    let packed = shared.packed.add(at);
                    shared.reads(packed, packed_room(n, columns, p.coarse));
                    if p.coarse {
                        let packed = packed.cast_const().cast::<Bf16>();
                        skinny_bf16(shared.isa, packed, n, columns, rows, outs, p.accumulate);
                    } else {
                        skinny(shared.isa, packed, n, columns, rows, outs, p.accumulate);
                    }
                    at += packed_room(n, columns, p.coarse);
                }
                Kernel::Axpy => {
                    let w = shared.weights.add(weight);
                    axpy_rows(shared.isa, w, p.weight.column_stride, n, columns, rows, outs, p.accumulate);
                }
                _ => {
                    let w = shared.weights.add(weight);
                    dot_rows(shared.isa, w, p.weight.row_stride, n, columns, rows, outs, p.accumulate);
                }
            }
        }
    }
}

/// Packs a product's weights: of the outputs that some units are, one worker's part of the panels.
pub(crate) fn pack_share(
    shared: &Shared<'_>,
    p: &ProductOp,
    place: usize,
    units: &Range<usize>,
    (index, count): (usize, usize),
) {
    let mut at = place;
    for (first, n) in runs(p.to.len, p.slice_len, p.first, units) {
        let (kk, Matrix { offset, row_stride, column_stride }) = (p.from.len, p.weight);
        let view = Strided { out_stride: row_stride, in_stride: column_stride, n, kk };
        let panels = n.div_ceil(PANEL);
        let own = panels * index / count..panels * (index + 1) / count;
        // SAFETY: matrices lie within the weights. The compiler counted this room, and gave these panels to this part
        // alone; any bits are numbers of either kind.
        unsafe {
            let from = shared.weights.add(offset + first * row_stride);
            let packed = shared.packed.add(at);
            if p.coarse {
                pack_part::<Bf16>(shared, from, view, own, packed.cast());
            } else {
                pack_part::<f32>(shared, from, view, own, packed);
            }
        }
        at += packed_room(n, kk, p.coarse);
    }
}

/// Packs some panels to their place behind `packed`, where the first one's is.
///
/// # Safety
///
/// The weights are there to read, and there is room for the panels, which are this worker's alone.
unsafe fn pack_part<W: Number>(
    shared: &Shared<'_>,
    from: *const f32,
    view: Strided,
    own: Range<usize>,
    packed: *mut W,
) {
    let room = packed_len::<W>(PANEL, view.kk);
    // SAFETY: the caller vouches for everything.
    unsafe {
        let packed = std::slice::from_raw_parts_mut(packed.add(own.start * room), own.len() * room);
        shared.writes(packed.as_mut_ptr().cast(), size_of_val(packed) / size_of::<f32>());
        pack_panels(shared.isa, from, view, own, packed);
    }
}

/// Runs look-ups, one after the other.
pub(crate) fn gather(shared: &Shared<'_>, look_ups: &[GatherOp], share: &Share) {
    for l in look_ups {
        let units = share.units(l.slice_len);
        for t in share.frames.clone() {
            for b in share.streams.clone() {
                let symbol = shared.source(&l.symbol, t, b);
                shared.reads(symbol, 1);
                // SAFETY: a symbol is stored as the bits of a number.
                let symbol = unsafe { symbol.cast::<u32>().read() };
                let to = shared.target(&l.to, t, b);
                for (first, n) in runs(l.to.len, l.slice_len, 0, &units) {
                    assert_inside(first as isize, n, l.to.len);
                    // SAFETY: the row is one of the table's; the units written are this worker's.
                    unsafe {
                        let out = std::slice::from_raw_parts_mut(to.add(first), n);
                        shared.writes(out.as_mut_ptr(), n);
                        // None, or, where the caller has changed its arrays since they were checked, anything.
                        if symbol as usize >= l.symbols {
                            if !l.accumulate {
                                out.fill(0.0);
                            }
                            continue;
                        }
                        let at = l.table.offset
                            + symbol as usize * l.table.column_stride
                            + first * l.table.row_stride;
                        let stride = l.table.row_stride;
                        if stride == 1 {
                            let row = std::slice::from_raw_parts(shared.weights.add(at), n);
                            if l.accumulate {
                                out.iter_mut().zip(row).for_each(|(o, w)| *o += w);
                            } else {
                                out.copy_from_slice(row);
                            }
                        } else {
                            for (i, o) in out.iter_mut().enumerate() {
                                let w = shared.weights.add(at + i * stride).read();
                                *o = if l.accumulate { *o + w } else { w };
                            }
                        }
                    }
                }
            }
        }
    }
}

//! Rows that are read, and the parts of rows that a worker writes.

#![allow(unsafe_code)] // parts of rows that other workers write parts of

use std::marker::PhantomData;
use std::ops::Range;

/// Rows that are read.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T = f32> {
    first: *const T,
    stride: usize,
    /// Numbers of a row.
    pub(super) len: usize,
    count: usize,
    read: PhantomData<&'a T>,
}

impl<'a, T> Rows<'a, T> {
    /// So many rows of `len` numbers, the first at `first`, and from each to the next `stride`.
    ///
    /// # Safety
    ///
    /// They are there, and nobody writes them while this is.
    pub unsafe fn new(first: *const T, stride: usize, len: usize, count: usize) -> Rows<'a, T> {
        Rows { first, stride, len, count, read: PhantomData }
    }

    /// One row.
    pub fn of(row: &'a [T]) -> Rows<'a, T> {
        Rows { first: row.as_ptr(), stride: row.len(), len: row.len(), count: 1, read: PhantomData }
    }

    #[inline(always)]
    pub(super) fn each(self) -> impl Iterator<Item = &'a [T]> {
        // SAFETY: these are the rows that are there.
        (0..self.count)
            .map(move |r| unsafe { std::slice::from_raw_parts(self.first.add(r * self.stride), self.len) })
    }
}

/// The parts of rows that are written, the same of each.
#[derive(Debug)]
pub struct Parts<'a> {
    first: *mut f32,
    stride: usize,
    count: usize,
    units: &'a [Range<usize>],
    written: PhantomData<&'a mut f32>,
}

impl<'a> Parts<'a> {
    /// The `units` of so many rows, the first at `first`, and from each to the next `stride`.
    ///
    /// # Safety
    ///
    /// The rows have these units, none of them overlap, and nobody else reads or writes them while this is there.
    pub unsafe fn new(first: *mut f32, stride: usize, count: usize, units: &'a [Range<usize>]) -> Parts<'a> {
        Parts { first, stride, count, units, written: PhantomData }
    }

    /// All units of one row: these.
    pub fn of(row: &'a mut [f32], units: &'a Range<usize>) -> Parts<'a> {
        assert!(*units == (0..row.len()), "{units:?} of {} units", row.len());
        let units = std::slice::from_ref(units);
        Parts { first: row.as_mut_ptr(), stride: row.len(), count: 1, units, written: PhantomData }
    }

    #[inline(always)]
    pub(super) fn each(self) -> impl Iterator<Item = RowParts<'a>> {
        (0..self.count).map(move |r| RowParts {
            row: self.first.wrapping_add(r * self.stride),
            units: self.units,
            written: PhantomData,
        })
    }
}

/// Those of one row.
pub(super) struct RowParts<'a> {
    row: *mut f32,
    units: &'a [Range<usize>],
    written: PhantomData<&'a mut f32>,
}

impl<'a> RowParts<'a> {
    /// Of a row of `len` numbers in so many groups, the units of each group of which some are written.
    #[inline(always)]
    pub(super) fn groups(&self, len: usize, groups: usize) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let (units, size) = (self.units, len / groups);
        let written =
            move |g: &Range<usize>| units.iter().any(|own| own.start.max(g.start) < own.end.min(g.end));
        (0..groups).map(move |g| g * size..(g + 1) * size).filter(written)
    }

    /// What is written of some units: which, counted from the first of them, and where.
    #[inline(always)]
    pub(super) fn of(&mut self, units: Range<usize>) -> impl Iterator<Item = (Range<usize>, &mut [f32])> {
        let row = self.row;
        self.units.iter().filter_map(move |own| {
            let own = own.start.max(units.start)..own.end.min(units.end);
            if own.is_empty() {
                return None;
            }
            // SAFETY: of these units, which nobody else touches; no two slices overlap, since the ranges do not.
            let out = unsafe { std::slice::from_raw_parts_mut(row.add(own.start), own.len()) };
            Some((own.start - units.start..own.end - units.start, out))
        })
    }
}

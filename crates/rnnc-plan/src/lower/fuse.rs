//! Fusing products: those side by side, and whose weights lie so too, become one.

use crate::ir::{LookUp, Matrix, OuterSum, Product, Read, RowSum, ScatterSum, StartValue, View};

/// Two parts of a matrix product that can be one.
trait Adjacent: Copy {
    /// The fused one, if `next` continues `self`.
    fn join(&self, next: &Self) -> Option<Self>;
}

/// Fuses neighbours in a list until none can be.
fn join_all<T: Adjacent>(list: &mut Vec<T>) {
    let mut joined: Vec<T> = Vec::with_capacity(list.len());
    for item in list.drain(..) {
        if let Some(last) = joined.last_mut()
            && let Some(both) = last.join(&item)
        {
            *last = both;
        } else {
            joined.push(item);
        }
    }
    *list = joined;
}

fn next_to(a: View, b: View) -> Option<View> {
    (a.buffer == b.buffer && a.column + a.len == b.column).then_some(View { len: a.len + b.len, ..a })
}

fn reads_next_to(a: Read, b: Read) -> Option<Read> {
    let starts = a.start == StartValue::Number(0.0) && b.start == a.start;
    let alike = a.delay == b.delay && a.history == b.history && starts;
    Some(Read { view: next_to(a.view, b.view)?, ..a }).filter(|_| alike)
}

/// Whether `b` is the part of one matrix that begins `rows` below and `columns` right of `a`.
fn continues(a: Matrix, b: Matrix, rows: usize, columns: usize) -> bool {
    a.row_stride == b.row_stride
        && a.column_stride == b.column_stride
        && a.offset + rows * a.row_stride + columns * a.column_stride == b.offset
}

/// Products that write side by side from the same source.
#[derive(Clone, Copy)]
struct SameSource(Product);

impl Adjacent for SameSource {
    fn join(&self, next: &Self) -> Option<Self> {
        let (a, b) = (self.0, next.0);
        // Only whole layers (or slices) of one size: workers share out units by layer.
        let whole = a.slice_len == b.slice_len
            && a.to.len.is_multiple_of(a.slice_len)
            && b.to.len.is_multiple_of(b.slice_len);
        let fits = whole && a.accumulate == b.accumulate && a.from == b.from;
        let to = next_to(a.to, b.to)?;
        (fits && continues(a.weight, b.weight, a.to.len, 0)).then_some(SameSource(Product { to, ..a }))
    }
}

/// Products that read side by side into the same target.
#[derive(Clone, Copy)]
struct SameTarget(Product);

impl Adjacent for SameTarget {
    fn join(&self, next: &Self) -> Option<Self> {
        let (a, b) = (self.0, next.0);
        let from = reads_next_to(a.from, b.from)?;
        (a.to == b.to && continues(a.weight, b.weight, 0, a.from.view.len))
            .then_some(SameTarget(Product { from, ..a }))
    }
}

fn key(view: View) -> (usize, usize) {
    (view.buffer.0, view.column)
}

/// Fuses products. Of several into one target, the first to run is the one that does not add.
pub(crate) fn products(list: &mut Vec<Product>) {
    list.sort_by_key(|p| (p.accumulate, key(p.from.view), p.from.delay, key(p.to)));
    let mut rows: Vec<SameSource> = list.drain(..).map(SameSource).collect();
    join_all(&mut rows);
    let mut left: Vec<Product> = rows.into_iter().map(|p| p.0).collect();
    left.sort_by_key(|p| (key(p.to), p.to.len));
    for group in left.chunk_by(|a, b| a.to == b.to) {
        let adds = group.iter().all(|p| p.accumulate);
        let mut columns: Vec<SameTarget> =
            group.iter().map(|p| SameTarget(Product { accumulate: true, ..*p })).collect();
        columns.sort_by_key(|p| (p.0.from.delay, key(p.0.from.view)));
        join_all(&mut columns);
        if let Some(first) = columns.first_mut() {
            first.0.accumulate = adds;
        }
        list.extend(columns.into_iter().map(|p| p.0));
    }
    // Targets of different extent can overlap (heads, and whole layers).
    list.sort_by_key(|p| p.accumulate);
}

impl Adjacent for LookUp {
    fn join(&self, next: &Self) -> Option<Self> {
        let whole = self.slice_len == next.slice_len
            && self.to.len.is_multiple_of(self.slice_len)
            && next.to.len.is_multiple_of(next.slice_len);
        let fits = whole && self.accumulate == next.accumulate && self.symbol == next.symbol;
        let to = next_to(self.to, next.to)?;
        (fits && continues(self.table, next.table, self.to.len, 0)).then_some(LookUp { to, ..*self })
    }
}

/// Fuses look-ups.
pub(crate) fn look_ups(list: &mut Vec<LookUp>) {
    list.sort_by_key(|l| (l.accumulate, key(l.symbol.view), l.symbol.delay, key(l.to)));
    join_all(list);
}

#[derive(Clone, Copy)]
struct SameColumns(OuterSum);

impl Adjacent for SameColumns {
    fn join(&self, next: &Self) -> Option<Self> {
        let (a, b) = (self.0, next.0);
        let fits = a.accumulate == b.accumulate && a.source == b.source;
        let error = next_to(a.error, b.error)?;
        (fits && continues(a.gradient, b.gradient, a.error.len, 0))
            .then_some(SameColumns(OuterSum { error, ..a }))
    }
}

/// Fuses weight gradients.
pub(crate) fn outer_sums(list: &mut Vec<OuterSum>) {
    list.sort_by_key(|o| (o.accumulate, key(o.source.view), o.source.delay, key(o.error)));
    let mut parts: Vec<SameColumns> = list.drain(..).map(SameColumns).collect();
    join_all(&mut parts);
    list.extend(parts.into_iter().map(|o| o.0));
}

impl Adjacent for ScatterSum {
    fn join(&self, next: &Self) -> Option<Self> {
        let fits = self.accumulate == next.accumulate && self.symbol == next.symbol;
        let error = next_to(self.error, next.error)?;
        (fits && continues(self.gradient, next.gradient, self.error.len, 0))
            .then_some(ScatterSum { error, ..*self })
    }
}

/// Fuses table gradients.
pub(crate) fn scatter_sums(list: &mut Vec<ScatterSum>) {
    list.sort_by_key(|s| (s.accumulate, key(s.symbol.view), s.symbol.delay, key(s.error)));
    join_all(list);
}

impl Adjacent for RowSum {
    fn join(&self, next: &Self) -> Option<Self> {
        let alike = self.accumulate == next.accumulate
            && self.crossing == next.crossing
            && self.scale == next.scale
            && self.gradient + self.error.len == next.gradient;
        let source = match (self.source, next.source) {
            (None, None) => None,
            (Some(a), Some(b)) => Some(reads_next_to(a, b)?),
            _ => return None,
        };
        let error = next_to(self.error, next.error)?;
        alike.then_some(RowSum { error, source, ..*self })
    }
}

/// Fuses sums over rows.
pub(crate) fn row_sums(list: &mut Vec<RowSum>) {
    let source = |r: &RowSum| r.source.map(|s| (key(s.view), s.delay));
    list.sort_by_key(|r| (r.accumulate, r.crossing, source(r), key(r.error), r.gradient));
    join_all(list);
}

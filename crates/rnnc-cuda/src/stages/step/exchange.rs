//! What a loop writes, who reads it, and so what must be waited for.
//!
//! Blocks wait for data, not for each other: before a phase, for the steps of those phases whose values it reads. Rows
//! are written once, so nothing waits for readers.

use rnnc_graph::Direction;
use rnnc_plan::{Map, MapLeaf, Op, Product, Read, Task, Vector, View};

/// Values that a task's operations store: columns of a buffer that are units of layers of a size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub view: View,
    /// The size of the layer, by which units are partitioned.
    pub slice_len: usize,
    /// The unit of the first column.
    pub first: usize,
    pub phase: usize,
    pub offset: i64,
    pub by_map: bool,
}

/// All that a task stores.
pub(super) fn stored(task: &Task) -> Vec<Stored> {
    let mut out = Vec::new();
    for (phase, placed) in task.phases.iter().enumerate().flat_map(|(p, x)| x.ops.iter().map(move |o| (p, o)))
    {
        let offset = placed.offset;
        match &placed.op {
            Op::MatMul(products) => {
                for p in products {
                    if p.to.len < p.slice_len {
                        out.push(Stored {
                            view: p.to,
                            slice_len: p.slice_len,
                            first: p.first,
                            phase,
                            offset,
                            by_map: false,
                        });
                        continue;
                    }
                    for view in p.to.slices(p.slice_len) {
                        out.push(Stored {
                            view,
                            slice_len: p.slice_len,
                            first: 0,
                            phase,
                            offset,
                            by_map: false,
                        });
                    }
                }
            }
            Op::Map(map) => {
                out.extend(map.stores().map(|view| Stored {
                    view,
                    slice_len: map.slice_len,
                    first: map.first,
                    phase,
                    offset,
                    by_map: true,
                }));
            }
            Op::Vector(v) => {
                for view in v.to.slices(v.slice_len) {
                    out.push(Stored { view, slice_len: v.slice_len, first: 0, phase, offset, by_map: false });
                }
            }
            _ => {}
        }
    }
    out
}

/// Whether an operation before that at `place` (phase, operation) stores some of a view.
pub(super) fn is_stored_before(task: &Task, place: (usize, usize), view: View) -> bool {
    let ops = task.phases.iter().enumerate().flat_map(|(p, x)| x.ops.iter().enumerate().map(move |o| (p, o)));
    ops.filter(|&(p, (o, _))| (p, o) < place).any(|(_, (_, placed))| match &placed.op {
        Op::MatMul(products) => products.iter().any(|p| overlap(p.to, view)),
        Op::Map(map) => map.stores().any(|to| overlap(to, view)),
        Op::Vector(v) => overlap(v.to, view),
        _ => false,
    })
}

pub(super) fn overlap(a: View, b: View) -> bool {
    a.buffer == b.buffer && a.column < b.column + b.len && b.column < a.column + a.len
}

/// Whether a map reads by a leaf what other units of the task store.
pub(super) fn reads_other_units(stored: &[Stored], map: &Map, leaf: &MapLeaf) -> bool {
    match leaf {
        MapLeaf::Read(read) => origin(stored, read, map.slice_len, map.first) == Origin::OtherUnits,
        // Whatever stored it.
        MapLeaf::Repeated(..) => true,
        MapLeaf::Weight(_) | MapLeaf::Mask(_) => false,
    }
}

/// The columns of `stored` that `from` has too: the first, and one past the last.
pub(super) fn common(from: View, stored: View) -> (usize, usize) {
    let end = (from.column + from.len).saturating_sub(stored.column).min(stored.len);
    (from.column.saturating_sub(stored.column), end)
}

/// How many steps after its maps computed them a product reads its source, if that is 0 or 1 and all of its columns are
/// theirs.
pub(super) fn lag(task: &Task, stored: &[Stored], product: &Product) -> Option<i64> {
    let sign = if task.direction == Direction::Forward { 1 } else { -1 };
    let view = product.from.view;
    let stores = stored.iter().filter(|s| overlap(s.view, view));
    let mut columns = 0;
    for s in stores {
        let (first, end) = (s.view.column.max(view.column), s.view.column + s.view.len);
        columns += end.min(view.column + view.len) - first;
        if !s.by_map {
            return None;
        }
    }
    let lag = sign * product.from.delay;
    (columns == view.len && (0..=1).contains(&lag)).then_some(lag)
}

/// Where the values of a read come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// From before the loop.
    Outside,
    /// The same unit of this loop, so the same thread, or, where a vector function stored it, another of the block: all
    /// meet behind that.
    SameUnit,
    /// Other units of this loop.
    OtherUnits,
}

/// Where an elementwise read by units `first ..` of a layer of `slice_len` comes from.
pub(super) fn origin(stored: &[Stored], read: &Read, slice_len: usize, first: usize) -> Origin {
    let mut origin = Origin::Outside;
    for s in stored.iter().filter(|s| overlap(s.view, read.view)) {
        let same = s.slice_len == slice_len && s.view.column + first == read.view.column + s.first;
        if !same {
            return Origin::OtherUnits;
        }
        origin = Origin::SameUnit;
    }
    origin
}

/// Who reads what other blocks have.
#[derive(Clone, Copy)]
pub(super) enum Reader<'a> {
    Product(&'a Product),
    Vector(&'a Vector),
}

/// A phase must see the steps of another: `behind` steps before its own, and all before those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub phase: usize,
    pub behind: i64,
}

/// What a phase must wait for. Of operations that `says_itself` names, with the phase they stand in and their place in it,
/// what they read says itself that it is there.
pub(super) fn waits(
    task: &Task,
    stored: &[Stored],
    phase: usize,
    says_itself: &dyn Fn((usize, usize), Reader<'_>) -> bool,
) -> Vec<Wait> {
    let mut waits: Vec<Wait> = Vec::new();
    let width = i64::try_from(task.block.max(1)).unwrap_or(i64::MAX);
    let sign = if task.direction == Direction::Forward { 1 } else { -1 };
    let mut need = |read: &Read, offset: i64| {
        for s in stored.iter().filter(|s| overlap(s.view, read.view)) {
            // The step in which the last frame of this step's block finds what it reads.
            let behind = -(offset + width - 1 - sign * read.delay - s.offset).div_euclid(width);
            match waits.iter_mut().find(|w| w.phase == s.phase) {
                Some(wait) => wait.behind = wait.behind.min(behind),
                None => waits.push(Wait { phase: s.phase, behind }),
            }
        }
    };
    for (at, placed) in task.phases[phase].ops.iter().enumerate() {
        let says_itself = |reader| says_itself((phase, at), reader);
        match &placed.op {
            Op::MatMul(products) => {
                let counted = products.iter().filter(|p| !says_itself(Reader::Product(p)));
                counted.for_each(|p| need(&p.from, placed.offset));
            }
            Op::Vector(v) if says_itself(Reader::Vector(v)) => {}
            Op::Vector(v) => v.operands.iter().for_each(|read| need(read, placed.offset)),
            Op::Map(map) => {
                let other_units = |leaf: &&MapLeaf| reads_other_units(stored, map, leaf);
                let reads = map.program.leaves().filter(other_units).filter_map(MapLeaf::read);
                reads.for_each(|read| need(read, placed.offset));
            }
            _ => {}
        }
    }
    // What a phase reads of its own step comes from this block, or the plan would have put it into a later phase.
    waits.retain(|w| w.phase < phase || w.behind > 0);
    waits
}

//! When each layer runs: its stage, and its phase among those between which workers must synchronize.
//!
//! Levels alternate: frames stages, then the cycles (scans and loops) that read them, and so on. A component comes as early as what
//! it reads allows, so components of one level do not depend on each other and can run side by side. The products that enter a
//! cycle from outside are hoisted into the level before it.

use rnnc_graph::{
    Components, Connection, ConnectionKind, Direction, Graph, Kind, LayerId, LayerKind, Slices,
};
use std::cmp::Ordering;

/// Stages that can run side by side: a frames stage, or the cycles behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Level {
    /// First that of number 0.
    Frames(usize),
    /// Behind the frames stage of that number.
    Cycles(usize),
}

impl Level {
    /// The first of all.
    pub const FIRST: Level = Level::Frames(0);

    /// How many come before it.
    pub fn number(self) -> usize {
        match self {
            Level::Frames(number) => 2 * number,
            Level::Cycles(number) => 2 * number + 1,
        }
    }

    /// The frames stage before a cycle, in which its products run that are hoisted.
    pub fn frames(self) -> Level {
        let (Level::Frames(number) | Level::Cycles(number)) = self;
        Level::Frames(number)
    }

    /// The first frames stage that can read what is computed in this level.
    pub fn frames_after(self) -> Level {
        match self {
            Level::Frames(number) => Level::Frames(number),
            Level::Cycles(number) => Level::Frames(number + 1),
        }
    }

    /// The first cycles that can.
    pub fn cycles_after(self) -> Level {
        match self {
            Level::Frames(number) => Level::Cycles(number),
            Level::Cycles(number) => Level::Cycles(number + 1),
        }
    }
}

impl Ord for Level {
    fn cmp(&self, other: &Level) -> Ordering {
        self.number().cmp(&other.number())
    }
}

impl PartialOrd for Level {
    fn partial_cmp(&self, other: &Level) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// When a layer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The level.
    pub level: Level,
    /// The phase of its task.
    pub phase: usize,
    /// The phase of the level before, in which its hoisted products run (layers of cycles).
    pub hoisted: usize,
    /// How many frames it lies behind in a block, along the task's direction.
    pub offset: i64,
}

impl Position {
    /// Before all others.
    const FIRST: Position = Position { level: Level::FIRST, phase: 0, hoisted: 0, offset: 0 };
}

pub(crate) struct Levels {
    pub places: Vec<Position>,
    /// For each component.
    pub barriers: Vec<Barriers>,
}

/// Where workers must synchronize in a step of a cycle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Barriers {
    /// Whether those that share out units must synchronize after the last phase too, and not between phases alone.
    pub at_end: bool,
    /// For each phase, whether those that share out heads must synchronize after it.
    pub of_heads: Vec<bool>,
}

impl Levels {
    pub fn new(graph: &Graph, components: &Components, slices: &Slices) -> Levels {
        let mut levels = Levels {
            places: vec![Position::FIRST; graph.layers().len()],
            barriers: vec![Barriers::default(); components.list.len()],
        };
        for (at, component) in components.list.iter().enumerate() {
            if component.kind == Kind::Frames {
                for &layer in &component.layers {
                    levels.places[layer.index()] = levels.frames_place(graph, slices, layer);
                }
            } else {
                levels.cycle_places(graph, components, slices, at);
            }
        }
        levels
    }

    fn frames_place(&self, graph: &Graph, slices: &Slices, layer: LayerId) -> Position {
        let mut place = Position::FIRST;
        for (_, source) in computed_sources(graph, layer) {
            let from = self.places[source.index()].level;
            place.level = place.level.max(from.frames_after());
        }
        for (c, source) in computed_sources(graph, layer) {
            let from = self.places[source.index()];
            if from.level == place.level {
                // Rows may be shared out: other frames are other workers'.
                place.phase =
                    place.phase.max(from.phase + usize::from(c.delay != 0 || slices.cross(graph, c)));
            }
        }
        place
    }

    fn cycle_places(&mut self, graph: &Graph, components: &Components, slices: &Slices, at: usize) {
        let component = &components.list[at];
        let inside = |layer: LayerId| components.of_layer[layer.index()] == at;
        let mut level = Level::FIRST.cycles_after();
        for &layer in &component.layers {
            for (_, source) in computed_sources(graph, layer).filter(|&(_, s)| !inside(s)) {
                let from = self.places[source.index()].level;
                level = level.max(from.cycles_after());
            }
        }
        let sign = if component.direction == Direction::Forward { 1 } else { -1 };
        let width = i64::try_from(component.width.frames).unwrap_or(i64::MAX);
        // `layers` is in the order of a block: what is read of the same block has its phase already.
        for (&layer, &offset) in component.layers.iter().zip(&component.offsets) {
            self.places[layer.index()] = Position { level, phase: 0, hoisted: 0, offset };
        }
        let behind = |places: &[Position], c: &Connection, source: LayerId| {
            sign * c.delay + places[source.index()].offset - places[c.target.index()].offset
        };
        for &layer in &component.layers {
            let mut place = self.places[layer.index()];
            for (c, source) in computed_sources(graph, layer) {
                let from = self.places[source.index()];
                if inside(source) {
                    if behind(&self.places, c, source) < width {
                        place.phase = place.phase.max(from.phase + usize::from(slices.cross(graph, c)));
                    }
                } else if is_product(c) && from.level == level.frames() {
                    place.hoisted = place.hoisted.max(from.phase + 1);
                }
            }
            self.places[layer.index()] = place;
        }
        let reads = component.layers.iter().flat_map(|&layer| computed_sources(graph, layer));
        let reads: Vec<Crossing> = reads
            .filter(|&(c, source)| inside(source) && slices.cross(graph, c))
            .map(|(c, source)| {
                let behind = behind(&self.places, c, source);
                Crossing {
                    from: self.places[source.index()].phase,
                    to: self.places[c.target.index()].phase,
                    same_step: behind < width,
                    earlier_step: behind > 0,
                    crosses_heads: slices.cross_heads(graph, c, component.heads),
                }
            })
            .collect();
        let last = component.layers.iter().map(|l| self.places[l.index()].phase).max().unwrap_or(0);
        self.barriers[at] = Barriers {
            at_end: reads.iter().any(|r| r.earlier_step && r.from == last && r.to == 0),
            of_heads: of_heads(&reads, last + 1),
        };
    }
}

/// What a layer of a cycle reads of other units.
struct Crossing {
    /// The phase of what is read, and that of the layer.
    from: usize,
    to: usize,
    /// Whether it is read in the step that computes it.
    same_step: bool,
    /// Whether it is read in a later one.
    earlier_step: bool,
    /// Whether heads read other heads.
    crosses_heads: bool,
}

/// The phases behind which workers with whole heads must synchronize: as few as will do.
fn of_heads(reads: &[Crossing], phases: usize) -> Vec<bool> {
    let mut barriers = vec![false; phases];
    let crossing = || reads.iter().filter(|read| read.crosses_heads);
    // Of what is read in the same step, each needs one after `from` and before `to`: the first of them to end is met for as
    // late as can be.
    let mut within: Vec<&Crossing> =
        crossing().filter(|read| read.same_step && read.from < read.to).collect();
    within.sort_by_key(|read| read.to);
    let mut met = 0;
    for read in within {
        // Those so far stand before the first `met` phases' end.
        if read.from >= met {
            met = read.to;
            barriers[met - 1] = true;
        }
    }
    // What is read in a later step needs one after `from`, or then before `to`.
    let missing =
        |read: &Crossing| !barriers[read.from..].contains(&true) && !barriers[..read.to].contains(&true);
    if crossing().any(|read| read.earlier_step && missing(read)) {
        barriers[phases - 1] = true;
    }
    barriers
}

/// The connections into a layer from layers that are computed, rather than handed in.
fn computed_sources(graph: &Graph, layer: LayerId) -> impl Iterator<Item = (&Connection, LayerId)> {
    graph.incoming(layer).filter_map(|c| {
        let source = c.source?;
        let given = matches!(
            graph.layer_at(source).kind,
            LayerKind::Input | LayerKind::Symbol | LayerKind::Residual(_)
        );
        (!given).then_some((c, source))
    })
}

/// Whether a term is a product with a matrix.
pub(crate) fn is_product(c: &Connection) -> bool {
    matches!(c.kind, ConnectionKind::Full { .. })
}

/// Whether a layer is a step of a map: elementwise.
pub(crate) fn is_elementwise(kind: LayerKind) -> bool {
    match kind {
        LayerKind::Sum | LayerKind::Product => true,
        LayerKind::Operation(op) => op.is_elementwise(),
        _ => false,
    }
}

//! From one graph to one pass: where values are stored, and the operations of each stage.
//!
//! Steps: levels and phases (`levels.rs`) - group elementwise layers into maps - decide which values must be stored - give
//! them buffers, those of one product side by side. Then `emit.rs` writes the operations.

use super::levels::{Level, Levels, Position, is_elementwise, is_product};
use crate::analysis::overlaps::Overlaps;
use crate::ir::{Buffer, BufferId, PlanError, Read, StartValue, View, WeightLayout};
use rnnc_graph::{
    AccumulationKind, Components, Connection, ConnectionKind, Function, Graph, Kind, LayerId, LayerKind,
    Range, Slices, WeightId,
};
use std::collections::{HashMap, HashSet};

/// A graph on its way to a pass.
pub(crate) struct Lowering<'a> {
    pub graph: &'a Graph,
    is_adjoint: bool,
    /// Which layers hold symbols.
    pub symbols: Vec<bool>,
    pub components: Components,
    pub levels: Levels,
    /// By which units layers are shared out.
    pub slices: Slices,
    /// For each layer, whether its values begin as the result of products, in its buffer.
    products: Vec<bool>,
    /// Of each layer in more than one piece, which of its terms reach which units.
    reaching: HashMap<LayerId, Overlaps<usize>>,
    /// For each elementwise layer, its pieces, in their order: the first unit of each, and the map that computes it.
    pieces: Vec<Vec<(usize, usize)>>,
    pub maps: Vec<MapGroup>,
    /// Layers whose values stand in a buffer.
    pub stored: Vec<bool>,
    pub storage: Vec<Option<View>>,
}

/// What the layers of one map share: level, component, phase, offset, size, and the part of it.
type MapKey = (Level, Option<usize>, usize, i64, usize, Range);

/// A part of an elementwise layer that one map computes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub layer: LayerId,
    /// Its first unit.
    pub first: usize,
}

/// The pieces of elementwise layers of one phase that are the same units of layers of one size, or of slices of it: they
/// become one map.
#[derive(Clone, Debug)]
pub(crate) struct MapGroup {
    pub level: Level,
    /// Of a cycle, its component.
    pub component: Option<usize>,
    pub phase: usize,
    pub offset: i64,
    pub slice_len: usize,
    pub first: usize,
    pub len: usize,
    /// In the order in which they are computed.
    pub pieces: Vec<Piece>,
}

/// What the backward pass needs of the forward one: layers saved, and how far back they are read.
#[derive(Default)]
pub(crate) struct Residuals {
    pub layers: HashSet<LayerId>,
    pub depths: HashMap<LayerId, usize>,
}

impl Residuals {
    /// What an adjoint graph reads.
    pub fn of(adjoint: &Graph) -> Residuals {
        let mut saved = Residuals::default();
        let depths = adjoint.history_depths();
        for id in adjoint.layer_ids() {
            if let LayerKind::Residual(of) = adjoint.layer_at(id).kind {
                saved.layers.insert(of);
                saved.depths.insert(of, depths[id.index()]);
            }
        }
        for a in adjoint.accumulations() {
            if let AccumulationKind::Outer { source, delay, .. }
            | AccumulationKind::Diagonal { source, delay, .. } = a.kind
                && let LayerKind::Residual(of) = adjoint.layer_at(source).kind
            {
                let depth = saved.depths.entry(of).or_default();
                *depth = (*depth).max(usize::try_from(delay).unwrap_or(0));
            }
        }
        saved
    }
}

impl<'a> Lowering<'a> {
    /// `forward` is the network that `graph` is the adjoint of, if it is one.
    pub fn new(
        graph: &'a Graph,
        forward: Option<&Graph>,
        components: Components,
        saved: &Residuals,
    ) -> Lowering<'a> {
        let is_symbol = |id: LayerId| match (graph.layer_at(id).kind, forward) {
            (LayerKind::Residual(of), Some(forward)) => forward.layer_at(of).kind == LayerKind::Symbol,
            (kind, _) => kind == LayerKind::Symbol,
        };
        // A scan's maps are cut by its terms alone: its states are whole layers'.
        let in_scan = |layer| matches!(components.of(layer).kind, Kind::Scan(_));
        let slices = Slices::find(graph, in_scan);
        let levels = Levels::new(graph, &components, &slices);
        let count = graph.layers().len();
        let mut lowering = Lowering {
            graph,
            is_adjoint: forward.is_some(),
            symbols: graph.layer_ids().map(is_symbol).collect(),
            components,
            levels,
            slices,
            products: graph.layer_ids().map(|layer| graph.incoming(layer).any(is_product)).collect(),
            reaching: HashMap::new(),
            pieces: vec![Vec::new(); count],
            maps: Vec::new(),
            stored: vec![false; count],
            storage: vec![None; count],
        };
        lowering.group_maps();
        lowering.find_stored(saved);
        lowering
    }

    pub fn place(&self, layer: LayerId) -> Position {
        self.levels.places[layer.index()]
    }

    /// The component that a layer's steps belong to, if it is a cycle.
    pub fn cycle(&self, layer: LayerId) -> Option<usize> {
        let component = self.components.of_layer[layer.index()];
        (self.components.list[component].kind != Kind::Frames).then_some(component)
    }

    /// Whether the layer's values begin as the result of products, in its buffer.
    pub fn has_products(&self, layer: LayerId) -> bool {
        self.products[layer.index()]
    }

    /// The terms of a piece that are no products, in the order in which they are written.
    pub fn terms(&self, piece: Piece) -> Vec<&'a Connection> {
        let all = self.graph.incoming_ids(piece.layer);
        let mut terms: Vec<usize> = match self.reaching.get(&piece.layer) {
            // Pieces are cut where terms begin and end.
            Some(reaching) => reaching.with(piece.first..piece.first + 1).copied().collect(),
            None => (0..all.len()).collect(),
        };
        terms.sort_unstable();
        let terms = terms.into_iter().map(|term| self.graph.connection_at(all[term]));
        terms.filter(|c| !is_product(c)).collect()
    }

    /// Whether a map computes (or finishes) the layer.
    fn needs_map(&self, layer: LayerId) -> bool {
        let l = self.graph.layer_at(layer);
        is_elementwise(l.kind)
            && !(self.has_products(layer)
                && l.function == Function::IDENTITY
                && self.graph.incoming(layer).all(is_product))
    }

    /// The parts of a layer that one program each computes: cut wherever a term or a slice begins or ends.
    fn segments(&self, layer: LayerId) -> Vec<Range> {
        let size = self.graph.layer_at(layer).size;
        let mut cuts: Vec<usize> = (0..size).step_by(self.slices.of(layer)).collect();
        cuts.extend([0, size]);
        for c in self.graph.incoming(layer) {
            cuts.extend([c.target_range.start, c.target_range.end()]);
        }
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2).map(|w| Range::new(w[0], w[1] - w[0])).collect()
    }

    fn group_maps(&mut self) {
        // Keys of maps that still take layers. Where the layers of a cycle lie apart in time, the order of the
        // block counts, and only the last map does.
        let mut open: HashMap<MapKey, usize> = HashMap::new();
        let mut last_map: Vec<Option<usize>> = vec![None; self.graph.layers().len()];
        for component in 0..self.components.list.len() {
            let in_step = self.components.list[component].offsets.windows(2).all(|w| w[0] == w[1]);
            for place in 0..self.components.list[component].layers.len() {
                let layer = self.components.list[component].layers[place];
                if !self.needs_map(layer) {
                    continue;
                }
                let at = self.place(layer);
                let cycle = self.cycle(layer);
                let slice_len = self.slices.of(layer);
                // Maps run in order: a layer cannot join one that runs before a source's.
                let beside = |source: LayerId| {
                    let from = self.place(source);
                    (from.level, self.cycle(source), from.phase) == (at.level, cycle, at.phase)
                };
                let earliest = self
                    .graph
                    .incoming(layer)
                    .filter_map(|c| c.source)
                    .filter(|&source| source != layer && beside(source))
                    .filter_map(|source| last_map[source.index()])
                    .max();
                let segments = self.segments(layer);
                if segments.len() > 1 {
                    let reaches = |c: &Connection| c.target_range.start..c.target_range.end();
                    let terms = self.graph.incoming(layer).map(reaches).zip(0..).collect();
                    self.reaching.insert(layer, Overlaps::new(terms));
                }
                for segment in segments {
                    let units = Range::new(segment.start % slice_len, segment.len);
                    let key = (at.level, cycle, at.phase, at.offset, slice_len, units);
                    let last = self.maps.len().checked_sub(1);
                    let map = match open.get(&key) {
                        Some(&map) if Some(map) >= earliest && (in_step || Some(map) == last) => map,
                        _ => {
                            self.maps.push(MapGroup {
                                level: at.level,
                                component: cycle,
                                phase: at.phase,
                                offset: at.offset,
                                slice_len,
                                first: units.start,
                                len: units.len,
                                pieces: Vec::new(),
                            });
                            open.insert(key, self.maps.len() - 1);
                            self.maps.len() - 1
                        }
                    };
                    self.maps[map].pieces.push(Piece { layer, first: segment.start });
                    self.pieces[layer.index()].push((segment.start, map));
                    // Of the maps of its pieces, the one that runs last.
                    let last = &mut last_map[layer.index()];
                    *last = (*last).max(Some(map));
                }
            }
        }
    }

    /// Whether a map computes the layer.
    fn is_mapped(&self, layer: LayerId) -> bool {
        !self.pieces[layer.index()].is_empty()
    }

    /// The map that computes the piece of a layer that begins with that unit.
    fn map_of(&self, layer: LayerId, first: usize) -> Option<usize> {
        let pieces = &self.pieces[layer.index()];
        pieces.binary_search_by_key(&first, |&(first, _)| first).ok().map(|at| pieces[at].1)
    }

    /// Of a term, the piece of its source that the piece of its target which begins at `first` reads from a register: one
    /// that the same map computes, in the same frame.
    pub fn register(&self, c: &Connection, first: usize) -> Option<Piece> {
        let plain = matches!(c.kind, ConnectionKind::Identity { .. } | ConnectionKind::Diagonal { .. });
        let source = c.source.filter(|_| plain && c.delay == 0)?;
        let from = c.source_range.start + (first - c.target_range.start);
        let map = self.map_of(source, from)?;
        (self.map_of(c.target, first) == Some(map)).then_some(Piece { layer: source, first: from })
    }

    /// Whether a term is read from registers alone.
    fn reads_registers(&self, c: &Connection) -> bool {
        let pieces = &self.pieces[c.target.index()];
        let before = |unit: usize| pieces.partition_point(|&(first, _)| first < unit);
        let inside = &pieces[before(c.target_range.start)..before(c.target_range.end())];
        !inside.is_empty() && inside.iter().all(|&(first, _)| self.register(c, first).is_some())
    }

    /// Whether a term reads a parameter's weights themselves.
    pub fn reads_weight(&self, c: &Connection) -> Option<WeightId> {
        let kind = self.graph.layer_at(c.source?).kind;
        let plain = matches!(c.kind, ConnectionKind::Identity { .. } | ConnectionKind::Diagonal { .. });
        match kind {
            LayerKind::Parameter(weight) if plain && c.delay == 0 && self.is_mapped(c.target) => Some(weight),
            _ => None,
        }
    }

    fn find_stored(&mut self, saved: &Residuals) {
        for output in self.graph.outputs() {
            self.stored[output.layer.index()] = true;
        }
        for layer in self.graph.held() {
            self.stored[layer.index()] = true;
        }
        for &layer in &saved.layers {
            self.stored[layer.index()] = true;
        }
        for a in self.graph.accumulations() {
            self.stored[a.error.index()] = true;
            if let Some(source) = a.kind.source() {
                self.stored[source.index()] = true;
            }
        }
        for id in self.graph.layer_ids() {
            let kind = self.graph.layer_at(id).kind;
            let parameter = matches!(kind, LayerKind::Parameter(_));
            if !is_elementwise(kind) && !parameter {
                self.stored[id.index()] = true;
            }
            for c in self.graph.incoming(id) {
                if let Some(source) = c.source
                    && !self.reads_registers(c)
                    && self.reads_weight(c).is_none()
                {
                    self.stored[source.index()] = true;
                }
            }
        }
    }

    /// Layers whose values belong side by side because one product can write them all: those of one phase that
    /// read the same.
    pub fn bundles_by_source(&self) -> Vec<Vec<LayerId>> {
        let key = |layer: LayerId| {
            let mut reads: Vec<_> = self
                .graph
                .incoming(layer)
                .filter(|c| is_product(c))
                .map(|c| (c.source, c.source_range, c.delay))
                .collect();
            reads.sort_unstable();
            (!reads.is_empty())
                .then(|| (self.cycle(layer), self.place(layer).level, self.place(layer).phase, reads))
        };
        bundle(self.graph.layer_ids().filter_map(|layer| Some((key(layer)?, layer))))
    }

    /// Layers whose values belong side by side because one product can read them all: those of one component with
    /// the same targets. In the order in which the weights lie.
    pub fn bundles_by_target(&self, weights: &WeightLayout) -> Vec<Vec<LayerId>> {
        let mut targets: Vec<Vec<(usize, usize, Range, i64)>> = vec![Vec::new(); self.graph.layers().len()];
        let mut order = vec![usize::MAX; self.graph.layers().len()];
        for c in self.graph.connections() {
            if let (ConnectionKind::Full { weight, part, .. }, Some(source)) = (c.kind, c.source) {
                targets[source.index()].push((0, c.target.index(), c.target_range, c.delay));
                order[source.index()] = order[source.index()].min(weights.view(weight).part(part).offset);
            }
        }
        for a in self.graph.accumulations() {
            if let AccumulationKind::Outer { source, source_range, delay, part, .. } = a.kind {
                targets[a.error.index()].push((1, source.index(), source_range, delay));
                let at = &mut order[a.error.index()];
                *at = (*at).min(weights.view(a.weight).part(part).offset);
            }
        }
        let key = |layer: LayerId| {
            let mut reads = targets[layer.index()].clone();
            reads.sort_unstable();
            let fits = !reads.is_empty() && !self.has_products(layer) && self.is_mapped(layer);
            fits.then(|| (self.cycle(layer), self.place(layer).level, reads))
        };
        let mut bundles = bundle(self.graph.layer_ids().filter_map(|layer| Some((key(layer)?, layer))));
        for bundle in &mut bundles {
            bundle.sort_by_key(|layer| (order[layer.index()], *layer));
        }
        bundles
    }

    /// Gives every stored layer its columns. `given` has the storage of layers that are another pass's.
    pub fn store(
        &mut self,
        bundles: Vec<Vec<LayerId>>,
        given: impl Fn(LayerId) -> Option<View>,
        saved: &Residuals,
        buffers: &mut Vec<Buffer>,
    ) -> Result<(), PlanError> {
        let own = self.graph.history_depths();
        let depth = |layer: LayerId| own[layer.index()].max(saved.depths.get(&layer).copied().unwrap_or(0));
        let mut left: Vec<Vec<LayerId>> = bundles;
        let mut seen: HashSet<LayerId> = left.iter().flatten().copied().collect();
        left.extend(
            self.graph.layer_ids().filter(|&l| self.stored[l.index()] && seen.insert(l)).map(|l| vec![l]),
        );
        for bundle in left {
            if let [layer] = bundle[..]
                && let Some(view) = given(layer)
            {
                self.storage[layer.index()] = Some(view);
                continue;
            }
            let buffer = BufferId(buffers.len());
            let mut width = 0usize;
            let symbols = self.symbols[bundle[0].index()];
            for &layer in &bundle {
                let size = if symbols { 1 } else { self.graph.layer_at(layer).size };
                self.storage[layer.index()] = Some(View { buffer, column: width, len: size });
                width = width
                    .checked_add(size)
                    .ok_or_else(|| PlanError::TooLarge { what: "the values of a frame".into() })?;
            }
            let names: Vec<&str> = bundle.iter().map(|&l| self.graph.layer_at(l).name.as_str()).collect();
            buffers.push(Buffer {
                name: names.join(" "),
                width,
                history: bundle.iter().map(|&l| depth(l)).max().unwrap_or(0),
                symbols,
                lifetime: None,
                saved: bundle.iter().any(|l| saved.layers.contains(l)),
            });
        }
        Ok(())
    }

    /// How a connection reads its source from a buffer.
    pub fn read(&self, weights: &WeightLayout, layer: LayerId, range: Range, delay: i64) -> Read {
        let l = self.graph.layer_at(layer);
        // Whatever is read from a buffer is stored.
        let view = self.storage[layer.index()].unwrap_or(View { buffer: BufferId(0), column: 0, len: 0 });
        let view = if self.symbols[layer.index()] { view } else { view.part(range.start, range.len) };
        let start = match weights.start(l.start) {
            StartValue::Weight(offset) => StartValue::Weight(offset + range.start),
            number @ StartValue::Number(_) => number,
        };
        Read { view, delay, start, history: !self.is_adjoint || matches!(l.kind, LayerKind::Residual(_)) }
    }
}

/// Groups items by key, groups in the order of their first items.
fn bundle<K: std::hash::Hash + Eq>(items: impl Iterator<Item = (K, LayerId)>) -> Vec<Vec<LayerId>> {
    let mut bundles: Vec<Vec<LayerId>> = Vec::new();
    let mut places: HashMap<K, usize> = HashMap::new();
    for (key, layer) in items {
        let place = *places.entry(key).or_insert_with(|| {
            bundles.push(Vec::new());
            bundles.len() - 1
        });
        bundles[place].push(layer);
    }
    bundles
}

//! The operations of each stage, from a graph whose layers have their places and storage.

use super::fuse;
use super::levels::{Level, is_elementwise, is_product};
use super::lowering::Lowering;
use super::maps;
use crate::ir::{
    Cost, Interpreter, LookUp, Map, MapLeaf, Matrix, Op, OuterSum, Pass, Phase, Placed, Product, Program,
    RowSum, ScatterSum, Stage, StageKind, Task, Vector, WeightLayout,
};
use rnnc_graph::{
    Accumulation, AccumulationKind, Connection, ConnectionKind, Direction, Kind, LayerId, LayerKind, Range,
    Submatrix, WeightId,
};
use std::collections::{BTreeMap, HashSet};

/// Of how many parts of a weight's gradient it is found out whether they are all of it.
const MOST_PARTS: usize = 64;

/// A task: its level, and of a cycle its component.
type TaskKey = (Level, Option<usize>);

/// The operations of one phase, before they are fused.
#[derive(Default)]
struct Parts {
    look_ups: Vec<LookUp>,
    products: BTreeMap<i64, Vec<Product>>,
    vectors: Vec<(i64, Vector)>,
    maps: Vec<(i64, Map)>,
    tables: Vec<ScatterSum>,
    outers: Vec<OuterSum>,
    sums: Vec<RowSum>,
}

/// Writes the stages of a pass.
pub(crate) fn emit(lowering: Lowering<'_>, weights: &WeightLayout) -> Pass {
    let mut emitter = Emitter { lowering: &lowering, weights, tasks: BTreeMap::new() };
    for id in lowering.graph.layer_ids() {
        emitter.layer(id);
    }
    for group in &lowering.maps {
        let map = maps::build(&lowering, weights, group);
        emitter.parts((group.level, group.component), group.phase).maps.push((group.offset, map));
    }
    let cleared = emitter.accumulations();
    let stages = emitter.stages();
    Pass { stages, cleared, storage: lowering.storage, components: lowering.components }
}

struct Emitter<'a, 'b> {
    lowering: &'a Lowering<'b>,
    weights: &'a WeightLayout,
    tasks: BTreeMap<TaskKey, BTreeMap<usize, Parts>>,
}

impl Emitter<'_, '_> {
    fn parts(&mut self, task: TaskKey, phase: usize) -> &mut Parts {
        self.tasks.entry(task).or_default().entry(phase).or_default()
    }

    /// When a product into a layer runs: with the layer, or, if it comes from outside the layer's cycle, before.
    fn product_place(&self, c: &Connection) -> (TaskKey, usize, i64) {
        let place = self.lowering.place(c.target);
        let cycle = self.lowering.cycle(c.target);
        let components = &self.lowering.components;
        match (cycle, c.source) {
            (Some(_), Some(source)) if !components.share_cycle(source, c.target) => {
                ((place.level.frames(), None), place.hoisted, 0)
            }
            _ => ((place.level, cycle), place.phase, place.offset),
        }
    }

    fn layer(&mut self, id: LayerId) {
        let graph = self.lowering.graph;
        let layer = graph.layer_at(id);
        let Some(storage) = self.lowering.storage[id.index()] else { return };
        let place = self.lowering.place(id);
        let task = (place.level, self.lowering.cycle(id));
        let slice_len = self.lowering.slices.of(id);
        match layer.kind {
            LayerKind::Operation(operation) if !is_elementwise(layer.kind) => {
                let operands = graph
                    .incoming(id)
                    .filter_map(|c| {
                        Some(self.lowering.read(self.weights, c.source?, c.source_range, c.delay))
                    })
                    .collect();
                let vector = Vector { operation, operands, to: storage, slice_len };
                self.parts(task, place.phase).vectors.push((place.offset, vector));
            }
            LayerKind::Parameter(weight) => {
                // Read as an array: written out for every row.
                let offset = self.weights.view(weight).offset;
                let mut program = Program::default();
                for first in (0..layer.size).step_by(slice_len) {
                    let slice = program.leaf(&MapLeaf::Weight(offset + first));
                    program.store(&storage.part(first, slice_len), slice);
                }
                let map = Map { slice_len, first: 0, len: slice_len, layers: vec![id], program };
                self.parts((Level::FIRST, None), 0).maps.push((0, map));
            }
            _ => self.products(id),
        }
    }

    /// The products into a layer. The first to run writes, the others add.
    fn products(&mut self, id: LayerId) {
        let graph = self.lowering.graph;
        let slice_len = self.lowering.slices.of(id);
        let Some(to) = self.lowering.storage[id.index()] else { return };
        let mut terms: Vec<(TaskKey, usize, bool, i64, &Connection)> = graph
            .incoming(id)
            .filter(|c| is_product(c))
            .map(|c| {
                let (task, phase, offset) = self.product_place(c);
                let table = c.source.is_some_and(|s| self.lowering.symbols[s.index()]);
                (task, phase, !table, offset, c)
            })
            .collect();
        terms.sort_by_key(|&(task, phase, matrix, ..)| (task, phase, matrix));
        for (n, (task, phase, matrix, offset, c)) in terms.into_iter().enumerate() {
            let (ConnectionKind::Full { weight, heads, transposed, part }, Some(source)) = (c.kind, c.source)
            else {
                continue;
            };
            let view = self.weights.view(weight).part(part);
            let from = self.lowering.read(self.weights, source, c.source_range, c.delay);
            let accumulate = n > 0;
            if !matrix {
                let (table, symbols) = (view.matrix(0), graph.layer_at(source).size);
                let look_up = LookUp { to, slice_len, symbol: from, table, symbols, accumulate };
                self.parts(task, phase).look_ups.push(look_up);
                continue;
            }
            let (rows, columns) = (to.len / heads, from.view.len / heads);
            for head in 0..heads {
                let m = view.matrix(head);
                let weight = if transposed {
                    Matrix { row_stride: m.column_stride, column_stride: m.row_stride, ..m }
                } else {
                    m
                };
                let (to, first) = (to.part(head * rows, rows), head * rows % slice_len);
                let from = from.part(head * columns, columns);
                let product = Product { to, slice_len, first, from, weight, accumulate };
                self.parts(task, phase).products.entry(offset).or_default().push(product);
            }
        }
    }

    /// Returns where gradients are to be cleared first.
    fn accumulations(&mut self) -> Vec<(usize, usize)> {
        let graph = self.lowering.graph;
        // The first into a part of a weight's gradient writes, the others add. Where the parts are not the whole, or
        // overlap, all add; the executor begins with zeros.
        let mut written: HashSet<(WeightId, Submatrix)> = HashSet::new();
        let part = |a: &Accumulation| {
            let vector = |rows: Range| Submatrix { rows, columns: Range::new(0, 1) };
            match a.kind {
                AccumulationKind::Sum { weight_range, .. } | AccumulationKind::Start { weight_range, .. } => {
                    vector(weight_range)
                }
                AccumulationKind::Outer { part: Some(part), .. } => part,
                AccumulationKind::Outer { .. } | AccumulationKind::Diagonal { .. } => {
                    vector(Range::new(0, graph.weight_at(a.weight).len()))
                }
            }
        };
        let mut parts: BTreeMap<WeightId, HashSet<Submatrix>> = BTreeMap::new();
        for a in graph.accumulations() {
            parts.entry(a.weight).or_default().insert(part(a));
        }
        let tiled = |weight: WeightId, parts: &HashSet<Submatrix>| {
            let apart = || {
                let others = |a: &Submatrix| parts.iter().filter(|&b| b != a && a.overlaps(*b)).count();
                parts.iter().all(|a| others(a) == 0)
            };
            let numbers: usize = parts.iter().map(|part| part.len()).sum();
            numbers == graph.weight_at(weight).len() && parts.len() <= MOST_PARTS && apart()
        };
        let cleared: HashSet<WeightId> = parts
            .iter()
            .filter(|(weight, parts)| !tiled(**weight, parts))
            .map(|(weight, _)| *weight)
            .collect();
        let mut ordered: Vec<&Accumulation> = graph.accumulations().iter().collect();
        ordered.sort_by_key(|a| self.accumulation_place(a));
        for a in ordered {
            let (level, phase) = self.accumulation_place(a);
            let accumulate = !written.insert((a.weight, part(a))) || cleared.contains(&a.weight);
            self.accumulate(a, (level, None), phase, accumulate);
        }
        let mut cleared: Vec<(usize, usize)> =
            cleared.into_iter().map(|w| (self.weights.view(w).offset, graph.weight_at(w).len())).collect();
        cleared.sort_unstable();
        cleared
    }

    /// All errors of a cycle are there after it; those of a frames stage after their phase.
    fn accumulation_place(&self, a: &Accumulation) -> (Level, usize) {
        let after = |layer: LayerId| {
            let place = self.lowering.place(layer);
            match place.level {
                Level::Frames(_) => (place.level, place.phase + 1),
                Level::Cycles(_) => (place.level.frames_after(), 0),
            }
        };
        let error = after(a.error);
        a.kind.source().map_or(error, |source| error.max(after(source)))
    }

    fn accumulate(&mut self, a: &Accumulation, task: TaskKey, phase: usize, accumulate: bool) {
        let Some(storage) = self.lowering.storage[a.error.index()] else { return };
        let error = storage.part(a.error_range.start, a.error_range.len);
        let view = self.weights.view(a.weight);
        let lowering = self.lowering;
        let weights = self.weights;
        let parts = self.parts(task, phase);
        match a.kind {
            AccumulationKind::Outer { source, source_range, delay, heads, part } => {
                let view = view.part(part);
                let source_read = lowering.read(weights, source, source_range, delay);
                if lowering.symbols[source.index()] {
                    let symbols = source_range.len;
                    let gradient = view.matrix(0);
                    parts.tables.push(ScatterSum {
                        error,
                        symbol: source_read,
                        gradient,
                        symbols,
                        accumulate,
                    });
                    return;
                }
                let (rows, columns) = (error.len / heads, source_range.len / heads);
                for head in 0..heads {
                    let source = source_read.part(head * columns, columns);
                    let error = error.part(head * rows, rows);
                    parts.outers.push(OuterSum { error, source, gradient: view.matrix(head), accumulate });
                }
            }
            AccumulationKind::Diagonal { source, source_range, delay } => {
                let source = Some(lowering.read(weights, source, source_range, delay));
                let gradient = view.offset;
                parts.sums.push(RowSum { error, source, crossing: None, scale: 1.0, gradient, accumulate });
            }
            AccumulationKind::Sum { scale, weight_range } => {
                let gradient = view.offset + weight_range.start;
                parts.sums.push(RowSum { error, source: None, crossing: None, scale, gradient, accumulate });
            }
            AccumulationKind::Start { scale, delay, weight_range } => {
                let gradient = view.offset + weight_range.start;
                let crossing = Some(delay);
                parts.sums.push(RowSum { error, source: None, crossing, scale, gradient, accumulate });
            }
        }
    }

    fn stages(self) -> Vec<Stage> {
        let lowering = self.lowering;
        // Of each level, the components of its frames stage.
        let mut frames: BTreeMap<Level, Vec<usize>> = BTreeMap::new();
        for layer in lowering.graph.layer_ids().filter(|&layer| lowering.cycle(layer).is_none()) {
            let component = lowering.components.of_layer[layer.index()];
            frames.entry(lowering.place(layer).level).or_default().push(component);
        }
        // By level, and in one of cycles scans and loops apart.
        let mut stages: BTreeMap<(Level, bool), Vec<Task>> = BTreeMap::new();
        for ((level, cycle), phases) in self.tasks {
            let barriers = cycle.map_or(&[][..], |at| &lowering.levels.barriers[at].of_heads);
            let phases = self::phases(phases, barriers);
            if phases.is_empty() {
                continue;
            }
            let task = match cycle {
                None => Task {
                    components: frames.remove(&level).unwrap_or_default(),
                    direction: Direction::Forward,
                    block: usize::MAX,
                    phases,
                    barrier_at_end: false,
                    heads: 1,
                },
                Some(at) => {
                    let component = &lowering.components.list[at];
                    Task {
                        components: vec![at],
                        direction: component.direction,
                        block: component.width.frames,
                        phases,
                        barrier_at_end: lowering.levels.barriers[at].at_end,
                        heads: component.heads,
                    }
                }
            };
            let is_loop = cycle.is_some_and(|at| lowering.components.list[at].kind == Kind::Loop);
            stages.entry((level, is_loop)).or_default().push(task);
        }
        stages
            .into_iter()
            .map(|((level, is_loop), tasks)| {
                let kind = match (level, is_loop) {
                    (Level::Frames(_), _) => StageKind::Frames,
                    (Level::Cycles(_), false) => StageKind::Scan,
                    (Level::Cycles(_), true) => StageKind::Loop,
                };
                let cost = Cost::of(&tasks);
                Stage { kind, level: level.number(), tasks, cost }
            })
            .collect()
    }
}

/// The phases of a task in which something is done. `barriers_of_heads` are those behind which workers with whole heads synchronize.
fn phases(mut parts: BTreeMap<usize, Parts>, barriers_of_heads: &[bool]) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    let mut before_all = false;
    for phase in 0..parts.keys().last().map_or(0, |last| last + 1) {
        let ops = parts.remove(&phase).map_or(Vec::new(), finish);
        if !ops.is_empty() {
            phases.push(Phase { ops, barrier_of_heads: false });
        }
        if barriers_of_heads.get(phase) == Some(&true) {
            match phases.last_mut() {
                Some(last) => last.barrier_of_heads = true,
                None => before_all = true,
            }
        }
    }
    // What comes before a step comes behind another.
    if let Some(last) = phases.last_mut().filter(|_| before_all) {
        last.barrier_of_heads = true;
    }
    phases
}

/// Fuses what can be and puts the operations of a phase in order: what writes sums from other places first, then the
/// maps that finish them, gradients last.
fn finish(mut parts: Parts) -> Vec<Placed> {
    let mut ops = Vec::new();
    let mut add = |offset: i64, op: Op| ops.push(Placed { offset, op });
    fuse::look_ups(&mut parts.look_ups);
    if !parts.look_ups.is_empty() {
        add(0, Op::Gather(parts.look_ups));
    }
    for (offset, mut products) in parts.products {
        fuse::products(&mut products);
        add(offset, Op::MatMul(products));
    }
    for (offset, vector) in parts.vectors {
        add(offset, Op::Vector(vector));
    }
    for (offset, map) in parts.maps {
        add(offset, Op::Map(map));
    }
    fuse::scatter_sums(&mut parts.tables);
    if !parts.tables.is_empty() {
        add(0, Op::TableGradient(parts.tables));
    }
    fuse::outer_sums(&mut parts.outers);
    if !parts.outers.is_empty() {
        add(0, Op::WeightGradient(parts.outers));
    }
    fuse::row_sums(&mut parts.sums);
    if !parts.sums.is_empty() {
        add(0, Op::Reduce(parts.sums));
    }
    ops
}

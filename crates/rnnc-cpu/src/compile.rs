//! From a plan and its schedule to programs: views become places in memory, registers become tiles (`tile.rs`), products choose their
//! kernels.

mod map;
mod rounds;
mod scan;
mod tile;

use crate::kernels::pack::packed_room;
use crate::memory::Aligned;
use crate::places::{Region, Ring, Source, StartPlace, Target};
use crate::program::{
    DepthCode, GatherOp, GroupCode, Kernel, OpCode, OuterOp, ProductOp, Program, ReduceOp, ScatterOp,
    Section, StageCode, TaskCode, VectorOp,
};
use crate::schedule::{PassSchedule, Schedule, WorkerGroup};
use crate::units::{runs, unit_range};
use rnnc_graph::{Direction, Graph};
use rnnc_plan::pipelines::{self, Pipeline, Role};
use rnnc_plan::{
    BufferId, ExecutionConfig, Op, OuterSum, Partition, Pass, Phase, Placed, Placement, Plan, Precision,
    Product, Read, RowSum, Stage, StageKind, StartValue, Task, View,
};
use std::borrow::Cow;
use std::collections::HashMap;

/// Vectors of start values, side by side, before memory is taken for them.
#[derive(Default)]
pub(crate) struct Constants {
    /// The value and the length of each.
    vectors: Vec<(f32, usize)>,
    /// Numbers of all.
    pub len: usize,
}

impl Constants {
    /// Adds a vector, and returns its place.
    fn add(&mut self, value: f32, len: usize) -> usize {
        self.vectors.push((value, len));
        self.len += len;
        self.len - len
    }

    /// Takes the memory.
    pub fn allocate(&self) -> Aligned {
        let mut numbers = Aligned::new(self.len);
        let mut rest = numbers.as_mut_slice();
        for &(value, len) in &self.vectors {
            let (vector, behind) = rest.split_at_mut(len);
            vector.fill(value);
            rest = behind;
        }
        numbers
    }
}

/// Where an operation runs.
#[derive(Clone, Copy)]
struct Site {
    kind: StageKind,
    partition: Partition,
    /// Among how many workers.
    workers: usize,
    /// Into how many heads layers fall, if whole ones are partitioned; else 1.
    heads: usize,
}

/// What compiling collects for all passes.
pub(crate) struct Compiler<'a> {
    plan: &'a Plan,
    schedule: &'a Schedule,
    placement: &'a Placement,
    /// Buffers that are rings, and their frames.
    rings: &'a HashMap<BufferId, usize>,
    streams: usize,
    window: usize,
    precision: Precision,
    workers: usize,
    /// Whether the pass is the backward one.
    backward: bool,
    /// Start vectors: by the number's bits and their length.
    constant_places: HashMap<(u32, usize), usize>,
    pub constants: Constants,
    /// Numbers of packed weights.
    pub packed_len: usize,
    /// Columns of the widest errors of a sum of outer products.
    pub errors: usize,
    /// Of the worker's own memory: tiles, and pointers.
    pub tiles: usize,
    pub pointers: usize,
    /// The largest group of a vector function.
    pub group: usize,
    /// Numbers of what scans in chunks make of their states.
    pub found: usize,
}

impl<'a> Compiler<'a> {
    pub fn new(
        plan: &'a Plan,
        schedule: &'a Schedule,
        rings: &'a HashMap<BufferId, usize>,
        placement: &'a Placement,
        config: ExecutionConfig,
    ) -> Self {
        Compiler {
            plan,
            schedule,
            placement,
            rings,
            streams: config.streams,
            window: config.window,
            precision: config.precision,
            workers: schedule.options.workers,
            backward: false,
            constant_places: HashMap::new(),
            constants: Constants::default(),
            packed_len: 0,
            errors: 0,
            tiles: 0,
            pointers: 0,
            group: 0,
            found: 0,
        }
    }

    pub fn target(&self, view: View) -> Target {
        let buffer = &self.plan.buffers[view.buffer.0];
        // Sizes were checked against memory before.
        let offset = (self.placement.offsets[view.buffer.0] / 4) as usize;
        let base = offset + buffer.history * self.streams * buffer.width + view.column;
        let ring = Ring::of(self.rings.get(&view.buffer).copied());
        let region = Region::of(self.placement.residuals[view.buffer.0]);
        Target { region, base, width: buffer.width, len: view.len, ring }
    }

    pub fn source(&mut self, read: &Read) -> Source {
        let Target { region, base, width, len, ring } = self.target(read.view);
        let start = match read.start {
            StartValue::Weight(offset) => StartPlace::Weight(offset),
            StartValue::Number(number) => {
                // Of symbols: none, whose bits are all ones.
                let symbols = self.plan.buffers[read.view.buffer.0].symbols;
                let value = if symbols { f32::from_bits(rnnc_plan::NO_SYMBOL) } else { number as f32 };
                // Few lengths, so that reads share vectors, and none is much longer than what reads it.
                let key = (value.to_bits(), len.next_power_of_two().max(16));
                let place =
                    *self.constant_places.entry(key).or_insert_with(|| self.constants.add(value, key.1));
                StartPlace::Constant(place)
            }
        };
        let saved = self.backward && self.plan.buffers[read.view.buffer.0].saved;
        Source { region, base, width, len, ring, delay: read.delay, start, history: read.history, saved }
    }

    pub fn forward(&mut self) -> Program {
        self.backward = false;
        self.program(&self.plan.forward_pass, &self.plan.forward, &self.schedule.forward)
    }

    pub fn backward(&mut self) -> Option<Program> {
        self.backward = true;
        let (pass, graph) = (self.plan.backward_pass.as_ref()?, self.plan.adjoint.as_ref()?);
        Some(self.program(pass, graph, self.schedule.backward.as_ref()?))
    }

    fn program(&mut self, pass: &Pass, graph: &Graph, schedule: &PassSchedule) -> Program {
        let mut sections = Vec::new();
        let mut stage = 0;
        while stage < pass.stages.len() {
            let pipeline = pipelines::of_stage(&schedule.pipelines, stage);
            let block = schedule.time_block_of(stage);
            let last = pipeline.map(|w| w.stages.1).or(block.map(|b| b.stages.1)).unwrap_or(stage);
            match pipeline {
                Some(pipeline) => self.pipeline(pass, schedule, pipeline, &mut sections),
                None => {
                    let stages = pass.stages[stage..=last].iter().zip(&schedule.partitions[stage..=last]);
                    sections.push(Section::TimeBlocks {
                        frames: block.map_or(usize::MAX, |block| block.frames),
                        backward: block.is_some_and(|block| block.direction == Direction::Backward),
                        stages: stages.map(|(stage, &partition)| self.stage(stage, partition)).collect(),
                    });
                }
            }
            stage = last + 1;
        }
        let cleared = pass.cleared.iter().map(|&(at, len)| at..at + len).collect();
        let inputs = graph.inputs().iter().map(|l| pass.storage[l.index()].map(|view| self.target(view)));
        let kinds = pass.stages.iter().map(|stage| stage.kind);
        let first_partition = kinds.zip(schedule.partitions.iter().copied()).next();
        Program { sections, alone: schedule.is_serial(), cleared, inputs: inputs.collect(), first_partition }
    }

    /// A stage of which all workers have a share.
    fn stage(&mut self, stage: &Stage, partition: Partition) -> DepthCode {
        if stage.kind == StageKind::Frames {
            DepthCode { frames: vec![self.frames(stage, partition)], groups: Vec::new() }
        } else {
            let in_chunks = if partition == Partition::Time { self.in_chunks(stage) } else { None };
            let group = in_chunks.unwrap_or_else(|| {
                // The schedule cuts no scan into chunks that cannot be; but then one worker would have all.
                let partition = if partition == Partition::Time { Partition::Serial } else { partition };
                let tasks: Vec<&Task> = stage.tasks.iter().collect();
                self.group(&WorkerGroup { workers: 0..self.workers, partition }, stage.kind, &tasks)
            });
            DepthCode { frames: Vec::new(), groups: vec![group] }
        }
    }

    /// What runs before a pipeline, the pipeline, and what runs after.
    fn pipeline(
        &mut self,
        pass: &Pass,
        schedule: &PassSchedule,
        pipeline: &Pipeline<WorkerGroup>,
        sections: &mut Vec<Section>,
    ) {
        let (first, last) = pipeline.stages;
        let beside = |compiler: &mut Self, sections: &mut Vec<Section>, role: Role| {
            for number in first..=last {
                let Some(stage) = pipeline.part(pass, number, role) else { continue };
                let stages = vec![compiler.stage(&stage, schedule.partitions[number])];
                sections.push(Section::TimeBlocks { frames: usize::MAX, backward: false, stages });
            }
        };
        beside(self, sections, Role::Before);
        // What stands between two loops is as far behind as the second of them.
        let mut depths: Vec<DepthCode> = vec![DepthCode::default()];
        for number in first..=last {
            let Some(stage) = pipeline.part(pass, number, Role::Inside) else { continue };
            let here = depths.len() - 1;
            if stage.kind == StageKind::Frames {
                let code = self.frames(&stage, Partition::Batch);
                depths[here].frames.push(code);
            } else {
                for (task, group) in stage.tasks.iter().zip(pipeline.loops_of(pass, number)) {
                    let code = self.group(group, stage.kind, &[task]);
                    depths[here].groups.push(code);
                }
                depths.push(DepthCode::default());
            }
        }
        // A pipeline ends with a loop.
        depths.pop();
        let backward = pipeline.direction == Direction::Backward;
        sections.push(Section::Pipeline { chunks: pipeline.chunks, backward, depths });
        beside(self, sections, Role::After);
    }

    fn frames(&mut self, stage: &Stage, partition: Partition) -> StageCode {
        let site = Site { kind: stage.kind, partition, workers: self.workers, heads: 1 };
        StageCode { partition, tasks: stage.tasks.iter().map(|task| self.task(task, site)).collect() }
    }

    fn group(&mut self, group: &WorkerGroup, kind: StageKind, tasks: &[&Task]) -> GroupCode {
        let site = |task: &Task| {
            let heads = if group.partition == Partition::Heads { task.heads } else { 1 };
            Site { kind, partition: group.partition, workers: group.workers.len(), heads }
        };
        let tasks = tasks.iter().map(|task| self.task(task, site(task))).collect();
        GroupCode { kind, workers: group.workers.clone(), partition: group.partition, chunks: None, tasks }
    }

    fn task(&mut self, task: &Task, site: Site) -> TaskCode {
        let placed = || task.phases.iter().flat_map(|p| &p.ops).map(|p| p.offset);
        let block = task.block.min(self.window);
        // Only frames stages have gradients, and workers to share out their sums.
        let phases: Vec<Cow<'_, Phase>> = match site.kind {
            StageKind::Frames if site.partition != Partition::Serial => {
                task.phases.iter().flat_map(rounds::rounds).map(Cow::Owned).collect()
            }
            _ => task.phases.iter().map(Cow::Borrowed).collect(),
        };
        TaskCode {
            backward: task.direction == Direction::Backward,
            block,
            offsets: (placed().min().unwrap_or(0), placed().max().unwrap_or(0)),
            barriers: (0..phases.len()).map(|phase| task.has_barrier(phase, site.partition)).collect(),
            phases: phases.iter().map(|p| p.ops.iter().map(|o| self.op(o, site, block)).collect()).collect(),
            heads: site.heads,
            scan: Vec::new(),
        }
    }

    fn op(&mut self, placed: &Placed, site: Site, block: usize) -> (i64, OpCode) {
        let code = match &placed.op {
            Op::MatMul(products) => {
                OpCode::MatMul(products.iter().map(|p| self.product(p, site, block)).collect())
            }
            Op::Gather(list) => OpCode::Gather(
                list.iter()
                    .map(|l| GatherOp {
                        to: self.target(l.to),
                        slice_len: l.slice_len,
                        symbol: self.source(&l.symbol),
                        table: l.table,
                        accumulate: l.accumulate,
                    })
                    .collect(),
            ),
            Op::Map(map) => OpCode::Map(self.map(map)),
            Op::Vector(v) => {
                let operands: Vec<Source> = v.operands.iter().map(|r| self.source(r)).collect();
                self.group = operands.iter().map(|s| s.len).fold(self.group.max(v.to.len), usize::max);
                let (operation, to, slice_len) = (v.operation, self.target(v.to), v.slice_len);
                OpCode::Vector(VectorOp { operation, operands, to, slice_len })
            }
            Op::WeightGradient(list) => {
                self.errors = list.iter().map(|o| o.error.len).fold(self.errors, usize::max);
                let outer = |o: &OuterSum| OuterOp {
                    error: self.target(o.error),
                    source: self.source(&o.source),
                    gradient: o.gradient,
                    accumulate: o.accumulate,
                };
                OpCode::WeightGradient(list.iter().map(outer).collect())
            }
            Op::TableGradient(list) => OpCode::TableGradient(
                list.iter()
                    .map(|s| ScatterOp {
                        error: self.target(s.error),
                        symbol: self.source(&s.symbol),
                        gradient: s.gradient,
                        symbols: s.symbols,
                        accumulate: s.accumulate,
                    })
                    .collect(),
            ),
            Op::Reduce(list) => OpCode::Reduce(list.iter().map(|r| self.reduce(r)).collect()),
        };
        (placed.offset, code)
    }

    fn reduce(&mut self, r: &RowSum) -> ReduceOp {
        ReduceOp {
            error: self.target(r.error),
            source: r.source.as_ref().map(|s| self.source(s)),
            crossing: r.crossing,
            scale: r.scale as f32,
            gradient: r.gradient,
            accumulate: r.accumulate,
        }
    }

    fn product(&mut self, p: &Product, site: Site, block: usize) -> ProductOp {
        /// As many rows as this, in windows of so many frames, are better off with the weights as they lie: packing
        /// takes as long as some frames' products, after every update.
        const DIRECT: (usize, usize) = (2, 64);
        /// With so many rows or fewer, the reading of weights takes longer than the arithmetic, and half the bytes half the
        /// time; with more, widening them costs more than it gains.
        const COARSE_ROWS: usize = 2;
        let Site { kind, partition, workers, heads } = site;
        let by_units = matches!(partition, Partition::Units | Partition::Heads);
        let to = self.target(p.to);
        let from = self.source(&p.from);
        let rows = match (kind, partition) {
            (StageKind::Frames, _) => self.window.saturating_mul(self.streams),
            (_, Partition::Batch) => block * self.streams.div_ceil(workers),
            _ => block * self.streams,
        };
        let coarse = self.precision == Precision::Bf16 && rows <= COARSE_ROWS;
        let updated = self.plan.backward_pass.is_some();
        let direct = match (p.weight.row_stride, p.weight.column_stride) {
            (_, 1) => Some(Kernel::Dot),
            (1, _) => Some(Kernel::Axpy),
            _ => None,
        };
        let kernel = match direct {
            Some(kernel) if updated && rows <= DIRECT.0 && self.window < DIRECT.1 => kernel,
            _ => {
                let shares = if by_units { workers } else { 1 };
                let places = (0..shares)
                    .map(|worker| {
                        let units = if by_units {
                            unit_range(p.slice_len, heads, worker, workers)
                        } else {
                            0..p.slice_len
                        };
                        let place = self.packed_len;
                        let runs = runs(p.to.len, p.slice_len, p.first, &units);
                        self.packed_len += runs.map(|(_, n)| packed_room(n, from.len, coarse)).sum::<usize>();
                        place
                    })
                    .collect();
                Kernel::Packed(places)
            }
        };
        ProductOp {
            to,
            slice_len: p.slice_len,
            first: p.first,
            from,
            weight: p.weight,
            accumulate: p.accumulate,
            kernel,
            coarse,
        }
    }
}

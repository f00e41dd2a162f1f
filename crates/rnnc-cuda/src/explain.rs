//! How a plan runs on a device, with no device at hand: tiers, where weights stay, barriers, predicted times.
//!
//! Predictions follow from counts and [`Rates`](crate::device::Rates) alone. Frames and scan stages: their products at
//! the device's rate for these, and each value once through its memory. Loops: what their layout was chosen by. The time
//! between kernels is left out.

use crate::compile::compile;
use crate::device::Device;
use crate::driver::DriverError;
use crate::executor::memory::Sizes;
use crate::heads;
use crate::pipelines::{self, PassPipelines};
use crate::program::{Command, Job, commands};
use crate::stages::step::choice::{Tier, Way, units};
use crate::stages::step::groups::Groups;
use crate::stages::step::shares::{self, Share};
use rnnc_graph::Graph;
use rnnc_plan::{Cost, ExecutionConfig, Memory, Op, Pass, Plan, Precision, Stage, StageKind, Task};
use rnnc_report::{Brief, Names, count, scaled};
use serde::Serialize;
use std::fmt;

/// A plan on a device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The version of these fields. It changes when a field goes or changes its meaning.
    pub schema: u32,
    /// The network's name.
    pub network: String,
    /// The device.
    pub device: Device,
    /// Streams side by side.
    pub streams: usize,
    /// Frames of a window.
    pub frames: usize,
    /// Forward, and backward where there are gradients.
    pub passes: Vec<PassExplained>,
    /// Bytes of device memory.
    pub memory: MemoryExplained,
}

/// One direction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PassExplained {
    /// `forward` or `backward`.
    pub pass: String,
    /// Predicted microseconds a frame, all streams together.
    pub predicted_us: f64,
    /// In the order in which they run.
    pub stages: Vec<StageExplained>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageExplained {
    /// `frames`, `scan` or `loop`.
    pub kind: StageKind,
    /// What each operation does.
    pub operations: Vec<String>,
    /// Kernels that are generated for it.
    pub kernels: usize,
    /// Products over all frames, by the vendor's library.
    pub products: usize,
    /// Floating-point operations of a window in products, a loop's included.
    pub product_flops: f64,
    /// Bytes of values and weights of a window.
    pub bytes: f64,
    /// Predicted microseconds a frame, all streams together.
    pub predicted_us: f64,
    /// In how many chunks its loops run, and what stands between them, side by side with the loops of other stages: 1,
    /// if they do not.
    pub chunks: usize,
    /// Its loops.
    pub loops: Vec<LoopExplained>,
}

/// A loop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoopExplained {
    /// Its level: loops of one level run side by side, from 0 on.
    pub level: usize,
    /// Its layers, or the first of them.
    pub layers: Vec<String>,
    /// Which part of its layers' heads it has, from 1 on, and of how many; 1 of 1: all of them.
    pub part: (usize, usize),
    /// What its blocks share.
    pub tier: Tier,
    /// Blocks of a group of streams.
    pub blocks: usize,
    /// How streams are dealt out to groups of blocks.
    pub groups: Groups,
    /// Blocks of a team, which share rows of weights and hand each other their sums; 1: none do.
    pub team: usize,
    /// `lanes`, or `tiles` for tensor cores.
    pub way: Way,
    /// Threads of a block.
    pub threads: usize,
    /// The most units of a layer that a block has.
    pub units: usize,
    /// Frames of a step.
    pub frames_at_once: usize,
    /// Times that blocks wait for each other in a step.
    pub barriers: usize,
    /// At how many of these nobody signals: blocks look for numbers that others post.
    pub posted: usize,
    /// Bytes of weights of its products.
    pub weight_bytes: usize,
    /// The parts of them (0 to 1) that stay in registers,
    pub in_registers: f64,
    /// that stay in shared memory,
    pub in_shared: f64,
    /// and that are read anew in each step.
    pub streamed: f64,
    /// Bytes of shared memory of a block.
    pub shared_bytes: usize,
    /// Predicted microseconds a frame, all streams together.
    pub predicted_us: f64,
}

/// Bytes of device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // named as what they are for
pub struct MemoryExplained {
    pub values: u128,
    pub weights: u128,
    pub gradients: u128,
    pub optimizer_state: u128,
    pub scratch: u128,
    pub total: u128,
}

/// Explains how a plan would run.
///
/// # Errors
/// What [`compile`] refuses.
pub fn explain(plan: &Plan, config: ExecutionConfig, device: &Device) -> Result<Explanation, DriverError> {
    let plan = &*heads::choose(plan, config, device);
    let program = compile(plan, config, device)?;
    let mut explained = Vec::new();
    let mut first = 0;
    for ((name, graph, pass), of_pass) in plan.passes().zip(PassPipelines::of_plan(plan, config, device)) {
        let pipelines = &of_pass.pipelines;
        let jobs = if name == "forward" { &program.forward } else { &program.backward };
        // Of each stage; what runs in chunks counts once.
        let mut own: Vec<Vec<&Job>> = vec![Vec::new(); pass.stages.len()];
        for job in jobs.iter().filter(|job| job.frames.is_first()) {
            if let Some(own) = job.stage.and_then(|stage| own.get_mut(stage.checked_sub(first)?)) {
                own.push(job);
            }
        }
        let names = Names::of(graph, pass);
        let mut stages = Vec::new();
        for (number, stage) in pass.stages.iter().enumerate() {
            let shares = match stage.kind {
                StageKind::Loop => pipelines::shares(pass, pipelines, number, config, device),
                _ => Vec::new(),
            };
            let chunks =
                rnnc_plan::pipelines::of_stage(pipelines, number).map_or(1, |pipeline| pipeline.chunks);
            let explained = explain_stage((graph, &names), pass, stage, &own[number], shares, config, device);
            stages.push(StageExplained { chunks, ..explained });
        }
        first += stages.len();
        let alone = |stage: &&StageExplained| stage.kind != StageKind::Loop || stage.chunks == 1;
        let alone: f64 = stages.iter().filter(alone).map(|stage| stage.predicted_us).sum();
        let in_pipelines: f64 = pipelines.iter().map(|pipeline| pipeline.us / config.window as f64).sum();
        explained.push(PassExplained { pass: name.into(), predicted_us: alone + in_pipelines, stages });
    }
    Ok(Explanation {
        schema: 1,
        network: plan.forward.name().into(),
        device: device.clone(),
        streams: config.streams,
        frames: config.window,
        passes: explained,
        memory: explain_memory(Sizes::of(plan, config, &program)),
    })
}

fn explain_stage(
    (graph, names): (&Graph, &Names<'_>),
    pass: &Pass,
    stage: &Stage,
    jobs: &[&Job],
    shares: Vec<Share>,
    config: ExecutionConfig,
    device: &Device,
) -> StageExplained {
    let ops = stage.tasks.iter().flat_map(|t| &t.phases).flat_map(|p| &p.ops);
    let rows = (config.streams * config.window) as f64;
    let Cost { product_flops, value_bytes, weight_bytes, .. } = stage.cost;
    let product_flops = product_flops as f64 * rows;
    let bytes = value_bytes as f64 * rows + weight_bytes as f64;
    let tasks = stage.tasks.iter().zip(&shares);
    let mut loops: Vec<LoopExplained> =
        tasks.map(|(task, share)| explain_loop(graph, pass, task, share, config)).collect();
    // The parts of a loop stand side by side.
    let mut rest = &mut loops[..];
    for parts in stage.tasks.chunk_by(|a, b| a.components == b.components) {
        let (own, others) = rest.split_at_mut(parts.len().min(rest.len()));
        own.iter_mut().zip(1..).for_each(|(part, number)| part.part = (number, parts.len()));
        rest = others;
    }
    let product_tflops = match config.precision {
        Precision::F32 => device.rates.f32_tflops,
        Precision::Tf32 | Precision::Bf16 => device.rates.tf32_tflops,
    };
    let mut products = commands(jobs.iter().copied()).filter_map(|command| match command {
        Command::Product(product) => Some(product),
        _ => None,
    });
    let product_tflops = product_tflops * if products.all(|product| product.halves) { 2.0 } else { 1.0 };
    let window_us = match stage.kind {
        StageKind::Loop => shares::time(&shares),
        // TFLOP/s and TB/s are millions in a microsecond.
        _ => (product_flops / product_tflops + bytes / device.rates.memory_tbs) / 1e6,
    };
    StageExplained {
        kind: stage.kind,
        operations: ops.flat_map(|placed| names.words(&placed.op, graph)).collect(),
        kernels: commands(jobs.iter().copied()).filter(|c| matches!(c, Command::Kernel(_))).count(),
        products: commands(jobs.iter().copied()).filter(|c| matches!(c, Command::Product(_))).count(),
        product_flops,
        bytes,
        predicted_us: window_us / config.window as f64,
        chunks: 1,
        loops,
    }
}

fn explain_loop(
    graph: &Graph,
    pass: &Pass,
    task: &Task,
    share: &Share,
    config: ExecutionConfig,
) -> LoopExplained {
    let layout = &share.layout;
    let layers = task.components.iter().flat_map(|&c| &pass.components.list[c].layers);
    let (mut in_registers, mut in_shared, mut streamed) = (0.0, 0.0, 0.0);
    for product in &layout.products {
        let numbers: usize = product.parts.iter().map(|p| p.to.len * p.from.view.len).sum();
        // A thread's chunks are of one size.
        let chunks = product.thread_chunks.max(1);
        let share = |some: usize, bytes: usize| (bytes * numbers) as f64 * some as f64 / chunks as f64;
        in_registers += share(product.in_registers, product.register_bytes());
        in_shared += share(product.in_shared, product.weight_bytes);
        let elsewhere = product.thread_chunks - product.in_registers - product.in_shared;
        streamed += share(elsewhere, product.weight_bytes);
    }
    let all = in_registers + in_shared + streamed;
    let part = |some: f64| if all == 0.0 { 0.0 } else { some / all };
    let frames_at_once = task.block.clamp(1, config.window);
    LoopExplained {
        level: share.level,
        layers: layers.map(|&layer| graph.layer_at(layer).name.clone()).collect(),
        part: (1, 1),
        tier: layout.choice.tier,
        blocks: layout.choice.blocks,
        groups: layout.choice.groups,
        team: layout.choice.team,
        way: layout.choice.way,
        threads: layout.threads,
        units: units(widest(task), layout.choice.blocks),
        frames_at_once,
        barriers: layout.work.barriers,
        posted: layout.posted(),
        weight_bytes: all.round() as usize,
        in_registers: part(in_registers),
        in_shared: part(in_shared),
        streamed: part(streamed),
        shared_bytes: layout.shared_bytes(),
        predicted_us: share.us / config.window as f64,
    }
}

/// The size of the largest layer that a loop computes.
fn widest(task: &Task) -> usize {
    let ops = task.phases.iter().flat_map(|p| &p.ops);
    let slice_len = |op: &Op| match op {
        Op::MatMul(products) => products.iter().map(|p| p.slice_len).max().unwrap_or(1),
        Op::Map(map) => map.slice_len,
        Op::Vector(vector) => vector.slice_len,
        _ => 1,
    };
    ops.map(|placed| slice_len(&placed.op)).max().unwrap_or(1)
}

fn explain_memory(sizes: Sizes) -> MemoryExplained {
    let bytes = |numbers: usize| 4 * numbers as u128;
    MemoryExplained {
        values: bytes(sizes.values),
        weights: bytes(sizes.weights),
        gradients: bytes(sizes.gradients),
        optimizer_state: bytes(sizes.slots),
        scratch: bytes(sizes.scratch + sizes.tracker + sizes.counters),
        total: sizes.bytes(),
    }
}

impl Explanation {
    /// What a summary says of it.
    pub fn brief(&self) -> Brief {
        let MemoryExplained { values, weights, gradients, optimizer_state, scratch, .. } = self.memory;
        let us = |pass: &PassExplained| pass.predicted_us;
        let [forward, backward] =
            [0, 1].map(|place| self.passes.get(place).map(in_short).unwrap_or_default());
        let mut more = Vec::new();
        let mut say = |what: &str, loops: &[String]| {
            if !loops.is_empty() {
                more.push(("on the GPU".into(), format!("{what}, {}.", loops.join("; "))));
            }
        };
        if forward == backward {
            say("Forward and backward", &forward);
        } else {
            say("Forward", &forward);
            say("Backward", &backward);
        }
        Brief {
            memory: Memory { buffers: values, weights, gradients, slots: optimizer_state, working: scratch },
            on: self.device.name.clone(),
            forward_us: self.passes.first().map_or(0.0, us),
            backward_us: self.passes.get(1).map(us),
            left_out: "without the time that kernels take to start".into(),
            more,
        }
    }
}

/// The most kinds of loops that are listed of a pass.
const MOST_KINDS: usize = 3;

/// How a pass's loops run, in parts of a sentence; loops that are alike are listed once.
fn in_short(pass: &PassExplained) -> Vec<String> {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for kind in pass.stages.iter().flat_map(|stage| &stage.loops).map(LoopExplained::in_short) {
        match kinds.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    // The order of the loops is another one backward.
    kinds.sort();
    let alone = kinds.len() == 1;
    let told = kinds.iter().take(MOST_KINDS).map(|(kind, number)| match (number, alone) {
        (1, true) => format!("the loop runs {kind}"),
        (1, false) => format!("a loop runs {kind}"),
        (number, _) => format!("{number} loops run, each {kind}"),
    });
    let left: usize = kinds.iter().skip(MOST_KINDS).map(|(_, count)| count).sum();
    let more = (left > 0).then(|| format!("{left} more run in other ways"));
    let chunks = pass.stages.iter().map(|stage| stage.chunks).max().filter(|&chunks| chunks > 1);
    let chunks = chunks
        .map(|chunks| format!("loops of several stages run side by side, in {chunks} chunks of frames"));
    told.chain(more).chain(chunks).collect()
}

impl LoopExplained {
    /// Its groups of streams.
    fn in_groups(&self) -> String {
        let Groups { streams, launched, .. } = self.groups;
        let beside = match self.groups.turns() {
            1 => String::new(),
            _ => format!(", {launched} side by side"),
        };
        let up_to = if self.groups.are_equal() { "" } else { "up to " };
        format!("{} of {up_to}{}{beside}", count(self.groups.count(), "group"), count(streams, "stream"))
    }

    /// Where it runs, what it waits for, and where its weights are.
    fn in_short(&self) -> String {
        let place = match self.tier {
            Tier::Block => "in one block, on one multiprocessor".to_string(),
            Tier::Cluster => format!("in a cluster of {} blocks", self.blocks),
            Tier::Grid => format!("in {} blocks, all over the GPU", self.blocks),
        };
        let place = match self.groups.several() {
            true => format!("in {}, each {place}", self.in_groups()),
            false => place,
        };
        let step = if self.frames_at_once == 1 { "frame" } else { "step" };
        let waits = match self.barriers {
            0 => String::new(),
            barriers => format!(", with {} a {step}", count(barriers, "barrier")),
        };
        let bytes = scaled(self.weight_bytes as f64, "B");
        let weights = match self.streamed {
            _ if self.weight_bytes == 0 => String::new(),
            none if none < 0.005 => format!(", its {bytes} of weights kept in registers and shared memory"),
            some => format!(", {:.0} % of its {bytes} of weights read anew in each {step}", 100.0 * some),
        };
        format!("{place}{waits}{weights}")
    }
}

/// The most operations of a stage that are listed one by one.
const MOST_LISTED: usize = 12;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = &self.device;
        writeln!(
            f,
            "{} on {}: {}, {}, {} of memory",
            if self.network.is_empty() { "network" } else { &self.network },
            device.name,
            device.target(),
            count(device.multiprocessors, "multiprocessor"),
            scaled(device.memory_bytes as f64, "B")
        )?;
        writeln!(
            f,
            "{}, windows of {}; times are predicted from counts and rates, without launches",
            count(self.streams, "stream"),
            count(self.frames, "frame")
        )?;
        let mut number = 0;
        for pass in &self.passes {
            writeln!(f, "\nThe {} pass: {} a frame", pass.pass, time(pass.predicted_us))?;
            for stage in &pass.stages {
                number += 1;
                stage.print(number, f)?;
            }
        }
        let MemoryExplained { values, weights, gradients, optimizer_state, scratch, total } = self.memory;
        let bytes = |n: u128| scaled(n as f64, "B");
        writeln!(
            f,
            "\nMemory: {} (values {}, weights {}, gradients {}, optimizer state {}, scratch {})",
            bytes(total),
            bytes(values),
            bytes(weights),
            bytes(gradients),
            bytes(optimizer_state),
            bytes(scratch)
        )
    }
}

impl StageExplained {
    fn print(&self, number: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            StageKind::Frames => "frames",
            StageKind::Scan => "scan",
            StageKind::Loop => "loop",
        };
        let mut parts = vec![count(self.kernels, "kernel")];
        if self.products > 0 {
            parts.push(count(self.products, "product"));
        }
        if self.loops.is_empty() {
            parts.push(scaled(self.product_flops, "FLOP"));
            parts.push(scaled(self.bytes, "B"));
        }
        if self.chunks > 1 {
            parts.push(format!("in {} chunks", self.chunks));
        }
        parts.push(format!("{} a frame", time(self.predicted_us)));
        writeln!(f, "  {number:>2}  {kind:<6}  {}", parts.join(", "))?;
        self.loops.iter().try_for_each(|l| l.print(f))?;
        for operation in self.operations.iter().take(MOST_LISTED) {
            writeln!(f, "        {operation}")?;
        }
        match self.operations.len().saturating_sub(MOST_LISTED) {
            0 => Ok(()),
            more => writeln!(f, "        and {} more, in json", count(more, "operation")),
        }
    }
}

impl LoopExplained {
    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = self.threads;
        let place = match self.tier {
            Tier::Block => format!("one block of {threads} threads"),
            Tier::Cluster => format!("a cluster of {} blocks of {threads} threads", self.blocks),
            Tier::Grid => {
                format!("{} blocks of {threads} threads on the whole grid", self.blocks)
            }
        };
        let place = match self.groups.several() {
            true => format!("{}: each {place}", self.in_groups()),
            false => place,
        };
        let frames = match self.frames_at_once {
            1 => String::new(),
            frames => format!(", {frames} frames at once"),
        };
        let team = match self.team {
            1 => String::new(),
            team => format!(", in teams of {team}"),
        };
        let way = if self.way == Way::Tiles { ", by tensor cores" } else { "" };
        let part = match self.part {
            (_, 1) => String::new(),
            (number, of) => format!(", for part {number} of {of} of the heads, which exchange nothing"),
        };
        writeln!(f, "        {place}{team}, {} a block{frames}{way}{part}", count(self.units, "unit"))?;
        if self.weight_bytes > 0 {
            let percent = |part: f64| format!("{:.0} %", 100.0 * part);
            writeln!(
                f,
                "        {} of weights: {} in registers, {} in shared memory, {} read anew in each step",
                scaled(self.weight_bytes as f64, "B"),
                percent(self.in_registers),
                percent(self.in_shared),
                percent(self.streamed)
            )?;
        }
        let step = if self.frames_at_once == 1 { "frame" } else { "step" };
        let posted = match self.posted {
            0 => String::new(),
            all if all == self.barriers => ", where blocks look for what others post".into(),
            some => format!(", at {some} of which blocks look for what others post"),
        };
        writeln!(f, "        {} a {step}{posted}", count(self.barriers, "barrier"))
    }
}

/// A time, from microseconds.
fn time(us: f64) -> String {
    match us {
        us if us >= 9.95 => format!("{us:.1} us"),
        us if us >= 0.0995 => format!("{us:.2} us"),
        us => format!("{:.1} ns", us * 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rnnc_plan::PlanOptions;

    fn graph(text: &str) -> Graph {
        rnnc_lang::compile("net.rnn", text, None).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn explained(text: &str, streams: usize, frames: usize) -> Explanation {
        let plan = Plan::new(&graph(text), PlanOptions::training(streams, frames)).unwrap();
        explain(&plan, ExecutionConfig::new(streams, frames), &Device::named("h200").unwrap()).unwrap()
    }

    #[test]
    fn a_loop_says_where_its_weights_stay_and_what_it_waits_for() {
        let found = explained("network n { input x : vector(32)  h = lstm(x; 1024)  output h }", 1, 512);
        let stage = found.passes[0].stages.iter().find(|s| s.kind == StageKind::Loop).unwrap();
        let [lstm] = &stage.loops[..] else { panic!("{stage:?}") };
        assert_eq!((lstm.tier, lstm.threads, lstm.barriers, lstm.posted), (Tier::Grid, 256, 1, 1));
        assert_eq!(lstm.units, 1024usize.div_ceil(lstm.blocks));
        assert_eq!(lstm.weight_bytes, 4 * 4 * 1024 * 1024);
        assert!((lstm.in_registers + lstm.in_shared + lstm.streamed - 1.0).abs() < 1e-9);
        assert!(lstm.predicted_us > 0.97 && lstm.predicted_us < 10.0, "{lstm:?}");
        assert!(found.to_string().contains("16.8 MB of weights"), "{found}");
    }

    #[test]
    fn products_over_all_frames_take_the_time_that_their_counts_say() {
        const TEXT: &str = "network n { input x : vector(512)  y = dense(x; 512)  output y }";
        let found = explained(TEXT, 8, 128);
        let stage = &found.passes[0].stages[0];
        let flops = 2.0 * 512.0 * 512.0 * 8.0 * 128.0;
        assert_eq!((stage.kind, stage.products, stage.product_flops), (StageKind::Frames, 1, flops));
        assert!(stage.predicted_us * 128.0 > flops / 51e12 * 1e6);
        let config = ExecutionConfig { precision: Precision::Tf32, ..ExecutionConfig::new(8, 128) };
        let plan = Plan::new(&graph(TEXT), PlanOptions::training(8, 128)).unwrap();
        let rounded = explain(&plan, config, &Device::named("h200").unwrap()).unwrap();
        let faster = flops / 51e12 * 1e6 - flops / 387e12 * 1e6;
        let less = (stage.predicted_us - rounded.passes[0].stages[0].predicted_us) * 128.0;
        assert!((less - faster).abs() < 1e-6 * faster, "{less} {faster}");
        let memory = found.memory;
        assert_eq!(memory.optimizer_state, 2 * memory.weights);
        assert_eq!(memory.total, memory.values + 4 * memory.weights + memory.scratch);
    }
}

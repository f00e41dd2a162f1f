//! A plan for people, in 100 columns.

use crate::names::{Names, count, plain, scaled, shorten, thousands, trimmed};
use crate::notes::{Notes, StageNotes};
use crate::page::{Page, WIDTH};
use rnnc_graph::{Component, Components, Connection, Direction, Graph, Kind};
use rnnc_plan::{
    ComponentFigures, Figures, Memory, Optimizer, Partition, Pass, Plan, Residency, StageFigures, StageKind,
};

/// The most cycles, and the most operations of a stage, that are listed one by one.
const MOST_LISTED: usize = 40;

/// The plan in words: components with kinds and reasons, stages with operations and costs, how much of the work is
/// parallel, and what it all takes in memory. With notes, also how an executor runs it.
pub fn text(plan: &Plan, notes: Option<&Notes>) -> String {
    let figures = Figures::of(plan);
    let mut out = Page::default();
    heading(plan, notes, &mut out);
    let mut stages = figures.stages.iter();
    let mut number = 0;
    for (place, (name, graph, pass)) in plan.passes().enumerate() {
        out.blank();
        out.line(0, &format!("{} pass", capital(name)));
        let saved: &[ComponentFigures] = if name == "forward" { &figures.saved } else { &[] };
        components(graph, pass, saved, &mut out);
        out.blank();
        out.line(2, "stages, in the order in which they run");
        let names = Names::of(graph, pass);
        for (at, figures) in (0..pass.stages.len()).zip(&mut stages) {
            number += 1;
            let notes = notes.and_then(|notes| notes.passes.get(place)?.stages.get(at));
            stage(graph, pass, &names, at, figures, number, notes, &mut out);
        }
    }
    out.blank();
    work(plan, &figures, notes, &mut out);
    out.blank();
    memory(plan, &figures, notes, &mut out);
    plain(&out.text)
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|c| c.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn heading(plan: &Plan, notes: Option<&Notes>, out: &mut Page) {
    let graph = &plan.forward;
    let options = plan.options;
    let name = if graph.name().is_empty() { "network" } else { graph.name() };
    out.line(
        0,
        &format!(
            "{name}: {}, {}, {}",
            count(graph.layers().len(), "layer"),
            count(graph.connections().len(), "connection"),
            count(parameters(plan), "parameter")
        ),
    );
    out.line(
        0,
        &format!(
            "planned for {}, windows of {}{}{}",
            count(options.streams, "stream"),
            count(options.frames, "frame"),
            notes.map_or(String::new(), |notes| format!(", {}", notes.runner)),
            if options.gradients { ", with gradients" } else { ", forward only" }
        ),
    );
    let once = &plan.once.layers;
    if !once.is_empty() {
        let names = shorten(once, 2 * WIDTH);
        let layers = count(once.len(), "layer");
        out.line(0, &format!("computed once a call, of parameters alone: {layers}: {names}"));
    }
    if graph.looks_ahead() {
        out.line(
            0,
            "It looks ahead: reads past the end of a window give start values, so how a run is split into windows \
             changes what is computed.",
        );
    }
}

pub(crate) fn parameters(plan: &Plan) -> usize {
    plan.forward.weights().iter().map(rnnc_graph::Weight::len).sum()
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Frames => "frames",
        Kind::Scan(_) => "scan",
        Kind::Loop => "loop",
    }
}

fn components(graph: &Graph, pass: &Pass, saved: &[ComponentFigures], out: &mut Page) {
    let list = &pass.components.list;
    out.blank();
    out.line(2, "components");
    let free: Vec<String> = list
        .iter()
        .filter(|c| c.kind == Kind::Frames)
        .flat_map(|c| &c.layers)
        .map(|&l| graph.layer_at(l).name.clone())
        .collect();
    if !free.is_empty() {
        let names = shorten(&free, 3 * WIDTH);
        out.entry(4, "frames", 8, &format!("{} in no cycle: {names}", count(free.len(), "layer")));
    }
    let cycles = || list.iter().enumerate().filter(|(_, c)| c.kind != Kind::Frames);
    for (at, c) in cycles().take(MOST_LISTED) {
        let names: Vec<String> = c.layers.iter().map(|&l| graph.layer_at(l).name.clone()).collect();
        out.entry(4, kind_name(&c.kind), 8, &shorten(&names, 2 * WIDTH));
        let fact = |out: &mut Page, label: &str, text: &str| out.entry(12, label, 10, text);
        fact(out, "why", c.reason.strip_prefix(&format!("{}: ", kind_name(&c.kind))).unwrap_or(&c.reason));
        if !c.remedy.is_empty() {
            fact(out, "remedy", &c.remedy);
        }
        fact(out, "runs", &runs(c));
        if let Some(edit) = wider(graph, &pass.components, at).filter(|_| !graph.is_adjoint()) {
            fact(out, "wider", &edit);
        }
        if let Some(barriers) = barriers(pass, at, c) {
            fact(out, "barriers", &barriers);
        }
        if let Some(saved) = saved.iter().find(|s| s.component == at) {
            let text = if saved.layers.is_empty() {
                "nothing for the backward pass".into()
            } else {
                format!(
                    "{} {} a unit and frame for the backward pass: {}",
                    trimmed(saved.numbers_per_unit),
                    if saved.numbers_per_unit == 1.0 { "number" } else { "numbers" },
                    shorten(&saved.layers, 2 * WIDTH)
                )
            };
            fact(out, "saves", &text);
        }
    }
    let more = cycles().count().saturating_sub(MOST_LISTED);
    if more > 0 {
        out.line(4, &format!("and {} more, in json", count(more, "cycle")));
    }
}

fn runs(c: &Component) -> String {
    let direction = match c.direction {
        Direction::Forward => "from the first frame to the last",
        Direction::Backward => "from the last frame to the first",
    };
    if let Kind::Scan(form) = &c.kind {
        return format!("over time in parallel, {direction}; {} a unit carried", count(form.order, "number"));
    }
    let width = match (c.width.frames, c.width.bound) {
        (d, Some(bound)) if d >= bound => {
            format!("{} at once (no schedule does more)", count(d, "frame"))
        }
        (d, Some(bound)) => {
            format!("{} at once (no schedule does more than {bound})", count(d, "frame"))
        }
        (d, None) => {
            format!("{} at once (a lower bound: the cycle is too large to search)", count(d, "frame"))
        }
    };
    format!("{direction}, {width}")
}

/// Which edit would let more frames of a loop run at once.
fn wider(graph: &Graph, components: &Components, at: usize) -> Option<String> {
    let limiting = limiting_reads(graph, components, at)?;
    let mut reads: Vec<_> = limiting.iter().filter_map(|c| Some((c.source?, c.delay))).collect();
    reads.sort_unstable();
    reads.dedup();
    let names: Vec<String> = reads
        .iter()
        .map(|&(l, d)| format!("`{}[{}]`", graph.layer_at(l).name, crate::names::at(d)))
        .collect();
    let how =
        if names.len() == 1 { "a longer delay in place of" } else { "longer delays in place of all of" };
    Some(format!("{how} {} would let more frames run at once", shorten(&names, 2 * WIDTH)))
}

/// The reads of a loop that keep more frames from running at once, if longer delays in place of all of them would let them.
/// Every cycle of the least total delay d has only reads of delays up to d, so longer ones make all such cycles longer.
pub(crate) fn limiting_reads<'a>(
    graph: &'a Graph,
    components: &Components,
    at: usize,
) -> Option<Vec<&'a Connection>> {
    let c = &components.list[at];
    let bound = i64::try_from(c.width.bound.filter(|_| c.kind == Kind::Loop)?).ok()?;
    let sign = if c.direction == Direction::Forward { 1 } else { -1 };
    let inside = |read: &&Connection| {
        read.delay != 0 && read.source.is_some_and(|s| components.of_layer[s.index()] == at)
    };
    let mut limiting = Vec::new();
    for read in c.layers.iter().flat_map(|&layer| graph.incoming(layer)).filter(inside) {
        if read.delay * sign < 0 {
            return None; // shorter reads could matter too
        }
        if read.delay * sign <= bound {
            limiting.push(read);
        }
    }
    Some(limiting)
}

/// Barriers planned for each frame, beside the least that will do.
fn barriers(pass: &Pass, at: usize, c: &Component) -> Option<String> {
    if c.kind != Kind::Loop {
        return None;
    }
    let task = pass.stages.iter().flat_map(|s| &s.tasks).find(|t| t.components == [at])?;
    let per_frames = |n: u64, frames: u64| {
        if frames == 1 { format!("{n} a frame") } else { format!("{n} every {frames} frames") }
    };
    if task.heads == 1 && task.barriers_per_step(Partition::Units) == 0 {
        return None; // whoever has some units waits for nobody, and there is nothing to tell
    }
    let planned = |partition: Partition| match task.barriers_per_step(partition) {
        0 => "none".to_string(),
        n => format!("{} planned", per_frames(n as u64, task.block as u64)),
    };
    let (partition, parts, others) = match task.heads {
        1 => (Partition::Units, "units".to_string(), String::new()),
        heads => {
            let others = format!("; {}, if units are", planned(Partition::Units));
            (Partition::Heads, format!("{heads} whole heads"), others)
        }
    };
    let least = match c.barrier_bound {
        _ if task.barriers_per_step(partition) == 0 => String::new(),
        Some((links, delay)) => format!(", at least {} needed", per_frames(links, delay)),
        None => " (too large a cycle to say how few would do)".into(),
    };
    Some(format!("{}{least}, if {parts} are shared out{others}", planned(partition)))
}

#[allow(clippy::too_many_arguments)] // one line of the report, and all it tells of
fn stage(
    graph: &Graph,
    pass: &Pass,
    names: &Names<'_>,
    at: usize,
    figures: &StageFigures,
    number: usize,
    notes: Option<&StageNotes>,
    out: &mut Page,
) {
    let stage = &pass.stages[at];
    let kind = match stage.kind {
        StageKind::Frames => "frames",
        StageKind::Scan => "scan",
        StageKind::Loop => "loop",
    };
    let how = match stage.kind {
        StageKind::Frames => "all frames at once".to_string(),
        StageKind::Scan => "over time in parallel".to_string(),
        StageKind::Loop => {
            let blocks: Vec<usize> = stage.tasks.iter().map(|t| t.block).collect();
            let (least, most) = (blocks.iter().min(), blocks.iter().max());
            match (least, most) {
                (Some(a), Some(b)) if a != b => format!("{a} to {b} frames at once"),
                (Some(&a), _) => format!("{} at once", count(a, "frame")),
                _ => String::new(),
            }
        }
    };
    // Stages stand in the order of their levels.
    let level = stage.level;
    let before = |level: usize| pass.stages.partition_point(|other| other.level < level);
    let beside = pass.stages[before(level)..before(level + 1)].iter().map(|s| s.tasks.len()).sum::<usize>();
    let beside = if beside > 1 { format!(", {beside} tasks side by side") } else { String::new() };
    let cost = format!("{}, {}", scaled(figures.flops, "FLOP"), scaled(figures.bytes, "B"));
    out.blank();
    out.line(4, &format!("{number:>2}  {kind:<6}  level {level}, {how}{beside}  [{cost}]"));
    for paragraph in notes.map_or(&[][..], |notes| &notes.text) {
        out.paragraph(8, 8, paragraph);
    }
    for (task_number, task) in stage.tasks.iter().enumerate() {
        // Whoever shares out streams, or nothing, needs no barriers within a loop.
        let partition = notes.and_then(|notes| notes.partitions.get(task_number).copied());
        let partition = match stage.kind {
            StageKind::Frames => Partition::Units,
            StageKind::Scan | StageKind::Loop => partition.unwrap_or(Partition::Units),
        };
        let mut indent = 8;
        if stage.tasks.len() > 1 {
            let layers: Vec<String> = task
                .components
                .iter()
                .flat_map(|&c| &pass.components.list[c].layers)
                .map(|&l| graph.layer_at(l).name.clone())
                .collect();
            out.line(8, &format!("task of {}", shorten(&layers, 60)));
            indent = 10;
        }
        let mut listed = 0;
        let mut left = 0;
        for (n, phase) in task.phases.iter().enumerate() {
            if n > 0 && listed < MOST_LISTED {
                out.line(indent, if task.has_barrier(n - 1, partition) { "-- barrier --" } else { "--" });
            }
            for line in phase.ops.iter().flat_map(|placed| {
                let shift = match placed.offset {
                    0 => String::new(),
                    offset => format!(" ({offset:+} frames)"),
                };
                names.op(&placed.op, graph, 40).into_iter().map(move |line| line + &shift)
            }) {
                if listed < MOST_LISTED {
                    out.paragraph(indent, indent + 4, &line);
                    listed += 1;
                } else {
                    left += 1;
                }
            }
        }
        if left > 0 {
            out.line(indent, &format!("and {} more, in json", count(left, "operation")));
        } else if task.has_barrier(task.phases.len().saturating_sub(1), partition) {
            out.line(indent, "-- barrier --");
        }
    }
}

fn work(plan: &Plan, figures: &Figures, notes: Option<&Notes>, out: &mut Page) {
    let frames = plan.options.frames;
    out.line(0, "Work");
    let mut entry = |label: &str, text: String| out.entry(2, label, 22, &text);
    entry("window", format!("{} in {}", scaled(figures.flops, "FLOP"), count(figures.stages.len(), "stage")));
    entry(
        "parallel over frames",
        format!("{:.1} % of the work (frames and scan stages)", 100.0 * figures.parallel_share),
    );
    entry(
        "speed-up",
        format!(
            "at most {}x over frame after frame by Amdahl's law, from frames alone; units and streams come on top",
            trimmed(figures.speed_up_bound)
        ),
    );
    entry(
        "critical path",
        format!(
            "{} for {}",
            count(usize::try_from(figures.critical_path).unwrap_or(usize::MAX), "dependent step"),
            count(frames, "frame")
        ),
    );
    for (label, text) in notes.iter().flat_map(|notes| &notes.work) {
        entry(label, text.clone());
    }
}

/// What running takes, and what buffers alone would take if none shared room.
pub(crate) fn memory_of(plan: &Plan, notes: Option<&Notes>) -> (Memory, u128) {
    let of = |placement, working, optimizer| {
        let memory = Memory { working, ..plan.memory(placement, optimizer) };
        (memory, placement.sizes.iter().sum())
    };
    match notes {
        Some(notes) => of(&notes.placement, notes.working.0, notes.optimizer),
        None => {
            let (streams, frames) = (plan.options.streams, plan.options.frames);
            of(&plan.place(streams, frames, false, &Residency::default()), 0, Optimizer::default())
        }
    }
}

fn memory(plan: &Plan, figures: &Figures, notes: Option<&Notes>, out: &mut Page) {
    let (memory, alone) = memory_of(plan, notes);
    out.line(0, "Memory");
    let bytes = |n: u128| scaled(n as f64, "B");
    let mut entry = |label: &str, text: String| out.entry(2, label, 22, &text);
    entry("parameters", thousands(parameters(plan) as u128));
    entry("weights", bytes(memory.weights));
    if plan.backward_pass.is_some() {
        entry("gradients", bytes(memory.gradients));
        entry("optimizer state", bytes(memory.slots));
        let each = figures.saved_per_frame;
        entry("saved", format!("{} a frame of a stream for the backward pass", count(each, "number")));
    }
    entry("values", format!("{} (without sharing room {})", bytes(memory.buffers), bytes(alone)));
    if let Some((working, of)) = notes.map(|notes| &notes.working).filter(|working| working.0 > 0) {
        entry("working memory", format!("{}: {of}", bytes(*working)));
    }
    entry("in all", bytes(memory.total()));
}

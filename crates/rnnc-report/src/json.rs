//! A plan for tools.
//!
//! The fields, of version 2 of the schema. Lists are in the order of execution; a component is named by its place in
//! its pass's list. Numbers of a window are for the `options`' streams and frames.
//!
//! ```text
//! schema       2
//! schedule     how an executor runs the plan: null if none was asked, here and in passes and stages
//! network      name, layers, connections, parameters, looks_ahead
//! options      streams, frames, gradients, input_gradients
//! once[]       layers of parameters alone, computed once a call
//! passes[]     pass: "forward" or "backward"
//!   components[]   layers[]: names; kind: "frames", "scan" or "loop"; direction: "forward" or "backward"
//!                  frames_at_once: null for all; frames_bound: null if unknown
//!                  order: of a scan, the numbers that a unit carries, else null
//!                  heads: into how many parts its layers fall, of which none reads another but where all must synchronize
//!                  barriers: { links, delay }: links / delay barriers a frame are needed, if workers have whole heads; null if
//!                  unknown
//!                  reason, remedy: for people
//!   stages[]       kind: as of components; level: those of one level can run side by side
//!                  schedule: null, or how the executor runs the stage
//!                  flops, bytes, steps, frames_at_once, barriers: of a window
//!     tasks[]       components[]; direction; block: frames in a step, null for all; heads: as of components
//!                    barriers_per_step: if units are shared out; barriers_per_step_of_heads: if whole heads are
//!       phases[]       ops[]: op; offset: in frames; parts[]: for people
//!   schedule       null, or how the executor runs the pass
//! work         flops, parallel_share, speed_up_bound, critical_path
//! saved        numbers_per_frame; components[]: component (of the forward pass), layers[], numbers,
//!              numbers_per_unit
//! memory       in bytes: weights, gradients, optimizer_state, values, total; working: what the executor takes beside;
//!              values_unshared
//! ```
//!
//! The fields of `schedule` are the executor's: those of the CPU's are listed in `rnnc-cpu/src/explain.rs`.

use crate::names::{Names, plain};
use crate::notes::{Notes, PassNotes, StageNotes};
use crate::text::memory_of;
use rnnc_graph::{Component, Direction, Graph, Kind, Weight};
use rnnc_plan::{Figures, Partition, Pass, Plan, Stage, StageFigures, Task};
use serde_json::{Value, json};

/// The version of [`json()`]'s fields. It changes when a field goes or changes its meaning.
pub const SCHEMA_VERSION: u32 = 2;

/// The plan as data. The fields are listed at the top of `json.rs`, in the crate's sources:
/// `schema`, `schedule`, `network`, `options`, `passes` (with `components` and `stages`), `work`, `saved`, `memory`. With
/// notes, it tells how an executor runs it.
pub fn json(plan: &Plan, notes: Option<&Notes>) -> Value {
    let graph = &plan.forward;
    let options = plan.options;
    let figures = Figures::of(plan);
    let mut stages = figures.stages.iter();
    let passes: Vec<Value> = plan
        .passes()
        .enumerate()
        .map(|(place, (name, graph, pass))| {
            let notes = notes.and_then(|notes| notes.passes.get(place));
            pass_value(name, graph, pass, &mut stages, notes)
        })
        .collect();
    let (memory, unshared) = memory_of(plan, notes);
    let bytes = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
    json!({
        "schema": SCHEMA_VERSION,
        "schedule": notes.map(|notes| &notes.json),
        "network": {
            "name": graph.name(),
            "layers": graph.layers().len(),
            "connections": graph.connections().len(),
            "parameters": graph.weights().iter().map(Weight::len).sum::<usize>(),
            "looks_ahead": graph.looks_ahead(),
        },
        "options": {
            "streams": options.streams,
            "frames": options.frames,
            "gradients": options.gradients,
            "input_gradients": options.input_gradients,
        },
        "once": plan.once.layers,
        "passes": passes,
        "work": {
            "flops": figures.flops,
            "parallel_share": figures.parallel_share,
            "speed_up_bound": figures.speed_up_bound,
            "critical_path": figures.critical_path,
        },
        "saved": {
            "numbers_per_frame": figures.saved_per_frame,
            "components": figures.saved,
        },
        "memory": {
            "weights": bytes(memory.weights),
            "gradients": bytes(memory.gradients),
            "optimizer_state": bytes(memory.slots),
            "working": bytes(memory.working),
            "values": bytes(memory.buffers),
            "values_unshared": bytes(unshared),
            "total": bytes(memory.total()),
        },
    })
}

fn pass_value<'a>(
    name: &str,
    graph: &Graph,
    pass: &Pass,
    figures: &mut impl Iterator<Item = &'a StageFigures>,
    notes: Option<&PassNotes>,
) -> Value {
    let names = Names::of(graph, pass);
    let stages = pass.stages.iter().enumerate().zip(figures).map(|((at, stage), figures)| {
        let notes = notes.and_then(|notes| notes.stages.get(at));
        stage_value(graph, &names, stage, figures, notes)
    });
    let stages: Vec<Value> = stages.collect();
    let components: Vec<Value> = pass.components.list.iter().map(|c| component_value(graph, c)).collect();
    let schedule = notes.map(|notes| &notes.json);
    json!({ "pass": name, "components": components, "stages": stages, "schedule": schedule })
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "forward",
        Direction::Backward => "backward",
    }
}

/// A number of frames, or null for all.
fn some_frames(frames: usize) -> Option<usize> {
    (frames != usize::MAX).then_some(frames)
}

fn component_value(graph: &Graph, c: &Component) -> Value {
    let (kind, order) = match &c.kind {
        Kind::Frames => ("frames", None),
        Kind::Scan(form) => ("scan", Some(form.order)),
        Kind::Loop => ("loop", None),
    };
    json!({
        "layers": c.layers.iter().map(|&l| &graph.layer_at(l).name).collect::<Vec<_>>(),
        "kind": kind,
        "direction": direction(c.direction),
        "frames_at_once": some_frames(c.width.frames),
        "frames_bound": c.width.bound,
        "order": order,
        "heads": c.heads,
        "barriers": c.barrier_bound.map(|(links, delay)| json!({ "links": links, "delay": delay })),
        "reason": c.reason,
        "remedy": c.remedy,
    })
}

fn stage_value(
    graph: &Graph,
    names: &Names<'_>,
    stage: &Stage,
    figures: &StageFigures,
    notes: Option<&StageNotes>,
) -> Value {
    json!({
        "kind": stage.kind,
        "level": stage.level,
        "schedule": notes.map(|notes| &notes.json),
        "flops": figures.flops,
        "bytes": figures.bytes,
        "steps": figures.steps,
        "frames_at_once": figures.frames_at_once,
        "barriers": figures.barriers,
        "tasks": stage.tasks.iter().map(|t| task_value(graph, names, t)).collect::<Vec<_>>(),
    })
}

fn task_value(graph: &Graph, names: &Names<'_>, task: &Task) -> Value {
    let phases = task.phases.iter().map(|phase| {
        let ops = phase.ops.iter().map(|placed| {
            json!({
                "op": placed.op.name(),
                "offset": placed.offset,
                "parts": names.op(&placed.op, graph, usize::MAX).iter().map(|part| plain(part)).collect::<Vec<_>>(),
            })
        });
        json!({ "ops": ops.collect::<Vec<_>>() })
    });
    json!({
        "components": task.components,
        "direction": direction(task.direction),
        "block": some_frames(task.block),
        "heads": task.heads,
        "barriers_per_step": task.barriers_per_step(Partition::Units),
        "barriers_per_step_of_heads": task.barriers_per_step(Partition::Heads),
        "phases": phases.collect::<Vec<_>>(),
    })
}

//! A plan for tools.
//!
//! The fields, of version 2 of the schema. Lists are in the order of execution; a component is named by its place in
//! its pass's list. Numbers of a window are for the `options`' streams and frames.
//!
//! ```text
//! schema       2
//! network      name, layers, connections, parameters, looks_ahead
//! options      streams, frames, workers, gradients, input_gradients
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
//!                  partition: "batch", "units", "serial", or of a loop whole "heads", of a scan "time"
//!                  predicted_us: of a frame, by partition; null for frames stages
//!                  pipeline: null, or of loops that run at the same time as others: stages: the first and the last of the
//!                  pipeline, by their places in the pass; chunks; predicted_us: of a frame, all its loops; loops[]: of each
//!                  task, workers: the first and how many; partition
//!                  time_block: null, or of stages that run some frames at a time: stages: the first and the last, by their
//!                  places in the pass; frames
//!                  flops, bytes, steps, frames_at_once, barriers: of a window
//!     tasks[]       components[]; direction; block: frames in a step, null for all; heads: as of components
//!                    barriers_per_step: if units are shared out; barriers_per_step_of_heads: if whole heads are
//!       phases[]       ops[]: op; offset: in frames; parts[]: for people
//!   predicted_us   of a frame, on a CPU: all: by all workers, as partitioned; one: by one
//! work         flops, parallel_share, speed_up_bound, critical_path
//! saved        numbers_per_frame; components[]: component (of the forward pass), layers[], numbers,
//!              numbers_per_unit
//! memory       in bytes: weights, gradients, moments, values, total; working: what the executor takes beside;
//!              values_unshared
//! ```

use crate::names::{Names, plain};
use rnnc_graph::{Component, Direction, Graph, Kind, Weight};
use rnnc_plan::{
    Figures, Lane, Partition, Pass, Plan, PlanOptions, Stage, StageFigures, StageKind, Task, pipelines,
    time_blocks,
};
use serde_json::{Value, json};

/// The version of [`json()`]'s fields. It changes when a field goes or changes its meaning.
pub const SCHEMA_VERSION: u32 = 2;

/// The plan as data. The fields are listed at the top of `json.rs`, in the crate's sources:
/// `schema`, `network`, `options`, `passes` (with `components` and `stages`), `work`, `saved`, `memory`.
pub fn json(plan: &Plan) -> Value {
    let graph = &plan.forward;
    let options = plan.options;
    let figures = Figures::of(plan);
    let mut stages = figures.stages.iter();
    let passes: Vec<Value> = plan
        .passes()
        .map(|(name, graph, pass)| pass_value(name, graph, pass, options, &mut stages))
        .collect();
    let memory = plan.memory(options.streams, options.frames, false);
    let unshared: u128 = plan.place(options.streams, options.frames, false).sizes.iter().sum();
    let bytes = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
    json!({
        "schema": SCHEMA_VERSION,
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
            "workers": options.workers,
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
            "moments": bytes(memory.moments),
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
    options: PlanOptions,
    figures: &mut impl Iterator<Item = &'a StageFigures>,
) -> Value {
    let names = Names::of(graph, pass);
    let frames = options.frames.max(1) as f64;
    let stages: Vec<Value> =
        (0..).zip(&pass.stages).zip(figures).map(|((at, stage), f)| {
            let mut value = stage_value(graph, &names, stage, f);
            if stage.kind != StageKind::Frames {
                let choices = stage.choices(options).into_iter();
                let choices = choices.map(|(partition, us)| (json!(partition), json!(us / frames)));
                let choices = choices.map(|(partition, us)| (partition.as_str().unwrap_or_default().to_string(), us));
                value["predicted_us"] = choices.collect::<serde_json::Map<_, _>>().into();
            }
            if let Some(pipeline) = pipelines::of_stage(&pass.pipelines, at).filter(|_| stage.kind == StageKind::Loop) {
                let lane = |lane: &Lane| {
                    json!({ "workers": [lane.workers.start, lane.workers.len()], "partition": lane.partition })
                };
                value["pipeline"] = json!({
                    "stages": [pipeline.stages.0, pipeline.stages.1],
                    "chunks": pipeline.chunks,
                    "predicted_us": pipeline.us / frames,
                    "loops": pipeline.loops_of(pass, at).iter().map(lane).collect::<Vec<_>>(),
                });
            }
            if let Some(time_block) = time_blocks::of_stage(&pass.time_blocks, at) {
                value["time_block"] = json!({ "stages": [time_block.stages.0, time_block.stages.1], "frames": time_block.frames });
            }
            value
        }).collect();
    let components: Vec<Value> = pass.components.list.iter().map(|c| component_value(graph, c)).collect();
    let (us, by_one) = pass.predicted(options);
    let predicted = json!({ "all": us / frames, "one": by_one / frames });
    json!({ "pass": name, "components": components, "stages": stages, "predicted_us": predicted })
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

fn stage_value(graph: &Graph, names: &Names<'_>, stage: &Stage, figures: &StageFigures) -> Value {
    json!({
        "kind": stage.kind,
        "level": stage.level,
        "partition": stage.partition,
        "predicted_us": null,
        "pipeline": null,
        "time_block": null,
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

//! Scans: affine elementwise recurrences, in parallel over time.
//!
//! What a lane (a unit of a stream) does in each frame, `recurrence.rs` of `rnnc-plan` says; its `affine.rs` runs that on
//! numbers of any kind, or on affine forms. Here, `shape.rs` chooses how lanes and frames are spread over threads; `kernel.rs` and `text.rs` print
//! the code, `memory.rs` that of what is no recurrence of single frames.

mod kernel;
mod memory;
mod shape;
mod text;

use crate::builder::Builder;
use crate::driver::{Geometry, Source};
use crate::lanes::Draft;
use crate::program::{Command, Launch, Region, Work};
use crate::source;
use kernel::Chunked;
use rnnc_plan::access::Access;
use rnnc_plan::affine;
use rnnc_plan::recurrence::{Recurrence, ScanLeaf};
use rnnc_plan::{Map, Op, Program, Stage, Task};
use shape::Shape;
use std::fmt::Write;

/// What scans share.
const SCAN: &str = include_str!("scan/scan.cuh");

/// Lanes that run the same code, side by side with the others of the stage.
struct Part<'a> {
    task: &'a Task,
    /// `None`: not one of single frames.
    recurrence: Option<Recurrence>,
    /// If it is affine, what of it the state needs.
    affine: Option<Program<ScanLeaf>>,
}

/// The jobs of a stage: one.
pub(crate) fn stage(
    builder: &mut Builder<'_>,
    name: &str,
    stage: &Stage,
    accesses: Vec<Access>,
) -> Vec<Draft> {
    let places = builder.places;
    let parts: Vec<Part<'_>> = stage.tasks.iter().flat_map(parts).collect();
    let works: Vec<shape::Work> = parts.iter().map(|part| work(builder, part)).collect();
    let (threads, shapes) = Shape::choose(&works, builder.device);

    let what = what(builder, name, stage);
    builder.program.watched.push(what.clone());
    let code = builder.program.watched.len();
    let (mut body, mut blocks, mut shared_bytes, mut scratch, mut lines) = (String::new(), 0, 0, 0, 0);
    let counters = builder.program.regions.counters;
    for ((part, work), &shape) in parts.iter().zip(&works).zip(&shapes) {
        let text = match (&part.recurrence, shape, &part.affine) {
            (None, ..) => {
                let (maps, units) = (maps(part.task), work.lanes / places.streams());
                let head = format!(
                    "const u32 lane = at * {threads}u + thread();\nif (lane >= {}u) return;\nconst u32 stream = lane / {units}u, unit = lane % {units}u;\n",
                    work.lanes
                );
                head + &memory::text(places, part.task, &maps)
            }
            (Some(recurrence), Shape::Chunked { lanes, tile }, Some(affine)) => {
                let chunked = Chunked {
                    places,
                    recurrence,
                    affine,
                    threads,
                    lanes,
                    tile,
                    scratch,
                    counters: counters + 32 * lines,
                    code,
                };
                lines += chunked.lines();
                scratch += chunked.scratch_len(shape.chunks(work, threads));
                shared_bytes = shared_bytes.max(chunked.shared_bytes());
                chunked.text()
            }
            (Some(recurrence), Shape::Ordered { tile } | Shape::Chunked { tile, .. }, _) => {
                kernel::ordered(places, recurrence, threads, tile)
            }
        };
        let count = shape.blocks(work, threads);
        // Writing to a string does not fail.
        let _ = write!(body, "if (at < {count}u) {{\n{text}return;\n}}\nat -= {count}u;\n");
        blocks += count;
    }
    builder.counters(lines);
    builder.scratch(scratch);

    let text = format!(
        "{}{SCAN}\nLOOP_KERNEL({name}, {threads}) {{\nu32 at = block();\n{body}}}\n",
        source::prelude()
    );
    let source = builder.program.sources.len();
    builder.program.sources.push(Source { name: what.clone(), text, kernels: vec![name.into()] });
    let geometry = Geometry { blocks, threads, shared_bytes, cluster: 1, cooperative: false };
    let cleared =
        (lines > 0).then_some(Command::Clear { region: Region::Counters, offset: counters, len: 32 * lines });
    let launch = Launch { source, kernel: 0, what, work: Work::Grid(geometry) };
    let commands: Vec<Command> = cleared.into_iter().chain([Command::Kernel(launch)]).collect();
    let job = |access| Draft { wide: blocks, ..builder.job(commands.clone(), access) };
    accesses.into_iter().take(1).map(job).collect()
}

/// A task's recurrences; the task as it stands if it is none.
fn parts(task: &Task) -> Vec<Part<'_>> {
    let Some(recurrences) = Recurrence::of(task) else {
        return vec![Part { task, recurrence: None, affine: None }];
    };
    let part = |recurrence: Recurrence| {
        let affine = affine::part(&recurrence);
        Part { task, recurrence: Some(recurrence), affine }
    };
    recurrences.into_iter().map(part).collect()
}

fn work(builder: &Builder<'_>, part: &Part<'_>) -> shape::Work {
    let places = builder.places;
    let frames = places.config.window;
    let (units, loads, stores) = match &part.recurrence {
        Some(recurrence) => {
            let stores = recurrence.program.stores().count();
            (recurrence.len, text::Text::new(places, recurrence).loads(), stores)
        }
        None => (maps(part.task).iter().map(|(_, map)| map.first + map.len).max().unwrap_or(1), 1, 1),
    };
    shape::Work { lanes: units * places.streams(), frames, loads, stores, affine: part.affine.is_some() }
}

/// A task's maps, with their offsets, in order. Nothing else is in a scan: products that enter it run before.
fn maps(task: &Task) -> Vec<(i64, &Map)> {
    let ops = task.phases.iter().flat_map(|phase| &phase.ops);
    ops.filter_map(|placed| match &placed.op {
        Op::Map(map) => Some((placed.offset, map)),
        _ => None,
    })
    .collect()
}

/// A stage's layers, for messages.
fn what(builder: &Builder<'_>, name: &str, stage: &Stage) -> String {
    let plan = builder.places.plan;
    let (pass, graph) = match &plan.adjoint {
        Some(adjoint) if name.starts_with("backward") => ("backward", adjoint),
        _ => ("forward", &plan.forward),
    };
    let layers = stage.tasks.iter().flat_map(maps).flat_map(|(_, map)| &map.layers);
    let names: Vec<&str> = layers.map(|&layer| graph.layer_at(layer).name.as_str()).collect();
    match names.as_slice() {
        [] => format!("a scan of the {pass} pass"),
        [one] => format!("the {pass} scan of `{one}`"),
        [first, .., last] => format!("the {pass} scan of `{first}` .. `{last}`"),
    }
}

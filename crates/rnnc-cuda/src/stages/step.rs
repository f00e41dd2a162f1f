//! Loops: one persistent kernel for each component, in which blocks exchange what they need from frame to frame.
//!
//! `choice.rs` has the layouts that a loop can have, `groups.rs` says how streams are dealt out, `time.rs` predicts what each takes; `layout.rs` and
//! `product_layout.rs` say which block and thread has what; `exchange.rs` what must be waited for. `kernel.rs` prints the
//! kernel, `product.rs` and `tiles.rs` its products, `copies.rs` and `posts.rs` what those read, `site.rs` how its maps read, `sums.rs`
//! which functions of whole vectors are summed up by parts. `shares.rs` says which loops share the device.

pub mod choice;
mod copies;
mod early;
mod exchange;
pub mod groups;
mod kernel;
pub mod layout;
mod posts;
mod product;
pub mod product_layout;
pub mod shares;
mod site;
mod sums;
pub mod task;
mod tiles;
mod time;

use crate::builder::Builder;
use crate::driver::{DriverError, Geometry, Source};
use crate::lanes::Draft;
use crate::program::{Command, Launch, Needs, Region, Work};
use crate::source;
use choice::{Choice, Tier, Way};
use rnnc_plan::access::Access;
use rnnc_plan::{Op, Stage, Task};
use shares::Share;

/// The jobs of a stage: one for each loop.
pub(crate) fn stage(
    builder: &mut Builder<'_>,
    name: &str,
    stage: &Stage,
    shares: Vec<Share>,
    accesses: Vec<Access>,
) -> Result<Vec<Draft>, DriverError> {
    let mut jobs = Vec::new();
    let loops = stage.tasks.iter().zip(shares).zip(accesses);
    for (number, ((task, share), access)) in loops.enumerate() {
        let layout = share.layout;
        let Choice { tier, groups, .. } = layout.choice;
        let name = format!("{name}_loop_{number}");
        let what = what(builder, name.starts_with("backward"), task);
        let (wanted, free) = (layout.shared_bytes(), builder.device.shared_bytes);
        if wanted > free {
            let streams = groups.streams;
            return Err(DriverError::Shared { name: what, streams, wanted, free });
        }
        builder.program.watched.push(what.clone());
        let code = builder.program.watched.len();
        let lines = kernel::barrier::lines(task) * if tier == Tier::Grid { groups.count() } else { 1 };
        let counters = builder.counters(lines);
        let window = builder.places.config.window;
        let summed = sums::summed(task, layout.work, layout.choice);
        let scratch = builder.scratch(
            layout.streamed() * layout.choice.all_blocks() + layout.exchanged(task, window) * groups.count(),
        );
        let kernel = kernel::Kernel::new(builder.places, task, &layout, summed, scratch, counters, code);
        let body = kernel.text(&name);
        let text = [source::prelude(), source::LOOPS.into(), body].concat();
        let source = builder.program.sources.len();
        builder.program.sources.push(Source { name: what.clone(), text, kernels: vec![name] });
        let geometry = Geometry {
            blocks: layout.choice.all_blocks(),
            threads: layout.threads,
            shared_bytes: layout.shared_bytes(),
            cluster: if tier == Tier::Cluster { layout.choice.blocks } else { layout.choice.team },
            cooperative: tier == Tier::Grid,
        };
        let mut commands = Vec::new();
        if tier == Tier::Grid {
            let len = lines * 32;
            commands.push(Command::Clear { region: Region::Counters, offset: counters, len });
        }
        commands.push(Command::Kernel(Launch { source, kernel: 0, what, work: Work::Grid(geometry) }));
        let waiting = if tier == Tier::Grid { layout.choice.all_blocks() } else { 0 };
        let job = builder.job(commands, access);
        let needs = needs(job.needs, task, &layout, builder);
        jobs.push(Draft { us: share.us, wide: layout.choice.all_blocks(), waiting, needs, ..job });
    }
    Ok(jobs)
}

/// What a loop cannot do without, beside what any job needs.
fn needs(any: Needs, task: &Task, layout: &layout::Layout, builder: &Builder<'_>) -> Needs {
    let (flops, tensor_flops) = match layout.choice.way {
        Way::Lanes => (any.flops, 0.0),
        Way::Tiles => (0.0, any.flops * tiles::beside_tf32(layout.work.precision)),
    };
    let steps = shares::steps(task, builder.places.config) as f64;
    Needs { flops, tensor_flops, steps, barriers_us: layout.barriers_us(builder.device), ..any }
}

/// A task's layers, for messages.
fn what(builder: &Builder<'_>, backward: bool, task: &Task) -> String {
    let plan = builder.places.plan;
    let graph = if backward { plan.adjoint.as_ref().unwrap_or(&plan.forward) } else { &plan.forward };
    let ops = task.phases.iter().flat_map(|p| &p.ops);
    let layers = ops.filter_map(|placed| match &placed.op {
        Op::Map(map) => Some(map.layers.iter()),
        _ => None,
    });
    let names: Vec<&str> = layers.flatten().map(|&l| graph.layer_at(l).name.as_str()).collect();
    let pass = if backward { "backward" } else { "forward" };
    match names.as_slice() {
        [] => format!("a loop of the {pass} pass"),
        [one] => format!("the {pass} loop of `{one}`"),
        [first, .., last] => format!("the {pass} loop of `{first}` .. `{last}`"),
    }
}

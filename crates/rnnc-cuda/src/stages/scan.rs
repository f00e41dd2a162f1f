//! Scans: affine elementwise recurrences, in parallel over time.

mod memory;

use crate::compile::Builder;
use crate::driver::Geometry;
use crate::program::{Command, Work};
use rnnc_plan::{Map, Op, Stage, Track};
use std::fmt::Write;

/// The commands of a stage.
pub(crate) fn stage(builder: &mut Builder<'_>, name: &str, stage: &Stage) -> Vec<Command> {
    let places = builder.places;
    let threads = 64;
    let mut body = String::from("{\nu32 at = block();\n");
    let mut blocks = 0;
    for track in &stage.tracks {
        let maps = maps(track);
        let units = maps.iter().map(|(_, map)| map.first + map.len).max().unwrap_or(0);
        let lanes = units * places.streams();
        let count = lanes.div_ceil(threads);
        let _ = write!(
            body,
            "if (at < {count}u) {{
            const u32 lane = at * {threads}u + thread();
            if (lane >= {lanes}u) return;
            const u32 stream = lane / {units}u, unit = lane % {units}u;
            {}return;\n}}\nat -= {count}u;\n",
            memory::text(places, track, &maps)
        );
        blocks += count;
    }
    body.push('}');
    let geometry = Geometry { blocks, threads, shared_bytes: 0, cluster: 1, cooperative: false };
    vec![builder.kernel(name, &body, format!("scan {name}"), Work::Grid(geometry))]
}

/// A track's maps, with their offsets, in order. Nothing else is in a scan: products that enter it run before.
fn maps(track: &Track) -> Vec<(i64, &Map)> {
    let ops = track.phases.iter().flat_map(|phase| &phase.ops);
    ops.filter_map(|placed| match &placed.op {
        Op::Map(map) => Some((placed.offset, map)),
        _ => None,
    })
    .collect()
}

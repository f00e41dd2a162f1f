//! A task as the plan has it: one thread a lane, which runs all steps in order and reads back from memory what it
//! wrote. It takes any task; the others take only those that are recurrences of single frames.

use crate::places::Places;
use crate::source::map::{InMemory, statements};
use rnnc_graph::Direction;
use rnnc_plan::{Map, Task};
use std::fmt::Write;

/// The text of a task for one lane: `unit` of `stream`.
pub(crate) fn text(places: &Places<'_>, task: &Task, maps: &[(i64, &Map)]) -> String {
    let mut out = String::new();
    let offsets = || maps.iter().map(|&(offset, _)| offset);
    let (least, largest) = (offsets().min().unwrap_or(0), offsets().max().unwrap_or(0));
    let frame = match task.direction {
        Direction::Forward => "a.first + t",
        Direction::Backward => "a.end - 1 - t",
    };
    // Writing to a string does not fail. A step of `block` frames can be taken frame by frame: what an operation reads
    // of its own block comes before it in the order of operations, and all else in an earlier step either way.
    let _ = writeln!(out, "const int frames = a.end - a.first;");
    let _ = writeln!(out, "for (int step = {}; step < frames - ({least}); ++step) {{", -largest);
    for (n, &(offset, map)) in maps.iter().enumerate() {
        let _ = write!(
            out,
            "{{ const int t = step + ({offset}); const u32 u = unit - {first}u;
            if (t >= 0 && t < frames && unit >= {first}u && u < {len}u) {{
            const int frame = {frame}; const u64 row = (u64)frame * {streams}ull + stream;
            {body} }} }}\n",
            first = map.first,
            len = map.len,
            streams = places.streams(),
            body = statements(map, &format!("m{n}_"), &mut InMemory { places }),
        );
    }
    out.push_str("}\n");
    out
}

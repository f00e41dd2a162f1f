//! What is computed once a call, of weights alone: one block, map after map.

use crate::compile::Builder;
use crate::driver::Geometry;
use crate::lanes::Draft;
use crate::program::{Command, Work};
use crate::source::map::{Site, statements};
use rnnc_plan::access::Access;
use rnnc_plan::{Map, OnceMap, Read, View};
use std::fmt::Write;

/// Threads of the block.
const THREADS: usize = 512;

/// The job that writes the derived weights; all others of the pass wait for it.
pub(crate) fn forward(builder: &mut Builder<'_>) -> Vec<Draft> {
    let maps = &builder.places.plan.once.forward;
    if maps.is_empty() {
        return Vec::new();
    }
    let command = kernel(builder, "once_forward", maps, "what weights alone give", false);
    vec![Draft { before_all: true, wide: 1, ..builder.job(vec![command], Access::default()) }]
}

/// The job that adds their gradients to those of the weights, once all gradients are there.
pub(crate) fn backward(builder: &mut Builder<'_>) -> Vec<Draft> {
    let plan = builder.places.plan;
    if plan.once.backward.is_empty() {
        return Vec::new();
    }
    let command =
        kernel(builder, "once_backward", &plan.once.backward, "gradients of what weights alone give", true);
    let access = Access::of_gradients(0..plan.weights.total());
    vec![Draft { wide: 1, ..builder.job(vec![command], access) }]
}

fn kernel(builder: &mut Builder<'_>, name: &str, maps: &[OnceMap], what: &str, backward: bool) -> Command {
    builder.begin_source(what.into());
    let mut body = String::from("{\n");
    for map in maps {
        // Writing to a string does not fail.
        let _ = writeln!(body, "for (u32 u = thread(); u < {}u; u += {THREADS}u) {{", map.len);
        for (offset, register) in &map.gradients {
            let _ = writeln!(body, "const float r{register} = a.gradients[{offset}ull + u];");
        }
        let program = map.program.clone();
        let unit = Map {
            span: map.len,
            first: 0,
            len: map.len,
            layers: Vec::new(),
            program,
            registers: map.registers,
        };
        body.push_str(&statements(&unit, "r", &mut Flat));
        for (register, offset) in &map.results {
            let _ = match backward {
                true => writeln!(body, "a.gradients[{offset}ull + u] += r{register};"),
                false => writeln!(body, "a.weights[{offset}ull + u] = r{register};"),
            };
        }
        // The next may read what other threads wrote.
        body.push_str("}\nblock_sync();\n");
    }
    body.push('}');
    let one = Geometry { blocks: 1, threads: THREADS, shared_bytes: 0, cluster: 1, cooperative: false };
    builder.kernel(name, &body, what.into(), Work::Grid(one))
}

/// The flat weights, some of which the kernel itself writes.
struct Flat;

impl Site for Flat {
    fn load(&mut self, read: &Read, _: &str) -> String {
        unreachable!("maps of one row read no buffers: {read:?}")
    }

    fn weight(&mut self, offset: usize) -> String {
        format!("a.weights[{offset}ull + u]")
    }

    fn store(&mut self, view: View, _: &str) -> String {
        unreachable!("maps of one row write no buffers: {view:?}")
    }

    fn dropout(&self) -> bool {
        false
    }
}

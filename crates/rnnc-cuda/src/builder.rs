//! What compiling collects: sources with their kernels, jobs, and room.

use crate::device::Device;
use crate::driver::Source;
use crate::lanes::Draft;
use crate::places::Places;
use crate::program::{Command, Launch, Needs, Program, Work};
use crate::source;
use rnnc_graph::Graph;
use rnnc_plan::Op;
use rnnc_plan::access::Access;
use rnnc_report::Names;
use std::fmt::Write;

/// What compiling collects.
pub(crate) struct Builder<'a> {
    pub places: &'a Places<'a>,
    pub device: &'a Device,
    pub program: Program,
    /// The source that all small kernels share, by its place.
    pub shared: usize,
    /// Numbers of scratch that the job needs which is being made.
    pub scratch: usize,
    /// The same of each lane, of all its jobs.
    pub lanes: Vec<usize>,
    /// The layers of the present pass.
    pub names: Option<(&'a Graph, Names<'a>)>,
}

impl Builder<'_> {
    /// Makes a job of what has been printed since the last.
    pub fn job(&mut self, commands: Vec<Command>, access: Access) -> Draft {
        let rates = self.device.rates;
        let rows = self.places.config.window * self.places.streams();
        let (flops, bytes) = access.cost(rows);
        // TFLOP/s and TB/s are millions in a microsecond.
        let us = flops / (rates.f32_tflops * 1e6) + bytes / (rates.memory_tbs * 1e6);
        Draft {
            us: us + rates.launch_us * commands.len() as f64,
            needs: Needs { flops, bytes: access.least_bytes(rows), ..Needs::default() },
            commands,
            access,
            scratch: std::mem::take(&mut self.scratch),
            wide: self.device.multiprocessors,
            ..Draft::default()
        }
    }

    /// What each part of an operation of the present pass does, for messages.
    pub fn words(&self, op: &Op) -> Vec<String> {
        self.names.as_ref().map_or_else(Vec::new, |(graph, names)| names.words(op, graph))
    }

    /// Begins a source for small kernels: those that [`Builder::kernel`] adds until the next begins.
    pub fn begin_source(&mut self, name: String) {
        self.shared = self.program.sources.len();
        self.program.sources.push(Source { name, text: source::prelude(), kernels: Vec::new() });
    }

    /// Adds a function to the present source for small kernels.
    pub fn define(&mut self, function: &str) {
        self.program.sources[self.shared].text.push_str(&format!("\n{function}"));
    }

    /// Adds a kernel to the present source for small kernels: `body` is what follows `KERNEL(name)`, with its braces.
    pub fn kernel(&mut self, name: &str, body: &str, what: String, work: Work) -> Command {
        let source = &mut self.program.sources[self.shared];
        // Writing to a string does not fail.
        let _ = writeln!(source.text, "\nKERNEL({name}) {body}");
        source.kernels.push(name.into());
        Command::Kernel(Launch { source: self.shared, kernel: source.kernels.len() - 1, what, work })
    }

    /// Room in the lane's scratch for one command (and what follows in its job); returns its first number.
    pub fn scratch(&mut self, numbers: usize) -> usize {
        self.scratch = self.scratch.max(numbers);
        0
    }

    /// Counters of its own, each on a 128-byte line, for a kernel; returns the first's place.
    pub fn counters(&mut self, lines: usize) -> usize {
        let first = self.program.regions.counters;
        self.program.regions.counters += lines * 32;
        first
    }
}

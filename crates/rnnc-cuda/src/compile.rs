//! From a plan to a program: stage after stage, each kind by its own generator.

use crate::device::Device;
use crate::driver::{DriverError, Source};
use crate::places::Places;
use crate::program::{Command, Launch, Program, Regions, Work};
use crate::source;
use crate::stages::{frames, scan, step, update};
use rnnc_graph::Graph;
use rnnc_plan::report::Names;
use rnnc_plan::{Op, Pass, Plan, Setup, StageKind};
use std::fmt::Write;

/// Makes the program of a plan.
pub fn compile(plan: &Plan, setup: Setup, device: &Device) -> Result<Program, DriverError> {
    let places = Places::new(plan, setup);
    let regions = Regions {
        values: places.total,
        weights: plan.weights.len(),
        trained: plan.backward_pass.is_some(),
        scratch: 0,
        counters: FIRST_COUNTER,
    };
    let mut builder = Builder {
        places: &places,
        device,
        program: Program { regions, ..Program::default() },
        shared: 0,
        names: None,
    };
    let forward = builder.pass("forward", &plan.forward, &plan.forward_pass)?;
    let mut backward = Vec::new();
    if let (Some(graph), Some(pass)) = (&plan.adjoint, &plan.backward_pass) {
        backward.extend(builder.cleared(pass));
        backward.extend(builder.pass("backward", graph, pass)?);
    }
    let update = if regions.trained { update::commands(&mut builder) } else { Vec::new() };
    let mut program = builder.program;
    program.update = update;
    program.forward = forward;
    program.backward = backward;
    Ok(program)
}

/// The first counter that kernels may use; before it stands the fault flag, on a line of its own.
const FIRST_COUNTER: usize = 32;

/// What compiling collects.
pub(crate) struct Builder<'a> {
    pub places: &'a Places<'a>,
    pub device: &'a Device,
    pub program: Program,
    /// The source that all small kernels share, by its place.
    shared: usize,
    /// The layers of the present pass.
    names: Option<(&'a Graph, Names<'a>)>,
}

impl<'a> Builder<'a> {
    fn cleared(&self, pass: &Pass) -> Vec<Command> {
        let region = crate::program::Region::Gradients;
        pass.cleared.iter().map(|&(offset, len)| Command::Clear { region, offset, len }).collect()
    }

    /// What each part of an operation of the present pass does, for messages.
    pub fn words(&self, op: &Op) -> Vec<String> {
        self.names.as_ref().map_or_else(Vec::new, |(graph, names)| names.words(op, graph))
    }

    fn pass(&mut self, name: &str, graph: &'a Graph, pass: &Pass) -> Result<Vec<Command>, DriverError> {
        self.names = Some((graph, Names::of(graph, pass)));
        self.begin_source(format!("the {name} pass over all frames"));
        let mut commands = Vec::new();
        for (number, stage) in pass.stages.iter().enumerate() {
            let name = format!("{name}_{number}");
            let own = match stage.kind {
                StageKind::Frames => frames::stage(self, &name, stage),
                StageKind::Scan => scan::stage(self, &name, stage),
                StageKind::Loop => step::stage(self, &name, stage)?,
            };
            self.program.stages.push(own.len());
            commands.extend(own);
        }
        Ok(commands)
    }

    /// Begins a source for small kernels: those that [`Builder::kernel`] adds until the next begins.
    pub fn begin_source(&mut self, name: String) {
        self.shared = self.program.sources.len();
        self.program.sources.push(Source { name, text: source::prelude(), kernels: Vec::new() });
    }

    /// Adds a kernel to the present source for small kernels: `body` is what follows `KERNEL(name)`, with its braces.
    pub fn kernel(&mut self, name: &str, body: &str, what: String, work: Work) -> Command {
        let source = &mut self.program.sources[self.shared];
        // Writing to a string does not fail.
        let _ = writeln!(source.text, "\nKERNEL({name}) {body}");
        source.kernels.push(name.into());
        Command::Kernel(Launch { source: self.shared, kernel: source.kernels.len() - 1, what, work })
    }

    /// Room in the scratch region for one command (and what follows directly); returns its first number.
    pub fn scratch(&mut self, numbers: usize) -> usize {
        self.program.regions.scratch = self.program.regions.scratch.max(numbers);
        0
    }

    /// Counters of its own, each on a 128-byte line, for a kernel; returns the first's place.
    pub fn counters(&mut self, lines: usize) -> usize {
        let first = self.program.regions.counters;
        self.program.regions.counters += lines * 32;
        first
    }
}

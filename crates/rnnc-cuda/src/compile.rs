//! From a plan to a program: stage after stage, each kind by its own generator.

use crate::device::Device;
use crate::driver::{DriverError, Source};
use crate::heads;
use crate::lanes::{self, Draft};
use crate::pipelines::{self, PassPipelines};
use crate::places::Places;
use crate::program::{Command, Job, Launch, Needs, Program, Regions, Work};
use crate::source;
use crate::stages::{frames, once, scan, step, update};
use rnnc_graph::Graph;
use rnnc_plan::access::Access;
use rnnc_plan::{ExecutionConfig, Op, Pass, Plan, StageKind};
use rnnc_report::Names;
use std::fmt::Write;

/// Makes the program of a plan.
pub fn compile(plan: &Plan, config: ExecutionConfig, device: &Device) -> Result<Program, DriverError> {
    let plan = &*heads::choose(plan, config, device);
    let pipelines = PassPipelines::of_plan(plan, config, device);
    let places = Places::new(plan, config, pipelines::levels(plan, &pipelines));
    let buffers = (0..plan.buffers.len()).map(|buffer| places.buffer_place(buffer)).collect();
    let regions = Regions {
        values: places.total,
        weights: plan.weights.total(),
        trained: plan.backward_pass.is_some(),
        scratch: 0,
        counters: FIRST_COUNTER,
    };
    let mut builder = Builder {
        places: &places,
        device,
        program: Program { regions, buffers, ..Program::default() },
        shared: 0,
        scratch: 0,
        lanes: Vec::new(),
        names: None,
    };
    let mut pipelines = pipelines.into_iter();
    let mut forward = once::forward(&mut builder);
    forward.extend(builder.pass("forward", &plan.forward, &plan.forward_pass, pipelines.next(), 0)?);
    builder.program.forward = builder.in_lanes(forward);
    if let (Some(graph), Some(pass)) = (&plan.adjoint, &plan.backward_pass) {
        let mut backward = builder.cleared(pass);
        let first = plan.forward_pass.stages.len();
        backward.extend(builder.pass("backward", graph, pass, pipelines.next(), first)?);
        backward.extend(once::backward(&mut builder));
        builder.program.backward = builder.in_lanes(backward);
    }
    if regions.trained {
        let commands = update::commands(&mut builder);
        let update = builder.job(commands, Access::default());
        builder.program.update = builder.in_lanes(vec![update]);
    }
    let Builder { mut program, lanes, .. } = builder;
    for numbers in lanes {
        // A lane without is told of the region's beginning, which is always there.
        program.lanes.push(if numbers > 0 { program.regions.scratch } else { 0 });
        program.regions.scratch += numbers.next_multiple_of(LANE_ALIGNMENT);
    }
    Ok(program)
}

/// The first counter that kernels may use; before it stands the fault flag, on a line of its own.
const FIRST_COUNTER: usize = 32;

/// The scratch of a lane begins at a multiple of so many numbers.
const LANE_ALIGNMENT: usize = 64;

/// What compiling collects.
pub(crate) struct Builder<'a> {
    pub places: &'a Places<'a>,
    pub device: &'a Device,
    pub program: Program,
    /// The source that all small kernels share, by its place.
    shared: usize,
    /// Numbers of scratch that the job needs which is being made.
    scratch: usize,
    /// The same of each lane, of all its jobs.
    lanes: Vec<usize>,
    /// The layers of the present pass.
    names: Option<(&'a Graph, Names<'a>)>,
}

impl<'a> Builder<'a> {
    fn cleared(&mut self, pass: &Pass) -> Vec<Draft> {
        let region = crate::program::Region::Gradients;
        let mut cleared = |&(offset, len)| {
            let access = Access::of_gradients(offset..offset + len);
            self.job(vec![Command::Clear { region, offset, len }], access)
        };
        pass.cleared.iter().map(&mut cleared).collect()
    }

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

    /// Gives the jobs of a pass their lanes.
    fn in_lanes(&mut self, jobs: Vec<Draft>) -> Vec<Job> {
        let (jobs, scratch) = lanes::assign(jobs, &self.places.lying(), self.device);
        self.lanes.resize(self.lanes.len().max(scratch.len()), 0);
        self.lanes.iter_mut().zip(scratch).for_each(|(all, own)| *all = own.max(*all));
        jobs
    }

    /// What each part of an operation of the present pass does, for messages.
    pub fn words(&self, op: &Op) -> Vec<String> {
        self.names.as_ref().map_or_else(Vec::new, |(graph, names)| names.words(op, graph))
    }

    /// The jobs of a pass, whose first stage has that number.
    fn pass(
        &mut self,
        name: &str,
        graph: &'a Graph,
        pass: &Pass,
        pipelines: Option<PassPipelines>,
        first: usize,
    ) -> Result<Vec<Draft>, DriverError> {
        let PassPipelines { accesses, pipelines } = pipelines.unwrap_or_default();
        self.names = Some((graph, Names::of(graph, pass)));
        self.begin_source(format!("the {name} pass over all frames"));
        let mut jobs = Vec::new();
        for (number, (stage, accesses)) in pass.stages.iter().zip(accesses).enumerate() {
            let name = format!("{name}_{number}");
            let own = match stage.kind {
                StageKind::Frames => frames::stage(self, &name, stage, accesses),
                StageKind::Scan => scan::stage(self, &name, stage, accesses),
                StageKind::Loop => {
                    let shares = pipelines::shares(pass, &pipelines, number, self.places.config, self.device);
                    step::stage(self, &name, stage, shares, accesses)?
                }
            };
            let stage = Some(first + number);
            jobs.push(own.into_iter().map(|job| Draft { stage, ..job }).collect());
        }
        Ok(pipelines::in_order(jobs, &pipelines))
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

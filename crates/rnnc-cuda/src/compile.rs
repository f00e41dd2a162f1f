//! From a plan to a program: stage after stage, each kind by its own generator.

use crate::builder::Builder;
use crate::device::Device;
use crate::driver::DriverError;
use crate::heads;
use crate::lanes::{self, Draft};
use crate::pipelines::{self, PassPipelines};
use crate::places::Places;
use crate::program::{Command, Job, Program, Regions};
use crate::stages::{frames, once, scan, step, update};
use rnnc_graph::Graph;
use rnnc_plan::access::Access;
use rnnc_plan::{ExecutionConfig, Pass, Plan, StageKind};
use rnnc_report::Names;

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

impl<'a> Builder<'a> {
    fn cleared(&mut self, pass: &Pass) -> Vec<Draft> {
        let region = crate::program::Region::Gradients;
        let mut cleared = |&(offset, len)| {
            let access = Access::of_gradients(offset..offset + len);
            self.job(vec![Command::Clear { region, offset, len }], access)
        };
        pass.cleared.iter().map(&mut cleared).collect()
    }

    /// Gives the jobs of a pass their lanes.
    fn in_lanes(&mut self, jobs: Vec<Draft>) -> Vec<Job> {
        let (jobs, scratch) = lanes::assign(jobs, &self.places.lying(), self.device);
        self.lanes.resize(self.lanes.len().max(scratch.len()), 0);
        self.lanes.iter_mut().zip(scratch).for_each(|(all, own)| *all = own.max(*all));
        jobs
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
}

//! Pipelines: loops that run at the same time. Those that follow each other run in chunks of frames: while a loop has a chunk,
//! the next has the chunk before; what stands between them runs for each chunk too. Loops of one stage, which are
//! independent, need no chunks.
//!
//! What can be a pipeline follows from what jobs touch; whether one is worth it, and how its loops share the machine, is the
//! executor's to say.

use super::access::{Access, Chunk};
use crate::ir::{Op, Pass, Phase, Plan, Stage, StageKind, Task};
use rnnc_graph::Direction;

/// A pipeline over some stages of a pass, from one with loops to another. `L` is what the executor says of each loop.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline<L> {
    /// The first and the last stage.
    pub stages: (usize, usize),
    /// How many chunks the frames of a pass are cut into.
    pub chunks: usize,
    /// Of time, by which chunks are counted.
    pub direction: Direction,
    /// Of each job (see [`Access::of_stage`]) of these stages.
    pub roles: Vec<Vec<Role>>,
    /// Of each loop, stage after stage.
    pub loops: Vec<L>,
    /// Predicted microseconds of a window, beyond what all but loops take in any case.
    pub us: f64,
}

/// Where a job of a pipeline's stages stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs before the pipeline.
    Before,
    /// Runs for each chunk.
    Inside,
    /// Runs after the pipeline.
    After,
}

/// What might be a pipeline.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// The pass.
    pub pass: &'a Pass,
    /// The first and the last stage.
    pub stages: (usize, usize),
    /// The loops, stage after stage.
    pub tasks: Vec<&'a Task>,
    accesses: &'a [Vec<Access>],
    roles: Vec<Role>,
}

/// What an executor says of a candidate.
#[derive(Clone, Debug)]
pub struct Timed<L> {
    /// Into how many chunks to cut the frames.
    pub chunks: usize,
    /// What it is to know of each loop.
    pub loops: Vec<L>,
    /// Microseconds of a window, beyond what all but loops take in any case.
    pub us: f64,
}

/// The most stages with loops of a pipeline.
const MOST_LOOPS: usize = 8;

/// More jobs than these are not compared with each other.
const MOST_JOBS: usize = 1024;

impl<'a> Candidate<'a> {
    /// The stages as a pipeline, if loops and all between them can run in chunks. Nothing else takes the memory of the buffers
    /// that they use.
    fn new(pass: &'a Pass, accesses: &'a [Vec<Access>], stages: (usize, usize)) -> Option<Candidate<'a>> {
        let tasks = tasks(&pass.stages[stages.0..=stages.1]);
        let direction = tasks.first()?.direction;
        if stages.0 < stages.1 && tasks.iter().any(|task| task.direction != direction) {
            return None;
        }
        let jobs: Vec<(usize, &Access)> = (stages.0..=stages.1)
            .flat_map(|stage| accesses[stage].iter().map(move |access| (stage, access)))
            .collect();
        let roles = roles(pass, &jobs, direction)?;
        Some(Candidate { pass, stages, tasks, accesses: &accesses[stages.0..=stages.1], roles })
    }

    /// The jobs that run for each chunk, with their stages.
    pub fn inside(&self) -> impl Iterator<Item = (usize, &'a Access)> {
        let stages = (self.stages.0..).zip(self.accesses);
        let jobs = stages.flat_map(|(stage, own)| own.iter().map(move |access| (stage, access)));
        jobs.zip(&self.roles).filter(|(_, role)| **role == Role::Inside).map(|(job, _)| job)
    }

    /// What stands between the loops: the parts of frames stages that run for each chunk.
    pub fn between(&self) -> impl Iterator<Item = Stage> {
        let mut roles = self.roles.iter();
        (self.stages.0..).zip(self.accesses).filter_map(move |(number, own)| {
            let roles: Vec<Role> = roles.by_ref().take(own.len()).copied().collect();
            let stage = &self.pass.stages[number];
            let frames = stage.kind == StageKind::Frames;
            frames.then(|| part(stage, &roles, Role::Inside)).flatten()
        })
    }

    /// Counts of chunks to choose from: powers of two up to the frames of a window; one of loops of one stage.
    pub fn counts(&self, frames: usize, most: usize) -> impl Iterator<Item = usize> {
        let in_chunks = self.stages.0 < self.stages.1;
        let counts = std::iter::successors(Some(if in_chunks { 2 } else { 1 }), |count| Some(count * 2));
        counts.take_while(move |&count| count <= if in_chunks { frames.min(most) } else { 1 })
    }

    fn pipeline<L>(self, timed: Timed<L>) -> Pipeline<L> {
        let mut rest = self.roles.into_iter();
        let roles = self.accesses.iter().map(|own| rest.by_ref().take(own.len()).collect()).collect();
        let direction = self.tasks[0].direction;
        let Timed { chunks, loops, us } = timed;
        Pipeline { stages: self.stages, chunks, direction, roles, loops, us }
    }
}

impl<L> Pipeline<L> {
    /// The part of a stage of the pipeline whose jobs have a role, if there is any. A stage with loops is inside, as a whole.
    pub fn part(&self, pass: &Pass, stage: usize, role: Role) -> Option<Stage> {
        let roles = &self.roles[stage - self.stages.0];
        let stage = &pass.stages[stage];
        match stage.kind {
            StageKind::Frames => part(stage, roles, role),
            StageKind::Loop | StageKind::Scan => roles.contains(&role).then(|| stage.clone()),
        }
    }

    /// What is said of the loops of a stage.
    pub fn loops_of(&self, pass: &Pass, stage: usize) -> &[L] {
        let first = tasks(&pass.stages[self.stages.0..stage]).len();
        &self.loops[first..first + pass.stages[stage].tasks.len()]
    }
}

/// The part of a frames stage whose jobs have a role.
fn part(stage: &Stage, roles: &[Role], role: Role) -> Option<Stage> {
    let mut roles = roles.iter();
    let mut kept = || roles.next() == Some(&role);
    let mut op = |op: &Op| -> Option<Op> {
        /// Those of a list that are kept.
        fn some<T: Clone>(list: &[T], kept: &mut impl FnMut() -> bool) -> Option<Vec<T>> {
            let some: Vec<T> = list.iter().filter(|_| kept()).cloned().collect();
            (!some.is_empty()).then_some(some)
        }
        Some(match op {
            Op::MatMul(list) => Op::MatMul(some(list, &mut kept)?),
            Op::Gather(list) => Op::Gather(some(list, &mut kept)?),
            Op::WeightGradient(list) => Op::WeightGradient(some(list, &mut kept)?),
            Op::TableGradient(list) => Op::TableGradient(some(list, &mut kept)?),
            whole @ (Op::Map(_) | Op::Vector(_) | Op::Reduce(_)) => {
                if !kept() {
                    return None;
                }
                whole.clone()
            }
        })
    };
    let mut tasks = Vec::new();
    for task in &stage.tasks {
        let mut phases = Vec::new();
        for phase in &task.phases {
            let ops = phase.ops.iter().filter_map(|placed| {
                op(&placed.op).map(|op| crate::ir::Placed { offset: placed.offset, op })
            });
            let ops: Vec<_> = ops.collect();
            if !ops.is_empty() {
                phases.push(Phase { ops, ..*phase });
            }
        }
        if !phases.is_empty() {
            tasks.push(Task { phases, ..task.clone() });
        }
    }
    let cost = crate::ir::Cost::of(&tasks);
    (!tasks.is_empty()).then(|| Stage { tasks, cost, ..stage.clone() })
}

/// The pipelines of a pass that are predicted to be faster: that take no more than the share `least_gain` of the time without.
/// `accesses` are those of each stage's jobs; `alone` gives the microseconds of a stage with loops outside of pipelines, and
/// `time` those of a candidate, if it can run at all.
pub fn find<L>(
    pass: &Pass,
    accesses: &[Vec<Access>],
    least_gain: f64,
    alone: impl Fn(usize) -> f64,
    time: impl Fn(&Candidate<'_>) -> Option<Timed<L>>,
) -> Vec<Pipeline<L>> {
    let is_loop = |&stage: &usize| pass.stages[stage].kind == StageKind::Loop;
    let loops: Vec<usize> = (0..pass.stages.len()).filter(is_loop).collect();
    if accesses.iter().map(Vec::len).sum::<usize>() > MOST_JOBS {
        return Vec::new();
    }
    // From the last on: the time from a loop stage to the end, and the pipeline that begins there.
    let mut times = vec![0.0; loops.len() + 1];
    let mut best: Vec<Option<(usize, Pipeline<L>)>> = loops.iter().map(|_| None).collect();
    for at in (0..loops.len()).rev() {
        times[at] = alone(loops[at]) + times[at + 1];
        for last in at..loops.len().min(at + MOST_LOOPS) {
            let timed = Candidate::new(pass, accesses, (loops[at], loops[last]))
                .and_then(|candidate| time(&candidate).map(|timed| candidate.pipeline(timed)));
            let Some(pipeline) = timed else {
                // A stage by itself may be none, and yet begin one.
                if last == at { continue } else { break }
            };
            let us = pipeline.us + times[last + 1];
            if us < times[at] * least_gain {
                times[at] = us;
                best[at] = Some((last, pipeline));
            }
        }
    }
    let (mut pipelines, mut at) = (Vec::new(), 0);
    while at < loops.len() {
        at = match best[at].take() {
            Some((last, pipeline)) => {
                pipelines.push(pipeline);
                last + 1
            }
            None => at + 1,
        };
    }
    pipelines
}

/// The pipeline that a stage is part of.
pub fn of_stage<L>(pipelines: &[Pipeline<L>], stage: usize) -> Option<&Pipeline<L>> {
    // They stand in the order of their stages.
    pipelines
        .get(pipelines.partition_point(|pipeline| pipeline.stages.1 < stage))
        .filter(|pipeline| pipeline.stages.0 <= stage)
}

/// The levels (see [`Plan::levels`]) that each pipeline makes one, of the pipelines of the forward and of the backward pass.
pub fn levels<'a, L: 'a>(
    plan: &Plan,
    passes: impl IntoIterator<Item = &'a [Pipeline<L>]>,
) -> Vec<(usize, usize)> {
    let passes = passes.into_iter().zip([0, plan.forward_pass.stages.len()]);
    plan.levels_of(
        passes.flat_map(|(pipelines, first)| pipelines.iter().map(move |pipeline| (first, pipeline.stages))),
    )
}

/// The loops of some stages.
fn tasks(stages: &[Stage]) -> Vec<&Task> {
    stages.iter().filter(|stage| stage.kind == StageKind::Loop).flat_map(|stage| &stage.tasks).collect()
}

/// What the jobs of a pipeline's stages are, if loops and all between them can run in chunks.
fn roles(pass: &Pass, jobs: &[(usize, &Access)], direction: Direction) -> Option<Vec<Role>> {
    let kind = |job: usize| pass.stages[jobs[job].0].kind;
    let is_loop = |job: usize| kind(job) == StageKind::Loop;
    // Whether each comes behind a loop, and each before one.
    let (mut behind, mut before) = (vec![false; jobs.len()], vec![false; jobs.len()]);
    let overlap = |a: usize, b: usize| jobs[a].1.overlaps(None, jobs[b].1, None, &[]);
    for job in 0..jobs.len() {
        behind[job] = is_loop(job) || (0..job).any(|earlier| behind[earlier] && overlap(earlier, job));
    }
    for job in (0..jobs.len()).rev() {
        before[job] = is_loop(job) || (job + 1..jobs.len()).any(|later| before[later] && overlap(job, later));
    }
    let role = |job: usize| match (behind[job], before[job]) {
        (true, true) => Role::Inside,
        (true, false) => Role::After,
        (false, _) => Role::Before,
    };
    let roles: Vec<Role> = (0..jobs.len()).map(role).collect();
    let inside: Vec<usize> = (0..jobs.len()).filter(|&job| roles[job] == Role::Inside).collect();
    let by_rows = |&job: &usize| is_loop(job) || (kind(job) == StageKind::Frames && !jobs[job].1.sums_rows());
    if !inside.iter().all(by_rows) {
        return None;
    }
    // A later job's chunk comes before an earlier job's next one.
    let chunk = |number| Some(Chunk { pipeline: 0, number, direction });
    let swapped = |a: usize, b: usize| jobs[a].1.overlaps(chunk(1), jobs[b].1, chunk(0), &[]);
    let wrong = inside.iter().enumerate().any(|(n, &a)| inside[n + 1..].iter().any(|&b| swapped(a, b)));
    (!wrong).then_some(roles)
}

//! Time blocks: some frames at a time. Stages that follow each other run all for a time block before the next one, where none of them
//! needs frames that come later: what a stage writes, the next finds in a cache, however long the window is. (Of loops over
//! arrays, this is strip-mining.)
//!
//! What can run so follows from what jobs touch; into how many frames to cut, from predicted times.

use super::model::Model;
use super::pipelines::WorkerGroup;
use super::speeds::Speeds;
use rnnc_graph::Direction;
use rnnc_plan::access::Access;
use rnnc_plan::pipelines::{self, Pipeline};
use rnnc_plan::{BufferId, Partition, Pass, Stage, StageKind, View};

/// Stages that run time block after time block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeBlock {
    /// The first and the last stage.
    pub stages: (usize, usize),
    /// Frames of a time block.
    pub frames: usize,
    /// Of time, in which time blocks follow each other.
    pub direction: Direction,
    /// Buffers that are rings: of which so many frames, a power of two, are there at a time, since what these stages write
    /// nothing else reads. Frame t is in place t modulo that.
    pub rings: Vec<(BufferId, usize)>,
}

/// More jobs than these are not compared with each other.
const MOST_JOBS: usize = 256;

/// The stages of a pass that can run in time blocks: as many as can be, at least two together, and none of a pipeline. `accesses` are
/// those of each stage's jobs. In what is returned, a time block has all frames.
pub(super) fn find(
    pass: &Pass,
    partitions: &[Partition],
    pipelines: &[Pipeline<WorkerGroup>],
    accesses: &[Vec<Access>],
) -> Vec<TimeBlock> {
    let mut time_blocks: Vec<TimeBlock> = Vec::new();
    // Where it begins, and in which directions it can run as far as it goes.
    let mut open: (usize, Vec<Direction>) = (0, Vec::new());
    for (at, stage) in pass.stages.iter().enumerate() {
        let own = match pipelines::of_stage(pipelines, at) {
            Some(_) => Vec::new(),
            None => directions(stage, partitions[at]),
        };
        let from = |first: usize, known: &[Direction]| -> Vec<Direction> {
            let both = own.iter().filter(|direction| known.contains(direction));
            both.filter(|&&direction| joins(&accesses[first..=at], direction)).copied().collect()
        };
        let longer = from(open.0, &open.1);
        open = if longer.is_empty() { (at, from(at, &own)) } else { (open.0, longer) };
        let (first, Some(&direction)) = (open.0, open.1.first()) else { continue };
        if first < at {
            time_blocks.pop_if(|time_block| time_block.stages.0 == first);
            time_blocks.push(TimeBlock {
                stages: (first, at),
                frames: usize::MAX,
                direction,
                rings: Vec::new(),
            });
        }
    }
    time_blocks
}

/// The directions in which a stage can run in time blocks, as far as its steps say.
fn directions(stage: &Stage, partition: Partition) -> Vec<Direction> {
    let fits = |direction: &Direction| match stage.kind {
        StageKind::Frames => true,
        // Those that are partitioned by chunks of frames have all at once.
        StageKind::Loop | StageKind::Scan => {
            partition != Partition::Time && stage.tasks.iter().all(|task| task.direction == *direction)
        }
    };
    [Direction::Forward, Direction::Backward].into_iter().filter(fits).collect()
}

/// Whether all jobs of the last of some stages can have some frames before any job before them has the next ones.
fn joins(accesses: &[Vec<Access>], direction: Direction) -> bool {
    let Some((last, earlier)) = accesses.split_last() else { return false };
    let jobs: Vec<&Access> = earlier.iter().flatten().chain(last).collect();
    let first = jobs.len() - last.len();
    let mut pairs = (first..jobs.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
    jobs.len() <= MOST_JOBS && pairs.all(|(a, b)| jobs[a].lets_pass(jobs[b], direction))
}

impl Model {
    /// Stages in time blocks of so many frames that what moves between them stays in a cache, if that is faster than all frames at
    /// once.
    pub fn time_block(
        self,
        pass: &Pass,
        partitions: &[Partition],
        time_block: TimeBlock,
    ) -> Option<TimeBlock> {
        let (first, last) = time_block.stages;
        let (stages, partitions) = (&pass.stages[first..=last], &partitions[first..=last]);
        let shared = partitions.iter().any(|&partition| partition != Partition::Serial);
        let model = Model { workers: if shared { self.workers } else { 1 }, ..self };
        let all = model.moving(stages, self.frames);
        let lengths = std::iter::successors(Some(1usize), |frames| frames.checked_mul(2));
        // Each worker is to have rows of every time block.
        let lengths = lengths.filter(|&frames| frames.max(self.streams) >= model.workers);
        let times = lengths
            .take_while(|&frames| frames < self.frames)
            .map(|frames| (frames, model.moving(stages, frames)));
        let (frames, own) = times.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let rest: f64 =
            stages.iter().zip(partitions).map(|(stage, &partition)| self.us(stage, partition)).sum();
        (rest + own < (rest + all) * Speeds::LEAST_GAIN_OF_TIME_BLOCKS)
            .then_some(TimeBlock { frames, ..time_block })
    }

    /// Microseconds of a window that some stages take to move their values, and matrices, in time blocks of so many frames; and to
    /// begin them.
    fn moving(self, stages: &[Stage], frames: usize) -> f64 {
        let Speeds { values, caches, far, step, barrier, .. } = self.speeds;
        let workers = self.workers as f64;
        let bytes = |views: &[View]| {
            4.0 * views.iter().map(|view| view.len as f64).sum::<f64>() * self.streams as f64
        };
        let mut views: Vec<View> = Vec::new();
        stages.iter().for_each(|stage| stage.for_each_view(&mut |view| views.push(view)));
        let moved = bytes(&views) * self.frames as f64;
        views.sort_unstable();
        views.dedup();
        let at_once = bytes(&views) * frames as f64;
        let speed = match () {
            () if at_once <= caches.0 * workers => values[0],
            () if at_once <= caches.1 => values[1],
            () => values[2],
        };
        // A loop reads its matrices in any case. Others are read, or gradients added to, once for so many rows.
        let frames_stages = stages.iter().filter(|stage| stage.kind == StageKind::Frames);
        let matrices: f64 = frames_stages.map(|stage| stage.cost.weight_bytes as f64).sum();
        let rows = (frames as f64 * self.streams as f64 / workers / Speeds::ROWS).ceil();
        let phases = stages.iter().flat_map(|stage| &stage.tasks).flat_map(|task| &task.phases);
        let ops = phases.map(|phase| phase.ops.len()).sum::<usize>() as f64;
        let barriers = if self.workers > 1 { stages.len() as f64 } else { 0.0 };
        let time_blocks = self.frames.div_ceil(frames) as f64;
        moved / workers / speed + time_blocks * (rows * matrices / far + step * ops + barrier * barriers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Schedule, ScheduleOptions};
    use rnnc_graph::{Activation, Connect, Graph, Init};
    use rnnc_plan::{Plan, PlanOptions, Residency};

    /// A core that fits 64 KiB into its cache, and has to move all else from far away.
    const FORGETFUL: Speeds =
        Speeds { values: [1e9, 1e-9, 1e-9], caches: (65536.0, 65536.0), ..Speeds::CORE };

    /// y = V h, a frame of h that is `delay` behind, h = tanh(W x + U h[t-1]).
    fn layers(delay: i64) -> Graph {
        let mut graph = Graph::new("layers");
        let x = graph.input("x", 32);
        let h = graph.sum("h", 32, Activation::Tanh);
        let y = graph.sum("y", 32, Activation::Tanh);
        for (name, from, to, delay) in [("W", x, h, 0), ("U", h, h, 1), ("V", h, y, delay)] {
            let weight = graph.weight(name, &[32, 32], Init::Uniform(0.1));
            graph.connect(from, to, Connect::full(weight).delay(delay));
        }
        graph.output("y", y);
        graph
    }

    /// A plan, and its schedule on such cores, for the plan's streams and frames.
    fn scheduled(graph: &Graph, options: PlanOptions, workers: usize, speeds: Speeds) -> (Plan, Schedule) {
        let plan = Plan::new(graph, options).unwrap();
        let PlanOptions { streams, frames, .. } = options;
        let schedule = Schedule::new(&plan, ScheduleOptions { workers, streams, frames, speeds });
        (plan, schedule)
    }

    #[test]
    fn a_loop_and_what_stands_beside_it_run_in_time_blocks_both_ways() {
        let options = PlanOptions::training(16, 256).with_input_gradients();
        let (plan, schedule) = scheduled(&layers(0), options, 1, FORGETFUL);
        let stages = |pass: &Pass| (0, pass.stages.len() - 1);
        let [forward] = &schedule.forward.time_blocks[..] else {
            panic!("{:?}", schedule.forward.time_blocks)
        };
        assert_eq!((forward.stages, forward.direction), (stages(&plan.forward_pass), Direction::Forward));
        let backward = schedule.backward.unwrap();
        let [time_block] = &backward.time_blocks[..] else { panic!("{:?}", backward.time_blocks) };
        let all = stages(plan.backward_pass.as_ref().unwrap());
        assert_eq!((time_block.stages, time_block.direction), (all, Direction::Backward));
        assert!(time_block.frames > 1 && time_block.frames < 256, "{time_block:?}");
    }

    #[test]
    fn what_needs_later_frames_x_what_makes_them() {
        let of = |delay| {
            let (_, schedule) = scheduled(&layers(delay), PlanOptions::inference(16, 256), 1, FORGETFUL);
            schedule.forward.time_blocks
        };
        let frames_before_the_loop = (0, 1);
        assert!(of(-1).iter().all(|time_block| time_block.stages == frames_before_the_loop), "{:?}", of(-1));
        assert!(of(1).iter().any(|time_block| time_block.stages.1 > 1), "{:?}", of(1));
    }

    #[test]
    fn of_what_nothing_else_reads_a_time_block_and_what_is_read_behind_it_are_kept() {
        let options = PlanOptions::training(16, 256);
        let roomy = Speeds { caches: (1e9, 1e9), ..Speeds::CORE };
        let [(plan, schedule), (_, whole)] =
            [FORGETFUL, roomy].map(|speeds| scheduled(&layers(0), options, 1, speeds));
        let time_block = &schedule.backward.as_ref().unwrap().time_blocks[0];
        let rings = |frames| schedule.residency(&plan, frames).rings;
        for &(buffer, frames) in &time_block.rings {
            let ring = &plan.buffers[buffer.0];
            assert!(ring.history == 0 && ring.lifetime.is_some() && !ring.saved, "{ring:?}");
            assert!(frames >= time_block.frames && frames < 256 && frames.is_power_of_two());
            assert_eq!(rings(256).get(&buffer), Some(&frames));
            assert_eq!(rings(frames).get(&buffer), None, "no window is shorter than its ring");
        }
        // The loop's errors are read a frame behind, those of y in the same frame.
        for behind in [false, true] {
            assert!(
                time_block.rings.iter().any(|(_, frames)| (*frames > time_block.frames) == behind),
                "{time_block:?}"
            );
        }
        assert!(whole.forward.time_blocks.is_empty(), "all of it is in a cache anyway");
        let bytes = |residency: &Residency| plan.place(16, 256, false, residency).total;
        let [blocks, whole] = [schedule, whole].map(|schedule| bytes(&schedule.residency(&plan, 256)));
        assert!(blocks < whole, "{blocks} and {whole}");
    }

    #[test]
    fn frames_of_a_recurrence_that_workers_share_out_are_in_no_time_block() {
        let mut graph = Graph::new("scan");
        let [x, f] = ["x", "f"].map(|name| graph.input(name, 16));
        let kept = graph.product("kept", 16, Activation::Identity);
        let h = graph.sum("h", 16, Activation::Identity);
        let y = graph.sum("y", 16, Activation::Tanh);
        let weight = graph.weight("V", &[16, 16], Init::Uniform(0.1));
        graph.connect(f, kept, Connect::identity());
        graph.connect(h, kept, Connect::identity().delay(1));
        graph.connect(kept, h, Connect::identity());
        graph.connect(x, h, Connect::identity());
        graph.connect(h, y, Connect::full(weight));
        graph.output("y", y);
        let of = |workers| scheduled(&graph, PlanOptions::inference(1, 4096), workers, FORGETFUL).1;
        let in_chunks = |schedule: &Schedule| schedule.partitions().any(|p| p == Partition::Time);
        assert!(in_chunks(&of(8)) && of(8).forward.time_blocks.is_empty());
        assert!(!in_chunks(&of(1)) && !of(1).forward.time_blocks.is_empty());
    }
}

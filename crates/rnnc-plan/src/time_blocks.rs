//! Time blocks: some frames at a time. Stages that follow each other run all for a time block before the next one, where none of them
//! needs frames that come later: what a stage writes, the next finds in a cache, however long the window is. (Of loops over
//! arrays, this is strip-mining.)
//!
//! What can run so follows from what jobs touch; into how many frames to cut, the executor says.

use crate::access::Access;
use crate::memory::for_each_touch;
use crate::pipelines;
use crate::plan::{BufferId, Partition, Pass, Plan, Stage, StageKind};
use rnnc_graph::Direction;

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
pub fn find(pass: &Pass, accesses: &[Vec<Access>]) -> Vec<TimeBlock> {
    let mut time_blocks: Vec<TimeBlock> = Vec::new();
    // Where it begins, and in which directions it can run as far as it goes.
    let mut open: (usize, Vec<Direction>) = (0, Vec::new());
    for (at, stage) in pass.stages.iter().enumerate() {
        let own =
            if pipelines::of_stage(&pass.pipelines, at).is_some() { Vec::new() } else { directions(stage) };
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

/// The time block that a stage is part of.
pub fn of_stage(time_blocks: &[TimeBlock], stage: usize) -> Option<&TimeBlock> {
    // They stand in the order of their stages.
    time_blocks
        .get(time_blocks.partition_point(|time_block| time_block.stages.1 < stage))
        .filter(|time_block| time_block.stages.0 <= stage)
}

/// The time blocks of both passes, with the number of the pass's first stage among those of both.
fn all(plan: &Plan) -> impl Iterator<Item = (usize, &TimeBlock)> {
    let backward = plan.backward_pass.iter().map(|pass| (plan.forward_pass.stages.len(), pass));
    let passes = std::iter::once((0, &plan.forward_pass)).chain(backward);
    passes.flat_map(|(first, pass)| pass.time_blocks.iter().map(move |time_block| (first, time_block)))
}

/// The levels (see [`Plan::levels`]) of the stages of each time block.
pub(crate) fn levels(plan: &Plan) -> Vec<(usize, usize)> {
    plan.levels_of(all(plan).map(|(first, time_block)| (first, time_block.stages)))
}

/// Finds the rings of each time block.
pub(crate) fn find_rings(plan: &mut Plan) {
    // Of each buffer, the first and the last stage that touches it, and the most frames that one is read behind another.
    let mut touched: Vec<Option<(usize, usize, usize)>> = vec![None; plan.buffers.len()];
    for (number, stage) in plan.stages().enumerate() {
        for_each_touch(stage, &mut |view, delay| {
            let (first, _, furthest) = touched[view.buffer.0].unwrap_or((number, number, 0));
            let delay = usize::try_from(delay.unsigned_abs()).unwrap_or(usize::MAX);
            touched[view.buffer.0] = Some((first, number, furthest.max(delay)));
        });
    }
    // In the order of their stages.
    let time_blocks: Vec<(usize, usize, usize)> = all(plan)
        .map(|(pass, time_block)| (pass + time_block.stages.0, pass + time_block.stages.1, time_block.frames))
        .collect();
    let mut rings: Vec<Vec<(BufferId, usize)>> = vec![Vec::new(); time_blocks.len()];
    for (place, buffer) in plan.buffers.iter().enumerate() {
        let Some((first, last, furthest)) = touched[place] else { continue };
        let time_block = time_blocks.partition_point(|&(_, end, _)| end < first);
        let Some(&(begin, end, frames)) = time_blocks.get(time_block) else { continue };
        // Without a lifetime it must outlive the stages.
        let fits = buffer.lifetime.is_some() && buffer.history == 0 && begin <= first && last <= end;
        let length = frames.checked_add(furthest).and_then(usize::checked_next_power_of_two);
        if let Some(length) = length.filter(|_| fits) {
            rings[time_block].push((BufferId(place), length));
        }
    }
    let passes = std::iter::once(&mut plan.forward_pass).chain(&mut plan.backward_pass);
    let time_blocks = passes.flat_map(|pass| &mut pass.time_blocks);
    time_blocks.zip(rings).for_each(|(time_block, rings)| time_block.rings = rings);
}

impl Plan {
    /// Of each buffer, how many frames of it are there at a time, in windows of so many, if it is a ring that is shorter.
    pub fn rings(&self, frames: usize) -> Vec<Option<usize>> {
        let mut rings = vec![None; self.buffers.len()];
        for &(ring, length) in
            all(self).flat_map(|(_, time_block)| &time_block.rings).filter(|ring| ring.1 < frames)
        {
            rings[ring.0] = Some(length);
        }
        rings
    }
}

/// The directions in which a stage can run in time blocks, as far as its steps say.
fn directions(stage: &Stage) -> Vec<Direction> {
    let fits = |direction: &Direction| match stage.kind {
        StageKind::Frames => true,
        // Those that are partitioned by chunks of frames have all at once.
        StageKind::Loop | StageKind::Scan => {
            stage.partition != Partition::Time && stage.tasks.iter().all(|task| task.direction == *direction)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Speeds;
    use crate::plan::PlanOptions;
    use rnnc_graph::{Activation, Connect, Graph, Init};

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

    fn plan(graph: &Graph, options: PlanOptions) -> Plan {
        let mut plan = Plan::new(graph, options).unwrap();
        plan.partition_stages_at(FORGETFUL);
        plan
    }

    #[test]
    fn a_loop_and_what_stands_beside_it_run_in_time_blocks_both_ways() {
        let plan = plan(&layers(0), PlanOptions::training(16, 256).with_input_gradients());
        let stages = |pass: &Pass| (0, pass.stages.len() - 1);
        let [forward] = &plan.forward_pass.time_blocks[..] else {
            panic!("{:?}", plan.forward_pass.time_blocks)
        };
        assert_eq!((forward.stages, forward.direction), (stages(&plan.forward_pass), Direction::Forward));
        let backward = plan.backward_pass.as_ref().unwrap();
        let [time_block] = &backward.time_blocks[..] else { panic!("{:?}", backward.time_blocks) };
        assert_eq!((time_block.stages, time_block.direction), (stages(backward), Direction::Backward));
        assert!(time_block.frames > 1 && time_block.frames < 256, "{time_block:?}");
    }

    #[test]
    fn what_needs_later_frames_is_in_no_strip_with_what_makes_them() {
        let of = |delay| plan(&layers(delay), PlanOptions::inference(16, 256)).forward_pass.time_blocks;
        let frames_before_the_loop = (0, 1);
        assert!(of(-1).iter().all(|time_block| time_block.stages == frames_before_the_loop), "{:?}", of(-1));
        assert!(of(1).iter().any(|time_block| time_block.stages.1 > 1), "{:?}", of(1));
    }

    #[test]
    fn of_what_nothing_else_reads_a_time_block_and_what_is_read_behind_it_are_kept() {
        let options = PlanOptions::training(16, 256);
        let roomy = Speeds { caches: (1e9, 1e9), ..Speeds::CORE };
        let [plan, whole] = [FORGETFUL, roomy].map(|speeds| {
            let mut plan = Plan::new(&layers(0), options).unwrap();
            plan.partition_stages_at(speeds);
            plan
        });
        let time_block = &plan.backward_pass.as_ref().unwrap().time_blocks[0];
        for &(buffer, frames) in &time_block.rings {
            let ring = &plan.buffers[buffer.0];
            assert!(ring.history == 0 && ring.lifetime.is_some() && !ring.saved, "{ring:?}");
            assert!(frames >= time_block.frames && frames < 256 && frames.is_power_of_two());
            assert_eq!(plan.rings(256)[buffer.0], Some(frames));
            assert_eq!(plan.rings(frames)[buffer.0], None, "no window is shorter than its ring");
        }
        // The loop's errors are read a frame behind, those of y in the same frame.
        for behind in [false, true] {
            assert!(
                time_block.rings.iter().any(|(_, frames)| (*frames > time_block.frames) == behind),
                "{time_block:?}"
            );
        }
        let buffers = |plan: &Plan| plan.memory(16, 256, false).buffers;
        assert!(whole.forward_pass.time_blocks.is_empty(), "all of it is in a cache anyway");
        assert!(buffers(&plan) < buffers(&whole), "{} and {}", buffers(&plan), buffers(&whole));
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
        let of = |workers| plan(&graph, PlanOptions { workers, ..PlanOptions::inference(1, 4096) });
        let partitions = |plan: &Plan| plan.stages().any(|stage| stage.partition == Partition::Time);
        assert!(partitions(&of(8)) && of(8).forward_pass.time_blocks.is_empty());
        assert!(!partitions(&of(1)) && !of(1).forward_pass.time_blocks.is_empty());
    }
}

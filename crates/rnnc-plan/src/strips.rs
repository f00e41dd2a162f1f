//! Strips: some frames at a time. Stages that follow each other run all for a strip before the next one, where none of them
//! needs frames that come later: what a stage writes, the next finds in a cache, however long the window is. (Of loops over
//! arrays, this is strip-mining.)
//!
//! What can run so follows from what jobs touch; into how many frames to cut, the executor says.

use crate::access::Access;
use crate::memory::for_each_touch;
use crate::plan::{BufferId, Deal, Pass, Plan, Stage, StageKind};
use crate::waves;
use rnnc_graph::Direction;

/// Stages that run strip after strip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strip {
    /// The first and the last stage.
    pub stages: (usize, usize),
    /// Frames of a strip.
    pub frames: usize,
    /// Of time, in which strips follow each other.
    pub direction: Direction,
    /// Buffers that are rings: of which so many frames, a power of two, are there at a time, since what these stages write
    /// nothing else reads. Frame t is in place t modulo that.
    pub rings: Vec<(BufferId, usize)>,
}

/// More jobs than these are not compared with each other.
const MOST_JOBS: usize = 256;

/// The stages of a pass that can run in strips: as many as can be, at least two together, and none of a wave. `accesses` are
/// those of each stage's jobs. In what is returned, a strip has all frames.
pub fn find(pass: &Pass, accesses: &[Vec<Access>]) -> Vec<Strip> {
    let mut strips: Vec<Strip> = Vec::new();
    // Where it begins, and in which directions it can run as far as it goes.
    let mut open: (usize, Vec<Direction>) = (0, Vec::new());
    for (at, stage) in pass.stages.iter().enumerate() {
        let own = if waves::of_stage(&pass.waves, at).is_some() { Vec::new() } else { directions(stage) };
        let from = |first: usize, known: &[Direction]| -> Vec<Direction> {
            let both = own.iter().filter(|direction| known.contains(direction));
            both.filter(|&&direction| joins(&accesses[first..=at], direction)).copied().collect()
        };
        let longer = from(open.0, &open.1);
        open = if longer.is_empty() { (at, from(at, &own)) } else { (open.0, longer) };
        let (first, Some(&direction)) = (open.0, open.1.first()) else { continue };
        if first < at {
            strips.pop_if(|strip| strip.stages.0 == first);
            strips.push(Strip { stages: (first, at), frames: usize::MAX, direction, rings: Vec::new() });
        }
    }
    strips
}

/// The strip that a stage is part of.
pub fn of_stage(strips: &[Strip], stage: usize) -> Option<&Strip> {
    // They stand in the order of their stages.
    strips.get(strips.partition_point(|strip| strip.stages.1 < stage)).filter(|strip| strip.stages.0 <= stage)
}

/// The strips of both passes, with the number of the pass's first stage among those of both.
fn all(plan: &Plan) -> impl Iterator<Item = (usize, &Strip)> {
    let backward = plan.backward_pass.iter().map(|pass| (plan.forward_pass.stages.len(), pass));
    let passes = std::iter::once((0, &plan.forward_pass)).chain(backward);
    passes.flat_map(|(first, pass)| pass.strips.iter().map(move |strip| (first, strip)))
}

/// The turns (see [`Plan::turns`]) of the stages of each strip.
pub(crate) fn turns(plan: &Plan) -> Vec<(usize, usize)> {
    plan.turns_of(all(plan).map(|(first, strip)| (first, strip.stages)))
}

/// Finds the rings of each strip.
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
    let strips: Vec<(usize, usize, usize)> =
        all(plan).map(|(pass, strip)| (pass + strip.stages.0, pass + strip.stages.1, strip.frames)).collect();
    let mut rings: Vec<Vec<(BufferId, usize)>> = vec![Vec::new(); strips.len()];
    for (place, buffer) in plan.buffers.iter().enumerate() {
        let Some((first, last, furthest)) = touched[place] else { continue };
        let strip = strips.partition_point(|&(_, end, _)| end < first);
        let Some(&(begin, end, frames)) = strips.get(strip) else { continue };
        // Without a lifetime it must outlive the stages.
        let fits = buffer.lifetime.is_some() && buffer.history == 0 && begin <= first && last <= end;
        let length = frames.checked_add(furthest).and_then(usize::checked_next_power_of_two);
        if let Some(length) = length.filter(|_| fits) {
            rings[strip].push((BufferId(place), length));
        }
    }
    let passes = std::iter::once(&mut plan.forward_pass).chain(&mut plan.backward_pass);
    let strips = passes.flat_map(|pass| &mut pass.strips);
    strips.zip(rings).for_each(|(strip, rings)| strip.rings = rings);
}

impl Plan {
    /// Of each buffer, how many frames of it are there at a time, in windows of so many, if it is a ring that is shorter.
    pub fn rings(&self, frames: usize) -> Vec<Option<usize>> {
        let mut rings = vec![None; self.buffers.len()];
        for &(ring, length) in all(self).flat_map(|(_, strip)| &strip.rings).filter(|ring| ring.1 < frames) {
            rings[ring.0] = Some(length);
        }
        rings
    }
}

/// The directions in which a stage can run in strips, as far as its steps say.
fn directions(stage: &Stage) -> Vec<Direction> {
    let fits = |direction: &Direction| match stage.kind {
        StageKind::Frames => true,
        // Those that are dealt by chunks of frames have all at once.
        StageKind::Loop | StageKind::Scan => {
            stage.deal != Deal::Chunks && stage.tracks.iter().all(|track| track.direction == *direction)
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
    use crate::deal::Speeds;
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
        plan.deal_out_at(FORGETFUL);
        plan
    }

    #[test]
    fn a_loop_and_what_stands_beside_it_run_in_strips_both_ways() {
        let plan = plan(&layers(0), PlanOptions::training(16, 256).with_input_gradients());
        let stages = |pass: &Pass| (0, pass.stages.len() - 1);
        let [forward] = &plan.forward_pass.strips[..] else { panic!("{:?}", plan.forward_pass.strips) };
        assert_eq!((forward.stages, forward.direction), (stages(&plan.forward_pass), Direction::Forward));
        let backward = plan.backward_pass.as_ref().unwrap();
        let [strip] = &backward.strips[..] else { panic!("{:?}", backward.strips) };
        assert_eq!((strip.stages, strip.direction), (stages(backward), Direction::Backward));
        assert!(strip.frames > 1 && strip.frames < 256, "{strip:?}");
    }

    #[test]
    fn what_needs_later_frames_is_in_no_strip_with_what_makes_them() {
        let of = |delay| plan(&layers(delay), PlanOptions::inference(16, 256)).forward_pass.strips;
        let frames_before_the_loop = (0, 1);
        assert!(of(-1).iter().all(|strip| strip.stages == frames_before_the_loop), "{:?}", of(-1));
        assert!(of(1).iter().any(|strip| strip.stages.1 > 1), "{:?}", of(1));
    }

    #[test]
    fn of_what_nothing_else_reads_a_strip_and_what_is_read_behind_it_are_kept() {
        let options = PlanOptions::training(16, 256);
        let roomy = Speeds { caches: (1e9, 1e9), ..Speeds::CORE };
        let [plan, whole] = [FORGETFUL, roomy].map(|speeds| {
            let mut plan = Plan::new(&layers(0), options).unwrap();
            plan.deal_out_at(speeds);
            plan
        });
        let strip = &plan.backward_pass.as_ref().unwrap().strips[0];
        for &(buffer, frames) in &strip.rings {
            let ring = &plan.buffers[buffer.0];
            assert!(ring.history == 0 && ring.lifetime.is_some() && !ring.saved, "{ring:?}");
            assert!(frames >= strip.frames && frames < 256 && frames.is_power_of_two());
            assert_eq!(plan.rings(256)[buffer.0], Some(frames));
            assert_eq!(plan.rings(frames)[buffer.0], None, "no window is shorter than its ring");
        }
        // The loop's errors are read a frame behind, those of y in the same frame.
        for behind in [false, true] {
            assert!(strip.rings.iter().any(|(_, frames)| (*frames > strip.frames) == behind), "{strip:?}");
        }
        let buffers = |plan: &Plan| plan.memory(16, 256, false).buffers;
        assert!(whole.forward_pass.strips.is_empty(), "all of it is in a cache anyway");
        assert!(buffers(&plan) < buffers(&whole), "{} and {}", buffers(&plan), buffers(&whole));
    }

    #[test]
    fn frames_of_a_recurrence_that_workers_share_out_are_in_no_strip() {
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
        let deals = |plan: &Plan| plan.stages().any(|stage| stage.deal == Deal::Chunks);
        assert!(deals(&of(8)) && of(8).forward_pass.strips.is_empty());
        assert!(!deals(&of(1)) && !of(1).forward_pass.strips.is_empty());
    }
}

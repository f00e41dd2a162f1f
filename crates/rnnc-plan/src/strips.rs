//! Strips: some frames at a time. Stages that follow each other run all for a strip before the next one, where none of them
//! needs frames that come later: what a stage writes, the next finds in a cache, however long the window is. (Of loops over
//! arrays, this is strip-mining.)
//!
//! What can run so follows from what jobs touch; into how many frames to cut, the executor says.

use crate::access::Access;
use crate::plan::{Deal, Pass, Plan, Stage, StageKind};
use crate::waves;
use rnnc_graph::Direction;
use serde::Serialize;

/// Stages that run strip after strip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Strip {
    /// The first and the last stage.
    pub stages: (usize, usize),
    /// Frames of a strip.
    pub frames: usize,
    /// Of time, in which strips follow each other.
    #[serde(skip)]
    pub direction: Direction,
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
            strips.retain(|strip| strip.stages.0 != first);
            strips.push(Strip { stages: (first, at), frames: usize::MAX, direction });
        }
    }
    strips
}

/// The strip that a stage is part of.
pub fn of_stage(strips: &[Strip], stage: usize) -> Option<&Strip> {
    strips.iter().find(|strip| (strip.stages.0..=strip.stages.1).contains(&stage))
}

/// The turns (see [`Plan::turns`]) of the stages of each strip.
pub(crate) fn turns(plan: &Plan) -> Vec<(usize, usize)> {
    let turns = plan.turns();
    let passes = [
        Some((0, &plan.forward_pass)),
        plan.backward_pass.as_ref().map(|pass| (plan.forward_pass.stages.len(), pass)),
    ];
    let strips =
        passes.into_iter().flatten().flat_map(|(first, pass)| pass.strips.iter().map(move |s| (first, s)));
    strips.map(|(first, strip)| (turns[first + strip.stages.0], turns[first + strip.stages.1])).collect()
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

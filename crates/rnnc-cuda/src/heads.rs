//! Loops whose heads never meet: as one loop, or as several of some heads each, that run side by side and exchange nothing,
//! whichever is predicted to be faster. All that is compiled, or explained, is a plan with that choice made.

use crate::device::Device;
use crate::stages::step::shares;
use rnnc_plan::{Deal, Pass, Plan, Setup, Stage, StageKind, Track};
use std::borrow::Cow;

/// The most parts of a loop: as many as there are lanes for.
const MOST_PARTS: usize = 8;

/// The plan as it runs on a device.
pub(crate) fn choose<'a>(plan: &'a Plan, setup: Setup, device: &Device) -> Cow<'a, Plan> {
    let never_meet = |track: &Track| track.heads > 1 && track.barriers_per_step(Deal::Heads) == 0;
    let has_heads = |stage: &Stage| stage.kind == StageKind::Loop && stage.tracks.iter().any(never_meet);
    if !plan.stages().any(has_heads) {
        return Cow::Borrowed(plan);
    }
    let mut plan = plan.clone();
    let part = |pass: &mut Pass| {
        for stage in pass.stages.iter_mut().filter(|stage| has_heads(stage)) {
            stage.tracks = fastest(std::mem::take(&mut stage.tracks), setup, device);
        }
    };
    std::iter::once(&mut plan.forward_pass).chain(&mut plan.backward_pass).for_each(part);
    debug_assert_eq!(plan.verify(), Ok(()));
    Cow::Owned(plan)
}

/// The loops of a stage, in parts if that is faster.
fn fastest(tracks: Vec<Track>, setup: Setup, device: &Device) -> Vec<Track> {
    let time = |tracks: &[Track]| {
        let loops = shares::choose(&tracks.iter().collect::<Vec<_>>(), setup, device);
        shares::time(&loops) + device.rates.launch_us * tracks.len() as f64
    };
    let in_parts = |most: usize| -> Vec<Track> {
        let parted = |track: &Track| {
            let parts = (2..=most).rev().find(|&parts| track.heads.is_multiple_of(parts));
            parts.and_then(|parts| track.parted(parts)).unwrap_or_else(|| vec![track.clone()])
        };
        tracks.iter().flat_map(parted).collect()
    };
    let mut best = (time(&tracks), None);
    for most in 2..=MOST_PARTS {
        let parted = in_parts(most);
        let us = time(&parted);
        if us < best.0 {
            best = (us, Some(parted));
        }
    }
    best.1.unwrap_or(tracks)
}

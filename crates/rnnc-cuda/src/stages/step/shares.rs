//! How many multiprocessors each loop of a stage gets: loops that do not depend on each other run side by side, where that
//! is predicted to be faster than one after the other on the whole device.

use super::layout::Layout;
use super::track::weights;
use crate::device::Device;
use rnnc_plan::{Setup, Track};

/// A loop's layout, and where it stands among the loops of its stage.
#[derive(Clone, Debug)]
pub struct Share {
    /// Its layout.
    pub layout: Layout,
    /// Loops of one turn run side by side; turns follow each other.
    pub turn: usize,
    /// Predicted microseconds of a window.
    pub us: f64,
}

/// Predicted microseconds of a window.
pub fn time(shares: &[Share]) -> f64 {
    let longest = |turn: &[Share]| turn.iter().map(|share| share.us).fold(0.0, f64::max);
    shares.chunk_by(|a, b| a.turn == b.turn).map(longest).sum()
}

/// The layouts of loops that do not depend on each other.
pub fn choose(tracks: &[&Track], setup: Setup, device: &Device) -> Vec<Share> {
    let mut best = in_turns(tracks, 1, setup, device);
    let mut beside = 2;
    while beside < 2 * tracks.len() && beside <= device.multiprocessors {
        let found = in_turns(tracks, beside.min(tracks.len()), setup, device);
        if time(&found) < time(&best) {
            best = found;
        }
        beside *= 2;
    }
    best
}

/// So many at a time.
fn in_turns(tracks: &[&Track], at_once: usize, setup: Setup, device: &Device) -> Vec<Share> {
    let turns = tracks.chunks(at_once).enumerate();
    turns
        .flat_map(|(turn, tracks)| {
            beside(tracks, setup, device).into_iter().map(move |share| Share { turn, ..share })
        })
        .collect()
}

/// The layouts of loops that run side by side, each with multiprocessors by its work: no more than the device has, of as
/// many loops.
pub fn beside(tracks: &[&Track], setup: Setup, device: &Device) -> Vec<Share> {
    let all: f64 = tracks.iter().map(|track| work(track)).sum();
    // One each, the rest by work.
    let rest = device.multiprocessors.saturating_sub(tracks.len()) as f64;
    let share = |&track: &&Track| {
        let most = match tracks.len() {
            1 => device.multiprocessors,
            _ => 1 + (rest * work(track) / all) as usize,
        };
        let layout = Layout::choose(track, setup, device, most);
        let us = predicted(track, &layout, setup, device);
        Share { layout, turn: 0, us }
    };
    tracks.iter().map(share).collect()
}

/// What a frame takes, relative to other loops': weights count, and each loop has some work beside.
fn work(track: &Track) -> f64 {
    (1 + weights(track)) as f64
}

/// Predicted microseconds of a loop over a window.
fn predicted(track: &Track, layout: &Layout, setup: Setup, device: &Device) -> f64 {
    layout.frame_time(device) * steps(track, setup) as f64
}

/// Steps of a loop over a window.
pub fn steps(track: &Track, setup: Setup) -> usize {
    setup.window.div_ceil(track.block.clamp(1, setup.window.max(1)))
}

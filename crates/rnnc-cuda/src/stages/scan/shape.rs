//! How a recurrence is spread over a device: a thread for each lane where there are lanes enough, else in chunks of
//! frames, many at once.
//!
//! What is compared is a prediction. A recurrence moves 4 bytes a lane and frame for each value it loads and stores, in
//! either shape the same and each once: a copy of as many bytes is its bound. (The recurrence c = f c[t-1] + z moves 12,
//! as much as a copy of one and a half numbers; the state between chunks adds a number or two to every chunk.) Beside it
//! stand latencies: in order, one for each tile of frames; in chunks, one for each chunk that waits for the state of the
//! chunk before, and a few more. The latencies below are estimates; no scan was timed yet.

use crate::device::Device;

/// How lanes and frames are shared out among threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A thread runs all frames of a lane, `tile` frames at a time, and loads the next meanwhile.
    Ordered { tile: usize },
    /// A block runs a chunk of frames of `lanes` lanes; each of its threads `tile` frames of one.
    Chunked { lanes: usize, tile: usize },
}

/// What is to be spread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub lanes: usize,
    pub frames: usize,
    /// Numbers loaded and stored in a frame of a lane.
    pub loads: usize,
    pub stores: usize,
    /// Whether it can run in chunks.
    pub affine: bool,
}

/// The most threads of a multiprocessor at once, as many registers as a tile takes.
const RESIDENT_THREADS: usize = 512;
/// Microseconds from a load, with nothing under way, to its use and on.
const LATENCY_US: f64 = 1.0;
/// Microseconds of a round of the scan within a block.
const ROUND_US: f64 = 0.05;
/// How much of the shorter of moving and waiting is not hidden behind the longer.
const APART: f64 = 0.25;
/// Of a multiprocessor's even share of the bandwidth of memory, how much more it can use alone.
const ALONE: f64 = 2.0;

impl Shape {
    /// Blocks of `threads` threads that a recurrence takes.
    pub fn blocks(self, work: &Work, threads: usize) -> usize {
        match self {
            Shape::Ordered { .. } => work.lanes.div_ceil(threads),
            Shape::Chunked { lanes, .. } => work.lanes.div_ceil(lanes) * self.chunks(work, threads),
        }
    }

    /// Chunks of a window.
    pub fn chunks(self, work: &Work, threads: usize) -> usize {
        match self {
            Shape::Ordered { .. } => 1,
            Shape::Chunked { lanes, tile } => work.frames.div_ceil(threads / lanes * tile),
        }
    }

    /// The microseconds that a recurrence is predicted to take, apart from the launch.
    pub fn predicted_us(self, work: &Work, threads: usize, device: &Device) -> f64 {
        let blocks = self.blocks(work, threads);
        let numbers = work.lanes as f64 * work.frames as f64 * (work.loads + work.stores) as f64;
        let used = (blocks as f64 * ALONE / device.multiprocessors as f64).min(1.0);
        let moving = numbers * 4.0 / (device.rates.memory_tbs * 1e6 * used);
        let resident = device.multiprocessors * (RESIDENT_THREADS / threads).max(1);
        let turns = blocks.div_ceil(resident) as f64;
        match self {
            Shape::Ordered { tile } => {
                LATENCY_US + moving.max(turns * work.frames.div_ceil(tile) as f64 * LATENCY_US)
            }
            Shape::Chunked { lanes, .. } => {
                let waits = (self.chunks(work, threads) - 1) as f64 * device.rates.frame_us[2];
                let rounds = f64::from((threads / lanes).max(1).ilog2()) * ROUND_US;
                let turns = (turns - 1.0) * 2.0 * LATENCY_US;
                2.0 * LATENCY_US + rounds + moving.max(waits).max(turns) + APART * moving.min(waits)
            }
        }
    }

    /// Shapes worth a thought for blocks of `threads` threads.
    fn candidates(work: &Work, threads: usize) -> Vec<Shape> {
        // A tile in order is loaded while the one before is computed, so there are two.
        let ordered = [8, 4, 2].into_iter().find(|tile| *tile == 2 || tile * work.loads <= 32).unwrap_or(2);
        let mut shapes = vec![Shape::Ordered { tile: ordered }];
        if work.affine {
            // Lanes side by side fill whole lines of memory, or at least its sectors of 32 bytes.
            let most = work.lanes.next_power_of_two().min(32).min(threads);
            // Tiles that leave a thread registers enough.
            let tiles = [16, 8, 4].into_iter().filter(|tile| *tile == 4 || tile * work.loads <= 64);
            for tile in tiles {
                let lanes =
                    [most, most / 2, most / 4].into_iter().filter(|&lanes| lanes == most || lanes >= 8);
                shapes.extend(lanes.map(|lanes| Shape::Chunked { lanes, tile }));
            }
        }
        shapes
    }

    /// The threads of a block, and a shape for each of the recurrences that run side by side in one kernel.
    pub fn choose(works: &[Work], device: &Device) -> (usize, Vec<Shape>) {
        let mut best: Option<(f64, usize, Vec<Shape>)> = None;
        for threads in [32, 64, 128, 256, 512] {
            let (mut total, mut shapes) = (0.0, Vec::new());
            for work in works {
                let predicted = |shape: Shape| (shape.predicted_us(work, threads, device), shape);
                let candidates = Shape::candidates(work, threads).into_iter().map(predicted);
                let best = candidates.reduce(|a, b| if b.0 < a.0 { b } else { a });
                // There is always the order of frames.
                let (us, shape) = best.unwrap_or((0.0, Shape::Ordered { tile: 2 }));
                total += us;
                shapes.push(shape);
            }
            if best.as_ref().is_none_or(|(least, ..)| total < *least) {
                best = Some((total, threads, shapes));
            }
        }
        best.map_or((64, Vec::new()), |(_, threads, shapes)| (threads, shapes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(lanes: usize, frames: usize) -> (usize, Shape) {
        let device = Device::named("h200").expect("it is known");
        let work = Work { lanes, frames, loads: 3, stores: 1, affine: true };
        let (threads, shapes) = Shape::choose(&[work], &device);
        (threads, shapes[0])
    }

    #[test]
    fn few_lanes_and_many_frames_go_in_chunks() {
        for (lanes, frames) in [(1, 1024), (1024, 1024), (1, 65_536), (512, 65_536)] {
            let (_, shape) = chosen(lanes, frames);
            assert!(matches!(shape, Shape::Chunked { .. }), "{lanes} lanes, {frames} frames: {shape:?}");
        }
    }

    #[test]
    fn lanes_enough_go_frame_by_frame() {
        for (lanes, frames) in [(1, 1), (1024, 8), (1 << 20, 64)] {
            let (_, shape) = chosen(lanes, frames);
            assert!(matches!(shape, Shape::Ordered { .. }), "{lanes} lanes, {frames} frames: {shape:?}");
        }
    }

    #[test]
    fn what_is_not_affine_goes_frame_by_frame() {
        let device = Device::named("h200").expect("it is known");
        let work = Work { lanes: 1, frames: 65_536, loads: 3, stores: 1, affine: false };
        assert!(matches!(Shape::choose(&[work], &device).1[..], [Shape::Ordered { .. }]));
    }

    #[test]
    fn chunks_cover_all_frames_of_all_lanes() {
        for lanes in [1, 3, 31, 32, 33, 1000] {
            for frames in [1, 2, 17, 1024, 5000] {
                let work = Work { lanes, frames, loads: 9, stores: 2, affine: true };
                for threads in [32, 64, 512] {
                    for shape in Shape::candidates(&work, threads) {
                        let Shape::Chunked { lanes: tile_lanes, tile } = shape else { continue };
                        assert_eq!(threads % tile_lanes, 0);
                        let columns = lanes.div_ceil(tile_lanes);
                        let chunk = threads / tile_lanes * tile;
                        let chunks = shape.blocks(&work, threads) / columns;
                        assert!(chunks * chunk >= frames && (chunks - 1) * chunk < frames);
                    }
                }
            }
        }
    }

    #[test]
    fn waits_that_cost_nothing_make_chunks_short() {
        let mut device = Device::named("h200").expect("it is known");
        device.rates.frame_us[2] = 0.0;
        let work = Work { lanes: 8, frames: 64, loads: 3, stores: 1, affine: true };
        let (threads, shapes) = Shape::choose(&[work], &device);
        assert!(shapes[0].chunks(&work, threads) > 1, "{threads} {shapes:?}");
    }
}

//! What a machine can do at most: arithmetic of products, and bytes from caches and memory, measured in half a second.
//!
//! All workers measure side by side, each on its own numbers, so that what they share (caches, memory, clocks)
//! is shared as in a run. Of several tries the best counts: what else the machine did meanwhile is not a limit.

#![allow(unsafe_code)] // the kernels take raw rows

use crate::kernels::isa::Isa;
use crate::kernels::pack::{pack, packed_len};
use crate::kernels::{elementwise, skinny};
use crate::team::Team;
use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Speeds of some threads together.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Threads that worked side by side.
    pub threads: usize,
    /// Floating-point operations a second of a large product: 192 rows a thread, 512 inputs, 1024 outputs, with packed
    /// weights.
    pub product: f64,
    /// The same of a product of few rows with packed weights that the second-level cache holds; the best of 4, 8 and 16
    /// rows.
    pub packed_product: f64,
    /// Reading, by how much each thread reads again and again.
    pub read: Vec<Bandwidth>,
    /// Copying: bytes read and bytes written, both counted; by how much they are together.
    pub copy: Vec<Bandwidth>,
}

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    /// Of each thread.
    pub bytes: usize,
    /// Of all threads.
    pub bytes_per_second: f64,
}

/// Bytes of a thread, from the smallest to the largest.
const SIZES: std::ops::RangeInclusive<u32> = 14..=25;

/// Tries of each measurement: short ones, between which others may have their turns.
const TRIES: usize = 12;

/// Bytes that each thread moves in a try, at least.
const MOVED: usize = 4 << 20;

/// How long a try of a product takes, at least.
const PRODUCTS: Duration = Duration::from_millis(1);

impl Machine {
    /// Measures, with so many threads (0: as many as the process may use).
    ///
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub fn measure(isa: Isa, threads: usize) -> std::io::Result<Machine> {
        let mut team = Team::new(threads)?;
        let sizes = || SIZES.map(|bits| 1usize << bits);
        let moved = |bytes: usize| MOVED.div_ceil(bytes);
        // Each worker keeps its numbers, which lie in the memory nearest to it.
        let most = 1usize << SIZES.end();
        let numbers: Vec<Mutex<Vec<f32>>> = (0..team.size()).map(|_| Mutex::default()).collect();
        let mut bandwidth = |copy: bool| {
            sizes()
                .map(|bytes| {
                    let (half, times) = (bytes / 8, moved(bytes));
                    let seconds = best(&mut team, times, |index, times| {
                        // Its own worker is the only one to take it.
                        let Ok(mut numbers) = numbers[index].lock() else { return };
                        numbers.resize(most / 4, 0.5);
                        let (to, from) = numbers[..2 * half].split_at_mut(half);
                        for _ in 0..times {
                            if copy {
                                black_box(&mut *to).copy_from_slice(black_box(from));
                            } else {
                                black_box(elementwise::dot(isa, black_box(to), from));
                            }
                        }
                    });
                    Bandwidth { bytes, bytes_per_second: bytes as f64 * numbers.len() as f64 / seconds }
                })
                .collect::<Vec<_>>()
        };
        let (read, copy) = (bandwidth(false), bandwidth(true));
        let packed = [4, 8, 16].map(|rows| product::<16>(&mut team, isa, rows, 128, 256));
        Ok(Machine {
            threads: team.size(),
            product: product::<192>(&mut team, isa, 192, 512, 1024),
            packed_product: packed.into_iter().fold(0.0, f64::max),
            read,
            copy,
        })
    }

    /// Bytes a second that all threads read of `bytes` that they share out, again and again: of the largest measured
    /// size that is not larger.
    pub fn reading(&self, bytes: u64) -> f64 {
        at(&self.read, bytes / self.threads as u64)
    }

    /// Bytes a second of values that are read and written, `bytes` in all.
    pub fn copying(&self, bytes: u64) -> f64 {
        at(&self.copy, bytes / self.threads as u64)
    }
}

fn at(curve: &[Bandwidth], bytes: u64) -> f64 {
    let larger = curve.iter().position(|point| point.bytes as u64 > bytes).unwrap_or(curve.len());
    curve.get(larger.saturating_sub(1)).map_or(f64::INFINITY, |point| point.bytes_per_second)
}

/// The seconds of one time, in the fastest of some tries; `work` does it as often as it is told. All workers begin
/// together, and the last one's end counts. The first try, which meets memory for the first time, does not.
fn best(team: &mut Team, times: usize, work: impl Fn(usize, usize) + Sync) -> f64 {
    let fastest = Mutex::new(f64::INFINITY);
    team.run(&|worker| {
        for attempt in 0..=TRIES {
            worker.barrier();
            let begun = Instant::now();
            work(worker.index, times);
            worker.barrier();
            let seconds = begun.elapsed().as_secs_f64();
            if worker.index == 0
                && attempt > 0
                && let Ok(mut fastest) = fastest.lock()
            {
                *fastest = fastest.min(seconds);
            }
        }
    });
    fastest.into_inner().unwrap_or(f64::INFINITY) / times as f64
}

/// Floating-point operations a second, on all workers, of work that has so many each time. Each worker writes `numbers` of
/// its own.
fn flops(team: &mut Team, each: usize, numbers: usize, work: impl Fn(&mut [f32]) + Sync) -> f64 {
    let outs: Vec<Mutex<Vec<f32>>> = (0..team.size()).map(|_| Mutex::new(vec![0.0; numbers])).collect();
    let repeat = |index: usize, times: usize| {
        // Its own worker is the only one to take it.
        let Ok(mut out) = outs[index].lock() else { return };
        (0..times).for_each(|_| work(black_box(&mut out)));
    };
    // One time tells how many fill a try.
    let once = best(team, 1, repeat);
    let times = (PRODUCTS.as_secs_f64() / once).ceil().clamp(1.0, 1e6) as usize;
    (each * team.size()) as f64 / best(team, times, repeat).min(once)
}

/// Floating-point operations a second of a product of so many rows with packed weights, SOME rows at a time.
fn product<const SOME: usize>(team: &mut Team, isa: Isa, rows: usize, inputs: usize, outputs: usize) -> f64 {
    let (w, x) = (vec![0.5f32; outputs * inputs], vec![0.5f32; rows * inputs]);
    let len = packed_len::<f32>(outputs, inputs);
    let mut room = vec![0.0f32; len + 16];
    // On a cache line, as the executor has it.
    let start = room.as_ptr().align_offset(64).min(16);
    let packed = &mut room[start..start + len];
    pack(isa, &w, inputs, 1, outputs, inputs, packed);
    let packed: &[f32] = packed;
    flops(team, 2 * rows * inputs * outputs, rows * outputs, |out| {
        for (x, out) in x.chunks(SOME * inputs).zip(out.chunks_mut(SOME * outputs)) {
            let (mut from, mut to) = ([std::ptr::null(); SOME], [std::ptr::null_mut(); SOME]);
            let mut count = 0;
            for (x, out) in x.chunks_exact(inputs).zip(out.chunks_exact_mut(outputs)) {
                (from[count], to[count]) = (x.as_ptr(), out.as_mut_ptr());
                count += 1;
            }
            // SAFETY: the weights are packed for these outputs and inputs, and so long are the rows; `out` is this
            // worker's.
            unsafe {
                skinny::skinny(isa, packed.as_ptr(), outputs, inputs, &from[..count], &to[..count], false);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bandwidth_is_that_of_the_largest_size_that_is_not_larger() {
        let curve = [(16, 4.0), (32, 2.0), (64, 1.0)]
            .map(|(bytes, bytes_per_second)| Bandwidth { bytes, bytes_per_second });
        let found = [0, 16, 31, 32, 64, 1000].map(|bytes| at(&curve, bytes));
        assert_eq!(found, [4.0, 4.0, 4.0, 2.0, 1.0, 1.0]);
    }

    #[test]
    fn every_speed_of_this_machine_is_found() {
        let machine = Machine::measure(Isa::detect(), 2).unwrap();
        let curves = [&machine.read, &machine.copy];
        let speeds = curves.into_iter().flatten().map(|point| point.bytes_per_second);
        for speed in speeds.chain([machine.product, machine.packed_product]) {
            assert!(speed.is_finite() && speed > 1e6, "{machine:?}");
        }
        assert_eq!(machine.threads, 2);
    }
}

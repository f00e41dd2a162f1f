//! Which jobs of a pass run side by side: what each must wait for follows from what it reads and writes, and its lane from
//! predicted times.

use crate::device::Device;
use crate::program::{Command, Frames, Job, Needs};
use rnnc_plan::access::{Access, Chunk, Lying};

/// A job, and what must be known of it to find its lane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    pub commands: Vec<Command>,
    pub access: Access,
    /// Numbers of scratch.
    pub scratch: usize,
    /// Predicted microseconds.
    pub us: f64,
    /// How many multiprocessors it can keep busy.
    pub wide: usize,
    /// Blocks that wait for each other in device memory, and so must all be resident at once.
    pub waiting: usize,
    /// See [`Job`].
    pub stage: Option<usize>,
    pub frames: Frames,
    pub needs: Needs,
    /// Where it stands in a pipeline.
    pub chunk: Option<Chunk>,
    /// Whether all that follow wait for it: it writes what they take for weights.
    pub before_all: bool,
}

impl Draft {
    fn in_lane(self, lane: usize, after: Vec<usize>) -> Job {
        let Draft { commands, stage, frames, needs, .. } = self;
        Job { commands, lane, after, stage, frames, needs }
    }

    fn overlaps(&self, other: &Draft, lying: &Lying) -> bool {
        self.before_all || self.access.overlaps(self.chunk, &other.access, other.chunk, lying)
    }
}

/// The most lanes.
const MOST_LANES: usize = 8;

/// What it takes one lane to wait for another, in launches.
const JOINS: f64 = 2.5;

/// More jobs than these are not compared with each other, but run one after the other: then nothing here takes more than a
/// time linear in them. Up to these, all pairs are looked at, and an [`Order`] has a bit for each. At the most that is 0.5 s,
/// of a chain of 2,000 dense layers on a core that two other programs wanted, where NVRTC takes some seconds; a chain of
/// 100,000 takes 15 us a layer in all (`scaling -- 1000,2000,4000,99990 "dense chain" cuda`).
const MOST_JOBS: usize = 4096;

/// Which jobs each comes behind, directly or not.
struct Order {
    words: usize,
    before: Vec<u64>,
}

impl Order {
    fn new(jobs: usize) -> Order {
        let words = jobs.div_ceil(64);
        Order { words, before: vec![0; words * jobs] }
    }

    fn is_before(&self, earlier: usize, job: usize) -> bool {
        self.before[job * self.words + earlier / 64] >> (earlier % 64) & 1 == 1
    }

    fn add(&mut self, earlier: usize, job: usize) {
        let (old, new) = self.before.split_at_mut(job * self.words);
        new[earlier / 64] |= 1 << (earlier % 64);
        let earlier = &old[earlier * self.words..][..self.words];
        new.iter_mut().zip(earlier).for_each(|(new, old)| *new |= old);
    }
}

/// Deals jobs to lanes. Returns them, and how many numbers of scratch each lane needs.
pub(crate) fn assign(drafts: Vec<Draft>, lying: &Lying, device: &Device) -> (Vec<Job>, Vec<usize>) {
    if drafts.len() > MOST_JOBS {
        let scratch = drafts.iter().map(|draft| draft.scratch).max().unwrap_or(0);
        return (drafts.into_iter().map(|draft| draft.in_lane(0, Vec::new())).collect(), vec![scratch]);
    }
    let needs = needs(&drafts, lying, device.multiprocessors);
    let lanes = lanes(&drafts, &needs, device);
    let mut scratch = vec![0; lanes.iter().max().map_or(1, |&last| last + 1)];
    let mut order = Order::new(drafts.len());
    let mut last = vec![None; scratch.len()];
    let mut jobs = Vec::new();
    for (number, draft) in drafts.into_iter().enumerate() {
        let lane = lanes[number];
        scratch[lane] = scratch[lane].max(draft.scratch);
        if let Some(before) = last[lane].replace(number) {
            order.add(before, number);
        }
        // The latest first: it may come behind the others.
        let mut after = Vec::new();
        for &earlier in needs[number].iter().rev() {
            if !order.is_before(earlier, number) {
                order.add(earlier, number);
                after.push(earlier);
            }
        }
        jobs.push(draft.in_lane(lane, after));
    }
    (jobs, scratch)
}

/// The earlier jobs that each must wait for, but those that others of them wait for already.
fn needs(drafts: &[Draft], lying: &Lying, multiprocessors: usize) -> Vec<Vec<usize>> {
    let mut order = Order::new(drafts.len());
    let mut all: Vec<Vec<usize>> = Vec::new();
    for (number, draft) in drafts.iter().enumerate() {
        let mut needs = Vec::new();
        for earlier in (0..number).rev() {
            if !order.is_before(earlier, number) && drafts[earlier].overlaps(draft, lying) {
                order.add(earlier, number);
                needs.push(earlier);
            }
        }
        // Blocks that wait for each other must fit beside all others that do. Of jobs in a row one runs at a time: of
        // each row, its first job, and the most blocks.
        let mut beside: Vec<(usize, usize)> = Vec::new();
        for earlier in (0..number).rev() {
            let waiting = drafts[earlier].waiting;
            if draft.waiting == 0 || waiting == 0 || order.is_before(earlier, number) {
                continue;
            }
            let row = beside.iter().position(|&(first, _)| order.is_before(earlier, first));
            let more = waiting.saturating_sub(row.map_or(0, |row| beside[row].1));
            let all: usize = beside.iter().map(|(_, blocks)| blocks).sum();
            if all + more + draft.waiting > multiprocessors {
                order.add(earlier, number);
                needs.push(earlier);
                continue;
            }
            match row {
                Some(row) => beside[row] = (earlier, beside[row].1 + more),
                None => beside.push((earlier, waiting)),
            }
        }
        needs.sort_unstable();
        all.push(needs);
    }
    all
}

/// The lane of each job: where it can begin first. Jobs that fill the device gain nothing from others beside them.
fn lanes(drafts: &[Draft], needs: &[Vec<usize>], device: &Device) -> Vec<usize> {
    let join_us = JOINS * device.rates.launch_us;
    let mut ends: Vec<f64> = Vec::new();
    let mut lanes: Vec<usize> = Vec::new();
    // When each lane, and the whole device, is free.
    let (mut free, mut whole) = (vec![0.0f64], 0.0f64);
    for (draft, needs) in drafts.iter().zip(needs) {
        let fills = draft.wide * 2 > device.multiprocessors;
        let begin = |lane: usize| {
            let joined = |&need: &usize| ends[need] + if lanes[need] == lane { 0.0 } else { join_us };
            let ready = needs.iter().map(joined).fold(0.0, f64::max);
            let free = free.get(lane).copied().unwrap_or(join_us);
            ready.max(free).max(if fills { whole } else { 0.0 })
        };
        let last = free.len().min(MOST_LANES - 1);
        let best = (0..=last).min_by(|&a, &b| begin(a).total_cmp(&begin(b))).unwrap_or(0);
        let end = begin(best) + draft.us;
        if best == free.len() {
            free.push(0.0);
        }
        free[best] = end;
        if fills {
            whole = end;
        }
        ends.push(end);
        lanes.push(best);
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device::known().remove(0)
    }

    /// A job that takes long on half of the device, and writes these numbers.
    fn draft(writes: std::ops::Range<usize>) -> Draft {
        let access = Access::of_gradients(writes.clone());
        Draft { us: 100.0, wide: 10, scratch: writes.end, access, ..Draft::default() }
    }

    fn assigned(drafts: &[Draft]) -> Vec<(usize, Vec<usize>)> {
        assign(drafts.to_vec(), &[], &device()).0.into_iter().map(|job| (job.lane, job.after)).collect()
    }

    #[test]
    fn what_touches_the_same_runs_in_order_and_all_else_side_by_side() {
        let drafts = [draft(0..10), draft(20..30), draft(5..15), draft(12..25)];
        assert_eq!(assigned(&drafts), [(0, vec![]), (1, vec![]), (0, vec![]), (0, vec![1])]);
        assert_eq!(assign(drafts.to_vec(), &[], &device()).1, [25, 30]);
    }

    #[test]
    fn a_job_waits_for_no_more_than_it_must() {
        // The third comes behind the second, and so behind the first.
        let drafts = [draft(0..10), draft(0..20), draft(30..40), draft(0..35)];
        assert_eq!(assigned(&drafts), [(0, vec![]), (0, vec![]), (1, vec![]), (0, vec![2])]);
    }

    #[test]
    fn short_jobs_stay_in_one_lane() {
        let short = |at: usize| Draft { us: 1.0, ..draft(at..at + 1) };
        let drafts = [short(0), short(1), short(2), short(3)];
        assert!(assigned(&drafts).iter().all(|(lane, _)| *lane == 0));
    }

    #[test]
    fn jobs_that_fill_the_device_run_one_after_the_other() {
        let broad = |at: usize| Draft { wide: 132, ..draft(at..at + 1) };
        assert!(assigned(&[broad(0), broad(1), broad(2)]).iter().all(|(lane, _)| *lane == 0));
    }

    #[test]
    fn blocks_that_wait_for_each_other_fit_beside_all_that_may_run_then() {
        let most = device().multiprocessors;
        let waiting = |at: usize, blocks: usize| Draft { waiting: blocks, ..draft(at..at + 1) };
        let half = most / 2;
        let drafts = [waiting(0, half), waiting(1, half), waiting(2, half), waiting(3, 1)];
        let all = needs(&drafts, &[], most);
        assert_eq!((&all[1], &all[2], &all[3]), (&vec![], &vec![0], &vec![1]));
        assert_eq!(assigned(&drafts)[..3], [(0, vec![]), (1, vec![]), (0, vec![])]);
        assert_eq!(needs(&[waiting(0, most), waiting(1, 1)], &[], most)[1], [0]);
    }
}

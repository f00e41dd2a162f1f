//! Recordings: commands, and what each comes behind. A replay runs them one at a time, in an order drawn anew among those
//! that lanes allow: a command that does not wait for what it needs comes too early sooner or later.

use super::scheduler::Random;
use super::{Recorded, failed};
use rnnc_cuda::driver::{DriverError, Point};

/// A recording, or what was recorded.
#[derive(Default)]
pub struct Recording {
    entries: Vec<Entry>,
    selected: usize,
    /// Of each lane, what its next command comes behind.
    behind: Vec<Vec<usize>>,
    points: Vec<Vec<usize>>,
}

struct Entry {
    command: Recorded,
    behind: Vec<usize>,
}

impl Recording {
    pub fn new(lanes: usize) -> Recording {
        Recording { behind: vec![Vec::new(); lanes], ..Recording::default() }
    }

    pub fn push(&mut self, command: Recorded) {
        let own = &mut self.behind[self.selected];
        let behind = std::mem::replace(own, vec![self.entries.len()]);
        self.entries.push(Entry { command, behind });
    }

    pub fn select(&mut self, lane: usize, after: &[Point]) -> Result<(), DriverError> {
        let wrong = |what| move || failed("select_lane", what);
        let own = self.behind.get_mut(lane).ok_or_else(wrong(format!("there is no lane {lane}")))?;
        for point in after {
            let behind = self.points.get(point.0).ok_or_else(wrong(format!("there is no {point:?}")))?;
            own.extend(behind);
        }
        self.selected = lane;
        Ok(())
    }

    pub fn point(&mut self) -> Point {
        self.points.push(self.behind[self.selected].clone());
        Point(self.points.len() - 1)
    }

    /// The commands in an order that lanes allow.
    pub fn order(&self, random: &mut Random) -> Vec<Recorded> {
        let mut left: Vec<usize> = self.entries.iter().map(|entry| entry.behind.len()).collect();
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); self.entries.len()];
        for (place, entry) in self.entries.iter().enumerate() {
            entry.behind.iter().for_each(|&other| before[other].push(place));
        }
        let mut ready: Vec<usize> = (0..left.len()).filter(|&place| left[place] == 0).collect();
        let mut order = Vec::new();
        while !ready.is_empty() {
            let place = ready.swap_remove(random.below(ready.len()));
            order.push(self.entries[place].command.clone());
            for &other in &before[place] {
                left[other] -= 1;
                if left[other] == 0 {
                    ready.push(other);
                }
            }
        }
        order
    }
}

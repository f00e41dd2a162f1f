//! Which reads cross a reset: ages of the streams' sequences in every frame of the window.
//!
//! Frames are counted from the window's first; the newest are its last. A read of the past crosses if it goes back
//! further than the age of the sequence; a read of the future, if it goes ahead as far as the next reset or the
//! window's end.

/// For each row of a window, the frames since its sequence began and until the next begins.
#[derive(Clone, Debug)]
pub struct Clock {
    streams: usize,
    window: usize,
    /// Frames since the last reset: `[window, streams]`.
    ages: Vec<u32>,
    /// Frames until the next reset, or the window's end: `[window, streams]`.
    ahead: Vec<u32>,
    /// The least of each frame's, so that most frames need no look at their rows.
    least_age: Vec<u32>,
    least_ahead: Vec<u32>,
    /// The ages of the next frame, if it brings no reset.
    next: Vec<u64>,
    /// What those were before the window last moved on, and by how many frames it did.
    previous: Vec<u64>,
    new: usize,
    /// Frames before the window's first that were run, in all (negative while the window is not yet full).
    before: i64,
}

impl Clock {
    /// At the beginning of B streams: every read of the past crosses.
    pub fn new(streams: usize, window: usize) -> Clock {
        Clock {
            streams,
            window,
            ages: vec![0; streams * window],
            ahead: vec![0; streams * window],
            least_age: vec![0; window],
            least_ahead: vec![0; window],
            next: vec![0; streams],
            previous: vec![0; streams],
            new: 0,
            before: -(window as i64),
        }
    }

    /// What the clock of such a window takes.
    pub fn bytes(streams: usize, window: usize) -> u128 {
        let (streams, window) = (streams as u128, window as u128);
        streams.saturating_mul(window).saturating_add(window + streams).saturating_mul(8)
    }

    /// Moves the window on by `frames` frames, at most as many as it has. `resets` is `[frames, B]`.
    pub fn advance(&mut self, frames: usize, resets: Option<&[bool]>) {
        let (b, w) = (self.streams, self.window);
        self.before += frames as i64;
        self.previous.copy_from_slice(&self.next);
        self.new = frames;
        self.ages.copy_within(frames * b.., 0);
        for t in 0..frames {
            for stream in 0..b {
                if resets.is_some_and(|r| r[t * b + stream]) {
                    self.next[stream] = 0;
                }
                self.ages[(w - frames + t) * b + stream] = clip(self.next[stream]);
                self.next[stream] = self.next[stream].saturating_add(1);
            }
        }
        // A reset is where the age is 0; backward, count up from it.
        for stream in 0..b {
            let mut ahead = 1;
            for t in (0..w).rev() {
                self.ahead[t * b + stream] = ahead;
                ahead = if self.ages[t * b + stream] == 0 { 1 } else { ahead.saturating_add(1) };
            }
        }
        for t in 0..w {
            let row = t * b..(t + 1) * b;
            self.least_age[t] = self.ages[row.clone()].iter().copied().min().unwrap_or(0);
            self.least_ahead[t] = self.ahead[row].iter().copied().min().unwrap_or(0);
        }
    }

    /// Whether the read with that delay in a row crosses.
    #[inline]
    pub fn crosses(&self, delay: i64, frame: usize, stream: usize) -> bool {
        let row = frame * self.streams + stream;
        if delay > 0 {
            i64::from(self.ages[row]) < delay
        } else {
            delay < 0 && i64::from(self.ahead[row]) <= -delay
        }
    }

    /// Whether the read with that delay crosses in any stream of a frame.
    #[inline]
    pub fn any_crosses(&self, delay: i64, frame: usize) -> bool {
        if delay > 0 {
            i64::from(self.least_age[frame]) < delay
        } else {
            delay < 0 && i64::from(self.least_ahead[frame]) <= -delay
        }
    }

    /// Of each row, the frames since its sequence began: `[window, B]`. Beyond 32 bits they are clipped: no delay is
    /// as long.
    pub fn ages(&self) -> &[u32] {
        &self.ages
    }

    /// Of each row, the frames until the next sequence begins, or to the window's end: `[window, B]`.
    pub fn ahead(&self) -> &[u32] {
        &self.ahead
    }

    /// Frames that were run before the window's first; negative while the window is not yet full.
    pub fn before(&self) -> i64 {
        self.before
    }

    /// The absolute number of a frame of the window.
    pub fn absolute(&self, frame: usize) -> u64 {
        u64::try_from(self.before + frame as i64).unwrap_or(0)
    }

    /// Frames run so far.
    pub fn frames_run(&self) -> u64 {
        self.absolute(self.window)
    }

    /// The ages of the next frame.
    pub fn next_ages(&self) -> &[u64] {
        &self.next
    }

    /// The ages that the newest frames began with, and the frames that were run before them.
    pub fn previous(&self) -> (&[u64], u64) {
        (&self.previous, self.frames_run() - self.new as u64)
    }

    /// The ages of the last frames, oldest first: `[frames, B]`.
    pub fn last_ages(&self, frames: usize) -> &[u32] {
        &self.ages[(self.window - frames) * self.streams..]
    }

    /// Sets the ages of the last frames, as many as there are.
    pub fn set_last_ages(&mut self, ages: &[u64]) {
        let first = self.ages.len() - ages.len();
        self.ages[first..].iter_mut().zip(ages).for_each(|(to, &age)| *to = clip(age));
    }

    /// Goes on from somewhere else.
    pub fn set(&mut self, ages: &[u64], frames: u64) {
        self.next.copy_from_slice(ages);
        self.previous.copy_from_slice(ages);
        self.new = 0;
        self.before = i64::try_from(frames).unwrap_or(i64::MAX) - self.window as i64;
    }
}

fn clip(age: u64) -> u32 {
    u32::try_from(age).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cross_resets_the_beginning_and_the_end() {
        let mut clock = Clock::new(1, 4);
        clock.advance(4, Some(&[false, false, true, false]));
        let crossing = |delay| (0..4).map(|t| clock.crosses(delay, t, 0)).collect::<Vec<_>>();
        assert_eq!(crossing(1), [true, false, true, false]);
        assert_eq!(crossing(2), [true, true, true, true]);
        assert_eq!(crossing(-1), [false, true, false, true]);
        assert_eq!(crossing(-2), [true, true, true, true]);
        assert_eq!(crossing(0), [false; 4]);
    }

    #[test]
    fn ages_carry_over_from_window_to_window() {
        let mut clock = Clock::new(1, 2);
        clock.advance(2, None);
        clock.advance(1, None);
        // The window now holds frames 1 and 2.
        assert!(clock.crosses(2, 0, 0) && !clock.crosses(2, 1, 0));
        assert_eq!((clock.absolute(0), clock.frames_run()), (1, 3));
    }

    #[test]
    fn kept_frames_have_their_ages_again() {
        let mut clock = Clock::new(1, 4);
        clock.advance(4, Some(&[false, false, true, false]));
        let kept: Vec<u64> = clock.last_ages(3).iter().copied().map(u64::from).collect();
        assert_eq!(kept, [1, 0, 1]);
        let mut resumed = Clock::new(1, 4);
        resumed.set(clock.next_ages(), clock.frames_run());
        resumed.set_last_ages(&kept);
        for clock in [&mut clock, &mut resumed] {
            clock.advance(1, None);
            assert_eq!(clock.last_ages(4), [1, 0, 1, 2]);
            assert_eq!([0, 1, 2, 3].map(|t| clock.crosses(-1, t, 0)), [true, false, false, true]);
            assert_eq!(clock.absolute(0), 1);
        }
    }
}

//! Which reads cross a reset: the steps since each stream's last reset, in every frame of the window.
//!
//! Frames are counted from the window's first; the newest are its last. A read of the past crosses if it goes back
//! further than the steps since its stream's reset; a read of the future, if it goes ahead as far as the next reset or the
//! window's end.

/// For each row of a window, the frames since its sequence began and until the next begins.
#[derive(Clone, Debug)]
pub struct ResetTracker {
    streams: usize,
    window: usize,
    /// Frames since the last reset: `[window, streams]`.
    since_reset: Vec<u32>,
    /// Frames until the next reset, or the window's end: `[window, streams]`.
    ahead: Vec<u32>,
    /// The least of each frame's, so that most frames need no look at their rows.
    least_since_reset: Vec<u32>,
    least_ahead: Vec<u32>,
    /// The steps since reset of the next frame, if it brings no reset.
    next: Vec<u64>,
    /// What those were before the window last moved on, and by how many frames it did.
    previous: Vec<u64>,
    new: usize,
    /// Frames before the window's first that were run, in all (negative while the window is not yet full).
    before: i64,
}

impl ResetTracker {
    /// At the beginning of B streams: every read of the past crosses.
    pub fn new(streams: usize, window: usize) -> ResetTracker {
        ResetTracker {
            streams,
            window,
            since_reset: vec![0; streams * window],
            ahead: vec![0; streams * window],
            least_since_reset: vec![0; window],
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
        self.before = self.before.saturating_add(frames as i64);
        self.previous.copy_from_slice(&self.next);
        self.new = frames;
        self.since_reset.copy_within(frames * b.., 0);
        for t in 0..frames {
            for stream in 0..b {
                if resets.is_some_and(|r| r[t * b + stream]) {
                    self.next[stream] = 0;
                }
                self.since_reset[(w - frames + t) * b + stream] = clip(self.next[stream]);
                self.next[stream] = self.next[stream].saturating_add(1);
            }
        }
        // A reset is where there are 0 steps since it; backward, count up from there.
        for stream in 0..b {
            let mut ahead = 1;
            for t in (0..w).rev() {
                self.ahead[t * b + stream] = ahead;
                ahead = if self.since_reset[t * b + stream] == 0 { 1 } else { ahead.saturating_add(1) };
            }
        }
        for t in 0..w {
            let row = t * b..(t + 1) * b;
            self.least_since_reset[t] = self.since_reset[row.clone()].iter().copied().min().unwrap_or(0);
            self.least_ahead[t] = self.ahead[row].iter().copied().min().unwrap_or(0);
        }
    }

    /// Whether the read with that delay in a row crosses.
    #[inline]
    pub fn crosses(&self, delay: i64, frame: usize, stream: usize) -> bool {
        let row = frame * self.streams + stream;
        if delay > 0 {
            i64::from(self.since_reset[row]) < delay
        } else {
            delay < 0 && i64::from(self.ahead[row]) <= -delay
        }
    }

    /// Whether the read with that delay crosses in any stream of a frame.
    #[inline]
    pub fn any_crosses(&self, delay: i64, frame: usize) -> bool {
        if delay > 0 {
            i64::from(self.least_since_reset[frame]) < delay
        } else {
            delay < 0 && i64::from(self.least_ahead[frame]) <= -delay
        }
    }

    /// Of each row, the frames since its sequence began: `[window, B]`. Beyond 32 bits they are clipped: no delay is
    /// as long.
    pub fn since_reset(&self) -> &[u32] {
        &self.since_reset
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
        u64::try_from(self.before.saturating_add(frame as i64)).unwrap_or(0)
    }

    /// Frames run so far.
    pub fn frames_run(&self) -> u64 {
        self.absolute(self.window)
    }

    /// The steps since reset of the next frame.
    pub fn next_since_reset(&self) -> &[u64] {
        &self.next
    }

    /// The steps since reset that the newest frames began with, and the frames that were run before them.
    pub fn previous(&self) -> (&[u64], u64) {
        (&self.previous, self.frames_run() - self.new as u64)
    }

    /// The steps since reset of the last frames, oldest first: `[frames, B]`.
    pub fn last_since_reset(&self, frames: usize) -> &[u32] {
        &self.since_reset[(self.window - frames) * self.streams..]
    }

    /// Sets the steps since reset of the last frames, as many as there are.
    pub fn set_last_since_reset(&mut self, since_reset: &[u64]) {
        let first = self.since_reset.len() - since_reset.len();
        self.since_reset[first..]
            .iter_mut()
            .zip(since_reset)
            .for_each(|(to, &since_reset)| *to = clip(since_reset));
    }

    /// Goes back to the beginning.
    pub fn clear(&mut self) {
        self.next.fill(0);
        self.previous.fill(0);
        self.new = 0;
        self.before = -(self.window as i64);
    }

    /// Begins before the frame of that number: at the beginning of every stream, or, if all frames before are `known`, in their midst.
    pub fn begin(&mut self, known: bool, frame: u64) {
        self.clear();
        if known {
            // No delay is as long, and no run.
            self.next.fill(u64::MAX / 2);
            self.previous.fill(u64::MAX / 2);
        }
        self.before = i64::try_from(frame).unwrap_or(i64::MAX).saturating_sub_unsigned(self.window as u64);
    }

    /// Goes on from somewhere else.
    pub fn set(&mut self, since_reset: &[u64], frames: u64) {
        self.next.copy_from_slice(since_reset);
        self.previous.copy_from_slice(since_reset);
        self.new = 0;
        self.before = i64::try_from(frames).unwrap_or(i64::MAX) - self.window as i64;
    }
}

fn clip(since_reset: u64) -> u32 {
    u32::try_from(since_reset).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cross_resets_the_beginning_and_the_end() {
        let mut tracker = ResetTracker::new(1, 4);
        tracker.advance(4, Some(&[false, false, true, false]));
        let crossing = |delay| (0..4).map(|t| tracker.crosses(delay, t, 0)).collect::<Vec<_>>();
        assert_eq!(crossing(1), [true, false, true, false]);
        assert_eq!(crossing(2), [true, true, true, true]);
        assert_eq!(crossing(-1), [false, true, false, true]);
        assert_eq!(crossing(-2), [true, true, true, true]);
        assert_eq!(crossing(0), [false; 4]);
    }

    #[test]
    fn steps_since_reset_carry_over_from_window_to_window() {
        let mut tracker = ResetTracker::new(1, 2);
        tracker.advance(2, None);
        tracker.advance(1, None);
        // The window now holds frames 1 and 2.
        assert!(tracker.crosses(2, 0, 0) && !tracker.crosses(2, 1, 0));
        assert_eq!((tracker.absolute(0), tracker.frames_run()), (1, 3));
    }

    #[test]
    fn a_call_begins_with_every_stream_or_in_the_midst_of_all() {
        let mut tracker = ResetTracker::new(1, 3);
        tracker.advance(3, Some(&[true, false, true]));
        tracker.begin(true, 40);
        tracker.advance(2, Some(&[false, true]));
        assert_eq!([1, 2].map(|t| tracker.crosses(1 << 30, t, 0)), [false, true]);
        assert_eq!((tracker.absolute(1), tracker.absolute(2)), (40, 41));
        tracker.begin(false, 7);
        tracker.advance(3, None);
        assert_eq!([0, 1, 2].map(|t| tracker.crosses(2, t, 0)), [true, true, false]);
        assert_eq!(tracker.absolute(0), 7);
        tracker.begin(true, u64::MAX);
        tracker.advance(3, None);
        assert!(!tracker.crosses(3, 0, 0) && tracker.absolute(2) > 1 << 60);
    }

    #[test]
    fn kept_frames_have_their_steps_since_reset_again() {
        let mut tracker = ResetTracker::new(1, 4);
        tracker.advance(4, Some(&[false, false, true, false]));
        let kept: Vec<u64> = tracker.last_since_reset(3).iter().copied().map(u64::from).collect();
        assert_eq!(kept, [1, 0, 1]);
        let mut resumed = ResetTracker::new(1, 4);
        resumed.set(tracker.next_since_reset(), tracker.frames_run());
        resumed.set_last_since_reset(&kept);
        for tracker in [&mut tracker, &mut resumed] {
            tracker.advance(1, None);
            assert_eq!(tracker.last_since_reset(4), [1, 0, 1, 2]);
            assert_eq!([0, 1, 2, 3].map(|t| tracker.crosses(-1, t, 0)), [true, false, false, true]);
            assert_eq!(tracker.absolute(0), 1);
        }
    }
}

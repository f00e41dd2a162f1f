//! Frames: the last ones of every stream are kept, and a read from one frame of another may cross a reset.

/// A frame of the window and a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub frame: usize,
    pub stream: usize,
}

/// The kept frames, numbered from 0, the oldest. All streams have the same frames.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    streams: usize,
    /// `[frames, B]`: how many frames before this one the newest reset lies. Age 0 begins a sequence.
    since_reset: Vec<u64>,
    /// `[B]`: the steps since reset of the next frame, unless it is a reset.
    next_since_reset: Vec<u64>,
    /// `[B]`: what that was before frames were last appended.
    previous_since_reset: Vec<u64>,
}

impl Window {
    /// No frame yet; the next one is each stream's first.
    pub fn new(streams: usize) -> Window {
        Window {
            streams,
            since_reset: Vec::new(),
            next_since_reset: vec![0; streams],
            previous_since_reset: vec![0; streams],
        }
    }

    /// Goes on from a state, with the steps since reset of its kept frames and, last, of the next: `[kept + 1, B]`. `depth` frames
    /// before the kept ones are known too.
    pub fn resume(depth: usize, known: Vec<u64>, streams: usize) -> Window {
        let (oldest, next) = (&known[..streams], &known[known.len() - streams..]);
        let before = (0..depth).rev().flat_map(|back| {
            // As if no reset lay before: what was before one is never read.
            oldest.iter().map(move |since_reset| since_reset.saturating_sub(back as u64 + 1))
        });
        let since_reset = before.chain(known[..known.len() - streams].iter().copied()).collect();
        Window { streams, since_reset, next_since_reset: next.to_vec(), previous_since_reset: next.to_vec() }
    }

    /// The steps since reset of the last frames: `[frames, B]`.
    pub fn last_since_reset(&self, frames: usize) -> &[u64] {
        &self.since_reset[self.since_reset.len() - frames * self.streams..]
    }

    /// Streams, B.
    pub fn streams(&self) -> usize {
        self.streams
    }

    /// How many frames are kept.
    pub fn len(&self) -> usize {
        self.since_reset.len() / self.streams
    }

    /// The steps since reset that the next frame of each stream has, unless it is a reset.
    pub fn next_since_reset(&self) -> &[u64] {
        &self.next_since_reset
    }

    /// The steps since reset that the newest frames began with.
    pub fn previous_since_reset(&self) -> &[u64] {
        &self.previous_since_reset
    }

    /// Appends new frames. `resets` is `[frames, B]`.
    pub fn push(&mut self, frames: usize, resets: Option<&[bool]>) {
        self.previous_since_reset.copy_from_slice(&self.next_since_reset);
        for frame in 0..frames {
            for stream in 0..self.streams {
                if resets.is_some_and(|r| r[frame * self.streams + stream]) {
                    self.next_since_reset[stream] = 0;
                }
                self.since_reset.push(self.next_since_reset[stream]);
                self.next_since_reset[stream] = self.next_since_reset[stream].saturating_add(1);
            }
        }
    }

    /// Forgets the oldest frames.
    pub fn drop_oldest(&mut self, frames: usize) {
        self.since_reset.drain(..frames * self.streams);
    }

    /// How many frames before a frame the newest reset lies.
    pub fn since_reset(&self, frame: usize, stream: usize) -> u64 {
        self.since_reset[frame * self.streams + stream]
    }

    /// Which frame a read from `frame` finds, or none where it crosses.
    ///
    /// From frame t, a read of frame s = t - d crosses if some reset r has min(s, t) < r <= max(s, t), or if s
    /// lies before the stream's first frame or past the last one. The stream's first frame counts as a reset.
    pub fn find(&self, frame: usize, stream: usize, delay: i64) -> Option<usize> {
        let distance = usize::try_from(delay.unsigned_abs()).unwrap_or(usize::MAX);
        if delay >= 0 {
            // Resets in s < r <= t: the newest of them is `since_reset` frames back.
            if self.since_reset(frame, stream) < distance as u64 { None } else { frame.checked_sub(distance) }
        } else {
            let found = frame.checked_add(distance).filter(|&s| s < self.len())?;
            // Resets in t < r <= s.
            (frame + 1..=found).all(|r| self.since_reset(r, stream) > 0).then_some(found)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One stream of six frames, with a reset at frame 3.
    fn window() -> Window {
        let mut window = Window::new(1);
        window.push(6, Some(&[false, false, false, true, false, false]));
        window
    }

    #[test]
    fn a_read_of_the_past_crosses_the_first_frame_and_every_reset() {
        let found = |delay| (0..6).map(|t| window().find(t, 0, delay)).collect::<Vec<_>>();
        assert_eq!(found(1), [None, Some(0), Some(1), None, Some(3), Some(4)]);
        assert_eq!(found(2), [None, None, Some(0), None, None, Some(3)]);
    }

    #[test]
    fn a_read_of_the_future_crosses_every_reset_and_the_last_frame() {
        let found = |delay| (0..6).map(|t| window().find(t, 0, delay)).collect::<Vec<_>>();
        assert_eq!(found(-1), [Some(1), Some(2), None, Some(4), Some(5), None]);
        assert_eq!(found(-2), [Some(2), None, None, Some(5), None, None]);
    }

    #[test]
    fn a_read_of_the_same_frame_never_crosses() {
        assert!((0..6).all(|t| window().find(t, 0, 0) == Some(t)));
    }

    #[test]
    fn dropping_frames_and_resuming_keep_the_steps_since_reset() {
        let mut window = window();
        window.drop_oldest(4);
        assert_eq!((window.len(), window.next_since_reset()), (2, &[3][..]));
        let resumed = Window::resume(4, vec![3], 1);
        assert_eq!(resumed.find(3, 0, 2), Some(1));
        assert_eq!(resumed.find(3, 0, 3), None);
        // With four kept frames, a reset at the second, after two that are known from before.
        let resumed = Window::resume(2, vec![2, 0, 1, 2, 3], 1);
        assert_eq!(resumed.last_since_reset(3), [0, 1, 2]);
        assert_eq!([2, 3, 4].map(|t| resumed.find(t, 0, 1)), [Some(1), None, Some(3)]);
        assert_eq!([2, 3, 4].map(|t| resumed.find(t, 0, 2)), [Some(0), None, None]);
    }
}

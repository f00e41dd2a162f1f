//! What a tape says of the call that wrote it, in its first numbers: so that a tape of another program, another call, or nothing at
//! all is refused.

use super::errors::ExecutorError;
use super::ports::Backward;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a tape says of its forward call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapeHeader {
    /// What ran: see [`TapeHeader::new_program`].
    pub program: u64,
    /// Frames of the call.
    pub frames: usize,
    /// Whether the state before was known.
    pub has_state: bool,
    /// [`Forward::seed`](super::Forward::seed)
    pub seed: u64,
    /// [`Forward::first_frame`](super::Forward::first_frame)
    pub first_frame: u64,
    /// The [`hash`](TapeHeader::hash) of the call's resets.
    pub resets: u64,
    /// [`Forward::weights_version`](super::Forward::weights_version)
    pub weights_version: Option<u64>,
}

impl TapeHeader {
    /// Numbers of 4 bytes that it takes: a cache line.
    pub const LEN: usize = 16;

    /// A tape that begins with another one is none.
    const MARK: u32 = 0x524e_4e54;

    /// A number for a program, which no other one has, in this process or another.
    pub fn new_program() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        RandomState::new().hash_one(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Tells resets `[frames, B]` from others. That of none is that of no array.
    pub fn hash(resets: &[bool]) -> u64 {
        let set = resets.iter().enumerate().filter(|(_, reset)| **reset);
        set.fold(0xcbf2_9ce4_8422_2325, |hash: u64, (place, _)| {
            (hash ^ (place as u64 + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        })
    }

    /// The first numbers of the tape.
    pub fn words(self) -> [u32; TapeHeader::LEN] {
        let TapeHeader { program, frames, has_state, seed, first_frame, resets, weights_version } = self;
        let mut out = [0; TapeHeader::LEN];
        out[0] = TapeHeader::MARK;
        out[1] = u32::from(has_state) | u32::from(weights_version.is_some()) << 1;
        let words = [program, frames as u64, seed, first_frame, resets, weights_version.unwrap_or(0)];
        for (out, word) in out[2..].chunks_exact_mut(2).zip(words) {
            (out[0], out[1]) = (word as u32, (word >> 32) as u32);
        }
        out
    }

    /// What the first numbers of a tape say, if it is that of a forward call of the program with the frames of this backward call.
    ///
    /// # Errors
    /// It is not.
    pub fn read(
        words: [u32; TapeHeader::LEN],
        program: u64,
        call: &Backward<'_, '_>,
    ) -> Result<TapeHeader, ExecutorError> {
        let refuse = |problem: String| Err(ExecutorError::Port { port: "the tape".into(), problem });
        let word = |place: usize| u64::from(words[2 + 2 * place]) | u64::from(words[3 + 2 * place]) << 32;
        if (words[0], word(0)) != (TapeHeader::MARK, program) || words[1] > 3 {
            return refuse("is not what a forward call of this program has written".into());
        }
        let header = TapeHeader {
            program,
            frames: usize::try_from(word(1)).unwrap_or(usize::MAX),
            has_state: words[1] & 1 != 0,
            seed: word(2),
            first_frame: word(3),
            resets: word(4),
            weights_version: (words[1] & 2 != 0).then(|| word(5)),
        };
        if header.frames != call.frames {
            return refuse(format!(
                "is of {} frames, and the backward call of {}",
                header.frames, call.frames
            ));
        }
        match (header.weights_version, call.weights_version) {
            (Some(then), Some(now)) if then != now => refuse(format!(
                "is of a forward call with version {then} of the weights, and the backward call has version {now}"
            )),
            _ => Ok(header),
        }
    }

    /// Refuses other resets than those of the forward call.
    ///
    /// # Errors
    /// They are others.
    pub fn check_resets(&self, resets: &[bool]) -> Result<(), ExecutorError> {
        if TapeHeader::hash(resets) == self.resets {
            return Ok(());
        }
        let problem = "are not those of the forward call whose tape this is".into();
        Err(ExecutorError::Port { port: "resets".into(), problem })
    }
}

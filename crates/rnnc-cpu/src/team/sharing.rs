//! Whether runs of one kind are shared out, as their times tell.
//!
//! Where other programs want the same cores, a worker may be without one when the others wait for it, for milliseconds in a
//! barrier that takes less than a microsecond on a quiet machine. Then the caller alone is faster than all together. So runs
//! are timed, in periods of some milliseconds, and go on in the faster of two ways: *shared*, or *alone*, where the
//! caller does the shares of all workers one after the other. Results are the same to the bit.
//!
//! The other way is tried
//! - where runs are shared, if the caller waited for more than a quarter of a period: else alone could not be much
//!   faster, since the caller alone does all that it does now, and waits for nobody;
//! - where the caller is alone, after a pause, for the other programs may have gone.
//!
//! Pauses double when a try fails, and are long beside what it lost.
//!
//! Each kind of work has its own experience, for what is too little to share is so on a quiet machine too. But a run that waits
//! for long tells of other programs, and these are in the way of every kind: where one leaves sharing for that, others that were
//! about to try it do not, and none tries it before that one would ([`ended`]).
//!
//! A run may be longer than all that. [`Watch`] looks on when a wait has been long: if the caller has waited for more than
//! half of a run that takes too long already, it asks to do the rest alone.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// What runs take is compared over so long: some times as long as a system lets other programs have a core.
const PERIOD: Duration = Duration::from_millis(10);
/// Waiting that is shorter in all, a busy machine or not, is no reason to stop.
const NOTICED: Duration = Duration::from_millis(2);
/// Between tries of what was slower.
const SHORTEST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The least that a pause is, in times of what the try before it lost.
const PAUSE_OF_LOSS: f64 = 32.0;
/// Seconds of one look at a barrier that has not ended: more on no CPU.
const LOOK: f64 = 40e-9;

/// The two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Alone,
    Shared,
}

impl Way {
    fn other(self) -> Way {
        if self == Way::Alone { Way::Shared } else { Way::Alone }
    }
}

/// What decides about the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The times of runs.
    Measured,
    /// Always all workers.
    Shared,
    /// Always the caller alone.
    Alone,
    /// All workers, until they have met so many times.
    SharedUntil(usize),
}

/// Runs of one kind.
#[derive(Debug)]
pub(super) struct Sharing {
    pub(super) policy: Policy,
    way: Way,
    /// Whether nothing was measured since the way changed.
    fresh: bool,
    /// The present one.
    period: Period,
    /// The last one before the way changed.
    before: Period,
    /// By way: what is known of each.
    known: [Known; 2],
}

/// Runs that were timed together.
#[derive(Clone, Copy, Debug, Default)]
struct Period {
    took: Duration,
    waited: Duration,
    work: f64,
    /// Whether some run waited for longer than it computed, and for as long as a quiet machine makes none wait.
    long: bool,
}

/// What is known of a way.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Seconds that a unit of work took, when last measured.
    rate: Option<f64>,
    /// It is not tried again before.
    not_before: Option<Instant>,
    pause: Duration,
}

impl Known {
    /// A period has taken longer than it would have in the other way, of a known rate.
    fn failed(&mut self, period: Period, better: f64, now: Instant) {
        let lost = (period.took.as_secs_f64() - better * period.work) * PAUSE_OF_LOSS;
        let lost = Duration::try_from_secs_f64(lost).unwrap_or_default();
        self.paused((2 * self.pause).min(LONGEST_PAUSE).max(lost), now);
    }

    fn paused(&mut self, pause: Duration, now: Instant) {
        (self.pause, self.not_before) = (pause, Some(now + pause));
    }
}

impl Sharing {
    pub(super) fn new() -> Sharing {
        Sharing {
            policy: Policy::Measured,
            way: Way::Shared,
            fresh: true,
            period: Period::default(),
            before: Period::default(),
            known: [Known { rate: None, not_before: None, pause: SHORTEST_PAUSE }; 2],
        }
    }

    /// How the next run is to be done.
    pub(super) fn way(&self) -> Way {
        match self.policy {
            Policy::Measured => self.way,
            Policy::Alone => Way::Alone,
            Policy::Shared | Policy::SharedUntil(_) => Way::Shared,
        }
    }

    /// Watches a run of so much work that begins now.
    pub(super) fn watch(&self, work: usize, now: Instant) -> Watch {
        let alone = self.known[Way::Alone as usize].rate.unwrap_or(0.0) * work as f64;
        let alone = Duration::try_from_secs_f64(alone).unwrap_or(LONGEST_PAUSE);
        match self.policy {
            Policy::SharedUntil(barriers) => Watch { left: Cell::new(barriers), ..Watch::none() },
            Policy::Measured => Watch { begun: Some((now, alone + NOTICED)), ..Watch::none() },
            Policy::Shared | Policy::Alone => Watch::none(),
        }
    }

    /// Takes note of a run that has ended. Returns what is known of sharing, if it was given up for waits that other programs
    /// make.
    fn run_ended(&mut self, work: usize, took: Duration, waited: Duration, now: Instant) -> Option<Known> {
        let waits = |waited, took| waited > NOTICED && 2 * waited > took;
        let period = &mut self.period;
        period.took += took;
        period.waited += waited;
        period.work += work as f64;
        period.long |= self.way == Way::Shared && waits(waited, took);
        if period.took >= PERIOD || (self.way == Way::Shared && waits(period.waited, period.took)) {
            return self.period_ended(now);
        }
        None
    }

    fn period_ended(&mut self, now: Instant) -> Option<Known> {
        let (way, other) = (self.way, self.way.other());
        let period = std::mem::take(&mut self.period);
        let rate = period.took.as_secs_f64() / period.work.max(1.0);
        let own = &mut self.known[way as usize];
        let rate = own.rate.filter(|_| !self.fresh).map_or(rate, |before| (before + rate) / 2.0);
        own.rate = Some(rate);
        let better = self.known[other as usize].rate.filter(|&better| better < rate);
        let may = self.known[other as usize].not_before.is_none_or(|time| time <= now);
        let change = match way {
            Way::Shared => better.is_some() || (may && 4 * period.waited > period.took),
            Way::Alone if self.fresh => better.is_some(),
            Way::Alone => may,
        };
        let mut given_up = way == Way::Shared && change && period.long;
        match better {
            // A try has failed.
            Some(better) if self.fresh => self.known[way as usize].failed(period, better, now),
            // What was good enough is so no more: it may be soon.
            Some(_) if way == Way::Shared => self.known[way as usize].paused(SHORTEST_PAUSE, now),
            // What was there before the first try has failed.
            None if self.fresh && way == Way::Alone && self.before.work > 0.0 => {
                self.known[other as usize].failed(self.before, rate, now);
                given_up = self.before.long;
            }
            _ => {}
        }
        if change {
            (self.way, self.before) = (other, period);
        }
        self.fresh = change;
        given_up.then_some(self.known[Way::Shared as usize])
    }

    /// Takes note of what another kind of work knows of sharing, where it was given up.
    fn heard(&mut self, theirs: Known) {
        let own = &mut self.known[Way::Shared as usize];
        own.not_before = own.not_before.max(theirs.not_before);
        own.pause = own.pause.max(theirs.pause);
        // What is shared since long tells by itself.
        if self.way == Way::Shared && self.fresh {
            (self.way, self.before, self.period) = (Way::Alone, Period::default(), Period::default());
        }
    }
}

/// Takes note of a run of a kind that has ended, among all kinds.
pub(super) fn ended(
    all: &mut [Sharing],
    kind: usize,
    work: usize,
    (took, waited): (Duration, Duration),
    now: Instant,
) {
    if let Some(known) = all[kind].run_ended(work, took, waited, now) {
        let others = all.iter_mut().enumerate().filter(|&(other, _)| other != kind);
        others.for_each(|(_, other)| other.heard(known));
    }
}

/// How long the caller waits in a run, and when it has had enough.
#[derive(Debug)]
pub(super) struct Watch {
    /// When the run began, and what it may take; `None`: whatever it takes.
    begun: Option<(Instant, Duration)>,
    /// Looks at barriers that had not ended, while it spun.
    looks: Cell<u64>,
    /// Waits that were longer.
    long: Cell<Duration>,
    /// Barriers until it asks to go on alone.
    left: Cell<usize>,
}

impl Watch {
    /// Whatever the run takes.
    pub(super) const fn none() -> Watch {
        Watch {
            begun: None,
            looks: Cell::new(0),
            long: Cell::new(Duration::ZERO),
            left: Cell::new(usize::MAX),
        }
    }

    /// Comes to a barrier; says whether to go on alone behind it.
    #[inline]
    pub(super) fn asks(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.wrapping_sub(1));
        left == 0
    }

    /// A wait that ended after some looks.
    #[inline]
    pub(super) fn looked(&self, looks: u32) {
        self.looks.set(self.looks.get() + u64::from(looks));
    }

    /// A long wait.
    #[cold]
    pub(super) fn waited(&self, time: Duration) {
        self.long.set(self.long.get() + time);
        if let Some((begun, limit)) = self.begun {
            let took = begun.elapsed();
            if took > limit && 2 * self.long.get() > took {
                self.left.set(0);
            }
        }
    }

    pub(super) fn all(&self) -> Duration {
        self.long.get() + Duration::from_secs_f64(self.looks.get() as f64 * LOOK)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Runs for so many milliseconds, each of one unit of work; `takes` says what a run takes in a way, and how much of it is
    /// waiting, in microseconds. Returns the share of time in which runs were alone, and units of work.
    fn simulate(
        sharing: &mut Sharing,
        from: &mut Instant,
        ms: u64,
        takes: impl Fn(Way) -> (u64, u64),
    ) -> (f64, u64) {
        let end = *from + Duration::from_millis(ms);
        let (mut alone, mut units) = (Duration::ZERO, 0);
        while *from < end {
            let way = sharing.way();
            let (took, waited) = takes(way);
            let (took, waited) = (Duration::from_micros(took), Duration::from_micros(waited));
            *from += took;
            units += 1;
            sharing.run_ended(1, took, waited, *from);
            alone += if way == Way::Alone { took } else { Duration::ZERO };
        }
        (alone.as_secs_f64() / (ms as f64 / 1e3), units)
    }

    #[test]
    fn on_a_quiet_machine_runs_that_pay_stay_shared() {
        let (mut sharing, mut now) = (Sharing::new(), Instant::now());
        let (alone, _) = simulate(&mut sharing, &mut now, 1000, |way| match way {
            Way::Shared => (550, 100),
            Way::Alone => (1000, 0),
        });
        assert_eq!(alone, 0.0, "it is not even tried");
    }

    #[test]
    fn where_the_caller_has_little_to_do_alone_is_tried_and_given_up() {
        let (mut sharing, mut now) = (Sharing::new(), Instant::now());
        let takes = |way| match way {
            Way::Shared => (700, 450),
            Way::Alone => (1000, 0),
        };
        let (alone, _) = simulate(&mut sharing, &mut now, 1000, takes);
        assert!(alone > 0.0 && alone < 0.1, "{alone}");
        let (alone, _) = simulate(&mut sharing, &mut now, 10_000, takes);
        assert!(alone < 0.02, "{alone}");
    }

    #[test]
    fn where_a_neighbour_takes_the_cores_runs_are_alone_until_it_goes() {
        let (mut sharing, mut now) = (Sharing::new(), Instant::now());
        let quiet = |way| match way {
            Way::Shared => (550, 50),
            Way::Alone => (1000, 0),
        };
        let busy = |way| match way {
            Way::Shared => (20_000, 19_000),
            Way::Alone => (1500, 0),
        };
        simulate(&mut sharing, &mut now, 500, quiet);
        let (alone, units) = simulate(&mut sharing, &mut now, 1000, busy);
        assert!(alone > 0.85 && units > 550, "{alone} of the time, {units} units");
        let (alone, units) = simulate(&mut sharing, &mut now, 10_000, busy);
        assert!(alone > 0.95 && units > 6200, "{alone} of the time, {units} units");
        simulate(&mut sharing, &mut now, 10_000, quiet);
        let (alone, _) = simulate(&mut sharing, &mut now, 1000, quiet);
        assert_eq!(alone, 0.0);
    }

    #[test]
    fn what_is_too_small_to_share_is_done_alone_on_a_quiet_machine() {
        let (mut sharing, mut now) = (Sharing::new(), Instant::now());
        let (alone, _) = simulate(&mut sharing, &mut now, 1000, |way| match way {
            Way::Shared => (150, 80),
            Way::Alone => (100, 0),
        });
        assert!(alone > 0.8, "{alone}");
    }

    /// Runs kinds in turn for so many milliseconds; `takes` says what a run of a kind takes in a way, as in [`simulate`].
    /// Returns the runs that were shared, of each kind, and rounds.
    fn in_turn(
        all: &mut [Sharing; 4],
        from: &mut Instant,
        ms: u64,
        takes: impl Fn(usize, Way) -> (u64, u64),
    ) -> ([u64; 4], u64) {
        let end = *from + Duration::from_millis(ms);
        let (mut shared, mut rounds) = ([0; 4], 0);
        while *from < end {
            for kind in 0..4 {
                let way = all[kind].way();
                shared[kind] += u64::from(way == Way::Shared);
                let (took, waited) = takes(kind, way);
                let (took, waited) = (Duration::from_micros(took), Duration::from_micros(waited));
                *from += took;
                ended(all, kind, 1, (took, waited), *from);
            }
            rounds += 1;
        }
        (shared, rounds)
    }

    #[test]
    fn where_a_neighbour_takes_the_cores_one_kind_tries_to_share_for_all() {
        let busy = |_, way| match way {
            Way::Shared => (20_000, 19_000),
            Way::Alone => (1500, 0),
        };
        let quiet = |_, way| match way {
            Way::Shared => (800, 50),
            Way::Alone => (1500, 0),
        };
        let (mut all, mut now) = (std::array::from_fn(|_| Sharing::new()), Instant::now());
        let (shared, rounds) = in_turn(&mut all, &mut now, 600, busy);
        assert_eq!(shared, [1, 0, 0, 0], "the first finds it out");
        assert!(rounds > 90, "{rounds}");
        let (shared, _) = in_turn(&mut all, &mut now, 20_000, busy);
        assert!(shared.iter().sum::<u64>() <= 20_000 / 600, "{shared:?}");
        // All come back, and stay.
        in_turn(&mut all, &mut now, 11_000, quiet);
        let (shared, rounds) = in_turn(&mut all, &mut now, 1000, quiet);
        assert_eq!(shared, [rounds; 4]);
        // Who has been shared for long needs no other to tell.
        let (shared, _) = in_turn(&mut all, &mut now, 600, busy);
        assert!(shared.iter().sum::<u64>() <= 8, "{shared:?}");
    }

    #[test]
    fn what_is_too_small_to_share_keeps_no_other_kind_from_it() {
        let takes = |kind, way| match (kind, way) {
            (3, Way::Shared) => (150, 80),
            (3, Way::Alone) => (100, 0),
            (_, Way::Shared) => (550, 50),
            (_, Way::Alone) => (1000, 0),
        };
        let (mut all, mut now) = (std::array::from_fn(|_| Sharing::new()), Instant::now());
        let (shared, rounds) = in_turn(&mut all, &mut now, 10_000, takes);
        assert_eq!(shared[..3], [rounds; 3]);
        assert!(shared[3] < rounds / 10, "{shared:?} of {rounds}");
    }

    #[test]
    fn a_run_that_waits_for_longer_than_it_computes_asks_to_go_on_alone() {
        let sharing = Sharing::new();
        let ago = |ms| Instant::now() - Duration::from_millis(ms);
        let asks = |sharing: &Sharing, begun: Instant, waited: u64| {
            let watch = sharing.watch(1, begun);
            watch.waited(Duration::from_millis(waited));
            watch.asks()
        };
        assert!(asks(&sharing, ago(10), 8));
        assert!(!asks(&sharing, ago(1000), 8));
        assert!(!asks(&sharing, Instant::now(), 1), "too short to tell");
        // By itself it is known to take a second: it has not lost yet.
        let mut known = Sharing::new();
        known.known[Way::Alone as usize].rate = Some(1.0);
        assert!(!asks(&known, ago(10), 8));
        assert!(asks(&known, ago(2000), 1800));
    }
}

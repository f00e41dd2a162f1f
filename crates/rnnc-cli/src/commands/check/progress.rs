//! How far a long check is: a bar on a terminal's stderr, or now and then a line.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often there is a line.
const EVERY: Duration = Duration::from_secs(10);

/// Shows what is done.
pub struct Progress {
    bar: ProgressBar,
    what: &'static str,
    total: u64,
    /// When the next line is due; none on a terminal.
    due: Option<Instant>,
}

impl Progress {
    /// Of so many parts. `what` says of what: "derivatives".
    pub fn new(what: &'static str, total: u64) -> Progress {
        let due = (!std::io::stderr().is_terminal()).then(|| Instant::now() + EVERY);
        let bar = if due.is_some() { ProgressBar::hidden() } else { ProgressBar::new(total) };
        let style = ProgressStyle::with_template("{bar:30} {pos} of {len} {msg}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what);
        Progress { bar, what, total, due }
    }

    /// So many are done.
    pub fn set(&mut self, done: u64) {
        self.bar.set_position(done);
        if self.due.is_some_and(|due| Instant::now() >= due) {
            // That nobody reads it is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{done} of {} {} checked", self.total, self.what);
            self.due = Some(Instant::now() + EVERY);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

//! What a user sees while a network trains: a progress bar on a terminal's stderr, and lines on stdout.

use indicatif::{ProgressBar, ProgressStyle};
use rnnc_train::{Beginning, Evaluated, Event, Metrics, UpdateReport};
use std::io::Write;
use std::path::Path;

/// Steps of the progress bar.
const BAR: u64 = 10_000;

/// Shows events.
pub struct Screen {
    bar: ProgressBar,
    /// Whether symbols are characters.
    of_text: bool,
    /// The last loss, in bits or as it is.
    loss: f64,
    in_bits: bool,
}

impl Screen {
    /// A screen for a run on text, or on arrays.
    pub fn new(of_text: bool) -> Screen {
        let bar = ProgressBar::new(BAR);
        let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Screen { bar, of_text, loss: f64::NAN, in_bits: of_text }
    }

    /// Shows what happened.
    pub fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Begin(beginning) => self.begin(beginning),
            Event::Warning(warning) => self.bar.suspend(|| {
                let _ = writeln!(std::io::stderr(), "warning: {warning}");
            }),
            Event::Update(report) => self.update(report),
            Event::Metrics(metrics) => self.metrics(metrics),
            Event::Checkpoint { update, .. } if update > 0 => {
                self.say(&format!("update {update:>6}  checkpoint written"));
            }
            Event::Checkpoint { .. } => {}
            Event::Sample { prompt, text } => {
                self.bar.finish_and_clear();
                self.say(&format!(
                    "\nit writes, after {prompt:?}:\n\n{prompt}{}",
                    String::from_utf8_lossy(text)
                ));
            }
        }
    }

    /// Takes the progress bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// A line on stdout. That nobody reads it is no reason to stop a run.
    fn say(&self, line: &str) {
        self.bar.suspend(|| {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        });
    }

    fn begin(&mut self, beginning: &Beginning) {
        let Beginning { network, parameters, train_frames, validation_frames, test_frames, executor, .. } =
            beginning;
        let frames = if self.of_text { "characters" } else { "frames" };
        let mut line = format!(
            "network {network}: {} parameters; {} {frames} to train on, {} to validate, {} to test; {executor} executor",
            grouped(*parameters as u64),
            grouped(*train_frames as u64),
            grouped(*validation_frames as u64),
            grouped(*test_frames as u64),
        );
        match beginning.threads {
            0 => {}
            1 => line.push_str(", 1 thread"),
            threads => line.push_str(&format!(", {threads} threads")),
        }
        if let Some(update) = beginning.resumed_at {
            line.push_str(&format!("; going on after update {update}"));
        }
        self.say(&line);
    }

    fn update(&mut self, report: &UpdateReport) {
        if report.loss.is_finite() {
            self.loss = report.loss;
        }
        let loss = if self.in_bits { self.loss / std::f64::consts::LN_2 } else { self.loss };
        self.bar.set_position((report.done * BAR as f64) as u64);
        self.bar.set_message(format!(
            "update {}  loss {}  {} frames/s  {} left",
            report.update,
            short(loss, 3),
            grouped(report.frames_per_second as u64),
            duration(report.left.as_secs_f64()),
        ));
    }

    fn metrics(&mut self, metrics: &Metrics) {
        match metrics {
            Metrics::Training {
                update,
                loss,
                bits_per_symbol,
                gradient_norm,
                learning_rate,
                frames_per_second,
                seconds,
                ..
            } => {
                self.in_bits = bits_per_symbol.is_some();
                let loss = match (bits_per_symbol, loss) {
                    (Some(bits), _) => format!("{} bits", short(*bits, 3)),
                    (None, Some(loss)) => short(*loss, 6),
                    (None, None) => "none".into(),
                };
                self.say(&format!(
                    "update {update:>6}  loss {loss}  gradient norm {}  learning rate {learning_rate:.5}  \
                     {} frames/s  {}",
                    short(*gradient_norm, 2),
                    grouped(*frames_per_second as u64),
                    duration(*seconds)
                ));
            }
            Metrics::Validation(evaluated) => {
                self.say(&format!(
                    "update {:>6}  validation: {}",
                    evaluated.update,
                    evaluation(evaluated, self.of_text)
                ));
            }
            Metrics::Test(evaluated) => {
                self.say(&format!(
                    "update {:>6}  test: {}",
                    evaluated.update,
                    evaluation(evaluated, self.of_text)
                ));
            }
        }
    }
}

/// A loss on other data, in words.
pub fn evaluation(evaluated: &Evaluated, of_text: bool) -> String {
    let mut line = match evaluated.bits_per_symbol {
        Some(bits) if of_text => format!("{} bits per character", short(bits, 3)),
        Some(bits) => format!("{} bits per frame", short(bits, 3)),
        None => format!("loss {}", short(evaluated.loss, 6)),
    };
    for (metric, value) in &evaluated.metrics.0 {
        line.push_str(&format!(", {} {}", metric.name(), short(*value, 4)));
    }
    line
}

/// A path as a shell takes it.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// A number with so many digits behind its point, or, where it has too many before it, with an exponent: `1.1e36`.
fn short(number: f64, digits: usize) -> String {
    match number.abs() < 1e7 || !number.is_finite() {
        true => format!("{number:.digits$}"),
        false => format!("{number:.1e}"),
    }
}

/// `1:02:03`, or `2:03`
pub fn duration(seconds: f64) -> String {
    // A negative or endless duration becomes the nearest that can be written.
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ if hours > 999 => "long".into(),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// `1,234,567`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped_by_thousands() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")];
        cases.into_iter().for_each(|(number, text)| assert_eq!(grouped(number), text));
    }

    #[test]
    fn paths_are_quoted_where_a_shell_would_take_them_apart() {
        for (path, text) in [
            ("a/b-c_1.toml", "a/b-c_1.toml"),
            ("\u{fc}ber/a", "\u{fc}ber/a"),
            ("my model/a", "'my model/a'"),
            ("$x", "'$x'"),
            ("it's", "'it'\\''s'"),
        ] {
            assert_eq!(quoted(Path::new(path)), text);
        }
    }

    #[test]
    fn losses_past_counting_have_an_exponent() {
        let cases =
            [(1.09669e36, "1.1e36"), (9999999.0, "9999999.000"), (-1e7, "-1.0e7"), (f64::INFINITY, "inf")];
        cases.into_iter().for_each(|(number, text)| assert_eq!(short(number, 3), text));
    }

    #[test]
    fn durations_read_as_clocks() {
        let cases = [(0.4, "0:00"), (61.0, "1:01"), (3600.0, "1:00:00"), (f64::MAX, "long"), (-1.0, "0:00")];
        cases.into_iter().for_each(|(seconds, text)| assert_eq!(duration(seconds), text));
    }
}

//! Where values are: from the plan's views and reads to expressions of generated code.
//!
//! A buffer lies as `[history + window, streams, width]`. Generated code counts rows from the window's first frame:
//! `row = frame * streams + stream`.

use crate::program::BufferPlace;
use rnnc_plan::{ExecutionConfig, Plan, Read, Residency, StartValue, View};
use std::ops::Range;

/// Where the columns of a view lie in `values`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    /// Of the first column in row 0.
    pub base: usize,
    /// Numbers from a row to the next.
    pub width: usize,
    /// Columns.
    pub len: usize,
}

/// The memory of a plan for a number of streams and a window.
pub(crate) struct Places<'a> {
    pub plan: &'a Plan,
    pub config: ExecutionConfig,
    /// Of each buffer, its first number, with its history.
    offsets: Vec<usize>,
    /// Numbers of all buffers.
    pub total: usize,
}

impl<'a> Places<'a> {
    /// Stages of levels from the first to the last of each range may run at the same time.
    pub fn new(plan: &'a Plan, config: ExecutionConfig, at_once: Vec<(usize, usize)>) -> Places<'a> {
        let keep = config.step < config.window;
        let residency = Residency { at_once, ..Residency::default() };
        let placement = plan.place(config.streams, config.window, keep, &residency);
        // Sizes were checked against the device's memory before.
        let offsets = placement.offsets.iter().map(|&bytes| (bytes / 4) as usize).collect();
        Places { plan, config, offsets, total: (placement.total / 4) as usize }
    }

    /// Rows of a frame.
    pub fn streams(&self) -> usize {
        self.config.streams
    }

    /// Of a buffer: its first number (the oldest frame of its history) and the numbers of a frame.
    pub fn buffer(&self, buffer: usize) -> (usize, usize) {
        (self.offsets[buffer], self.plan.buffers[buffer].width * self.config.streams)
    }

    /// Where a buffer lies, with its history.
    pub fn buffer_place(&self, buffer: usize) -> BufferPlace {
        let (offset, frame) = self.buffer(buffer);
        BufferPlace { offset, frame, history: self.plan.buffers[buffer].history }
    }

    /// The numbers of each buffer.
    pub fn lying(&self) -> Vec<Range<usize>> {
        let numbers = |buffer| {
            let BufferPlace { offset, frame, history } = self.buffer_place(buffer);
            offset..offset + (history + self.config.window) * frame
        };
        (0..self.plan.buffers.len()).map(numbers).collect()
    }

    pub fn spot(&self, view: View) -> Spot {
        let buffer = &self.plan.buffers[view.buffer.0];
        let (offset, frame) = self.buffer(view.buffer.0);
        Spot { base: offset + buffer.history * frame + view.column, width: buffer.width, len: view.len }
    }

    /// The address expression of a view's number: `row` and `unit` are expressions.
    pub fn address(&self, view: View, row: &str, unit: &str) -> String {
        let Spot { base, width, .. } = self.spot(view);
        format!("a.values + ({base}ull + (u64)({row}) * {width}ull + ({unit}))")
    }

    /// The address expression of what a read that does not cross gives: that of the row before (or after).
    pub fn source_address(&self, read: &Read, row: &str, unit: &str) -> String {
        let Spot { base, width, .. } = self.spot(read.view);
        // The delayed row of frame 0 may lie in the history, but never before the buffer.
        let shift = read.delay * (self.streams() * width) as i64;
        format!("a.values + ({}ll + (long long)({row}) * {width}ll + ({unit}))", base as i64 - shift)
    }

    /// The condition under which a read crosses in a row; `None` if it never does. `row` and `frame` are expressions.
    pub fn crosses(&self, read: &Read, row: &str, frame: &str) -> Option<String> {
        let (since_reset, ahead) =
            (format!("constant(a.since_reset + ({row}))"), format!("constant(a.ahead + ({row}))"));
        self.crosses_at(read, &since_reset, &ahead, frame)
    }

    /// The same where the row's entries of `since_reset` and `ahead` are known.
    pub fn crosses_at(&self, read: &Read, since_reset: &str, ahead: &str, frame: &str) -> Option<String> {
        let delay = read.delay;
        match delay {
            0 => None,
            1.. if read.history => Some(format!("{since_reset} < {delay}u")),
            1.. => Some(format!("({since_reset} < {delay}u || ({frame}) - {delay} < a.begin)")),
            _ => Some(format!("{ahead} <= {}u", -delay)),
        }
    }

    /// Whether what a read that crosses would have read without crossing lies in its buffer, in all rows.
    pub fn is_always_inside(&self, read: &Read) -> bool {
        let history = self.plan.buffers[read.view.buffer.0].history;
        usize::try_from(read.delay).is_ok_and(|delay| delay <= history)
    }

    /// The expression of what a crossing read gives. Symbols are read as the bits of a number.
    pub fn start(&self, read: &Read, unit: &str) -> String {
        if self.plan.buffers[read.view.buffer.0].symbols {
            return "as_float(~0u)".into();
        }
        match read.start {
            StartValue::Number(number) => float(number),
            StartValue::Weight(offset) => format!("constant(a.weights + ({offset}ull + ({unit})))"),
        }
    }
}

/// A number as C++ writes it.
pub(crate) fn float(number: f64) -> String {
    let number = number as f32;
    if number.is_finite() { format!("{number:e}f") } else { format!("as_float({:#x}u)", number.to_bits()) }
}

#[cfg(test)]
mod tests {
    use super::float;

    #[test]
    fn numbers_are_written_so_that_cpp_reads_them_back() {
        assert_eq!(float(1.0), "1e0f");
        assert_eq!(float(-0.1), "-1e-1f");
        assert_eq!(float(f64::INFINITY), "as_float(0x7f800000u)");
    }
}

//! How maps in a loop read and write.

use super::early::{Carry, Early, To};
use super::exchange::{Origin, Stored, origin};
use super::groups::Groups;
use crate::places::Places;
use crate::source::map::Site;
use rnnc_plan::{Read, View};

/// The results of a product that wait in shared memory for the maps behind it.
#[derive(Clone, Debug)]
pub(super) struct Result {
    /// Units of one layer.
    pub view: View,
    /// The unit of the first column.
    pub first: usize,
    /// The expression of its value for the item's unit.
    pub value: String,
}

/// A map in a loop. Variables `row`, `frame` and `stream` are defined by the code around.
pub(super) struct LoopSite<'a> {
    pub places: &'a Places<'a>,
    pub groups: Groups,
    pub stored: &'a [Stored],
    pub slice_len: usize,
    pub first: usize,
    /// What can be read of this step without memory.
    pub results: &'a [Result],
    /// What is stored later, elsewhere.
    pub late: &'a [View],
    /// What a step reads before it stores anything there.
    pub untouched: &'a [View],
    /// Where loops read ahead: what is read, what is kept from the step before, and the direction of time.
    pub ahead: Option<(&'a mut Early, &'a [Carry], i64)>,
}

impl Site for LoopSite<'_> {
    fn load(&mut self, read: &Read, unit: &str) -> String {
        let repeated = unit != "u";
        if read.delay == 0
            && !repeated
            && let Some(result) = result(self.results, read.view, self.first)
        {
            return result.value.clone();
        }
        let origin = match (repeated, origin(self.stored, read, self.slice_len, self.first)) {
            (true, Origin::SameUnit) => Origin::OtherUnits,
            (_, origin) => origin,
        };
        let address = self.places.source_address(read, "row", unit);
        let crosses = self.places.crosses(read, "row", "frame");
        let or_start = |value: String| match &crosses {
            None => value,
            Some(crosses) => format!("{crosses} ? {} : {value}", self.places.start(read, unit)),
        };
        if let Some((early, _, sign)) = self.ahead.as_mut().filter(|(early, ..)| early.to() == To::Cache) {
            let outside =
                origin == Origin::Outside || (origin == Origin::SameUnit && *sign * read.delay >= 2);
            if outside && (crosses.is_none() || self.places.is_always_inside(read)) {
                early.prefetch(&address);
            }
        } else if let Some((early, carries, sign)) = &mut self.ahead {
            let lag = *sign * read.delay;
            let kept =
                |c: &Carry| c.view == read.view && c.first == self.first && c.slice_len == self.slice_len;
            let carry = match (origin, lag) {
                (Origin::SameUnit, 1) => carries.iter().position(kept),
                _ => None,
            };
            let value = if let Some(at) = carry {
                let value = format!("carry{at}[it]");
                let before = match &crosses {
                    None => format!("own({address})"),
                    Some(crosses) => format!("{crosses} ? 0.f : own({address})"),
                };
                early.begin(format!("{value} = {before};"));
                Some(value)
            } else if origin == Origin::Outside
                || (origin == Origin::SameUnit && lag >= 2)
                || (lag == 0 && !repeated && self.untouched.contains(&read.view))
            {
                if crosses.is_some() && !self.places.is_always_inside(read) {
                    return early.value("float", or_start(format!("early({address})")));
                }
                Some(early.value("float", format!("early({address})")))
            } else {
                None
            };
            if let Some(value) = value {
                // Ages are read ahead as they are, and compared when they are there.
                let mut entry = |of: &str| early.value("u32", format!("early(a.{of} + (row))"));
                let since_reset = if read.delay > 0 { entry("since_reset") } else { String::new() };
                let ahead = if read.delay < 0 { entry("ahead") } else { String::new() };
                return match self.places.crosses_at(read, &since_reset, &ahead, "frame") {
                    None => value,
                    Some(crosses) => format!("{crosses} ? {} : {value}", self.places.start(read, unit)),
                };
            }
        }
        or_start(match origin {
            Origin::Outside => format!("constant({address})"),
            Origin::SameUnit => format!("own({address})"),
            Origin::OtherUnits => format!("fresh({address})"),
        })
    }

    fn weight(&mut self, offset: usize) -> String {
        let value = format!("constant(a.weights + ({offset}ull + u))");
        match &mut self.ahead {
            Some((early, ..)) if early.to() == To::Registers => early.fixed(&value),
            _ => value,
        }
    }

    fn store(&mut self, to: View, value: &str) -> String {
        if self.late.contains(&to) {
            return String::new();
        }
        format!("put({}, {value});", self.places.address(to, "row", "u"))
    }

    fn dropout(&self) -> bool {
        self.places.config.training
    }

    fn stream(&self) -> &'static str {
        self.groups.stream()
    }
}

/// The result that holds a view, whose first column is unit `first`: the last that has any of its units, if that has
/// all of them.
pub(super) fn result(results: &[Result], view: View, first: usize) -> Option<&Result> {
    let end = |view: View| view.column + view.len;
    let meets =
        |r: &&Result| r.view.buffer == view.buffer && r.view.column < end(view) && view.column < end(r.view);
    results.iter().rev().find(meets).filter(|r| {
        r.view.column + first == view.column + r.first
            && r.view.column <= view.column
            && end(view) <= end(r.view)
    })
}

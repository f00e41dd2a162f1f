//! Maps as straight-line code for one unit of one row.

use super::program;
use crate::places::{Places, float};
use rnnc_plan::{Map, MapLeaf, Mask, Read, Repeat, View};

/// Where a map stands: how the code around it reads and writes. Expressions are for unit `u`, counted from the map's
/// first, in row `row`.
pub(crate) trait Site {
    /// The value of a read, as an expression; `unit` is the place within its view.
    fn load(&mut self, read: &Read, unit: &str) -> String;

    /// The value of a weight vector that begins at `offset`, as an expression.
    fn weight(&mut self, offset: usize) -> String {
        format!("constant(a.weights + ({offset}ull + u))")
    }

    /// A statement that writes a register.
    fn store(&mut self, to: View, value: &str) -> String;

    /// Whether dropout is on.
    fn dropout(&self) -> bool;

    /// The expression of the row's stream, among all.
    fn stream(&self) -> &'static str {
        "stream"
    }
}

/// The statements of a map. Variables `u`, `frame` and `stream` are defined by the code around; registers are called
/// `<prefix>0`, `<prefix>1`, ...
pub(crate) fn statements(map: &Map, prefix: &str, site: &mut dyn Site) -> String {
    program::statements(&map.program, prefix, site)
}

impl program::Site<MapLeaf> for &mut dyn Site {
    fn leaf(&mut self, leaf: &MapLeaf) -> String {
        match leaf {
            MapLeaf::Read(read) => self.load(read, "u"),
            MapLeaf::Repeated(read, repeat) => self.load(read, &repeated(*repeat)),
            MapLeaf::Weight(offset) => self.weight(*offset),
            MapLeaf::Mask(_) if !self.dropout() => float(1.0),
            MapLeaf::Mask(drawn) => mask(drawn, self.stream()),
        }
    }

    fn store(&mut self, to: &View, value: &str) -> String {
        Site::store(*self, *to, value)
    }
}

/// The place in its view that unit `u` of whoever reads it repeated reads, as an expression.
pub(crate) fn repeated(repeat: Repeat) -> String {
    format!("({}u + u) / {}u", repeat.first, repeat.times)
}

/// The expression of a dropout mask for unit `u` of a stream.
pub(crate) fn mask(mask: &Mask, stream: &str) -> String {
    let Mask { key, probability, first } = *mask;
    // The least hash that is kept: `hash >= p * 2^32`, of integers.
    let least = (probability * 4_294_967_296.0).ceil() as u64;
    let kept = float(1.0 / (1.0 - probability));
    format!("mask(a.run[RUN_SEED], {key}ull, absolute(a, frame), {stream}, {first}u + u, {least}ull, {kept})")
}

/// A map over rows of memory, all reads from there: of frames stages.
pub(crate) struct InMemory<'a> {
    pub places: &'a Places<'a>,
}

impl Site for InMemory<'_> {
    fn load(&mut self, read: &Read, unit: &str) -> String {
        let value = format!("*({})", self.places.source_address(read, "row", unit));
        match self.places.crosses(read, "row", "frame") {
            None => value,
            Some(crosses) => format!("{crosses} ? {} : {value}", self.places.start(read, unit)),
        }
    }

    fn store(&mut self, to: View, value: &str) -> String {
        format!("*({}) = {value};", self.places.address(to, "row", "u"))
    }

    fn dropout(&self) -> bool {
        self.places.config.training
    }
}

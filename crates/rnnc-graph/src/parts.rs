//! What a graph is made of: layers, connections, weights, and the accumulations of adjoint graphs.

use crate::activations::Function;
use crate::init::Init;
use crate::ops::Operation;

/// A layer of a graph, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId(pub(crate) u32);

/// A connection of a graph, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(crate) u32);

/// A weight of a graph, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub(crate) u32);

macro_rules! index {
    ($($id:ty),*) => {$(
        impl $id {
            /// The place in the graph's list.
            pub fn index(self) -> usize {
                self.0 as usize
            }

            /// The id of a place in the graph's list.
            pub fn from_index(index: usize) -> Self {
                Self(u32::try_from(index).expect("a graph has fewer than 2^32 parts of a kind"))
            }
        }
    )*};
}
index!(LayerId, ConnectionId, WeightId);

/// A place in a text that a network came from, for messages. Which text `text` is, the reader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The text, by its number.
    pub text: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A learned array. Its canonical shape is row-major: `[n]` for vectors, `[rows, columns]` for matrices,
/// `[heads, rows / heads, columns / heads]` for block-diagonal ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// Where it stands in the network: `h1.i.W.x`.
    pub name: String,
    /// The canonical shape.
    pub shape: Vec<usize>,
    /// How it begins.
    pub init: Init,
}

impl Weight {
    /// How many numbers it holds.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The initial values of a weight, row-major in its canonical shape. They depend on the seed, the weight's name
/// and its shape alone, on every machine.
pub fn initial_values(weight: &Weight, seed: u64) -> Vec<f64> {
    weight.init.values(&weight.name, &weight.shape, seed)
}

/// What a delayed read of a layer gives where it crosses a reset or the stream's ends.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Start {
    /// 0 in every unit.
    #[default]
    Zero,
    /// The same number in every unit.
    Constant(f64),
    /// A learned vector of the layer's size.
    Learned(WeightId),
}

/// What a layer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LayerKind {
    /// A vector handed in for each frame.
    Input,
    /// One of `size` symbols handed in for each frame; as a vector, one-hot. Only full connections (a look-up)
    /// and [`Operation::CrossEntropy`] read it.
    Symbol,
    /// A learned vector, or one derived of such, the same in all frames.
    Parameter(WeightId),
    /// In an adjoint graph: the value of that layer of the forward graph, its history included.
    Residual(LayerId),
    /// The sum of the incoming connections' terms.
    Sum,
    /// The elementwise product of the incoming connections' terms.
    Product,
    /// An operation on the incoming connections' terms, in their order.
    Operation(Operation),
}
/// A layer: a vector of `size` units with a value in every frame of every stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Unique in the graph. An equation's name (`h1.c`), or, for a layer without a name of its own, its
    /// equation's name and a number (`h1.c.1`).
    pub name: String,
    /// Units; of a symbol layer, symbols.
    pub size: usize,
    /// What it computes.
    pub kind: LayerKind,
    /// Applied to the combined inputs. Identity for everything but sums and products.
    pub function: Function,
    /// What reads that cross a reset give.
    pub start: Start,
    /// Where it was written.
    pub origin: Option<Origin>,
    /// In an adjoint: the layer of the network whose error it has, or helps to carry.
    pub error_of: Option<LayerId>,
}

/// A run of units of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// The first unit.
    pub start: usize,
    /// How many.
    pub len: usize,
}

impl Range {
    /// `start .. start + len`
    pub fn new(start: usize, len: usize) -> Range {
        Range { start, len }
    }

    /// One past the last unit.
    pub fn end(self) -> usize {
        self.start + self.len
    }

    /// Some of it, counted from its start.
    pub(crate) fn part(self, units: Range) -> Range {
        Range::new(self.start + units.start, units.len)
    }
}

/// Some rows and some columns of a weight matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Submatrix {
    /// Of the matrix as it is, not transposed.
    pub rows: Range,
    /// Of the matrix as it is, not transposed.
    pub columns: Range,
}

impl Submatrix {
    /// How many numbers it has.
    pub fn len(self) -> usize {
        self.rows.len * self.columns.len
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether both have numbers in common.
    pub fn overlaps(self, other: Submatrix) -> bool {
        let overlap = |a: Range, b: Range| a.start < b.end() && b.start < a.end();
        overlap(self.rows, other.rows) && overlap(self.columns, other.columns)
    }
}

/// How the target's term follows from the source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConnectionKind {
    /// A weight matrix from all units read to all units written: W a, or, `transposed`, W^T a. With `heads` > 1
    /// it is block-diagonal. From a symbol layer it is a look-up.
    Full {
        /// `[rows, columns]`, or `[heads, rows / heads, columns / heads]`.
        weight: WeightId,
        /// 1, or the number of diagonal blocks.
        heads: usize,
        /// Multiply by the transpose (adjoints).
        transposed: bool,
        /// The part of the matrix that is used: all of it, or, of a single block, what reads of copies of parts need.
        part: Option<Submatrix>,
    },
    /// One weight per unit (peepholes, gains).
    Diagonal {
        /// `[n]`
        weight: WeightId,
    },
    /// `scale` times the source.
    Identity {
        /// The factor.
        scale: f64,
    },
    /// `scale` times the source, each of its g units repeated n / g times in a row.
    Broadcast {
        /// The factor.
        scale: f64,
    },
    /// A number in every unit; it has no source.
    Constant {
        /// The number.
        value: f64,
    },
}

/// An edge of the graph: one term of the target layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// The layer read; of a constant, none.
    pub source: Option<LayerId>,
    /// The layer that has the term.
    pub target: LayerId,
    /// What is done on the way.
    pub kind: ConnectionKind,
    /// Frame t of the target reads frame t - delay of the source.
    pub delay: i64,
    /// The units read.
    pub source_range: Range,
    /// The units written; the term is 0 elsewhere.
    pub target_range: Range,
    /// No error flows back through it.
    pub stops_gradient: bool,
}

/// What is summed into the gradient of a weight over all frames and streams of a window. Only adjoint graphs
/// have these.
#[derive(Clone, Debug, PartialEq)]
pub struct Accumulation {
    /// The weight whose gradient this adds to.
    pub weight: WeightId,
    /// What is added in each frame.
    pub kind: AccumulationKind,
    /// The layer of the adjoint graph that has the error, delay 0.
    pub error: LayerId,
    /// The units of the error.
    pub error_range: Range,
}

/// What one frame adds to a weight's gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AccumulationKind {
    /// error(t) outer source(t - delay), within each of the `heads` diagonal blocks.
    Outer {
        /// The saved layer that the weight multiplied.
        source: LayerId,
        /// Its units.
        source_range: Range,
        /// Its delay.
        delay: i64,
        /// The number of diagonal blocks.
        heads: usize,
        /// The part of the matrix that it is the gradient of, if not all.
        part: Option<Submatrix>,
    },
    /// error(t) * source(t - delay), unit by unit.
    Diagonal {
        /// The saved layer that the weight multiplied.
        source: LayerId,
        /// Its units.
        source_range: Range,
        /// Its delay.
        delay: i64,
    },
    /// scale * error(t), added to the weight's units that `weight_range` names.
    Sum {
        /// The factor.
        scale: f64,
        /// The units of the weight.
        weight_range: Range,
    },
    /// error(t) in those frames where a read with this delay crosses a reset (a learned start).
    Start {
        /// The factor.
        scale: f64,
        /// The delay of the read.
        delay: i64,
        /// The units of the weight.
        weight_range: Range,
    },
}

impl AccumulationKind {
    /// The saved layer that is read, if one is.
    pub fn source(self) -> Option<LayerId> {
        match self {
            AccumulationKind::Outer { source, .. } | AccumulationKind::Diagonal { source, .. } => {
                Some(source)
            }
            AccumulationKind::Sum { .. } | AccumulationKind::Start { .. } => None,
        }
    }

    /// The same, reading another layer.
    pub(crate) fn map_source(mut self, map: impl Fn(LayerId) -> LayerId) -> AccumulationKind {
        if let AccumulationKind::Outer { source, .. } | AccumulationKind::Diagonal { source, .. } = &mut self
        {
            *source = map(*source);
        }
        self
    }
}

/// A layer that the network hands out, under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// As users see it.
    pub name: String,
    /// The layer.
    pub layer: LayerId,
}

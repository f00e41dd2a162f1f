//! What a read gives, and the value of one layer in one frame of one stream.

use crate::rounding::{Rounding, Roundings};
use crate::window::{Place, Window};
use rnnc_graph::ops::{Given, Keeps, Operand};
use rnnc_graph::{Connection, ConnectionKind, Graph, LayerId, LayerKind, Operation, Range, Start, Submatrix};
use std::borrow::Cow;

/// The values of a layer in the frames of the window: `[frames, B, width]`. A symbol is one number, -1 for none.
#[derive(Clone, Debug)]
pub(crate) struct LayerValues {
    pub streams: usize,
    pub width: usize,
    pub values: Vec<f64>,
}

impl LayerValues {
    /// Room for the layer's values; no frame yet.
    fn new(graph: &Graph, layer: LayerId, streams: usize) -> LayerValues {
        LayerValues { streams, width: width(graph, layer), values: Vec::new() }
    }

    /// The numbers of a frame, all streams together.
    pub fn frame_len(&self) -> usize {
        self.streams * self.width
    }

    /// Overwrites the frames up to the one `end` frames back.
    pub fn put_before(&mut self, end: usize, values: &[f64]) {
        let end = self.values.len() - end * self.frame_len();
        self.values[end - values.len()..end].copy_from_slice(values);
    }

    /// The units in a frame of a stream.
    pub fn at(&self, at: Place) -> &[f64] {
        let start = (at.frame * self.streams + at.stream) * self.width;
        &self.values[start..start + self.width]
    }

    /// The same, to change.
    pub fn at_mut(&mut self, at: Place) -> &mut [f64] {
        let start = (at.frame * self.streams + at.stream) * self.width;
        &mut self.values[start..start + self.width]
    }
}

/// How many numbers stand for a layer's value.
pub(crate) fn width(graph: &Graph, layer: LayerId) -> usize {
    let layer = graph.layer_at(layer);
    if layer.kind == LayerKind::Symbol { 1 } else { layer.size }
}

/// A graph, and the values of its layers as far as they are known.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub graph: Graph,
    pub layer_values: Vec<LayerValues>,
}

/// What surrounds a network while it runs.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// The kept frames.
    pub window: &'a Window,
    /// Frames before this have no values; reads of them give the start. An adjoint network begins where the
    /// backward window does.
    pub first: usize,
    /// The weights, by their ids, row-major in their canonical shapes.
    pub weights: &'a [Vec<f64>],
    /// In an adjoint network, the forward one.
    pub saved: Option<&'a Network>,
    /// Whether dropout is on.
    pub training: bool,
    /// Keys the dropout masks.
    pub seed: u64,
    /// The number of frame 0 of the window since the streams began. It wraps: a state's history may reach back
    /// beyond their beginning.
    pub frames_before: u64,
    /// The random errors that computed numbers get: none but to find what roundings do.
    pub roundings: Roundings,
}

/// What a read finds.
pub(crate) enum Read<'a> {
    /// A vector.
    Units(Cow<'a, [f64]>),
    /// A symbol, or none: as a vector, one-hot, or zeros.
    Symbol(Option<usize>),
}

impl Read<'_> {
    fn symbol(&self) -> Option<usize> {
        match self {
            Read::Units(_) => None,
            Read::Symbol(symbol) => *symbol,
        }
    }

    /// Units of it, one after the other. A symbol has none to show: only products look it up.
    fn units(&self, range: Range) -> &[f64] {
        match self {
            Read::Units(units) => &units[range.start..range.end()],
            Read::Symbol(_) => &[],
        }
    }
}

impl Network {
    pub fn new(graph: &Graph, streams: usize) -> Network {
        let layer_values = graph.layer_ids().map(|id| LayerValues::new(graph, id, streams)).collect();
        Network { graph: graph.clone(), layer_values }
    }

    /// No layers: what stands in for a network while it is elsewhere.
    pub fn empty() -> Network {
        Network { graph: Graph::default(), layer_values: Vec::new() }
    }

    /// Whether the layer's values are handed in.
    pub fn is_given(&self, layer: LayerId) -> bool {
        let kind = self.graph.layer_at(layer).kind;
        matches!(kind, LayerKind::Input | LayerKind::Symbol | LayerKind::Residual(_))
    }

    /// Whether the layer has values before the first frame that the network runs in: of the forward network.
    pub fn is_saved(&self, layer: LayerId) -> bool {
        matches!(self.graph.layer_at(layer).kind, LayerKind::Residual(_))
    }

    /// The frame that a read of `source` from `frame` finds, or none where the read gives the source's start.
    pub fn find(&self, around: &Surroundings<'_>, source: LayerId, at: Place, delay: i64) -> Option<usize> {
        let found = around.window.find(at.frame, at.stream, delay)?;
        (self.is_saved(source) || found >= around.first).then_some(found)
    }

    /// What a read of `source` from `frame` gives.
    pub fn read<'a>(&'a self, around: &Surroundings<'a>, source: LayerId, at: Place, delay: i64) -> Read<'a> {
        match self.find(around, source, at, delay) {
            Some(frame) => self.value(around, source, Place { frame, ..at }),
            None => self.start(around, source),
        }
    }

    fn value<'a>(&'a self, around: &Surroundings<'a>, layer: LayerId, at: Place) -> Read<'a> {
        let of_layer = &self.layer_values[layer.index()];
        match self.graph.layer_at(layer).kind {
            LayerKind::Symbol => Read::Symbol(symbol_from(of_layer.at(at)[0])),
            LayerKind::Residual(forward) => match around.saved {
                // One step down and no further: forward networks have no saved layers.
                Some(network) => network.value(&Surroundings { saved: None, ..*around }, forward, at),
                None => Read::Units(Cow::Owned(vec![f64::NAN; of_layer.width])),
            },
            _ => Read::Units(Cow::Borrowed(of_layer.at(at))),
        }
    }

    fn start<'a>(&self, around: &Surroundings<'a>, layer: LayerId) -> Read<'a> {
        let is_symbol = match self.graph.layer_at(layer).kind {
            LayerKind::Residual(forward) => around.saved.is_some_and(|n| n.is_symbol(forward)),
            _ => self.is_symbol(layer),
        };
        let layer = self.graph.layer_at(layer);
        match layer.start {
            _ if is_symbol => Read::Symbol(None),
            Start::Zero => Read::Units(Cow::Owned(vec![0.0; layer.size])),
            Start::Constant(value) => Read::Units(Cow::Owned(vec![value; layer.size])),
            Start::Learned(weight) => Read::Units(Cow::Borrowed(&around.weights[weight.index()])),
        }
    }

    fn is_symbol(&self, layer: LayerId) -> bool {
        self.graph.layer_at(layer).kind == LayerKind::Symbol
    }

    /// The value of a layer that is not given, from the values that it reads.
    pub fn compute(&self, around: &Surroundings<'_>, id: LayerId, at: Place) -> Vec<f64> {
        let layer = self.graph.layer_at(id);
        let terms = || self.graph.incoming(id).map(|c| self.term(around, c, at));
        let rounding = Rounding::of(around.roundings, id, at);
        match layer.kind {
            LayerKind::Sum => {
                let mut sum = vec![0.0; layer.size];
                // A sum is rounded term by term: at the size of its largest part.
                let mut largest = vec![0.0f64; layer.size];
                for (connection, term) in self.graph.incoming(id).zip(terms()) {
                    for (unit, x) in (connection.target_range.start..).zip(term) {
                        sum[unit] += x;
                        largest[unit] = largest[unit].max(x.abs()).max(sum[unit].abs());
                    }
                }
                for (unit, (s, largest)) in sum.iter_mut().zip(largest).enumerate() {
                    *s = layer.function.apply(*s + rounding.error(unit, largest));
                }
                rounding.round(layer.size, &mut sum);
                sum
            }
            LayerKind::Product => {
                let mut product = vec![1.0; layer.size];
                for term in terms() {
                    product.iter_mut().zip(term).for_each(|(p, x)| *p *= x);
                }
                rounding.round(0, &mut product);
                product.iter_mut().for_each(|p| *p = layer.function.apply(*p));
                rounding.round(layer.size, &mut product);
                product
            }
            LayerKind::Operation(operation) => {
                let mut terms: Vec<_> = terms().collect();
                let mut first = 0;
                for term in &mut terms {
                    rounding.round(first, term);
                    first += term.len();
                }
                self.operation(around, id, at, operation, &terms)
            }
            LayerKind::Parameter(weight) => around.weights[weight.index()].clone(),
            LayerKind::Input | LayerKind::Symbol | LayerKind::Residual(_) => Vec::new(),
        }
    }

    /// The value of a layer that is an operation, from the terms that are its operands. What is drawn is drawn by the number
    /// of the frame since the streams began.
    fn operation(
        &self,
        around: &Surroundings<'_>,
        id: LayerId,
        at: Place,
        operation: Operation,
        terms: &[Vec<f64>],
    ) -> Vec<f64> {
        let mut operands: Vec<Operand<'_>> = terms.iter().map(|term| Operand::Units(term)).collect();
        if let Some(place) = operation.symbol() {
            operands[place] = Operand::Symbol(self.symbol_operand(around, id, at));
        }
        let (frame, stream) = (around.frames_before.wrapping_add(at.frame as u64), at.stream as u64);
        let keeps = |key: u64, probability: f64, unit: usize| {
            rnnc_plan::dropout::keeps(around.seed, key, frame, stream, unit as u64, probability)
        };
        let (units, keeps) = (self.graph.layer_at(id).size, around.training.then_some(&keeps as &Keeps<'_>));
        operation.evaluate(&Given { operands: &operands, units, keeps })
    }

    /// The last operand of an operation, where that is a symbol.
    fn symbol_operand(&self, around: &Surroundings<'_>, id: LayerId, at: Place) -> Option<usize> {
        let last = self.graph.incoming(id).last()?;
        self.read(around, last.source?, at, last.delay).symbol()
    }

    /// What a connection gives its target: one number for each unit of its target range.
    fn term(&self, around: &Surroundings<'_>, c: &Connection, at: Place) -> Vec<f64> {
        let len = c.target_range.len;
        let Some(source) = c.source else {
            return match c.kind {
                ConnectionKind::Constant { value } => vec![value; len],
                _ => vec![0.0; len],
            };
        };
        let read = self.read(around, source, at, c.delay);
        let units = read.units(c.source_range);
        match c.kind {
            ConnectionKind::Full { weight, heads, transposed, part } => {
                let part = part.map(|part| submatrix(&self.graph.weight_at(weight).shape, part));
                let weight = &around.weights[weight.index()];
                let weight =
                    part.map_or(Cow::Borrowed(&weight[..]), |places| places.map(|p| weight[p]).collect());
                let weight = &weight[..];
                match read {
                    Read::Units(_) => product(weight, heads, transposed, units, len),
                    Read::Symbol(symbol) => look_up(weight, symbol, c.source_range.len, len),
                }
            }
            ConnectionKind::Diagonal { weight } => {
                units.iter().zip(&around.weights[weight.index()]).map(|(a, w)| w * a).collect()
            }
            ConnectionKind::Identity { scale } => units.iter().map(|a| scale * a).collect(),
            ConnectionKind::Broadcast { scale } => {
                let copies = len / c.source_range.len;
                units.iter().flat_map(|a| std::iter::repeat_n(scale * a, copies)).collect()
            }
            ConnectionKind::Constant { value } => vec![value; len],
        }
    }
}

/// The symbol that a number stands for.
fn symbol_from(value: f64) -> Option<usize> {
    (value >= 0.0).then_some(value as usize)
}

/// The places of a part of a matrix in the whole, row by row.
pub(crate) fn submatrix(shape: &[usize], part: Submatrix) -> impl Iterator<Item = usize> + use<> {
    let width = shape[1];
    let row = move |row| (part.columns.start..part.columns.end()).map(move |column| row * width + column);
    (part.rows.start..part.rows.end()).flat_map(row)
}

/// W a, or W^T a; block-diagonal with more than one head. W is `[heads, rows / heads, columns / heads]`.
fn product(weight: &[f64], heads: usize, transposed: bool, a: &[f64], len: usize) -> Vec<f64> {
    let (from, to) = (a.len() / heads, len / heads);
    let mut out = vec![0.0; len];
    for head in 0..heads {
        let block = &weight[head * from * to..(head + 1) * from * to];
        for i in 0..to {
            for j in 0..from {
                let w = if transposed { block[j * to + i] } else { block[i * from + j] };
                out[head * to + i] += w * a[head * from + j];
            }
        }
    }
    out
}

/// The column of W `[rows, symbols]` that a symbol names; zeros for none.
fn look_up(weight: &[f64], symbol: Option<usize>, symbols: usize, rows: usize) -> Vec<f64> {
    match symbol {
        Some(symbol) => (0..rows).map(|row| weight[row * symbols + symbol]).collect(),
        None => vec![0.0; rows],
    }
}

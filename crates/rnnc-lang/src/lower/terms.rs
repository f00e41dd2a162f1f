//! Expressions as terms of sum layers, and as reads of layers: what needs no layer of its own gets none.
//!
//! A layer's terms are added from left to right, so a sum within a sum is its terms only at the beginning; elsewhere, and
//! as part of a product, it is a layer. Only a sign is moved from one number to another: all else would round anew.

use super::Lowering;
use crate::constants::finite;
use crate::diagnostics::Diagnostic;
use crate::ir::{Dense, ExprId, NodeKind, Op};
use crate::syntax::Span;
use rnnc_graph::ops::Relation;
use rnnc_graph::{Connection, ConnectionKind, Init, LayerId, LayerKind, Operation, Range};

/// A plain read: units of a layer, times a number.
#[derive(Clone, Copy)]
pub(crate) struct Read {
    pub layer: LayerId,
    pub delay: i64,
    pub range: Range,
    pub scale: f64,
    pub stops_gradient: bool,
}

impl Read {
    /// Of this frame, as it is.
    pub fn of(layer: LayerId, range: Range) -> Read {
        Read { layer, delay: 0, range, scale: 1.0, stops_gradient: false }
    }
}

// Expressions nest only as deep as their expansion allows, so these may recurse.
impl Lowering<'_, '_> {
    /// Adds an expression to a sum layer, or to a part of one, times a number. `first` says that nothing was added there
    /// before.
    pub fn terms(
        &mut self,
        id: ExprId,
        scale: f64,
        layer: LayerId,
        range: Range,
        first: bool,
    ) -> Result<(), Diagnostic> {
        let expr = self.network.expr(id);
        let same_size = self.size(id) == range.len;
        let whole = same_size && range.len == self.graph.layer_at(layer).size;
        match &expr.op {
            &Op::Number(number) => self.constant(finite(scale * number, expr.span)?, layer, range),
            &Op::Broadcast { operand, .. } if matches!(self.network.expr(operand).op, Op::Number(_)) => {
                self.terms(operand, scale, layer, range, first)?;
            }
            Op::Sum { terms } if terms.len() == 1 || (first && is_sign(scale)) => {
                for (place, &(sign, term)) in terms.iter().enumerate() {
                    self.terms(term, scale * sign, layer, range, first && place == 0)?;
                }
            }
            Op::Product { scale: own, factors }
                if factors.len() == 1 && (is_sign(scale) || is_sign(*own)) =>
            {
                self.terms(factors[0], scale * own, layer, range, first)?;
            }
            Op::Dense(dense) if whole && scale == 1.0 => self.dense(dense, layer, expr.span)?,
            Op::Diagonal { operand, weight, init } if whole && scale == 1.0 => {
                let init = init.unwrap_or(Init::Uniform(1.0 / (range.len as f64).sqrt()));
                let weight = self.weight(weight, &[range.len], init, expr.span)?;
                let read = self.weighable(*operand)?;
                self.weigh(read, layer, ConnectionKind::Diagonal { weight });
            }
            &Op::Normalize { operand, operation, affine: Some(ref stem) } if whole && scale == 1.0 => {
                let name = self.anonymous_name(self.equation);
                let normal = self.add(name, range.len, LayerKind::Sum, expr.span)?;
                self.operation(normal, operation, &[operand])?;
                let gain =
                    self.weight(&format!("{stem}.gain"), &[range.len], Init::Constant(1.0), expr.span)?;
                let read = Read::of(normal, range);
                self.weigh(read, layer, ConnectionKind::Diagonal { weight: gain });
                // Without a mean taken out, there is none to put back.
                if matches!(operation, Operation::Normalize { center: true, .. }) {
                    self.bias(&format!("{stem}.bias"), Init::Zeros, layer, expr.span)?;
                }
            }
            &Op::Where { condition, yes, no } if whole && scale == 1.0 => {
                let condition = self.read(condition)?;
                for (operation, side) in [(Operation::When, yes), (Operation::Unless, no)] {
                    let half = self.half(operation, side, condition, range, expr.span)?;
                    self.connect(half, layer, range);
                }
            }
            &Op::Clamp { operand, lo, hi } if whole && scale == 1.0 => {
                self.clamp(operand, [lo, hi], layer, expr.span)?;
            }
            Op::Concat(parts) if same_size => {
                let mut start = range.start;
                for &part in parts {
                    let len = self.size(part);
                    self.terms(part, scale, layer, Range::new(start, len), first)?;
                    start += len;
                }
            }
            _ => {
                let read = self.read(id)?;
                let read = self.times(read, scale, id)?;
                self.connect(read, layer, range);
            }
        }
        Ok(())
    }

    /// One half of a choice: a side where the condition says so, else what changes no sum.
    fn half(
        &mut self,
        operation: Operation,
        side: ExprId,
        condition: Read,
        range: Range,
        span: Span,
    ) -> Result<Read, Diagnostic> {
        let name = self.anonymous_name(self.equation);
        let layer = self.add(name, range.len, LayerKind::Operation(operation), span)?;
        self.operand(side, layer, range)?;
        self.connect(condition, layer, range);
        Ok(Read::of(layer, range))
    }

    /// The operand where it lies within the bounds, and else a bound: at a bound, no error goes back.
    fn clamp(
        &mut self,
        operand: ExprId,
        [lo, hi]: [Option<f64>; 2],
        layer: LayerId,
        span: Span,
    ) -> Result<(), Diagnostic> {
        let range = Range::new(0, self.graph.layer_at(layer).size);
        let inner = self.read(operand)?;
        let mut beyond = Vec::new();
        for (bound, is_below) in [(lo, true), (hi, false)] {
            let Some(bound) = bound else { continue };
            let name = self.anonymous_name(self.equation);
            let relation = Operation::Compare { relation: Relation::AtMost };
            let outside = self.add(name, range.len, LayerKind::Operation(relation), span)?;
            if is_below {
                self.connect(inner, outside, range);
                self.constant(bound, outside, range);
            } else {
                self.constant(bound, outside, range);
                self.connect(inner, outside, range);
            }
            beyond.push((outside, bound));
        }
        let read = |layer, scale| Read { scale, ..Read::of(layer, range) };
        // Of two, one is 0.
        let either = match beyond[..] {
            [(only, _)] => only,
            _ => {
                let name = self.anonymous_name(self.equation);
                let either = self.add(name, range.len, LayerKind::Sum, span)?;
                beyond.iter().for_each(|&(outside, _)| self.connect(read(outside, 1.0), either, range));
                either
            }
        };
        let name = self.anonymous_name(self.equation);
        let inside = self.add(name, range.len, LayerKind::Operation(Operation::Unless), span)?;
        self.connect(inner, inside, range);
        self.connect(read(either, 1.0), inside, range);
        self.connect(read(inside, 1.0), layer, range);
        for (outside, bound) in beyond {
            self.connect(read(outside, bound), layer, range);
        }
        Ok(())
    }

    /// A read times a number. If it has one already, it becomes a layer before, so that both round as they are written.
    pub fn times(&mut self, read: Read, scale: f64, id: ExprId) -> Result<Read, Diagnostic> {
        let read = if is_sign(read.scale) || is_sign(scale) { read } else { self.copied(read, id)? };
        Ok(Read { scale: read.scale * scale, ..read })
    }

    /// An expression as a read of a layer: of one that is there, or of a new one without a name.
    pub fn read(&mut self, id: ExprId) -> Result<Read, Diagnostic> {
        let expr = self.network.expr(id);
        match &expr.op {
            Op::Read(reference) => {
                if let Some(target) = reference.target
                    && let Some(layer) = self.layers[target.node.0]
                {
                    let range = Range::new(0, self.size(id));
                    return Ok(Read { delay: target.delay, ..Read::of(layer, range) });
                }
            }
            &Op::Slice { operand, from, to } => {
                let mut read = self.read_all(operand)?;
                read.range = Range::new(read.range.start + from, to - from);
                return Ok(read);
            }
            // What reads too few units repeats them, where it is connected.
            &Op::Broadcast { operand, .. } => return self.read(operand),
            &Op::StopGradient(operand) => return Ok(Read { stops_gradient: true, ..self.read(operand)? }),
            Op::Product { scale, factors } if factors.len() == 1 => {
                let read = self.read(factors[0])?;
                return self.times(read, *scale, id);
            }
            Op::Sum { terms } if terms.len() == 1 => {
                let read = self.read(terms[0].1)?;
                return self.times(read, terms[0].0, id);
            }
            &Op::Reduce { operand, groups, mean: true } => {
                let name = self.anonymous_name(self.equation);
                let layer = self.add(name, groups, LayerKind::Sum, expr.span)?;
                self.operation(layer, Operation::GroupSum { groups }, &[operand])?;
                let scale = groups as f64 / self.size(operand) as f64;
                return Ok(Read {
                    layer,
                    delay: 0,
                    range: Range::new(0, groups),
                    scale,
                    stops_gradient: false,
                });
            }
            _ => {}
        }
        let layer = self.anonymous(id)?;
        let range = Range::new(0, self.size(id));
        Ok(Read::of(layer, range))
    }

    /// A read that has as many units as the expression.
    fn read_all(&mut self, id: ExprId) -> Result<Read, Diagnostic> {
        let read = self.read(id)?;
        if read.range.len == self.size(id) {
            return Ok(read);
        }
        self.copied(read, id)
    }

    /// A read that a weight can be applied to: all units, as they are, and errors flow back.
    fn weighable(&mut self, id: ExprId) -> Result<Read, Diagnostic> {
        let read = self.read_all(id)?;
        if read.scale == 1.0 && !read.stops_gradient { Ok(read) } else { self.copied(read, id) }
    }

    /// A read of a layer of its own that copies it.
    fn copied(&mut self, read: Read, id: ExprId) -> Result<Read, Diagnostic> {
        let name = self.anonymous_name(self.equation);
        let range = Range::new(0, self.size(id));
        let layer = self.add(name, range.len, LayerKind::Sum, self.network.expr(id).span)?;
        self.connect(read, layer, range);
        Ok(Read::of(layer, range))
    }

    fn dense(&mut self, dense: &Dense, layer: LayerId, span: Span) -> Result<(), Diagnostic> {
        let mut fan_in = 0;
        for &(input, _) in &dense.inputs {
            fan_in += if self.is_symbol(input) { 1 } else { self.size(input) };
        }
        let init = dense.init.unwrap_or(Init::Uniform(1.0 / (fan_in as f64).sqrt()));
        let (heads, rows) = (dense.heads, dense.size);
        for (input, name) in &dense.inputs {
            let columns = self.size(*input);
            let shape: &[usize] =
                if heads == 1 { &[rows, columns] } else { &[heads, rows / heads, columns / heads] };
            let weight = self.weight(name, shape, init, span)?;
            let read = self.weighable(*input)?;
            let kind = ConnectionKind::Full { weight, heads, transposed: false, part: None };
            self.weigh(read, layer, kind);
        }
        match &dense.bias {
            Some((name, init)) => self.bias(name, *init, layer, span),
            None => Ok(()),
        }
    }

    fn is_symbol(&self, id: ExprId) -> bool {
        match &self.network.expr(id).op {
            Op::Read(reference) => {
                reference.target.is_some_and(|target| self.network.node(target.node).kind == NodeKind::Symbol)
            }
            _ => false,
        }
    }

    fn bias(&mut self, name: &str, init: Init, layer: LayerId, span: Span) -> Result<(), Diagnostic> {
        let range = Range::new(0, self.graph.layer_at(layer).size);
        let weight = self.weight(name, &[range.len], init, span)?;
        let bias = self.add(name.to_owned(), range.len, LayerKind::Parameter(weight), span)?;
        self.connect(Read::of(bias, range), layer, range);
        Ok(())
    }

    fn weigh(&mut self, read: Read, target: LayerId, kind: ConnectionKind) {
        let target_range = Range::new(0, self.graph.layer_at(target).size);
        self.graph.add_connection(Connection {
            source: Some(read.layer),
            target,
            kind,
            delay: read.delay,
            source_range: read.range,
            target_range,
            stops_gradient: false,
        });
    }

    /// Adds a term that is read; fewer units than are written are repeated.
    pub fn connect(&mut self, read: Read, target: LayerId, target_range: Range) {
        let scale = read.scale;
        let kind = if read.range.len == target_range.len {
            ConnectionKind::Identity { scale }
        } else {
            ConnectionKind::Broadcast { scale }
        };
        self.graph.add_connection(Connection {
            source: Some(read.layer),
            target,
            kind,
            delay: read.delay,
            source_range: read.range,
            target_range,
            stops_gradient: read.stops_gradient,
        });
    }

    /// Adds a term that is a number.
    pub fn constant(&mut self, value: f64, target: LayerId, target_range: Range) {
        self.graph.add_connection(Connection {
            source: None,
            target,
            kind: ConnectionKind::Constant { value },
            delay: 0,
            source_range: Range::new(0, 0),
            target_range,
            stops_gradient: false,
        });
    }
}

/// Whether a product with the number changes a sign at most.
fn is_sign(number: f64) -> bool {
    number.abs() == 1.0
}

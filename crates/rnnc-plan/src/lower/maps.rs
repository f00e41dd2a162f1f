//! The fused elementwise programs: one for each group of layers of one phase and size.

use super::lowering::{Lowering, MapGroup, Piece};
use crate::ir::{Binary, Instruction, Map, Register, Repeat, WeightLayout};
use rnnc_graph::{Connection, ConnectionKind, Function, LayerId, LayerKind, Operation, Range};
use std::collections::HashMap;

/// Writes the program of a group of layers.
pub(crate) fn build(lowering: &Lowering<'_>, weights: &WeightLayout, group: &MapGroup) -> Map {
    let mut builder = Builder {
        lowering,
        weights,
        group,
        program: Vec::new(),
        registers: 0,
        values: HashMap::new(),
        loaded: HashMap::new(),
    };
    for &piece in &group.pieces {
        builder.piece(piece);
    }
    let Builder { program, registers, .. } = builder;
    let (program, registers) = fuse_multiply_add(program, registers);
    let mut layers: Vec<LayerId> = group.pieces.iter().map(|piece| piece.layer).collect();
    // The slices of a layer come one after the other.
    layers.dedup();
    Map { slice_len: group.slice_len, first: group.first, len: group.len, layers, program, registers }
}

struct Builder<'a, 'b> {
    lowering: &'a Lowering<'b>,
    weights: &'a WeightLayout,
    group: &'a MapGroup,
    program: Vec<Instruction>,
    registers: usize,
    /// The register of each piece computed here, by its layer and first unit.
    values: HashMap<(LayerId, usize), Register>,
    /// What was loaded already: (source, first unit, delay, weight's place).
    loaded: HashMap<(Option<LayerId>, usize, i64, usize), Register>,
}

impl Builder<'_, '_> {
    fn new_register(&mut self) -> Register {
        self.registers += 1;
        self.registers - 1
    }

    fn push(&mut self, make: impl FnOnce(Register) -> Instruction) -> Register {
        let to = self.new_register();
        self.program.push(make(to));
        to
    }

    fn piece(&mut self, piece: Piece) {
        let id = piece.layer;
        let graph = self.lowering.graph;
        let layer = graph.layer_at(id);
        let terms = self.lowering.terms(piece);
        let mut value = match layer.kind {
            LayerKind::Product => self.product(&terms, piece),
            LayerKind::Operation(op) => self.operation(op, &terms, piece),
            _ => self.sum(&terms, piece),
        };
        if layer.function != Function::IDENTITY {
            let from = value;
            value = self.push(|to| Instruction::Apply { function: layer.function, from, to });
        }
        self.values.insert((id, piece.first), value);
        if self.lowering.stored[id.index()]
            && let Some(view) = self.lowering.storage[id.index()]
        {
            self.program.push(Instruction::Store { from: value, to: view.part(piece.first, self.group.len) });
        }
    }

    fn number(&mut self, value: f64) -> Register {
        self.push(|to| Instruction::Number { value, to })
    }

    fn weight(&mut self, offset: usize) -> Register {
        if let Some(&register) = self.loaded.get(&(None, 0, 0, offset)) {
            return register;
        }
        let register = self.push(|to| Instruction::Weight { offset, to });
        self.loaded.insert((None, 0, 0, offset), register);
        register
    }

    fn load(&mut self, source: LayerId, part: Range, delay: i64) -> Register {
        let key = (Some(source), part.start, delay, part.len);
        if let Some(&register) = self.loaded.get(&key) {
            return register;
        }
        let read = self.lowering.read(self.weights, source, part, delay);
        let register = self.push(|to| Instruction::Load { read, to });
        self.loaded.insert(key, register);
        register
    }

    /// A term of a piece without its scale, and its scale; a constant has only a scale.
    fn term(&mut self, c: &Connection, piece: Piece) -> (Option<Register>, f64) {
        let Some(source) = c.source else {
            let ConnectionKind::Constant { value } = c.kind else { return (None, 0.0) };
            return (None, value);
        };
        let skip = piece.first - c.target_range.start;
        if let ConnectionKind::Broadcast { scale } = c.kind {
            let whole = self.lowering.read(self.weights, source, c.source_range, c.delay);
            let repeat = Repeat::of(c.target_range.len / c.source_range.len);
            let (read, repeat) = repeat.part(whole, skip, self.group.len);
            return (Some(self.push(|to| Instruction::LoadRepeated { read, repeat, to })), scale);
        }
        // Pieces come in the order in which they are computed.
        let register = self.lowering.register(c, piece.first);
        let value = register.and_then(|from| self.values.get(&(from.layer, from.first)).copied());
        let part = Range::new(c.source_range.start + skip, self.group.len);
        let value = match (value, self.lowering.reads_weight(c)) {
            (Some(register), _) => register,
            (None, Some(weight)) => self.weight(self.weights.view(weight).offset + part.start),
            (None, None) => self.load(source, part, c.delay),
        };
        match c.kind {
            ConnectionKind::Diagonal { weight } => {
                let offset = self.weights.view(weight).offset + skip;
                let weight = self.weight(offset);
                (Some(self.push(|to| Instruction::Binary { op: Binary::Mul, a: value, b: weight, to })), 1.0)
            }
            ConnectionKind::Identity { scale } => (Some(value), scale),
            _ => (Some(value), 1.0),
        }
    }

    fn scaled(&mut self, (register, scale): (Option<Register>, f64)) -> Register {
        match register {
            None => self.number(scale),
            Some(register) if scale == 1.0 => register,
            Some(from) => self.push(|to| Instruction::Scale { factor: scale, from, to }),
        }
    }

    fn sum(&mut self, terms: &[&Connection], piece: Piece) -> Register {
        let id = piece.layer;
        let mut sum = None;
        if self.lowering.has_products(id) {
            // The products' result stands where the layer's value will be.
            let view = self.lowering.storage[id.index()].map(|v| v.part(piece.first, self.group.len));
            if let Some(view) = view {
                let read = crate::ir::Read {
                    view,
                    delay: 0,
                    start: crate::ir::StartValue::Number(0.0),
                    history: false,
                };
                sum = Some(self.push(|to| Instruction::Load { read, to }));
            }
        }
        for c in terms {
            let term = self.term(c, piece);
            let term = self.scaled(term);
            sum = Some(match sum {
                None => term,
                Some(a) => self.push(|to| Instruction::Binary { op: Binary::Add, a, b: term, to }),
            });
        }
        sum.unwrap_or_else(|| self.number(0.0))
    }

    fn product(&mut self, terms: &[&Connection], piece: Piece) -> Register {
        // From left to right, each factor with its number first; only signs may wait.
        let mut product = None;
        let mut sign = 1.0;
        for c in terms {
            let (register, scale) = self.term(c, piece);
            let factor = match register {
                Some(_) if scale == -1.0 => {
                    sign = -sign;
                    self.scaled((register, 1.0))
                }
                Some(_) => self.scaled((register, scale)),
                None => match product {
                    None => self.number(scale),
                    Some(from) => {
                        product = Some(self.scaled((Some(from), scale)));
                        continue;
                    }
                },
            };
            product = Some(match product {
                None => factor,
                Some(a) => self.push(|to| Instruction::Binary { op: Binary::Mul, a, b: factor, to }),
            });
        }
        match product {
            Some(_) => self.scaled((product, sign)),
            None => self.number(1.0),
        }
    }

    fn operation(&mut self, op: Operation, terms: &[&Connection], piece: Piece) -> Register {
        if let Operation::DropoutMask { probability, key } = op {
            let first = piece.first;
            return self.push(|to| Instruction::Mask { key, probability, first, to });
        }
        let operands: Vec<Register> = terms
            .iter()
            .map(|c| {
                let term = self.term(c, piece);
                self.scaled(term)
            })
            .collect();
        match (op.binary(), &operands[..]) {
            (Some(op), &[a, b]) => self.push(|to| Instruction::Binary { op, a, b, to }),
            _ => self.number(0.0), // a validated graph has two operands here
        }
    }
}

/// Makes a product that is only added, once, and the sum it is added in, one step.
fn fuse_multiply_add(program: Vec<Instruction>, registers: usize) -> (Vec<Instruction>, usize) {
    let mut uses = vec![0usize; registers];
    let mut product = vec![None; registers];
    for (i, step) in program.iter().enumerate() {
        for register in step.reads() {
            uses[register] += 1;
        }
        if let Instruction::Binary { op: Binary::Mul, a, b, to } = *step {
            product[to] = Some((i, a, b));
        }
    }
    let mut dropped = vec![false; program.len()];
    let mut out: Vec<Instruction> = Vec::with_capacity(program.len());
    let mut fused = program;
    for step in &mut fused {
        if let Instruction::Binary { op: Binary::Add, a, b, to } = *step {
            let once = |r: Register| if uses[r] == 1 { product[r] } else { None };
            if let Some(((at, x, y), c)) = once(b).map(|p| (p, a)).or_else(|| once(a).map(|p| (p, b))) {
                dropped[at] = true;
                *step = Instruction::MulAdd { a: x, b: y, c, to };
            }
        }
    }
    out.extend(fused.into_iter().zip(dropped).filter(|(_, d)| !d).map(|(step, _)| step));
    (out, registers)
}

impl Instruction {
    /// The registers it reads.
    pub fn reads(&self) -> impl Iterator<Item = Register> {
        let list = match *self {
            Instruction::Load { .. }
            | Instruction::LoadRepeated { .. }
            | Instruction::Weight { .. }
            | Instruction::Number { .. }
            | Instruction::Mask { .. } => [None; 3],
            Instruction::Apply { from, .. }
            | Instruction::Scale { from, .. }
            | Instruction::Store { from, .. } => [Some(from), None, None],
            Instruction::Binary { a, b, .. } => [Some(a), Some(b), None],
            Instruction::MulAdd { a, b, c, .. } => [Some(a), Some(b), Some(c)],
        };
        list.into_iter().flatten()
    }

    /// The register it writes.
    pub fn writes(&self) -> Option<Register> {
        match *self {
            Instruction::Load { to, .. }
            | Instruction::LoadRepeated { to, .. }
            | Instruction::Weight { to, .. }
            | Instruction::Number { to, .. }
            | Instruction::Mask { to, .. }
            | Instruction::Apply { to, .. }
            | Instruction::Scale { to, .. }
            | Instruction::Binary { to, .. }
            | Instruction::MulAdd { to, .. } => Some(to),
            Instruction::Store { .. } => None,
        }
    }
}

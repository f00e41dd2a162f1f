//! The fused elementwise programs: one for each group of layers of one phase and size.

use super::lowering::{Lowering, MapGroup, Piece};
use crate::ir::{
    Algebra, Binary, Instruction, Interpreter, Map, MapLeaf, Mask, Program, Register, Repeat, WeightLayout,
};
use rnnc_graph::{Connection, ConnectionKind, Function, LayerId, LayerKind, Operation, Range};
use std::collections::HashMap;

/// Writes the program of a group of layers.
pub(crate) fn build(lowering: &Lowering<'_>, weights: &WeightLayout, group: &MapGroup) -> Map {
    let mut builder = Builder {
        lowering,
        weights,
        group,
        program: Program::default(),
        values: HashMap::new(),
        loaded: HashMap::new(),
    };
    for &piece in &group.pieces {
        builder.piece(piece);
    }
    let program = fuse_multiply_add(builder.program);
    let mut layers: Vec<LayerId> = group.pieces.iter().map(|piece| piece.layer).collect();
    // The slices of a layer come one after the other.
    layers.dedup();
    Map { slice_len: group.slice_len, first: group.first, len: group.len, layers, program }
}

struct Builder<'a, 'b> {
    lowering: &'a Lowering<'b>,
    weights: &'a WeightLayout,
    group: &'a MapGroup,
    program: Program<MapLeaf>,
    /// The register of each piece computed here, by its layer and first unit.
    values: HashMap<(LayerId, usize), Register>,
    /// What was loaded already: (source, first unit, delay, weight's place).
    loaded: HashMap<(Option<LayerId>, usize, i64, usize), Register>,
}

impl Builder<'_, '_> {
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
            value = self.program.apply(layer.function, value);
        }
        self.values.insert((id, piece.first), value);
        if self.lowering.stored[id.index()]
            && let Some(view) = self.lowering.storage[id.index()]
        {
            self.program.store(&view.part(piece.first, self.group.len), value);
        }
    }

    fn weight(&mut self, offset: usize) -> Register {
        if let Some(&register) = self.loaded.get(&(None, 0, 0, offset)) {
            return register;
        }
        let register = self.program.leaf(&MapLeaf::Weight(offset));
        self.loaded.insert((None, 0, 0, offset), register);
        register
    }

    fn load(&mut self, source: LayerId, part: Range, delay: i64) -> Register {
        let key = (Some(source), part.start, delay, part.len);
        if let Some(&register) = self.loaded.get(&key) {
            return register;
        }
        let read = self.lowering.read(self.weights, source, part, delay);
        let register = self.program.leaf(&MapLeaf::Read(read));
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
            return (Some(self.program.leaf(&MapLeaf::Repeated(read, repeat))), scale);
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
                (Some(self.program.binary(Binary::Mul, value, weight)), 1.0)
            }
            ConnectionKind::Identity { scale } => (Some(value), scale),
            _ => (Some(value), 1.0),
        }
    }

    fn scaled(&mut self, (register, scale): (Option<Register>, f64)) -> Register {
        match register {
            None => self.program.number(scale),
            Some(register) if scale == 1.0 => register,
            Some(from) => self.program.scale(scale, from),
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
                sum = Some(self.program.leaf(&MapLeaf::Read(read)));
            }
        }
        for c in terms {
            let term = self.term(c, piece);
            let term = self.scaled(term);
            sum = Some(match sum {
                None => term,
                Some(a) => self.program.binary(Binary::Add, a, term),
            });
        }
        sum.unwrap_or_else(|| self.program.number(0.0))
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
                    None => self.program.number(scale),
                    Some(from) => {
                        product = Some(self.scaled((Some(from), scale)));
                        continue;
                    }
                },
            };
            product = Some(match product {
                None => factor,
                Some(a) => self.program.binary(Binary::Mul, a, factor),
            });
        }
        match product {
            Some(_) => self.scaled((product, sign)),
            None => self.program.number(1.0),
        }
    }

    fn operation(&mut self, op: Operation, terms: &[&Connection], piece: Piece) -> Register {
        if let Operation::DropoutMask { probability, key } = op {
            let first = piece.first;
            return self.program.leaf(&MapLeaf::Mask(Mask { key, probability, first }));
        }
        let operands: Vec<Register> = terms
            .iter()
            .map(|c| {
                let term = self.term(c, piece);
                self.scaled(term)
            })
            .collect();
        match (op.binary(), &operands[..]) {
            (Some(op), &[a, b]) => self.program.binary(op, a, b),
            _ => self.program.number(0.0), // a validated graph has two operands here
        }
    }
}

/// Makes a product that is only added, once, and the sum it is added in, one instruction.
fn fuse_multiply_add(mut program: Program<MapLeaf>) -> Program<MapLeaf> {
    let mut uses = vec![0usize; program.registers];
    let mut product = vec![None; program.registers];
    for (i, instruction) in program.instructions.iter().enumerate() {
        for register in instruction.reads() {
            uses[register] += 1;
        }
        if let Instruction::Binary { op: Binary::Mul, a, b, to } = *instruction {
            product[to] = Some((i, a, b));
        }
    }
    let mut kept = vec![true; program.instructions.len()];
    for instruction in &mut program.instructions {
        if let Instruction::Binary { op: Binary::Add, a, b, to } = *instruction {
            let once = |r: Register| if uses[r] == 1 { product[r] } else { None };
            if let Some(((at, x, y), c)) = once(b).map(|p| (p, a)).or_else(|| once(a).map(|p| (p, b))) {
                kept[at] = false;
                *instruction = Instruction::MulAdd { a: x, b: y, c, to };
            }
        }
    }
    program.part(&kept)
}

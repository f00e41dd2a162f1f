//! From a scan's task to code that goes through it a tile of frames at a time: what the coefficients of the affine
//! recurrence need is computed for all of the tile's frames at once, then the states follow each other, and then whatever
//! depends on them is computed for all frames again.

use super::Compiler;
use super::tile::{Port, TileLeaf, compile};
use crate::kernels::recurrence::{Affine, Row};
use crate::ops::scan::{Feed, Fill, ROOM, ScanOp, TileMap};
use crate::program::{GroupCode, TaskCode};
use rnnc_graph::{Direction, Function};
use rnnc_plan::affine::{self, Form, Frame};
use rnnc_plan::recurrence::{Input, Recurrence, ScanLeaf};
use rnnc_plan::{
    Algebra, Binary, Chunks, Instruction, Mask, Partition, Program, Read, Register, Stage, StartValue, View,
};
use std::collections::HashMap;

impl Compiler<'_> {
    /// A scan whose frames are partitioned among all workers, if it can be: its recurrences alone, without the steps that others run.
    pub(super) fn in_chunks(&mut self, stage: &Stage) -> Option<GroupCode> {
        let chunks = Chunks::of(&stage.tasks, self.workers)?;
        let mut tasks = Vec::new();
        // What is found is of no use after the stage.
        let mut found = 0;
        for task in &stage.tasks {
            let mut scan = Vec::new();
            for recurrence in Recurrence::of(task)? {
                let op = self.recurrence(&recurrence, found)?;
                found += op.found_len(self.streams, self.workers);
                scan.push(op);
            }
            tasks.push(TaskCode {
                backward: task.direction == Direction::Backward,
                block: task.block.min(self.window),
                offsets: (0, 0),
                phases: Vec::new(),
                barriers: Vec::new(),
                heads: 1,
                scan,
            });
        }
        self.found = self.found.max(found);
        let (kind, partition) = (stage.kind, Partition::Time);
        Some(GroupCode { kind, workers: 0..self.workers, partition, chunks: Some(chunks), tasks })
    }

    fn recurrence(&mut self, recurrence: &Recurrence, found: usize) -> Option<ScanOp> {
        let mut emitter = Emitter::new(recurrence);
        let mut affine = emitter.before(&affine::part(recurrence)?)?;
        emitter.after(&mut affine);
        let Emitter { tiles, early, feeds, stores, programs, origins, .. } = emitter;
        let [before, after] = programs.map(|program| program.finish(origins.len()));
        let fills = feeds.into_iter().map(|(feed, tile)| {
            let what = match feed {
                Feeding::Input(input) => Fill::Read { from: self.source(&input.read), repeat: input.repeat },
                Feeding::Weight(offset) => Fill::Weight(offset),
                Feeding::Mask(mask) => Fill::Mask(mask),
            };
            Feed { what, tile }
        });
        let feeds = fills.collect();
        let backward = recurrence.direction == Direction::Backward;
        let mut slots = Vec::new();
        for (n, state) in recurrence.states.iter().enumerate() {
            for delay in 1..=state.depth {
                let of = |leaf: &ScanLeaf| match *leaf {
                    ScanLeaf::State { state, start, .. } => (state == n).then_some(start),
                    ScanLeaf::Input(_) | ScanLeaf::Weight(_) | ScanLeaf::Mask(_) => None,
                };
                // A layer has one start, however late it is read.
                let start = recurrence.program.leaves().find_map(of).unwrap_or(StartValue::Number(0.0));
                let delay = if backward { -(delay as i64) } else { delay as i64 };
                slots.push(self.source(&Read { view: state.view, delay, start, history: state.history }));
            }
        }
        let stores = stores.into_iter().map(|(view, tile)| (self.target(view), tile)).collect();
        let len = recurrence.len;
        let op = ScanOp { len, affine, early, feeds, before, after, slots, stores, tiles, found };
        self.tiles = self.tiles.max(op.all_tiles());
        self.note(&op.before.code);
        self.note(&op.after.code);
        Some(op)
    }
}

/// A program from tiles to tiles.
#[derive(Default)]
struct TileProgram {
    program: Program<TileLeaf>,
    /// The tile of each load and store.
    loads: Vec<usize>,
    stores: Vec<usize>,
}

impl TileProgram {
    fn push(&mut self, instruction: Instruction<TileLeaf>) {
        self.program.instructions.push(instruction);
    }

    fn load(&mut self, tile: usize, to: Register) {
        // A tile is written once, before whatever loads it.
        let leaf = TileLeaf::Load(Port { number: self.loads.len(), columns: None });
        self.loads.push(tile);
        self.push(Instruction::Leaf { leaf, to });
    }

    fn store(&mut self, from: Register, tile: usize) {
        let to = Port { number: self.stores.len(), columns: None };
        self.stores.push(tile);
        self.push(Instruction::Store { from, to });
    }

    fn finish(mut self, registers: usize) -> TileMap {
        self.program.registers = registers;
        let (loads, stores) = (vec![ROOM; self.loads.len()], vec![ROOM; self.stores.len()]);
        TileMap { code: compile(&self.program, loads, stores), loads: self.loads, stores: self.stores }
    }
}

/// A value of a frame.
#[derive(Clone, Copy, Debug)]
enum Term {
    /// Nothing: what does not depend on a number of the state has no coefficient.
    Zero,
    One,
    Number(f64),
    Of(Register),
}

/// What a tile is filled with from outside.
#[derive(Clone, Copy, Debug)]
enum Feeding {
    Input(Input),
    Weight(usize),
    Mask(Mask),
}

/// Where the value of a register comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Origin {
    /// It lies in a tile.
    Tile(usize),
    Number(f64),
    Made,
}

/// What a register holds. The same is not computed twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Input(usize),
    Weight(usize),
    Mask(u64, u64, usize),
    Number(u64),
    Apply(Function, Register),
    Scale(u64, Register),
    Binary(Binary, Register, Register),
    MulAdd(Register, Register, Register),
}

/// Writes the two programs of a tile.
struct Emitter<'a> {
    recurrence: &'a Recurrence,
    tiles: usize,
    feeds: Vec<(Feeding, usize)>,
    /// How many of the feeds the first program needs.
    early: usize,
    stores: Vec<(View, usize)>,
    programs: [TileProgram; 2],
    /// Which of the two is being written.
    is_after: bool,
    origins: Vec<Origin>,
    /// Which registers the present program has made or loaded.
    here: Vec<bool>,
    known: HashMap<Key, Register>,
    /// The tiles that take the values of registers from the first program on.
    kept: HashMap<Register, usize>,
}

impl<'a> Emitter<'a> {
    fn new(recurrence: &'a Recurrence) -> Emitter<'a> {
        Emitter {
            recurrence,
            tiles: 0,
            feeds: Vec::new(),
            early: 0,
            stores: Vec::new(),
            programs: Default::default(),
            is_after: false,
            origins: Vec::new(),
            here: Vec::new(),
            known: HashMap::new(),
            kept: HashMap::new(),
        }
    }

    /// What the coefficients need, and where they are.
    fn before(&mut self, program: &Program<ScanLeaf>) -> Option<Affine> {
        let recurrence = self.recurrence;
        let order = recurrence.order();
        let one = |slot: usize, j: usize| if slot == j { Term::One } else { Term::Zero };
        let open =
            |slot| Form { constant: Term::Zero, coefficients: (0..order).map(|j| one(slot, j)).collect() };
        let state: Vec<Form<Term>> = (0..order).map(open).collect();
        let forms = affine::run(recurrence, program, &state, self)?;
        let mut states = Vec::new();
        for (n, (form, state)) in forms.into_iter().zip(&recurrence.states).enumerate() {
            let rest = self.coefficient(form.constant);
            let mut coefficients: Vec<Option<usize>> =
                form.coefficients.into_iter().map(|coefficient| self.coefficient(coefficient)).collect();
            coefficients.resize(order, None);
            let new = self.tile();
            states.push(Row { slot: recurrence.slot(n, 1), depth: state.depth, coefficients, rest, new });
        }
        self.early = self.feeds.len();
        let reads = vec![None; order];
        Some(Affine { states, reads })
    }

    fn coefficient(&mut self, term: Term) -> Option<usize> {
        let register = match term {
            Term::Zero => return None,
            term => self.register(term),
        };
        Some(self.keep(register))
    }

    /// What the states lead to, which are tiles now.
    fn after(&mut self, affine: &mut Affine) {
        self.is_after = true;
        self.here.fill(false);
        let recurrence = self.recurrence;
        // The states, being known, are inputs like others.
        let inputs = recurrence.inputs.len();
        let mut program = recurrence.program.clone();
        for instruction in &mut program.instructions {
            if let Some(to) = instruction.writes()
                && let Some(state) = recurrence.states.iter().position(|state| state.register == to)
            {
                *instruction = Instruction::Leaf { leaf: ScanLeaf::Input(inputs + state), to };
            }
        }
        let program = program.part(&program.needed([], |_| true));
        for (n, state) in affine.states.iter().enumerate() {
            let register = self.new_register(Origin::Tile(state.new));
            self.known.insert(Key::Input(inputs + n), register);
        }
        let reads: Vec<(usize, Register)> = (0..recurrence.order())
            .map(|_| {
                let tile = self.tile();
                (tile, self.new_register(Origin::Tile(tile)))
            })
            .collect();
        let state: Vec<Form<Term>> = reads.iter().map(|&(_, r)| Form::free(Term::Of(r))).collect();
        // Of states that nothing else reads nothing is left, and so it has no result.
        let _ = affine::run(recurrence, &program, &state, self);
        for (to, (tile, register)) in affine.reads.iter_mut().zip(reads) {
            *to = self.here[register].then_some(tile);
        }
    }

    fn tile(&mut self) -> usize {
        self.tiles += 1;
        self.tiles - 1
    }

    fn new_register(&mut self, origin: Origin) -> Register {
        self.origins.push(origin);
        self.here.push(false);
        self.origins.len() - 1
    }

    fn program(&mut self) -> &mut TileProgram {
        &mut self.programs[usize::from(self.is_after)]
    }

    /// The tile that holds a register's value once the first program has run.
    fn keep(&mut self, register: Register) -> usize {
        if let Origin::Tile(tile) = self.origins[register] {
            return tile;
        }
        if let Some(&tile) = self.kept.get(&register) {
            return tile;
        }
        let tile = self.tile();
        self.programs[0].store(register, tile);
        self.kept.insert(register, tile);
        tile
    }

    /// A term as a register that the present program can read.
    fn register(&mut self, term: Term) -> Register {
        let number = |value: f64| (Key::Number(value.to_bits()), Origin::Number(value));
        let register = match term {
            Term::Of(register) => register,
            Term::Zero | Term::One | Term::Number(_) => {
                let (key, origin) = number(match term {
                    Term::One => 1.0,
                    Term::Number(value) => value,
                    _ => 0.0,
                });
                match self.known.get(&key) {
                    Some(&register) => register,
                    None => {
                        let register = self.new_register(origin);
                        self.known.insert(key, register);
                        register
                    }
                }
            }
        };
        if self.here[register] {
            return register;
        }
        match self.origins[register] {
            Origin::Tile(tile) => self.program().load(tile, register),
            Origin::Number(value) => self.program().push(Instruction::Number { value, to: register }),
            // By the first program; this is the second.
            Origin::Made => {
                let tile = self.keep(register);
                self.program().load(tile, register);
            }
        }
        self.here[register] = true;
        register
    }

    /// The register of what an instruction makes.
    fn made(&mut self, key: Key, instruction: impl FnOnce(Register) -> Instruction<TileLeaf>) -> Term {
        if let Some(&register) = self.known.get(&key) {
            return Term::Of(register);
        }
        let register = self.new_register(Origin::Made);
        self.here[register] = true;
        self.known.insert(key, register);
        self.program().push(instruction(register));
        Term::Of(register)
    }

    /// The register of what a tile is filled with.
    fn fed(&mut self, key: Key, feeding: Feeding) -> Term {
        if let Some(&register) = self.known.get(&key) {
            return Term::Of(register);
        }
        let tile = self.tile();
        self.feeds.push((feeding, tile));
        let register = self.new_register(Origin::Tile(tile));
        self.known.insert(key, register);
        Term::Of(register)
    }

    fn scaled(&mut self, factor: f64, from: Term) -> Term {
        let from = self.register(from);
        self.made(Key::Scale(factor.to_bits(), from), |to| Instruction::Scale { factor, from, to })
    }
}

impl Algebra for Emitter<'_> {
    type Number = Term;

    fn number(&mut self, value: f64) -> Term {
        Term::Number(value)
    }

    fn apply(&mut self, function: Function, from: Term) -> Term {
        let from = self.register(from);
        self.made(Key::Apply(function, from), |to| Instruction::Apply { function, from, to })
    }

    fn binary(&mut self, op: Binary, a: Term, b: Term) -> Term {
        match (op, a, b) {
            (Binary::Add, Term::Zero, other) | (Binary::Add, other, Term::Zero) => return other,
            (op, Term::Zero, _) if op.is_linear_in_first() => return Term::Zero,
            (Binary::Mul, _, Term::Zero) => return Term::Zero,
            (Binary::Mul, Term::One, other) | (Binary::Mul, other, Term::One) => return other,
            (Binary::Mul, Term::Number(factor), from) | (Binary::Mul, from, Term::Number(factor)) => {
                return self.scaled(factor, from);
            }
            _ => {}
        }
        let (a, b) = (self.register(a), self.register(b));
        self.made(Key::Binary(op, a, b), |to| Instruction::Binary { op, a, b, to })
    }

    fn mul_add(&mut self, a: Term, b: Term, c: Term) -> Term {
        match (a, b, c) {
            (Term::Zero, _, _) | (_, Term::Zero, _) => c,
            (Term::One, other, _) | (other, Term::One, _) => self.binary(Binary::Add, other, c),
            (_, _, Term::Zero) => self.binary(Binary::Mul, a, b),
            _ => {
                let [a, b, c] = [a, b, c].map(|term| self.register(term));
                self.made(Key::MulAdd(a, b, c), |to| Instruction::MulAdd { a, b, c, to })
            }
        }
    }
}

impl Frame for Emitter<'_> {
    fn input(&mut self, place: usize) -> Term {
        // Those behind the inputs are states, which are known.
        match self.known.get(&Key::Input(place)) {
            Some(&register) => Term::Of(register),
            None => self.fed(Key::Input(place), Feeding::Input(self.recurrence.inputs[place])),
        }
    }

    fn weight(&mut self, offset: usize) -> Term {
        self.fed(Key::Weight(offset), Feeding::Weight(offset))
    }

    fn mask(&mut self, mask: &Mask) -> Term {
        self.fed(Key::Mask(mask.key, mask.probability.to_bits(), mask.first), Feeding::Mask(*mask))
    }

    // Where a read of the state crosses, the number that it reads is replaced before the frame.
    fn start(&mut self, _: &StartValue) -> Term {
        Term::Zero
    }

    fn crossing(&mut self, _: usize, _: Term, value: Term) -> Term {
        value
    }

    fn store(&mut self, to: View, value: Term) {
        let from = self.register(value);
        let tile = match self.origins[from] {
            Origin::Tile(tile) => tile,
            Origin::Number(_) | Origin::Made => {
                let tile = self.tile();
                self.program().store(from, tile);
                tile
            }
        };
        self.stores.push((to, tile));
    }
}

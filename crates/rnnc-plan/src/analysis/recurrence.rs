//! A scan's task as a recurrence of single frames: what one lane (unit of a stream) does in each frame, once it is
//! known which reads are of its own past.

use crate::ir::{
    Algebra, Binary, Interpreter, Leaf, Map, MapLeaf, Mask, Op, Program, Read, Register, Repeat, StartValue,
    Task, View,
};
use rnnc_graph::{Direction, Function};
use std::collections::HashMap;

/// The most numbers of a lane's state that are scanned: k x k matrices.
pub const LARGEST_ORDER: usize = 4;

/// What the lanes of a run of units do in every frame. All views and weights begin at the first of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrence {
    /// The direction of its frames.
    pub direction: Direction,
    /// The first unit of the task's layers.
    pub first: usize,
    /// How many units.
    pub len: usize,
    /// What a frame reads from memory: of other stages, or of what it will write itself.
    pub inputs: Vec<Input>,
    /// What a frame reads of frames before.
    pub states: Vec<State>,
    /// What a frame computes.
    pub program: Program<ScanLeaf>,
}

/// Values of a buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input {
    /// Which.
    pub read: Read,
    /// How it is repeated, for the recurrence's units; `None`: unit u reads place u of the view.
    pub repeat: Option<Repeat>,
}

/// A value that frames read of up to `depth` frames before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Where frames write it.
    pub view: View,
    /// The longest delay with which it is read.
    pub depth: usize,
    /// Whether frames before the pass's first hold values.
    pub history: bool,
    /// What a frame writes there.
    pub register: Register,
}

/// What a frame reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScanLeaf {
    /// An input, by its place.
    Input(usize),
    /// A number of the state, `delay` frames before in the recurrence's direction.
    #[allow(missing_docs)] // explained above
    State { state: usize, delay: usize, start: StartValue },
    /// A weight vector, from its place in the flat buffer.
    Weight(usize),
    /// A dropout mask.
    Mask(Mask),
}

impl Leaf for ScanLeaf {
    /// Into a buffer.
    type Target = View;
}

impl ScanLeaf {
    /// Operations of a unit; one of moving a number counts as one.
    pub fn operations(&self) -> u64 {
        match self {
            ScanLeaf::Input(_) => 1,
            ScanLeaf::State { .. } | ScanLeaf::Weight(_) => 0,
            ScanLeaf::Mask(mask) => mask.flops(),
        }
    }
}

impl Recurrence {
    /// The recurrences of a scan's task, one for each run of units that all go through the same maps. `None` if it has
    /// something else than maps, or they are not recurrences of single frames: if delays within them are of both signs, or
    /// units are moved.
    pub fn of(task: &Task) -> Option<Vec<Recurrence>> {
        let ops = task.phases.iter().flat_map(|phase| &phase.ops);
        let maps = ops.map(|placed| match &placed.op {
            Op::Map(map) => Some(map),
            _ => None,
        });
        let maps: Vec<&Map> = maps.collect::<Option<_>>()?;
        let (direction, maps) = (task.direction, &maps[..]);
        let mut cuts: Vec<usize> = maps.iter().flat_map(|m| [m.first, m.first + m.len]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let runs = cuts.windows(2).map(|cut| {
            let covers = |m: &&&Map| m.first <= cut[0] && cut[1] <= m.first + m.len;
            let here: Vec<&Map> = maps.iter().filter(covers).copied().collect();
            Builder::new(direction, cut[0], cut[1] - cut[0], maps, &here).build()
        });
        runs.filter(|run| run.as_ref().is_none_or(|r| !r.program.instructions.is_empty())).collect()
    }

    /// The numbers of a lane's state.
    pub fn order(&self) -> usize {
        self.states.iter().map(|state| state.depth).sum()
    }

    /// The place of a number in the state: that of `delay` frames before.
    pub fn slot(&self, state: usize, delay: usize) -> usize {
        self.states[..state].iter().map(|s| s.depth).sum::<usize>() + delay - 1
    }
}

/// Of a read: of what the task writes, but of another unit, or of what no map of these units writes.
struct Moved;

/// A place in memory that one unit writes and reads: the buffer and the column of unit 0 (which may not exist).
type Cell = (usize, i64);

fn cell(view: View, map: &Map) -> Cell {
    (view.buffer.0, view.column as i64 - map.first as i64)
}

struct Builder<'a> {
    out: Recurrence,
    /// The maps of these units, in the plan's order.
    maps: &'a [&'a Map],
    /// All columns that the task writes, of these and other units.
    written: Vec<(View, Cell)>,
    /// By cell: the map that writes it.
    writer: HashMap<Cell, usize>,
    /// By cell: what it holds now, of this frame.
    present: HashMap<Cell, Register>,
    /// By cell: its place among the states.
    states: HashMap<Cell, usize>,
}

impl<'a> Builder<'a> {
    fn new(
        direction: Direction,
        first: usize,
        len: usize,
        task: &[&Map],
        maps: &'a [&'a Map],
    ) -> Builder<'a> {
        let stores =
            |map: &Map| -> Vec<(View, Cell)> { map.stores().map(|to| (to, cell(to, map))).collect() };
        let writer =
            maps.iter().enumerate().flat_map(|(n, map)| stores(map).into_iter().map(move |(_, c)| (c, n)));
        let out = Recurrence {
            direction,
            first,
            len,
            inputs: Vec::new(),
            states: Vec::new(),
            program: Program::default(),
        };
        Builder {
            out,
            maps,
            written: task.iter().flat_map(|map| stores(map)).collect(),
            writer: writer.collect(),
            present: HashMap::new(),
            states: HashMap::new(),
        }
    }

    fn build(mut self) -> Option<Recurrence> {
        for n in self.frame_order()? {
            let mut copying = Copying { map: self.maps[n], builder: &mut self, moved: false };
            copying.map.program.run(&mut copying);
            if copying.moved {
                return None;
            }
        }
        for (cell, state) in self.states {
            self.out.states[state].register = *self.present.get(&cell)?;
        }
        Some(self.out)
    }

    /// How many frames before (in the direction of the task) a read of the task's own is; `None` if it is not its own.
    fn own(&self, read: &Read, map: &Map) -> Option<Result<i64, Moved>> {
        let view = read.view;
        let overlaps = |w: &View| {
            w.buffer == view.buffer && w.column < view.column + view.len && view.column < w.column + w.len
        };
        let mut cells = self.written.iter().filter(|(w, _)| overlaps(w)).map(|&(_, c)| c).peekable();
        cells.peek()?;
        let delay = match self.out.direction {
            Direction::Forward => read.delay,
            Direction::Backward => -read.delay,
        };
        let here = cell(view, map);
        let same = cells.all(|c| c == here) && self.writer.contains_key(&here);
        Some(if same { Ok(delay) } else { Err(Moved) })
    }

    /// The maps in an order in which a single frame can be computed. The plan's is for blocks of frames.
    fn frame_order(&self) -> Option<Vec<usize>> {
        let mut before: Vec<Vec<usize>> = Vec::with_capacity(self.maps.len());
        for (n, map) in self.maps.iter().enumerate() {
            let mut needs = Vec::new();
            for read in map.reads_by_unit() {
                match self.own(read, map) {
                    Some(Ok(0)) => needs.extend(self.writer.get(&cell(read.view, map)).filter(|&&m| m != n)),
                    Some(Ok(1..)) | None => {}
                    Some(Ok(_) | Err(Moved)) => return None,
                }
            }
            before.push(needs);
        }
        let mut order = Vec::with_capacity(self.maps.len());
        let mut done = vec![false; self.maps.len()];
        while order.len() < self.maps.len() {
            let ready = |&n: &usize| !done[n] && before[n].iter().all(|&m| done[m]);
            let next = (0..self.maps.len()).find(ready)?;
            done[next] = true;
            order.push(next);
        }
        Some(order)
    }

    fn input(&mut self, input: Input) -> ScanLeaf {
        let inputs = &mut self.out.inputs;
        let place = inputs.iter().position(|other| *other == input).unwrap_or_else(|| {
            inputs.push(input);
            inputs.len() - 1
        });
        ScanLeaf::Input(place)
    }

    fn state(&mut self, cell: Cell, read: &Read, delay: usize) -> ScanLeaf {
        let states = &mut self.out.states;
        let place = *self.states.entry(cell).or_insert_with(|| {
            states.push(State { view: read.view, depth: 0, history: read.history, register: 0 });
            states.len() - 1
        });
        states[place].depth = states[place].depth.max(delay);
        ScanLeaf::State { state: place, delay, start: read.start }
    }
}

/// Takes a map's program over into the frame's.
struct Copying<'b, 'a> {
    map: &'a Map,
    builder: &'b mut Builder<'a>,
    /// Whether it reads what a frame by itself cannot know.
    moved: bool,
}

impl Copying<'_, '_> {
    /// How many units of the map come before those of the recurrence.
    fn skip(&self) -> usize {
        self.builder.out.first - self.map.first
    }

    /// The register of what a read gives.
    fn read(&mut self, read: &Read) -> Option<Register> {
        let (own, cell) = (self.builder.own(read, self.map), cell(read.view, self.map));
        let read = read.part(self.skip(), self.builder.out.len);
        let leaf = match (own, self.builder.present.get(&cell)) {
            (Some(Ok(0)), Some(&register)) => return Some(register),
            (Some(Ok(delay @ 1..)), _) => self.builder.state(cell, &read, usize::try_from(delay).ok()?),
            // What stands there before the frame writes it is an input.
            (Some(Ok(0)), None) | (None, _) => self.builder.input(Input { read, repeat: None }),
            (Some(Ok(_) | Err(Moved)), _) => return None,
        };
        Some(self.builder.out.program.leaf(&leaf))
    }

    fn repeated(&mut self, read: &Read, repeat: Repeat) -> Option<Register> {
        if self.builder.own(read, self.map).is_some() {
            return None;
        }
        let (read, repeat) = repeat.part(*read, self.skip(), self.builder.out.len);
        let leaf = self.builder.input(Input { read, repeat: Some(repeat) });
        Some(self.builder.out.program.leaf(&leaf))
    }
}

impl Algebra for Copying<'_, '_> {
    type Number = Register;

    fn number(&mut self, value: f64) -> Register {
        self.builder.out.program.number(value)
    }

    fn apply(&mut self, function: Function, from: Register) -> Register {
        self.builder.out.program.apply(function, from)
    }

    fn binary(&mut self, op: Binary, a: Register, b: Register) -> Register {
        self.builder.out.program.binary(op, a, b)
    }

    fn mul_add(&mut self, a: Register, b: Register, c: Register) -> Register {
        self.builder.out.program.mul_add(a, b, c)
    }

    fn scale(&mut self, factor: f64, from: Register) -> Register {
        self.builder.out.program.scale(factor, from)
    }
}

impl Interpreter<MapLeaf> for Copying<'_, '_> {
    fn leaf(&mut self, leaf: &MapLeaf) -> Register {
        let register = match leaf {
            MapLeaf::Read(read) => self.read(read),
            MapLeaf::Repeated(read, repeat) => self.repeated(read, *repeat),
            MapLeaf::Weight(offset) => {
                let leaf = ScanLeaf::Weight(offset + self.skip());
                Some(self.builder.out.program.leaf(&leaf))
            }
            MapLeaf::Mask(mask) => {
                let leaf = ScanLeaf::Mask(mask.part(self.skip()));
                Some(self.builder.out.program.leaf(&leaf))
            }
        };
        self.moved |= register.is_none();
        register.unwrap_or_default()
    }

    fn store(&mut self, to: &View, from: Register) {
        let part = to.part(self.skip(), self.builder.out.len);
        self.builder.present.insert(cell(*to, self.map), from);
        self.builder.out.program.store(&part, from);
    }
}

//! A scan's task as a recurrence of single frames: what one lane (unit of a stream) does in each frame, once it is
//! known which reads are of its own past.

use crate::ir::{Binary, Instruction, Map, Op, Read, Register, Repeat, StartValue, Task, View};
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
    /// In order; registers are assigned once.
    pub steps: Vec<Step>,
    /// How many registers there are.
    pub registers: usize,
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

/// A step of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // as `Instruction`
pub enum Step {
    /// By its place.
    Input {
        input: usize,
        to: Register,
    },
    /// `delay` frames before, in the recurrence's direction.
    State {
        state: usize,
        delay: usize,
        start: StartValue,
        to: Register,
    },
    Weight {
        offset: usize,
        to: Register,
    },
    Number {
        value: f64,
        to: Register,
    },
    Mask {
        key: u64,
        probability: f64,
        first: usize,
        to: Register,
    },
    Apply {
        function: Function,
        from: Register,
        to: Register,
    },
    Scale {
        factor: f64,
        from: Register,
        to: Register,
    },
    Binary {
        op: Binary,
        a: Register,
        b: Register,
        to: Register,
    },
    MulAdd {
        a: Register,
        b: Register,
        c: Register,
        to: Register,
    },
    Store {
        from: Register,
        to: View,
    },
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
        runs.filter(|run| run.as_ref().is_none_or(|r| !r.steps.is_empty())).collect()
    }

    /// The numbers of a lane's state.
    pub fn order(&self) -> usize {
        self.states.iter().map(|state| state.depth).sum()
    }

    /// The place of a number in the state: that of `delay` frames before.
    pub fn slot(&self, state: usize, delay: usize) -> usize {
        self.states[..state].iter().map(|s| s.depth).sum::<usize>() + delay - 1
    }

    /// Which steps the state of the next frame needs, if it is an affine function of the state, of no more numbers than are
    /// scanned.
    pub fn affine_steps(&self) -> Option<Vec<bool>> {
        if !(1..=LARGEST_ORDER).contains(&self.order()) {
            return None;
        }
        let mut wanted = vec![false; self.registers];
        self.states.iter().for_each(|state| wanted[state.register] = true);
        let mut steps = vec![false; self.steps.len()];
        for (needed, step) in steps.iter_mut().zip(&self.steps).rev() {
            *needed = step.writes().is_some_and(|to| wanted[to]);
            if *needed {
                step.reads().into_iter().flatten().for_each(|from| wanted[from] = true);
            }
        }
        let mut varies = vec![false; self.registers];
        for (_, step) in steps.iter().zip(&self.steps).filter(|(needed, _)| **needed) {
            let (Some(to), reads) = (step.writes(), step.reads()) else { continue };
            let [a, b, _] = reads.map(|from| from.is_some_and(|from| varies[from]));
            let affine = match *step {
                Step::Apply { .. } => !a,
                Step::Binary { op: Binary::Add, .. } => true,
                Step::Binary { op: Binary::Div, .. } => !b,
                Step::Binary { op: Binary::Mul, .. } | Step::MulAdd { .. } => !(a && b),
                Step::Binary { .. } => !(a || b),
                _ => true,
            };
            if !affine {
                return None;
            }
            let any = reads.into_iter().flatten().any(|from| varies[from]);
            varies[to] = any || matches!(step, Step::State { .. });
        }
        Some(steps)
    }
}

/// How a scan's frames are cut into chunks for some workers, which have one each, and the first two.
///
/// A chunk can begin once it is known what state the one before leaves. As that is an affine function of the state before
/// it, workers find these functions first, side by side, and so all states in between, and then run their chunks. The first
/// worker, which knows its state, runs a chunk meanwhile, and in the second half the last one, of which nobody needs the
/// function. So chunk 0 is shorter than the others, as finding the function takes less than running.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chunks {
    /// What it takes to find a chunk's affine function, in shares of what it takes to run it.
    pub finding: f64,
    /// Among how many workers.
    pub workers: usize,
}

impl Chunks {
    /// For a stage's tasks; `None` if it is no scan, or one that has to be run as it stands.
    pub fn of(tasks: &[Task], workers: usize) -> Option<Chunks> {
        let (mut finding, mut running) = (0, 0);
        for task in tasks {
            for recurrence in Recurrence::of(task)? {
                let wanted = recurrence.affine_steps()?;
                let steps = || recurrence.steps.iter().zip(&wanted);
                let order = recurrence.order();
                running += recurrence.len * steps().map(|(step, _)| step.operations()).sum::<usize>();
                let affine = steps().filter(|(_, wanted)| **wanted).map(|(step, _)| step.operations());
                // The state that a start of zero leads to, and where each of its numbers does.
                finding += recurrence.len * (affine.sum::<usize>() + 2 * order * order);
            }
        }
        (running > 0).then(|| Chunks { finding: finding as f64 / running as f64, workers: workers.max(1) })
    }

    /// The frame with which a chunk begins, of `frames`; chunk `workers` is the last, and ends where the next would begin.
    pub fn begin(&self, chunk: usize, frames: usize) -> usize {
        match chunk {
            0 => 0,
            _ if chunk > self.workers => frames,
            // In whole numbers of frames, less than all.
            _ => (frames as f64 * (self.finding + (chunk - 1) as f64) / self.all()) as usize,
        }
    }

    /// How long it takes, in shares of what one worker takes.
    pub fn share(&self) -> f64 {
        (1.0 + self.finding) / self.all()
    }

    /// All chunks, in chunks of the usual length.
    fn all(&self) -> f64 {
        self.workers as f64 + self.finding
    }
}

impl Step {
    /// Operations of a unit; one of moving a number counts as one.
    fn operations(&self) -> usize {
        match *self {
            Step::Apply { function, .. } => function.flops() as usize,
            Step::Mask { .. } => 10,
            Step::MulAdd { .. } => 2,
            Step::State { .. } | Step::Weight { .. } | Step::Number { .. } => 0,
            Step::Input { .. } | Step::Store { .. } | Step::Scale { .. } | Step::Binary { .. } => 1,
        }
    }

    /// The registers it reads.
    pub fn reads(&self) -> [Option<Register>; 3] {
        match *self {
            Step::Apply { from, .. } | Step::Scale { from, .. } | Step::Store { from, .. } => {
                [Some(from), None, None]
            }
            Step::Binary { a, b, .. } => [Some(a), Some(b), None],
            Step::MulAdd { a, b, c, .. } => [Some(a), Some(b), Some(c)],
            Step::Input { .. }
            | Step::State { .. }
            | Step::Weight { .. }
            | Step::Number { .. }
            | Step::Mask { .. } => [None; 3],
        }
    }

    /// The register it writes.
    pub fn writes(&self) -> Option<Register> {
        match *self {
            Step::Input { to, .. }
            | Step::State { to, .. }
            | Step::Weight { to, .. }
            | Step::Number { to, .. }
            | Step::Mask { to, .. }
            | Step::Apply { to, .. }
            | Step::Scale { to, .. }
            | Step::Binary { to, .. }
            | Step::MulAdd { to, .. } => Some(to),
            Step::Store { .. } => None,
        }
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
        let stores = |map: &Map| -> Vec<(View, Cell)> {
            let views = map.program.iter().filter_map(|step| match *step {
                Instruction::Store { to, .. } => Some((to, cell(to, map))),
                _ => None,
            });
            views.collect()
        };
        let writer =
            maps.iter().enumerate().flat_map(|(n, map)| stores(map).into_iter().map(move |(_, c)| (c, n)));
        let out = Recurrence {
            direction,
            first,
            len,
            inputs: Vec::new(),
            states: Vec::new(),
            steps: Vec::new(),
            registers: 0,
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
            self.map(self.maps[n])?;
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
            for step in &map.program {
                let Instruction::Load { read, .. } = step else { continue };
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

    fn map(&mut self, map: &Map) -> Option<()> {
        let skip = self.out.first - map.first;
        let len = self.out.len;
        let part = |view: View| view.part(skip, len);
        // The recurrence's register for each of the map's.
        let mut names: Vec<Register> = vec![0; map.registers];
        for instruction in &map.program {
            let to = self.out.registers;
            let step = match *instruction {
                Instruction::Load { read, to: of_map } => {
                    let (own, cell) = (self.own(&read, map), cell(read.view, map));
                    let read = read.part(skip, len);
                    match (own, self.present.get(&cell)) {
                        (Some(Ok(0)), Some(&register)) => {
                            names[of_map] = register;
                            continue;
                        }
                        (Some(Ok(delay @ 1..)), _) => self.state(cell, &read, usize::try_from(delay).ok()?),
                        // What stands there before the frame writes it is an input.
                        (Some(Ok(0)), None) | (None, _) => self.input(Input { read, repeat: None }),
                        _ => return None,
                    }
                }
                Instruction::LoadRepeated { read, repeat, .. } if self.own(&read, map).is_none() => {
                    let (read, repeat) = repeat.part(read, skip, len);
                    self.input(Input { read, repeat: Some(repeat) })
                }
                Instruction::LoadRepeated { .. } => return None,
                Instruction::Weight { offset, .. } => Step::Weight { offset: offset + skip, to },
                Instruction::Number { value, .. } => Step::Number { value, to },
                Instruction::Mask { key, probability, first, .. } => {
                    Step::Mask { key, probability, first: first + skip, to }
                }
                Instruction::Apply { function, from, .. } => Step::Apply { function, from: names[from], to },
                Instruction::Scale { factor, from, .. } => Step::Scale { factor, from: names[from], to },
                Instruction::Binary { op, a, b, .. } => Step::Binary { op, a: names[a], b: names[b], to },
                Instruction::MulAdd { a, b, c, .. } => {
                    Step::MulAdd { a: names[a], b: names[b], c: names[c], to }
                }
                Instruction::Store { from, to } => {
                    self.present.insert(cell(to, map), names[from]);
                    Step::Store { from: names[from], to: part(to) }
                }
            };
            self.out.steps.push(step);
            if let Some(of_map) = instruction.writes() {
                names[of_map] = to;
                self.out.registers += 1;
            }
        }
        Some(())
    }

    fn input(&mut self, input: Input) -> Step {
        let inputs = &mut self.out.inputs;
        let place = inputs.iter().position(|other| *other == input).unwrap_or_else(|| {
            inputs.push(input);
            inputs.len() - 1
        });
        Step::Input { input: place, to: self.out.registers }
    }

    fn state(&mut self, cell: Cell, read: &Read, delay: usize) -> Step {
        let states = &mut self.out.states;
        let place = *self.states.entry(cell).or_insert_with(|| {
            states.push(State { view: read.view, depth: 0, history: read.history, register: 0 });
            states.len() - 1
        });
        states[place].depth = states[place].depth.max(delay);
        Step::State { state: place, delay, start: read.start, to: self.out.registers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_have_every_frame_once_and_gain_with_every_worker() {
        for finding in [0.0, 0.4, 1.0, 1.7] {
            let mut last = f64::INFINITY;
            for workers in 1..20 {
                let chunks = Chunks { finding, workers };
                for frames in [0, 1, 2, 7, 1000, 65_536] {
                    let begins: Vec<usize> =
                        (0..workers + 2).map(|chunk| chunks.begin(chunk, frames)).collect();
                    assert!(begins.is_sorted(), "{begins:?}");
                    assert_eq!((begins[0], begins[workers + 1]), (0, frames));
                }
                assert!(chunks.share() <= 1.0 && chunks.share() < last);
                last = chunks.share();
            }
        }
    }
}

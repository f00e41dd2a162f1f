//! Whether a plan stays within its own memory: every view within its buffer, every operand as long as what reads it, every
//! weight and gradient within the flat buffer. Executors go through raw memory on a plan's word, so this is asked of each
//! plan that a debug build makes, and of each one in the suite.

use crate::ir::{
    Flat, Leaf, LookUp, Map, MapLeaf, Matrix, OnceMap, OnceStep, Op, OuterSum, Plan, Product, Program, Read,
    RowSum, ScatterSum, StartValue, Vector, View,
};
use rnnc_graph::Operation;

/// What is wrong, in words for whoever works on the compiler.
type Verdict = Result<(), String>;

fn must(holds: bool, says: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(says()) }
}

/// Whether a vector function has operands of so many units, and a result of `n`.
fn verify_units(operation: Operation, lens: &[usize], n: usize) -> Verdict {
    let mut units = lens.to_vec();
    let symbol = operation.symbol().and_then(|operand| units.get_mut(operand));
    // A symbol is one number: how many there are, the plan does not say.
    let symbol_fits =
        symbol.is_none_or(|len| std::mem::replace(len, lens.iter().copied().max().unwrap_or(0)) == 1);
    let fits = lens.len() == operation.operands()
        && symbol_fits
        && (operation.changes_size() || lens.iter().all(|&len| len == n))
        && operation.check_sizes(&units, n).is_ok();
    must(fits, || format!("{} of {lens:?} units, into {n}", operation.name()))
}

/// Whether each register is written once, and read only after that.
fn verify_program<L: Leaf>(program: &Program<L>) -> Verdict {
    let mut written = vec![false; program.registers];
    program.instructions.iter().try_for_each(|instruction| {
        let ready = instruction.reads().all(|register| written.get(register) == Some(&true));
        must(ready, || format!("{instruction:?} reads what nothing has written"))?;
        let Some(to) = instruction.writes() else { return Ok(()) };
        let new = written.get_mut(to).is_some_and(|written| !std::mem::replace(written, true));
        must(new, || format!("{instruction:?} writes a register that has a value, or is none"))
    })
}

impl Plan {
    /// Checks that no operation reads or writes outside what it is said to have.
    ///
    /// # Errors
    /// Says which operation does, and how. That is a mistake of the compiler, never of a network.
    pub fn verify(&self) -> Result<(), String> {
        for (number, stage) in self.stages().enumerate() {
            for placed in stage.tasks.iter().flat_map(|task| &task.phases).flat_map(|phase| &phase.ops) {
                let says = |problem| format!("stage {number}, {}: {problem}", placed.op.name());
                self.op(&placed.op).map_err(says)?;
            }
        }
        let passes = [("forward", &self.once.forward), ("backward", &self.once.backward)];
        passes.into_iter().try_for_each(|(pass, steps)| {
            let says = |number, problem| format!("once, {pass}, step {number}: {problem}");
            let mut steps = steps.iter().enumerate();
            steps.try_for_each(|(number, step)| self.once_step(step).map_err(|problem| says(number, problem)))
        })
    }

    fn flat(&self, flat: Flat, len: usize) -> Verdict {
        let (Flat::Weights(offset) | Flat::Gradients(offset)) = flat;
        self.weights(offset, len)
    }

    fn once_step(&self, step: &OnceStep) -> Verdict {
        match step {
            OnceStep::Map(map) => self.verify_once(map),
            OnceStep::Vector(vector) => {
                self.flat(vector.to, vector.len)?;
                vector.operands.iter().try_for_each(|&(from, len)| self.flat(from, len))?;
                let lens: Vec<usize> = vector.operands.iter().map(|&(_, len)| len).collect();
                verify_units(vector.operation, &lens, vector.len)
            }
            OnceStep::Product(product) => {
                self.matrix(product.matrix, product.rows, product.columns)?;
                self.flat(product.from, product.columns)?;
                self.flat(product.to, product.rows)
            }
            OnceStep::Outer(outer) => {
                self.matrix(outer.gradient, outer.rows, outer.columns)?;
                self.flat(outer.error, outer.rows)?;
                self.flat(outer.source, outer.columns)
            }
        }
    }

    fn verify_once(&self, map: &OnceMap) -> Verdict {
        verify_program(&map.program)?;
        for leaf in map.program.leaves() {
            must(leaf.times > 0, || format!("{leaf:?} repeats nothing"))?;
            self.flat(leaf.from, map.len.div_ceil(leaf.times))?;
        }
        for instruction in &map.program.instructions {
            // Registers are tiles that lie one after another: what an instruction reads comes before what it writes.
            let ordered = instruction.writes().is_none_or(|to| instruction.reads().all(|from| from < to));
            must(ordered, || format!("{instruction:?} reads a later register"))?;
        }
        map.program.stores().try_for_each(|(_, &to)| self.flat(to, map.len))?;
        let mut places: Vec<usize> =
            map.program.stores().map(|(_, &(Flat::Weights(at) | Flat::Gradients(at)))| at).collect();
        places.sort_unstable();
        places.dedup();
        let apart = places.windows(2).all(|pair| pair[0] + map.len <= pair[1]);
        must(apart, || "units add to what other units add to".into())
    }

    fn op(&self, op: &Op) -> Verdict {
        match op {
            Op::MatMul(list) => list.iter().try_for_each(|p| self.verify_product(p)),
            Op::Gather(list) => list.iter().try_for_each(|l| self.verify_look_up(l)),
            Op::Map(map) => self.verify_map(map),
            Op::Vector(vector) => self.verify_vector(vector),
            Op::WeightGradient(list) => list.iter().try_for_each(|sum| self.verify_outer(sum)),
            Op::TableGradient(list) => list.iter().try_for_each(|sum| self.verify_scatter(sum)),
            Op::Reduce(list) => list.iter().try_for_each(|sum| self.verify_row_sum(sum)),
        }
    }

    fn view(&self, view: View) -> Verdict {
        let buffer = self.buffers.get(view.buffer.0);
        let width = buffer.map_or(0, |buffer| buffer.width);
        let inside = view.len > 0 && view.column.checked_add(view.len).is_some_and(|end| end <= width);
        must(inside, || format!("{view:?} is of a buffer of {width} numbers a row"))
    }

    fn read(&self, read: &Read) -> Verdict {
        self.view(read.view)?;
        let history = self.buffers[read.view.buffer.0].history;
        let kept = !read.history || read.delay <= 0 || history as i64 >= read.delay;
        must(kept, || format!("{read:?} is of a buffer that keeps {history} frames"))?;
        match read.start {
            StartValue::Weight(offset) => self.weights(offset, read.view.len),
            StartValue::Number(_) => Ok(()),
        }
    }

    /// So many numbers among the weights, or the gradients.
    fn weights(&self, offset: usize, len: usize) -> Verdict {
        let all = self.weights.total();
        let inside = offset.checked_add(len).is_some_and(|end| end <= all);
        must(inside, || format!("{len} numbers from {offset} on, of {all} weights"))
    }

    fn matrix(&self, matrix: Matrix, rows: usize, columns: usize) -> Verdict {
        let last =
            rows.saturating_sub(1) * matrix.row_stride + columns.saturating_sub(1) * matrix.column_stride;
        self.weights(matrix.offset, last + 1)
    }

    /// Units that are written: those of whole layers (or slices of one) of `slice_len` units, or some of one from `first` on.
    fn units(&self, to: View, slice_len: usize, first: usize) -> Verdict {
        self.view(to)?;
        let whole = slice_len > 0 && first == 0 && to.len.is_multiple_of(slice_len);
        let part = first + to.len <= slice_len;
        must(whole || part, || format!("{to:?} are no units from {first} on of layers of {slice_len}"))
    }

    fn verify_product(&self, p: &Product) -> Verdict {
        // A part of a layer is of whole slices of it, too.
        self.units(p.to, p.slice_len, if p.to.len < p.slice_len { p.first } else { 0 })?;
        self.read(&p.from)?;
        self.matrix(p.weight, p.to.len, p.from.view.len)
    }

    fn verify_look_up(&self, l: &LookUp) -> Verdict {
        self.units(l.to, l.slice_len, 0)?;
        self.read(&l.symbol)?;
        must(l.symbol.view.len == 1, || format!("{:?} is no symbol", l.symbol.view))?;
        self.matrix(l.table, l.to.len, 1)
    }

    fn verify_map(&self, map: &Map) -> Verdict {
        let says = |problem: String| format!("units {}..{}: {problem}", map.first, map.first + map.len);
        let part = map.len > 0 && map.first + map.len <= map.slice_len;
        must(part, || says(format!("they are not among {} units", map.slice_len)))?;
        verify_program(&map.program).map_err(says)?;
        let unit_by_unit =
            |view: View| must(view.len == map.len, || format!("{view:?} is not of {} units", map.len));
        for leaf in map.program.leaves() {
            match leaf {
                MapLeaf::Read(read) => self.read(read).and_then(|()| unit_by_unit(read.view)),
                MapLeaf::Repeated(read, repeat) => self.read(read).and_then(|()| {
                    let exact = repeat.first < repeat.times && repeat.places(map.len) == read.view.len;
                    must(exact, || format!("{leaf:?} does not repeat all that it views"))
                }),
                MapLeaf::Weight(offset) => self.weights(*offset, map.len),
                MapLeaf::Mask(_) => Ok(()),
            }
            .map_err(says)?;
        }
        map.stores().try_for_each(|to| self.view(to).and_then(|()| unit_by_unit(to)).map_err(says))
    }

    fn verify_vector(&self, v: &Vector) -> Verdict {
        self.units(v.to, v.slice_len, 0)?;
        v.operands.iter().try_for_each(|read| self.read(read))?;
        let lens: Vec<usize> = v.operands.iter().map(|read| read.view.len).collect();
        verify_units(v.operation, &lens, v.to.len)
    }

    fn verify_outer(&self, sum: &OuterSum) -> Verdict {
        self.view(sum.error)?;
        self.read(&sum.source)?;
        self.matrix(sum.gradient, sum.error.len, sum.source.view.len)
    }

    fn verify_scatter(&self, sum: &ScatterSum) -> Verdict {
        self.view(sum.error)?;
        self.read(&sum.symbol)?;
        must(sum.symbol.view.len == 1, || format!("{:?} is no symbol", sum.symbol.view))?;
        self.matrix(sum.gradient, sum.error.len, sum.symbols)
    }

    fn verify_row_sum(&self, sum: &RowSum) -> Verdict {
        self.view(sum.error)?;
        self.weights(sum.gradient, sum.error.len)?;
        let Some(source) = &sum.source else { return Ok(()) };
        self.read(source)?;
        let (from, to) = (source.view.len, sum.error.len);
        must(from == to, || format!("errors of {to} units, times {from}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Instruction, PlanOptions};
    use rnnc_graph::{Activation, Connect, Graph, Range};

    /// y = concat(c, a repeated)
    fn plan() -> Plan {
        let mut g = Graph::new("n");
        let (c, a) = (g.input("c", 4), g.input("a", 2));
        let y = g.sum("y", 8, Activation::Identity);
        g.connect(c, y, Connect::identity().to(Range::new(0, 4)));
        g.connect(a, y, Connect::broadcast().to(Range::new(4, 4)));
        g.output("y", y);
        Plan::new(&g, PlanOptions::inference(1, 8)).unwrap()
    }

    fn change(plan: &mut Plan, mut each: impl FnMut(&mut Instruction<MapLeaf>)) {
        let stages = &mut plan.forward_pass.stages;
        let tasks = stages.iter_mut().flat_map(|stage| &mut stage.tasks);
        for placed in tasks.flat_map(|task| &mut task.phases).flat_map(|phase| &mut phase.ops) {
            if let Op::Map(map) = &mut placed.op {
                map.program.instructions.iter_mut().for_each(&mut each);
            }
        }
    }

    #[test]
    fn a_repeated_operand_of_a_later_part_of_a_layer_is_read_from_its_first_place() {
        let mut repeats = Vec::new();
        let mut plan = plan();
        change(&mut plan, |step| {
            if let Instruction::Leaf { leaf: MapLeaf::Repeated(read, repeat), .. } = step {
                repeats.push((read.view.column, read.view.len, *repeat));
            }
        });
        assert_eq!(repeats, [(0, 2, crate::ir::Repeat::of(2))]);
        assert_eq!(plan.verify(), Ok(()));
    }

    #[test]
    fn whatever_leaves_its_buffer_is_found() {
        let wrong: [fn(&mut Instruction<MapLeaf>); 7] = [
            |step| {
                if let Instruction::Leaf { leaf: MapLeaf::Repeated(_, repeat), .. } = step {
                    repeat.first = 4;
                }
            },
            |step| {
                if let Instruction::Leaf { leaf: MapLeaf::Repeated(_, repeat), .. } = step {
                    repeat.times = 1;
                }
            },
            |step| {
                if let Instruction::Leaf { leaf: MapLeaf::Read(read), .. } = step {
                    read.view.column += 1;
                }
            },
            |step| {
                if let Instruction::Leaf { leaf: MapLeaf::Read(read), .. } = step {
                    read.delay = 1;
                }
            },
            |step| {
                if let Instruction::Store { to, .. } = step {
                    to.len -= 1;
                }
            },
            |step| {
                if let Instruction::Leaf { to, .. } = step {
                    *to += 1;
                }
            },
            |step| {
                if let Instruction::Store { from, .. } = step {
                    *from += 1;
                }
            },
        ];
        for change_it in wrong {
            let mut plan = plan();
            change(&mut plan, change_it);
            assert!(plan.verify().is_err());
        }
    }
}

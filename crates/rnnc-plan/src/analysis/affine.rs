//! Runs a recurrence's frame on numbers of any kind: on floats, on the texts of generated variables, and on either with
//! the state left open: as affine forms of the state before some frame.

use super::recurrence::{LARGEST_ORDER, Recurrence, ScanLeaf};
use crate::ir::{Algebra, Binary, Interpreter, Mask, Program, StartValue, View};
use rnnc_graph::Function;

/// `constant + sum over j of coefficients[j] * (number j of the state)`. Without coefficients, it does not depend on the state.
#[derive(Clone, Debug, PartialEq)]
pub struct Form<N> {
    /// What does not depend on the state.
    pub constant: N,
    /// One for each number of the state, or none.
    pub coefficients: Vec<N>,
}

impl<N: Clone> Form<N> {
    /// Something that does not depend on the state.
    pub fn free(constant: N) -> Form<N> {
        Form { constant, coefficients: Vec::new() }
    }

    /// What it is, if it does not depend on the state.
    fn constant(self) -> Option<N> {
        self.coefficients.is_empty().then_some(self.constant)
    }

    /// Each part on its own.
    fn map(self, mut change: impl FnMut(N) -> N) -> Form<N> {
        let constant = change(self.constant);
        Form { constant, coefficients: self.coefficients.into_iter().map(change).collect() }
    }
}

/// What a frame computes with: an algebra that knows what frames read and write.
#[allow(missing_docs)] // as the leaves of a recurrence
pub trait Frame: Algebra {
    /// With its start where it crosses.
    fn input(&mut self, input: usize) -> Self::Number;
    fn weight(&mut self, offset: usize) -> Self::Number;
    fn mask(&mut self, mask: &Mask) -> Self::Number;
    fn start(&mut self, start: &StartValue) -> Self::Number;
    /// `start` where a read of the recurrence's own crosses that is `delay` frames before; else `value`.
    fn crossing(&mut self, delay: usize, start: Self::Number, value: Self::Number) -> Self::Number;
    fn store(&mut self, to: View, value: Self::Number);
}

/// What of a recurrence's frame the state of the next one needs, if that is an affine function of the state, of no more numbers
/// than are scanned.
pub fn part(recurrence: &Recurrence) -> Option<Program<ScanLeaf>> {
    let order = recurrence.order();
    if !(1..=LARGEST_ORDER).contains(&order) {
        return None;
    }
    let program = &recurrence.program;
    let states = recurrence.states.iter().map(|state| state.register);
    let part = program.part(&program.needed(states, |_| false));
    let open = vec![Form { constant: (), coefficients: vec![(); order] }; order];
    run(recurrence, &part, &open, &mut Shapes)?;
    Some(part)
}

/// Runs a frame of a recurrence: all of its program, or the [`part`] that the state needs. Returns what it leaves in each of the
/// states; `None` if that, or anything that it stores, is no affine function of the state.
pub fn run<F: Frame>(
    recurrence: &Recurrence,
    program: &Program<ScanLeaf>,
    state: &[Form<F::Number>],
    frame: &mut F,
) -> Option<Vec<Form<F::Number>>> {
    let mut forms = Forms { recurrence, state, frame, stores_forms: false };
    let registers = program.run(&mut forms);
    if forms.stores_forms {
        return None;
    }
    recurrence.states.iter().map(|state| registers[state.register].clone().flatten()).collect()
}

/// Affine forms of the state, over the numbers of a frame; `None` is what is no such form.
struct Forms<'a, F: Frame> {
    recurrence: &'a Recurrence,
    state: &'a [Form<F::Number>],
    frame: &'a mut F,
    /// Whether something was stored that depends on the state.
    stores_forms: bool,
}

impl<F: Frame> Algebra for Forms<'_, F> {
    type Number = Option<Form<F::Number>>;

    fn number(&mut self, value: f64) -> Self::Number {
        Some(Form::free(self.frame.number(value)))
    }

    fn apply(&mut self, function: Function, from: Self::Number) -> Self::Number {
        let from = from?.constant()?;
        Some(Form::free(self.frame.apply(function, from)))
    }

    fn scale(&mut self, factor: f64, from: Self::Number) -> Self::Number {
        Some(from?.map(|part| self.frame.scale(factor, part)))
    }

    fn binary(&mut self, op: Binary, a: Self::Number, b: Self::Number) -> Self::Number {
        let (a, b, frame) = (a?, b?, &mut *self.frame);
        let (varies, by) = (!a.coefficients.is_empty(), !b.coefficients.is_empty());
        Some(match (op, varies, by) {
            (_, false, false) => Form::free(frame.binary(op, a.constant, b.constant)),
            (Binary::Add, true, true) => Form {
                constant: frame.binary(op, a.constant, b.constant),
                coefficients: a
                    .coefficients
                    .into_iter()
                    .zip(b.coefficients)
                    .map(|(a, b)| frame.binary(op, a, b))
                    .collect(),
            },
            (Binary::Add, ..) => {
                let constant = frame.binary(op, a.constant, b.constant);
                Form { constant, coefficients: if varies { a.coefficients } else { b.coefficients } }
            }
            (op, true, false) if op.is_linear_in_first() => {
                a.map(|part| frame.binary(op, part, b.constant.clone()))
            }
            (Binary::Mul, false, true) => b.map(|part| frame.binary(op, a.constant.clone(), part)),
            // Anything else is no affine function of the state.
            (_, true, _) | (_, _, true) => return None,
        })
    }

    fn mul_add(&mut self, a: Self::Number, b: Self::Number, c: Self::Number) -> Self::Number {
        let (a, b, c, frame) = (a?, b?, c?, &mut *self.frame);
        let (factor, form) = match (a.coefficients.is_empty(), b.coefficients.is_empty()) {
            (true, _) => (a.constant, b),
            (false, true) => (b.constant, a),
            (false, false) => return None,
        };
        let constant = frame.mul_add(factor.clone(), form.constant, c.constant);
        let coefficients = match (form.coefficients, c.coefficients) {
            (coefficients, added) if coefficients.is_empty() => added,
            (coefficients, added) if added.is_empty() => {
                coefficients.into_iter().map(|s| frame.binary(Binary::Mul, factor.clone(), s)).collect()
            }
            (coefficients, added) => coefficients
                .into_iter()
                .zip(added)
                .map(|(s, c)| frame.mul_add(factor.clone(), s, c))
                .collect(),
        };
        Some(Form { constant, coefficients })
    }
}

impl<F: Frame> Interpreter<ScanLeaf> for Forms<'_, F> {
    fn leaf(&mut self, leaf: &ScanLeaf) -> Self::Number {
        Some(match leaf {
            ScanLeaf::Input(input) => Form::free(self.frame.input(*input)),
            ScanLeaf::Weight(offset) => Form::free(self.frame.weight(*offset)),
            ScanLeaf::Mask(mask) => Form::free(self.frame.mask(mask)),
            ScanLeaf::State { state, delay, start } => {
                let Form { constant, coefficients } =
                    self.state[self.recurrence.slot(*state, *delay)].clone();
                let start = self.frame.start(start);
                let constant = self.frame.crossing(*delay, start, constant);
                let cut = |coefficient| {
                    let zero = self.frame.number(0.0);
                    self.frame.crossing(*delay, zero, coefficient)
                };
                Form { constant, coefficients: coefficients.into_iter().map(cut).collect() }
            }
        })
    }

    fn store(&mut self, to: &View, value: Self::Number) {
        match value.and_then(Form::constant) {
            Some(value) => self.frame.store(*to, value),
            None => self.stores_forms = true,
        }
    }
}

/// Numbers of which nothing is known: what is left of forms is whether they depend on the state.
struct Shapes;

impl Algebra for Shapes {
    type Number = ();

    fn number(&mut self, _: f64) {}
    fn apply(&mut self, _: Function, (): ()) {}
    fn binary(&mut self, _: Binary, (): (), (): ()) {}
    fn mul_add(&mut self, (): (), (): (), (): ()) {}
}

impl Frame for Shapes {
    fn input(&mut self, _: usize) {}
    fn weight(&mut self, _: usize) {}
    fn mask(&mut self, _: &Mask) {}
    fn start(&mut self, _: &StartValue) {}
    fn crossing(&mut self, _: usize, (): (), (): ()) {}
    fn store(&mut self, _: View, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::recurrence::{Input, State};
    use crate::ir::{BufferId, Floats, Read};
    use proptest::prelude::*;
    use rnnc_graph::{Activation, Direction};

    const VIEW: View = View { buffer: BufferId(0), column: 0, len: 1 };

    /// Draws numbers.
    struct Draw(u64);

    impl Draw {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % bound
        }

        fn number(&mut self) -> f64 {
            self.below(2001) as f64 / 1000.0 - 1.0
        }
    }

    /// A recurrence with steps of all kinds, affine in a state of up to 4 numbers.
    fn draw_recurrence(draw: &mut Draw) -> Recurrence {
        let depths = [vec![1], vec![2], vec![1, 1], vec![3, 1], vec![1, 1, 2]][draw.below(5)].clone();
        let read = Read { view: VIEW, delay: 0, start: StartValue::Number(0.0), history: true };
        let mut program = Program::default();
        for leaf in [ScanLeaf::Input(0), ScanLeaf::Input(1), ScanLeaf::Weight(3)] {
            program.leaf(&leaf);
        }
        program.number(draw.number());
        // Whether a register depends on the state.
        let mut varies = vec![false; 4];
        for (state, &depth) in depths.iter().enumerate() {
            for delay in 1..=depth {
                let start = StartValue::Number(draw.number());
                program.leaf(&ScanLeaf::State { state, delay, start });
                varies.push(true);
            }
        }
        for _ in 0..8 + draw.below(12) {
            let [a, b, c] = [(); 3].map(|()| draw.below(varies.len()));
            let op = Binary::ALL[draw.below(Binary::ALL.len())];
            let either = varies[a] || varies[b];
            let (kind, affine, depends) = match draw.below(4) {
                0 => (0, true, varies[a]),
                1 => (1, !varies[a], false),
                2 => (2, !(varies[a] && varies[b]), either || varies[c]),
                _ => match op {
                    Binary::Add => (3, true, either),
                    Binary::Mul => (3, !(varies[a] && varies[b]), either),
                    op if op.is_linear_in_first() => (3, !varies[b], either),
                    _ => (3, !either, false),
                },
            };
            if affine {
                match kind {
                    0 => program.scale(draw.number(), a),
                    1 => program.apply(Function::Apply(Activation::Tanh), a),
                    2 => program.mul_add(a, b, c),
                    _ => program.binary(op, a, b),
                };
                varies.push(depends);
            }
        }
        let states = depths
            .iter()
            .map(|&depth| State { view: VIEW, depth, history: true, register: draw.below(varies.len()) })
            .collect();
        // What is only stored may be anything.
        let last = program.apply(Function::Apply(Activation::Exp), varies.len() - 1);
        program.store(&VIEW, last);
        Recurrence {
            direction: Direction::Forward,
            first: 0,
            len: 1,
            inputs: vec![Input { read, repeat: None }; 2],
            states,
            program,
        }
    }

    /// Numbers, in some frame.
    struct Plain {
        inputs: [f64; 2],
        since_reset: usize,
        stored: usize,
    }

    impl Floats for Plain {}

    impl Frame for Plain {
        fn input(&mut self, input: usize) -> f64 {
            self.inputs[input]
        }

        fn weight(&mut self, offset: usize) -> f64 {
            0.25 * offset as f64
        }

        fn mask(&mut self, _: &Mask) -> f64 {
            1.0
        }

        fn start(&mut self, start: &StartValue) -> f64 {
            match *start {
                StartValue::Number(number) => number,
                StartValue::Weight(offset) => self.weight(offset),
            }
        }

        fn crossing(&mut self, delay: usize, start: f64, value: f64) -> f64 {
            if self.since_reset < delay { start } else { value }
        }

        fn store(&mut self, _: View, _: f64) {
            self.stored += 1;
        }
    }

    /// The state after some frames.
    fn after(
        recurrence: &Recurrence,
        program: &Program<ScanLeaf>,
        mut state: Vec<Form<f64>>,
        frames: &[Plain],
    ) -> Vec<Form<f64>> {
        for plain in frames {
            let mut plain = Plain { stored: 0, ..*plain };
            let after = run(recurrence, program, &state, &mut plain).expect("the recurrence is affine");
            assert_eq!(plain.stored, program.stores().count());
            for (n, (of, form)) in recurrence.states.iter().zip(after).enumerate() {
                for delay in (2..=of.depth).rev() {
                    state[recurrence.slot(n, delay)] = state[recurrence.slot(n, delay - 1)].clone();
                }
                state[recurrence.slot(n, 1)] = form;
            }
        }
        state
    }

    proptest! {
        #[test]
        fn affine_forms_say_what_running_from_any_state_gives(seed in any::<u64>()) {
            let mut draw = Draw(seed);
            let recurrence = draw_recurrence(&mut draw);
            let order = recurrence.order();
            let wanted = part(&recurrence).expect("it was drawn so");
            prop_assert_eq!(wanted.stores().count(), 0);
            let mut since_reset = draw.below(4);
            let frames: Vec<Plain> = (0..1 + draw.below(8)).map(|_| {
                since_reset = if draw.below(6) == 0 { 0 } else { since_reset + 1 };
                Plain { inputs: [draw.number(), draw.number()], since_reset, stored: 0 }
            }).collect();
            let open = (0..order).map(|slot| {
                let coefficients = (0..order).map(|j| f64::from(u8::from(j == slot))).collect();
                Form { constant: 0.0, coefficients }
            }).collect();
            let forms = after(&recurrence, &wanted, open, &frames);
            let state: Vec<f64> = (0..order).map(|_| draw.number()).collect();
            let free = state.iter().map(|&s| Form::free(s)).collect();
            let direct = after(&recurrence, &recurrence.program, free, &frames);
            for (form, direct) in forms.iter().zip(direct) {
                let (mut sum, mut size) = (form.constant, form.constant.abs());
                for (coefficient, s) in form.coefficients.iter().zip(&state) {
                    sum += coefficient * s;
                    size += (coefficient * s).abs();
                }
                let d = direct.constant;
                // Quotients by nearly nothing go beyond all bounds.
                prop_assume!(size.is_finite() && d.is_finite() && size < 1e12);
                prop_assert!((sum - d).abs() <= 1e-9 * (1.0 + size), "{sum} {d} {recurrence:?}");
            }
        }
    }

    #[test]
    fn a_function_of_the_state_is_not_affine_unless_it_is_only_stored() {
        let mut recurrence = draw_recurrence(&mut Draw(1));
        assert!(part(&recurrence).is_some());
        let mut program = Program::default();
        let old = program.leaf(&ScanLeaf::State { state: 0, delay: 1, start: StartValue::Number(0.0) });
        let new = program.apply(Function::Apply(Activation::Tanh), old);
        program.store(&VIEW, new);
        recurrence.program = program;
        recurrence.states = vec![State { view: VIEW, depth: 1, history: true, register: old }];
        assert_eq!(part(&recurrence).unwrap().instructions, recurrence.program.instructions[..1]);
        recurrence.states[0].register = new;
        assert_eq!(part(&recurrence), None);
    }
}

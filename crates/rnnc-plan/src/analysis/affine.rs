//! Runs a recurrence's frame on numbers of any kind: on floats, on the texts of generated variables, and on either with
//! the state left open: as affine forms of the state before some frame.

use super::recurrence::{Input, Recurrence, Step};
use crate::ir::{Binary, StartValue, View};
use rnnc_graph::Function;

/// `constant + sum over j of coefficients[j] * (number j of the state)`. Without coefficients, it does not depend on the state.
#[derive(Clone, Debug, PartialEq)]
pub struct Form<N> {
    /// What does not depend on the state.
    pub constant: N,
    /// One for each number of the state, or none.
    pub coefficients: Vec<N>,
}

/// What a frame computes with.
#[allow(missing_docs)] // as the steps of a recurrence
pub trait Algebra {
    /// What a register holds.
    type Number: Clone;

    fn number(&mut self, value: f64) -> Self::Number;
    fn weight(&mut self, offset: usize) -> Self::Number;
    /// Units of a mask, from `first` on.
    fn mask(&mut self, key: u64, probability: f64, first: usize) -> Self::Number;
    /// With its start where it crosses.
    fn input(&mut self, place: usize, input: &Input) -> Self::Number;
    fn start(&mut self, start: &StartValue) -> Self::Number;
    /// `start` where a read of the recurrence's own crosses that is `delay` frames before; else `value`.
    fn crossing(&mut self, delay: usize, start: Self::Number, value: Self::Number) -> Self::Number;
    fn apply(&mut self, function: Function, a: Self::Number) -> Self::Number;
    fn binary(&mut self, op: Binary, a: Self::Number, b: Self::Number) -> Self::Number;
    /// a * b + c
    fn fused(&mut self, a: Self::Number, b: Self::Number, c: Self::Number) -> Self::Number;
    fn store(&mut self, to: View, value: Self::Number);
}

impl<N: Clone> Form<N> {
    /// Something that does not depend on the state.
    pub fn free(constant: N) -> Form<N> {
        Form { constant, coefficients: Vec::new() }
    }

    /// Each part on its own.
    fn map(self, mut change: impl FnMut(N) -> N) -> Form<N> {
        let constant = change(self.constant);
        Form { constant, coefficients: self.coefficients.into_iter().map(change).collect() }
    }
}

/// Runs those steps of a frame that are wanted (see [`Recurrence::affine_steps`]; all, if the state has no coefficients). Returns
/// what it leaves in each of the states; `None` if that is no affine function of the state.
pub fn frame<A: Algebra>(
    recurrence: &Recurrence,
    wanted: Option<&[bool]>,
    state: &[Form<A::Number>],
    algebra: &mut A,
) -> Option<Vec<Form<A::Number>>> {
    let mut registers: Vec<Option<Form<A::Number>>> = vec![None; recurrence.registers];
    for (n, step) in recurrence.steps.iter().enumerate() {
        if wanted.is_some_and(|wanted| !wanted[n]) {
            continue;
        }
        let read = |register: usize| registers[register].clone();
        let (to, form) = match *step {
            Step::Input { input, to } => (to, Form::free(algebra.input(input, &recurrence.inputs[input]))),
            Step::State { state: of, delay, ref start, to } => {
                let Form { constant, coefficients } = state[recurrence.slot(of, delay)].clone();
                let start = algebra.start(start);
                let constant = algebra.crossing(delay, start, constant);
                let cut = |coefficient| {
                    let zero = algebra.number(0.0);
                    algebra.crossing(delay, zero, coefficient)
                };
                (to, Form { constant, coefficients: coefficients.into_iter().map(cut).collect() })
            }
            Step::Weight { offset, to } => (to, Form::free(algebra.weight(offset))),
            Step::Number { value, to } => (to, Form::free(algebra.number(value))),
            Step::Mask { key, probability, first, to } => {
                (to, Form::free(algebra.mask(key, probability, first)))
            }
            Step::Apply { function, from, to } => {
                let from = read(from)?;
                if !from.coefficients.is_empty() {
                    return None;
                }
                (to, Form::free(algebra.apply(function, from.constant)))
            }
            Step::Scale { factor, from, to } => {
                let factor = algebra.number(factor);
                (to, read(from)?.map(|part| algebra.binary(Binary::Mul, factor.clone(), part)))
            }
            Step::Binary { op, a, b, to } => (to, binary(algebra, op, read(a)?, read(b)?)?),
            Step::MulAdd { a, b, c, to } => (to, multiply_add(algebra, read(a)?, read(b)?, read(c)?)?),
            Step::Store { from, to } => {
                let from = read(from)?;
                if !from.coefficients.is_empty() {
                    return None;
                }
                algebra.store(to, from.constant);
                continue;
            }
        };
        registers[to] = Some(form);
    }
    recurrence.states.iter().map(|state| registers[state.register].clone()).collect()
}

fn binary<A: Algebra>(
    algebra: &mut A,
    op: Binary,
    a: Form<A::Number>,
    b: Form<A::Number>,
) -> Option<Form<A::Number>> {
    let (varies, by) = (!a.coefficients.is_empty(), !b.coefficients.is_empty());
    Some(match (op, varies, by) {
        (_, false, false) => Form::free(algebra.binary(op, a.constant, b.constant)),
        (Binary::Add, true, true) => Form {
            constant: algebra.binary(op, a.constant, b.constant),
            coefficients: a
                .coefficients
                .into_iter()
                .zip(b.coefficients)
                .map(|(a, b)| algebra.binary(op, a, b))
                .collect(),
        },
        (Binary::Add, ..) => {
            let constant = algebra.binary(op, a.constant, b.constant);
            Form { constant, coefficients: if varies { a.coefficients } else { b.coefficients } }
        }
        (Binary::Mul | Binary::Div, true, false) => {
            a.map(|part| algebra.binary(op, part, b.constant.clone()))
        }
        (Binary::Mul, false, true) => b.map(|part| algebra.binary(op, a.constant.clone(), part)),
        _ => return None,
    })
}

fn multiply_add<A: Algebra>(
    algebra: &mut A,
    a: Form<A::Number>,
    b: Form<A::Number>,
    c: Form<A::Number>,
) -> Option<Form<A::Number>> {
    let (factor, form) = match (a.coefficients.is_empty(), b.coefficients.is_empty()) {
        (true, _) => (a.constant, b),
        (false, true) => (b.constant, a),
        _ => return None,
    };
    let constant = algebra.fused(factor.clone(), form.constant, c.constant);
    let coefficients = match (form.coefficients, c.coefficients) {
        (coefficients, added) if coefficients.is_empty() => added,
        (coefficients, added) if added.is_empty() => {
            coefficients.into_iter().map(|s| algebra.binary(Binary::Mul, factor.clone(), s)).collect()
        }
        (coefficients, added) => {
            coefficients.into_iter().zip(added).map(|(s, c)| algebra.fused(factor.clone(), s, c)).collect()
        }
    };
    Some(Form { constant, coefficients })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::recurrence::State;
    use crate::ir::{BufferId, Read};
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
        let mut steps = vec![
            Step::Input { input: 0, to: 0 },
            Step::Input { input: 1, to: 1 },
            Step::Weight { offset: 3, to: 2 },
            Step::Number { value: draw.number(), to: 3 },
        ];
        // Whether a register depends on the state.
        let mut varies = vec![false; 4];
        for (state, &depth) in depths.iter().enumerate() {
            for delay in 1..=depth {
                let start = StartValue::Number(draw.number());
                steps.push(Step::State { state, delay, start, to: varies.len() });
                varies.push(true);
            }
        }
        for _ in 0..8 + draw.below(12) {
            let to = varies.len();
            let [a, b, c] = [(); 3].map(|()| draw.below(to));
            let ops = [
                Binary::Add,
                Binary::Mul,
                Binary::Div,
                Binary::Max,
                Binary::Min,
                Binary::Known,
                Binary::Step,
            ];
            let op = ops[draw.below(ops.len())];
            let step = match draw.below(4) {
                0 => Step::Scale { factor: draw.number(), from: a, to },
                1 => Step::Apply { function: Function::Apply(Activation::Tanh), from: a, to },
                2 => Step::MulAdd { a, b, c, to },
                _ => Step::Binary { op, a, b, to },
            };
            let affine = match step {
                Step::Apply { .. } => !varies[a],
                Step::MulAdd { .. } => !(varies[a] && varies[b]),
                Step::Binary { op: Binary::Mul, .. } => !(varies[a] && varies[b]),
                Step::Binary { op: Binary::Div, .. } => !varies[b],
                Step::Binary { op: Binary::Add, .. } | Step::Scale { .. } => true,
                _ => !(varies[a] || varies[b]),
            };
            if affine {
                let more = matches!(step, Step::MulAdd { .. }) && varies[c];
                let two = !matches!(step, Step::Scale { .. } | Step::Apply { .. }) && varies[b];
                varies.push(varies[a] || two || more);
                steps.push(step);
            }
        }
        let states = depths
            .iter()
            .map(|&depth| State { view: VIEW, depth, history: true, register: draw.below(varies.len()) })
            .collect();
        // What is only stored may be anything.
        let last = varies.len();
        steps.push(Step::Apply { function: Function::Apply(Activation::Exp), from: last - 1, to: last });
        steps.push(Step::Store { from: last, to: VIEW });
        Recurrence {
            direction: Direction::Forward,
            first: 0,
            len: 1,
            inputs: vec![Input { read, repeat: None }; 2],
            states,
            steps,
            registers: last + 1,
        }
    }

    /// Numbers, in some frame.
    struct Plain {
        inputs: [f64; 2],
        since_reset: usize,
        stored: usize,
    }

    impl Algebra for Plain {
        type Number = f64;

        fn number(&mut self, value: f64) -> f64 {
            value
        }

        fn weight(&mut self, offset: usize) -> f64 {
            0.25 * offset as f64
        }

        fn mask(&mut self, _: u64, _: f64, _: usize) -> f64 {
            1.0
        }

        fn input(&mut self, place: usize, _: &Input) -> f64 {
            self.inputs[place]
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

        fn apply(&mut self, function: Function, a: f64) -> f64 {
            match function {
                Function::Apply(Activation::Tanh) => a.tanh(),
                _ => a.exp(),
            }
        }

        fn binary(&mut self, op: Binary, a: f64, b: f64) -> f64 {
            match op {
                Binary::Add => a + b,
                Binary::Mul => a * b,
                Binary::Div => a / b,
                Binary::Max => a.max(b),
                Binary::Min => a.min(b),
                Binary::Known if b.is_nan() => 0.0,
                Binary::Known => a,
                Binary::Step => f64::from(u8::from(a > b)),
            }
        }

        fn fused(&mut self, a: f64, b: f64, c: f64) -> f64 {
            a * b + c
        }

        fn store(&mut self, _: View, _: f64) {
            self.stored += 1;
        }
    }

    /// The state after some frames.
    fn run(
        recurrence: &Recurrence,
        wanted: Option<&[bool]>,
        mut state: Vec<Form<f64>>,
        frames: &[Plain],
    ) -> Vec<Form<f64>> {
        for plain in frames {
            let mut plain = Plain { stored: 0, ..*plain };
            let after = frame(recurrence, wanted, &state, &mut plain).expect("the recurrence is affine");
            assert_eq!(plain.stored, usize::from(wanted.is_none()));
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
            let wanted = recurrence.affine_steps().expect("it was drawn so");
            let mut since_reset = draw.below(4);
            let frames: Vec<Plain> = (0..1 + draw.below(8)).map(|_| {
                since_reset = if draw.below(6) == 0 { 0 } else { since_reset + 1 };
                Plain { inputs: [draw.number(), draw.number()], since_reset, stored: 0 }
            }).collect();
            let open = (0..order).map(|slot| {
                let coefficients = (0..order).map(|j| f64::from(u8::from(j == slot))).collect();
                Form { constant: 0.0, coefficients }
            }).collect();
            let forms = run(&recurrence, Some(&wanted), open, &frames);
            let state: Vec<f64> = (0..order).map(|_| draw.number()).collect();
            let direct = run(&recurrence, None, state.iter().map(|&s| Form::free(s)).collect(), &frames);
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
        assert!(recurrence.affine_steps().is_some());
        recurrence.steps = vec![
            Step::State { state: 0, delay: 1, start: StartValue::Number(0.0), to: 0 },
            Step::Apply { function: Function::Apply(Activation::Tanh), from: 0, to: 1 },
            Step::Store { from: 1, to: VIEW },
        ];
        recurrence.states = vec![State { view: VIEW, depth: 1, history: true, register: 0 }];
        assert_eq!(recurrence.affine_steps(), Some(vec![true, false, false]));
        recurrence.states[0].register = 1;
        assert_eq!(recurrence.affine_steps(), None);
    }
}

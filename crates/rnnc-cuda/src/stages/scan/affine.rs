//! Runs a recurrence's frame on numbers of any kind: on floats, on the texts of generated variables, and on either with
//! the state left open: as affine forms of the state before some frame.

use super::recurrence::{Input, Recurrence, Step};
use rnnc_graph::Function;
use rnnc_plan::{Binary, StartValue};

/// constant + sum over j of slopes[j] * (number j of the state). Without slopes, it does not depend on the state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Form<N> {
    pub constant: N,
    pub slopes: Vec<N>,
}

/// What a frame computes with.
pub(crate) trait Algebra {
    type Number: Clone;

    fn number(&mut self, value: f64) -> Self::Number;
    fn weight(&mut self, offset: usize) -> Self::Number;
    fn mask(&mut self, key: u64, probability: f64) -> Self::Number;
    /// With its start where it crosses.
    fn input(&mut self, place: usize, input: &Input) -> Self::Number;
    fn start(&mut self, start: &StartValue) -> Self::Number;
    /// `start` where a read of the recurrence's own crosses that is `delay` frames before; else `value`.
    fn crossing(&mut self, delay: usize, start: Self::Number, value: Self::Number) -> Self::Number;
    fn apply(&mut self, function: Function, a: Self::Number) -> Self::Number;
    fn binary(&mut self, op: Binary, a: Self::Number, b: Self::Number) -> Self::Number;
    /// a * b + c
    fn fused(&mut self, a: Self::Number, b: Self::Number, c: Self::Number) -> Self::Number;
    fn store(&mut self, to: rnnc_plan::View, value: Self::Number);
}

impl<N: Clone> Form<N> {
    /// Something that does not depend on the state.
    pub fn free(constant: N) -> Form<N> {
        Form { constant, slopes: Vec::new() }
    }

    /// Each part on its own.
    fn map(self, mut change: impl FnMut(N) -> N) -> Form<N> {
        let constant = change(self.constant);
        Form { constant, slopes: self.slopes.into_iter().map(change).collect() }
    }
}

/// Runs those steps of a frame that are wanted (see [`Recurrence::affine_steps`]; all, if the state has no slopes). Returns
/// what it leaves in each of the states; `None` if that is no affine function of the state.
pub(crate) fn frame<A: Algebra>(
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
                let Form { constant, slopes } = state[recurrence.slot(of, delay)].clone();
                let start = algebra.start(start);
                let constant = algebra.crossing(delay, start, constant);
                let cut = |slope| {
                    let zero = algebra.number(0.0);
                    algebra.crossing(delay, zero, slope)
                };
                (to, Form { constant, slopes: slopes.into_iter().map(cut).collect() })
            }
            Step::Weight { offset, to } => (to, Form::free(algebra.weight(offset))),
            Step::Number { value, to } => (to, Form::free(algebra.number(value))),
            Step::Mask { key, probability, to } => (to, Form::free(algebra.mask(key, probability))),
            Step::Apply { function, from, to } => {
                let from = read(from)?;
                if !from.slopes.is_empty() {
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
                if !from.slopes.is_empty() {
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
    let (varies, by) = (!a.slopes.is_empty(), !b.slopes.is_empty());
    Some(match (op, varies, by) {
        (_, false, false) => Form::free(algebra.binary(op, a.constant, b.constant)),
        (Binary::Add, true, true) => Form {
            constant: algebra.binary(op, a.constant, b.constant),
            slopes: a.slopes.into_iter().zip(b.slopes).map(|(a, b)| algebra.binary(op, a, b)).collect(),
        },
        (Binary::Add, ..) => {
            let constant = algebra.binary(op, a.constant, b.constant);
            Form { constant, slopes: if varies { a.slopes } else { b.slopes } }
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
    let (factor, form) = match (a.slopes.is_empty(), b.slopes.is_empty()) {
        (true, _) => (a.constant, b),
        (false, true) => (b.constant, a),
        _ => return None,
    };
    let constant = algebra.fused(factor.clone(), form.constant, c.constant);
    let slopes = match (form.slopes, c.slopes) {
        (slopes, added) if slopes.is_empty() => added,
        (slopes, added) if added.is_empty() => {
            slopes.into_iter().map(|s| algebra.binary(Binary::Mul, factor.clone(), s)).collect()
        }
        (slopes, added) => {
            slopes.into_iter().zip(added).map(|(s, c)| algebra.fused(factor.clone(), s, c)).collect()
        }
    };
    Some(Form { constant, slopes })
}

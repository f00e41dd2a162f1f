//! Formulas, printed as functions of CUDA C++: activations, and the steps of optimizers.

use crate::places::float;
use rnnc_graph::ops::Binary;
use rnnc_graph::{Activation, Function, Number};
use rnnc_plan::Optimizer;
use rnnc_plan::optimizers::{Rule, Visitor};
use std::cell::RefCell;
use std::ops::{Add, Div, Mul, Neg, Sub};

thread_local! {
    /// The statements of the formula that is being printed: one for each operation.
    static STATEMENTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A number of a formula: the argument, or what a statement makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Text(usize);

/// The answer of a comparison that a statement makes.
#[derive(Clone, Copy, Debug)]
struct Answer(usize);

impl Text {
    const ARGUMENT: Text = Text(usize::MAX);
    /// The second of two.
    const SECOND: Text = Text(usize::MAX - 1);

    fn name(self) -> String {
        match self {
            Text::ARGUMENT => "x".into(),
            Text::SECOND => "y".into(),
            Text(number) => format!("t{number}"),
        }
    }

    /// What an expression gives.
    fn of(expression: String) -> Text {
        Text(statement("float", expression))
    }

    fn call(self, function: &str) -> Text {
        Text::of(format!("{function}({})", self.name()))
    }
}

/// Adds a statement; gives its number.
fn statement(kind: &str, expression: String) -> usize {
    STATEMENTS.with_borrow_mut(|statements| {
        let number = statements.len();
        statements.push(format!("const {kind} t{number} = {expression};"));
        number
    })
}

/// Writes the operators of two numbers.
macro_rules! operators {
    ($($operator:ident, $name:ident, $sign:literal;)*) => {$(
        impl $operator for Text {
            type Output = Text;

            fn $name(self, other: Text) -> Text {
                Text::of(format!("{} {} {}", self.name(), $sign, other.name()))
            }
        }
    )*};
}

operators! {
    Add, add, "+";
    Sub, sub, "-";
    Mul, mul, "*";
    Div, div, "/";
}

impl Neg for Text {
    type Output = Text;

    fn neg(self) -> Text {
        Text::of(format!("-{}", self.name()))
    }
}

/// Writes functions of one number.
macro_rules! functions {
    ($($name:ident = $function:literal;)*) => {$(
        fn $name(self) -> Text {
            self.call($function)
        }
    )*};
}

impl Number for Text {
    type Truth = Answer;

    fn constant(value: f64) -> Text {
        Text::of(float(value))
    }

    fn largest() -> Text {
        Text::constant(f64::from(f32::MAX))
    }

    fn less(self, than: Text) -> Answer {
        Answer(statement("bool", format!("{} < {}", self.name(), than.name())))
    }

    fn equal(self, to: Text) -> Answer {
        Answer(statement("bool", format!("{} == {}", self.name(), to.name())))
    }

    fn is_number(self) -> Answer {
        Answer(statement("bool", format!("{0} == {0}", self.name())))
    }

    fn choose(truth: Answer, yes: Text, no: Text) -> Text {
        Text::of(format!("t{} ? {} : {}", truth.0, yes.name(), no.name()))
    }

    fn mul_add(self, times: Text, plus: Text) -> Text {
        Text::of(format!("fused({}, {}, {})", self.name(), times.name(), plus.name()))
    }

    fn root_mean_square(keep: Text, a: Text, rest: Text, b: Text) -> Text {
        let names = [keep, a, rest, b].map(Text::name);
        Text::of(format!("number_root_mean_square({})", names.join(", ")))
    }

    fn remainder(self, by: Text) -> Text {
        Text::of(format!("fmodf({}, {})", self.name(), by.name()))
    }

    functions! {
        abs = "fabsf";
        sqrt = "sqrtf";
        exp = "expf";
        exp_m1 = "expm1f";
        ln = "logf";
        ln_1p = "log1pf";
        floor = "floorf";
        round = "rintf";
        atan = "atanf";
        erf = "erff";
        exp_minus_square = "number_exp_minus_square";
        sin = "sinf";
        cos = "cosf";
        tanh = "number_tanh";
        sigmoid = "number_sigmoid";
        softplus = "number_softplus";
        silu = "number_silu";
        silu_derivative = "number_silu_derivative";
        gelu = "number_gelu";
        gelu_derivative = "number_gelu_derivative";
    }
}

/// The name of a function in generated code.
pub(crate) fn name(function: Function) -> String {
    match function {
        Function::Apply(f) => format!("f_{}", f.name()),
        Function::Derivative(f) => format!("d_{}", f.name()),
    }
}

/// A function of CUDA C++.
fn definition(function: Function) -> String {
    STATEMENTS.take();
    let result = function.apply(Text::ARGUMENT);
    let statements = STATEMENTS.take();
    // A constant has no use for its argument.
    let argument =
        if statements.iter().any(|s| s.split(|c: char| !c.is_alphanumeric()).any(|word| word == "x"))
            || result.0 == Text::ARGUMENT.0
        {
            " x"
        } else {
            ""
        };
    format!(
        "DEVICE float {}(float{argument}) {{ {}{}return {}; }}\n",
        name(function),
        statements.join(" "),
        if statements.is_empty() { "" } else { " " },
        result.name()
    )
}

/// The name of a function of two numbers in generated code.
pub(crate) fn pair_name(op: Binary) -> String {
    format!("b_{}", op.name())
}

/// A function of two numbers, in CUDA C++.
fn pair_definition(op: Binary) -> String {
    STATEMENTS.take();
    let result = op.apply(Text::ARGUMENT, Text::SECOND);
    let statements = STATEMENTS.take().join(" ");
    format!("DEVICE float {}(float x, float y) {{ {statements} return {}; }}\n", pair_name(op), result.name())
}

/// All functions of activations and their derivatives, and those of two numbers.
pub(crate) fn definitions() -> String {
    let functions = Activation::ALL.into_iter().flat_map(|f| [Function::Apply(f), Function::Derivative(f)]);
    let all: String = functions.map(definition).collect();
    let pairs: String = Binary::ALL.into_iter().map(pair_definition).collect();
    format!("// The activations, and their derivatives.\n{all}\n// Functions of two numbers.\n{pairs}\n")
}

/// The step of an optimizer, which changes a weight and what is kept beside it. It is called as the rule is.
pub(crate) fn step(optimizer: Optimizer) -> String {
    optimizer.visit(Step)
}

struct Step;

impl Visitor for Step {
    type Output = String;

    fn visit<R: Rule<S, V, K>, const S: usize, const V: usize, const K: usize>(self) -> String {
        STATEMENTS.take();
        let argument = |name: &str| Text::of(name.into());
        let (slots, numbers) = (R::SLOTS.map(|slot| slot.name), R::NUMBERS.map(|number| number.name));
        let (weight, gradient) = (argument("weight"), argument("gradient"));
        let (weight, kept) = R::step(weight, gradient, slots.map(argument), numbers.map(argument));
        let statements = STATEMENTS.take().join("\n    ");
        let parameters: String = slots
            .iter()
            .map(|slot| format!(", float& {slot}"))
            .chain(numbers.iter().map(|n| format!(", float {n}")))
            .collect();
        let kept: String =
            slots.iter().zip(kept).map(|(slot, kept)| format!("\n    {slot} = {};", kept.name())).collect();
        format!(
            "DEVICE void step_{}(float& weight, float gradient{parameters}) {{\n    {statements}\n    weight = {};{kept}\n}}\n",
            R::NAME,
            weight.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_is_printed_a_statement_an_operation() {
        assert_eq!(
            definition(Function::Apply(Activation::Relu)),
            "DEVICE float f_relu(float x) { const float t0 = 0e0f; const bool t1 = x < t0; \
             const float t2 = t1 ? t0 : x; return t2; }\n"
        );
        assert_eq!(
            definition(Function::Apply(Activation::Identity)),
            "DEVICE float f_identity(float x) { return x; }\n"
        );
        assert_eq!(
            definition(Function::Derivative(Activation::Identity)),
            "DEVICE float d_identity(float) { const float t0 = 1e0f; return t0; }\n"
        );
    }
}

//! Elementwise programs as straight-line code for one unit: each result is a variable, computed by one statement.

use super::formula;
use crate::places::float;
use rnnc_graph::Function;
use rnnc_plan::{Algebra, Binary, Interpreter, Leaf, Program, Register};
use std::fmt::Write;

/// Where a program stands: how the code around it reads and writes.
pub(crate) trait Site<L: Leaf> {
    /// What a leaf gives, as an expression.
    fn leaf(&mut self, leaf: &L) -> String;

    /// A statement that writes a result.
    fn store(&mut self, to: &L::Target, value: &str) -> String;
}

/// The statements of a program. Registers are called `<prefix>0`, `<prefix>1`, ...
pub(crate) fn statements<L: Leaf, S: Site<L>>(program: &Program<L>, prefix: &str, site: S) -> String {
    let mut printer = Printer::new(Names::Registers(prefix.into()), site);
    program.run(&mut printer);
    printer.text
}

/// What variables are called.
pub(crate) enum Names {
    /// As the registers that they are.
    Registers(String),
    /// `v1`, `v2`, ...: where a register is several variables.
    Counted(usize),
}

/// Computes with expressions. What is made of others is a variable.
pub(crate) struct Printer<S> {
    /// The statements so far.
    pub text: String,
    names: Names,
    pub site: S,
}

impl<S> Printer<S> {
    pub fn new(names: Names, site: S) -> Printer<S> {
        Printer { text: String::new(), names, site }
    }

    /// What an expression gives: its variable, unless it is a register's, which will be named.
    pub fn result(&mut self, expression: String) -> String {
        match &mut self.names {
            Names::Registers(_) => expression,
            Names::Counted(count) => {
                *count += 1;
                let name = format!("v{count}");
                self.declare(&name, &expression);
                name
            }
        }
    }

    fn declare(&mut self, name: &str, expression: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "const float {name} = {expression};");
    }
}

impl<S> Algebra for Printer<S> {
    type Number = String;

    fn number(&mut self, value: f64) -> String {
        float(value)
    }

    fn apply(&mut self, function: Function, from: String) -> String {
        self.result(format!("{}({from})", formula::name(function)))
    }

    fn binary(&mut self, op: Binary, a: String, b: String) -> String {
        self.result(match op {
            Binary::Add => format!("{a} + {b}"),
            Binary::Mul => format!("{a} * {b}"),
            Binary::Div => format!("{a} / {b}"),
            op => format!("{}({a}, {b})", formula::pair_name(op)),
        })
    }

    fn mul_add(&mut self, a: String, b: String, c: String) -> String {
        self.result(format!("fused({a}, {b}, {c})"))
    }
}

impl<L: Leaf, S: Site<L>> Interpreter<L> for Printer<S> {
    fn leaf(&mut self, leaf: &L) -> String {
        self.site.leaf(leaf)
    }

    fn store(&mut self, to: &L::Target, value: String) {
        let statement = self.site.store(to, &value);
        let _ = writeln!(self.text, "{statement}");
    }

    fn name(&mut self, register: Register, value: String) -> String {
        let name = match &self.names {
            Names::Registers(prefix) => format!("{prefix}{register}"),
            Names::Counted(_) => return value,
        };
        self.declare(&name, &value);
        name
    }
}

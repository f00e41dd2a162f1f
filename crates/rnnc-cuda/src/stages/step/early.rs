//! What a step reads that no other step of the loop writes meanwhile: read a step ahead, so that it is there when it is
//! needed; and what a thread keeps for its own next step.
//!
//! Names in loading code that begin with `@` are printed twice: with `e` for the present step, with `n` for the next.

use super::exchange::{self, Origin, Stored};
use rnnc_graph::Direction;
use rnnc_plan::{Op, Task, View};
use std::fmt::Write;

/// Where values are read to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum To {
    /// Registers of the threads that need them.
    #[default]
    Registers,
    /// The second-level cache, where registers do not suffice: the step itself reads them from there.
    Cache,
}

/// The values that one place of the kernel reads ahead, in each of its items.
#[derive(Default)]
pub(super) struct Early {
    to: To,
    /// The place's number.
    site: usize,
    /// Items of a warp.
    items: usize,
    /// Type, name and count of each variable.
    variables: Vec<(&'static str, String, usize)>,
    /// Statements that load them.
    loads: String,
    /// Statements before the first step only, and the variables they set.
    begins: String,
    fixed: Vec<String>,
    /// Expressions of the map being printed, and their variables.
    pending: Vec<(String, String)>,
    /// Its statements before the first step.
    beginning: Vec<String>,
}

impl Early {
    pub fn new(to: To, site: usize, items: usize) -> Early {
        Early { to, site, items, ..Early::default() }
    }

    /// Where it reads to.
    pub fn to(&self) -> To {
        self.to
    }

    /// A statement of the map being printed that brings a number to the cache, with a guard.
    pub fn prefetch(&mut self, address: &str) {
        let statement = format!("prefetch({address});");
        if !self.pending.iter().any(|(known, _)| *known == statement) {
            self.pending.push((statement, String::new()));
        }
    }

    /// A variable for an expression of the map being printed; returns how the step reads it.
    pub fn value(&mut self, kind: &'static str, expression: String) -> String {
        let known = self.pending.iter().find(|(e, _)| *e == expression).map(|(_, name)| name.clone());
        let name = known.unwrap_or_else(|| {
            let name = format!("{}_{}", self.site, self.variables.len());
            self.variables.push((kind, name.clone(), self.items));
            self.pending.push((expression, name.clone()));
            name
        });
        format!("e{name}[it]")
    }

    /// A statement of the map being printed, before the first step only.
    pub fn begin(&mut self, statement: String) {
        if !self.beginning.contains(&statement) {
            self.beginning.push(statement);
        }
    }

    /// A value that is the same in all steps; returns how they read it.
    pub fn fixed(&mut self, expression: &str) -> String {
        let name = format!("f{}_{}", self.site, self.fixed.len());
        self.fixed.push(name.clone());
        self.beginning.push(format!("{name}[it] = {expression};"));
        format!("{name}[it]")
    }

    /// Ends a map: its variables are loaded where `guard` holds, with `u` defined.
    pub fn end_map(&mut self, guard: &str, first: usize) {
        let _ = writeln!(self.loads, "            if ({guard}) {{ const u32 u = unit - {first}u; (void)u;");
        for (expression, name) in self.pending.drain(..) {
            let target = if name.is_empty() { String::new() } else { format!("@{name}[it] = ") };
            let end = if name.is_empty() { "" } else { ";" };
            let _ = writeln!(self.loads, "                {target}{expression}{end}");
        }
        self.loads.push_str("            }\n");
        if !self.beginning.is_empty() {
            let _ =
                writeln!(self.begins, "            if ({guard}) {{ const u32 u = unit - {first}u; (void)u;");
            for statement in self.beginning.drain(..) {
                let _ = writeln!(self.begins, "                {statement}");
            }
            self.begins.push_str("            }\n");
        }
    }

    /// Number `part` of `count` an item: the statement that loads it, and how the step reads it.
    pub fn element(&mut self, count: usize, address: &str) -> (String, String) {
        if self.to == To::Cache {
            return (format!("prefetch({address});"), format!("own({address})"));
        }
        let name = format!("{}_{}", self.site, self.variables.len());
        self.variables.push(("float", name.clone(), self.items * count));
        let place = format!("{name}[it * {count}u + part]");
        (format!("@{place} = early({address});"), format!("e{place}"))
    }

    /// Statements that load variables of their own.
    pub fn load(&mut self, statements: &str) {
        self.loads.push_str(statements);
    }

    /// Numbers of registers it takes.
    pub fn registers(&self) -> usize {
        self.variables.iter().map(|(_, _, count)| count).sum::<usize>() + self.fixed.len() * self.items
    }

    /// Declarations, for a prefix.
    pub fn declarations(&self, prefix: char) -> String {
        let mut out = String::new();
        let fixed = if prefix == 'e' { self.fixed.as_slice() } else { &[] };
        for name in fixed {
            let count = self.items;
            let _ = writeln!(out, "    float {name}[{count}];");
            let _ = writeln!(out, "    UNROLL for (u32 i = 0; i < {count}u; i++) {name}[i] = 0.f;");
        }
        for (kind, name, count) in &self.variables {
            let _ = writeln!(out, "    {kind} {prefix}{name}[{count}];");
            let zero = if *kind == "u32" { "0u" } else { "0.f" };
            let _ =
                writeln!(out, "    UNROLL for (u32 i = 0; i < {count}u; i++) {prefix}{name}[i] = {zero};");
        }
        out
    }

    /// The loading statements of all items, for a prefix; `frame` is defined around. `head` opens an item.
    pub fn loading(&self, prefix: char, head: &str) -> String {
        let begins = if prefix == 'e' { self.begins.as_str() } else { "" };
        if self.loads.is_empty() && begins.is_empty() {
            return String::new();
        }
        let loads = self.loads.replace('@', &prefix.to_string());
        format!("{head}\n{loads}{begins}        }} }}\n")
    }

    /// The next step's become the present's.
    pub fn turn(&self) -> String {
        let mut out = String::new();
        for (_, name, count) in &self.variables {
            let _ =
                writeln!(out, "        UNROLL for (u32 i = 0; i < {count}u; i++) e{name}[i] = n{name}[i];");
        }
        out
    }
}

/// A value that maps store and read again in the next step, by the same thread: kept in a register.
#[derive(Clone, Debug)]
pub(super) struct Carry {
    /// What is read.
    pub view: View,
    /// The unit of its first column, of layers of `slice_len`.
    pub first: usize,
    pub slice_len: usize,
}

/// What a task's threads keep for their own next step.
pub(super) fn carries(task: &Task, stored: &[Stored]) -> Vec<Carry> {
    let sign = if task.direction == Direction::Forward { 1 } else { -1 };
    let mut out: Vec<Carry> = Vec::new();
    let maps = || {
        task.phases.iter().flat_map(|p| &p.ops).filter_map(|placed| match &placed.op {
            Op::Map(map) => Some(map),
            _ => None,
        })
    };
    for map in maps() {
        for read in map.reads_by_unit() {
            let own = exchange::origin(stored, read, map.slice_len, map.first) == Origin::SameUnit;
            let known = out
                .iter()
                .any(|c| c.view == read.view && c.first == map.first && c.slice_len == map.slice_len);
            if !own || known || sign * read.delay != 1 {
                continue;
            }
            let carry = Carry { view: read.view, first: map.first, slice_len: map.slice_len };
            let mut others = maps().filter(|m| m.slice_len == map.slice_len);
            let stores = others.any(|m| m.stores().any(|to| carry.is_part_of(to, m.first)));
            if stores {
                out.push(carry);
            }
        }
    }
    out
}

impl Carry {
    /// Whether a store of units `first ..` holds it.
    pub fn is_part_of(&self, to: View, first: usize) -> bool {
        to.buffer == self.view.buffer
            && to.column + self.first == self.view.column + first
            && to.column <= self.view.column
            && self.view.column + self.view.len <= to.column + to.len
    }
}

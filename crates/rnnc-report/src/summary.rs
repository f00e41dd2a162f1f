//! A plan on half a page, for who wrote the network: what runs over all frames at once, what is a scan, what is a loop and
//! why, what would change that, and what it costs. All names are those of the text; `text.rs` has everything else.

use crate::equations::{Equations, equation};
use crate::expressions::{functions, is_named, operation_name, titles};
use crate::names::{GLUE, at, count, plain, scaled, shorten, three_figures};
use crate::page::Page;
use crate::text::{limiting_reads, memory_of, parameters};
use rnnc_graph::{
    Component, Connection, ConnectionId, ConnectionKind, Direction, Kind, LayerId, ObstacleKind, Range,
};
use rnnc_plan::{Figures, Memory, Plan};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The column of what is said; its subject stands before it.
const TEXT: usize = 13;
/// The most letters of a list of names.
const NAMES: usize = 40;
/// The most letters of a name.
const LONGEST_NAME: usize = 40;
/// The most kinds of cycles that are told.
const MOST_CYCLES: usize = 4;
/// The most obstacles to a scan that are told.
const MOST_OBSTACLES: usize = 4;

/// What an executor says in a summary.
#[derive(Clone, Debug, PartialEq)]
pub struct Brief {
    /// What it takes.
    pub memory: Memory,
    /// What runs it: `2 threads of a CPU`.
    pub on: String,
    /// Microseconds that a frame is predicted to take forward.
    pub forward_us: f64,
    /// The same backward, if there is a backward pass.
    pub backward_us: Option<f64>,
    /// What that leaves out; empty for nothing.
    pub left_out: String,
    /// Subjects of its own, and what is said of each.
    pub more: Vec<(String, String)>,
}

/// What became of a network, in about a dozen lines and in the words of its text. What it takes, an executor knows better.
pub fn summary(plan: &Plan, brief: Option<&Brief>) -> String {
    let figures = Figures::of(plan);
    let equations = Equations::of(&plan.forward);
    let cycles = cycles(plan, &equations);
    let mut out = Page::default();
    heading(plan, &figures, &cycles, &mut out);
    at_once(plan, &equations, &cycles, &mut out);
    let groups = alike(&cycles);
    for group in groups.iter().take(MOST_CYCLES) {
        tell(&group.iter().map(|&i| &cycles[i]).collect::<Vec<_>>(), &mut out);
    }
    if groups.len() > MOST_CYCLES {
        let left: usize = groups[MOST_CYCLES..].iter().map(Vec::len).sum();
        out.says("", &format!("And {left} more, of other kinds."));
    }
    backward(plan, &equations, &cycles, &mut out);
    costs(plan, &figures, brief, &mut out);
    plain(&out.text)
}

impl Page {
    /// What is said of a subject, which stands at the left.
    fn says(&mut self, subject: &str, text: &str) {
        self.entry(0, subject, TEXT, text);
    }
}

/// Stands for the name of a cycle's one equation, so that cycles of which the same is told are found.
const ITSELF: char = '\u{1}';

/// A cycle of the network.
struct Cycle<'a> {
    component: &'a Component,
    /// Its equations, and cells that are all in it.
    names: Vec<&'a str>,
    /// The cell whose names are told without its own, if the cycle is one.
    cell: Option<&'a str>,
    /// Why, what would change that, and how it runs.
    story: String,
}

impl Cycle<'_> {
    fn is_loop(&self) -> bool {
        self.component.kind == Kind::Loop
    }

    fn is_reversed(&self) -> bool {
        self.component.direction == Direction::Backward
    }

    /// What it is told with: reversed ones are alike, too.
    fn key(&self) -> (String, bool) {
        (self.story.replace("[t+", "[t-"), self.is_loop())
    }
}

/// The cycles in the order of the text.
fn cycles<'a>(plan: &'a Plan, equations: &Equations<'a>) -> Vec<Cycle<'a>> {
    let components = plan.forward_pass.components.list.iter().enumerate();
    let mut found: Vec<(usize, usize, Cycle<'a>)> = Vec::new();
    let mut prefixes = vec![0; plan.forward.layers().len()];
    for (place, component) in components.filter(|(_, component)| component.kind != Kind::Frames) {
        let parts: Vec<usize> = component.layers.iter().map(|l| equations.of_layer[l.index()]).collect();
        let first = parts.iter().copied().min().unwrap_or(0);
        let names = equations.together(parts);
        let is_cell = |name: &str| component.layers.iter().all(|&l| equations.name(l) != name);
        let cell = if let [name] = names[..] { Some(name).filter(|name| is_cell(name)) } else { None };
        if let Some(cell) = cell {
            component.layers.iter().for_each(|l| prefixes[l.index()] = cell.len() + 1);
        }
        found.push((first, place, Cycle { component, names, cell, story: String::new() }));
    }
    found.sort_by_key(|(first, ..)| *first);
    let titles = titles(&plan.forward, equations, &prefixes);
    let tell = |(_, place, cycle): (usize, usize, Cycle<'a>)| {
        let Cycle { component, cell, .. } = cycle;
        let alone = if let ([name], None) = (&cycle.names[..], cell) { Some(*name) } else { None };
        let story = Teller { plan, equations, titles: &titles, place, component, cell, alone }.story();
        Cycle { story, ..cycle }
    };
    found.into_iter().map(tell).collect()
}

/// Tells of one cycle.
struct Teller<'a> {
    plan: &'a Plan,
    equations: &'a Equations<'a>,
    /// Of all layers.
    titles: &'a [String],
    place: usize,
    component: &'a Component,
    cell: Option<&'a str>,
    /// Its equation, if it is one of no such cell.
    alone: Option<&'a str>,
}

impl<'a> Teller<'a> {
    /// An equation's name; within the cell, as the cell has it.
    fn name(&self, layer: LayerId) -> String {
        let name = self.equations.name(layer);
        let within = self.cell.and_then(|cell| name.strip_prefix(cell)?.strip_prefix('.'));
        if self.alone == Some(name) { ITSELF.to_string() } else { short(within.unwrap_or(name)) }
    }

    fn connection(&self, id: ConnectionId) -> &'a Connection {
        self.plan.forward.connection_at(id)
    }

    /// What a connection reads: `h[t-1]`, or a short expression.
    fn read(&self, c: &Connection) -> String {
        let Some(source) = c.source else { return String::new() };
        let name = if is_named(&self.plan.forward, self.equations, source) {
            self.name(source)
        } else {
            let title = &self.titles[source.index()];
            if *title == functions(&self.plan.forward, source) {
                return format!("a part of `{}`", self.name(source));
            }
            if c.delay == 0 { title.clone() } else { format!("({title})") }
        };
        if c.delay == 0 { format!("`{name}`") } else { format!("`{name}[{}]`", at(c.delay)) }
    }

    fn story(&self) -> String {
        if let Kind::Scan(form) = &self.component.kind {
            let carried =
                if form.order == 1 { String::new() } else { format!(" ({} numbers a unit)", form.order) };
            return format!("what recurs is linear, unit by unit{carried}.");
        }
        let mut sentences = vec![self.reason(), self.remedy()];
        let heads = self.component.heads;
        if heads > 1 && self.component.barrier_bound.is_some_and(|(links, _)| links == 0) {
            sentences.push(format!(
                "Its {heads} heads never read each other: threads take whole heads and need not wait."
            ));
        }
        sentences.extend(self.wider());
        sentences.join(" ")
    }

    fn reason(&self) -> String {
        let Some(first) = self.component.obstacles.first() else {
            return "it reads itself.".into(); // every loop has an obstacle
        };
        let through = match first.kind {
            ObstacleKind::Function(function) => function.to_string(),
            ObstacleKind::Product(n) => format!("a product of {n} values of the loop"),
            ObstacleKind::Divisor => "a division".into(),
            ObstacleKind::Condition => "the condition of a choice".into(),
            ObstacleKind::Operation(operation) => operation_name(operation).into(),
            ObstacleKind::Matrix(c) => format!("`dense` of {}", self.read(self.connection(c))),
            ObstacleKind::Broadcast(_) => "a broadcast".into(),
            ObstacleKind::Slice(_) => "a read of other units".into(),
            ObstacleKind::Order { .. } => {
                return "what recurs is linear, unit by unit, but too much for a scan.".into();
            }
        };
        format!("`{}` reaches itself through {through}.", self.name(first.layer))
    }

    /// All that would have to go; what is alike is told together.
    fn remedy(&self) -> String {
        let mut edits: Vec<(String, Vec<String>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for obstacle in &self.component.obstacles {
            let what = match obstacle.kind {
                ObstacleKind::Function(function) => format!("{function} on"),
                ObstacleKind::Product(n) => format!("a product of {n} values of the loop in"),
                ObstacleKind::Divisor => "a division by a value of the loop in".into(),
                ObstacleKind::Condition => "a choice by a value of the loop in".into(),
                ObstacleKind::Operation(operation) => format!("{} in", operation_name(operation)),
                ObstacleKind::Matrix(c) => {
                    let c = self.connection(c);
                    let instead = if self.has_diagonal(c) { " (a `diag` would do)" } else { "" };
                    format!("`dense` of {}{instead} in", self.read(c))
                }
                ObstacleKind::Broadcast(_) => "a broadcast in".into(),
                ObstacleKind::Slice(_) => "a read of other units in".into(),
                ObstacleKind::Order { longest, .. } if longest > 1 => {
                    format!("the read of {longest} frames back of")
                }
                ObstacleKind::Order { .. } => "so many delayed reads of each other, such as that of".into(),
            };
            let place = *places.entry(what.clone()).or_insert(edits.len());
            if place == edits.len() {
                edits.push((what, Vec::new()));
            }
            let name = format!("`{}`", self.name(obstacle.layer));
            if edits[place].1.last() != Some(&name) {
                edits[place].1.push(name);
            }
        }
        let told = if edits.len() <= MOST_OBSTACLES + 1 { edits.len() } else { MOST_OBSTACLES };
        let mut parts: Vec<String> =
            edits[..told].iter().map(|(what, names)| format!("{what} {}", joined(names))).collect();
        if edits.len() > told {
            parts.push(count(edits.len() - told, "more thing"));
        }
        match parts.as_slice() {
            [] => String::new(),
            [one] => format!("It would be a scan (parallel over time) without {one}."),
            [others @ .., last] => {
                format!(
                    "It would be a scan (parallel over time) without {}, and without {last}.",
                    others.join(", without ")
                )
            }
        }
    }

    /// Whether a weight for each unit could stand in a matrix' place.
    fn has_diagonal(&self, c: &Connection) -> bool {
        let size = |layer: LayerId| self.plan.forward.layer_at(layer).size;
        c.target_range == Range::new(0, size(c.target))
            && c.source
                .is_some_and(|source| c.source_range == c.target_range && size(source) == c.source_range.len)
    }

    /// Which edit would let more frames run at once. Every cycle of the least total delay has only reads of delays up to
    /// it, so longer ones in their place make all such cycles longer.
    fn wider(&self) -> Option<String> {
        let reads = limiting_reads(&self.plan.forward, &self.plan.forward_pass.components, self.place)?;
        let reads: BTreeSet<String> = reads.into_iter().map(|c| self.read(c)).collect();
        let names: Vec<String> = reads.into_iter().collect();
        let now = match self.component.width.frames {
            0 | 1 => String::new(),
            frames => format!("{} of it run at once. ", count(frames, "frame")),
        };
        let edit = if names.len() == 1 { "a longer delay" } else { "longer delays" };
        Some(format!("{now}With {edit} in place of {}, more frames would run at once.", joined(&names)))
    }
}

/// `a`, `b` and `c`, or the first of many and how many there are.
fn list(names: &[&str]) -> String {
    joined(&names.iter().map(|name| format!("`{}`", short(name))).collect::<Vec<_>>())
}

/// The same, of names in their quotes.
fn joined(names: &[String]) -> String {
    let all = shorten(names, NAMES);
    match names {
        [first @ .., last] if !first.is_empty() && !all.ends_with(" in all)") => {
            let first = shorten(first, usize::MAX);
            format!("{first} and {}", shorten(std::slice::from_ref(last), NAMES))
        }
        _ => all,
    }
}

/// A long name without its middle.
fn short(name: &str) -> String {
    let letters = name.chars().count();
    if letters <= LONGEST_NAME {
        return name.to_string();
    }
    let part = LONGEST_NAME / 2 - 1;
    name.chars().take(part).chain("..".chars()).chain(name.chars().skip(letters - part)).collect()
}

fn heading(plan: &Plan, figures: &Figures, cycles: &[Cycle<'_>], out: &mut Page) {
    let graph = &plan.forward;
    let name = if graph.name().is_empty() { "network" } else { graph.name() };
    let loops = cycles.iter().filter(|cycle| cycle.is_loop()).count();
    let scans = cycles.len() - loops;
    let share = match figures.parallel_share >= 1.0 {
        true => "all of the work is parallel over frames".to_string(),
        false => format!("{} of the work is parallel over frames", percent(figures.parallel_share)),
    };
    let what = match (loops, scans) {
        (0, 0) => "nothing recurs, so all frames run at once".to_string(),
        (0, _) => format!("{} over frames, no loop; {share}", count(scans, "scan")),
        (_, 0) => format!("{} over frames; {share}", count(loops, "loop")),
        _ => format!("{} and {} over frames; {share}", count(loops, "loop"), count(scans, "scan")),
    };
    out.line(0, &format!("{name}: {what}"));
    let passes = if plan.options.gradients { "forward and backward" } else { "forward only" };
    let (streams, frames) = (count(plan.options.streams, "stream"), count(plan.options.frames, "frame"));
    out.line(0, &format!("planned for {streams}, windows of {frames}, {passes}"));
    out.blank();
}

/// What waits for no other frame.
fn at_once(plan: &Plan, equations: &Equations<'_>, cycles: &[Cycle<'_>], out: &mut Page) {
    let graph = &plan.forward;
    // For each equation that recurs, one of its cycles.
    let mut recurs: Vec<Option<usize>> = vec![None; equations.names.len()];
    for (i, cycle) in cycles.iter().enumerate() {
        cycle.component.layers.iter().for_each(|l| recurs[equations.of_layer[l.index()]] = Some(i));
    }
    // What their matrices read from outside.
    let mut fed: Vec<&str> = Vec::new();
    let (mut told, mut readers) = (HashSet::new(), HashSet::new());
    for layer in graph.layer_ids() {
        let Some(cycle) = recurs[equations.of_layer[layer.index()]] else { continue };
        for c in graph.incoming(layer).filter(|c| matches!(c.kind, ConnectionKind::Full { .. })) {
            let Some(source) = c.source.filter(|&source| is_named(graph, equations, source)) else {
                continue;
            };
            if recurs[equations.of_layer[source.index()]] != Some(cycle) {
                readers.insert(cycle);
                let name = equations.seen_from(layer, source);
                if told.insert(name) {
                    fed.push(name);
                }
            }
        }
    }
    let free = (0..recurs.len()).filter(|&place| equations.computed[place] && recurs[place].is_none());
    let free = equations.together(free.collect());
    let (loops, scans): (Vec<usize>, Vec<usize>) = readers.into_iter().partition(|&i| cycles[i].is_loop());
    let whose = match (loops.len(), scans.len(), cycles.len()) {
        (_, 0, 1) => "loop's `dense` that reads",
        (0, _, 1) => "scan's `dense` that reads",
        (_, 0, _) => "loops' `dense` that reads from outside:",
        (0, _, _) => "scans' `dense` that reads from outside:",
        _ => "loops' and scans' `dense` that reads from outside:",
    };
    let part = format!("the part of the {whose} {}", list(&fed));
    let are = if free.len() == 1 { "is" } else { "are" };
    let what = match (free.is_empty(), fed.is_empty()) {
        (true, true) => "No equation is computed for all frames at once.".to_string(),
        (false, true) => format!("{} {are} computed for all frames at once.", list(&free)),
        (true, false) => format!("Computed for all frames at once: {part}."),
        (false, false) => format!("{} {are} computed for all frames at once; so is {part}.", list(&free)),
    };
    out.says("all frames", &what);
    let once = plan.once.layers.iter().map(|name| &name[..]);
    let once: Vec<&str> = once.filter(|name| equation(name) == *name).collect();
    if !once.is_empty() {
        out.says("once", &format!("Computed once a call, of parameters alone: {}.", list(&once)));
    }
    if graph.looks_ahead() {
        let text = "It looks ahead: reads past the end of a window give start values, so how a run is split into windows \
                    changes what is computed.";
        out.says("note", text);
    }
}

/// Cycles of which the same is told, in the order of the first of each.
fn alike(cycles: &[Cycle<'_>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut places: HashMap<(String, bool), usize> = HashMap::new();
    for (i, cycle) in cycles.iter().enumerate() {
        let place = *places.entry(cycle.key()).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Vec::new());
        }
        groups[place].push(i);
    }
    groups
}

/// What a group of cycles is, and why: of one of them, where names differ.
fn tell(group: &[&Cycle<'_>], out: &mut Page) {
    let Some(&any) = group.first() else { return };
    let example = group.iter().find(|cycle| !cycle.is_reversed()).unwrap_or(&any);
    let names: Vec<&str> = group.iter().flat_map(|cycle| cycle.names.iter().copied()).collect();
    let reversed: Vec<&str> =
        group.iter().filter(|c| c.is_reversed()).flat_map(|c| c.names.iter().copied()).collect();
    let is = if names.len() == 1 { "is" } else { "are" };
    let how = if any.is_loop() { "frame after frame" } else { "over time in parallel" };
    let kind = if any.is_loop() { "loop" } else { "scan" };
    let number = match group {
        [one] if one.names.len() == 1 => format!("a {kind}"),
        all => count(all.len(), kind),
    };
    let from_the_end = match reversed.len() {
        0 => String::new(),
        n if n == names.len() => ", from the last frame to the first".into(),
        _ => format!(", {} from the last frame to the first", list(&reversed)),
    };
    let same = group.iter().all(|cycle| cycle.is_reversed() == any.is_reversed());
    let within = match (example.cell, group.len()) {
        _ if !any.is_loop() => " ".into(),
        (None, 1) => " ".into(),
        (Some(_), 1) => " in it ".into(),
        (Some(_), _) if same => " in each ".into(),
        (Some(cell), _) => format!(" in `{}`, ", short(cell)),
        (None, _) => ", to take one, ".into(),
    };
    let itself = example.names.first().map(|name| short(name)).unwrap_or_default();
    let story = example.story.replace(ITSELF, &itself);
    let all = list(&names);
    out.says(kind, &format!("{all} {is} computed {how} ({number}{from_the_end}), because{within}{story}"));
}

/// How errors go back through the same equations.
fn backward(plan: &Plan, equations: &Equations<'_>, cycles: &[Cycle<'_>], out: &mut Page) {
    let (Some(adjoint), Some(pass)) = (&plan.adjoint, &plan.backward_pass) else { return };
    let mut cycle_of: Vec<Option<usize>> = vec![None; equations.names.len()];
    for (i, cycle) in cycles.iter().enumerate() {
        for &layer in &cycle.component.layers {
            cycle_of[equations.of_layer[layer.index()]] = Some(i);
        }
    }
    // Whether the errors of each cycle are a loop, if they recur at all.
    let mut errors: Vec<Option<bool>> = vec![None; cycles.len()];
    for component in pass.components.list.iter().filter(|c| c.kind != Kind::Frames) {
        for &layer in &component.layers {
            let equation = adjoint.layer_at(layer).error_of.map(|of| equations.of_layer[of.index()]);
            if let Some(cycle) = equation.and_then(|equation| cycle_of[equation]) {
                let is_loop = errors[cycle].unwrap_or(false) || component.kind == Kind::Loop;
                errors[cycle] = Some(is_loop);
            }
        }
    }
    let which = |wanted: Option<bool>| -> Vec<&str> {
        let those = cycles.iter().zip(&errors).filter(|(_, error)| **error == wanted);
        those.flat_map(|(cycle, _)| cycle.names.iter().copied()).collect()
    };
    let (loops, scans) = (cycles.iter().any(Cycle::is_loop), cycles.iter().any(|cycle| !cycle.is_loop()));
    let again = cycles.iter().zip(&errors).all(|(cycle, error)| *error == Some(cycle.is_loop()));
    let what = match (cycles, again) {
        ([], _) => {
            out.says("backward", "Gradients are computed for all frames at once, too.");
            return;
        }
        ([one], true) => {
            let kind = if one.is_loop() { "loop" } else { "scan" };
            format!("The errors of {} are a {kind} again, the other way through time", list(&one.names))
        }
        (_, true) if !loops => "Each scan is one again, the other way through time".into(),
        (_, true) if !scans => "Each loop is one again, the other way through time".into(),
        (_, true) => "Each loop is a loop again, each scan a scan, the other way through time".into(),
        (_, false) => {
            let kinds = [(Some(true), "loops"), (Some(false), "scans"), (None, "")];
            let parts = kinds.iter().map(|(error, kind)| (which(*error), kind));
            let parts = parts.filter(|(names, _)| !names.is_empty());
            let parts: Vec<String> = parts
                .map(|(names, kind)| match (names.len(), *kind) {
                    (_, "") => format!("those of {} do not recur", list(&names)),
                    (1, kind) => format!("those of {} are a {}", list(&names), kind.trim_end_matches('s')),
                    (_, kind) => format!("those of {} are {kind}", list(&names)),
                })
                .collect();
            format!("Errors go the other way through time: {}", parts.join("; "))
        }
    };
    let else_ = "All else, gradients of weights included, is computed for all frames at once.";
    out.says("backward", &format!("{what}. {else_}"));
}

fn costs(plan: &Plan, figures: &Figures, brief: Option<&Brief>, out: &mut Page) {
    let limit = match figures.parallel_share >= 0.9995 {
        true => String::new(),
        false => format!(
            ". That alone makes it at most {}x as fast as frame after frame",
            three_figures(figures.speed_up_bound)
        ),
    };
    let scaled = |n: f64, unit: &str| scaled(n, unit).replace(' ', &GLUE.to_string());
    let flops = scaled(figures.flops, "FLOP");
    out.says(
        "work",
        &format!("{flops} a window, {} of it parallel over frames{limit}.", percent(figures.parallel_share)),
    );
    let memory = brief.map_or_else(|| memory_of(plan, None).0, |brief| brief.memory);
    let bytes = |n: u128| scaled(n as f64, "B");
    let mut parts = vec![format!("weights {}", bytes(memory.weights))];
    if plan.backward_pass.is_some() {
        parts.push(format!("gradients {}", bytes(memory.gradients)));
        parts.push(format!("optimizer state {}", bytes(memory.slots)));
    }
    parts.push(format!("values of layers {}", bytes(memory.buffers)));
    if memory.working > 0 {
        parts.push(format!("working memory {}", bytes(memory.working)));
    }
    out.says(
        "memory",
        &format!(
            "{}: {}. {}.",
            bytes(memory.total()),
            parts.join(", "),
            count(parameters(plan), "parameter")
        ),
    );
    let Some(Brief { on, forward_us, backward_us, left_out, more, .. }) = brief else { return };
    for (subject, text) in more {
        out.says(subject, text);
    }
    // Both in one unit.
    let (unit, a_us) =
        if forward_us.max(backward_us.unwrap_or(0.0)) < 0.1 { ("ns", 1e3) } else { ("us", 1.0) };
    let backward =
        backward_us.map_or(String::new(), |us| format!(" and {} backward", three_figures(us * a_us)));
    let but = if left_out.is_empty() { String::new() } else { format!(", {left_out}") };
    let forward = three_figures(forward_us * a_us);
    out.says("time", &format!("{forward} {unit} a frame forward{backward} on {on} (predicted{but})."));
}

/// Not 100 % unless it is all.
fn percent(share: f64) -> String {
    // No figure is less than 0; what rounding makes of none must not be.
    let percent = (100.0 * share).max(0.0);
    match percent {
        p if p >= 100.0 => "all".into(),
        p if p > 99.0 => format!("{p:.1}{GLUE}%"),
        p => format!("{p:.0}{GLUE}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::{GLUE, percent};

    #[test]
    fn a_share_is_neither_less_than_none_nor_all_unless_it_is() {
        let figures = [-1e-17, 0.0, 0.5, 0.9996, 1.0].map(|share| percent(share).replace(GLUE, " "));
        assert_eq!(figures, ["0 %", "0 %", "50 %", "100.0 %", "all"]);
    }
}

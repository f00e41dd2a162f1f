//! A text and the cells of the library that it calls: which cell a name means, and all that can be checked before
//! any cell is expanded.

use crate::builtins::Builtin;
use crate::diagnostics::{Diagnostic, MAX_ERRORS, SourceText, counted, listed, suggestion};
use crate::habits;
use crate::library::{self, LibraryCell};
use crate::parser::parse;
use crate::syntax::{Call, Cell, ExprKind, File, Name, Network, Statement};
use std::collections::HashMap;

/// The number of the user's text; the library's cells follow in their order.
const USER: u32 = 0;

/// A text and the library's cells that it needs.
pub(crate) struct Program<'t> {
    name: &'t str,
    text: &'t str,
    pub cells: Vec<Cell<'t>>,
    pub networks: Vec<Network<'t>>,
    user_cells: HashMap<&'t str, usize>,
    library_cells: HashMap<&'t str, usize>,
}

impl<'t> Program<'t> {
    /// Reads a text and checks its cells and networks one by one.
    pub fn read(name: &'t str, text: &'t str) -> (Program<'t>, Vec<Diagnostic>) {
        if u32::try_from(text.len()).is_err() {
            let error = Diagnostic::new(
                crate::syntax::Span { text: USER, start: 0, end: 0 },
                "a text of 4 GiB or more",
            )
            .help("divide it into several networks");
            return (Program::of(name, text, File::default()), vec![error]);
        }
        let (file, mut errors) = parse(USER, text);
        let mut program = Program::of(name, text, file);
        if errors.is_empty() {
            program.index_cells(&mut errors);
            program.load_library();
            program.check(&mut errors);
        }
        (program, errors)
    }

    fn of(name: &'t str, text: &'t str, file: File<'t>) -> Program<'t> {
        Program {
            name,
            text,
            cells: file.cells,
            networks: file.networks,
            user_cells: HashMap::new(),
            library_cells: HashMap::new(),
        }
    }

    /// The text of that number.
    pub fn source(&self, number: u32) -> Option<SourceText> {
        if number == USER {
            return Some(SourceText { name: self.name.to_owned(), text: self.text.to_owned() });
        }
        let cell = library::cells().get(number as usize - 1)?;
        Some(SourceText { name: format!("<{}>", cell.name), text: cell.text.to_owned() })
    }

    /// The cell that a name means where it is written.
    pub fn find_cell(&self, name: Name<'_>) -> Option<&Cell<'t>> {
        self.cell_index(name).map(|index| &self.cells[index])
    }

    /// Whether the cell that a name means is one of the library's.
    pub fn is_of_the_library(&self, name: Name<'_>) -> bool {
        self.find_cell(name).is_some_and(|cell| cell.name.span.text != USER)
    }

    fn cell_index(&self, name: Name<'_>) -> Option<usize> {
        // The library means its own cells, whatever a user calls his.
        let user = if name.span.text == USER { self.user_cells.get(name.text) } else { None };
        user.or_else(|| self.library_cells.get(name.text)).copied()
    }

    /// The error of a call of something that is no cell and no function.
    pub fn unknown_function(&self, call: &Call<'_>) -> Diagnostic {
        let kind = if call.reversed { "cell" } else { "cell or function" };
        let error = Diagnostic::new(call.name.span, format!("there is no {kind} `{}`", shown(call.name)));
        if is_frame(call) {
            let name = shown(call.name);
            return error.label("unknown").help(format!(
                "if `{name}` is a layer, its value in the frame before is written in square brackets: `{name}[t-1]`"
            ));
        }
        let mut names: Vec<&str> = self.user_cells.keys().copied().collect();
        library::cells().iter().for_each(|cell| names.push(cell.name));
        Builtin::names().for_each(|name| names.push(name));
        names.sort_unstable();
        if let Some(help) = habits::of_function(call.name.text) {
            return error.label("unknown").help(help);
        }
        match suggestion(call.name.text, names) {
            Some(near) => error.label(near),
            None => error.label("unknown").help("`rnnc cells` lists the cells of the library"),
        }
    }

    fn index_cells(&mut self, errors: &mut Vec<Diagnostic>) {
        for (index, cell) in self.cells.iter().enumerate() {
            if Builtin::find(cell.name.text).is_some() {
                errors.push(
                    Diagnostic::new(
                        cell.name.span,
                        format!("`{}` is a function of the language", cell.name.text),
                    )
                    .label("taken")
                    .help("choose another name for the cell"),
                );
            }
            if let Some(first) = self.user_cells.insert(cell.name.text, index) {
                errors.push(twice("cell", cell.name, self.cells[first].name));
            }
        }
        let mut seen: HashMap<&str, Name<'_>> = HashMap::new();
        for network in &self.networks {
            if let Some(first) = seen.insert(network.name.text, network.name) {
                errors.push(twice("network", network.name, first));
            }
        }
    }

    /// Reads the library's cells that are called, and those that they call.
    fn load_library(&mut self) {
        let mut wanted: Vec<&'t str> = Vec::new();
        let calls = |block: &[Statement<'t>], wanted: &mut Vec<&'t str>| {
            each_call(block, &mut |call| wanted.push(call.name.text));
        };
        self.networks.iter().for_each(|network| calls(&network.block, &mut wanted));
        self.cells.iter().for_each(|cell| calls(&cell.block, &mut wanted));
        while let Some(name) = wanted.pop() {
            if self.library_cells.contains_key(name) {
                continue;
            }
            let Some(number) = library::cells().iter().position(|cell| cell.name == name) else { continue };
            let LibraryCell { text, .. } = library::cells()[number];
            // A test reads every cell of the library.
            for cell in parse(number as u32 + 1, text).0.cells {
                calls(&cell.block, &mut wanted);
                self.library_cells.insert(cell.name.text, self.cells.len());
                self.cells.push(cell);
            }
        }
    }

    fn check(&self, errors: &mut Vec<Diagnostic>) {
        for cell in &self.cells {
            let head = cell.inputs.iter().copied().chain(cell.options.iter().map(|option| option.name));
            check_block(head.collect(), &cell.block, errors);
            check_cell(cell, errors);
        }
        for network in &self.networks {
            check_block(Vec::new(), &network.block, errors);
            check_network(network, errors);
        }
        errors.extend(self.recursion());
    }

    /// A cell that calls itself, with the chain of calls. Depth first with a stack of its own.
    fn recursion(&self) -> Option<Diagnostic> {
        let calls: Vec<Vec<(usize, Name<'_>)>> = self
            .cells
            .iter()
            .map(|cell| {
                let mut list = Vec::new();
                each_call(&cell.block, &mut |call| {
                    list.extend(self.cell_index(call.name).map(|i| (i, call.name)))
                });
                list
            })
            .collect();
        let mut finished = vec![false; calls.len()];
        let mut place = vec![None; calls.len()];
        for root in 0..calls.len() {
            // The cells being expanded, each with the next of its calls and the call that led to it.
            let mut path: Vec<(usize, usize, Option<Name<'_>>)> = vec![];
            if !finished[root] {
                place[root] = Some(0);
                path.push((root, 0, None));
            }
            while let Some((cell, next, _)) = path.last_mut() {
                let Some(&(callee, name)) = calls[*cell].get(*next) else {
                    finished[*cell] = true;
                    place[*cell] = None;
                    path.pop();
                    continue;
                };
                *next += 1;
                if let Some(first) = place[callee] {
                    let chain = path[first..].iter().map(|&(cell, ..)| self.cells[cell].name.text);
                    let chain: Vec<String> = chain
                        .chain([name.text])
                        .map(|name| format!("`{}`", crate::diagnostics::shortened(name)))
                        .collect();
                    let mut error = Diagnostic::new(name.span, format!("a cell calls itself: {}", chain.join(" -> ")))
                        .label("this call leads back")
                        .help("a network has a fixed number of layers; what repeats over time is a read like `h[t-1]`");
                    for &(_, _, call) in path[first + 1..].iter().take(5) {
                        error = match call {
                            Some(call) => error.also(call.span, "called here"),
                            None => error,
                        };
                    }
                    return Some(error);
                }
                if !finished[callee] {
                    place[callee] = Some(path.len());
                    path.push((callee, 0, Some(name)));
                }
            }
        }
        None
    }

    /// The network of that name, or the only one.
    pub fn network(&self, name: Option<&str>) -> Result<&Network<'t>, Diagnostic> {
        let start = crate::syntax::Span { text: USER, start: 0, end: 0 };
        let names = || self.networks.iter().map(|n| n.name.text);
        match (name, self.networks.as_slice()) {
            (_, []) => Err(Diagnostic::new(start, "there is no network in this text")
                .help("write `network NAME { input x : vector(3)  y = ...  output y }`")),
            (None, [only]) => Ok(only),
            (None, [_, second, ..]) => Err(Diagnostic::new(
                second.name.span,
                format!("this text has {}: {}", counted(self.networks.len(), "network"), listed(names())),
            )
            .label("the second")
            .help(format!(
                "say which one: `--network {0}` on the command line, `name = \"{0}\"` in `[network]` of train.toml",
                crate::diagnostics::shortened(second.name.text)
            ))),
            (Some(name), networks) => networks.iter().find(|n| n.name.text == name).ok_or_else(|| {
                let shown = crate::diagnostics::shortened(name);
                let place = networks.first().map_or(start, |n| n.name.span);
                Diagnostic::new(place, format!("there is no network `{shown}` in this text"))
                    .label(suggestion(name, names()).unwrap_or_default())
                    .help(format!("its networks: {}", listed(names())))
            }),
        }
    }
}

fn shown(name: Name<'_>) -> String {
    crate::diagnostics::shortened(name.text)
}

fn twice(what: &str, second: Name<'_>, first: Name<'_>) -> Diagnostic {
    Diagnostic::new(second.span, format!("{what} `{}` is defined twice", shown(second)))
        .label("the second definition")
        .also(first.span, "the first")
        .help("give one of them another name")
}

fn each_call<'e, 't>(block: &'e [Statement<'t>], visit: &mut impl FnMut(&'e Call<'t>)) {
    for statement in block {
        if let Statement::Equation { value, .. } = statement {
            value.each_call(visit);
        }
    }
}

/// Names defined twice, and starts of what is not an equation.
fn check_block<'t>(head: Vec<Name<'t>>, block: &[Statement<'t>], errors: &mut Vec<Diagnostic>) {
    let mut seen: HashMap<&str, Name<'t>> = HashMap::new();
    let mut define = |name: Name<'t>, errors: &mut Vec<Diagnostic>| {
        if let Some(&first) = seen.get(name.text) {
            errors.push(twice("name", name, first));
        } else {
            seen.insert(name.text, name);
        }
    };
    head.into_iter().for_each(|name| define(name, errors));
    let mut equations: HashMap<&str, Option<Name<'t>>> = HashMap::new();
    for statement in block {
        match statement {
            Statement::Input { name, .. } => define(*name, errors),
            Statement::Equation { names, .. } => names.iter().for_each(|&name| {
                define(name, errors);
                equations.insert(name.text, None);
            }),
            _ => {}
        }
    }
    for statement in block {
        let Statement::Start { name, .. } = statement else { continue };
        if errors.len() > MAX_ERRORS {
            return;
        }
        match equations.get_mut(name.text) {
            Some(start @ None) => *start = Some(*name),
            Some(Some(first)) => errors.push(
                Diagnostic::new(name.span, format!("`{}` has two starts", shown(*name)))
                    .label("the second")
                    .also(first.span, "the first")
                    .help("keep one of them"),
            ),
            None => {
                let mut names: Vec<&str> = equations.keys().copied().collect();
                names.sort_unstable();
                let error = Diagnostic::new(
                    name.span,
                    format!("`{}` is not an equation of this block", shown(*name)),
                );
                errors.push(match suggestion(name.text, names) {
                    Some(near) => error.label(near),
                    None => error
                        .label("a start belongs to an equation")
                        .help("write it in the block that has the equation; inputs start at 0"),
                });
            }
        }
    }
}

fn check_cell(cell: &Cell<'_>, errors: &mut Vec<Diagnostic>) {
    let mut first = None;
    for statement in &cell.block {
        match statement {
            Statement::Input { name, .. } => errors.push(
                Diagnostic::new(name.span, "a cell has no `input` lines")
                    .label("only networks have them")
                    .help(format!(
                        "name the input in the cell's head: `cell {}({})`",
                        shown(cell.name),
                        shown(*name)
                    )),
            ),
            Statement::Output { values } => errors.extend(values.first().map(|value| {
                Diagnostic::new(value.span, "a cell has no `output`")
                    .label("only networks have outputs")
                    .help("write `return` in a cell")
            })),
            Statement::Return { span, .. } => match first {
                None => first = Some(*span),
                Some(first) => errors.push(
                    Diagnostic::new(*span, "a cell returns once")
                        .label("the second `return`")
                        .also(first, "the first")
                        .help("return several values with `return h, c`"),
                ),
            },
            _ => {}
        }
    }
    if first.is_none() {
        errors.push(
            Diagnostic::new(cell.name.span, format!("cell `{}` returns nothing", shown(cell.name)))
                .label("no `return` in its block")
                .help("end the block with `return NAME`"),
        );
    }
}

fn check_network(network: &Network<'_>, errors: &mut Vec<Diagnostic>) {
    for statement in &network.block {
        if let Statement::Return { span, .. } = statement {
            errors.push(
                Diagnostic::new(*span, "a network has no `return`")
                    .label("only cells return")
                    .help("write `output` in a network"),
            );
        }
    }
    if !network.block.iter().any(|s| matches!(s, Statement::Output { .. })) {
        errors.push(
            Diagnostic::new(network.name.span, format!("network `{}` has no output", shown(network.name)))
                .label("no `output` in its block")
                .help("write `output NAME` for each value that the network hands out"),
        );
    }
}

/// Whether a call is written like the value of a function of time: `h(t-1)`.
fn is_frame(call: &Call<'_>) -> bool {
    let [argument] = call.arguments.as_slice() else { return false };
    let first = match &argument.kind {
        ExprKind::Sum(terms) => terms.first().map(|(_, term)| term),
        _ => Some(argument),
    };
    first.is_some_and(
        |e| matches!(&e.kind, ExprKind::Read { path, .. } if path.len() == 1 && path[0].text == "t"),
    )
}

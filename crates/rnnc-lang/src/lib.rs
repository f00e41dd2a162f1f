//! The language of rnnc.
//!
//! In comes the text of a network as its equations; out comes a [`rnnc_graph::Graph`], or [`Errors`] that show the
//! lines that are wrong and say what to write instead. The steps, each a file:
//! - `lexer.rs`, `parser.rs`: the text to tokens (`token.rs`), and these to a syntax tree (`syntax.rs`);
//! - `program.rs`: the text and the library's cells that it calls (`library.rs`), checked one by one;
//! - `expand.rs`, `instances.rs`, `calls.rs`, `constants.rs`, `builtins.rs`: cells expanded where they are called (`ir.rs`);
//! - `resolve.rs`: names to layers; `sizes.rs`, `checks.rs`: how many units each has, and whether they fit;
//! - `lower.rs`, `terms.rs`: layers and connections; `graph_errors.rs`: what the graph says against them;
//! - `diagnostics.rs`: how all that is wrong is shown; `habits.rs`: what people write by habit, and how it is written here.

mod builtins;
mod checks;
mod constants;
mod diagnostics;
mod expand;
mod graph_errors;
mod habits;
mod ir;
mod lexer;
mod library;
mod lower;
mod parser;
mod program;
mod resolve;
mod sizes;
mod syntax;
mod token;

pub use diagnostics::{Diagnostic, Errors};
pub use expand::MAX_LAYERS;
pub use library::{LibraryCell, cells};
pub use parser::LANGUAGE_VERSION;

use program::Program;
use rnnc_graph::Graph;

/// Compiles a network of a text: the one named, or the only one. `file_name` is for messages.
///
/// # Errors
/// All that is wrong with the text, with the places. A network of more than [`MAX_LAYERS`] layers is refused.
///
/// ```
/// let text = "network echo { input x : vector(3)  h = lstm(x; 8)  output h }";
/// let graph = rnnc_lang::compile("echo.rnn", text, None)?;
/// assert!(graph.find_weight("h.i.W.h[t-1]").is_some());
/// # Ok::<(), rnnc_lang::Errors>(())
/// ```
pub fn compile(file_name: &str, text: &str, network: Option<&str>) -> Result<Graph, Errors> {
    let (program, errors) = Program::read(file_name, text);
    if !errors.is_empty() {
        return Err(Errors::new(errors, |number| program.source(number)));
    }
    elaborate(&program, network).map_err(|errors| Errors::new(errors, |number| program.source(number)))
}

/// The names of a text's networks, in its order.
///
/// # Errors
/// What is wrong with the text, as far as it shows without expanding a network.
pub fn networks(file_name: &str, text: &str) -> Result<Vec<String>, Errors> {
    let (program, errors) = Program::read(file_name, text);
    if !errors.is_empty() {
        return Err(Errors::new(errors, |number| program.source(number)));
    }
    Ok(program.networks.iter().map(|network| network.name.text.to_owned()).collect())
}

fn elaborate(program: &Program<'_>, network: Option<&str>) -> Result<Graph, Vec<Diagnostic>> {
    let network = program.network(network).map_err(|error| vec![error])?;
    let mut expanded = expand::expand(program, network)?;
    resolve::resolve(&mut expanded)?;
    let one = |error| vec![error];
    sizes::infer(&mut expanded).map_err(one)?;
    checks::check(&expanded)?;
    let graph = lower::lower(&expanded, network.name.text, network.name.span).map_err(one)?;
    graph_errors::check(&graph, network.name.span).map_err(one)?;
    Ok(graph)
}

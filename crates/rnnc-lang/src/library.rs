//! The library of cells, written in the language: one file each in `cells/`.

use crate::parser::parse;
use crate::syntax::Statement;
use std::sync::LazyLock;

/// A cell of the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryCell {
    /// What it is called by.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Where it comes from.
    pub citation: &'static str,
    /// Its whole text, comments included.
    pub text: &'static str,
    /// What its inputs are called in it.
    pub inputs: Vec<&'static str>,
    /// What the values that it returns are called in it.
    pub returns: Vec<&'static str>,
}

macro_rules! cells {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../cells/", $name, ".rnn")))),*]
    };
}

static TEXTS: &[(&str, &str)] = &cells![
    "elman",
    "lstm",
    "lstm_peephole",
    "lstm_coupled",
    "lstm_projected",
    "lstm_layer_norm",
    "gru",
    "gru_reset_after",
    "minimal_gated",
    "ugrnn",
    "janet",
    "scrn",
    "clockwork",
    "indrnn",
    "ran",
    "sru",
    "qrnn",
    "mingru",
    "minlstm",
    "lru",
    "rg_lru",
    "slstm",
    "leaky_integrator",
    "tdnn",
    "dilated_rnn",
];

/// All cells of the library.
///
/// ```
/// let lstm = rnnc_lang::cells().iter().find(|cell| cell.name == "lstm").unwrap();
/// assert!(lstm.text.contains("c = f * c[t-1] + i * z"));
/// assert_eq!((&lstm.inputs[..], &lstm.returns[..]), (&["x"][..], &["h", "c"][..]));
/// ```
pub fn cells() -> &'static [LibraryCell] {
    static CELLS: LazyLock<Vec<LibraryCell>> = LazyLock::new(|| {
        TEXTS
            .iter()
            .map(|&(name, text)| {
                // A file opens with a line that says what the cell is, and a comment that says whose it is.
                let (summary, rest) = text.split_once('\n').unwrap_or((text, ""));
                let citation = rest.split_once('\n').map_or(rest, |(line, _)| line);
                let plain = |line: &'static str| line.trim_start_matches(['#', ' ']).trim_end();
                let (inputs, returns) = signature(name, text);
                LibraryCell {
                    name,
                    summary: plain(summary),
                    citation: plain(citation),
                    text,
                    inputs,
                    returns,
                }
            })
            .collect()
    });
    &CELLS
}

/// The names of a cell's inputs, and of the values that it returns. A file may have cells that its own one calls.
fn signature(name: &str, text: &'static str) -> (Vec<&'static str>, Vec<&'static str>) {
    let (file, _) = parse(0, text);
    let Some(cell) = file.cells.iter().find(|cell| cell.name.text == name) else { return Default::default() };
    let returned = cell.block.iter().filter_map(|statement| match statement {
        Statement::Return { values, .. } => Some(values),
        _ => None,
    });
    let names = returned.flatten().filter_map(|value| Some(value.as_name()?.text));
    (cell.inputs.iter().map(|input| input.text).collect(), names.collect())
}

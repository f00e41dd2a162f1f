//! The library of cells, written in the language: one file each in `cells/`.

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
                LibraryCell { name, summary: plain(summary), citation: plain(citation), text }
            })
            .collect()
    });
    &CELLS
}

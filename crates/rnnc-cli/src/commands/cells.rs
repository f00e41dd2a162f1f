//! `rnnc cells`: the library of cells.

use crate::failure::{Outcome, bad_input};
use clap::Args;
use rnnc_graph::nearest;
use std::io::Write;

/// The arguments.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rnnc cells
  rnnc cells lstm")]
pub struct Cells {
    /// The cell whose equations to print
    name: Option<String>,
}

impl Cells {
    /// Prints the list, or the cell.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let cells = rnnc_lang::cells();
        let mut out = std::io::stdout().lock();
        let Some(name) = &self.name else {
            let width = cells.iter().map(|cell| cell.name.len()).max().unwrap_or(0);
            for cell in cells {
                writeln!(out, "{:width$}  {}", cell.name, cell.summary)?;
                writeln!(out, "{:width$}  {}", "", cell.citation)?;
            }
            return Ok(Outcome::Done);
        };
        match cells.iter().find(|cell| cell.name == name) {
            Some(cell) => write!(out, "{}", cell.text)?,
            None => {
                let names: Vec<&str> = cells.iter().map(|cell| cell.name).collect();
                let meant = match nearest(name, names.iter().copied()) {
                    Some(near) => format!(" (did you mean `{near}`?)"),
                    None => String::new(),
                };
                return bad_input(format!(
                    "the library has no cell `{name}`{meant}; it has {}",
                    names.join(", ")
                ));
            }
        }
        Ok(Outcome::Done)
    }
}

//! Every cell of the library is what it says it is: compiled from its text, run by the reference executor, and
//! compared with PyTorch (where PyTorch has it) or with the paper's formulas written out in plain loops.
//!
//! A transcription sees one sequence of frames and knows nothing of graphs, streams or resets. Its own finite
//! differences check the gradients.

mod clocked;
mod gated;
mod linear;
mod lstm;
mod maths;
mod plain;
mod pytorch;
mod support;

use std::collections::BTreeSet;

#[test]
fn every_cell_of_the_library_is_checked_here() {
    let checked: BTreeSet<&str> =
        [clocked::CELLS, gated::CELLS, linear::CELLS, lstm::CELLS, plain::CELLS, pytorch::CELLS]
            .concat()
            .into_iter()
            .collect();
    let library: BTreeSet<&str> = rnnc_lang::cells().iter().map(|cell| cell.name).collect();
    assert_eq!(library, checked, "left: cells of the library; right: cells with a test");
}

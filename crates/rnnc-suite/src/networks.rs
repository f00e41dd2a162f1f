//! The suite's networks: between them, every kind of layer, connection, operation and function, and every kind of
//! component. Each is made for `m` units of input and `n` units of its own. `networks/loops.rs` has those with
//! cycles, `networks/operations.rs` what layers compute, `networks/reads.rs` what connections read, `networks/slices.rs`
//! layers in slices, `networks/concats.rs` layers of parts, `networks/copies.rs` layers that copy others,
//! `networks/constants.rs` layers of parameters alone, `networks/heads.rs` layers that fall into heads.

mod concats;
mod constants;
mod copies;
mod heads;
mod loops;
mod operations;
mod reads;
mod slices;

use concats::*;
use constants::*;
use copies::*;
use heads::*;
use loops::*;
use operations::*;
use reads::*;
use rnnc_graph::{Activation, Graph, Operation};
use slices::*;

/// Makes a network for m and n units.
pub type Build = fn(usize, usize) -> Graph;

/// A network of the suite.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Its name.
    pub name: &'static str,
    /// Makes it for m and n units.
    pub build: Build,
    /// Whether its layers are among the usual ones, whose loops are worth running at all sizes.
    pub usual: bool,
}

/// All of them but those of [`activation_networks`] and [`operation_networks`]. A new one goes to the end: the sizes of cases
/// follow from places in the list.
pub fn networks() -> Vec<Network> {
    let usual: [(&'static str, Build); 8] = [
        ("elman", elman),
        ("lstm_peephole", lstm_peephole),
        ("gru", gru),
        ("two_lstm_layers", two_lstm_layers),
        ("gated_scan", gated_scan),
        ("layer_norm_in_a_loop", layer_norm_in_a_loop),
        ("bidirectional", bidirectional),
        ("symbol_model", symbol_model),
    ];
    let others: [(&'static str, Build); 56] = [
        ("feed_forward", feed_forward),
        ("oscillator", oscillator),
        ("long_memory", long_memory),
        ("scan_through_a_diagonal", scan_through_a_diagonal),
        ("indrnn", indrnn),
        ("max_gate", max_gate),
        ("exponential_gates", exponential_gates),
        ("quotient", quotient),
        ("max_and_min", max_and_min),
        ("softmax_groups", softmax_groups),
        ("normalize_groups", normalize_groups),
        ("softmax_in_a_loop", softmax_in_a_loop),
        ("group_sums", group_sums),
        ("broadcasts", broadcasts),
        ("ranges", ranges),
        ("ranges_in_a_loop", ranges_in_a_loop),
        ("pieces", pieces),
        ("heads", heads),
        ("delays_2_and_3", delays_2_and_3),
        ("delay_4_alone", delay_4_alone),
        ("look_ahead", look_ahead),
        ("starts", starts),
        ("starts_ahead", starts_ahead),
        ("stop_gradients", stop_gradients),
        ("parameters", parameters),
        ("shared_weights", shared_weights),
        ("products", products),
        ("dropout", dropout),
        ("heads_in_sums", heads_in_sums),
        ("softmax_read_back", softmax_read_back),
        ("gates_in_one_layer", gates_in_one_layer),
        ("normalized_gates", normalized_gates),
        ("gates_normalized_apart", gates_normalized_apart),
        ("shares_side_by_side", shares_side_by_side),
        ("slices_that_stay_whole", slices_that_stay_whole),
        ("concat_of_all", concat_of_all),
        ("concat_in_a_loop", concat_in_a_loop),
        ("concat_in_a_scan", concat_in_a_scan),
        ("masks", masks),
        ("gates_of_a_concat", gates_of_a_concat),
        ("unequal_slices", unequal_slices),
        ("copies_of_copies", copies_of_copies),
        ("many_reads_of_a_state", many_reads_of_a_state),
        ("constants_in_a_scan", constants_in_a_scan),
        ("constants_everywhere", constants_everywhere),
        ("lstm_of_two_heads", lstm_of_two_heads),
        ("loops_of_heads_side_by_side", loops_of_heads_side_by_side),
        ("independent_heads", independent_heads),
        ("heads_and_a_projection", heads_and_a_projection),
        ("heads_of_several_counts", heads_of_several_counts),
        ("heads_two_frames_at_once", heads_two_frames_at_once),
        ("heads_of_slices", heads_of_slices),
        ("blocks_that_are_slices", blocks_that_are_slices),
        ("constants_of_vectors", constants_of_vectors),
        ("known", known),
        ("choices", choices),
    ];
    let all = usual.into_iter().map(|(name, build)| Network { name, build, usual: true });
    all.chain(others.into_iter().map(|(name, build)| Network { name, build, usual: false })).collect()
}

/// For each activation, a network that applies it within a loop and outside, to a sum and to a product.
pub fn activation_networks(m: usize, n: usize) -> Vec<(String, Graph)> {
    Activation::ALL.into_iter().map(|f| (format!("function_{}", f.name()), function(f, m, n))).collect()
}

/// For each operation but those that stand in adjoints alone, a network that applies it within a loop and outside.
pub fn operation_networks(m: usize, n: usize) -> Vec<(String, Graph)> {
    let operations = Operation::samples().filter(|operation| !operation.is_gradient());
    // What draws its value has no operands: a mask is a factor in other networks.
    let operations = operations.filter(|operation| operation.key().is_none());
    operations
        .map(|o| (format!("operation_{}", o.name().replace([' ', '-'], "_")), operation(o, m, n)))
        .collect()
}

//! The gradients of the weights: sums over all frames and streams of the errors that the adjoint network
//! computed, times what the weights multiplied.

use crate::network::{Network, Read, Surroundings, submatrix};
use crate::window::Place;
use rnnc_graph::{Accumulation, AccumulationKind};
use std::ops::Range;

/// Adds what the frames give to the gradients, one vector per weight.
pub(crate) fn accumulate(
    network: &Network,
    around: &Surroundings<'_>,
    frames: Range<usize>,
    gradients: &mut [Vec<f64>],
) {
    for accumulation in network.graph.accumulations() {
        let gradient = &mut gradients[accumulation.weight.index()];
        for frame in frames.clone() {
            for stream in 0..around.window.streams() {
                add(network, around, accumulation, Place { frame, stream }, gradient);
            }
        }
    }
}

fn add(
    network: &Network,
    around: &Surroundings<'_>,
    accumulation: &Accumulation,
    at: Place,
    gradient: &mut [f64],
) {
    let Read::Units(error) = network.read(around, accumulation.error, at, 0) else { return };
    let error = &error[accumulation.error_range.start..accumulation.error_range.end()];
    match accumulation.kind {
        AccumulationKind::Outer { source, source_range, delay, heads, part } => {
            match network.read(around, source, at, delay) {
                Read::Units(units) => {
                    let units = &units[source_range.start..source_range.end()];
                    match part {
                        None => outer(error, units, heads, gradient),
                        Some(part) => {
                            let shape = &network.graph.weight_at(accumulation.weight).shape;
                            let products = error.iter().flat_map(|e| units.iter().map(move |a| e * a));
                            submatrix(shape, part).zip(products).for_each(|(place, x)| gradient[place] += x);
                        }
                    }
                }
                Read::Symbol(None) => {}
                // The outer product with a one-hot vector: one column.
                Read::Symbol(Some(symbol)) => {
                    for (row, e) in error.iter().enumerate() {
                        gradient[row * source_range.len + symbol] += e;
                    }
                }
            }
        }
        AccumulationKind::Diagonal { source, source_range, delay } => {
            let Read::Units(units) = network.read(around, source, at, delay) else { return };
            let units = &units[source_range.start..source_range.end()];
            gradient.iter_mut().zip(error.iter().zip(units)).for_each(|(g, (e, a))| *g += e * a);
        }
        AccumulationKind::Sum { scale, weight_range } => {
            let units = &mut gradient[weight_range.start..weight_range.end()];
            units.iter_mut().zip(error).for_each(|(g, e)| *g += scale * e);
        }
        AccumulationKind::Start { scale, delay, weight_range } => {
            if around.window.find(at.frame, at.stream, delay).is_none() {
                let units = &mut gradient[weight_range.start..weight_range.end()];
                units.iter_mut().zip(error).for_each(|(g, e)| *g += scale * e);
            }
        }
    }
}

/// Adds error outer units, within each of the heads.
fn outer(error: &[f64], units: &[f64], heads: usize, gradient: &mut [f64]) {
    let (rows, columns) = (error.len() / heads, units.len() / heads);
    for head in 0..heads {
        for i in 0..rows {
            for j in 0..columns {
                gradient[(head * rows + i) * columns + j] +=
                    error[head * rows + i] * units[head * columns + j];
            }
        }
    }
}

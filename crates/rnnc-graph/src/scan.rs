//! Which cycles are affine recurrences, and so can run as a parallel scan over time (Blelloch 1990; Martin &
//! Cundy 2018).
//!
//! Once the layers without delay are eliminated, each unit's state of k numbers obeys s(t) = A(t) s(t-1) + b(t), with
//! A and b computed from outside the cycle. That holds if within the cycle there are only sums, products with
//! one factor of the cycle, and quotients by something outside, all unit by unit, and no activation.

use crate::function::Function;
use crate::graph::Graph;
use crate::operation::Operation;
use crate::parts::{Connection, ConnectionKind, LayerId, LayerKind};

/// The most numbers a unit's state may have for the cycle to run as a scan of k x k matrices.
pub(crate) const LARGEST_ORDER: usize = 4;

/// An affine recurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanForm {
    /// The layers of the cycle that it reads with a delay, and the longest such delay of each.
    pub states: Vec<(LayerId, usize)>,
    /// k: the numbers of a unit's state, the sum of those delays.
    pub order: usize,
}

/// What keeps a cycle from being a scan.
pub(crate) struct Obstacle {
    pub reason: String,
    pub remedy: String,
}

/// Whether a cycle is affine. `layers` are its own, in the order of a frame; `member` tells them from others.
pub(crate) fn affine(
    graph: &Graph,
    layers: &[LayerId],
    member: impl Fn(LayerId) -> bool,
) -> Result<ScanForm, Obstacle> {
    let inside = |c: &Connection| c.source.is_some_and(&member);
    let mut crossing = None;
    for &id in layers {
        let layer = graph.layer_at(id);
        let name = &layer.name;
        let obstacle = |through: String, remedy: String| Obstacle {
            reason: format!("loop: `{name}` reaches itself through {through}"),
            remedy,
        };
        if layer.function != Function::IDENTITY {
            return Err(obstacle(
                layer.function.to_string(),
                format!(
                    "without {} on `{name}` (or with it applied outside the cycle) nothing but affine steps would be left there",
                    layer.function
                ),
            ));
        }
        let own: Vec<&Connection> = graph.incoming(id).filter(|c| inside(c)).collect();
        match layer.kind {
            LayerKind::Product if own.len() > 1 => {
                return Err(obstacle(
                    format!("a product of {} layers of the cycle", own.len()),
                    format!("a product `{name}` with one factor only from the cycle would be affine"),
                ));
            }
            LayerKind::Operation(Operation::Quotient) if graph.incoming(id).nth(1).is_some_and(inside) => {
                return Err(obstacle(
                    "a division".into(),
                    format!("a divisor in `{name}` from outside the cycle would be affine"),
                ));
            }
            LayerKind::Operation(op) if op != Operation::Quotient => {
                return Err(obstacle(
                    op.name().into(),
                    format!("without {} in `{name}` the cycle could be affine", op.name()),
                ));
            }
            _ => {}
        }
        // A full connection is affine, but mixes units; report a nonlinearity first if there is one.
        if crossing.is_none()
            && let Some(c) = own.iter().find(|c| graph.crosses_units(c))
        {
            let (through, remedy) = match c.kind {
                ConnectionKind::Full { weight, .. } => (
                    format!("the full connection `{}`", graph.weight_at(weight).name),
                    format!("`diag` in place of `dense` for this read in `{name}` would make it elementwise"),
                ),
                ConnectionKind::Broadcast { .. } => (
                    "a broadcast".to_string(),
                    format!("reads of the cycle in `{name}` must be of its own units"),
                ),
                _ => (
                    "a slice that moves units".to_string(),
                    format!("reads of the cycle in `{name}` must be of its own units"),
                ),
            };
            crossing = Some(obstacle(through, remedy));
        }
    }
    if let Some(obstacle) = crossing {
        return Err(obstacle);
    }
    let mut states: Vec<(LayerId, usize)> = Vec::new();
    for c in layers.iter().flat_map(|&id| graph.incoming(id)).filter(|c| inside(c) && c.delay != 0) {
        // `inside` holds only for connections with a source.
        let Some(source) = c.source else { continue };
        let delay = usize::try_from(c.delay.unsigned_abs()).unwrap_or(usize::MAX);
        match states.iter_mut().find(|(layer, _)| *layer == source) {
            Some((_, longest)) => *longest = (*longest).max(delay),
            None => states.push((source, delay)),
        }
        if states.len() > LARGEST_ORDER {
            break; // already too many: a large cycle need not be read to its end
        }
    }
    let order = states.iter().fold(0usize, |sum, (_, d)| sum.saturating_add(*d));
    Ok(ScanForm { states, order })
}

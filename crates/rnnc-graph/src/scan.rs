//! Which cycles are affine recurrences, and so can run as a parallel scan over time (Blelloch 1990; Martin &
//! Cundy 2018).
//!
//! Once the layers without delay are eliminated, each unit's state of k numbers obeys s(t) = A(t) s(t-1) + b(t), with A and
//! b computed from outside the cycle. That holds if within the cycle there are only sums, products with one factor of the
//! cycle, quotients by something outside, and choices by it, all unit by unit, and no activation; and it is a scan if k is small. What else
//! there is are its obstacles (`obstacles.rs` says them to people).

use crate::activations::Function;
use crate::graph::Graph;
use crate::obstacles::{LARGEST_ORDER, Obstacle, ObstacleKind};
use crate::ops::Binary;
use crate::parts::{Connection, ConnectionId, ConnectionKind, LayerId, LayerKind};

/// An affine recurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanForm {
    /// The layers of the cycle that it reads with a delay, and the longest such delay of each.
    pub states: Vec<(LayerId, usize)>,
    /// k: the numbers of a unit's state, the sum of those delays.
    pub order: usize,
}

/// What keeps a cycle from being elementwise and affine: first what is not affine, then what mixes units. `layers` are its
/// own, in the order of a frame; `member` tells them from others.
pub(crate) fn obstacles(
    graph: &Graph,
    layers: &[LayerId],
    member: impl Fn(LayerId) -> bool,
) -> Vec<Obstacle> {
    let inside = |id: ConnectionId| graph.connection_at(id).source.is_some_and(&member);
    let (mut curved, mut crossing) = (Vec::new(), Vec::new());
    for &layer in layers {
        let mut add = |kind: ObstacleKind| curved.push(Obstacle { layer, kind });
        let l = graph.layer_at(layer);
        let incoming = graph.incoming_ids(layer);
        let own = || incoming.iter().copied().filter(|&id| inside(id));
        if l.function != Function::IDENTITY {
            add(ObstacleKind::Function(l.function));
        }
        match l.kind {
            LayerKind::Product if own().nth(1).is_some() => add(ObstacleKind::Product(own().count())),
            LayerKind::Operation(op) => match op.affine_in() {
                None => {
                    add(ObstacleKind::Operation(op));
                    continue; // its reads are the operation's
                }
                Some(operand) => {
                    if incoming.iter().enumerate().any(|(k, &id)| k != operand && inside(id)) {
                        let divides = op.binary() == Some(Binary::Div);
                        add(if divides { ObstacleKind::Divisor } else { ObstacleKind::Condition });
                    }
                }
            },
            _ => {}
        }
        crossing.extend(own().filter(|&id| graph.crosses_units(graph.connection_at(id))).map(|id| {
            Obstacle {
                layer,
                kind: match graph.connection_at(id).kind {
                    ConnectionKind::Full { .. } => ObstacleKind::Matrix(id),
                    ConnectionKind::Broadcast { .. } => ObstacleKind::Broadcast(id),
                    _ => ObstacleKind::Slice(id),
                },
            }
        }));
    }
    curved.append(&mut crossing);
    curved
}

/// What of a cycle would be its state if it were elementwise and affine. Of a cycle with too many numbers a unit, some.
pub(crate) fn form(graph: &Graph, layers: &[LayerId], member: impl Fn(LayerId) -> bool) -> ScanForm {
    let inside = |c: &Connection| c.source.is_some_and(&member);
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
    ScanForm { states, order }
}

//! Why a cycle is no scan, for people: every obstacle in the words of the text, and what would have to change.
//!
//! Layers of the network that have no name of their own are called after their equation; the helper layers of an adjoint
//! after the layer whose error they help to carry. A remedy is true: who does what it says has a scan. So it names all
//! obstacles, or says how many there are.

use crate::activations::Function;
use crate::graph::Graph;
use crate::ops::Operation;
use crate::parts::{ConnectionId, ConnectionKind, LayerId};

/// Something that keeps a cycle from being a scan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Obstacle {
    /// Where.
    pub layer: LayerId,
    /// What.
    pub kind: ObstacleKind,
}

/// What keeps a cycle from being a scan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ObstacleKind {
    /// A function within the cycle.
    Function(Function),
    /// A product of so many layers of the cycle.
    Product(usize),
    /// A division by a layer of the cycle.
    Divisor,
    /// A choice by a layer of the cycle.
    Condition,
    /// An operation within the cycle.
    Operation(Operation),
    /// A matrix within the cycle.
    Matrix(ConnectionId),
    /// A broadcast within the cycle.
    Broadcast(ConnectionId),
    /// A read of other units than those written.
    Slice(ConnectionId),
    /// Too many numbers a unit; the layer is the one that is read with the longest delay.
    Order {
        /// That delay.
        longest: usize,
        /// How many layers are read with a delay, if not too many of them.
        layers: Option<usize>,
    },
}

/// The most numbers a unit's state may have for the cycle to run as a scan of k x k matrices.
pub(crate) const LARGEST_ORDER: usize = 4;

/// The most obstacles that a remedy names one by one.
const NAMED: usize = 3;

/// Says obstacles of one graph.
pub(crate) struct Words<'a> {
    graph: &'a Graph,
    /// Whether nobody wrote its layers.
    pub is_adjoint: bool,
}

impl Words<'_> {
    pub fn of(graph: &Graph) -> Words<'_> {
        Words { graph, is_adjoint: graph.is_adjoint() }
    }

    /// The equation that a layer is a part of.
    fn equation(&self, layer: LayerId) -> &str {
        let mut name = &self.graph.layer_at(layer).name[..];
        if self.is_adjoint {
            name = name.strip_prefix("d ").unwrap_or(name);
        }
        // Names do not begin with digits, numbers of layers without a name do.
        while let Some((rest, number)) = name.rsplit_once('.')
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
        {
            name = rest;
        }
        name
    }

    /// Why a cycle with obstacles is a loop: by the first of them.
    pub fn reason(&self, first: &Obstacle) -> String {
        let name = self.equation(first.layer);
        let through = match first.kind {
            ObstacleKind::Function(function) => function.to_string(),
            ObstacleKind::Product(count) => format!("a product of {count} layers of the cycle"),
            ObstacleKind::Divisor => "a division".into(),
            ObstacleKind::Condition => "the condition of a choice".into(),
            ObstacleKind::Operation(op) => op.name().into(),
            ObstacleKind::Matrix(c) => format!("the full connection `{}`", self.weight(c)),
            ObstacleKind::Broadcast(_) => "a broadcast".into(),
            ObstacleKind::Slice(_) => "a slice that moves units".into(),
            ObstacleKind::Order { .. } => {
                return format!(
                    "loop without barriers: elementwise and affine, but of more than {} numbers a unit",
                    LARGEST_ORDER
                );
            }
        };
        if self.is_adjoint {
            format!("loop: the error of `{name}` reaches itself through {through}")
        } else {
            format!("loop: `{name}` reaches itself through {through}")
        }
    }

    /// What would make a scan of a cycle with obstacles; empty where the text has no words for it.
    pub fn remedy(&self, obstacles: &[Obstacle]) -> String {
        let mut edits: Vec<String> = Vec::new();
        let mut told = std::collections::HashSet::new();
        let mut count = 0;
        for obstacle in obstacles {
            let Some(edit) = self.edit(obstacle) else { return String::new() };
            if told.insert(edit.clone()) {
                count += 1;
                if edits.len() < NAMED {
                    edits.push(edit);
                }
            }
        }
        match edits.as_slice() {
            [] => String::new(),
            [first, ..] if count > NAMED => format!("the first of {count} obstacles to a scan: {first}"),
            [one] => format!("it would be a scan without {one}"),
            [others @ .., last] => {
                format!("it would be a scan without {}, and without {last}", others.join(", without "))
            }
        }
    }

    /// What would have to go.
    fn edit(&self, obstacle: &Obstacle) -> Option<String> {
        let name = self.equation(obstacle.layer);
        let edit = match obstacle.kind {
            ObstacleKind::Matrix(c) => match self.diagonal(c) {
                true => format!("the matrix `{}` (a `diag` could stand there)", self.weight(c)),
                false => format!("the matrix `{}` within the cycle", self.weight(c)),
            },
            ObstacleKind::Order { longest, layers } => match layers {
                Some(_) if longest > 1 => {
                    format!("its long delays: `{name}` is read {longest} frames back")
                }
                Some(count) => format!("so many layers that are read with a delay: {count}"),
                None => format!("so many layers that are read with a delay: more than {}", LARGEST_ORDER),
            },
            // What the adjoint has of these nobody wrote.
            _ if self.is_adjoint => return None,
            ObstacleKind::Function(function) => format!("{function} on `{name}` within the cycle"),
            ObstacleKind::Product(count) => {
                format!("a product of {count} layers of the cycle in `{name}` (of one it would do)")
            }
            ObstacleKind::Divisor => format!("a divisor in `{name}` that is of the cycle"),
            ObstacleKind::Condition => format!("a condition in `{name}` that is of the cycle"),
            ObstacleKind::Operation(op) => format!("{} in `{name}`", op.name()),
            ObstacleKind::Broadcast(_) => format!("a broadcast within the cycle in `{name}`"),
            ObstacleKind::Slice(_) => format!("a read of other units of the cycle in `{name}`"),
        };
        Some(edit)
    }

    fn weight(&self, c: ConnectionId) -> &str {
        match self.graph.connection_at(c).kind {
            ConnectionKind::Full { weight, .. } => &self.graph.weight_at(weight).name,
            _ => "",
        }
    }

    /// Whether one weight for each unit could stand in a matrix' place.
    fn diagonal(&self, c: ConnectionId) -> bool {
        self.graph.is_whole(self.graph.connection_at(c)) && {
            let c = self.graph.connection_at(c);
            c.source_range.len == c.target_range.len
        }
    }
}

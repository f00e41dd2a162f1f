//! What is wrong with a graph, in words that name its layers.

use crate::parts::LayerId;
use thiserror::Error;

/// A graph that is no network.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum GraphError {
    /// A layer or connection that does not fit.
    #[error("layer `{name}`: {problem}")]
    Layer {
        /// The layer.
        layer: LayerId,
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A weight that does not fit, or two of one name.
    #[error("weight `{name}`: {problem}")]
    Weight {
        /// The weight.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A cycle whose delays sum to zero.
    #[error("a cycle without delay: {}; one of its reads must be of an earlier frame", describe(names))]
    ZeroDelayCycle {
        /// The layers of the cycle, each read by the next, the last by the first.
        cycle: Vec<LayerId>,
        /// Their names.
        names: Vec<String>,
    },
    /// A component with cycles into the past and into the future.
    #[error(
        "cycles with delays of both signs: {} reads the past and {} the future; no order of frames serves both",
        describe(past_names),
        describe(future_names)
    )]
    BothDirections {
        /// A cycle of positive total delay.
        past: Vec<LayerId>,
        /// Its names.
        past_names: Vec<String>,
        /// A cycle of negative total delay.
        future: Vec<LayerId>,
        /// Its names.
        future_names: Vec<String>,
    },
    /// A network that hands out nothing.
    #[error("the network has no output")]
    NoOutput,
    /// Layers that cannot be the state.
    #[error("{0}")]
    State(String),
    /// Something that cannot be differentiated.
    #[error("{0}")]
    Adjoint(String),
}

/// `a -> b -> a`, with the middle of long cycles left out.
fn describe(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut parts: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect();
    if names.len() > SHOWN {
        parts.push(format!("... {} more ...", names.len() - SHOWN));
    }
    if let Some(first) = names.first() {
        parts.push(format!("`{first}`"));
    }
    parts.join(" -> ")
}

//! What must be known of a loss: its [`Rule`], and what rules are written with.

use crate::task::metrics::Task;
use rnnc_graph::{Activation, Connect, ConnectionKind, Function, Graph, Layer, LayerId, LayerKind};

/// A loss: a number for each frame, of an output and its target.
pub(super) trait Rule {
    /// The name in `train.toml`.
    const NAME: &'static str;
    /// What it is called elsewhere, in small letters without signs, and without `loss` at the end.
    const SYNONYMS: &'static [&'static str];
    /// Of what it is, and the layers that it adds to the network: see [`Form`].
    const FORM: Form;
    /// What it is of, for metrics.
    const TASK: Task = Task::Numbers;
    /// Whether it is reported in bits as well as in nats.
    const IN_BITS: bool = false;
    /// The least and the largest target, of numbers.
    const TARGETS: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

    /// Why it is not for such an output, and what to write instead: what follows "output `y` ".
    fn refuses(_network: &Graph, _output: LayerId) -> Option<String> {
        None
    }
}

/// What a loss is a function of. Each adds layers, and returns the last of them. A unit without a target, which is NaN there,
/// never reaches the layers of the last two: it counts as 0.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// Of an output and a symbol: the loss, of one unit. A symbol that is none is an input of zeros.
    Symbol(fn(&mut Graph, output: LayerId, target: LayerId) -> LayerId),
    /// Of each unit's output minus target: the unit's loss, which is 0 where that is.
    Difference(fn(&mut Graph, difference: LayerId) -> LayerId),
    /// Of each unit's output and target: the unit's loss.
    Units(fn(&mut Graph, output: LayerId, target: LayerId) -> LayerId),
    /// Of each unit's output minus target, and of its target: the unit's error, and its weight. The loss of some frames is the sum of
    /// errors over that of weights. Both are 0 where the target is missing.
    Ratio(fn(&mut Graph, difference: LayerId, target: LayerId) -> (LayerId, LayerId)),
}

/// Adds f(the sum of some layers, each times a number), unit by unit.
pub(super) fn sum(graph: &mut Graph, name: &str, f: Activation, terms: &[(LayerId, f64)]) -> LayerId {
    let layer = graph.sum(name, size_of(graph, terms[0].0), f);
    for &(term, factor) in terms {
        let how = if factor == 1.0 { Connect::identity() } else { Connect::scaled(factor) };
        graph.connect(term, layer, how);
    }
    layer
}

/// Adds the product of two layers, unit by unit.
pub(super) fn product(graph: &mut Graph, name: &str, a: LayerId, b: LayerId) -> LayerId {
    let layer = graph.product(name, size_of(graph, a), Activation::Identity);
    graph.connect(a, layer, Connect::identity());
    graph.connect(b, layer, Connect::identity());
    layer
}

/// A layer's units.
pub(super) fn size_of(graph: &Graph, layer: LayerId) -> usize {
    graph.layer_at(layer).size
}

/// What `is` finds in a layer, or in one that it is another name of.
pub(super) fn behind<T>(graph: &Graph, mut layer: LayerId, is: impl Fn(&Layer) -> Option<T>) -> Option<T> {
    // A chain of names is no longer than the graph has layers.
    for _ in 0..graph.layers().len() {
        let at = graph.layer_at(layer);
        if let Some(found) = is(at) {
            return Some(found);
        }
        let mut incoming = graph.incoming(layer);
        let (Some(only), None) = (incoming.next(), incoming.next()) else { return None };
        let same = at.function == Function::IDENTITY
            && matches!(at.kind, LayerKind::Sum | LayerKind::Product)
            && only.kind == ConnectionKind::Identity { scale: 1.0 }
            && only.source_range.len == at.size;
        match only.source {
            Some(source) if same => layer = source,
            _ => return None,
        }
    }
    None
}

//! cross_entropy: `-log softmax(output)[target]`, in nats, as PyTorch's `CrossEntropyLoss`. The output is logits, the target a symbol.

use super::rule::{Form, Rule, behind};
use crate::task::metrics::Task;
use rnnc_graph::{Connect, Graph, LayerId, LayerKind, Operation};

pub(super) struct CrossEntropy;

impl Rule for CrossEntropy {
    const NAME: &'static str = "cross_entropy";
    const SYNONYMS: &'static [&'static str] =
        &["ce", "nll", "softmax", "crossentropy", "negativeloglikelihood", "categoricalcrossentropy"];
    const FORM: Form = Form::Symbol(layers);
    const TASK: Task = Task::Classes;
    const IN_BITS: bool = true;

    fn refuses(network: &Graph, output: LayerId) -> Option<String> {
        let softmax = softmax_behind(network, output)?;
        Some(format!(
            "is already a {softmax}; the cross-entropy loss takes logits and applies softmax itself: output what goes \
             into the {softmax}"
        ))
    }
}

fn layers(graph: &mut Graph, output: LayerId, target: LayerId) -> LayerId {
    let loss = graph.operation("loss", 1, Operation::CrossEntropy);
    graph.connect(output, loss, Connect::identity());
    graph.connect(target, loss, Connect::identity());
    loss
}

/// The softmax that a layer is, or is another name of.
pub(crate) fn softmax_behind(network: &Graph, output: LayerId) -> Option<&'static str> {
    behind(network, output, |layer| match layer.kind {
        LayerKind::Operation(op @ (Operation::Softmax { .. } | Operation::LogSoftmax { .. })) => {
            Some(op.name())
        }
        _ => None,
    })
}

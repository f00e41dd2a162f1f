//! binary_cross_entropy: `-t log p - (1 - t) log(1 - p)` of each unit's target t, in nats, where the output is the logit of the
//! probability p; as PyTorch's `BCEWithLogitsLoss`.

use super::rule::{Form, Rule, behind, product, size_of, sum};
use crate::task::metrics::Task;
use rnnc_graph::{Activation, Connect, Function, Graph, LayerId};

pub(super) struct BinaryCrossEntropy;

impl Rule for BinaryCrossEntropy {
    const NAME: &'static str = "binary_cross_entropy";
    const SYNONYMS: &'static [&'static str] =
        &["bce", "bcewithlogits", "binarycrossentropy", "sigmoid", "logistic", "logloss"];
    const FORM: Form = Form::Units(layers);
    const TASK: Task = Task::Flags;
    const TARGETS: (f64, f64) = (0.0, 1.0);

    fn refuses(network: &Graph, output: LayerId) -> Option<String> {
        let sigmoid = Function::Apply(Activation::Sigmoid);
        behind(network, output, |layer| (layer.function == sigmoid).then_some(()))?;
        Some(
            "is already a sigmoid; the binary cross-entropy loss takes logits and applies sigmoid itself: output what goes into \
             the sigmoid"
                .into(),
        )
    }
}

/// t softplus(-y) + (1 - t) softplus(y): -log p and -log(1 - p) as they are, however small.
fn layers(graph: &mut Graph, output: LayerId, target: LayerId) -> LayerId {
    let if_one = sum(graph, "loss.if_one", Activation::Softplus, &[(output, -1.0)]);
    let if_zero = sum(graph, "loss.if_zero", Activation::Softplus, &[(output, 1.0)]);
    let rest = graph.sum("loss.rest", size_of(graph, output), Activation::Identity);
    graph.connect_constant(1.0, rest);
    graph.connect(target, rest, Connect::scaled(-1.0));
    let ones = product(graph, "loss.ones", target, if_one);
    let zeros = product(graph, "loss.zeros", rest, if_zero);
    sum(graph, "loss.units", Activation::Identity, &[(ones, 1.0), (zeros, 1.0)])
}

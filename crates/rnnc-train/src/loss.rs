//! Losses, as layers: the network that is trained is the user's network and a layer `loss` of one unit.

use crate::error::TrainError;
use rnnc_graph::{
    Activation, Connect, ConnectionKind, Function, Graph, Layer, LayerId, LayerKind, Operation, Start,
};
use rnnc_io::list;
use serde::{Deserialize, Serialize};

/// What is made small, as a mean over frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// `-log softmax(output)[target]`, in nats. The output is logits, the target a symbol.
    CrossEntropy,
    /// The mean over units of (output - target)^2. The target is a vector of the output's size; a unit without one, which is
    /// NaN, counts as 0.
    MeanSquaredError,
}

const TARGET: &str = "target";
const DIFFERENCE: &str = "loss.difference";

/// Whether a layer of that name is NaN where there is no target.
pub(crate) fn is_unknown(layer: &str) -> bool {
    [TARGET, DIFFERENCE].contains(&layer)
}

/// A network with its loss.
#[derive(Clone, Debug)]
pub struct LossNetwork {
    /// The network, one more input (the target, last), and one output: `loss`.
    pub graph: Graph,
    /// What the target has: units, or symbols for cross-entropy.
    pub target_size: usize,
    /// The output that the loss reads.
    pub output: String,
}

impl Loss {
    /// Adds the loss of an output to a network; without a name, of its only output. The other outputs are
    /// dropped: errors come from the loss alone.
    ///
    /// # Errors
    /// No such output, several and none named, and for cross-entropy an output that is no logits.
    pub fn of(self, network: &Graph, output: Option<&str>) -> Result<LossNetwork, TrainError> {
        let output = find_output(network, output)?;
        let problem = |problem: String| TrainError::Network { network: network.name().into(), problem };
        let (name, y) = (&network.outputs()[output].name, network.outputs()[output].layer);
        let size = network.layer_at(y).size;
        if matches!(network.layer_at(y).kind, LayerKind::Symbol) {
            return Err(problem(format!("output `{name}` is a symbol input; a loss needs numbers")));
        }
        let mut graph = without_outputs(network);
        let loss = match self {
            Loss::CrossEntropy => {
                if let Some(softmax) = softmax_behind(network, y) {
                    return Err(problem(format!(
                        "output `{name}` is already a {softmax}; the cross-entropy loss takes logits and applies \
                         softmax itself: output what goes into the {softmax}"
                    )));
                }
                let target = graph.add_layer(layer(TARGET, size, LayerKind::Symbol));
                let loss = graph.add_layer(layer("loss", 1, LayerKind::Operation(Operation::CrossEntropy)));
                graph.connect(y, loss, Connect::identity());
                graph.connect(target, loss, Connect::identity());
                loss
            }
            Loss::MeanSquaredError => {
                let target = graph.input(TARGET, size);
                let difference = graph.sum(DIFFERENCE, size, Activation::Identity);
                graph.connect(y, difference, Connect::identity());
                graph.connect(target, difference, Connect::scaled(-1.0));
                // Where there is no target, the output may be anything: its error is 0, not 0 times that.
                let known =
                    graph.add_layer(layer("loss.known", size, LayerKind::Operation(Operation::Known)));
                graph.connect(difference, known, Connect::identity());
                graph.connect(target, known, Connect::identity());
                let squares = graph.sum("loss.squares", size, Activation::Square);
                graph.connect(known, squares, Connect::identity());
                let sum = LayerKind::Operation(Operation::GroupSum { groups: 1 });
                let sum = graph.add_layer(layer("loss.sum", 1, sum));
                graph.connect(squares, sum, Connect::identity());
                let loss = graph.sum("loss", 1, Activation::Identity);
                graph.connect(sum, loss, Connect::scaled(1.0 / size as f64));
                loss
            }
        };
        graph.output("loss", loss);
        Ok(LossNetwork { graph, target_size: size, output: name.clone() })
    }
}

/// The place of the output of that name, or of the only one.
pub(crate) fn find_output(network: &Graph, name: Option<&str>) -> Result<usize, TrainError> {
    let outputs = network.outputs();
    let names: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
    let problem = |problem| Err(TrainError::Network { network: network.name().into(), problem });
    match name {
        Some(name) => match names.iter().position(|&n| n == name) {
            Some(place) => Ok(place),
            None => problem(format!("there is no output `{name}`; its outputs are {}", list(&names))),
        },
        None if outputs.len() == 1 => Ok(0),
        None => problem(format!(
            "the loss is of one output, and there are {} ({}): name one as `training.output`",
            outputs.len(),
            list(&names)
        )),
    }
}

/// The same graph, ids included, with no outputs.
fn without_outputs(network: &Graph) -> Graph {
    let mut graph = Graph::new(network.name());
    for weight in network.weights() {
        graph.weight(&*weight.name, &weight.shape, weight.init);
    }
    for layer in network.layers() {
        graph.add_layer(layer.clone());
    }
    for connection in network.connections() {
        graph.add_connection(connection.clone());
    }
    graph
}

fn layer(name: &str, size: usize, kind: LayerKind) -> Layer {
    Layer { name: name.into(), size, kind, function: Function::IDENTITY, start: Start::Zero, origin: None }
}

/// The softmax that a layer is, or is another name of.
pub(crate) fn softmax_behind(graph: &Graph, mut layer: LayerId) -> Option<&'static str> {
    // A chain of names is no longer than the graph has layers.
    for _ in 0..graph.layers().len() {
        let at = graph.layer_at(layer);
        if let LayerKind::Operation(op @ (Operation::Softmax { .. } | Operation::LogSoftmax { .. })) = at.kind
        {
            return Some(op.name());
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

#[cfg(test)]
mod tests {
    use super::*;
    use rnnc_graph::Init;

    fn network() -> (Graph, LayerId) {
        let mut graph = Graph::new("net");
        let x = graph.input("x", 2);
        let y = graph.sum("y", 3, Activation::Identity);
        let w = graph.weight("y.W.x", &[3, 2], Init::Uniform(1.0));
        graph.connect(x, y, Connect::full(w));
        (graph, y)
    }

    #[test]
    fn a_loss_adds_a_target_and_leaves_every_id_as_it_was() {
        let (mut graph, y) = network();
        graph.output("y", y);
        for (loss, target) in
            [(Loss::CrossEntropy, LayerKind::Symbol), (Loss::MeanSquaredError, LayerKind::Input)]
        {
            let with = loss.of(&graph, None).unwrap();
            rnnc_graph::validate(&with.graph).unwrap();
            assert_eq!(with.target_size, 3);
            assert_eq!(&with.graph.layers()[..2], graph.layers());
            assert_eq!(with.graph.weights(), graph.weights());
            let last = *with.graph.inputs().last().unwrap();
            assert_eq!((with.graph.layer_at(last).size, with.graph.layer_at(last).kind), (3, target));
            assert_eq!(with.graph.outputs().len(), 1);
        }
    }

    #[test]
    fn cross_entropy_of_a_softmax_is_refused_even_under_another_name() {
        for operation in [Operation::Softmax { groups: 1 }, Operation::LogSoftmax { groups: 1 }] {
            let (mut graph, y) = network();
            let p = graph.add_layer(layer("p", 3, LayerKind::Operation(operation)));
            graph.connect(y, p, Connect::identity());
            let alias = graph.sum("alias", 3, Activation::Identity);
            graph.connect(p, alias, Connect::identity());
            graph.output("p", alias);
            let error = Loss::CrossEntropy.of(&graph, None).unwrap_err().to_string();
            assert!(error.contains(&format!("`p` is already a {}", operation.name())), "{error}");
            Loss::MeanSquaredError.of(&graph, None).unwrap();
        }
    }

    #[test]
    fn which_output_has_to_be_said_where_there_are_several() {
        let (mut graph, y) = network();
        graph.output("a", y);
        graph.output("b", y);
        let error = Loss::CrossEntropy.of(&graph, None).unwrap_err().to_string();
        assert!(error.contains("there are 2 (`a`, `b`): name one"), "{error}");
        let error = Loss::CrossEntropy.of(&graph, Some("c")).unwrap_err().to_string();
        assert!(error.contains("there is no output `c`; its outputs are `a`, `b`"), "{error}");
        assert_eq!(Loss::CrossEntropy.of(&graph, Some("b")).unwrap().output, "b");
    }
}

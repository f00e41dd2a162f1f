//! Losses, as layers: the network that is trained is the user's network and a layer `loss` of one unit. One file a loss, written as
//! a [`Rule`].
//!
//! To add one, write its file and name it in the list below: `train.toml` has it under its name.

mod rule;

use crate::data::batch::Batch;
use crate::error::TrainError;
use crate::task::metrics::Task;
use rnnc_graph::{Activation, Connect, Graph, LayerId, LayerKind, Operation};
use rnnc_io::list;
use rnnc_plan::Values;
use rule::{Form, Rule, sum};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};
use std::borrow::Cow;

/// Declares the files, and the enum of their rules.
macro_rules! losses {
    ($($file:ident :: $rule:ident,)*) => {
        $(mod $file;)*

        /// What training minimizes, as a mean over frames. Losses of vectors are means over units: the target has the output's size,
        /// and a unit whose target is missing (NaN) counts as 0.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // each is the loss of that name
        pub enum Loss {
            $($rule,)*
        }

        impl Loss {
            /// All of them.
            pub const ALL: [Loss; [$(Loss::$rule),*].len()] = [$(Loss::$rule),*];
            /// Their names.
            pub const NAMES: &[&str] = &[$(<$file::$rule as Rule>::NAME),*];

            /// The name in `train.toml`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Loss::$rule => <$file::$rule as Rule>::NAME,)*
                }
            }

            /// What it is called elsewhere, in small letters without signs.
            pub(crate) fn synonyms(self) -> &'static [&'static str] {
                match self {
                    $(Loss::$rule => <$file::$rule as Rule>::SYNONYMS,)*
                }
            }

            /// Whether it is reported in bits as well as in nats.
            pub fn is_in_bits(self) -> bool {
                match self {
                    $(Loss::$rule => <$file::$rule as Rule>::IN_BITS,)*
                }
            }

            /// What it is of.
            pub(crate) fn task(self) -> Task {
                match self {
                    $(Loss::$rule => <$file::$rule as Rule>::TASK,)*
                }
            }

            fn targets(self) -> (f64, f64) {
                match self {
                    $(Loss::$rule => <$file::$rule as Rule>::TARGETS,)*
                }
            }

            fn form(self) -> Form {
                match self {
                    $(Loss::$rule => <$file::$rule as Rule>::FORM,)*
                }
            }

            fn refuses(self, network: &Graph, output: LayerId) -> Option<String> {
                match self {
                    $(Loss::$rule => <$file::$rule as Rule>::refuses(network, output),)*
                }
            }
        }
    };
}

losses! {
    cross_entropy::CrossEntropy,
    binary_cross_entropy::BinaryCrossEntropy,
    mean_squared_error::MeanSquaredError,
    mean_absolute_error::MeanAbsoluteError,
    huber::Huber,
    error_to_signal::ErrorToSignal,
}

pub(crate) use cross_entropy::softmax_behind;

/// By its name.
impl Serialize for Loss {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl JsonSchema for Loss {
    fn schema_name() -> Cow<'static, str> {
        "Loss".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": Loss::NAMES })
    }
}

/// By its name.
impl<'de> Deserialize<'de> for Loss {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Loss, D::Error> {
        let name = String::deserialize(from)?;
        let known = Loss::ALL.into_iter().find(|loss| loss.name() == name);
        known.ok_or_else(|| D::Error::unknown_variant(&name, Loss::NAMES))
    }
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
    /// What the target has: units, or symbols.
    pub target_size: usize,
    /// The least and the largest number that a target may be.
    pub targets: (f64, f64),
    /// The output that the loss reads.
    pub output: String,
    /// Its layer.
    pub(crate) layer: LayerId,
    /// Whether there is a second output: what each frame's loss is divided by, summed over frames.
    pub(crate) has_weights: bool,
    /// What the loss of a frame with each symbol as target is multiplied with; nothing, where all are alike.
    pub(crate) class_weights: Vec<f64>,
}

/// What is said of a loss beside its name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossSettings {
    /// With a loss that is a ratio to the signal: `x[t] - a x[t-1]` is compared, with this a.
    pub pre_emphasis: f64,
    /// With symbols as targets, the weight of each, as PyTorch's `CrossEntropyLoss(weight=..)`; nothing, where all are alike.
    pub class_weights: Vec<f64>,
}

/// Adds to a sum each row times its weight. A row without weight may be anything.
pub(crate) fn add_weighted(sum: &mut f64, rows: &[f64], weights: &[f64]) {
    let counted = rows.iter().zip(weights).filter(|(_, weight)| **weight > 0.0);
    counted.for_each(|(row, weight)| *sum += row * weight);
}

impl LossNetwork {
    /// What the loss of each row of a batch is multiplied with, 0 where it does not count, but for the weights that the network
    /// computes.
    pub(crate) fn row_weights(&self, batch: &Batch, into: &mut Vec<f64>) {
        into.clear();
        let inputs = batch.inputs();
        let target = inputs.last();
        into.extend(batch.loss_mask().iter().enumerate().map(|(row, &counts)| match target {
            _ if !counts => 0.0,
            Some(Values::Symbols(symbols)) if !self.class_weights.is_empty() => {
                self.class_weights.get(symbols[row] as usize).copied().unwrap_or(0.0)
            }
            _ => 1.0,
        }));
    }
}

impl Loss {
    /// Whether its targets are symbols; else they are vectors of the output's size.
    pub fn takes_symbols(self) -> bool {
        matches!(self.form(), Form::Symbol(_))
    }

    /// Adds the loss of an output to a network; without a name, of its only output. The other outputs are
    /// dropped: errors come from the loss alone.
    ///
    /// # Errors
    /// No such output, several and none named, and an output that the loss is not for.
    pub fn of(self, network: &Graph, output: Option<&str>) -> Result<LossNetwork, TrainError> {
        self.of_with(network, output, &LossSettings::default())
    }

    /// The same with settings.
    ///
    /// # Errors
    /// As [`of`](Loss::of); settings that are not this loss's.
    pub fn of_with(
        self,
        network: &Graph,
        output: Option<&str>,
        settings: &LossSettings,
    ) -> Result<LossNetwork, TrainError> {
        let output = find_output(network, output)?;
        let problem = |problem: String| TrainError::Network { network: network.name().into(), problem };
        let (name, y) = (&network.outputs()[output].name, network.outputs()[output].layer);
        let size = network.layer_at(y).size;
        if matches!(network.layer_at(y).kind, LayerKind::Symbol) {
            return Err(problem(format!("output `{name}` is a symbol input; a loss needs numbers")));
        }
        let is_ratio = matches!(self.form(), Form::Ratio(_));
        if settings.pre_emphasis != 0.0 && !is_ratio {
            return Err(TrainError::Setting(format!(
                "`training.pre_emphasis` is for `loss = \"error_to_signal\"`, not \"{}\"",
                self.name()
            )));
        }
        let weights = settings.class_weights.len();
        if weights > 0 && (!self.takes_symbols() || weights != size) {
            return Err(TrainError::Setting(match self.takes_symbols() {
                true => format!(
                    "`training.class_weights` must have a number for each of the {size} units of output `{name}`, not {weights}"
                ),
                false => format!(
                    "`training.class_weights` is for `loss = \"cross_entropy\"`, not \"{}\"",
                    self.name()
                ),
            }));
        }
        if let Some(why) = self.refuses(network, y) {
            return Err(problem(format!("output `{name}` {why}")));
        }
        let mut graph = network.without_outputs();
        let target = match self.takes_symbols() {
            true => graph.symbol(TARGET, size),
            false => graph.input(TARGET, size),
        };
        let mut weight = None;
        let loss = match self.form() {
            Form::Symbol(layers) => layers(&mut graph, y, target),
            Form::Difference(layers) => {
                let terms = [(y, 1.0), (target, -1.0)];
                let difference = sum(&mut graph, DIFFERENCE, Activation::Identity, &terms);
                // Where there is no target, the output may be anything: its error is 0, not 0 times that.
                let known = known(&mut graph, "loss.known", difference, target);
                let units = layers(&mut graph, known);
                mean(&mut graph, "loss", units)
            }
            Form::Units(layers) => {
                let output = known(&mut graph, "loss.output", y, target);
                let there = known(&mut graph, "loss.target", target, target);
                let units = layers(&mut graph, output, there);
                let known = known(&mut graph, "loss.known", units, target);
                mean(&mut graph, "loss", known)
            }
            Form::Ratio(layers) => {
                let terms = [(y, 1.0), (target, -1.0)];
                let difference = sum(&mut graph, DIFFERENCE, Activation::Identity, &terms);
                let difference = known(&mut graph, "loss.known", difference, target);
                let there = known(&mut graph, "loss.target", target, target);
                let emphasis = settings.pre_emphasis;
                let difference = emphasized(&mut graph, "loss.emphasized", difference, emphasis);
                let there = emphasized(&mut graph, "loss.emphasized_target", there, emphasis);
                let (errors, weights) = layers(&mut graph, difference, there);
                weight = Some(mean(&mut graph, "loss.weight", weights));
                mean(&mut graph, "loss", errors)
            }
        };
        graph.output("loss", loss);
        if let Some(weight) = weight {
            graph.output("loss.weight", weight);
        }
        Ok(LossNetwork {
            graph,
            target_size: size,
            targets: self.targets(),
            output: name.clone(),
            layer: y,
            has_weights: weight.is_some(),
            class_weights: settings.class_weights.clone(),
        })
    }
}

/// Adds a layer that is `of` where there is a target, and 0 where there is none.
fn known(graph: &mut Graph, name: &str, of: LayerId, target: LayerId) -> LayerId {
    let size = graph.layer_at(of).size;
    let known = graph.operation(name, size, Operation::Known);
    graph.connect(of, known, Connect::identity());
    graph.connect(target, known, Connect::identity());
    known
}

/// Adds x[t] - a x[t-1], where a is not 0. Before a sequence's first frame is silence.
fn emphasized(graph: &mut Graph, name: &str, of: LayerId, a: f64) -> LayerId {
    if a == 0.0 {
        return of;
    }
    let layer = sum(graph, name, Activation::Identity, &[(of, 1.0)]);
    graph.connect(of, layer, Connect::scaled(-a).delay(1));
    layer
}

/// Adds the mean over units: the loss, or its weight.
fn mean(graph: &mut Graph, name: &str, units: LayerId) -> LayerId {
    let size = graph.layer_at(units).size;
    let sum = graph.operation(format!("{name}.sum"), 1, Operation::GroupSum { groups: 1 });
    graph.connect(units, sum, Connect::identity());
    let loss = graph.sum(name, 1, Activation::Identity);
    graph.connect(sum, loss, Connect::scaled(1.0 / size as f64));
    loss
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

#[cfg(test)]
mod tests {
    use super::*;
    use rnnc_graph::Init;
    use rnnc_plan::{ExecutionConfig, Executor, ParameterArray, Plan, PlanOptions, ValuesMut};
    use rnnc_reference::ReferenceExecutor;

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
        for loss in Loss::ALL {
            let target = if loss.takes_symbols() { LayerKind::Symbol } else { LayerKind::Input };
            let with = loss.of(&graph, None).unwrap();
            rnnc_graph::validate(&with.graph).unwrap();
            assert_eq!(with.target_size, 3);
            assert_eq!(&with.graph.layers()[..2], graph.layers());
            assert_eq!(with.graph.weights(), graph.weights());
            let last = *with.graph.inputs().last().unwrap();
            assert_eq!((with.graph.layer_at(last).size, with.graph.layer_at(last).kind), (3, target));
            assert_eq!(with.graph.outputs().len(), 1 + usize::from(with.has_weights));
        }
    }

    #[test]
    fn cross_entropy_of_a_softmax_is_refused_even_under_another_name() {
        for operation in [Operation::Softmax { groups: 1 }, Operation::LogSoftmax { groups: 1 }] {
            let (mut graph, y) = network();
            let p = graph.operation("p", 3, operation);
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
    fn binary_cross_entropy_of_a_sigmoid_is_refused() {
        let (mut graph, y) = network();
        let p = graph.sum("p", 3, Activation::Sigmoid);
        graph.connect(y, p, Connect::identity());
        graph.output("p", p);
        let error = Loss::BinaryCrossEntropy.of(&graph, None).unwrap_err().to_string();
        assert!(error.contains("output `p` is already a sigmoid; "), "{error}");
    }

    /// The losses of one frame whose output is `output`, and the gradients with respect to it.
    fn values(loss: Loss, output: &[f64], target: &[f64]) -> (f64, Vec<f64>) {
        let size = output.len();
        let mut graph = Graph::new("net");
        let w = graph.weight("w", &[size], Init::Zeros);
        let (x, y) = (graph.input("x", size), graph.sum("y", size, Activation::Identity));
        graph.connect(x, y, Connect::diagonal(w));
        graph.output("y", y);
        let graph = loss.of(&graph, None).unwrap().graph;
        rnnc_graph::validate(&graph).unwrap();
        let plan = Plan::new(&graph, PlanOptions::training(1, 1)).unwrap();
        let mut executor = ReferenceExecutor::new(plan, ExecutionConfig::new(1, 1)).unwrap();
        let weight = rnnc_graph::WeightId::from_index(0);
        executor.write(ParameterArray::Weight, weight, Values::F64(output)).unwrap();
        executor.forward(1, &[Values::F64(&vec![1.0; size]), Values::F64(target)], None).unwrap();
        let seeds = [Some(Values::F64(&[1.0])), None];
        executor.backward(1, &seeds[..graph.outputs().len()]).unwrap();
        let (mut value, mut gradient) = ([0.0], vec![0.0; size]);
        executor.output(0, ValuesMut::F64(&mut value)).unwrap();
        executor.read(ParameterArray::Gradient, weight, ValuesMut::F64(&mut gradient)).unwrap();
        (value[0], gradient)
    }

    #[test]
    fn losses_of_vectors_are_what_is_computed_by_hand() {
        let (output, target) = ([0.5, -3.0, 2.0, 30.0], [1.0, -1.0, 2.0, 0.25]);
        let softplus = |x: f64| if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() };
        let bce = |(y, t): (f64, f64)| t * softplus(-y) + (1.0 - t) * softplus(y);
        let by_hand = output.into_iter().zip(target).map(bce).sum::<f64>() / 4.0;
        for (loss, expected) in [
            (Loss::MeanSquaredError, (0.25 + 4.0 + 0.0 + 29.75 * 29.75) / 4.0),
            (Loss::MeanAbsoluteError, (0.5 + 2.0 + 0.0 + 29.75) / 4.0),
            (Loss::Huber, (0.125 + 1.5 + 0.0 + 29.25) / 4.0),
            (Loss::BinaryCrossEntropy, by_hand),
            (Loss::ErrorToSignal, (0.25 + 4.0 + 0.0 + 29.75 * 29.75) / 4.0),
        ] {
            let (found, _) = values(loss, &output, &target);
            assert!((found - expected).abs() < 1e-12, "{}: {found}, not {expected}", loss.name());
        }
        // However sure the output is, the loss that is left does not round to 0.
        let (found, _) = values(Loss::BinaryCrossEntropy, &[40.0], &[1.0]);
        assert!((found / (-40f64).exp() - 1.0).abs() < 1e-12, "{found}");
    }

    #[test]
    fn gradients_of_every_loss_of_vectors_are_its_differences() {
        // At none of these has a loss a kink.
        let (output, target) = ([0.4, -3.0, 2.5, 0.1, 1.7], [1.0, 0.25, 0.0, -0.5, 0.75]);
        for loss in Loss::ALL.into_iter().filter(|loss| !loss.takes_symbols()) {
            let (_, gradient) = values(loss, &output, &target);
            for (unit, gradient) in gradient.into_iter().enumerate() {
                let at = |step: f64| {
                    let mut output = output;
                    output[unit] += step;
                    values(loss, &output, &target).0
                };
                let difference = (at(1e-6) - at(-1e-6)) / 2e-6;
                assert!(
                    (difference - gradient).abs() < 1e-8,
                    "{} of unit {unit}: {gradient}, by differences {difference}",
                    loss.name()
                );
            }
        }
    }

    #[test]
    fn a_unit_without_a_target_counts_as_0_and_has_no_gradient_whatever_it_is() {
        for loss in Loss::ALL.into_iter().filter(|loss| !loss.takes_symbols()) {
            let (alone, with) = (values(loss, &[0.4], &[1.0]), |y| values(loss, &[0.4, y], &[1.0, f64::NAN]));
            for y in [0.0, 3.0, f64::INFINITY, f64::NAN] {
                let (value, gradient) = with(y);
                assert_eq!(value, alone.0 / 2.0, "{} of {y}", loss.name());
                assert_eq!(gradient, [alone.1[0] / 2.0, 0.0], "{} of {y}", loss.name());
            }
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

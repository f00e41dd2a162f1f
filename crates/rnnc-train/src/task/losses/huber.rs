//! huber: half the square of output - target where its magnitude is at most 1, and the magnitude minus 1/2 elsewhere, as PyTorch's
//! `HuberLoss` (delta 1; Huber 1964).

use super::rule::{Form, Rule, product, sum};
use rnnc_graph::{Activation, Graph, LayerId};

pub(super) struct Huber;

impl Rule for Huber {
    const NAME: &'static str = "huber";
    const SYNONYMS: &'static [&'static str] = &["smoothl1", "hubers"];
    const FORM: Form = Form::Difference(layers);
}

/// c (x - c / 2), where c is x between -1 and 1.
fn layers(graph: &mut Graph, error: LayerId) -> LayerId {
    let cut = sum(graph, "loss.cut", Activation::HardTanh, &[(error, 1.0)]);
    let beyond = sum(graph, "loss.beyond", Activation::Identity, &[(error, 1.0), (cut, -0.5)]);
    product(graph, "loss.units", cut, beyond)
}

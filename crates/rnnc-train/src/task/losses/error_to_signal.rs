//! error_to_signal: the sum of (output - target)^2 over that of target^2 and 1e-5 a frame, which silence needs (ESR: Wright et al.
//! 2019, eq. 10). Both sides may go through a pre-emphasis filter first (eq. 11), `x[t] - a x[t-1]`, by `pre_emphasis`.

use super::rule::{Form, Rule, sum};
use rnnc_graph::Activation;

pub(super) struct ErrorToSignal;

impl Rule for ErrorToSignal {
    const NAME: &'static str = "error_to_signal";
    const SYNONYMS: &'static [&'static str] = &["esr", "errortosignalratio"];
    const FORM: Form = Form::Ratio(|graph, difference, target| {
        let error = sum(graph, "loss.errors", Activation::Square, &[(difference, 1.0)]);
        let signal = sum(graph, "loss.signals", Activation::Square, &[(target, 1.0)]);
        let weight = sum(graph, "loss.weights", Activation::Identity, &[(signal, 1.0)]);
        graph.connect_constant(1e-5, weight);
        (error, weight)
    });
}

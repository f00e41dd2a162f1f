//! mean_squared_error: the mean over units of (output - target)^2, as PyTorch's `MSELoss`.

use super::rule::{Form, Rule, sum};
use rnnc_graph::Activation;

pub(super) struct MeanSquaredError;

impl Rule for MeanSquaredError {
    const NAME: &'static str = "mean_squared_error";
    const SYNONYMS: &'static [&'static str] = &["mse", "l2", "meansquare", "meansquareerror", "meansquared"];
    const FORM: Form =
        Form::Difference(|graph, error| sum(graph, "loss.squares", Activation::Square, &[(error, 1.0)]));
}

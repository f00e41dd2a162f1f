//! mean_absolute_error: the mean over units of |output - target|, as PyTorch's `L1Loss`.

use super::rule::{Form, Rule, sum};
use rnnc_graph::Activation;

pub(super) struct MeanAbsoluteError;

impl Rule for MeanAbsoluteError {
    const NAME: &'static str = "mean_absolute_error";
    const SYNONYMS: &'static [&'static str] = &["mae", "l1", "absolute", "meanabsolute"];
    const FORM: Form =
        Form::Difference(|graph, error| sum(graph, "loss.magnitudes", Activation::Abs, &[(error, 1.0)]));
}

//! Metrics: what is reported of other data beside the loss. One file a metric, written as a [`Rule`].
//!
//! To add one, write its file and name it in the list below: `train.toml` has it under its name.

mod rule;

use crate::error::TrainError;
use crate::task::losses::Loss;
use rule::Rule;
pub use rule::{Target, Task};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::borrow::Cow;

/// Declares the files, and the enum of their rules.
macro_rules! metrics {
    ($($file:ident :: $rule:ident,)*) => {
        $(mod $file;)*

        /// What is measured on data that is not trained on, over all frames whose loss counts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // each is the metric of that name
        pub enum Metric {
            $($rule,)*
        }

        impl Metric {
            /// All of them.
            pub const ALL: [Metric; [$(Metric::$rule),*].len()] = [$(Metric::$rule),*];
            /// Their names.
            pub const NAMES: &[&str] = &[$(<$file::$rule as Rule>::NAME),*];

            /// The name in `train.toml`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Metric::$rule => <$file::$rule as Rule>::NAME,)*
                }
            }

            /// What it is called elsewhere, in small letters without signs.
            pub(crate) fn synonyms(self) -> &'static [&'static str] {
                match self {
                    $(Metric::$rule => <$file::$rule as Rule>::SYNONYMS,)*
                }
            }

            /// What it is for.
            pub fn tasks(self) -> &'static [Task] {
                match self {
                    $(Metric::$rule => <$file::$rule as Rule>::TASKS,)*
                }
            }

            /// Begins to measure.
            pub(crate) fn measure(self) -> Box<dyn Measure> {
                match self {
                    $(Metric::$rule => Box::new(<$file::$rule as Default>::default()),)*
                }
            }
        }
    };
}

metrics! {
    accuracy::Accuracy,
    f1::F1,
    perplexity::Perplexity,
    bits_per_character::BitsPerCharacter,
    mean_absolute_error::MeanAbsoluteError,
    mean_squared_error::MeanSquaredError,
    error_to_signal::ErrorToSignal,
}

/// A metric of the frames so far.
pub(crate) trait Measure: Send {
    /// One more frame.
    fn add(&mut self, output: &[f64], target: Target<'_>);
    /// Of all frames so far; NaN if it is of none.
    fn value(&self) -> f64;
}

impl<R: Rule> Measure for R {
    fn add(&mut self, output: &[f64], target: Target<'_>) {
        Rule::add(self, output, target);
    }

    fn value(&self) -> f64 {
        Rule::value(self)
    }
}

/// What was measured, in the order in which it was asked for. A JSON object has it by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured(pub Vec<(Metric, f64)>);

impl Serialize for Measured {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (metric, value) in &self.0 {
            map.serialize_entry(metric.name(), value)?;
        }
        map.end()
    }
}

/// Refuses metrics that do not go with a loss.
pub(crate) fn check_metrics(metrics: &[Metric], loss: Loss) -> Result<(), TrainError> {
    let task = loss.task();
    let Some(wrong) = metrics.iter().find(|metric| !metric.tasks().contains(&task)) else { return Ok(()) };
    let of_loss = Metric::ALL.into_iter().filter(|metric| metric.tasks().contains(&task));
    let names: Vec<String> = of_loss.map(|metric| format!("\"{}\"", metric.name())).collect();
    let meant: Vec<&str> = wrong.tasks().iter().map(|task| task.targets()).collect();
    Err(TrainError::Setting(format!(
        "`training.metrics`: \"{}\" is of targets that are {}, and those of the loss \"{}\" are {}: choose among {}",
        wrong.name(),
        meant.join(" or "),
        loss.name(),
        task.targets(),
        names.join(", ")
    )))
}

/// By its name.
impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl JsonSchema for Metric {
    fn schema_name() -> Cow<'static, str> {
        "Metric".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": Metric::NAMES })
    }
}

/// By its name.
impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Metric, D::Error> {
        let name = String::deserialize(from)?;
        let known = Metric::ALL.into_iter().find(|metric| metric.name() == name);
        known.ok_or_else(|| D::Error::unknown_variant(&name, Metric::NAMES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A metric of frames of outputs and targets.
    fn of(metric: Metric, frames: &[(&[f64], Target<'_>)]) -> f64 {
        let mut measure = metric.measure();
        frames.iter().for_each(|(output, target)| measure.add(output, *target));
        measure.value()
    }

    fn is_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn metrics_of_classes_are_those_of_scikit_learn() {
        // Targets 0 0 1 2 2 2, likeliest 0 1 1 2 2 0; class 3 is nowhere.
        let (a, b, c) = ([2.0, 1.0, 0.0, -1.0], [0.0, 3.0, 0.0, 0.0], [-1.0, -2.0, 4.0, 4.0]);
        let frames: Vec<(&[f64], Target<'_>)> = [(&a, 0), (&b, 0), (&b, 1), (&c, 2), (&c, 2), (&a, 2)]
            .into_iter()
            .map(|(output, symbol)| (&output[..], Target::Symbol(symbol)))
            .collect();
        is_close(of(Metric::Accuracy, &frames), 4.0 / 6.0);
        // f1_score([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0], average="macro")
        is_close(of(Metric::F1, &frames), (0.5 + 2.0 / 3.0 + 0.8) / 3.0);
    }

    #[test]
    fn bits_and_perplexity_are_of_the_mean_of_log_probabilities() {
        // Probabilities 1/2 and 1/8, at any height of the logits.
        let (ln2, ln7) = (2f64.ln(), 7f64.ln());
        for high in [0.0, 1000.0, -1e6] {
            let (half, eighth) = ([high, high], [high, high + ln7]);
            let frames = [(&half[..], Target::Symbol(1)), (&eighth[..], Target::Symbol(0))];
            assert!((of(Metric::BitsPerCharacter, &frames) - 2.0).abs() < 1e-9);
            assert!((of(Metric::Perplexity, &frames) - (2.0 * ln2).exp()).abs() < 1e-8);
        }
    }

    #[test]
    fn metrics_of_numbers_leave_out_units_without_a_target() {
        let frames = [
            (&[1.0, 5.0][..], Target::Units(&[2.0, f32::NAN])),
            (&[3.0, 0.0][..], Target::Units(&[1.0, 4.0])),
        ];
        is_close(of(Metric::MeanAbsoluteError, &frames), (1.0 + 2.0 + 4.0) / 3.0);
        is_close(of(Metric::MeanSquaredError, &frames), (1.0 + 4.0 + 16.0) / 3.0);
        is_close(of(Metric::ErrorToSignal, &frames), 21.0 / 21.0);
    }

    #[test]
    fn metrics_of_flags_are_of_each_unit() {
        let frames = [
            (&[1.0, -1.0][..], Target::Units(&[1.0, 1.0])),
            (&[2.0, 3.0][..], Target::Units(&[0.0, 1.0])),
            (&[-1.0, 1.0][..], Target::Units(&[f32::NAN, 0.0])),
        ];
        is_close(of(Metric::Accuracy, &frames), 2.0 / 5.0);
        // Unit 0: TP 1, FP 1; unit 1: TP 1, FP 1, FN 1.
        is_close(of(Metric::F1, &frames), (2.0 / 3.0 + 0.5) / 2.0);
    }

    #[test]
    fn an_output_that_is_no_number_is_wrong() {
        let output = [f64::NAN, 1.0, 2.0];
        assert_eq!(of(Metric::Accuracy, &[(&output, Target::Symbol(2))]), 0.0);
        assert!(of(Metric::Perplexity, &[(&output, Target::Symbol(2))]).is_nan());
        assert!(of(Metric::ErrorToSignal, &[(&output, Target::Units(&[1.0, 1.0, 1.0]))]).is_nan());
    }

    #[test]
    fn a_metric_of_another_task_is_refused_with_those_that_fit() {
        check_metrics(&[Metric::Accuracy, Metric::F1], Loss::CrossEntropy).unwrap();
        check_metrics(&[Metric::Accuracy], Loss::BinaryCrossEntropy).unwrap();
        check_metrics(&[Metric::ErrorToSignal], Loss::Huber).unwrap();
        let error = check_metrics(&[Metric::MeanSquaredError, Metric::Accuracy], Loss::MeanSquaredError);
        assert_eq!(
            error.unwrap_err().to_string(),
            "`training.metrics`: \"accuracy\" is of targets that are symbols or vectors of yes and no, and those of the loss \
             \"mean_squared_error\" are vectors of numbers: choose among \"mean_absolute_error\", \"mean_squared_error\", \
             \"error_to_signal\""
        );
        assert!(check_metrics(&[Metric::Perplexity], Loss::BinaryCrossEntropy).is_err());
    }
}

//! What tables become before a network sees them: numbers measured from their mean in units of their deviation, names numbered. It is
//! learned on the training part, and kept with the model.

use crate::data::sequences::{Column, Sequences};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How columns are read, and what was learned of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Preparation {
    /// The columns that the network's inputs read, in order.
    pub inputs: Vec<Scaled>,
    /// Those of the target, where it is numbers.
    pub targets: Vec<Scaled>,
    /// The column that says which sequence a row is of, if there is one.
    #[serde(default)]
    pub sequence: Option<String>,
    /// The names of the symbols of the target, in order, where it is a class.
    pub classes: Vec<String>,
}

/// A column, whose value x is `(x - mean) / deviation` to the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaled {
    /// Its name.
    pub name: String,
    /// The mean over the training data; 0 if it is left as it is.
    pub mean: f64,
    /// The standard deviation; 1 if it is left as it is.
    pub deviation: f64,
}

impl Scaled {
    /// A column that stays as it is.
    pub(crate) fn plain(name: &str) -> Scaled {
        Scaled { name: name.into(), mean: 0.0, deviation: 1.0 }
    }

    /// What the network reads of a value.
    pub fn scale(&self, x: f64) -> f64 {
        (x - self.mean) / self.deviation
    }

    /// The value that stands for what the network gives.
    pub fn unscale(&self, x: f64) -> f64 {
        x * self.deviation + self.mean
    }
}

impl Preparation {
    /// Whether there is none: of data that is no table.
    pub fn is_none(&self) -> bool {
        self.inputs.is_empty() && self.targets.is_empty() && self.classes.is_empty()
    }

    /// Refuses scales that no data has, and a class that is there twice.
    pub(crate) fn check(&self) -> Result<(), String> {
        let is_none = |s: &&Scaled| !(s.mean.is_finite() && s.deviation.is_finite() && s.deviation > 0.0);
        let distinct: BTreeSet<&String> = self.classes.iter().collect();
        if distinct.len() < self.classes.len() {
            return Err("two classes have one name".into());
        }
        match self.inputs.iter().chain(&self.targets).find(is_none) {
            None => Ok(()),
            Some(Scaled { name, mean, deviation }) => Err(format!(
                "column `{name}` cannot have a mean of {mean:?} and a deviation of {deviation:?}"
            )),
        }
    }

    /// Learns means and deviations of all columns of numbers.
    pub(crate) fn learn(&mut self, data: &Sequences) {
        let units = data.columns.iter().flat_map(|column| match column {
            Column::Numbers { size, values } => (0..*size).map(|unit| (unit, *size, &values[..])).collect(),
            _ => Vec::new(),
        });
        for (scaled, (unit, size, values)) in self.inputs.iter_mut().chain(&mut self.targets).zip(units) {
            let known =
                || values.iter().skip(unit).step_by(size).map(|&x| f64::from(x)).filter(|x| x.is_finite());
            let count = known().count().max(1) as f64;
            let mean = known().sum::<f64>() / count;
            let deviation = (known().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count).sqrt();
            scaled.mean = mean;
            // What is always the same is 0 to the network, but for rounding.
            scaled.deviation = if deviation > 1e-7 * mean.abs() { deviation } else { 1.0 };
        }
    }

    /// Makes of a table's values what the network reads. An input that is missing, which is NaN, stays as it was in the frame before
    /// in its sequence, and is the mean where there is none; a frame with a target that is missing does not count.
    pub(crate) fn apply(&self, data: &mut Sequences) {
        let starts = data.starts.clone();
        let begins = |frame: usize| starts.binary_search(&frame).is_ok();
        let last = data.columns.len().saturating_sub(1);
        let scales: Vec<&Scaled> = self.inputs.iter().chain(&self.targets).collect();
        let mut first = 0;
        let mut missing = vec![false; data.frames];
        for (place, column) in data.columns.iter_mut().enumerate() {
            let Column::Numbers { size, values } = column else { continue };
            let size = *size;
            for (unit, scale) in (0..size).zip(scales.iter().skip(first)) {
                let mut before = 0.0;
                for frame in 0..values.len() / size.max(1) {
                    let x = &mut values[frame * size + unit];
                    let scaled = scale.scale(f64::from(*x)) as f32;
                    if place == last {
                        missing[frame] |= x.is_nan();
                        *x = scaled;
                        continue;
                    }
                    if begins(frame) {
                        before = 0.0;
                    }
                    if !x.is_nan() {
                        before = scaled;
                    }
                    *x = before;
                }
            }
            first += size;
        }
        if missing.contains(&true) {
            let mask = data.loss_mask.get_or_insert_with(|| vec![true; missing.len()]);
            mask.iter_mut().zip(&missing).for_each(|(counts, missing)| *counts &= !missing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(inputs: &[f32], targets: &[f32], starts: &[usize]) -> Sequences {
        let column = |values: &[f32]| Column::Numbers { size: 1, values: values.to_vec() };
        Sequences {
            columns: vec![column(inputs), column(targets)],
            starts: starts.to_vec(),
            loss_mask: None,
            frames: inputs.len(),
        }
    }

    fn preparation() -> Preparation {
        Preparation {
            inputs: vec![Scaled::plain("x")],
            targets: vec![Scaled::plain("t")],
            ..Preparation::default()
        }
    }

    #[test]
    fn means_and_deviations_are_those_of_known_values() {
        let mut found = preparation();
        found.learn(&table(&[1.0, f32::NAN, 5.0], &[7.0, 7.0, 7.0], &[0]));
        assert_eq!((found.inputs[0].mean, found.inputs[0].deviation), (3.0, 2.0));
        // What never changes is only moved.
        assert_eq!((found.targets[0].mean, found.targets[0].deviation), (7.0, 1.0));
        assert_eq!(found.inputs[0].unscale(found.inputs[0].scale(1.25)), 1.25);
    }

    #[test]
    fn what_no_data_has_is_refused() {
        preparation().check().unwrap();
        for (mean, deviation) in
            [(f64::NAN, 1.0), (0.0, 0.0), (0.0, -1.0), (f64::INFINITY, 1.0), (0.0, f64::NAN)]
        {
            let targets = vec![Scaled { name: "t".into(), mean, deviation }];
            let error = Preparation { targets, ..preparation() }.check().unwrap_err();
            assert!(error.starts_with("column `t` cannot have a mean of"), "{error}");
        }
        let classes = vec!["a".into(), "b".into(), "a".into()];
        Preparation { classes, ..preparation() }.check().unwrap_err();
    }

    #[test]
    fn missing_inputs_stay_as_they_were_and_missing_targets_do_not_count() {
        let nan = f32::NAN;
        let mut data = table(&[nan, 2.0, nan, nan, 4.0], &[1.0, nan, 3.0, 4.0, 5.0], &[0, 3]);
        let mut found = preparation();
        found.inputs[0] = Scaled { name: "x".into(), mean: 1.0, deviation: 2.0 };
        found.apply(&mut data);
        assert_eq!(data.columns[0], Column::Numbers { size: 1, values: vec![0.0, 0.5, 0.5, 0.0, 1.5] });
        assert_eq!(data.loss_mask, Some(vec![true, false, true, true, true]));
    }
}

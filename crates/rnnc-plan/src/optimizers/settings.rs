//! An optimizer with its settings, and what is refused of them.

use super::rule::Setting;
use super::{MOST_VALUES, Optimizer};
use thiserror::Error;

/// An optimizer with the values of its settings.
///
/// ```
/// use rnnc_plan::{Optimizer, OptimizerSettings};
/// let sgd = OptimizerSettings::new(Optimizer::Sgd).with("momentum", &[0.9])?;
/// assert_eq!(sgd.get("momentum"), Some(&[0.9][..]));
/// assert_eq!(sgd.get("nesterov"), Some(&[0.0][..]));
/// # Ok::<(), rnnc_plan::SettingError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerSettings {
    optimizer: Optimizer,
    /// Those of all settings in the rule's order; 0 after the last.
    values: [f64; MOST_VALUES],
}

/// What is refused of settings.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum SettingError {
    /// A value outside its bounds.
    #[error("{what} must be {expected}, not {found:?}")]
    Bounds {
        /// Of what.
        what: &'static str,
        /// The bounds.
        expected: &'static str,
        /// What was given.
        found: f64,
    },
    /// Values that do not go together.
    #[error("{0}")]
    Conflict(&'static str),
    /// A setting of another optimizer, or of none, or another number of values.
    #[error("optimizer `{optimizer}` has no setting `{name}` of {values} values; it has {known}")]
    Unknown {
        /// Whose it should be.
        optimizer: &'static str,
        /// Its name.
        name: String,
        /// How many values were given.
        values: usize,
        /// The settings that there are.
        known: String,
    },
    /// An update of another optimizer than that for which the executor has slots.
    #[error("the executor was set up for optimizer `{expected}`, and the update is one of `{found}`")]
    Optimizer {
        /// [`ExecutionConfig::optimizer`](crate::ExecutionConfig::optimizer).
        expected: &'static str,
        /// What was given.
        found: &'static str,
    },
}

impl OptimizerSettings {
    /// All settings as they are if they are left out.
    pub fn new(optimizer: Optimizer) -> OptimizerSettings {
        let mut values = [0.0; MOST_VALUES];
        let defaults = optimizer.settings().iter().flat_map(|setting| setting.default);
        values.iter_mut().zip(defaults).for_each(|(value, default)| *value = *default);
        OptimizerSettings { optimizer, values }
    }

    /// Which optimizer it is.
    pub fn optimizer(&self) -> Optimizer {
        self.optimizer
    }

    /// The same with other values of a setting. Whether they lie in their bounds, [`check`](OptimizerSettings::check) says.
    ///
    /// # Errors
    /// [`SettingError::Unknown`].
    pub fn with(mut self, name: &str, values: &[f64]) -> Result<OptimizerSettings, SettingError> {
        let mut place = 0;
        for setting in self.optimizer.settings() {
            let end = place + setting.default.len();
            if setting.name == name && setting.default.len() == values.len() {
                self.values[place..end].copy_from_slice(values);
                return Ok(self);
            }
            place = end;
        }
        let known: Vec<String> = self.each().map(|(s, v)| format!("{} = {}", s.name, s.written(v))).collect();
        Err(SettingError::Unknown {
            optimizer: self.optimizer.name(),
            name: name.into(),
            values: values.len(),
            known: known.join(", "),
        })
    }

    /// The values of a setting, if there is one of that name.
    pub fn get(&self, name: &str) -> Option<&[f64]> {
        self.each().find(|(setting, _)| setting.name == name).map(|(_, values)| values)
    }

    /// All settings with their values.
    pub fn each(&self) -> impl Iterator<Item = (&'static Setting, &[f64])> {
        let mut rest = &self.values[..];
        self.optimizer.settings().iter().map(move |setting| {
            // There are as many values as defaults.
            let (own, behind) = rest.split_at(setting.default.len());
            rest = behind;
            (setting, own)
        })
    }

    /// Refuses values out of their bounds, and values that do not go together.
    ///
    /// # Errors
    /// The first that is.
    pub fn check(&self) -> Result<(), SettingError> {
        for (Setting { name, bounds, .. }, values) in self.each() {
            if let Some(&found) = values.iter().find(|&&value| !(bounds.allows)(value)) {
                return Err(SettingError::Bounds { what: name, expected: bounds.expected, found });
            }
        }
        self.optimizer.conflict(&self.values).map_or(Ok(()), |conflict| Err(SettingError::Conflict(conflict)))
    }

    /// The numbers of a step (counted from 1), one for each of [`Optimizer::numbers`]; 0 after the last.
    pub fn at_step(&self, learning_rate: f64, step: u64) -> [f64; super::MOST_NUMBERS] {
        self.optimizer.at_step(&self.values, learning_rate, step)
    }
}

impl Default for OptimizerSettings {
    fn default() -> OptimizerSettings {
        OptimizerSettings::new(Optimizer::default())
    }
}

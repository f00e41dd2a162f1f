//! Optimizers: one file each, written as a [`Rule`] over any kind of number. The reference runs it in f64, the CPU compiles it for
//! its lanes, CUDA prints it.
//!
//! To add one, write its file and name it in the list below: `train.toml` has it under its name, all executors run it, checkpoints
//! keep its slots, and the suite checks it.

mod rule;
mod settings;

pub use rule::{Bounds, Rule, Setting, SettingKind, Slot, StepNumber};
pub use settings::{OptimizerSettings, SettingError};

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};
use std::array;

/// An optimizer has at most so many slots.
pub const MOST_SLOTS: usize = 4;
/// All its settings have at most so many values.
pub const MOST_VALUES: usize = 8;
/// A step has at most so many numbers.
pub const MOST_NUMBERS: usize = 12;

/// Something that is compiled for each optimizer: see [`Optimizer::visit`].
pub trait Visitor {
    /// What comes of it.
    type Output;
    /// Does it.
    fn visit<R: Rule<S, V, K>, const S: usize, const V: usize, const K: usize>(self) -> Self::Output;
}

/// The first so many of some numbers.
#[inline(always)]
pub fn first<T: Copy, const N: usize, const MOST: usize>(numbers: &[T; MOST]) -> [T; N] {
    const { assert!(N <= MOST) };
    array::from_fn(|place| numbers[place])
}

/// What a rule says of itself.
struct About {
    name: &'static str,
    synonyms: &'static [&'static str],
    slots: &'static [Slot],
    settings: &'static [Setting],
    numbers: &'static [StepNumber],
}

impl About {
    const fn of<R: Rule<S, V, K>, const S: usize, const V: usize, const K: usize>() -> About {
        const {
            let (mut values, mut place) = (0, 0);
            while place < R::SETTINGS.len() {
                values += R::SETTINGS[place].default.len();
                place += 1;
            }
            assert!(values == V, "the settings have as many values as the rule says");
            assert!(S <= MOST_SLOTS && V <= MOST_VALUES && K <= MOST_NUMBERS);
        }
        About {
            name: R::NAME,
            synonyms: R::SYNONYMS,
            slots: const { &R::SLOTS },
            settings: R::SETTINGS,
            numbers: const { &R::NUMBERS },
        }
    }
}

/// Declares the files, and the enum of their rules.
macro_rules! optimizers {
    ($($file:ident :: $rule:ident,)*) => {
        $(mod $file;)*

        /// An optimizer, without its settings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // each is the optimizer of that name
        pub enum Optimizer {
            $($rule,)*
        }

        impl Optimizer {
            /// All of them.
            pub const ALL: [Optimizer; [$(Optimizer::$rule),*].len()] = [$(Optimizer::$rule),*];
            /// Their names.
            pub const NAMES: &[&str] = &[$(Optimizer::$rule.about().name),*];

            const fn about(self) -> About {
                match self {
                    $(Optimizer::$rule => About::of::<$file::$rule, _, _, _>(),)*
                }
            }

            /// Does what is compiled for its rule.
            #[inline(always)]
            pub fn visit<V: Visitor>(self, visitor: V) -> V::Output {
                match self {
                    $(Optimizer::$rule => visitor.visit::<$file::$rule, _, _, _>(),)*
                }
            }
        }
    };
}

optimizers! {
    adam::Adam,
    adamw::AdamW,
    sgd::Sgd,
    rmsprop::RmsProp,
    adadelta::AdaDelta,
    lion::Lion,
}

impl Optimizer {
    /// The name in `train.toml` and in checkpoints.
    pub const fn name(self) -> &'static str {
        self.about().name
    }

    /// What it is called elsewhere, in small letters without signs.
    pub const fn synonyms(self) -> &'static [&'static str] {
        self.about().synonyms
    }

    /// What is kept of each weight: [`ParameterArray::Slot`](crate::ParameterArray::Slot) counts them in this order.
    pub const fn slots(self) -> &'static [Slot] {
        self.about().slots
    }

    /// What users set.
    pub const fn settings(self) -> &'static [Setting] {
        self.about().settings
    }

    /// The numbers of a step.
    pub const fn numbers(self) -> &'static [StepNumber] {
        self.about().numbers
    }

    /// The optimizer of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Optimizer> {
        Optimizer::ALL.into_iter().find(|optimizer| optimizer.name() == name)
    }

    fn conflict(self, values: &[f64; MOST_VALUES]) -> Option<&'static str> {
        struct Conflict<'a>(&'a [f64; MOST_VALUES]);
        impl Visitor for Conflict<'_> {
            type Output = Option<&'static str>;

            fn visit<R: Rule<S, V, K>, const S: usize, const V: usize, const K: usize>(self) -> Self::Output {
                R::conflict(first(self.0))
            }
        }
        self.visit(Conflict(values))
    }

    fn at_step(self, values: &[f64; MOST_VALUES], learning_rate: f64, step: u64) -> [f64; MOST_NUMBERS] {
        struct AtStep<'a>(&'a [f64; MOST_VALUES], f64, u64);
        impl Visitor for AtStep<'_> {
            type Output = [f64; MOST_NUMBERS];

            fn visit<R: Rule<S, V, K>, const S: usize, const V: usize, const K: usize>(self) -> Self::Output {
                let numbers = R::numbers(first(self.0), self.1, self.2);
                array::from_fn(|place| numbers.get(place).copied().unwrap_or(0.0))
            }
        }
        self.visit(AtStep(values, learning_rate, step))
    }
}

/// Adam.
impl Default for Optimizer {
    fn default() -> Optimizer {
        Optimizer::Adam
    }
}

/// By its name.
impl Serialize for Optimizer {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

/// By its name.
impl<'de> Deserialize<'de> for Optimizer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Optimizer, D::Error> {
        let name = String::deserialize(from)?;
        Optimizer::from_name(&name).ok_or_else(|| D::Error::unknown_variant(&name, Optimizer::NAMES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// One of each optimizer, and one with each number of single precision's least positive one or 0.99999994.
    fn extremes() -> Vec<OptimizerSettings> {
        let mut all = Vec::new();
        for optimizer in Optimizer::ALL {
            let plain = OptimizerSettings::new(optimizer);
            all.push(plain);
            for extreme in [0.0, f64::from(f32::MIN_POSITIVE), 0.99999994, f64::from(f32::MAX)] {
                for setting in optimizer.settings() {
                    let with = plain.with(setting.name, &vec![extreme; setting.default.len()]).unwrap();
                    all.extend(with.check().is_ok().then_some(with));
                }
            }
        }
        all
    }

    #[test]
    fn names_lead_back_to_their_optimizers_and_synonyms_are_no_names() {
        for optimizer in Optimizer::ALL {
            assert_eq!(Optimizer::from_name(optimizer.name()), Some(optimizer));
            for synonym in optimizer.synonyms() {
                assert_eq!(Optimizer::from_name(synonym), None);
            }
        }
        assert_eq!(Optimizer::default().name(), "adam");
    }

    #[test]
    fn settings_and_slots_of_one_name_are_alike_in_all_optimizers() {
        let (mut settings, mut slots) = (BTreeMap::new(), BTreeMap::new());
        for optimizer in Optimizer::ALL {
            for Setting { name, kind, default, .. } in optimizer.settings() {
                assert_eq!(
                    settings.insert(name, (kind, default.len())).unwrap_or((kind, default.len())),
                    (kind, default.len())
                );
            }
            for slot in optimizer.slots() {
                assert_eq!(slots.insert(slot.name, *slot).unwrap_or(*slot), *slot);
            }
        }
    }

    #[test]
    fn every_default_is_taken_and_every_value_out_of_bounds_is_refused_by_name() {
        for optimizer in Optimizer::ALL {
            let plain = OptimizerSettings::new(optimizer);
            plain.check().unwrap();
            for setting in optimizer.settings() {
                for place in 0..setting.default.len() {
                    for wrong in [f64::NAN, f64::INFINITY, -1.0, -1e-300, 1e39] {
                        let mut values = setting.default.to_vec();
                        values[place] = wrong;
                        let error =
                            plain.with(setting.name, &values).unwrap().check().unwrap_err().to_string();
                        assert!(error.starts_with(&format!("{} must be ", setting.name)), "{error}");
                        assert!(error.ends_with(&format!(", not {wrong:?}")), "{error}");
                    }
                }
            }
        }
        let adam = OptimizerSettings::new(Optimizer::Adam);
        for (name, values) in [("betas", [0.9, 1.0]), ("betas", [0.9, 1.0 - 1e-9])] {
            adam.with(name, &values).unwrap().check().unwrap_err();
        }
        for epsilon in [0.0, 1e-50] {
            adam.with("epsilon", &[epsilon]).unwrap().check().unwrap_err();
        }
    }

    #[test]
    fn a_setting_of_another_optimizer_is_refused_with_those_that_there_are() {
        let adam = OptimizerSettings::new(Optimizer::Adam);
        assert_eq!(
            adam.with("momentum", &[0.9]).unwrap_err().to_string(),
            "optimizer `adam` has no setting `momentum` of 1 values; it has betas = [0.9, 0.999], epsilon = 1e-8"
        );
        adam.with("betas", &[0.9]).unwrap_err();
    }

    #[test]
    fn nesterov_without_momentum_would_be_nothing_and_is_refused() {
        let nesterov = OptimizerSettings::new(Optimizer::Sgd).with("nesterov", &[1.0]).unwrap();
        assert_eq!(nesterov.check().unwrap_err().to_string(), "`nesterov` needs a `momentum` of more than 0");
        nesterov.with("momentum", &[0.5]).unwrap().check().unwrap();
    }

    #[test]
    fn both_corrections_of_adams_start_are_in_the_rate_and_epsilon() {
        let adam = OptimizerSettings::new(Optimizer::Adam).with("betas", &[0.5, 0.75]).unwrap();
        let adam = adam.with("epsilon", &[0.25]).unwrap();
        let of = |step| {
            let [rate, .., epsilon] = first::<_, 6, _>(&adam.at_step(0.5, step));
            (rate, epsilon)
        };
        assert_eq!(of(1), (0.5 * 0.5 / 0.5, 0.25 * 0.5));
        assert_eq!(of(u64::MAX), (0.5, 0.25));
    }

    #[test]
    fn settings_that_are_taken_make_numbers_that_are_finite_in_single_precision_and_divisors_above_0() {
        for settings in extremes() {
            for learning_rate in [0.0, 1e-300, 3.4e38] {
                for step in [1, 2, 1000, u64::MAX] {
                    let found = settings.at_step(learning_rate, step);
                    for (number, found) in settings.optimizer().numbers().iter().zip(found) {
                        let single = number.in_single(found);
                        assert!(single.is_finite(), "{settings:?}: {} is {single}", number.name);
                        assert!(
                            !number.is_divisor || single.is_normal(),
                            "{settings:?}: {} is {single}",
                            number.name
                        );
                    }
                }
            }
        }
    }
}

//! What must be known of an optimizer: its [`Rule`], and what rules are written with.

use rnnc_graph::Number;

/// An optimizer of S slots, V values of settings and K numbers of a step.
///
/// All gradients of an update are cut to the norm that the update asks for before a rule sees them.
pub trait Rule<const S: usize, const V: usize, const K: usize> {
    /// The name in `train.toml` and in checkpoints.
    const NAME: &'static str;
    /// What it is called elsewhere, in small letters without signs.
    const SYNONYMS: &'static [&'static str] = &[];
    /// What is kept of each weight, beginning as 0.
    const SLOTS: [Slot; S];
    /// What users set. All their values, in this order, are the V values.
    const SETTINGS: &'static [Setting];
    /// The numbers of a step, the same for all weights.
    const NUMBERS: [StepNumber; K];

    /// What is wrong with values that each lie in their bounds, but do not go together: "`a` needs `b`".
    fn conflict(_values: [f64; V]) -> Option<&'static str> {
        None
    }

    /// What the settings become at a step, counted from 1.
    fn numbers(values: [f64; V], learning_rate: f64, step: u64) -> [f64; K];

    /// One step of one weight: what it becomes, and what its slots become. Marked `#[inline(always)]`: on a CPU it becomes part of
    /// loops for each instruction set.
    fn step<N: Number>(weight: N, gradient: N, slots: [N; S], numbers: [N; K]) -> (N, [N; S]);
}

/// A number that an optimizer keeps of each weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The name in checkpoints: `NAME/WEIGHT`. No other optimizer may mean something else by it.
    pub name: &'static str,
    /// Whether it is never less than 0.
    pub is_magnitude: bool,
}

impl Slot {
    /// One of any number.
    pub const fn any(name: &'static str) -> Slot {
        Slot { name, is_magnitude: false }
    }

    /// One that is never less than 0.
    pub const fn magnitude(name: &'static str) -> Slot {
        Slot { name, is_magnitude: true }
    }
}

/// A number of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepNumber {
    /// Its name in generated code.
    pub name: &'static str,
    /// Whether it must not become 0 or subnormal: where gradients are and were 0, it is all that stands below the line.
    pub is_divisor: bool,
}

impl StepNumber {
    /// A number that may become 0 where single precision holds nothing so small.
    pub const fn any(name: &'static str) -> StepNumber {
        StepNumber { name, is_divisor: false }
    }

    /// A number that is divided by.
    pub const fn divisor(name: &'static str) -> StepNumber {
        StepNumber { name, is_divisor: true }
    }

    /// The number in single precision: finite if it is one.
    pub fn in_single(self, number: f64) -> f32 {
        let most = f64::from(f32::MAX);
        let number = number.clamp(-most, most);
        if self.is_divisor { number.max(f64::from(f32::MIN_POSITIVE)) as f32 } else { number as f32 }
    }
}

/// How a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingKind {
    /// `epsilon = 1e-8`
    Number,
    /// `betas = [0.9, 0.999]`
    List,
    /// `nesterov = true`: its value is 1, or 0.
    Flag,
}

/// A setting of an optimizer. Two optimizers may have one of the same name: then it is of the same kind, and has as many values.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The name in `train.toml`.
    pub name: &'static str,
    /// How it is written.
    pub kind: SettingKind,
    /// Its values if it is left out.
    pub default: &'static [f64],
    /// Of each value.
    pub bounds: Bounds,
}

impl Setting {
    /// A number; its default is one value.
    pub const fn number(name: &'static str, default: &'static [f64; 1], bounds: Bounds) -> Setting {
        Setting { name, kind: SettingKind::Number, default, bounds }
    }

    /// A list of as many numbers as its default has.
    pub const fn list(name: &'static str, default: &'static [f64], bounds: Bounds) -> Setting {
        Setting { name, kind: SettingKind::List, default, bounds }
    }

    /// Something that is on or, if it is left out, off.
    pub const fn flag(name: &'static str) -> Setting {
        Setting { name, kind: SettingKind::Flag, default: &[0.0], bounds: Bounds::FLAG }
    }

    /// Its values as `train.toml` has them.
    pub fn written(&self, values: &[f64]) -> String {
        match (self.kind, values) {
            (SettingKind::Number, [number]) => format!("{number:?}"),
            (SettingKind::Flag, [flag]) => (*flag != 0.0).to_string(),
            _ => format!("{values:?}"),
        }
    }
}

/// The bounds of a setting in single precision, in words and as a test.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// What it must be.
    pub expected: &'static str,
    /// Whether a number is.
    pub allows: fn(f64) -> bool,
}

impl Bounds {
    /// Of the learning rate of one update, which schedules may bring to 0; and of other numbers that may be 0.
    pub const RATE: Bounds = Bounds {
        expected: "at least 0 and at most 3.4e38",
        allows: |x| (0.0..=f64::from(f32::MAX)).contains(&x),
    };
    /// Of numbers that single precision must be able to hold: below, it has fewer digits or none.
    pub const POSITIVE: Bounds = Bounds {
        expected: "at least 1.2e-38 and at most 3.4e38, as single precision is",
        allows: |x| (f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX)).contains(&x),
    };
    /// Of the decay of a mean. What rounds to 1 would never let go of the first gradient.
    pub const DECAY: Bounds = Bounds {
        expected: "at least 0 and less than 1 (at most 0.99999997, for single precision to tell it from 1)",
        allows: |x| x >= 0.0 && (x as f32) < 1.0,
    };
    /// Of what is on or off.
    pub const FLAG: Bounds = Bounds { expected: "0 or 1", allows: |x| x == 0.0 || x == 1.0 };
}

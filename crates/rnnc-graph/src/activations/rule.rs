//! What must be known of an activation: its [`Rule`].

use super::number::Number;

/// What the derivative of an activation is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DerivativeReads {
    /// The value a = f(x): nothing but the layer itself needs to be saved.
    Value,
    /// The argument x.
    Argument,
}

/// An activation. Both functions are marked `#[inline(always)]`: on a CPU they become part of loops for each instruction set.
pub trait Rule {
    /// The name in the language.
    const NAME: &str;
    /// What [`Rule::derivative`] takes. The value saves memory; it must say enough after rounding: the suite asks for a
    /// derivative within 1e-6 of itself.
    const READS: DerivativeReads;
    /// Operations that it counts as.
    const FLOPS: u64 = 10;
    /// Its derivative's.
    const DERIVATIVE_FLOPS: u64 = Self::FLOPS;
    /// Whether it goes in steps: its derivative is 0 wherever there is one, and no error flows back through it.
    const FLAT: bool = false;
    /// Whether its derivative is 0 or 1 everywhere: it says where errors pass, and even an infinite one goes no further where it
    /// is 0. Of NaN it is 1.
    const MASKS: bool = false;
    /// Whether its derivative is that of another function, which training takes in its place. The language calls it by `step`.
    const SURROGATE: bool = false;
    /// Where tests look at it.
    const DOMAIN: (f64, f64) = (-5.03, 5.0);

    /// f(x). NaN of NaN.
    fn value<N: Number>(x: N) -> N;
    /// f', of what [`Rule::READS`] says. NaN of NaN, unless it is constant or masks. At kinks as PyTorch has it.
    fn derivative<N: Number>(v: N) -> N;
}

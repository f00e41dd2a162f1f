//! The elementwise functions that a layer may apply, and the derivatives that its adjoint needs: one file each, written as a
//! [`Rule`] over any kind of [`Number`].
//!
//! To add one, write its file and name it in the list below: the language finds it by its name, all executors compute it, and
//! the suite checks it.

mod number;
mod rule;

pub use number::Number;
pub use rule::{DerivativeReads, Rule};
use std::fmt;
use std::marker::PhantomData;

/// A function that is known where code is compiled: the value of a rule, or its derivative.
pub trait Formula {
    /// The function's value. To be inlined.
    fn at<N: Number>(v: N) -> N;
}

struct Value<R>(PhantomData<R>);

impl<R: Rule> Formula for Value<R> {
    #[inline(always)]
    fn at<N: Number>(v: N) -> N {
        R::value(v)
    }
}

struct Derivative<R>(PhantomData<R>);

impl<R: Rule> Formula for Derivative<R> {
    #[inline(always)]
    fn at<N: Number>(v: N) -> N {
        R::derivative(v)
    }
}

/// Something that is compiled for each formula: see [`Function::visit`].
pub trait Visitor {
    /// What comes of it.
    type Output;
    /// Does it.
    fn visit<F: Formula>(self) -> Self::Output;
}

/// Declares the files, and the enum of their rules.
macro_rules! activations {
    ($($file:ident :: $rule:ident,)*) => {
        $(mod $file;)*

        /// An activation of the language, with its constants: `leaky_relu` has slope 0.01, `elu` alpha 1, and `gelu` is the
        /// exact one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // each is the function of that name
        pub enum Activation {
            $($rule,)*
        }

        impl Activation {
            /// All of them, in the order of the language's reference.
            pub const ALL: [Activation; [$(Activation::$rule),*].len()] = [$(Activation::$rule),*];

            /// The name in the language.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Activation::$rule => $file::$rule::NAME,)*
                }
            }

            /// What [`Activation::derivative`] takes.
            pub const fn derivative_reads(self) -> DerivativeReads {
                match self {
                    $(Activation::$rule => $file::$rule::READS,)*
                }
            }

            /// Whether it goes in steps: no error flows back through it.
            pub const fn is_flat(self) -> bool {
                match self {
                    $(Activation::$rule => $file::$rule::FLAT,)*
                }
            }

            /// Whether its derivative is 0 or 1 everywhere, and so says where errors pass.
            pub const fn masks_errors(self) -> bool {
                match self {
                    $(Activation::$rule => $file::$rule::MASKS,)*
                }
            }

            /// Whether its derivative is that of another function.
            pub const fn is_surrogate(self) -> bool {
                match self {
                    $(Activation::$rule => $file::$rule::SURROGATE,)*
                }
            }

            const fn flops(self) -> (u64, u64) {
                match self {
                    $(Activation::$rule => ($file::$rule::FLOPS, $file::$rule::DERIVATIVE_FLOPS),)*
                }
            }

            /// Where tests look at it.
            pub const fn domain(self) -> (f64, f64) {
                match self {
                    $(Activation::$rule => $file::$rule::DOMAIN,)*
                }
            }

            /// f(x)
            pub fn apply<N: Number>(self, x: N) -> N {
                match self {
                    $(Activation::$rule => $file::$rule::value(x),)*
                }
            }

            /// f', as a function of the value or of the argument (see [`Activation::derivative_reads`]); NaN of NaN.
            pub fn derivative<N: Number>(self, v: N) -> N {
                match self {
                    $(Activation::$rule => $file::$rule::derivative(v),)*
                }
            }
        }

        impl Function {
            /// Does what is compiled for its formula.
            #[inline(always)]
            pub fn visit<V: Visitor>(self, visitor: V) -> V::Output {
                match self {
                    $(
                        Function::Apply(Activation::$rule) => visitor.visit::<Value<$file::$rule>>(),
                        Function::Derivative(Activation::$rule) => visitor.visit::<Derivative<$file::$rule>>(),
                    )*
                }
            }
        }
    };
}

activations! {
    identity::Identity,
    sigmoid::Sigmoid,
    tanh::Tanh,
    relu::Relu,
    leaky_relu::LeakyRelu,
    elu::Elu,
    softplus::Softplus,
    softsign::Softsign,
    gelu::Gelu,
    silu::Silu,
    exp::Exp,
    log::Log,
    sqrt::Sqrt,
    abs::Abs,
    square::Square,
    sin::Sin,
    cos::Cos,
    expm1::Expm1,
    log1p::Log1p,
    sinh::Sinh,
    cosh::Cosh,
    atan::Atan,
    erf::Erf,
    floor::Floor,
    round::Round,
    sign::Sign,
    step_atan::StepAtan,
    step_sigmoid::StepSigmoid,
    step_triangle::StepTriangle,
    hard_sigmoid::HardSigmoid,
    hard_tanh::HardTanh,
}

impl Activation {
    /// Those that the language calls by their names.
    pub fn called() -> impl Iterator<Item = Activation> {
        Activation::ALL.into_iter().filter(|&f| f != Activation::Identity && !f.is_surrogate())
    }

    /// The activation that the language calls so, if there is one.
    pub fn from_name(name: &str) -> Option<Activation> {
        Activation::called().find(|f| f.name() == name)
    }
}

/// An elementwise function: an activation, or the derivative of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// f
    Apply(Activation),
    /// f', as a function of what [`Activation::derivative_reads`] says.
    Derivative(Activation),
}

impl Function {
    /// The function that changes nothing.
    pub const IDENTITY: Function = Function::Apply(Activation::Identity);

    /// Whether it goes in steps: no error flows back through it.
    pub fn is_flat(self) -> bool {
        match self {
            Function::Apply(f) => f.is_flat(),
            Function::Derivative(_) => false,
        }
    }

    /// Operations that it counts as.
    pub fn flops(self) -> u64 {
        match self {
            Function::Apply(f) => f.flops().0,
            Function::Derivative(f) => f.flops().1,
        }
    }

    /// The value of the function at `x`.
    pub fn apply<N: Number>(self, x: N) -> N {
        match self {
            Function::Apply(f) => f.apply(x),
            Function::Derivative(f) => f.derivative(x),
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Function::Apply(f) => out.write_str(f.name()),
            Function::Derivative(f) => write!(out, "derivative of {}", f.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_derivative_is_that_of_its_function() {
        for f in Activation::ALL.into_iter().filter(|f| !f.is_surrogate()) {
            let (low, high) = f.domain();
            // Steps of 0.1703 miss every kink.
            for x in (0..).map(|i| low + 0.1703 * f64::from(i)).take_while(|&x| x < high) {
                let h = 1e-6;
                let numeric = (f.apply(x + h) - f.apply(x - h)) / (2.0 * h);
                let exact = match f.derivative_reads() {
                    DerivativeReads::Value => f.derivative(f.apply(x)),
                    DerivativeReads::Argument => f.derivative(x),
                };
                assert!((numeric - exact).abs() < 1e-8 * (1.0 + exact.abs()) * 10.0, "{} at {x}", f.name());
            }
        }
    }

    #[test]
    fn nan_passes_through_every_function() {
        for f in Activation::ALL {
            assert!(f.apply(f64::NAN).is_nan(), "{}", f.name());
            assert!(
                f == Activation::Identity
                    || f.is_flat()
                    || f.masks_errors()
                    || f.derivative(f64::NAN).is_nan(),
                "derivative of {}",
                f.name()
            );
        }
    }

    #[test]
    fn infinities_give_limits() {
        use Activation::*;
        for (f, below, above) in [
            (Sigmoid, (0.0, 0.0), (1.0, 0.0)),
            (Tanh, (-1.0, 0.0), (1.0, 0.0)),
            (Elu, (-1.0, 0.0), (f64::INFINITY, 1.0)),
            (Softplus, (0.0, 0.0), (f64::INFINITY, 1.0)),
            (Softsign, (-1.0, 0.0), (1.0, 0.0)),
            (Gelu, (0.0, 0.0), (f64::INFINITY, 1.0)),
            (Silu, (0.0, 0.0), (f64::INFINITY, 1.0)),
            (HardSigmoid, (0.0, 0.0), (1.0, 0.0)),
        ] {
            for (x, (value, derivative)) in [(f64::NEG_INFINITY, below), (f64::INFINITY, above)] {
                assert_eq!(f.apply(x), value, "{} of {x}", f.name());
                let read = if f.derivative_reads() == DerivativeReads::Value { value } else { x };
                assert_eq!(f.derivative(read), derivative, "derivative of {} at {x}", f.name());
            }
        }
    }

    #[test]
    fn names_lead_back_to_their_functions() {
        for f in Activation::called() {
            assert_eq!(Activation::from_name(f.name()), Some(f));
        }
        assert_eq!(Activation::from_name("identity"), None);
    }
}

//! The elementwise functions a layer may apply, and the slopes that its adjoint needs.
//!
//! Definitions here are in f64 and are the truth that every executor is compared with. At kinks they do as
//! PyTorch does.

use std::fmt;

/// An activation of the language, with its constants: `leaky_relu` has slope 0.01, `elu` alpha 1, and `gelu` is the
/// exact one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // each is the function of that name
pub enum Activation {
    Identity,
    Sigmoid,
    Tanh,
    Relu,
    LeakyRelu,
    Elu,
    Softplus,
    Softsign,
    Gelu,
    Silu,
    Exp,
    Log,
    Sqrt,
    Abs,
    Square,
    Sin,
    Cos,
    HardSigmoid,
    HardTanh,
}

/// What the derivative of an activation is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlopeReads {
    /// The value a = f(s): nothing but the layer itself needs to be saved.
    Value,
    /// The argument s.
    Argument,
}

/// An elementwise function: an activation, or the derivative of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// f
    Apply(Activation),
    /// f', as a function of what [`Activation::slope_reads`] says.
    Slope(Activation),
}

impl Function {
    /// The function that changes nothing.
    pub const IDENTITY: Function = Function::Apply(Activation::Identity);

    /// The value of the function at `x`.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Function::Apply(f) => f.apply(x),
            Function::Slope(f) => f.slope(x),
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Function::Apply(f) => out.write_str(f.name()),
            Function::Slope(f) => write!(out, "slope of {}", f.name()),
        }
    }
}

impl Activation {
    /// All of them, in the order of the language's reference.
    pub const ALL: [Activation; 19] = {
        use Activation::*;
        [
            Identity,
            Sigmoid,
            Tanh,
            Relu,
            LeakyRelu,
            Elu,
            Softplus,
            Softsign,
            Gelu,
            Silu,
            Exp,
            Log,
            Sqrt,
            Abs,
            Square,
            Sin,
            Cos,
            HardSigmoid,
            HardTanh,
        ]
    };

    /// The name in the language.
    pub fn name(self) -> &'static str {
        use Activation::*;
        match self {
            Identity => "identity",
            Sigmoid => "sigmoid",
            Tanh => "tanh",
            Relu => "relu",
            LeakyRelu => "leaky_relu",
            Elu => "elu",
            Softplus => "softplus",
            Softsign => "softsign",
            Gelu => "gelu",
            Silu => "silu",
            Exp => "exp",
            Log => "log",
            Sqrt => "sqrt",
            Abs => "abs",
            Square => "square",
            Sin => "sin",
            Cos => "cos",
            HardSigmoid => "hard_sigmoid",
            HardTanh => "hard_tanh",
        }
    }

    /// The activation of that name, if there is one. `identity` is no word of the language.
    pub fn from_name(name: &str) -> Option<Activation> {
        Activation::ALL.into_iter().skip(1).find(|f| f.name() == name)
    }

    /// f(x)
    pub fn apply(self, x: f64) -> f64 {
        use Activation::*;
        match self {
            Identity => x,
            Sigmoid => sigmoid(x),
            Tanh => x.tanh(),
            // Written so that NaN passes through.
            Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            LeakyRelu => {
                if x < 0.0 {
                    0.01 * x
                } else {
                    x
                }
            }
            Elu => {
                if x > 0.0 {
                    x
                } else {
                    x.exp_m1()
                }
            }
            Softplus => {
                if x > 0.0 {
                    x + (-x).exp().ln_1p()
                } else {
                    x.exp().ln_1p()
                }
            }
            // Bounded where infinity over infinity, or times 0, would be no limit.
            Softsign => {
                let x = x.clamp(f64::MIN, f64::MAX);
                x / (1.0 + x.abs())
            }
            Gelu => {
                let x = x.clamp(-FAR, f64::INFINITY);
                0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
            }
            Silu => {
                let x = x.clamp(-FAR, f64::INFINITY);
                x * sigmoid(x)
            }
            Exp => x.exp(),
            Log => x.ln(),
            Sqrt => x.sqrt(),
            Abs => x.abs(),
            Square => x * x,
            Sin => x.sin(),
            Cos => x.cos(),
            HardSigmoid => ((x + 3.0) / 6.0).clamp(0.0, 1.0),
            HardTanh => x.clamp(-1.0, 1.0),
        }
    }

    /// What [`Activation::slope`] takes.
    pub fn slope_reads(self) -> SlopeReads {
        use Activation::*;
        match self {
            Identity | Sigmoid | Tanh | Relu | LeakyRelu | Softplus | Exp | Sqrt | HardTanh => {
                SlopeReads::Value
            }
            // Of a value that was rounded to -1, or to 1, too little could be told.
            Elu | HardSigmoid => SlopeReads::Argument,
            Softsign | Gelu | Silu | Log | Abs | Square | Sin | Cos => SlopeReads::Argument,
        }
    }

    /// f', as a function of the value or of the argument (see [`Activation::slope_reads`]); NaN of NaN.
    pub fn slope(self, v: f64) -> f64 {
        use Activation::*;
        if v.is_nan() && self != Identity {
            return v;
        }
        match self {
            Identity => 1.0,
            Sigmoid => v * (1.0 - v),
            Tanh => 1.0 - v * v,
            Relu => f64::from(v > 0.0),
            LeakyRelu => {
                if v > 0.0 {
                    1.0
                } else {
                    0.01
                }
            }
            Elu => {
                if v > 0.0 {
                    1.0
                } else {
                    v.exp()
                }
            }
            Softplus => -(-v).exp_m1(),
            Softsign => {
                let d = 1.0 + v.abs();
                1.0 / (d * d)
            }
            Gelu => {
                let v = v.clamp(-FAR, FAR);
                let density = (-0.5 * v * v).exp() / (2.0 * std::f64::consts::PI).sqrt();
                0.5 * libm::erfc(-v * std::f64::consts::FRAC_1_SQRT_2) + v * density
            }
            Silu => {
                let v = v.clamp(-FAR, FAR);
                sigmoid(v) * (1.0 + v * sigmoid(-v))
            }
            Exp => v,
            Log => 1.0 / v,
            Sqrt => 0.5 / v,
            Abs => {
                if v > 0.0 {
                    1.0
                } else if v < 0.0 {
                    -1.0
                } else {
                    0.0
                }
            }
            Square => 2.0 * v,
            Sin => v.cos(),
            Cos => -v.sin(),
            HardSigmoid => {
                if v > -3.0 && v < 3.0 {
                    1.0 / 6.0
                } else {
                    0.0
                }
            }
            HardTanh => f64::from(v > -1.0 && v < 1.0),
        }
    }
}

/// Past this, e^-x is 0, and infinity may be taken for it.
const FAR: f64 = 1e4;

fn sigmoid(x: f64) -> f64 {
    // The half that does not overflow; NaN takes the second.
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slope_is_the_derivative_of_its_function() {
        for f in Activation::ALL {
            for i in 0..60 {
                // 0.17 steps miss every kink.
                let x = match f {
                    Activation::Log | Activation::Sqrt => 0.05 + 0.17 * f64::from(i),
                    _ => -5.03 + 0.17 * f64::from(i),
                };
                let h = 1e-6;
                let numeric = (f.apply(x + h) - f.apply(x - h)) / (2.0 * h);
                let exact = match f.slope_reads() {
                    SlopeReads::Value => f.slope(f.apply(x)),
                    SlopeReads::Argument => f.slope(x),
                };
                assert!((numeric - exact).abs() < 1e-8 * (1.0 + exact.abs()) * 10.0, "{} at {x}", f.name());
            }
        }
    }

    #[test]
    fn nan_passes_through_every_function() {
        for f in Activation::ALL {
            assert!(f.apply(f64::NAN).is_nan(), "{}", f.name());
            assert!(f == Activation::Identity || f.slope(f64::NAN).is_nan(), "slope of {}", f.name());
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
            for (x, (value, slope)) in [(f64::NEG_INFINITY, below), (f64::INFINITY, above)] {
                assert_eq!(f.apply(x), value, "{} of {x}", f.name());
                let read = if f.slope_reads() == SlopeReads::Value { value } else { x };
                assert_eq!(f.slope(read), slope, "slope of {} at {x}", f.name());
            }
        }
    }

    #[test]
    fn names_lead_back_to_their_functions() {
        for f in Activation::ALL.into_iter().skip(1) {
            assert_eq!(Activation::from_name(f.name()), Some(f));
        }
        assert_eq!(Activation::from_name("identity"), None);
    }
}

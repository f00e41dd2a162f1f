//! Functions of two numbers, unit by unit, for which programs have an instruction. One formula each: the reference, the CPU's
//! kernels and CUDA's text are made of it.

use crate::activations::Number;

/// A function of two numbers that is known where code is compiled.
pub trait PairFormula {
    /// The function's value. To be inlined.
    fn at<N: Number>(a: N, b: N) -> N;
}

/// Something that is compiled for each function of two numbers: see [`Binary::visit`].
pub trait PairVisitor {
    /// What comes of it.
    type Output;
    /// Does it.
    fn visit<F: PairFormula>(self) -> Self::Output;
}

/// Declares the enum, and the formula of each of its variants.
macro_rules! binaries {
    ($($(#[doc = $doc:literal])+ $name:ident ($word:literal): |$a:ident, $b:ident| $value:expr;)*) => {
        /// A function of two numbers, a and b.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Binary {
            $($(#[doc = $doc])+ $name,)*
        }

        $(
            $(#[doc = $doc])+
            struct $name;

            impl PairFormula for $name {
                #[inline(always)]
                fn at<N: Number>($a: N, $b: N) -> N {
                    $value
                }
            }
        )*

        impl Binary {
            /// All of them.
            pub const ALL: [Binary; [$($word),*].len()] = [$(Binary::$name),*];

            /// A word for it, in generated code.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Binary::$name => $word,)*
                }
            }

            /// Does what is compiled for its formula.
            #[inline(always)]
            pub fn visit<V: PairVisitor>(self, visitor: V) -> V::Output {
                match self {
                    $(Binary::$name => visitor.visit::<$name>(),)*
                }
            }

            /// Its value.
            pub fn apply<N: Number>(self, a: N, b: N) -> N {
                match self {
                    $(Binary::$name => $name::at(a, b),)*
                }
            }
        }
    };
}

binaries! {
    /// a + b
    Add("add"): |a, b| a + b;
    /// a b
    Mul("mul"): |a, b| a * b;
    /// a / b
    Div("div"): |a, b| a / b;
    /// The larger; NaN if either is.
    // The inner choice is b where b is NaN, the outer a where a is.
    Max("max"): |a, b| N::choose(a.is_number(), N::choose(b.less(a), a, b), a);
    /// The smaller; NaN if either is.
    Min("min"): |a, b| N::choose(a.is_number(), N::choose(a.less(b), a, b), a);
    /// a where b is a number, and 0 where b is NaN.
    Known("known"): |a, b| N::choose(b.is_number(), a, N::constant(0.0));
    /// 1 where a > b, 1/2 where a = b, 0 where a < b; NaN if either is.
    Share("share"): |a, b| {
        let equal = N::choose(a.is_number(), N::choose(b.is_number(), N::constant(0.5), b), a);
        let below = N::choose(a.less(b), N::constant(0.0), equal);
        N::choose(b.less(a), N::constant(1.0), below)
    };
    /// 1 where a < b, else 0.
    Less("less"): |a, b| N::choose(a.less(b), N::constant(1.0), N::constant(0.0));
    /// 1 where a < b or a = b, else 0.
    AtMost("at_most"): |a, b| {
        let equal = N::choose(a.equal(b), N::constant(1.0), N::constant(0.0));
        N::choose(a.less(b), N::constant(1.0), equal)
    };
    /// 1 where a = b, else 0.
    Equal("equal"): |a, b| N::choose(a.equal(b), N::constant(1.0), N::constant(0.0));
    /// 0 where a = b, else 1.
    Unequal("unequal"): |a, b| N::choose(a.equal(b), N::constant(0.0), N::constant(1.0));
    /// a where b is not 0, else -0: what changes no number that it is added to.
    When("when"): |a, b| N::choose(b.equal(N::constant(0.0)), N::constant(-0.0), a);
    /// a where b is 0, else -0.
    Unless("unless"): |a, b| N::choose(b.equal(N::constant(0.0)), a, N::constant(-0.0));
    /// What a leaves when it is divided by b, with the sign of b; NaN where b is 0.
    Mod("mod"): |a, b| floored(a, b).1;
    /// The whole number of times that b goes into a, rounded down.
    Floored("floored"): |a, b| floored(a, b).0;
}

/// The quotient, rounded down, and the remainder, which has the divisor's sign: as Python's `divmod`.
#[inline(always)]
fn floored<N: Number>(a: N, b: N) -> (N, N) {
    let zero = N::constant(0.0);
    let rest = a.remainder(b);
    let quotient = (a - rest) / b;
    // 1 where the remainder has the sign of a, and b has the other.
    let wrong = N::choose(rest.less(zero), N::choose(zero.less(b), N::constant(1.0), zero), zero)
        + N::choose(zero.less(rest), N::choose(b.less(zero), N::constant(1.0), zero), zero);
    let is_right = wrong.equal(zero);
    ((quotient - N::choose(is_right, zero, N::constant(1.0))).round(), N::choose(is_right, rest, rest + b))
}

impl Binary {
    /// Whether it is linear in a, whatever b is: so it can be done to each part of an affine form of a.
    pub const fn is_linear_in_first(self) -> bool {
        match self {
            Binary::Mul | Binary::Div | Binary::Known | Binary::When | Binary::Unless => true,
            Binary::Add
            | Binary::Max
            | Binary::Min
            | Binary::Share
            | Binary::Less
            | Binary::AtMost
            | Binary::Equal
            | Binary::Unequal
            | Binary::Mod
            | Binary::Floored => false,
        }
    }
}

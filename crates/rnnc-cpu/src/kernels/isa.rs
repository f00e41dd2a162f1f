//! Which vector instructions the CPU has, and how one body of code becomes a version for each set of them.
//!
//! An [`Isa`] can only be had from a check of the CPU, so whoever holds one may run the code made for it. The
//! choice is made once, at the start; kernels take the [`Isa`] as their first argument and branch on it,
//! which costs a predicted jump.
//!
//! The tests run every level that the CPU has; that they passed with AVX-512, docs/correctness.md says. `RNNC_ISA=avx2` turns it off.

use std::env;
use std::fmt;

/// The environment variable that overrides the choice: `portable`, `avx2` or `avx512`.
pub const VARIABLE: &str = "RNNC_ISA";

/// A set of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// What every CPU of the target has; the compiler vectorizes for it.
    Portable,
    /// x86-64: AVX2 and FMA.
    Avx2,
    /// x86-64: AVX-512 F, VL, BW and DQ, with AVX2 and FMA.
    Avx512,
}

impl Level {
    /// All of them, the plainest first.
    pub const ALL: [Level; 3] = [Level::Portable, Level::Avx2, Level::Avx512];

    /// The name in `RNNC_ISA` and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    fn is_available(self) -> bool {
        match self {
            Level::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                Level::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => false,
        }
    }
}

/// The proof that this CPU has the instructions of a [`Level`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Level);

impl Isa {
    /// What every CPU has.
    pub const PORTABLE: Isa = Isa(Level::Portable);

    /// The proof for `level`, if this CPU has it.
    pub fn new(level: Level) -> Option<Isa> {
        level.is_available().then_some(Isa(level))
    }

    /// The best that this CPU has.
    pub fn detect() -> Isa {
        Isa::available().last().unwrap_or(Isa::PORTABLE)
    }

    /// All that this CPU has, the plainest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        Level::ALL.into_iter().filter_map(Isa::new)
    }

    /// What `RNNC_ISA` asks for, or else the best that this CPU has.
    ///
    /// # Errors
    ///
    /// A message that says what was asked for and what there is, if `RNNC_ISA` is no name of a level or names
    /// one that this CPU lacks.
    pub fn choose() -> Result<Isa, String> {
        match env::var(VARIABLE) {
            Ok(name) => Isa::named(&name),
            Err(env::VarError::NotPresent) => Ok(Isa::detect()),
            Err(env::VarError::NotUnicode(name)) => Isa::named(&name.to_string_lossy()),
        }
    }

    fn named(name: &str) -> Result<Isa, String> {
        let here = || Isa::available().map(|isa| isa.level().name()).collect::<Vec<_>>().join(", ");
        let level = Level::ALL.into_iter().find(|level| level.name() == name);
        match level {
            None => {
                Err(format!("{VARIABLE} is `{name}`, which is no instruction set; this CPU has {}", here()))
            }
            Some(level) => Isa::new(level)
                .ok_or_else(|| format!("{VARIABLE} is `{name}`, but this CPU lacks it; it has {}", here())),
        }
    }

    /// Which instructions these are.
    #[inline]
    pub fn level(self) -> Level {
        self.0
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.name())
    }
}

/// Whether a fused multiply-add is one instruction in portable code too. Where it is not, the standard
/// library's `mul_add` would call a slow software version.
pub(crate) const PORTABLE_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// a * b + c, in one rounding where the instruction set has it.
#[inline(always)]
pub(crate) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Makes functions that run one generic body, compiled for each instruction set.
///
/// `pub fn name(x: f32) -> f32 = body::<_>;` makes `pub fn name(isa: Isa, x: f32) -> f32`, which calls
/// `body::<FMA>`, where the `const FMA: bool` says whether fused multiply-adds are cheap. The body is to be
/// `#[inline(always)]`, so that it takes on the instructions of the function around it.
macro_rules! multiversion {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $body:ident;)*) => {$(
        $(#[$meta])*
        #[inline]
        $vis fn $name(isa: $crate::kernels::isa::Isa, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) $(-> $ret)? {
                $body::<true>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")]
            fn avx512($($arg: $type),*) $(-> $ret)? {
                $body::<true>($($arg),*)
            }
            match isa.level() {
                // SAFETY: an Isa of this level exists only where the CPU has these instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Level::Avx512 => unsafe { avx512($($arg),*) },
                _ => $body::<{ $crate::kernels::isa::PORTABLE_FMA }>($($arg),*),
            }
        }
    )*};
}
pub(crate) use multiversion;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_level_is_one_that_the_cpu_has() {
        assert!(Isa::available().any(|isa| isa == Isa::detect()));
        assert_eq!(Isa::available().next(), Some(Isa::PORTABLE));
    }

    #[test]
    fn a_name_gives_its_level() {
        for isa in Isa::available() {
            assert_eq!(Isa::named(isa.level().name()), Ok(isa));
        }
    }

    #[test]
    fn an_unknown_or_missing_instruction_set_is_named_in_the_error() {
        let error = Isa::named("avx3").unwrap_err();
        assert!(error.contains("RNNC_ISA is `avx3`") && error.contains("portable"), "{error}");
        for level in Level::ALL.into_iter().filter(|&level| Isa::new(level).is_none()) {
            let error = Isa::named(level.name()).unwrap_err();
            assert!(error.contains("lacks it") && error.contains(level.name()), "{error}");
        }
    }
}

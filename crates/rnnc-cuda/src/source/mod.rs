//! Printing CUDA C++.
//!
//! | file | what |
//! | --- | --- |
//! | `types.cuh`, `device.cuh`, `numbers.cuh`, `functions.cuh` | the prelude of every source |
//! | `borders.cuh` | copies between arrays of any strides, and the clock of resets: the same for all programs |
//! | `formula.rs` | the activations, of `rnnc_graph`'s rules |
//! | `loops.cuh`, `tiles.cuh` | what loop kernels share: waiting and sums; products by tensor cores |
//! | `program.rs` | elementwise programs of any kind as straight-line code |
//! | `map.rs` | those of a plan |

pub(crate) mod formula;
pub(crate) mod map;
pub(crate) mod program;

use std::sync::LazyLock;

/// What stands before every generated kernel on a device.
pub fn prelude() -> String {
    [TYPES, DEVICE, functions()].concat()
}

/// Numbers and arguments.
pub const TYPES: &str = include_str!("types.cuh");

/// The intrinsics, on a device.
pub const DEVICE: &str = include_str!("device.cuh");

/// The elementwise functions, and what else is made of numbers.
pub fn functions() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        [include_str!("numbers.cuh"), &formula::definitions(), include_str!("functions.cuh")].concat()
    });
    &TEXT
}

/// What loop kernels share.
pub const LOOPS: &str = concat!(include_str!("loops.cuh"), include_str!("tiles.cuh"));

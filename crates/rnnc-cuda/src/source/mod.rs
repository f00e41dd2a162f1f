//! Printing CUDA C++.
//!
//! | file | what |
//! | --- | --- |
//! | `types.cuh`, `device.cuh`, `functions.cuh` | the prelude of every source |
//! | `loops.cuh`, `tiles.cuh` | what loop kernels share: waiting and sums; products by tensor cores |
//! | `map.rs` | a fused elementwise program as straight-line code |

pub(crate) mod map;

/// What stands before every generated kernel on a device.
pub fn prelude() -> String {
    [TYPES, DEVICE, FUNCTIONS].concat()
}

/// Numbers and arguments.
pub const TYPES: &str = include_str!("types.cuh");

/// The intrinsics, on a device.
pub const DEVICE: &str = include_str!("device.cuh");

/// The elementwise functions.
pub const FUNCTIONS: &str = include_str!("functions.cuh");

/// What loop kernels share.
pub const LOOPS: &str = concat!(include_str!("loops.cuh"), include_str!("tiles.cuh"));

//! What the driver knows of a GPU, as a [`Device`].

#![allow(unsafe_code)] // calls into the driver

use super::DriverError;
use super::api::call;
use crate::device::{Device, Rates};
use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute};
use std::ffi::{CStr, c_int};

/// The facts of a device.
pub(super) fn describe(handle: sys::CUdevice) -> Result<Device, DriverError> {
    let attribute = |attribute| {
        let mut value = 0;
        call!(cuDeviceGetAttribute(&mut value, attribute, handle))?;
        Ok(usize::try_from(value).unwrap_or(0))
    };
    let mut name = [0; 256];
    call!(cuDeviceGetName(name.as_mut_ptr(), name.len() as c_int - 1, handle))?;
    // SAFETY: the last byte is zero in any case.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    let mut memory_bytes = 0usize;
    call!(cuDeviceTotalMem_v2(&mut memory_bytes, handle))?;
    let architecture = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32,
    );
    let clusters = attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH)? != 0;
    let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    let clocks = Clocks {
        multiprocessors_khz: attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?,
        memory_khz: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?,
        memory_bits: attribute(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)?,
    };
    Ok(Device {
        architecture,
        multiprocessors,
        registers: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR)?,
        shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        cluster: largest_cluster(architecture, clusters),
        memory_bytes: memory_bytes as u128,
        loop_threads: 256,
        group_streams: (1, usize::MAX),
        rates: rates(&name, architecture, multiprocessors, &clocks),
        name,
    })
}

/// The most blocks of a cluster. 8 are promised; the large chips of 9.x and 10.x allow 16 on request.
fn largest_cluster(architecture: (u32, u32), clusters: bool) -> usize {
    match architecture {
        _ if !clusters => 1,
        (9 | 10, _) => 16,
        _ => 8,
    }
}

/// What the driver says about speed.
struct Clocks {
    multiprocessors_khz: usize,
    memory_khz: usize,
    memory_bits: usize,
}

/// Rates for predictions: the table's where the device is in it, else from its clocks.
fn rates(name: &str, architecture: (u32, u32), multiprocessors: usize, clocks: &Clocks) -> Rates {
    let words = name.to_lowercase();
    let known = Device::known().into_iter().find(|device| {
        device.architecture == architecture
            && device.multiprocessors == multiprocessors
            && words.split([' ', '-']).any(|word| word == device.name)
    });
    if let Some(known) = known {
        return known.rates;
    }
    let lanes = if matches!(architecture, (7, _) | (8, 0)) { 64 } else { 128 };
    let clock_ghz = clocks.multiprocessors_khz as f64 / 1e6;
    let (launch_us, frame_us) = Device::known()
        .first()
        .map_or((2.5, [0.1, 0.5, 2.0]), |device| (device.rates.launch_us, device.rates.frame_us));
    let f32_tflops = (2 * lanes * multiprocessors) as f64 * clock_ghz / 1e3;
    Rates {
        clock_ghz,
        f32_tflops,
        // Tensor cores are faster, by how much differs from device to device.
        tf32_tflops: f32_tflops,
        // Two transfers a clock.
        memory_tbs: 2.0 * clocks.memory_khz as f64 * (clocks.memory_bits / 8) as f64 / 1e9,
        launch_us,
        frame_us,
        tiles: 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_a_device_in_the_table_are_the_tables() {
        let clocks = Clocks { multiprocessors_khz: 1_000_000, memory_khz: 1_000_000, memory_bits: 1024 };
        let h200 = Device::named("h200").unwrap();
        assert_eq!(rates("NVIDIA H200", (9, 0), 132, &clocks), h200.rates);
        let other = rates("NVIDIA H200 of another kind", (9, 0), 100, &clocks);
        assert_eq!((other.clock_ghz, other.f32_tflops, other.memory_tbs), (1.0, 25.6, 0.256));
    }

    #[test]
    fn clusters_are_as_large_as_the_architecture_has_them() {
        assert_eq!(largest_cluster((8, 0), false), 1);
        assert_eq!(largest_cluster((9, 0), true), 16);
        assert_eq!(largest_cluster((12, 0), true), 8);
    }
}

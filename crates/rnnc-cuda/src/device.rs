//! What a device is: the facts that choose tiers and shares, read from a driver or from the table of known ones.

use serde::Serialize;

/// A GPU, as far as programs are made for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Device {
    /// What people call it.
    pub name: String,
    /// Compute capability, (major, minor).
    pub architecture: (u32, u32),
    /// Multiprocessors.
    pub multiprocessors: usize,
    /// 32-bit registers of a multiprocessor.
    pub registers: usize,
    /// Bytes of shared memory that one block can have.
    pub shared_bytes: usize,
    /// The most blocks of a cluster, 1 where there are no clusters.
    pub cluster: usize,
    /// Bytes of device memory.
    pub memory_bytes: u128,
    /// Threads of a block of a loop.
    pub loop_threads: usize,
    /// The fewest and the most streams of a group of a loop's blocks.
    #[serde(skip)]
    pub group_streams: (usize, usize),
    /// Rates, for predictions.
    pub rates: Rates,
}

/// How fast a device is, for predictions. Of the devices in [`Device::known`], some were measured, as their comments
/// say; all others are the vendor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Clock of the multiprocessors, in GHz.
    pub clock_ghz: f64,
    /// Products over all frames in single precision, in TFLOP/s.
    pub f32_tflops: f64,
    /// The same with operands rounded to TF32; taken for bf16 too where they lie in single precision, and twice that where they are
    /// copied.
    pub tf32_tflops: f64,
    /// Bytes of device memory a second, in TB/s.
    pub memory_tbs: f64,
    /// Starting a kernel, in microseconds.
    pub launch_us: f64,
    /// An empty frame of a loop in one block, in a cluster, and on the whole grid, in microseconds.
    pub frame_us: [f64; 3],
    /// Cycles of products on tensor cores, relative to those of an H200.
    pub tiles: f64,
}

impl Device {
    /// The devices that plans can be explained for without having one.
    pub fn known() -> Vec<Device> {
        vec![
            // Measured: the clock, products, memory, and the empty frames of clusters and grid.
            Device {
                name: "h200".into(),
                architecture: (9, 0),
                multiprocessors: 132,
                registers: 65536,
                shared_bytes: 227 * 1024,
                cluster: 16,
                memory_bytes: 140 << 30,
                loop_threads: 256,
                group_streams: (1, usize::MAX),
                rates: Rates {
                    clock_ghz: 1.98,
                    f32_tflops: 51.0,
                    tf32_tflops: 387.0,
                    memory_tbs: 4.3,
                    launch_us: 2.0,
                    frame_us: [0.05, 0.22, 0.97],
                    tiles: 1.0,
                },
            },
            // Measured: the empty frames; else an H200's with the vendor's memory.
            Device {
                name: "h100".into(),
                architecture: (9, 0),
                multiprocessors: 132,
                registers: 65536,
                shared_bytes: 227 * 1024,
                cluster: 16,
                memory_bytes: 79 << 30,
                loop_threads: 256,
                group_streams: (1, usize::MAX),
                rates: Rates {
                    clock_ghz: 1.98,
                    f32_tflops: 51.0,
                    tf32_tflops: 387.0,
                    memory_tbs: 3.35,
                    launch_us: 2.0,
                    frame_us: [0.05, 0.46, 1.0],
                    tiles: 1.0,
                },
            },
            // The vendor's numbers; its empty frames are taken to be an H200's.
            Device {
                name: "a100".into(),
                architecture: (8, 0),
                multiprocessors: 108,
                registers: 65536,
                shared_bytes: 163 * 1024,
                cluster: 1,
                memory_bytes: 40 << 30,
                loop_threads: 256,
                group_streams: (1, usize::MAX),
                rates: Rates {
                    clock_ghz: 1.41,
                    f32_tflops: 19.5,
                    tf32_tflops: 156.0,
                    memory_tbs: 1.55,
                    launch_us: 2.5,
                    frame_us: [0.07, 0.3, 1.3],
                    tiles: 1.0,
                },
            },
        ]
    }

    /// The known device of that name.
    pub fn named(name: &str) -> Option<Device> {
        Device::known().into_iter().find(|device| device.name == name)
    }

    /// What NVRTC calls the architecture: `sm_90a`. Architectures from 9.0 on are named with their own instructions.
    pub fn target(&self) -> String {
        let (major, minor) = self.architecture;
        let own = if major >= 9 { "a" } else { "" };
        format!("sm_{major}{minor}{own}")
    }
}

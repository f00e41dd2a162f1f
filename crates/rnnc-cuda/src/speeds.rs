//! How fast a device multiplies and copies, measured on it: what no plan's work can outrun.
//!
//! Of several tries the best counts: what else the device did meanwhile is not a limit. What an empty frame of a loop takes
//! is not measured here: it is the device's known value, [`Rates::frame_us`](crate::device::Rates::frame_us).

use crate::driver::{Address, Cuda, Driver, DriverError, Operand, Product};
use rnnc_plan::{ExecutorError, Precision};

/// Speeds of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Speeds {
    /// The device's name.
    pub device: String,
    /// The precision of products.
    pub precision: Precision,
    /// Floating-point operations a second of a large product over all frames, in that precision.
    pub product: f64,
    /// The same in TF32: what tensor cores do at most, in loops of other precisions too.
    pub tf32_product: f64,
    /// Copying within device memory, from the smallest copy to the largest.
    pub copy: Vec<Copying>,
}

/// The speed of a copy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Copying {
    /// Bytes read and bytes written, together.
    pub bytes: usize,
    /// Of them.
    pub bytes_per_second: f64,
}

/// Rows and columns of the matrices of a product, at most.
const ROWS: usize = 4096;

/// Bytes read and written of a copy, at most: the smallest stays in a second-level cache.
const COPIES: [usize; 3] = [1 << 24, 1 << 26, 1 << 29];

/// A measurement takes no more than this part of the device's memory.
const SHARE: u128 = 8;

/// Tries of each measurement.
const TRIES: usize = 10;

/// Tries before the first that counts, for the clock to rise.
const WARM_UP: usize = 3;

impl Speeds {
    /// Measures the GPU that is used ([`Cuda::chosen`]), which must not be at work.
    ///
    /// # Errors
    /// [`ExecutorError::Missing`] where there is no GPU, no driver or no library for it; what the driver refuses.
    pub fn measure(precision: Precision) -> Result<Speeds, ExecutorError> {
        // One after the other: a driver's products are of one precision.
        let tf32_product = match precision {
            Precision::Tf32 => None,
            _ => Some(product(&mut Cuda::chosen(Precision::Tf32)?, false)?),
        };
        Ok(Speeds::with_driver(&mut Cuda::chosen(precision)?, precision, tf32_product)?)
    }

    /// Measures whatever the driver drives, whose products are of that precision; `tf32_product` is what one of TF32 found
    /// for these, if they are of another.
    ///
    /// # Errors
    /// What the driver refuses.
    pub fn with_driver(
        driver: &mut dyn Driver,
        precision: Precision,
        tf32_product: Option<f64>,
    ) -> Result<Speeds, DriverError> {
        let found = product(driver, precision == Precision::Bf16)?;
        Ok(Speeds {
            device: driver.device().name.clone(),
            precision,
            product: found,
            tf32_product: tf32_product.unwrap_or(found),
            copy: copies(driver)?,
        })
    }

    /// Bytes a second of values that are read or written, so many in all. A smaller copy is no slower than a larger one, but
    /// for what it takes to start it.
    pub fn copying(&self, bytes: f64) -> f64 {
        let larger = self.copy.iter().position(|copy| copy.bytes as f64 > bytes).unwrap_or(self.copy.len());
        let rest = self.copy.get(larger.saturating_sub(1)..).unwrap_or_default();
        rest.iter().map(|copy| copy.bytes_per_second).reduce(f64::max).unwrap_or(f64::INFINITY)
    }
}

/// Floating-point operations a second of a large product, whose operands may lie in bf16.
fn product(driver: &mut dyn Driver, halves: bool) -> Result<f64, DriverError> {
    let room = driver.device().memory_bytes / SHARE;
    let mut rows = ROWS;
    while rows > 1 && 2 * bytes_of(rows) as u128 > room {
        rows /= 2;
    }
    let us = with_memory(driver, 2 * bytes_of(rows), |driver, at| {
        let mut numbers: Vec<u32> = numbers(rows * rows).into_iter().map(f32::to_bits).collect();
        if halves {
            numbers.iter_mut().for_each(|bits| *bits = *bits & 0xffff_0000 | *bits >> 16);
        }
        driver.write(at, bytemuck::cast_slice(&numbers))?;
        let operand = |address| Operand { address, row: rows, transposed: false };
        let (own, to) = (operand(at), operand(at + bytes_of(rows) as u64));
        let product = Product { m: rows, n: rows, k: rows, a: own, b: own, c: to, halves, accumulate: false };
        best(driver, 1, |driver| driver.product(&product))
    })?;
    Ok(2.0 * (rows as f64).powi(3) / us * 1e6)
}

/// Of a square matrix.
fn bytes_of(rows: usize) -> usize {
    4 * rows * rows
}

/// Numbers of all bits, from -0.5 to 0.5: a device multiplies zeros with less power, and so at a higher clock.
fn numbers(count: usize) -> Vec<f32> {
    let mixed = |n: usize| (n as u32).wrapping_mul(0x9e37_79b9) >> 8;
    (0..count).map(|n| mixed(n) as f32 / (1 << 24) as f32 - 0.5).collect()
}

/// Speeds of copies, of as many sizes as there is room for: of one at least.
fn copies(driver: &mut dyn Driver) -> Result<Vec<Copying>, DriverError> {
    let room = usize::try_from(driver.device().memory_bytes / SHARE).unwrap_or(usize::MAX);
    let [smallest, .., _] = COPIES;
    let fitting = COPIES.into_iter().filter(|&bytes| bytes <= room);
    let mut sizes: Vec<usize> = fitting.collect();
    if sizes.is_empty() {
        sizes.push(room.clamp(8, smallest) / 8 * 8);
    }
    let most = sizes.iter().copied().max().unwrap_or(smallest);
    with_memory(driver, most, |driver, at| {
        let copying = |&bytes: &usize| {
            let times = most / bytes;
            let us = best(driver, times, |driver| driver.copy(at, at + (bytes / 2) as u64, bytes / 2))?;
            Ok(Copying { bytes, bytes_per_second: bytes as f64 / us * 1e6 })
        };
        sizes.iter().map(copying).collect()
    })
}

/// Takes memory, and gives it back whatever happens.
fn with_memory<T>(
    driver: &mut dyn Driver,
    bytes: usize,
    work: impl FnOnce(&mut dyn Driver, Address) -> Result<T, DriverError>,
) -> Result<T, DriverError> {
    let at = driver.allocate(bytes)?;
    let found = work(driver, at);
    driver.free(at);
    found
}

/// Microseconds of one of so many times, in the fastest of some tries.
fn best(
    driver: &mut dyn Driver,
    times: usize,
    mut work: impl FnMut(&mut dyn Driver) -> Result<(), DriverError>,
) -> Result<f64, DriverError> {
    let (from, to) = (driver.timestamp()?, driver.timestamp()?);
    let mut fastest = f64::INFINITY;
    for attempt in 0..WARM_UP + TRIES {
        driver.stamp(from)?;
        (0..times).try_for_each(|_| work(driver))?;
        driver.stamp(to)?;
        let us = driver.elapsed_us(from, to)?;
        if attempt >= WARM_UP {
            fastest = fastest.min(us);
        }
    }
    // No clock is finer.
    Ok(fastest.max(1e-3) / times as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::driver::{Call, Recorder};

    fn measured(memory_bytes: u128) -> (Speeds, Vec<Call>) {
        let device = Device { memory_bytes, ..Device::known().remove(0) };
        let (mut recorder, calls) = Recorder::new(device);
        let found = Speeds::with_driver(&mut recorder, Precision::F32, Some(1e9)).unwrap();
        let calls = calls.lock().unwrap().clone();
        (found, calls)
    }

    #[test]
    fn what_is_measured_fits_into_a_small_devices_memory_and_is_given_back() {
        for memory_bytes in [0, 100, 4000, 1 << 20, 1 << 28] {
            let (found, calls) = measured(memory_bytes);
            let mut live = 0u128;
            for call in &calls {
                match call {
                    Call::Allocate { bytes, .. } => {
                        live += 1;
                        assert!(*bytes as u128 <= (memory_bytes / 8).max(8), "{call:?}");
                    }
                    Call::Free { .. } => live -= 1,
                    _ => {}
                }
            }
            assert_eq!(live, 0);
            let speeds = found.copy.iter().map(|copy| copy.bytes_per_second);
            for speed in speeds.chain([found.product]) {
                assert!(speed.is_finite() && speed > 0.0, "{found:?}");
            }
            assert_eq!((found.tf32_product, found.precision), (1e9, Precision::F32));
        }
        let copied: Vec<usize> = measured(1 << 28).0.copy.iter().map(|copy| copy.bytes).collect();
        assert_eq!(copied, [1 << 24]);
    }

    #[test]
    fn what_is_moved_is_as_fast_as_the_fastest_copy_of_as_much_or_more() {
        let copy = [(16, 2.0), (64, 8.0), (256, 4.0)]
            .map(|(bytes, bytes_per_second)| Copying { bytes, bytes_per_second })
            .to_vec();
        let speeds = Speeds { copy, ..measured(0).0 };
        let found = [0.0, 20.0, 64.0, 255.0, 256.0, 1e9].map(|bytes| speeds.copying(bytes));
        assert_eq!(found, [8.0, 8.0, 8.0, 8.0, 4.0, 4.0]);
        assert_eq!(Speeds { copy: Vec::new(), ..speeds }.copying(1.0), f64::INFINITY);
    }
}

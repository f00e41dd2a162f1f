//! Device memory on the host: allocations between red zones that nothing may write to.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;

/// Bytes before and after each allocation.
const ZONE: usize = 4096;
const ALIGNMENT: usize = 256;
/// What stands there. As a number it is a NaN, so that what is read there by mistake shows.
const POISON: u8 = 0xff;

/// All allocations that live.
#[derive(Default)]
pub struct Memory {
    /// By the address of the first byte: how many there are.
    live: BTreeMap<u64, usize>,
}

impl Memory {
    /// Zeros.
    pub fn allocate(&mut self, bytes: usize) -> u64 {
        let layout = layout(bytes);
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc(layout) };
        assert!(!base.is_null(), "no memory for {bytes} bytes");
        // SAFETY: the allocation has two zones and the bytes between.
        unsafe {
            base.write_bytes(POISON, layout.size());
            base.add(ZONE).write_bytes(0, bytes);
        }
        let address = base as u64 + ZONE as u64;
        self.live.insert(address, bytes);
        address
    }

    /// Gives an allocation back; false if there is none at that address.
    pub fn free(&mut self, address: u64) -> bool {
        let Some(bytes) = self.live.remove(&address) else { return false };
        // SAFETY: it was allocated with this layout, and was live.
        unsafe { dealloc((address as usize - ZONE) as *mut u8, layout(bytes)) };
        true
    }

    /// The allocation (its first byte, its length) that holds a range.
    pub fn find(&self, address: u64, bytes: usize) -> Option<(u64, usize)> {
        let (&first, &len) = self.live.range(..=address).next_back()?;
        let offset = (address - first) as usize;
        (offset <= len && bytes <= len - offset).then_some((first, len))
    }

    /// The bytes of a range.
    pub fn bytes(&self, address: u64, bytes: usize) -> Result<&[u8], String> {
        self.find(address, bytes).ok_or_else(|| self.outside(address, bytes))?;
        // SAFETY: the range lies in an allocation; kernels run only while the driver is borrowed mutably.
        Ok(unsafe { std::slice::from_raw_parts(address as *const u8, bytes) })
    }

    /// The same, to be written.
    pub fn bytes_mut(&mut self, address: u64, bytes: usize) -> Result<&mut [u8], String> {
        self.find(address, bytes).ok_or_else(|| self.outside(address, bytes))?;
        // SAFETY: as above, and `self` is borrowed mutably.
        Ok(unsafe { std::slice::from_raw_parts_mut(address as *mut u8, bytes) })
    }

    /// Says where a range lies that lies in no allocation.
    pub fn outside(&self, address: u64, bytes: usize) -> String {
        let before = self.live.range(..=address).next_back();
        match before {
            None => format!("{bytes} bytes at {address:#x} lie before all allocations"),
            Some((first, len)) => format!(
                "{bytes} bytes lie at number {} of an allocation of {} numbers",
                (address - first) / 4,
                len / 4
            ),
        }
    }

    /// Which red zone was written to, if any.
    pub fn damage(&self) -> Option<String> {
        self.live.iter().find_map(|(&address, &bytes)| {
            let zone = |at: u64, len: usize| {
                // SAFETY: the zones belong to the allocation.
                unsafe { std::slice::from_raw_parts(at as *const u8, len) }
            };
            let end = address + bytes as u64;
            let after = layout(bytes).size() - ZONE - bytes;
            let place = match () {
                () if zone(address - ZONE as u64, ZONE).iter().any(|&b| b != POISON) => "before",
                () if zone(end, after).iter().any(|&b| b != POISON) => "after",
                () => return None,
            };
            Some(format!("something was written {place} an allocation of {} numbers", bytes / 4))
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        while let Some((&address, _)) = self.live.first_key_value() {
            self.free(address);
        }
    }
}

fn layout(bytes: usize) -> Layout {
    let size = (bytes + 2 * ZONE).next_multiple_of(ALIGNMENT);
    Layout::from_size_align(size, ALIGNMENT).expect("sizes are far below the largest")
}

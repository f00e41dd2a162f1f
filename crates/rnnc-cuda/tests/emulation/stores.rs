//! Stores that are not there yet. What a thread puts is seen by itself alone; behind a warp_sync by its warp; behind
//! a block_sync by its block; and by others only when a thread that sees it signals. So a missing fence or barrier
//! shows as an old value. What a thread posts comes to memory some time later, in no order; at the latest when its block
//! signals.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Hashes addresses.
#[derive(Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, address: u64) {
        self.0 = address.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

type ByAddress<T> = HashMap<u64, T, BuildHasherDefault<AddressHasher>>;
type Buffer = ByAddress<u32>;

/// Who sees what: the places of a thread.
#[derive(Clone, Copy)]
pub struct Seer {
    /// Among the resident threads.
    pub lane: usize,
    /// Among the resident warps.
    pub warp: usize,
    /// Among the resident blocks.
    pub slot: usize,
    /// Its block's number in the grid.
    pub block: u32,
}

/// An address that the launch put something to.
struct Put {
    /// What was there before the launch.
    before: u32,
    /// The last block whose value came to memory.
    block: Option<u32>,
}

/// The stores of a launch that are on their way.
#[derive(Default)]
pub struct Stores {
    lanes: Vec<Buffer>,
    warps: Vec<Buffer>,
    blocks: Vec<Buffer>,
    /// What was posted: address, bits, and the block's number.
    posted: Vec<(u64, u32, u32)>,
    /// Of blocks that have ended: there when the launch ends.
    left: Vec<(Buffer, u32)>,
    put: ByAddress<Put>,
}

/// A word, or half of one: that before an odd address.
fn memory(address: u64) -> u32 {
    // SAFETY: addresses are checked to lie in an allocation before they come here.
    unsafe {
        match address % 2 {
            0 => (address as *const u32).read(),
            _ => u32::from(((address - 1) as *const u16).read()),
        }
    }
}

fn set_memory(address: u64, bits: u32) {
    // SAFETY: addresses are checked before they are put; shared memory lives as long as the launch.
    unsafe {
        match address % 2 {
            0 => (address as *mut u32).write(bits),
            _ => ((address - 1) as *mut u16).write(bits as u16),
        }
    }
}

fn hand_on(from: &mut Buffer, to: &mut Buffer) {
    if !from.is_empty() {
        to.extend(from.drain());
    }
}

impl Stores {
    pub fn new(lanes: usize, warps: usize, blocks: usize) -> Stores {
        let buffers = |n| (0..n).map(|_| Buffer::default()).collect();
        Stores { lanes: buffers(lanes), warps: buffers(warps), blocks: buffers(blocks), ..Stores::default() }
    }

    pub fn put(&mut self, seer: Seer, address: u64, bits: u32) {
        self.put.entry(address).or_insert_with(|| Put { before: memory(address), block: None });
        self.lanes[seer.lane].insert(address, bits);
    }

    pub fn post(&mut self, seer: Seer, address: u64, bits: u32) {
        self.put.entry(address).or_insert_with(|| Put { before: memory(address), block: None });
        self.posted.push((address, bits, seer.block));
    }

    /// Some of what was posted comes to memory: all that `comes` says. Whether anything did.
    pub fn arrive(&mut self, mut comes: impl FnMut(u32) -> bool) -> bool {
        let (coming, later): (Vec<_>, Vec<_>) = self.posted.drain(..).partition(|&(.., block)| comes(block));
        self.posted = later;
        for &(address, bits, block) in &coming {
            set_memory(address, bits);
            if let Some(put) = self.put.get_mut(&address) {
                put.block = Some(block);
            }
        }
        !coming.is_empty()
    }

    /// Whether the launch put something to an address.
    pub fn has_put(&self, address: u64) -> bool {
        self.put.contains_key(&address)
    }

    fn seen(&self, seer: Seer, address: u64) -> Option<u32> {
        let buffers = [&self.lanes[seer.lane], &self.warps[seer.warp], &self.blocks[seer.slot]];
        buffers.into_iter().find_map(|buffer| buffer.get(&address).copied())
    }

    /// What a thread sees, with all that came to memory.
    pub fn fresh(&self, seer: Seer, address: u64) -> u32 {
        self.seen(seer, address).unwrap_or_else(|| memory(address))
    }

    /// What a thread sees, without what other blocks put: its multiprocessor may have kept what was there before.
    pub fn own(&self, seer: Seer, address: u64) -> u32 {
        self.seen(seer, address).unwrap_or_else(|| match self.put.get(&address) {
            Some(&Put { before, block: Some(block) }) if block != seer.block => before,
            _ => memory(address),
        })
    }

    /// The threads of a warp have met.
    pub fn warp_sync(&mut self, lanes: std::ops::Range<usize>, warp: usize) {
        for lane in lanes {
            hand_on(&mut self.lanes[lane], &mut self.warps[warp]);
        }
    }

    /// The threads of a block have met.
    pub fn block_sync(&mut self, lanes: std::ops::Range<usize>, warps: std::ops::Range<usize>, slot: usize) {
        // A warp's are older than its threads'.
        for warp in warps {
            hand_on(&mut self.warps[warp], &mut self.blocks[slot]);
        }
        for lane in lanes {
            hand_on(&mut self.lanes[lane], &mut self.blocks[slot]);
        }
    }

    /// A thread lets others see all that it sees.
    pub fn release(&mut self, seer: Seer) {
        self.arrive(|block| block == seer.block);
        let Stores { lanes, warps, blocks, put, .. } = self;
        // The oldest first.
        for buffer in [&mut blocks[seer.slot], &mut warps[seer.warp], &mut lanes[seer.lane]] {
            publish(buffer, seer.block, put);
        }
    }

    /// A block has ended: what it put is there when the launch ends.
    pub fn block_ended(
        &mut self,
        lanes: std::ops::Range<usize>,
        warps: std::ops::Range<usize>,
        slot: usize,
        block: u32,
    ) {
        self.block_sync(lanes, warps, slot);
        if !self.blocks[slot].is_empty() {
            self.left.push((std::mem::take(&mut self.blocks[slot]), block));
        }
    }

    /// The launch has ended.
    pub fn launch_ended(&mut self) {
        self.arrive(|_| true);
        for (mut buffer, block) in std::mem::take(&mut self.left) {
            publish(&mut buffer, block, &mut self.put);
        }
    }
}

fn publish(buffer: &mut Buffer, block: u32, put: &mut ByAddress<Put>) {
    for (address, bits) in buffer.drain() {
        set_memory(address, bits);
        if let Some(put) = put.get_mut(&address) {
            put.block = Some(block);
        }
    }
}

//! Runs a launch: its threads as fibers, in an order that a seed draws anew every round.
//!
//! As many blocks are resident at once as the device would hold. A thread runs until it waits: for its block, its
//! warp, its cluster, or for a word of memory to change. Now and then one block or warp runs ahead of all others, or falls
//! behind.

use super::lane::{Combine, Host, Lane};
use super::memory::Memory;
use super::stacks::{STACK_BYTES, Stacks};
use super::stores::{Seer, Stores};
use rnnc_cuda::driver::borders::{Border, Clock, ClockBefore, Moves, StartGradient};
use rnnc_cuda::driver::{Args, Geometry};
use std::ffi::c_void;
use std::ops::Range;

/// A kernel.
pub type Kernel = unsafe extern "C" fn(Args);

/// What a kernel is given.
#[derive(Clone)]
pub enum Given {
    Args(Args),
    Border(Border),
}

impl Given {
    /// Calls a kernel.
    ///
    /// # Safety
    /// It takes that, by value.
    pub unsafe fn call(self, kernel: Kernel) {
        // SAFETY: as the caller says; all of them take one structure and return nothing.
        unsafe {
            match self {
                Given::Args(args) => kernel(args),
                Given::Border(Border::Moves(moves)) => {
                    // Threads do not give back what they own: they end where they stand.
                    let own = *moves;
                    drop(moves);
                    std::mem::transmute::<Kernel, unsafe extern "C" fn(Moves)>(kernel)(own);
                }
                Given::Border(Border::Clock(clock)) => {
                    std::mem::transmute::<Kernel, unsafe extern "C" fn(Clock)>(kernel)(clock)
                }
                Given::Border(Border::StartGradient(gradient)) => {
                    std::mem::transmute::<Kernel, unsafe extern "C" fn(StartGradient)>(kernel)(gradient)
                }
                Given::Border(Border::ClockBefore(clock)) => {
                    std::mem::transmute::<Kernel, unsafe extern "C" fn(ClockBefore)>(kernel)(clock)
                }
            }
        }
    }
}
/// Leaves a stack for another: `rnnc_switch` of context.cpp.
pub type Switch = unsafe extern "C" fn(*mut *mut c_void, *mut c_void);
/// Prepares a stack: `rnnc_context` of context.cpp.
pub type Context = unsafe extern "C" fn(*mut u8, u64, extern "C" fn()) -> *mut c_void;

/// Rounds in which nobody does anything but poll.
const IDLE_ROUNDS: usize = 1000;
/// Lanes of a warp.
const WARP: usize = 32;

/// What a thread waits for, and in which line.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Waits {
    No,
    Block(i32),
    Warp(i32),
    Cluster(i32),
    Word(i32),
    Ended,
}

/// A resident thread.
pub struct Fiber {
    /// Where it goes on; null before it began.
    pub context: *mut c_void,
    stack: *mut u8,
    waits: Waits,
    /// `Launch::words` when its last poll came back.
    polled: Option<u64>,
    /// The cluster's phase in which it arrived, if it has not waited since.
    arrived: Option<u64>,
}

#[derive(Clone)]
struct Warp {
    arrived: usize,
    line: i32,
    items: [*mut c_void; WARP],
}

#[derive(Clone, Default)]
struct Block {
    number: u32,
    arrived: usize,
    line: i32,
    ended: usize,
}

#[derive(Clone, Default)]
struct Cluster {
    arrived: usize,
    phase: u64,
    ended: usize,
}

/// Numbers from a seed (Steele, Lea & Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for k in (1..items.len()).rev() {
            items.swap(k, self.below(k + 1));
        }
    }
}

/// Who runs while others stand still, as long as it can.
#[derive(Clone, Copy)]
enum Favourite {
    All,
    Warp(usize),
    AllButWarp(usize),
    Block(usize),
    AllButBlock(usize),
}

/// A launch that runs.
pub struct Launch {
    pub kernel: Kernel,
    pub given: Given,
    pub switch: Switch,
    /// The context of the scheduler, while a thread runs.
    pub scheduler: *mut c_void,
    /// By place: of thread t of resident block s, `s * threads + t`.
    pub fibers: Vec<Fiber>,
    /// What is wrong, and where.
    pub error: Option<String>,
    host: Host,
    prepare: Context,
    memory: *const Memory,
    stacks: *mut Stacks,
    geometry: Geometry,
    warps: Vec<Warp>,
    blocks: Vec<Block>,
    clusters: Vec<Cluster>,
    /// The shared memory of the resident blocks, one after the other.
    shared: *mut u8,
    stores: Stores,
    random: Random,
    ready: Vec<usize>,
    polling: Vec<usize>,
    favourite: (Favourite, usize),
    /// Grows with each word that threads wait for and that changes.
    words: u64,
    idle: usize,
}

/// What a launch needs besides its kernel.
pub struct Machine<'a> {
    pub switch: Switch,
    pub context: Context,
    pub memory: &'a Memory,
    pub stacks: &'a mut Stacks,
    /// The most blocks at once.
    pub resident: usize,
    pub seed: u64,
}

/// Runs a kernel to its end.
pub fn run(kernel: Kernel, given: Given, geometry: Geometry, machine: Machine<'_>) -> Result<(), String> {
    let Machine { switch, context, memory, stacks, resident, seed } = machine;
    let size = geometry.cluster;
    let groups = geometry.blocks / size;
    let together = (resident / size).clamp(1, groups.max(1));
    let (blocks, threads) = (together * size, geometry.threads);
    let warps_per_block = threads.div_ceil(WARP);
    let fiber = || Fiber {
        context: std::ptr::null_mut(),
        stack: std::ptr::null_mut(),
        waits: Waits::Ended,
        polled: None,
        arrived: None,
    };
    let warp = Warp { arrived: 0, line: 0, items: [std::ptr::null_mut(); WARP] };
    let mut shared = vec![0u128; blocks * geometry.shared_bytes.div_ceil(16)];
    let mut launch = Launch {
        kernel,
        given,
        switch,
        scheduler: std::ptr::null_mut(),
        fibers: (0..blocks * threads).map(|_| fiber()).collect(),
        error: None,
        host: Host::new(),
        prepare: context,
        memory,
        stacks,
        geometry,
        warps: vec![warp; blocks * warps_per_block],
        blocks: vec![Block::default(); blocks],
        clusters: vec![Cluster::default(); together],
        shared: shared.as_mut_ptr().cast(),
        stores: Stores::new(blocks * threads, blocks * warps_per_block, blocks),
        random: Random(seed),
        ready: Vec::new(),
        polling: Vec::new(),
        favourite: (Favourite::All, 0),
        words: 0,
        idle: 0,
    };
    let launch = &raw mut launch;
    // SAFETY: it lives to the end of this function; threads borrow it only between switches.
    unsafe {
        (*launch).host.launch = launch;
        schedule(launch, groups, together);
        let launch = &mut *launch;
        launch.stores.launch_ended();
        match launch.error.take() {
            None => Ok(()),
            Some(error) => {
                (*launch.stacks).reclaim();
                Err(error)
            }
        }
    }
}

/// # Safety
/// The launch is alone, and all its pointers live.
unsafe fn schedule(launch: *mut Launch, groups: usize, together: usize) {
    // SAFETY: as the caller says; what is borrowed is given back before a thread runs.
    unsafe {
        let mut order: Vec<usize> = (0..groups).collect();
        (*launch).random.shuffle(&mut order);
        let mut free: Vec<usize> = (0..together).collect();
        let mut round = Vec::new();
        loop {
            while let (Some(place), false) = (free.pop(), order.is_empty()) {
                (*launch).start(place, order.pop().expect("it is not empty"));
            }
            (*launch).choose(&mut round);
            if round.is_empty() {
                return;
            }
            for &id in &round {
                let (next, switch) = ((*launch).context_of(id), (*launch).switch);
                switch(&raw mut (*launch).scheduler, next);
                if let Some(place) = (*launch).stopped(id) {
                    free.push(place);
                }
                if (*launch).error.is_some() {
                    return;
                }
            }
        }
    }
}

impl Launch {
    fn threads(&self) -> usize {
        self.geometry.threads
    }

    fn warps_per_block(&self) -> usize {
        self.threads().div_ceil(WARP)
    }

    fn warp(&self, id: usize) -> usize {
        id / self.threads() * self.warps_per_block() + id % self.threads() / WARP
    }

    fn lanes_of_block(&self, slot: usize) -> Range<usize> {
        slot * self.threads()..(slot + 1) * self.threads()
    }

    fn lanes_of_warp(&self, id: usize) -> Range<usize> {
        let block = self.lanes_of_block(id / self.threads());
        let first = block.start + (id - block.start) / WARP * WARP;
        first..(first + WARP).min(block.end)
    }

    fn seer(&self, id: usize) -> Seer {
        let slot = id / self.threads();
        Seer { lane: id, warp: self.warp(id), slot, block: self.blocks[slot].number }
    }

    fn shared_of(&self, slot: usize) -> *mut u8 {
        // SAFETY: all resident blocks have their part.
        unsafe { self.shared.add(slot * self.geometry.shared_bytes.next_multiple_of(16)) }
    }

    fn named(&self, id: usize) -> String {
        let slot = id / self.threads();
        format!("thread {} of block {}", id % self.threads(), self.blocks[slot].number)
    }

    /// Makes the blocks of a cluster resident.
    fn start(&mut self, place: usize, group: usize) {
        self.clusters[place] = Cluster::default();
        for rank in 0..self.geometry.cluster {
            let slot = place * self.geometry.cluster + rank;
            self.blocks[slot] =
                Block { number: (group * self.geometry.cluster + rank) as u32, ..Block::default() };
            // SAFETY: the block's part has that many bytes. As numbers, they are NaN.
            unsafe { self.shared_of(slot).write_bytes(0xff, self.geometry.shared_bytes) };
            for id in self.lanes_of_block(slot) {
                let fiber = &mut self.fibers[id];
                (fiber.waits, fiber.polled, fiber.arrived) = (Waits::No, None, None);
                self.ready.push(id);
            }
        }
    }

    /// Where a thread goes on; one that has not begun gets a stack.
    fn context_of(&mut self, id: usize) -> *mut c_void {
        if !self.fibers[id].context.is_null() {
            return self.fibers[id].context;
        }
        let slot = id / self.threads();
        // SAFETY: the stacks live as long as the launch; a stack has room for the record at its top.
        unsafe {
            let stack = (*self.stacks).take();
            let lane = stack.add(STACK_BYTES - size_of::<Lane>()).cast::<Lane>();
            lane.write(Lane {
                thread: (id % self.threads()) as u32,
                threads: self.threads() as u32,
                block: self.blocks[slot].number,
                blocks: self.geometry.blocks as u32,
                rank: (slot % self.geometry.cluster) as u32,
                id: id as u32,
                shared: self.shared_of(slot),
                shared_bytes: self.geometry.shared_bytes as u64,
                low: 0,
                size: 0,
                host: &raw mut self.host,
            });
            let room = STACK_BYTES - size_of::<Lane>();
            self.fibers[id].context = (self.prepare)(lane.cast(), room as u64, super::lane::begin);
            self.fibers[id].stack = stack;
        }
        self.fibers[id].context
    }

    /// What a thread that gave up its turn leaves; the place of its cluster, if all of that has ended.
    fn stopped(&mut self, id: usize) -> Option<usize> {
        if self.fibers[id].waits != Waits::Ended {
            return None;
        }
        // SAFETY: the stacks live as long as the launch, and nothing runs on this one any more.
        unsafe { (*self.stacks).give_back(self.fibers[id].stack) };
        (self.fibers[id].context, self.fibers[id].stack) = (std::ptr::null_mut(), std::ptr::null_mut());
        let place = id / self.threads() / self.geometry.cluster;
        (self.clusters[place].ended == self.threads() * self.geometry.cluster).then_some(place)
    }

    /// Chooses who runs next, and in which order.
    fn choose(&mut self, round: &mut Vec<usize>) {
        round.clear();
        // What was posted comes when it likes; all of it, before nobody can do anything else.
        let (random, none) = (&mut self.random, self.ready.is_empty());
        if self.stores.arrive(|_| none || random.below(8) == 0) {
            self.word_changed();
        }
        // Who polls is woken by any word that changes.
        let Launch { polling, fibers, ready, words, .. } = self;
        polling.retain(|&id| {
            let changed = fibers[id].polled != Some(*words);
            if changed {
                fibers[id].waits = Waits::No;
                ready.push(id);
            }
            !changed
        });
        if self.ready.is_empty() {
            self.idle += 1;
            if self.polling.is_empty() || self.idle > IDLE_ROUNDS {
                self.stuck();
                return;
            }
            for id in std::mem::take(&mut self.polling) {
                self.fibers[id].waits = Waits::No;
                self.ready.push(id);
            }
        }
        if self.favourite.1 == 0 {
            let one = self.ready[self.random.below(self.ready.len())];
            let (warp, block) = (self.warp(one), one / self.threads());
            let who = match self.random.below(6) {
                0 | 1 => Favourite::All,
                2 => Favourite::Warp(warp),
                3 => Favourite::AllButWarp(warp),
                4 => Favourite::Block(block),
                _ => Favourite::AllButBlock(block),
            };
            self.favourite = (who, 1 + self.random.below(32));
        }
        self.favourite.1 -= 1;
        let mut rest = Vec::new();
        for &id in &self.ready {
            let favoured = match self.favourite.0 {
                Favourite::All => true,
                Favourite::Warp(warp) => self.warp(id) == warp,
                Favourite::AllButWarp(warp) => self.warp(id) != warp,
                Favourite::Block(slot) => id / self.threads() == slot,
                Favourite::AllButBlock(slot) => id / self.threads() != slot,
            };
            if favoured { round.push(id) } else { rest.push(id) }
        }
        self.ready = rest;
        if round.is_empty() {
            round.append(&mut self.ready);
        }
        self.random.shuffle(round);
    }

    /// Says who waits for what, if anybody does.
    fn stuck(&mut self) {
        let waiting: Vec<usize> =
            (0..self.fibers.len()).filter(|&id| self.fibers[id].waits != Waits::Ended).collect();
        if waiting.is_empty() {
            return;
        }
        // One of each kind will do.
        let mut kinds: Vec<(String, String, usize)> = Vec::new();
        for id in waiting {
            let what = self.fibers[id].waits.in_words();
            match kinds.iter_mut().find(|(known, _, _)| *known == what) {
                Some((_, _, more)) => *more += 1,
                None => kinds.push((what, self.named(id), 0)),
            }
        }
        let who: Vec<String> = kinds
            .into_iter()
            .map(|(what, name, more)| match more {
                0 => format!("{name} {what}"),
                _ => format!("{name} (and {more} like it) {what}"),
            })
            .collect();
        self.error = Some(format!("nothing goes on: {}", who.join("; ")));
    }

    /// Ends the launch with an error.
    pub fn fail(&mut self, id: usize, line: i32, what: String) {
        if self.error.is_none() {
            let place = if line > 0 { format!(", line {line}") } else { String::new() };
            self.error = Some(format!("{}{place}: {what}", self.named(id)));
        }
    }

    fn wake(&mut self, id: usize) {
        self.fibers[id].waits = Waits::No;
        self.ready.push(id);
        self.idle = 0;
    }

    fn none_ended(&self, mut lanes: Range<usize>) -> Result<(), String> {
        match lanes.find(|&id| self.fibers[id].waits == Waits::Ended) {
            None => Ok(()),
            Some(id) => Err(format!("waits for {}, which has ended", self.named(id))),
        }
    }

    /// A thread comes to a block_sync.
    pub fn block_sync(&mut self, id: usize, line: i32) -> Result<(), String> {
        let (slot, threads) = (id / self.threads(), self.threads());
        let block = &mut self.blocks[slot];
        if block.arrived > 0 && block.line != line {
            return Err(format!("waits for its block, but other threads of it wait in line {}", block.line));
        }
        (block.arrived, block.line) = (block.arrived + 1, line);
        let (all, ended) = (block.arrived == threads, block.ended > 0);
        let lanes = self.lanes_of_block(slot);
        if ended {
            self.none_ended(lanes.clone())?;
        }
        self.fibers[id].waits = Waits::Block(line);
        if all {
            self.blocks[slot].arrived = 0;
            let warps = self.warps_per_block();
            if self.host.buffered != 0 {
                self.stores.block_sync(lanes.clone(), slot * warps..(slot + 1) * warps, slot);
            }
            lanes.for_each(|lane| self.wake(lane));
        }
        Ok(())
    }

    /// A thread comes to what its warp does together; without `combine`, to a warp_sync.
    pub fn together(
        &mut self,
        id: usize,
        line: i32,
        mine: *mut c_void,
        combine: Option<Combine>,
    ) -> Result<(), String> {
        let lanes = self.lanes_of_warp(id);
        let warp = self.warp(id);
        if self.blocks[id / self.threads()].ended > 0 {
            self.none_ended(lanes.clone())?;
        }
        let state = &mut self.warps[warp];
        if state.arrived > 0 && state.line != line {
            return Err(format!("waits for its warp, but other threads of it wait in line {}", state.line));
        }
        state.items[id - lanes.start] = mine;
        (state.arrived, state.line) = (state.arrived + 1, line);
        self.fibers[id].waits = Waits::Warp(line);
        if state.arrived == lanes.len() {
            state.arrived = 0;
            match combine {
                // SAFETY: all lanes have handed in their operands, and stand still.
                Some(combine) => unsafe { combine(state.items.as_mut_ptr(), lanes.len() as u32) },
                None => self.stores.warp_sync(lanes.clone(), warp),
            }
            // Warps that poll do so together: it is no sign that anything goes on.
            let idle = self.idle;
            lanes.for_each(|lane| self.wake(lane));
            self.idle = idle;
        }
        Ok(())
    }

    /// A thread arrives at its cluster's barrier, and goes on.
    pub fn cluster_arrive(&mut self, id: usize) -> Result<(), String> {
        self.release(id);
        let place = id / self.threads() / self.geometry.cluster;
        let all = self.threads() * self.geometry.cluster;
        let cluster = &mut self.clusters[place];
        if self.fibers[id].arrived.replace(cluster.phase).is_some() {
            return Err("arrives at its cluster's barrier again, without having waited".into());
        }
        cluster.arrived += 1;
        if cluster.arrived == all {
            (cluster.arrived, cluster.phase) = (0, cluster.phase + 1);
            for lane in place * all..(place + 1) * all {
                if let Waits::Cluster(_) = self.fibers[lane].waits {
                    self.wake(lane);
                }
            }
        }
        Ok(())
    }

    /// A thread waits for all those of its cluster.
    pub fn cluster_wait(&mut self, id: usize, line: i32) -> Result<(), String> {
        let place = id / self.threads() / self.geometry.cluster;
        let Some(phase) = self.fibers[id].arrived.take() else {
            return Err("waits at its cluster's barrier without having arrived".into());
        };
        if self.clusters[place].phase == phase {
            self.fibers[id].waits = Waits::Cluster(line);
        } else {
            self.wake(id);
        }
        Ok(())
    }

    /// The allocation that holds some bytes that a thread reads or writes.
    pub fn check(&self, address: u64, bytes: u32) -> Result<(u64, usize), String> {
        if !address.is_multiple_of(u64::from(bytes)) {
            return Err(format!("{address:#x} is not aligned to the {bytes} bytes that are read there"));
        }
        // SAFETY: the memory outlives the launch.
        let memory = unsafe { &*self.memory };
        memory.find(address, bytes as usize).ok_or_else(|| memory.outside(address, bytes as usize))
    }

    /// What is read as a constant is none that the launch writes.
    pub fn check_constant(&self, address: u64, bytes: u32) -> Result<(), String> {
        let put = (address..address + u64::from(bytes)).step_by(4).any(|at| self.stores.has_put(at));
        if put { Err("reads as a constant what this kernel puts".into()) } else { Ok(()) }
    }

    pub fn put(&mut self, id: usize, address: u64, bits: u32) {
        self.host.buffered = 1;
        self.stores.put(self.seer(id), address, bits);
    }

    pub fn post(&mut self, id: usize, address: u64, bits: u32) {
        self.host.buffered = 1;
        self.stores.post(self.seer(id), address, bits);
    }

    /// A thread writes to the shared memory of a block of its cluster.
    pub fn put_shared(&mut self, id: usize, address: u64, rank: u32, bits: u32) -> Result<(), String> {
        let slot = id / self.threads();
        let offset = address.wrapping_sub(self.shared_of(slot) as u64);
        let last = (self.geometry.shared_bytes as u64).checked_sub(4);
        if !offset.is_multiple_of(4) || last.is_none_or(|last| offset > last) {
            return Err("puts something outside the shared memory".into());
        }
        if rank as usize >= self.geometry.cluster {
            return Err(format!(
                "puts something into block {rank} of a cluster of {}",
                self.geometry.cluster
            ));
        }
        let place = slot / self.geometry.cluster;
        let target = place * self.geometry.cluster + rank as usize;
        if target != slot && self.clusters[place].phase == 0 {
            return Err(format!(
                "puts something into block {rank} of its cluster, which need not have begun"
            ));
        }
        if self.blocks[target].ended > 0 {
            return Err(format!("puts something into the shared memory of block {rank}, which ends"));
        }
        let there = self.shared_of(target) as u64 + offset;
        if target == slot {
            // SAFETY: the offset lies in the block's shared memory.
            unsafe { (there as *mut u32).write(bits) };
        } else {
            self.put(id, there, bits);
        }
        Ok(())
    }

    pub fn fresh(&self, id: usize, address: u64) -> u32 {
        self.stores.fresh(self.seer(id), address)
    }

    pub fn own(&self, id: usize, address: u64) -> u32 {
        self.stores.own(self.seer(id), address)
    }

    /// Others may see what a thread sees.
    pub fn release(&mut self, id: usize) {
        if self.host.buffered != 0 {
            self.stores.release(self.seer(id));
        }
    }

    /// A word that threads wait for may have changed.
    pub fn word_changed(&mut self) {
        self.words += 1;
        self.idle = 0;
    }

    /// A thread asks for a word. If none has changed since it last did, it waits until one does.
    pub fn poll(&mut self, id: usize, line: i32) {
        if self.fibers[id].polled == Some(self.words) {
            self.fibers[id].waits = Waits::Word(line);
            self.polling.push(id);
        } else {
            self.ready.push(id);
        }
    }

    /// It has asked.
    pub fn polled(&mut self, id: usize) {
        self.fibers[id].polled = Some(self.words);
    }

    /// A thread has come to its end.
    pub fn ended(&mut self, id: usize) {
        self.idle = 0;
        self.fibers[id].waits = Waits::Ended;
        let (slot, threads) = (id / self.threads(), self.threads());
        let block = &mut self.blocks[slot];
        block.ended += 1;
        let (number, all, line) = (block.number, block.ended == threads, block.line);
        let waited_for = block.arrived > 0;
        if waited_for {
            self.fail(id, 0, format!("has ended, but threads of its block wait for it in line {line}"));
        }
        let warp = self.warp(id);
        if self.warps[warp].arrived > 0 {
            let line = self.warps[warp].line;
            self.fail(id, 0, format!("has ended, but threads of its warp wait for it in line {line}"));
        }
        if self.fibers[id].arrived.is_some() {
            self.fail(id, 0, "has ended between arriving at its cluster's barrier and waiting".into());
        }
        self.clusters[slot / self.geometry.cluster].ended += 1;
        if all && self.host.buffered != 0 {
            let warps = self.warps_per_block();
            let lanes = self.lanes_of_block(slot);
            self.stores.block_ended(lanes, slot * warps..(slot + 1) * warps, slot, number);
        }
    }
}

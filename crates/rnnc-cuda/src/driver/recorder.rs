//! A driver for tests: it keeps memory, checks every range that is used against what is allocated, and records the
//! calls. Copies and clears are done, kernels and products are only recorded.

use super::borders::Border;
use super::{
    Address, Apart, Args, Capture, Driver, DriverError, Flag, Geometry, GraphId, HostClock, KernelId, Mark,
    Operand, Point, Product, Source, StreamHandle, Timestamp,
};
use crate::device::Device;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A call of a driver.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // named as the functions of [`Driver`] and their arguments
pub enum Call {
    Allocate { address: Address, bytes: usize },
    Free { address: Address },
    Write { to: Address, bytes: usize },
    WriteBeside { to: Address, bytes: usize },
    Take { from: Address, to: Address, bytes: usize },
    Read { from: Address, bytes: usize },
    Copy { from: Address, to: Address, bytes: usize },
    Clear { at: Address, bytes: usize },
    Load { source: String },
    Launch { kernel: String, geometry: Geometry, args: Args },
    Border(Border),
    Product(Product),
    Stamp(Timestamp),
    BeginRecording { lanes: usize },
    SelectLane { lane: usize, after: Vec<Point> },
    Point(Point),
    EndRecording(GraphId),
    Replay(GraphId),
    Forget(GraphId),
    SelectStream(Option<StreamHandle>),
    BeginAlone,
    EndAlone,
    BeginLanes { lanes: usize },
    EndLanes,
    Fetch { from: Address },
    SetMark(Mark),
    AwaitMark(Mark),
    Synchronize,
}

/// For tests: a driver without a device.
pub struct Recorder {
    device: Device,
    calls: Arc<Mutex<Vec<Call>>>,
    memory: BTreeMap<Address, Vec<u8>>,
    apart: Apart,
    next: Address,
    kernels: Vec<String>,
    recording: Option<Vec<Call>>,
    /// Lanes of the present recording.
    lanes: usize,
    /// Points of it.
    points: usize,
    graphs: Vec<Vec<Call>>,
    marks: usize,
    flags: Vec<u32>,
    clock: HostClock,
    captures: Vec<(StreamHandle, Capture)>,
}

/// Allocations begin here; lower addresses are wrong ones.
const FIRST: Address = 1 << 20;
/// Between allocations, so that a range that leaves one does not reach the next.
const GAP: Address = 4096;

impl Recorder {
    /// A recorder that says it is that device, and the list of the calls that it gets.
    pub fn new(device: Device) -> (Recorder, Arc<Mutex<Vec<Call>>>) {
        let calls = Arc::default();
        let recorder = Recorder {
            device,
            calls: Arc::clone(&calls),
            memory: BTreeMap::new(),
            apart: Apart::default(),
            next: FIRST,
            kernels: Vec::new(),
            recording: None,
            lanes: 0,
            points: 0,
            graphs: Vec::new(),
            marks: 0,
            flags: Vec::new(),
            clock: HostClock::default(),
            captures: Vec::new(),
        };
        (recorder, calls)
    }

    /// From here on, a stream is part of a capture.
    pub fn capturing(mut self, stream: StreamHandle, capture: Capture) -> Recorder {
        self.captures.push((stream, capture));
        self
    }

    fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call; those that can be recorded are also kept for replay.
    fn note(&mut self, call: Call) {
        if let Some(recording) = &mut self.recording {
            recording.push(call.clone());
        }
        self.calls().push(call);
    }

    fn note_unrecorded(&self, name: &'static str, call: Call) -> Result<(), DriverError> {
        if self.recording.is_some() {
            return Err(wrong(name, "commands are being recorded".into()));
        }
        self.calls().push(call);
        Ok(())
    }

    /// The allocation that a range lies in, and where in it.
    fn place(&self, name: &'static str, at: Address, bytes: usize) -> Result<(Address, usize), DriverError> {
        let allocation = self.memory.range(..=at).next_back();
        match allocation {
            Some((&start, memory)) if (at - start) as usize + bytes <= memory.len() => {
                Ok((start, (at - start) as usize))
            }
            Some((&start, memory)) if at < start + memory.len() as u64 => Err(wrong(
                name,
                format!("{bytes} bytes from place {} of an allocation of {} bytes", at - start, memory.len()),
            )),
            _ => Err(wrong(name, format!("{bytes} bytes at {at:#x}, which is not allocated"))),
        }
    }

    fn bytes(&self, name: &'static str, at: Address, bytes: usize) -> Result<&[u8], DriverError> {
        let (start, place) = self.place(name, at, bytes)?;
        Ok(&self.memory[&start][place..place + bytes])
    }

    fn bytes_mut(&mut self, name: &'static str, at: Address, bytes: usize) -> Result<&mut [u8], DriverError> {
        let (start, place) = self.place(name, at, bytes)?;
        self.memory
            .get_mut(&start)
            .map(|memory| &mut memory[place..place + bytes])
            .ok_or_else(|| wrong(name, "not allocated".into()))
    }

    /// Checks a call's ranges and does what it does to memory.
    fn run(&mut self, call: &Call) -> Result<(), DriverError> {
        match *call {
            Call::Copy { from, to, bytes } => {
                if from.abs_diff(to) < bytes as u64 {
                    return Err(wrong("copy", format!("{bytes} bytes from {from:#x} to {to:#x} overlap")));
                }
                let data = self.bytes("copy", from, bytes)?.to_vec();
                self.bytes_mut("copy", to, bytes)?.copy_from_slice(&data);
                Ok(())
            }
            Call::Clear { at, bytes } => {
                self.bytes_mut("clear", at, bytes)?.fill(0);
                Ok(())
            }
            Call::Stamp(at) => self.clock.stamp(at),
            Call::Forget(graph) => Err(wrong("replay", format!("{} was forgotten", graph.0))),
            Call::Launch { ref args, .. } => self.check_args(args),
            Call::Border(ref border) => {
                let mut ranges = border.ranges().into_iter();
                ranges.try_for_each(|(at, bytes)| self.place("launch", at, bytes as usize).map(|_| ()))
            }
            Call::Product(ref product) => {
                let Product { m, n, k, a, b, c, halves, .. } = *product;
                let own = if halves { 2 } else { 4 };
                for (operand, rows, columns, bytes) in [(a, m, k, own), (b, k, n, own), (c, m, n, 4)] {
                    self.place("product", operand.address, extent(&operand, rows, columns) * bytes)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Every address of the arguments is none, or that of something allocated.
    fn check_args(&self, args: &Args) -> Result<(), DriverError> {
        let Args { values, weights, gradients, slots, scratch, since_reset, ahead, run, counters, .. } =
            *args;
        for address in [values, weights, gradients, slots, scratch, since_reset, ahead, run, counters] {
            if address != 0 {
                self.place("launch", address, 1)?;
            }
        }
        if args.first > args.end {
            return Err(wrong("launch", format!("frames {} .. {}", args.first, args.end)));
        }
        Ok(())
    }
}

fn wrong(call: &'static str, what: String) -> DriverError {
    DriverError::Call { call, what }
}

/// Numbers from an operand's first to its last.
fn extent(operand: &Operand, rows: usize, columns: usize) -> usize {
    let (rows, columns) = if operand.transposed { (columns, rows) } else { (rows, columns) };
    rows.saturating_sub(1) * operand.row + columns
}

impl Driver for Recorder {
    fn device(&self) -> &Device {
        &self.device
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, DriverError> {
        let address = self.next;
        self.note_unrecorded("allocate", Call::Allocate { address, bytes })?;
        self.memory.insert(address, vec![0; bytes]);
        self.next = (address + bytes as u64 + GAP).next_multiple_of(256);
        Ok(address)
    }

    fn free(&mut self, address: Address) {
        let freed = self.memory.remove(&address);
        self.apart.forget(address, freed.map_or(0, |memory| memory.len()));
        self.calls().push(Call::Free { address });
    }

    fn write(&mut self, to: Address, data: &[u8]) -> Result<(), DriverError> {
        self.note_unrecorded("write", Call::Write { to, bytes: data.len() })?;
        self.bytes_mut("write", to, data.len())?.copy_from_slice(data);
        Ok(())
    }

    fn write_beside(&mut self, to: Address, data: &[u8]) -> Result<(), DriverError> {
        self.note_unrecorded("write_beside", Call::WriteBeside { to, bytes: data.len() })?;
        self.place("write_beside", to, data.len())?;
        self.apart.write(to, data);
        Ok(())
    }

    fn take(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), DriverError> {
        self.note_unrecorded("take", Call::Take { from, to, bytes })?;
        let data = self.apart.read(from, bytes)?.to_vec();
        self.bytes_mut("take", to, bytes)?.copy_from_slice(&data);
        Ok(())
    }

    fn read(&self, from: Address, into: &mut [u8]) -> Result<(), DriverError> {
        self.note_unrecorded("read", Call::Read { from, bytes: into.len() })?;
        into.copy_from_slice(self.bytes("read", from, into.len())?);
        Ok(())
    }

    fn copy(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), DriverError> {
        self.command(Call::Copy { from, to, bytes })
    }

    fn clear(&mut self, at: Address, bytes: usize) -> Result<(), DriverError> {
        self.command(Call::Clear { at, bytes })
    }

    fn load(&mut self, source: &Source) -> Result<Vec<KernelId>, DriverError> {
        self.note_unrecorded("load", Call::Load { source: source.name.clone() })?;
        let first = self.kernels.len();
        self.kernels.extend(source.kernels.iter().cloned());
        Ok((first..self.kernels.len()).map(KernelId).collect())
    }

    fn occupancy(&self, _: KernelId, geometry: &Geometry) -> Result<usize, DriverError> {
        let cluster = geometry.cluster.max(1);
        Ok(self.device.multiprocessors / cluster * cluster)
    }

    fn launch(&mut self, kernel: KernelId, geometry: &Geometry, args: &Args) -> Result<(), DriverError> {
        let name = self.kernels.get(kernel.0).cloned();
        let name = name.ok_or_else(|| wrong("launch", format!("no kernel {} was loaded", kernel.0)))?;
        let fit = self.occupancy(kernel, geometry)?;
        if geometry.cooperative && geometry.blocks > fit {
            return Err(DriverError::Resident { what: "blocks", name, wanted: geometry.blocks, fit });
        }
        self.command(Call::Launch { kernel: name, geometry: *geometry, args: *args })
    }

    fn launch_border(&mut self, kernel: KernelId, _: &Geometry, border: &Border) -> Result<(), DriverError> {
        if kernel.0 >= self.kernels.len() {
            return Err(wrong("launch", format!("no kernel {} was loaded", kernel.0)));
        }
        self.command(Call::Border(border.clone()))
    }

    fn product(&mut self, product: &Product) -> Result<(), DriverError> {
        self.command(Call::Product(*product))
    }

    fn timestamp(&mut self) -> Result<Timestamp, DriverError> {
        Ok(self.clock.add())
    }

    fn stamp(&mut self, at: Timestamp) -> Result<(), DriverError> {
        self.command(Call::Stamp(at))
    }

    fn elapsed_us(&self, from: Timestamp, to: Timestamp) -> Result<f64, DriverError> {
        self.clock.elapsed_us(from, to)
    }

    fn begin_recording(&mut self, lanes: usize) -> Result<(), DriverError> {
        self.recording = None;
        self.calls().push(Call::BeginRecording { lanes });
        self.recording = Some(Vec::new());
        (self.lanes, self.points) = (lanes, 0);
        Ok(())
    }

    fn select_lane(&mut self, lane: usize, after: &[Point]) -> Result<(), DriverError> {
        if lane >= self.lanes || after.iter().any(|point| point.0 >= self.points) {
            return Err(wrong("select_lane", format!("lane {lane} behind {after:?}")));
        }
        self.note(Call::SelectLane { lane, after: after.to_vec() });
        Ok(())
    }

    fn point(&mut self) -> Result<Point, DriverError> {
        if self.recording.is_none() && self.lanes == 0 {
            return Err(wrong("point", "there are no lanes".into()));
        }
        let point = Point(self.points);
        self.points += 1;
        self.note(Call::Point(point));
        Ok(point)
    }

    fn end_recording(&mut self) -> Result<GraphId, DriverError> {
        let recorded = self.recording.take();
        let recorded = recorded.ok_or_else(|| wrong("end_recording", "nothing is being recorded".into()))?;
        self.lanes = 0;
        self.graphs.push(recorded);
        let graph = GraphId(self.graphs.len() - 1);
        self.calls().push(Call::EndRecording(graph));
        Ok(graph)
    }

    fn replay(&mut self, graph: GraphId) -> Result<(), DriverError> {
        self.note_unrecorded("replay", Call::Replay(graph))?;
        let commands = self.graphs.get(graph.0).cloned();
        let commands =
            commands.ok_or_else(|| wrong("replay", format!("nothing was recorded as {}", graph.0)))?;
        commands.iter().try_for_each(|call| self.run(call))
    }

    fn forget(&mut self, graph: GraphId) -> Result<(), DriverError> {
        self.note_unrecorded("forget", Call::Forget(graph))?;
        // Whoever replays it later is told of it.
        let known = self.graphs.get_mut(graph.0);
        *known.ok_or_else(|| wrong("forget", format!("nothing was recorded as {}", graph.0)))? =
            vec![Call::Forget(graph)];
        Ok(())
    }

    fn product_bytes(&self) -> usize {
        256
    }

    fn select_stream(&mut self, stream: Option<(StreamHandle, Address)>) -> Result<(), DriverError> {
        if let Some((_, products)) = stream {
            self.place("select_stream", products, 256)?;
        }
        self.note_unrecorded("select_stream", Call::SelectStream(stream.map(|(stream, _)| stream)))
    }

    fn capture(&self, stream: StreamHandle) -> Result<Option<Capture>, DriverError> {
        Ok(self.captures.iter().find(|(captured, _)| *captured == stream).map(|&(_, capture)| capture))
    }

    fn begin_alone(&mut self) -> Result<(), DriverError> {
        self.note_unrecorded("begin_alone", Call::BeginAlone)
    }

    fn end_alone(&mut self) -> Result<(), DriverError> {
        self.note_unrecorded("end_alone", Call::EndAlone)
    }

    fn begin_lanes(&mut self, lanes: usize) -> Result<(), DriverError> {
        self.note_unrecorded("begin_lanes", Call::BeginLanes { lanes })?;
        (self.lanes, self.points) = (lanes, 0);
        Ok(())
    }

    fn end_lanes(&mut self) -> Result<(), DriverError> {
        self.lanes = 0;
        self.note_unrecorded("end_lanes", Call::EndLanes)
    }

    fn flag(&mut self) -> Result<Flag, DriverError> {
        self.flags.push(0);
        Ok(Flag(self.flags.len() - 1))
    }

    fn fetch(&mut self, from: Address, flag: Flag) -> Result<(), DriverError> {
        self.note_unrecorded("fetch", Call::Fetch { from })?;
        let mut word = [0; 4];
        word.copy_from_slice(self.bytes("fetch", from, 4)?);
        self.flags[flag.0] = u32::from_ne_bytes(word);
        Ok(())
    }

    fn look(&self, flag: Flag) -> u32 {
        self.flags[flag.0]
    }

    fn lower(&mut self, flag: Flag) {
        self.flags[flag.0] = 0;
    }

    fn permit_capture(&mut self, _: bool) -> Result<(), DriverError> {
        Ok(())
    }

    fn mark(&mut self) -> Result<Mark, DriverError> {
        self.marks += 1;
        Ok(Mark(self.marks - 1))
    }

    fn set_mark(&mut self, mark: Mark) -> Result<(), DriverError> {
        self.note_unrecorded("set_mark", Call::SetMark(mark))
    }

    fn await_mark(&mut self, mark: Mark) -> Result<(), DriverError> {
        self.note_unrecorded("await_mark", Call::AwaitMark(mark))
    }

    fn synchronize(&self) -> Result<(), DriverError> {
        self.note_unrecorded("synchronize", Call::Synchronize)
    }
}

impl Recorder {
    /// Notes a command; runs it if it is not being recorded.
    fn command(&mut self, call: Call) -> Result<(), DriverError> {
        self.note(call.clone());
        if self.recording.is_some() { Ok(()) } else { self.run(&call) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder() -> (Recorder, Arc<Mutex<Vec<Call>>>) {
        Recorder::new(Device::known().remove(0))
    }

    #[test]
    fn memory_is_kept_and_recorded_commands_run_when_they_are_replayed() {
        let (mut recorder, calls) = recorder();
        let at = recorder.allocate(16).unwrap();
        recorder.write(at, &[1, 2, 3, 4]).unwrap();
        recorder.begin_recording(1).unwrap();
        recorder.copy(at, at + 8, 4).unwrap();
        let graph = recorder.end_recording().unwrap();
        let mut read = [9; 4];
        recorder.read(at + 8, &mut read).unwrap();
        assert_eq!(read, [0; 4]);
        recorder.replay(graph).unwrap();
        recorder.read(at + 8, &mut read).unwrap();
        assert_eq!(read, [1, 2, 3, 4]);
        assert_eq!(calls.lock().unwrap().len(), 8);
    }

    #[test]
    fn what_is_written_beside_is_seen_when_it_is_taken() {
        let (mut recorder, _) = recorder();
        let at = recorder.allocate(16).unwrap();
        assert!(recorder.take(at, at + 8, 4).is_err(), "nothing was written");
        assert!(recorder.write_beside(at + 13, &[0; 4]).is_err(), "outside");
        recorder.write_beside(at, &[1, 2, 3, 4]).unwrap();
        recorder.copy(at, at + 4, 4).unwrap();
        let mut read = [9; 4];
        recorder.read(at + 4, &mut read).unwrap();
        assert_eq!(read, [0; 4]);
        recorder.take(at, at + 8, 4).unwrap();
        recorder.read(at + 8, &mut read).unwrap();
        assert_eq!(read, [1, 2, 3, 4]);
        assert!(recorder.take(at, at + 13, 4).is_err(), "to outside");
        recorder.free(at);
        let other = recorder.allocate(16).unwrap();
        assert!(recorder.take(at, other, 4).is_err(), "freed");
    }

    #[test]
    fn what_lies_outside_of_live_memory_is_refused() {
        let (mut recorder, _) = recorder();
        let at = recorder.allocate(64).unwrap();
        let outside = recorder.write(at + 60, &[0; 8]).unwrap_err();
        assert!(outside.to_string().contains("8 bytes from place 60 of an allocation of 64 bytes"));
        assert!(recorder.copy(at, at + 8, 16).is_err(), "an overlap");
        let operand = |row| Operand { address: at, row, transposed: false };
        let mut product = Product {
            m: 4,
            n: 4,
            k: 4,
            a: operand(4),
            b: operand(4),
            c: operand(4),
            halves: false,
            accumulate: false,
        };
        recorder.product(&product).unwrap();
        product.b.row = 5;
        assert!(recorder.product(&product).is_err());
        recorder.begin_recording(1).unwrap();
        recorder.clear(at, 64).unwrap();
        let graph = recorder.end_recording().unwrap();
        recorder.free(at);
        assert!(recorder.replay(graph).is_err(), "what was recorded uses freed memory");
    }

    #[test]
    fn what_cannot_be_recorded_is_refused_in_a_recording() {
        let (mut recorder, _) = recorder();
        let at = recorder.allocate(4).unwrap();
        recorder.begin_recording(1).unwrap();
        assert!(recorder.write(at, &[0]).is_err());
        assert!(recorder.read(at, &mut [0]).is_err());
        assert!(recorder.write_beside(at, &[0]).is_err());
        assert!(recorder.take(at, at + 2, 1).is_err());
        assert!(recorder.allocate(4).is_err());
        assert!(recorder.synchronize().is_err());
    }
}

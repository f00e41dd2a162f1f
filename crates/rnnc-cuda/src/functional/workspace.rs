//! The memory that calls work in. Calls of one stream use one after the other; a stream that takes another's waits for it on the device.
//! Calls that are captured have memory of their own, those of one stream in one capture together: their graph may run at any time.

use crate::driver::{Address, Capture, Driver, DriverError, Flag, Mark, StreamHandle};
use crate::executor::before::Before;
use crate::executor::memory::{Memory, Sizes};
use rnnc_plan::ExecutionConfig;

/// The most workspaces for calls that are not captured, however small they are.
const MOST: usize = 16;

/// All of a program.
pub(super) struct Workspaces {
    /// Those used longest ago first.
    ready: Vec<Workspace>,
    /// How many of those there may be. With more streams at a time, they wait for each other.
    most: usize,
    /// Each with what it is of.
    captured: Vec<((Capture, StreamHandle), Workspace)>,
}

/// Memory for one call at a time.
pub(super) struct Workspace {
    pub memory: Memory,
    /// Of the gradients of the state, if there are any.
    pub before: Option<Memory>,
    /// For products of matrices.
    pub products: Address,
    /// The version of the weights that are there, if that is known.
    pub version: Option<u64>,
    /// What the last call said of faults.
    pub flag: Flag,
    /// Whether one was reported since the device's flag was cleared.
    pub faulted: bool,
    /// Behind the last call.
    done: Mark,
    /// The stream of that call.
    stream: Option<StreamHandle>,
}

impl Workspaces {
    /// None yet, of so many bytes each.
    pub fn new(config: ExecutionConfig, bytes: u128) -> Workspaces {
        Workspaces { ready: Vec::new(), most: config.kept(bytes, MOST), captured: Vec::new() }
    }

    /// The one for a call on that stream.
    pub fn take(
        &mut self,
        driver: &mut dyn Driver,
        stream: StreamHandle,
        capture: Option<Capture>,
        make: impl FnOnce(&mut dyn Driver) -> Result<Workspace, DriverError>,
    ) -> Result<&mut Workspace, DriverError> {
        if let Some(capture) = capture {
            let of = (capture, stream);
            let known = self.captured.iter().position(|(known, _)| *known == of);
            if known.is_none() {
                self.captured.push((of, make(driver)?));
            }
            let place = known.unwrap_or(self.captured.len() - 1);
            return Ok(&mut self.captured[place].1);
        }
        let own = self.ready.iter().position(|workspace| workspace.stream == Some(stream));
        let workspace = match own {
            Some(own) => self.ready.remove(own),
            None if self.ready.len() < self.most => make(driver)?,
            None => self.ready.remove(0),
        };
        self.ready.push(workspace);
        let last = self.ready.len() - 1;
        Ok(&mut self.ready[last])
    }

    /// All there are.
    pub fn all(&mut self) -> impl Iterator<Item = &mut Workspace> {
        self.ready.iter_mut().chain(self.captured.iter_mut().map(|(_, workspace)| workspace))
    }

    /// Waits for all calls that are not part of captured graphs.
    pub fn finish(&mut self, driver: &mut dyn Driver) -> Result<(), DriverError> {
        for workspace in &self.ready {
            if workspace.stream.is_some() {
                driver.await_mark(workspace.done)?;
            }
        }
        driver.synchronize()
    }
}

impl Workspace {
    /// Takes the memory.
    pub fn new(
        driver: &mut dyn Driver,
        sizes: Sizes,
        config: ExecutionConfig,
        before: Option<&Before>,
    ) -> Result<Workspace, DriverError> {
        let memory = Memory::allocate(driver, sizes, 0, config.window * config.streams)?;
        let before = before.and_then(|before| Some((before.sizes()?, 2 * before.depth() * config.streams)));
        let before = before.map(|(sizes, rows)| Memory::allocate(driver, sizes, 0, rows)).transpose()?;
        let products = driver.allocate(driver.product_bytes())?;
        let (flag, done) = (driver.flag()?, driver.mark()?);
        // Its zeros must be there before any stream uses it.
        driver.synchronize()?;
        Ok(Workspace { memory, before, products, version: None, flag, faulted: false, done, stream: None })
    }

    /// A call on the stream begins, to which commands go.
    pub fn begin(&mut self, driver: &mut dyn Driver, stream: StreamHandle) -> Result<(), DriverError> {
        if self.stream.is_some_and(|last| last != stream) {
            driver.await_mark(self.done)?;
        }
        self.stream = Some(stream);
        Ok(())
    }

    /// The call has been told.
    pub fn end(&mut self, driver: &mut dyn Driver) -> Result<(), DriverError> {
        driver.set_mark(self.done)
    }

    /// Gives the memory back.
    pub fn free(&mut self, driver: &mut dyn Driver) {
        self.memory.free(driver);
        if let Some(before) = &self.before {
            before.free(driver);
        }
        driver.free(self.products);
    }
}

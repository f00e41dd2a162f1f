//! The memory that passes compute in, whoever has their values: a run that goes on ([`Run`](crate::Run)), or a call that is a function
//! of what it is given (`functional.rs`).
//!
//! Here lie the weights and their gradients, what is used again in each pass, and what workers compute with. The residuals, which a
//! backward pass reads of its forward pass, may lie elsewhere.

#![allow(unsafe_code)] // residuals in the caller's memory

pub(crate) mod before;

use crate::arrays::{Strided, StridedMut};
use crate::compiled::{Compiled, Sizes};
use crate::flush::FlushSubnormals;
use crate::foreseen::Working;
use crate::memory::{Aligned, Room, Shared};
use crate::ops::border::{self, BufferRows};
use crate::ops::{Local, Share, TILE, once};
use crate::owners::{self, Owners};
use crate::pass;
use crate::places::Region;
use crate::team::{Experience, Work, Worker};
use before::Before;
use rnnc_plan::{ResetTracker, View};
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

/// Memory for the passes of one [`Compiled`], which whoever runs one hands in.
pub(crate) struct Workspace {
    pub values: Aligned,
    pub weights: Aligned,
    pub gradients: Aligned,
    packed: Aligned,
    found: Aligned,
    /// What the steps of `Plan::once` compute with.
    once: Aligned,
    /// Of each worker.
    locals: Vec<Mutex<Local>>,
    /// Debug builds: which share touches what of these.
    owners: Option<Owners>,
    /// Locked only where results are copied out; whoever changes the workspace has it to themselves.
    pub experience: Mutex<Experience>,
    pub tracker: ResetTracker,
    /// Whether the weights were packed since they changed, for each pass.
    packed_for: [bool; 2],
    /// The gradients of the state, if the plan has them.
    pub before: Option<Before>,
}

/// The residuals of a call, wherever they lie.
#[derive(Clone, Copy)]
pub(crate) struct Residuals<'a> {
    begin: *mut f32,
    len: usize,
    /// Whether they are only read, by a backward pass.
    frozen: bool,
    memory: PhantomData<&'a mut [f32]>,
}

impl<'a> Residuals<'a> {
    /// Those that a pass may write.
    pub fn of(values: &'a mut [f32]) -> Residuals<'a> {
        Residuals { begin: values.as_mut_ptr(), len: values.len(), frozen: false, memory: PhantomData }
    }

    /// Those at an address.
    ///
    /// # Safety
    ///
    /// So many numbers lie there for as long as they are used, which nobody else writes, or, unless they are `frozen`, reads.
    pub unsafe fn at(begin: *mut f32, len: usize, frozen: bool) -> Residuals<'a> {
        Residuals { begin, len, frozen, memory: PhantomData }
    }

    /// To read.
    pub fn as_slice(&self) -> &[f32] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: whoever made it said that they lie there.
        unsafe { std::slice::from_raw_parts(self.begin, self.len) }
    }

    /// Some of them, to write.
    fn row(&mut self, at: usize, len: usize) -> &mut [f32] {
        assert!(
            !self.frozen && at.checked_add(len).is_some_and(|end| end <= self.len),
            "a row of the residuals"
        );
        // SAFETY: they lie there and may be written, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.begin.add(at), len) }
    }
}

/// A pass to run.
#[derive(Clone, Copy)]
pub(crate) struct PassCall<'a> {
    pub backward: bool,
    /// The first frame, in the window.
    pub first: usize,
    pub residuals: Residuals<'a>,
    /// Keys the dropout masks.
    pub seed: u64,
}

impl Workspace {
    /// Takes the memory. Weights begin as 0, every stream at its start.
    pub fn new(compiled: &Compiled) -> Workspace {
        let Sizes { values, residuals, weights, gradients, working } = compiled.sizes;
        let Working { packed, found, tiles, pointers, group, outer } = working;
        let local = || {
            Mutex::new(Local {
                tiles: Aligned::new(tiles),
                group: Aligned::new(group),
                outer: Aligned::new(outer),
                pointers: vec![std::ptr::null_mut(); pointers],
            })
        };
        let (config, workers) = (compiled.config, compiled.workers());
        Workspace {
            values: Aligned::new(values),
            weights: Aligned::new(weights),
            gradients: Aligned::new(gradients),
            packed: Aligned::new(packed),
            found: Aligned::new(found),
            once: Aligned::new(compiled.plan.once.room(TILE)),
            locals: (0..workers).map(|_| local()).collect(),
            owners: Owners::new(values + residuals + gradients + packed + found, workers),
            experience: Mutex::default(),
            tracker: ResetTracker::new(config.streams, config.window),
            packed_for: [false; 2],
            before: Before::new(compiled),
        }
    }

    pub fn experience(&mut self) -> &mut Experience {
        self.experience.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Debug builds: what other calls have left here is no number, so that none is taken for this call's.
    pub fn spoil(&mut self) {
        if cfg!(debug_assertions) {
            self.values.as_mut_slice().fill(f32::NAN);
            self.found.as_mut_slice().fill(f32::NAN);
        }
    }

    /// The weights have changed.
    pub fn weights_changed(&mut self) {
        self.packed_for = [false; 2];
        if let Some(before) = &mut self.before {
            before.stale = true;
        }
    }

    /// Runs a pass over the frames from `first` on. `given` has the values of an input in the last so many of them.
    pub fn run<'a>(
        &mut self,
        compiled: &Compiled,
        call: PassCall<'_>,
        given: &(dyn Fn(usize) -> Option<(Strided<'a>, usize)> + Sync),
    ) {
        /// Fewer numbers than these are not worth a barrier.
        const SHARED: usize = 1 << 16;
        // No pass has run since weights changed.
        if self.packed_for == [false; 2] {
            self.derive(compiled, false);
        }
        let PassCall { backward, first, residuals, seed } = call;
        assert!(backward || !residuals.frozen, "a forward pass writes residuals");
        assert!(residuals.len >= compiled.sizes.residuals, "residuals are as long as was said");
        let config = compiled.config;
        let program = if backward { compiled.backward.as_ref() } else { Some(&compiled.forward) };
        let Some(program) = program else { return };
        for range in &program.cleared {
            self.gradients.as_mut_slice()[range.clone()].fill(0.0);
        }
        let packed = self.packed_for[usize::from(backward)];
        let shared = Shared {
            values: [self.values.as_mut_ptr(), residuals.begin],
            backward,
            weights: self.weights.as_slice().as_ptr(),
            gradients: self.gradients.as_mut_ptr(),
            constants: compiled.constants.as_slice().as_ptr(),
            packed: self.packed.as_mut_ptr(),
            found: self.found.as_mut_ptr(),
            room: Room {
                values: [self.values.as_slice().len(), compiled.sizes.residuals],
                weights: self.weights.as_slice().len(),
                gradients: self.gradients.as_slice().len(),
                constants: compiled.constants.as_slice().len(),
                packed: self.packed.as_slice().len(),
                found: self.found.as_slice().len(),
            },
            owners: self.owners.as_ref(),
            tracker: &self.tracker,
            isa: compiled.isa,
            streams: config.streams,
            first,
            end: config.window,
            dropout: config.training.then_some(seed),
        };
        let locals = &self.locals;
        let this_run = self.owners.as_ref().map_or(0, Owners::next_run);
        let (inputs, window) = (&program.inputs, config.window);
        let fill = |share: &Share| {
            for (place, to) in inputs.iter().enumerate() {
                if let Some(to) = to {
                    let (values, new) = given(place).unzip();
                    border::fill(&shared, to, share, window - new.unwrap_or(0), values);
                }
            }
        };
        let width: usize = inputs.iter().flatten().map(|to| to.len).sum();
        let by_all = !program.alone && (window - first) * shared.streams * width >= SHARED;
        if !by_all {
            owners::enters(0);
            fill(&pass::whole(&shared));
        }
        let job = |worker: Worker<'_>| {
            owners::enters(this_run);
            // Its own worker is the only one to take it.
            let mut local = locals[worker.index].lock().unwrap_or_else(PoisonError::into_inner);
            for index in pass::shares(&worker).filter(|_| by_all) {
                if let Some(share) = pass::first_share(&shared, program, (index, worker.count)) {
                    fill(&share);
                }
            }
            if !packed {
                pass::pack(&shared, program, &worker);
            }
            if by_all || !packed {
                worker.barrier();
            }
            pass::run(&shared, program, &worker, &mut local);
        };
        if program.alone {
            compiled.team.alone(&job);
        } else {
            let kind = if backward { Work::Backward } else { Work::Forward };
            let experience = self.experience.get_mut().unwrap_or_else(PoisonError::into_inner);
            compiled.team.share(experience, kind, window - first, &job);
        }
        // Not where a panic has left them half packed.
        self.packed_for[usize::from(backward)] = true;
    }

    /// Runs a backward pass, with what depends on weights alone. `errors` has those of outputs; those of the state that the
    /// window leaves are what [`Before::take_left`] took.
    pub fn run_backward<'a>(
        &mut self,
        compiled: &Compiled,
        call: PassCall<'_>,
        errors: &(dyn Fn(usize) -> Option<(Strided<'a>, usize)> + Sync),
    ) {
        let before = self.before.take();
        let (outputs, frames) = (compiled.plan.forward.outputs().len(), compiled.config.window - call.first);
        // The adjoint's inputs: errors of outputs, then of the state's last frames.
        let given = |place: usize| match place.checked_sub(outputs) {
            None => errors(place),
            Some(vector) => before.as_ref()?.left(vector, frames),
        };
        self.run(compiled, call, &given);
        if compiled.backward.is_some() {
            self.derive(compiled, true);
        }
        self.before = before;
    }

    /// Computes what depends on weights alone, or, backward, adds its gradients to those of the weights.
    fn derive(&mut self, compiled: &Compiled, backward: bool) {
        let once = &compiled.plan.once;
        let steps = if backward { &once.backward } else { &once.forward };
        let (weights, gradients) = (self.weights.as_mut_slice(), self.gradients.as_mut_slice());
        let buffers = once::Buffers { weights, gradients };
        once::run(compiled.isa, steps, buffers, self.once.as_mut_slice());
    }

    /// Copies rows out of a view: frames from `first` of the window on, as many as the array has.
    pub fn copy_out(
        &self,
        compiled: &Compiled,
        residuals: &[f32],
        view: View,
        first: i64,
        out: &StridedMut<'_>,
    ) {
        let _flush = FlushSubnormals::begin();
        if out.shape()[0] == 0 {
            return;
        }
        let to = compiled.target(view);
        let begin = to.base as i64 + first * (compiled.config.streams * to.width) as i64;
        let memory = match to.region {
            Region::Working => self.values.as_slice(),
            Region::Residuals => residuals,
        };
        let rows = BufferRows { values: &memory[begin as usize..], width: to.width, len: view.len };
        border::copy_out(&compiled.team, &self.experience, &rows, out);
    }

    /// A row of a view, in a frame of the window or of the history before it.
    pub fn row<'b>(
        &'b mut self,
        compiled: &Compiled,
        residuals: &'b mut Residuals<'_>,
        view: View,
        (frame, stream): (i64, usize),
    ) -> &'b mut [f32] {
        let to = compiled.target(view);
        let row = frame * compiled.config.streams as i64 + stream as i64;
        let at = (to.base as i64 + row * to.width as i64) as usize;
        match to.region {
            Region::Working => &mut self.values.as_mut_slice()[at..at + view.len],
            Region::Residuals => residuals.row(at, view.len),
        }
    }
}

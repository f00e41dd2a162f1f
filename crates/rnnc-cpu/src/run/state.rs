//! Frames out of the buffers and back in: what a run carries from window to window.

use super::Run;
use crate::workspace::Residuals;
use rnnc_graph::{LayerId, LayerKind};
use rnnc_plan::{ExecutorError, History, Kept, NO_SYMBOL, State, ValuesMut};

impl Run {
    /// [`Executor::state`](rnnc_plan::Executor::state)
    pub fn state(&self) -> State {
        State { kept: self.kept_state(), ..self.forward_state() }
    }

    /// [`Executor::forward_state`](rnnc_plan::Executor::forward_state)
    pub fn forward_state(&self) -> State {
        self.histories_state(0, self.work.tracker.next_since_reset(), self.work.tracker.frames_run())
    }

    /// [`Executor::state_before`](rnnc_plan::Executor::state_before)
    pub fn state_before(&self) -> State {
        let (since_reset, frames) = self.work.tracker.previous();
        self.histories_state(self.new_frames, since_reset, frames)
    }

    /// What forward calls read of the frames up to the one `end` frames back, behind which it is so many steps since each
    /// stream's reset.
    fn histories_state(&self, end: usize, since_reset: &[u64], frames: u64) -> State {
        let read = self.histories();
        let histories = read.filter_map(|(id, depth)| self.history(id, depth, end)).collect();
        State { histories, since_reset: since_reset.to_vec(), frames, kept: None }
    }

    /// What the next backward call reads of older frames.
    fn kept_state(&self) -> Option<Kept> {
        let frames = self.valid_frames.min(self.compiled.plan.kept_frames(self.compiled.config));
        let depths = self.compiled.plan.forward.history_depths();
        let older = |id: LayerId| self.history(id, frames, depths[id.index()]);
        (frames > 0).then(|| Kept {
            frames,
            since_reset: self.work.tracker.last_since_reset(frames).iter().copied().map(u64::from).collect(),
            layers: self.compiled.plan.residual_layers().into_iter().filter_map(older).collect(),
        })
    }

    /// Goes on from a state.
    ///
    /// # Errors
    ///
    /// A state of another network.
    pub fn set_state(&mut self, state: &State) -> Result<(), ExecutorError> {
        state.check(&self.compiled.plan, self.compiled.config)?;
        state.check_single()?;
        let read: Vec<(LayerId, usize)> = self.histories().collect();
        for ((id, depth), history) in read.into_iter().zip(&state.histories) {
            self.put_history(id, history, depth, 0);
        }
        self.work.tracker.set(&state.since_reset, state.frames);
        let frames = state.kept_frames(&self.compiled.plan, self.compiled.config);
        if let Some(kept) = state.kept.as_ref().filter(|_| frames > 0) {
            let depths = self.compiled.plan.forward.history_depths();
            for (id, history) in self.compiled.plan.residual_layers().into_iter().zip(&kept.layers) {
                self.put_history(id, history, frames, depths[id.index()]);
            }
            self.work.tracker.set_last_since_reset(
                &kept.since_reset[(kept.frames - frames) * self.compiled.config.streams..],
            );
        }
        self.new_frames = 0;
        self.backward_frames = 0;
        self.valid_frames = frames;
        Ok(())
    }

    /// Frames of a layer, up to the one `end` frames back: `[depth, B, N]`.
    fn history(&self, id: LayerId, depth: usize, end: usize) -> Option<History> {
        let layer = self.compiled.plan.forward.layer_at(id);
        let symbols = layer.kind == LayerKind::Symbol;
        // Layers that are read with a delay, or by the backward pass, are stored.
        let view = self.compiled.view(false, id)?;
        let mut values = vec![0.0f64; depth * self.compiled.config.streams * view.len];
        let first = self.compiled.config.window as i64 - (depth + end) as i64;
        if symbols {
            let mut bits = vec![0.0f32; values.len()];
            self.copy_out(view, first, depth, &layer.name, ValuesMut::F32(&mut bits)).ok()?;
            for (value, bits) in values.iter_mut().zip(bits) {
                *value = if bits.to_bits() == NO_SYMBOL { -1.0 } else { f64::from(bits.to_bits()) };
            }
        } else {
            self.copy_out(view, first, depth, &layer.name, ValuesMut::F64(&mut values)).ok()?;
        }
        Some(History { layer: layer.name.clone(), depth, size: view.len, symbols, values })
    }

    /// Puts the newest `frames` frames of a history back, up to the one `end` frames back.
    fn put_history(&mut self, id: LayerId, history: &History, frames: usize, end: usize) {
        let Some(view) = self.compiled.view(false, id) else { return };
        let streams = self.compiled.config.streams;
        // The window's last frames: the next call moves them on.
        let first = self.compiled.config.window as i64 - (frames + end) as i64;
        let newest = (history.depth - frames) * streams * view.len;
        let mut residuals = Residuals::of(self.residuals.as_mut_slice());
        for (row, values) in history.values[newest..].chunks_exact(view.len).enumerate() {
            let place = (first + (row / streams) as i64, row % streams);
            let out = self.work.row(&self.compiled, &mut residuals, view, place);
            for (out, &value) in out.iter_mut().zip(values) {
                *out = match (history.symbols, value) {
                    (false, value) => value as f32,
                    (true, value) if value < 0.0 => f32::from_bits(NO_SYMBOL),
                    (true, value) => f32::from_bits(value as u32),
                };
            }
        }
    }

    /// Layers with a history, and how deep it is.
    fn histories(&self) -> impl Iterator<Item = (LayerId, usize)> + '_ {
        let depths = self.compiled.plan.forward.history_depths();
        self.compiled.plan.forward.layer_ids().zip(depths).filter(|&(_, depth)| depth > 0)
    }
}

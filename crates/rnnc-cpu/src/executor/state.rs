//! Frames out of the buffers and back in: what a run carries from window to window.

use super::CpuExecutor;
use rnnc_graph::{LayerId, LayerKind};
use rnnc_plan::{ExecutorError, History, Kept, NO_SYMBOL, State, ValuesMut};

impl CpuExecutor {
    /// What forward calls read of the frames up to the one `end` frames back, behind which it is so many steps since each
    /// stream's reset.
    pub(super) fn histories_state(&self, end: usize, since_reset: &[u64], frames: u64) -> State {
        let read = self.histories();
        let histories = read.filter_map(|(id, depth)| self.history(id, depth, end)).collect();
        State { histories, since_reset: since_reset.to_vec(), frames, kept: None }
    }

    /// What the next backward call reads of older frames.
    pub(super) fn kept_state(&self) -> Option<Kept> {
        let frames = self.valid_frames.min(self.plan.kept_frames(self.config));
        let depths = self.plan.forward.history_depths();
        let older = |id: LayerId| self.history(id, frames, depths[id.index()]);
        (frames > 0).then(|| Kept {
            frames,
            since_reset: self.tracker.last_since_reset(frames).iter().copied().map(u64::from).collect(),
            layers: self.plan.residual_layers().into_iter().filter_map(older).collect(),
        })
    }

    pub(super) fn go_on_from(&mut self, state: &State) -> Result<(), ExecutorError> {
        state.check(&self.plan, self.config)?;
        state.check_single()?;
        let read: Vec<(LayerId, usize)> = self.histories().collect();
        for ((id, depth), history) in read.into_iter().zip(&state.histories) {
            self.put_history(id, history, depth, 0);
        }
        self.tracker.set(&state.since_reset, state.frames);
        let frames = state.kept_frames(&self.plan, self.config);
        if let Some(kept) = state.kept.as_ref().filter(|_| frames > 0) {
            let depths = self.plan.forward.history_depths();
            for (id, history) in self.plan.residual_layers().into_iter().zip(&kept.layers) {
                self.put_history(id, history, frames, depths[id.index()]);
            }
            self.tracker
                .set_last_since_reset(&kept.since_reset[(kept.frames - frames) * self.config.streams..]);
        }
        self.new_frames = 0;
        self.backward_frames = 0;
        self.valid_frames = frames;
        Ok(())
    }

    /// Frames of a layer, up to the one `end` frames back: `[depth, B, N]`.
    fn history(&self, id: LayerId, depth: usize, end: usize) -> Option<History> {
        let layer = self.plan.forward.layer_at(id);
        let symbols = layer.kind == LayerKind::Symbol;
        // Layers that are read with a delay, or by the backward pass, are stored.
        let view = self.view(false, id)?;
        let mut values = vec![0.0f64; depth * self.config.streams * view.len];
        let first = self.config.window as i64 - (depth + end) as i64;
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
        let Some(view) = self.view(false, id) else { return };
        let to = self.target(view);
        let streams = self.config.streams;
        // The window's last frames: the next call moves them on.
        let first = self.config.window as i64 - (frames + end) as i64;
        let start = (to.base as i64 + first * (streams * to.width) as i64) as usize;
        let newest = (history.depth - frames) * streams * view.len;
        for (row, values) in history.values[newest..].chunks_exact(view.len).enumerate() {
            let at = start + row * to.width;
            for (out, &value) in self.values.as_mut_slice()[at..at + view.len].iter_mut().zip(values) {
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
        let depths = self.plan.forward.history_depths();
        self.plan.forward.layer_ids().zip(depths).filter(|&(_, depth)| depth > 0)
    }
}

//! Frames out of the buffers and back in: what a run carries from window to window.

use super::CudaExecutor;
use rnnc_graph::{LayerId, LayerKind};
use rnnc_plan::{ExecutorError, History, Kept, NO_SYMBOL, State, Values, ValuesMut, View};

impl CudaExecutor {
    /// What forward calls read of the frames up to the one `end` frames back, behind which it is so many steps since each
    /// stream's reset.
    pub(super) fn histories_state(
        &self,
        end: usize,
        since_reset: &[u64],
        frames: u64,
    ) -> Result<State, ExecutorError> {
        let read = self.histories().into_iter();
        let histories = read.map(|(id, depth)| self.history(id, depth, end)).collect::<Result<_, _>>()?;
        Ok(State { histories, since_reset: since_reset.to_vec(), frames, kept: None })
    }

    /// What the next backward call reads of older frames.
    pub(super) fn kept_state(&self) -> Result<Option<Kept>, ExecutorError> {
        let frames = self.valid_frames.min(self.plan.kept_frames(self.config));
        if frames == 0 {
            return Ok(None);
        }
        let depths = self.plan.forward.history_depths();
        let saved = self.plan.residual_layers().into_iter();
        Ok(Some(Kept {
            frames,
            since_reset: self.tracker.last_since_reset(frames).iter().copied().map(u64::from).collect(),
            layers: saved.map(|id| self.history(id, frames, depths[id.index()])).collect::<Result<_, _>>()?,
        }))
    }

    pub(super) fn go_on_from(&mut self, state: &State) -> Result<(), ExecutorError> {
        state.check(&self.plan, self.config)?;
        state.check_single()?;
        for ((id, depth), history) in self.histories().into_iter().zip(&state.histories) {
            self.put_history(id, history, depth, 0)?;
        }
        self.tracker.set(&state.since_reset, state.frames);
        let frames = state.kept_frames(&self.plan, self.config);
        if let Some(kept) = state.kept.as_ref().filter(|_| frames > 0) {
            let depths = self.plan.forward.history_depths();
            for (id, history) in self.plan.residual_layers().into_iter().zip(&kept.layers) {
                self.put_history(id, history, frames, depths[id.index()])?;
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
    fn history(&self, id: LayerId, depth: usize, end: usize) -> Result<History, ExecutorError> {
        let layer = self.plan.forward.layer_at(id);
        let symbols = layer.kind == LayerKind::Symbol;
        let view = self.stored(id)?;
        let mut values = vec![0.0f64; depth * self.config.streams * view.len];
        let first = self.config.window as i64 - (depth + end) as i64;
        if symbols {
            let mut bits = vec![0.0f32; values.len()];
            self.copy_out(view, first, depth, &layer.name, ValuesMut::F32(&mut bits))?;
            for (value, bits) in values.iter_mut().zip(bits) {
                *value = if bits.to_bits() == NO_SYMBOL { -1.0 } else { f64::from(bits.to_bits()) };
            }
        } else {
            self.copy_out(view, first, depth, &layer.name, ValuesMut::F64(&mut values))?;
        }
        Ok(History { layer: layer.name.clone(), depth, size: view.len, symbols, values })
    }

    /// Puts the newest `frames` frames of a history back, up to the one `end` frames back.
    fn put_history(
        &mut self,
        id: LayerId,
        history: &History,
        frames: usize,
        end: usize,
    ) -> Result<(), ExecutorError> {
        let view = self.stored(id)?;
        // The window's last frames: the next call moves them on.
        let first = self.config.window as i64 - (frames + end) as i64;
        let newest = &history.values[(history.depth - frames) * self.config.streams * view.len..];
        if !history.symbols {
            return self.copy_in(view, first, frames, Some(Values::F64(newest)));
        }
        let symbol = |&value: &f64| if value < 0.0 { NO_SYMBOL } else { value as u32 };
        let symbols: Vec<u32> = newest.iter().map(symbol).collect();
        self.copy_in(view, first, frames, Some(Values::Symbols(&symbols)))
    }

    /// Layers that are read with a delay, or by the backward pass, are stored.
    fn stored(&self, id: LayerId) -> Result<View, ExecutorError> {
        self.view(false, id).ok_or(ExecutorError::Order("a layer of the state is not stored"))
    }

    /// Layers with a history, and how deep it is.
    fn histories(&self) -> Vec<(LayerId, usize)> {
        let depths = self.plan.forward.history_depths();
        self.plan.forward.layer_ids().zip(depths).filter(|&(_, depth)| depth > 0).collect()
    }
}

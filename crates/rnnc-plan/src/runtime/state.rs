//! What a run carries from one window to the next, and whether it fits a plan.

use super::checks::check_single;
use super::config::ExecutionConfig;
use super::errors::ExecutorError;
use crate::ir::Plan;
use rnnc_graph::{LayerId, LayerKind, count};
use std::collections::HashSet;

/// Some frames of a layer, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The layer's name.
    pub layer: String,
    /// How many frames, D.
    pub depth: usize,
    /// Units, N; for a symbol layer 1, its symbol as a number and -1 for none.
    pub size: usize,
    /// Whether the layer's values are symbols.
    pub symbols: bool,
    /// `[D, B, N]`, oldest first.
    pub values: Vec<f64>,
}

/// All that a causal network carries from window to window.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The last frames of each layer that is read with a positive delay, as many as its largest; in the order of
    /// the layers.
    pub histories: Vec<History>,
    /// Frames since the last reset, or since the stream began, for each stream.
    pub since_reset: Vec<u64>,
    /// Frames run so far in every stream (dropout masks are keyed by it).
    pub frames: u64,
    /// What errors go back through before the next frame; `None` where nothing is kept: in plans without gradients,
    /// where the step is the whole window, and before the first frame.
    pub kept: Option<Kept>,
}

/// The older frames of a window that is longer than a step. Their values are those first computed for them, with
/// weights that are no more, so that they cannot be computed again.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// How many frames, K: all that errors can go back through, but no more than [`Plan::kept_frames`].
    pub frames: usize,
    /// Frames since the last reset, in each of the last K frames: `[K, B]`, oldest first.
    pub since_reset: Vec<u64>,
    /// For each of the [`Plan::residual_layers`], in order, the K frames before those of its history; of a layer that has
    /// none, the last K.
    pub layers: Vec<History>,
}

impl Plan {
    /// The layers of the forward network whose values the backward pass reads.
    pub fn residual_layers(&self) -> Vec<LayerId> {
        let layers = self.adjoint.iter().flat_map(|adjoint| adjoint.layers());
        let mut saved: Vec<LayerId> = layers
            .filter_map(|layer| match layer.kind {
                LayerKind::Residual(of) => Some(of),
                _ => None,
            })
            .collect();
        saved.sort_unstable();
        saved.dedup();
        saved
    }

    /// The most frames before the new ones that a backward call goes through, when the calls before it were of whole
    /// steps: the window less a step, and 0 without gradients.
    pub fn kept_frames(&self, config: ExecutionConfig) -> usize {
        if self.adjoint.is_some() { config.window.saturating_sub(config.step) } else { 0 }
    }
}

impl State {
    /// How many of its kept frames an executor of that plan and config goes on with: the newest, as many as it keeps
    /// itself.
    pub fn kept_frames(&self, plan: &Plan, config: ExecutionConfig) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.frames).min(plan.kept_frames(config))
    }

    /// Whether the state is one of the plan's network, with as many streams as are set up. Kept frames are looked at
    /// if any are of use.
    ///
    /// # Errors
    /// [`ExecutorError::State`], with the layer that is missing, unknown, or of another form.
    pub fn check(&self, plan: &Plan, config: ExecutionConfig) -> Result<(), ExecutorError> {
        let streams = config.streams;
        if self.since_reset.len() != streams {
            return fail(format!(
                "it has {}, and {streams} {} to run: run as many, or begin without a state",
                count(self.since_reset.len(), "stream"),
                if streams == 1 { "is" } else { "are" }
            ));
        }
        let depths = plan.forward.history_depths();
        let read: Vec<(LayerId, usize)> = plan
            .forward
            .layer_ids()
            .map(|id| (id, depths[id.index()]))
            .filter(|&(_, depth)| depth > 0)
            .collect();
        check_layers(&self.histories, &read, plan, streams, "layers that the network reads with a delay")?;
        let Some(kept) = self.kept.as_ref().filter(|_| self.kept_frames(plan, config) > 0) else {
            return Ok(());
        };
        let rows = kept.frames.saturating_mul(streams);
        if kept.since_reset.len() != rows {
            let found = kept.since_reset.len();
            return fail(format!(
                "it has {found} ages of kept frames, not {rows} [{}, {streams}]",
                kept.frames
            ));
        }
        let saved: Vec<(LayerId, usize)> =
            plan.residual_layers().into_iter().map(|id| (id, kept.frames)).collect();
        check_layers(&kept.layers, &saved, plan, streams, "layers that errors read in kept frames")
    }

    /// Refuses numbers that single precision cannot hold, for executors that keep them in it.
    ///
    /// # Errors
    /// [`ExecutorError::TooLarge`].
    pub fn check_single(&self) -> Result<(), ExecutorError> {
        let kept = self.kept.iter().flat_map(|kept| &kept.layers);
        self.histories
            .iter()
            .chain(kept)
            .try_for_each(|history| check_single(&history.layer, &history.values))
    }
}

fn fail(problem: String) -> Result<(), ExecutorError> {
    Err(ExecutorError::State(problem))
}

/// "`a`, `b` and 3 more"
fn listed<'a>(mut names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = names.by_ref().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match (shown.is_empty(), names.len()) {
        (true, _) => "none".into(),
        (_, 0) => shown.join(", "),
        (_, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Whether these are the wanted layers, in their order, with the wanted numbers of frames. `what` they are, in words.
fn check_layers(
    found: &[History],
    wanted: &[(LayerId, usize)],
    plan: &Plan,
    streams: usize,
    what: &str,
) -> Result<(), ExecutorError> {
    let name = |id: LayerId| plan.forward.layer_at(id).name.as_str();
    let given: HashSet<&str> = found.iter().map(|history| &*history.layer).collect();
    let names: HashSet<&str> = wanted.iter().map(|&(id, _)| name(id)).collect();
    let other = |problem: String| {
        let has = listed(found.iter().map(|history| &*history.layer));
        let needed = listed(wanted.iter().map(|&(id, _)| name(id)));
        format!(
            "{problem} (there: {has}; needed: {needed}). It is of another text of the network, or of a version of \
             rnnc that reads the text in another way: begin without a state"
        )
    };
    if let Some(unknown) = found.iter().find(|history| !names.contains(&*history.layer)) {
        return fail(other(format!("it has `{}`, which is none of the {what}", unknown.layer)));
    }
    if let Some(&(id, _)) = wanted.iter().find(|(id, _)| !given.contains(name(*id))) {
        return fail(other(format!("it lacks `{}`, one of the {what}", name(id))));
    }
    if !found.iter().map(|history| &*history.layer).eq(wanted.iter().map(|&(id, _)| name(id))) {
        return fail(format!("the {what} are not in the network's order"));
    }
    for (history, &(id, depth)) in found.iter().zip(wanted) {
        let layer = plan.forward.layer_at(id);
        let symbols = layer.kind == LayerKind::Symbol;
        let size = if symbols { 1 } else { layer.size };
        let expected = depth.saturating_mul(streams).saturating_mul(size);
        if history.values.len() != expected {
            let found = history.values.len();
            return fail(format!(
                "`{}` has {found} values, not {expected} [{depth}, {streams}, {size}]",
                layer.name
            ));
        }
        if (history.depth, history.size, history.symbols) != (depth, size, symbols) {
            let say = |depth: usize, size: usize, symbols: bool| {
                format!("{depth} frames of {size} {}", if symbols { "symbols" } else { "numbers" })
            };
            let found = say(history.depth, history.size, history.symbols);
            return fail(format!("`{}` has {found}, not {}", layer.name, say(depth, size, symbols)));
        }
        // A symbol is an address in a table: none may lie past its end.
        let valid = |&x: &f64| x == -1.0 || (x >= 0.0 && x < layer.size as f64 && x.fract() == 0.0);
        if symbols && let Some(wrong) = history.values.iter().find(|x| !valid(x)) {
            return fail(format!(
                "`{}` has {wrong}, which is none of its {} symbols",
                layer.name, layer.size
            ));
        }
    }
    Ok(())
}

//! The numbers that reports print: work, how much of it is parallel, and the longest chain of dependent steps.

use crate::ir::{Partition, Pass, Plan, Stage, StageKind, Task};
use rnnc_graph::{Graph, Kind, LayerKind};
use serde::Serialize;
use std::collections::HashSet;

/// The numbers of a plan, for the streams and frames that it was made for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Floating-point operations of a window, both passes.
    pub flops: f64,
    /// The part of them (0 to 1) in frames and scan stages, which is parallel over frames.
    pub parallel_share: f64,
    /// By Amdahl's law, no machine runs a window faster than frame after frame by more than this, if only
    /// frames run in parallel: 1 / sum of share / (frames at once).
    pub speed_up_bound: f64,
    /// The dependent steps of a window.
    pub critical_path: u64,
    /// For each stage, in the order of the forward and then the backward pass.
    pub stages: Vec<StageFigures>,
    /// For each cycle of the forward pass, what is saved of it.
    pub saved: Vec<ComponentFigures>,
    /// Numbers that the backward pass needs of each frame of a stream, inputs aside.
    pub saved_per_frame: usize,
}

/// The numbers of a stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageFigures {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes of values and weights touched, in f32.
    pub bytes: f64,
    /// Dependent steps.
    pub steps: u64,
    /// Frames that run at once.
    pub frames_at_once: f64,
    /// Times that workers synchronize in a window, if they share out units.
    pub barriers: u64,
}

/// What is saved of a component for the backward pass.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComponentFigures {
    /// Its place among the components of the forward pass.
    pub component: usize,
    /// The layers saved, by name.
    pub layers: Vec<String>,
    /// Numbers a frame of a stream.
    pub numbers: usize,
    /// The same for each unit of the component's widest layer.
    pub numbers_per_unit: f64,
}

impl Figures {
    /// The numbers of a plan.
    pub fn of(plan: &Plan) -> Figures {
        let frames = plan.options.frames.max(1);
        let streams = plan.options.streams.max(1);
        let all: Vec<(&Stage, StageFigures)> =
            plan.stages().map(|stage| (stage, stage_figures(stage, streams, frames))).collect();
        let flops: f64 = all.iter().map(|(_, f)| f.flops).sum();
        let parallel: f64 = all.iter().filter(|(s, _)| s.kind != StageKind::Loop).map(|(_, f)| f.flops).sum();
        let serial: f64 = all.iter().map(|(_, f)| f.flops / f.frames_at_once).sum();
        let paths = plan.passes().map(|(_, _, pass)| path(pass, frames));
        let saved = saved(plan);
        Figures {
            flops,
            parallel_share: if flops > 0.0 { parallel / flops } else { 1.0 },
            speed_up_bound: if serial > 0.0 { flops / serial } else { frames as f64 },
            critical_path: paths.fold(0, u64::saturating_add),
            stages: all.into_iter().map(|(_, f)| f).collect(),
            saved_per_frame: saved.iter().map(|c| c.numbers).sum(),
            saved: saved
                .into_iter()
                .filter(|c| plan.forward_pass.components.list[c.component].kind != Kind::Frames)
                .collect(),
        }
    }
}

/// Steps that a scan of so many frames takes: it doubles the frames done in each.
fn scan_steps(frames: usize) -> u64 {
    u64::from(frames.max(2).next_power_of_two().trailing_zeros())
}

fn stage_figures(stage: &Stage, streams: usize, frames: usize) -> StageFigures {
    let rows = streams as f64 * frames as f64;
    // Weights are read once for all rows, in a loop once a step.
    let loop_steps = loop_steps(stage, frames);
    let readings = if stage.kind == StageKind::Loop { loop_steps as f64 } else { 1.0 };
    StageFigures {
        flops: stage.cost.flops() as f64 * rows,
        bytes: stage.cost.value_bytes as f64 * rows + stage.cost.weight_bytes as f64 * readings,
        steps: steps(stage, frames),
        frames_at_once: match stage.kind {
            StageKind::Frames => frames as f64,
            StageKind::Scan => (frames as f64 / scan_steps(frames) as f64).max(1.0),
            StageKind::Loop => frames as f64 / loop_steps as f64,
        },
        barriers: match stage.kind {
            StageKind::Loop => loop_steps.saturating_mul(stage.cost.barriers),
            StageKind::Frames | StageKind::Scan => stage.cost.barriers,
        },
    }
}

/// Steps of the slowest loop of a stage.
fn loop_steps(stage: &Stage, frames: usize) -> u64 {
    stage.tasks.iter().map(|t| frames.div_ceil(t.block.clamp(1, frames)) as u64).max().unwrap_or(1)
}

/// Dependent steps of a stage, those of its slowest task.
fn steps(stage: &Stage, frames: usize) -> u64 {
    let of_task = |task: &Task| match stage.kind {
        StageKind::Frames => task.phases.len() as u64,
        StageKind::Scan => scan_steps(frames),
        StageKind::Loop => {
            let blocks = frames.div_ceil(task.block.clamp(1, frames)) as u64;
            blocks.saturating_mul(task.barriers_per_step(Partition::Units).max(1) as u64)
        }
    };
    stage.tasks.iter().map(of_task).max().unwrap_or(0)
}

/// The dependent steps of a pass. Stages of one level run side by side.
fn path(pass: &Pass, frames: usize) -> u64 {
    let slowest = |level: &[Stage]| level.iter().map(|s| steps(s, frames)).max().unwrap_or(0);
    pass.stages.chunk_by(|a, b| a.level == b.level).map(slowest).fold(0, u64::saturating_add)
}

/// What the adjoint reads of each component of the forward network.
fn saved(plan: &Plan) -> Vec<ComponentFigures> {
    let Some(adjoint) = &plan.adjoint else { return Vec::new() };
    let forward = &plan.forward;
    let components = &plan.forward_pass.components;
    let layers: HashSet<_> = adjoint
        .layers()
        .iter()
        .filter_map(|l| match l.kind {
            LayerKind::Residual(of) => Some(of),
            _ => None,
        })
        .filter(|&of| !is_given(forward, of))
        .collect();
    let mut of_component: Vec<Vec<rnnc_graph::LayerId>> = vec![Vec::new(); components.list.len()];
    for id in forward.layer_ids().filter(|id| layers.contains(id)) {
        of_component[components.of_layer[id.index()]].push(id);
    }
    of_component
        .into_iter()
        .enumerate()
        .filter(|(at, saved)| !saved.is_empty() || components.list[*at].kind != Kind::Frames)
        .map(|(component, saved)| {
            let numbers = saved.iter().map(|&l| forward.layer_at(l).size).sum();
            let widest = components.list[component].layers.iter().map(|&l| forward.layer_at(l).size).max();
            ComponentFigures {
                component,
                layers: saved.iter().map(|&l| forward.layer_at(l).name.clone()).collect(),
                numbers,
                numbers_per_unit: numbers as f64 / widest.unwrap_or(1).max(1) as f64,
            }
        })
        .collect()
}

fn is_given(graph: &Graph, layer: rnnc_graph::LayerId) -> bool {
    matches!(graph.layer_at(layer).kind, LayerKind::Input | LayerKind::Symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_doubles_what_is_done_in_each_step() {
        let steps: Vec<u64> = [1, 2, 3, 256, 257].into_iter().map(scan_steps).collect();
        assert_eq!(steps, [1, 1, 2, 8, 9]);
    }
}

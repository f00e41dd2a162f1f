//! Buffers share room only if they are never in use together.

mod nets;

use proptest::prelude::*;
use proptest::test_runner::contextualize_config;
use rnnc_graph::{Graph, LayerKind};
use rnnc_plan::{BufferId, Op, Optimizer, Plan, PlanOptions, Residency, Stage};
use std::collections::HashSet;

/// The buffers that a stage reads or writes.
fn uses(stage: &Stage) -> Vec<BufferId> {
    let mut used = Vec::new();
    for op in stage.tasks.iter().flat_map(|t| &t.phases).flat_map(|p| &p.ops).map(|placed| &placed.op) {
        match op {
            Op::MatMul(list) => used.extend(list.iter().flat_map(|p| [p.to.buffer, p.from.view.buffer])),
            Op::Gather(list) => used.extend(list.iter().flat_map(|l| [l.to.buffer, l.symbol.view.buffer])),
            Op::Map(map) => {
                used.extend(map.reads().map(|read| read.view.buffer));
                used.extend(map.stores().map(|to| to.buffer));
            }
            Op::Vector(vector) => {
                used.push(vector.to.buffer);
                used.extend(vector.operands.iter().map(|read| read.view.buffer));
            }
            Op::WeightGradient(list) => {
                used.extend(list.iter().flat_map(|s| [s.error.buffer, s.source.view.buffer]))
            }
            Op::TableGradient(list) => {
                used.extend(list.iter().flat_map(|s| [s.error.buffer, s.symbol.view.buffer]))
            }
            Op::Reduce(list) => {
                used.extend(list.iter().map(|s| s.error.buffer));
                used.extend(list.iter().filter_map(|s| s.source).map(|read| read.view.buffer));
            }
        }
    }
    used
}

/// For each buffer whether it must stay, and the levels (of both passes, in order) in which it is in use: from the
/// first to the last that touches it.
fn in_use(plan: &Plan) -> Vec<(bool, Vec<bool>)> {
    let passes = [Some(&plan.forward_pass), plan.backward_pass.as_ref()];
    let levels: Vec<Vec<BufferId>> = passes
        .into_iter()
        .flatten()
        .flat_map(|pass| pass.stages.chunk_by(|a, b| a.level == b.level))
        .map(|level| level.iter().flat_map(uses).collect())
        .collect();
    let mut stays: Vec<bool> = plan.buffers.iter().map(|b| b.history > 0).collect();
    let mut stay = |graph: &Graph, pass: &rnnc_plan::Pass| {
        for id in graph.layer_ids() {
            let given = matches!(graph.layer_at(id).kind, LayerKind::Input | LayerKind::Symbol);
            if given || graph.outputs().iter().any(|o| o.layer == id) {
                stays[pass.storage[id.index()].unwrap().buffer.0] = true;
            }
        }
    };
    stay(&plan.forward, &plan.forward_pass);
    if let (Some(graph), Some(pass)) = (&plan.adjoint, &plan.backward_pass) {
        stay(graph, pass);
    }
    (0..plan.buffers.len())
        .map(|i| {
            let touched: Vec<bool> = levels.iter().map(|used| used.contains(&BufferId(i))).collect();
            let first = touched.iter().position(|&t| t).unwrap_or(touched.len());
            let last = touched.iter().rposition(|&t| t).unwrap_or(0);
            (stays[i], (0..touched.len()).map(|l| first <= l && l <= last).collect())
        })
        .collect()
}

fn check(plan: &Plan, streams: usize, frames: usize) {
    for residuals_apart in [false, true] {
        check_placement(plan, streams, frames, residuals_apart);
    }
}

fn check_placement(plan: &Plan, streams: usize, frames: usize, residuals_apart: bool) {
    let residency = Residency { residuals_apart, ..Residency::default() };
    let placement = plan.place(streams, frames, false, &residency);
    assert!(residuals_apart || placement.residuals_total == 0);
    // What the backward pass uses of what the forward pass uses, or is handed in to it.
    let uses_of = |pass: Option<&rnnc_plan::Pass>| -> HashSet<BufferId> {
        pass.into_iter().flat_map(|pass| &pass.stages).flat_map(uses).collect()
    };
    let mut forward = uses_of(Some(&plan.forward_pass));
    forward.extend(plan.forward_pass.storage.iter().flatten().map(|view| view.buffer));
    let backward = uses_of(plan.backward_pass.as_ref());
    for (i, &is_residual) in placement.residuals.iter().enumerate() {
        let both = forward.contains(&BufferId(i)) && backward.contains(&BufferId(i));
        assert_eq!(is_residual, residuals_apart && both, "`{}`", plan.buffers[i].name);
    }
    let used = in_use(plan);
    for (i, buffer) in plan.buffers.iter().enumerate() {
        let bytes = 4 * buffer.width * streams * (frames + buffer.history);
        assert!(placement.sizes[i] >= bytes as u128 && placement.offsets[i].is_multiple_of(64));
        let total = if placement.residuals[i] { placement.residuals_total } else { placement.total };
        assert!(placement.offsets[i] + placement.sizes[i] <= total);
        for j in (0..i).filter(|&j| placement.residuals[i] == placement.residuals[j]) {
            let apart =
                |a: usize, b: usize| placement.offsets[a] + placement.sizes[a] <= placement.offsets[b];
            if apart(i, j) || apart(j, i) {
                continue;
            }
            let together = used[i].1.iter().zip(&used[j].1).any(|(a, b)| *a && *b);
            assert!(
                !used[i].0 && !used[j].0 && !together,
                "`{}` and `{}` share room",
                buffer.name,
                plan.buffers[j].name
            );
        }
    }
}

proptest! {
    #![proptest_config(contextualize_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(256)
    }))]
    #[test]
    fn buffers_in_use_together_never_share_room(
        graph in nets::random::networks(16),
        streams in 1usize..4,
        frames in 1usize..40,
        gradients in any::<bool>(),
    ) {
        let options = PlanOptions { gradients, ..PlanOptions::inference(streams, frames) };
        check(&Plan::new(&graph, options.with_input_gradients()).unwrap(), streams, frames);
    }
}

#[test]
fn buffers_of_known_networks_in_use_together_never_share_room() {
    for graph in [
        nets::text_model(20, 32),
        nets::gru(12, 32),
        nets::sru(12, 32),
        nets::two_towers(12, 32),
        nets::bidirectional(12, 32),
    ] {
        for options in [PlanOptions::inference(2, 30), PlanOptions::training(2, 30)] {
            check(&Plan::new(&graph, options).unwrap(), 2, 30);
        }
    }
}

#[test]
fn buffers_whose_lifetimes_do_not_overlap_share_room() {
    let (streams, frames) = (2, 32);
    let plan = Plan::new(&nets::text_model(20, 32), PlanOptions::training(streams, frames)).unwrap();
    let placement = plan.place(streams, frames, false, &Residency::default());
    let apart: u128 = placement.sizes.iter().sum();
    assert!(placement.total < apart, "{} of {apart} bytes", placement.total);
    let memory = |optimizer| plan.memory(&placement, optimizer);
    assert_eq!(memory(Optimizer::Adam).buffers, placement.total);
    let weights = memory(Optimizer::Adam).weights;
    assert_eq!([Optimizer::Adam, Optimizer::Sgd].map(|o| memory(o).slots), [2 * weights, weights]);
    // What is kept for older frames cannot be lent.
    assert!(plan.place(streams, frames, true, &Residency::default()).total >= placement.total);
}

#[test]
fn sizes_past_all_memory_are_counted_not_overflowed() {
    let plan = Plan::new(&nets::lstm(12, 32, false), PlanOptions::training(1, 64)).unwrap();
    let placement = plan.place(usize::MAX >> 8, usize::MAX >> 8, false, &Residency::default());
    assert!(placement.total > u128::from(u64::MAX));
}

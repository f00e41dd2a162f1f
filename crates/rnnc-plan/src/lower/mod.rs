//! From a network to a plan.
//!
//! `levels.rs` gives each layer its stage and phase; `lowering.rs` groups layers into maps and gives values their buffers;
//! `layout.rs` lays out the weights; `maps.rs` writes the elementwise programs, and `emit.rs` all other operations, which
//! `fuse.rs` fuses; `once.rs` writes the programs of what depends on weights alone.

mod emit;
mod fuse;
mod layout;
mod levels;
mod lowering;
mod maps;
mod once;

use crate::analysis::memory;
use crate::ir::{Once, Plan, PlanError, PlanOptions, WeightLayout};
use emit::emit;
use lowering::{Lowering, Residuals};
use rnnc_graph::{Adjoint, AdjointOptions, Components, Graph, LayerId, LayerKind, WeightId};
use std::collections::HashSet;

impl Plan {
    /// Plans a network. The graph is validated first.
    pub fn new(graph: &Graph, options: PlanOptions) -> Result<Plan, PlanError> {
        rnnc_graph::validate(graph)?;
        let (forward, constants) = rnnc_graph::split_constants(rnnc_graph::normalize(graph));
        let (forward, adjoint, state_adjoint) = if options.gradients {
            let PlanOptions { input_gradients, state_gradients, .. } = options;
            let wanted = AdjointOptions { input_gradients, state_gradients };
            let Adjoint { forward, graph, state } = Adjoint::of_normal(forward, wanted)?;
            (forward, Some(graph), state)
        } else {
            (forward, None, None)
        };
        let saved = adjoint.as_ref().map(Residuals::of).unwrap_or_default();
        let mut buffers = Vec::new();

        let mut lowering = Lowering::new(&forward, None, Components::find(&forward)?, &saved);
        let bundles = lowering.bundles_by_source();
        let weights = WeightLayout::new(&forward, &bundles)?;
        lowering.store(bundles, |_| None, &saved, &mut buffers)?;
        let forward_pass = emit(lowering, &weights);

        let (once, touched) = match &constants {
            Some(constants) => Once::new(constants, &weights, options.gradients)?,
            None => Default::default(),
        };
        let mut backward_pass = match &adjoint {
            None => None,
            Some(adjoint) => {
                let none = Residuals::default();
                let mut lowering = Lowering::new(adjoint, Some(&forward), Components::find(adjoint)?, &none);
                let mut bundles = lowering.bundles_by_source();
                bundles.extend(lowering.bundles_by_target(&weights));
                let given = |layer: LayerId| match adjoint.layer_at(layer).kind {
                    LayerKind::Residual(of) => forward_pass.storage[of.index()],
                    _ => None,
                };
                lowering.store(bundles, given, &none, &mut buffers)?;
                Some(emit(lowering, &weights))
            }
        };
        if let (Some(pass), Some(adjoint)) = (&mut backward_pass, &adjoint) {
            // What is only added to after the pass begins as 0.
            let written: HashSet<WeightId> = adjoint.accumulations().iter().map(|a| a.weight).collect();
            let added = touched.into_iter().filter(|weight| !written.contains(weight));
            pass.cleared.extend(added.map(|w| (weights.view(w).offset, forward.weight_at(w).len())));
            pass.cleared.sort_unstable();
        }
        let mut plan = Plan {
            options,
            forward,
            constants,
            once,
            adjoint,
            state_adjoint,
            weights,
            buffers,
            forward_pass,
            backward_pass,
        };
        memory::find_lifetimes(&mut plan);
        debug_assert_eq!(plan.verify(), Ok(()));
        Ok(plan)
    }
}

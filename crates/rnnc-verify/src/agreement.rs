//! An executor against the reference: outputs, gradients and state, window by window. How much they may differ follows from
//! how much rounding the network amplifies.

use crate::compare::{Finding, Tolerance, compare};
use crate::conditioning::{Rounding, altered};
use crate::error::VerifyError;
use crate::run::{Make, run, write_weights};
use crate::trial::Trial;
use rnnc_reference::ReferenceExecutor;

/// How often the reference runs with roundings.
const ALTERED: u64 = 3;

/// Compares all that an executor makes of a trial, in its windows, with what the reference does.
///
/// # Errors
/// Those of the executors.
pub fn agreement(trial: &Trial<'_>, make: Make<'_>, rounding: Rounding) -> Result<Vec<Finding>, VerifyError> {
    // First, for it may refuse.
    let mut executor = make(trial.plan()?, trial.config)?;
    write_weights(executor.as_mut(), &trial.weights)?;
    let found = run(executor.as_mut(), trial)?;
    let mut reference = ReferenceExecutor::new(trial.plan()?, trial.config)?;
    write_weights(&mut reference, &trial.weights)?;
    let expected = run(&mut reference, trial)?;
    let altered = altered(trial, rounding.unit, ALTERED)?;
    Ok(compare(&expected, &altered, &found, Tolerance::of(rounding.tolerance)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::Spread;
    use rnnc_graph::{Activation, Connect, Graph, Init};
    use rnnc_plan::{ExecutionConfig, Precision};

    /// h = tanh(W x + U h[t-1]), and y = scale h - scale h + h, of which rounding leaves little where the scale is large.
    fn network(scale: f64) -> Graph {
        let mut graph = Graph::new("elman");
        let x = graph.input("x", 3);
        let h = graph.sum("h", 4, Activation::Tanh);
        let w = graph.weight("h.W.x", &[4, 3], Init::Glorot);
        let u = graph.weight("h.W.h[t-1]", &[4, 4], Init::Orthogonal);
        graph.connect(x, h, Connect::full(w));
        graph.connect(h, h, Connect::full(u).delay(1));
        let up = graph.sum("up", 4, Activation::Identity);
        graph.connect(h, up, Connect::scaled(scale));
        graph.connect(h, up, Connect::identity());
        let y = graph.sum("y", 4, Activation::Identity);
        graph.connect(up, y, Connect::identity());
        graph.connect(h, y, Connect::scaled(-scale));
        graph.output("y", y);
        graph
    }

    /// How many arrays differ, if the executor's numbers are rounded to so much of themselves.
    fn wrong(scale: f64, rounded: f64, precision: Precision) -> usize {
        let graph = network(scale);
        let trial = Trial::draw(&graph, ExecutionConfig::new(2, 8), &[8], 0.1, Spread::PLAIN).unwrap();
        let make: Make<'_> =
            &|plan, config| Ok(Box::new(ReferenceExecutor::new(plan, config)?.with_rounding(rounded, 77)));
        let found = agreement(&trial.halved(), make, Rounding::of(precision)).unwrap();
        assert_eq!(found.len(), 2 * (1 + 2 + 1) + 2);
        found.into_iter().filter(|finding| finding.problem.is_some()).count()
    }

    #[test]
    fn an_executor_may_round_as_its_precision_says_and_no_coarser() {
        assert_eq!(wrong(1.0, 0.0, Precision::F32), 0);
        assert_eq!(wrong(1.0, 6e-8, Precision::F32), 0);
        assert!(wrong(1.0, 4e-3, Precision::F32) > 4);
        assert_eq!(wrong(1.0, 4e-3, Precision::Bf16), 0);
        assert!(wrong(1.0, 0.3, Precision::Bf16) > 0);
    }

    #[test]
    fn where_a_network_amplifies_rounding_more_of_it_is_allowed() {
        assert!(wrong(1e5, 6e-8, Precision::F32) == 0 && wrong(1.0, 6e-4, Precision::F32) > 0);
        assert!(wrong(1e5, 4e-3, Precision::F32) > 0);
    }
}

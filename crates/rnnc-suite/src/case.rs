//! A network with streams, windows and resets.

use crate::cells::cell_networks;
use crate::networks::{activation_networks, networks, operation_networks};
use rnnc_graph::{Graph, name_key};
use rnnc_plan::{ExecutionConfig, Plan, PlanError, PlanOptions};
use rnnc_verify::{Spread, Trial};

/// What an executor is to run.
#[derive(Clone, Debug)]
pub struct Case {
    /// Says what it is, and is unique.
    pub name: String,
    /// The network.
    pub graph: Graph,
    /// Streams, B.
    pub streams: usize,
    /// The frames of each forward call.
    pub windows: Vec<usize>,
    /// Errors go back through this many frames, h.
    pub window: usize,
    /// The most frames of a forward call, h'.
    pub step: usize,
    /// The chance of a reset in a frame of a stream.
    pub resets: f64,
    /// Whether dropout is on.
    pub training: bool,
    /// Draws the numbers.
    pub seed: u64,
}

impl Case {
    /// A case whose errors go back through the longest of its windows.
    pub fn new(name: &str, graph: Graph, streams: usize, windows: &[usize], resets: f64) -> Case {
        let longest = windows.iter().copied().max().unwrap_or(1);
        let units = graph.layers().iter().map(|l| l.size).max().unwrap_or(0);
        let name =
            format!("{name}: up to {units} units, {streams} streams, windows {windows:?}, resets {resets}");
        Case {
            // Its own, so that a case more leaves the others' numbers alone.
            seed: name_key(&name),
            name,
            graph,
            streams,
            windows: windows.to_vec(),
            window: longest,
            step: longest,
            resets,
            training: false,
        }
    }

    /// The same, but errors go back through h frames; only for networks that do not look ahead.
    pub fn with_window(mut self, window: usize) -> Case {
        self.name = format!("{}, BPTT({window}; {})", self.name, self.step);
        self.window = window;
        self
    }

    /// How an executor is to be set up.
    pub fn config(&self) -> ExecutionConfig {
        ExecutionConfig {
            window: self.window,
            step: self.step,
            training: self.training,
            seed: self.seed,
            ..ExecutionConfig::new(self.streams, self.window)
        }
    }

    /// Its numbers.
    ///
    /// # Errors
    /// If they are more than memory holds.
    pub fn trial(&self) -> Result<Trial<'_>, String> {
        Trial::draw(&self.graph, self.config(), &self.windows, self.resets, Spread::AWKWARD)
            .map_err(|error| error.to_string())
    }

    /// Its plan, with all gradients.
    ///
    /// # Errors
    /// If the network is none.
    pub fn plan(&self) -> Result<Plan, PlanError> {
        Plan::new(&self.graph, PlanOptions::training(self.streams, self.window).with_input_gradients())
    }
}

/// All cases: every network at awkward sizes, split into windows in several ways, with 1 to 17 streams.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (k, network) in networks().into_iter().enumerate() {
        let graph = |m, n: [usize; 3]| (network.build)(m, n[k % 3]);
        let mut add = |case: Case| {
            // With dropout on; and off, where there are many streams.
            let training = case.streams < 17;
            cases.push(Case { training, ..case });
        };
        let name = network.name;
        add(Case::new(name, graph(3, [3, 7, 17]), 1, &[6, 6], 0.0));
        add(Case::new(name, graph(5, [16, 5, 33]), 2 + k % 2, &[1, 2, 7, 4, 1], 0.15));
        let truncated = Case::new(name, graph(1, [7, 16, 1]), [1, 5][k % 2], &[4, 4, 3, 4], 0.1);
        let ahead = truncated.graph.looks_ahead();
        add(if ahead { truncated } else { truncated.with_window(10) });
        add(Case::new(name, graph(16, [1, 17, 3]), 17, &[5, 3], 0.2));
        if network.usual {
            add(Case::new(name, (network.build)(33, 64), 1, &[9, 9], 0.0));
            add(Case::new(name, (network.build)(17, 100), 4, &[8], 0.1));
            add(Case::new(name, (network.build)(2, 33), 1, &[1; 6], 0.1));
        }
    }
    for (name, graph) in activation_networks(3, 5).into_iter().chain(operation_networks(3, 5)) {
        cases.push(Case::new(&name, graph, 3, &[5, 4], 0.1));
    }
    for (name, graph) in cell_networks(5, 8) {
        let split = Case::new(&name, graph.clone(), 3, &[1, 4, 3], 0.15);
        cases.push(if graph.looks_ahead() { split } else { split.with_window(7) });
        cases.push(Case::new(&name, graph, 1, &[6, 6], 0.0));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_case_is_a_network_and_has_a_name_of_its_own() {
        let mut names = HashSet::new();
        for case in cases() {
            assert!(names.insert(case.name.clone()), "{} is there twice", case.name);
            if let Err(error) = case.plan() {
                panic!("{}: {error}", case.name);
            }
        }
    }
}

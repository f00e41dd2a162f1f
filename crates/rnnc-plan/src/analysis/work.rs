//! What a window of a plan cannot do without: products, weights that are read for them, and values that move.
//!
//! Counts from the plan alone. What time they take at least follows with a machine's speeds.

use crate::ir::{Op, Pass, Plan, PlanOptions, Stage, StageKind, View};
use serde::Serialize;

/// The work of a stage in one window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StageWork {
    /// How the stage runs.
    pub kind: StageKind,
    /// How often it goes through its weights: once for all frames, in a loop once a step.
    pub readings: u64,
    /// Bytes of the weight matrices (or gradients of matrices) of its products, in f32: of one reading.
    pub weight_bytes: u64,
    /// Floating-point operations of its products.
    pub product_flops: u64,
    /// All other floating-point operations; a transcendental function counts 10.
    pub other_flops: u64,
    /// Bytes of the values that anything but products reads or writes, in f32. A value counts once, however often the
    /// stage touches it: it comes from memory, or goes there, once.
    pub value_bytes: u64,
}

impl StageWork {
    /// All floating-point operations.
    pub fn flops(&self) -> u64 {
        self.product_flops.saturating_add(self.other_flops)
    }

    /// All bytes: weights as often as they are read, and values.
    pub fn bytes(&self) -> u64 {
        self.readings.saturating_mul(self.weight_bytes).saturating_add(self.value_bytes)
    }

    /// Of a stage, in a window of so many frames of so many streams.
    pub fn of(stage: &Stage, streams: usize, frames: usize) -> StageWork {
        let rows = (streams as u64).saturating_mul(frames as u64);
        let step = |block: usize| frames.div_ceil(block.clamp(1, frames.max(1))) as u64;
        StageWork {
            kind: stage.kind,
            readings: match stage.kind {
                StageKind::Loop => stage.tasks.iter().map(|t| step(t.block)).max().unwrap_or(0),
                StageKind::Frames | StageKind::Scan => 1,
            },
            weight_bytes: stage.cost.weight_bytes,
            product_flops: stage.cost.product_flops.saturating_mul(rows),
            other_flops: stage.cost.other_flops.saturating_mul(rows),
            value_bytes: stage.values_moved(|_| true).saturating_mul(rows).saturating_mul(4),
        }
    }
}

impl Plan {
    /// The work of each stage of the forward pass in a window, for the streams and frames that the plan was made for.
    pub fn forward_work(&self) -> Vec<StageWork> {
        self.work_of(&self.forward_pass)
    }

    /// The same of the backward pass, if there is one.
    pub fn backward_work(&self) -> Vec<StageWork> {
        self.backward_pass.as_ref().map_or_else(Vec::new, |pass| self.work_of(pass))
    }

    fn work_of(&self, pass: &Pass) -> Vec<StageWork> {
        let PlanOptions { streams, frames, .. } = self.options;
        pass.stages.iter().map(|stage| StageWork::of(stage, streams, frames)).collect()
    }
}

impl Stage {
    /// How many numbers of a row its operations touch that are no products, in some of the views. Each counts once.
    pub fn values_moved(&self, counts: impl Fn(&View) -> bool) -> u64 {
        let mut views: Vec<View> = Vec::new();
        for placed in self.tasks.iter().flat_map(|t| &t.phases).flat_map(|p| &p.ops) {
            match &placed.op {
                Op::MatMul(_) | Op::WeightGradient(_) => {}
                Op::Gather(look_ups) => views.extend(look_ups.iter().map(|l| l.to)),
                Op::Map(map) => views.extend(map.reads().map(|read| read.view).chain(map.stores())),
                Op::Vector(vector) => {
                    views.extend(vector.operands.iter().map(|read| read.view));
                    views.push(vector.to);
                }
                Op::TableGradient(sums) => views.extend(sums.iter().map(|s| s.error)),
                Op::Reduce(sums) => {
                    for sum in sums {
                        views.push(sum.error);
                        views.extend(sum.source.map(|read| read.view));
                    }
                }
            }
        }
        views.retain(counts);
        views.sort();
        let (mut count, mut end) = (0, (None, 0));
        for view in views {
            let first = if end.0 == Some(view.buffer) { view.column.max(end.1) } else { view.column };
            let last = view.column + view.len;
            count += last.saturating_sub(first) as u64;
            end = (Some(view.buffer), last.max(first));
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use crate::{Plan, PlanOptions, StageKind};
    use rnnc_graph::{Activation, Connect, Graph, Init};

    /// h = tanh(W x + U h[t-1]), of 8 units and 3 inputs.
    fn elman() -> Graph {
        let mut graph = Graph::new("elman");
        let x = graph.input("x", 3);
        let h = graph.sum("h", 8, Activation::Tanh);
        let w = graph.weight("W", &[8, 3], Init::Uniform(0.3));
        let u = graph.weight("U", &[8, 8], Init::Uniform(0.3));
        graph.connect(x, h, Connect::full(w));
        graph.connect(h, h, Connect::full(u).delay(1));
        graph.output("h", h);
        graph
    }

    #[test]
    fn a_loop_reads_its_weights_in_every_frame_and_touches_each_value_once() {
        let plan = Plan::new(&elman(), PlanOptions::inference(2, 10)).unwrap();
        let work = plan.forward_work();
        let of = |kind| work.iter().find(|stage| stage.kind == kind).unwrap();
        let (hoisted, in_loop) = (of(StageKind::Frames), of(StageKind::Loop));
        assert_eq!((hoisted.readings, hoisted.weight_bytes), (1, 4 * 8 * 3));
        assert_eq!((in_loop.readings, in_loop.weight_bytes), (10, 4 * 8 * 8));
        assert_eq!(in_loop.product_flops, 20 * 2 * 8 * 8);
        // The sums and the values of h, if they do not lie in one place.
        assert!([20 * 4 * 8, 20 * 4 * 16].contains(&in_loop.value_bytes), "{in_loop:?}");
        assert_eq!(in_loop.bytes(), 10 * 4 * 64 + in_loop.value_bytes);
        assert!(plan.backward_work().is_empty());
    }

    #[test]
    fn gradients_take_twice_the_products_of_the_values() {
        let plan = Plan::new(&elman(), PlanOptions::training(2, 10).with_input_gradients()).unwrap();
        let products = |work: Vec<super::StageWork>| work.iter().map(|s| s.product_flops).sum::<u64>();
        assert_eq!(products(plan.backward_work()), 2 * products(plan.forward_work()));
    }
}

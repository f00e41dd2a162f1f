//! What plans must be like, network by network: nothing here needs a device.

mod nets;

use nets::{Identity, Net, Tanh};
use rnnc_graph::{Direction, Graph, Kind, Range};
use rnnc_plan::{Op, OuterSum, Partition, Pass, Plan, PlanOptions, Product, Stage, StageKind, Task, View};
use std::collections::HashSet;

fn plan(graph: &Graph) -> Plan {
    Plan::new(graph, PlanOptions::training(1, 64)).unwrap()
}

fn backward(plan: &Plan) -> &Pass {
    plan.backward_pass.as_ref().unwrap()
}

fn both(plan: &Plan) -> [&Pass; 2] {
    [&plan.forward_pass, backward(plan)]
}

fn kinds(pass: &Pass) -> Vec<StageKind> {
    pass.stages.iter().map(|s| s.kind).collect()
}

fn ops(stage: &Stage) -> impl Iterator<Item = &Op> {
    stage.tasks.iter().flat_map(task_ops)
}

fn task_ops(task: &Task) -> impl Iterator<Item = &Op> {
    task.phases.iter().flat_map(|p| &p.ops).map(|placed| &placed.op)
}

fn products<'a>(ops: impl Iterator<Item = &'a Op>) -> Vec<Product> {
    ops.filter_map(|op| if let Op::MatMul(list) = op { Some(list.clone()) } else { None }).flatten().collect()
}

fn outer_sums<'a>(ops: impl Iterator<Item = &'a Op>) -> Vec<OuterSum> {
    ops.filter_map(|op| if let Op::WeightGradient(list) = op { Some(list.clone()) } else { None })
        .flatten()
        .collect()
}

/// (rows, columns, adds, delay) of each product.
fn shapes(products: &[Product]) -> Vec<(usize, usize, bool, i64)> {
    products.iter().map(|p| (p.to.len, p.from.view.len, p.accumulate, p.from.delay)).collect()
}

fn names(ops: &[&Op]) -> Vec<&'static str> {
    ops.iter().map(|op| op.name()).collect()
}

/// The only loop of a pass, which has one task.
fn only_loop(pass: &Pass) -> &Task {
    let loops: Vec<&Stage> = pass.stages.iter().filter(|s| s.kind == StageKind::Loop).collect();
    let [stage] = loops[..] else { panic!("{} loops", loops.len()) };
    let [task] = &stage.tasks[..] else { panic!("{} tasks", stage.tasks.len()) };
    task
}

/// Barriers planned in a step of each pass's only loop.
fn barriers(graph: &Graph) -> [usize; 2] {
    let plan = plan(graph);
    both(&plan).map(|pass| only_loop(pass).barriers_per_step(Partition::Units))
}

/// The least barriers a frame of each pass's only loop, times its block.
fn barrier_bounds(graph: &Graph) -> [(u64, u64); 2] {
    let plan = plan(graph);
    both(&plan).map(|pass| pass.components.list[only_loop(pass).components[0]].barrier_bound.unwrap())
}

#[test]
fn an_lstm_of_four_dense_lines_has_one_product_before_the_loop_and_one_product_and_one_map_inside() {
    let (m, n) = (12, 32);
    for peepholes in [false, true] {
        let plan = plan(&nets::lstm(m, n, peepholes));

        let forward = &plan.forward_pass;
        assert_eq!(kinds(forward), [StageKind::Frames, StageKind::Loop]);
        let before: Vec<&Op> = ops(&forward.stages[0]).collect();
        assert_eq!(names(&before), ["matmul"]);
        assert_eq!(shapes(&products(before.into_iter())), [(4 * n, m, false, 0)]);
        let inside: Vec<&Op> = task_ops(only_loop(forward)).collect();
        assert_eq!(names(&inside), ["matmul", "map"]);
        assert_eq!(shapes(&products(inside.into_iter())), [(4 * n, n, true, 1)]);
        assert_eq!(only_loop(forward).barriers_per_step(Partition::Units), 1);

        let backward = backward(&plan);
        assert_eq!(kinds(backward), [StageKind::Frames, StageKind::Loop, StageKind::Frames]);
        let before: Vec<&Op> = ops(&backward.stages[0]).collect();
        assert_eq!(names(&before), ["map"], "slopes, for all frames at once");
        let inside: Vec<&Op> = task_ops(only_loop(backward)).collect();
        assert_eq!(names(&inside), ["matmul", "map"]);
        assert_eq!(shapes(&products(inside.into_iter())), [(n, 4 * n, false, -1)]);
        assert_eq!(only_loop(backward).direction, Direction::Backward);
        assert_eq!(only_loop(backward).barriers_per_step(Partition::Units), 1);
    }
}

#[test]
fn weight_gradients_come_after_the_loop_one_product_for_each_source() {
    let (m, n) = (12, 32);
    for peepholes in [false, true] {
        let plan = plan(&nets::lstm(m, n, peepholes));
        let stages = &backward(&plan).stages;
        assert!(stages[..2].iter().flat_map(ops).all(|op| !matches!(op, Op::WeightGradient(_))));
        let after: Vec<&Op> = ops(&stages[2]).collect();
        assert_eq!(names(&after), ["weight gradient", "reduce"]);
        let sums: Vec<_> = outer_sums(after.into_iter())
            .iter()
            .map(|s| (s.error.len, s.source.view.len, s.source.delay, s.accumulate))
            .collect();
        assert_eq!(sums, [(4 * n, m, 0, false), (4 * n, n, 1, false)]);
    }
}

#[test]
fn bias_gradients_of_all_gates_are_one_sum() {
    for peepholes in [false, true] {
        let plan = plan(&nets::lstm(12, 32, peepholes));
        let sums: Vec<usize> = backward(&plan)
            .stages
            .iter()
            .flat_map(ops)
            .filter_map(|op| if let Op::Reduce(sums) = op { Some(sums) } else { None })
            .flatten()
            .filter(|sum| sum.source.is_none())
            .map(|sum| sum.error.len)
            .collect();
        assert_eq!(sums, [4 * 32]);
    }
}

#[test]
fn a_peephole_lstm_saves_at_most_six_numbers_a_unit_and_frame() {
    let n = 32;
    let plan = plan(&nets::lstm(12, n, true));
    let figures = rnnc_plan::Figures::of(&plan);
    assert_eq!(figures.saved.len(), 1);
    assert!(figures.saved[0].numbers_per_unit <= 6.0, "{:?}", figures.saved);
    // Not only by the graph: so are the buffers that the backward pass reads.
    let x = plan.forward_pass.storage[plan.forward.inputs()[0].index()].unwrap().buffer;
    let saved = plan
        .buffers
        .iter()
        .enumerate()
        .filter(|(i, b)| b.saved && *i != x.0)
        .map(|(_, b)| b.width)
        .sum::<usize>();
    assert!(saved <= 6 * n, "{saved}");
}

#[test]
fn a_gru_needs_two_barriers_a_frame_and_with_the_reset_after_the_product_one() {
    for (graph, count) in [(nets::gru(12, 32), 2), (nets::gru_reset_after(12, 32), 1)] {
        assert_eq!(barriers(&graph), [count; 2], "{}", graph.name());
        assert_eq!(barrier_bounds(&graph), [(count as u64, 1); 2], "{}", graph.name());
    }
}

#[test]
fn a_vector_function_in_a_loop_costs_a_barrier() {
    assert_eq!(barriers(&nets::softmax_loop(12, 32)), [2, 2]);
}

#[test]
fn an_elementwise_loop_needs_no_barrier() {
    // IndRNN (Li et al. 2018).
    let mut net = Net::new("indrnn");
    let x = net.graph.input("x", 12);
    let h = net.dense("h", 32, Tanh, &[(x, 0)]);
    net.diag(h, h, 1);
    let graph = net.out(h);
    // Its adjoint is affine: a scan.
    let plan = plan(&graph);
    assert_eq!(only_loop(&plan.forward_pass).barriers_per_step(Partition::Units), 0);
    assert_eq!(kinds(backward(&plan)), [StageKind::Frames, StageKind::Scan, StageKind::Frames]);
}

#[test]
fn an_sru_has_no_loop_in_either_direction() {
    let plan = plan(&nets::sru(12, 32));
    for pass in both(&plan) {
        assert!(pass.components.list.iter().all(|c| c.kind != Kind::Loop));
        assert!(kinds(pass).contains(&StageKind::Scan) && !kinds(pass).contains(&StageKind::Loop));
    }
    let figures = rnnc_plan::Figures::of(&plan);
    assert_eq!(figures.parallel_share, 1.0);
    // Frames stages and two scans of 64 frames: far fewer steps than frames.
    assert!(figures.critical_path <= 6 + 6 + 10, "{}", figures.critical_path);
}

#[test]
fn a_loop_of_delay_four_runs_four_frames_at_once() {
    let plan = plan(&nets::elman(12, 32, 4));
    for pass in both(&plan) {
        let task = only_loop(pass);
        assert_eq!((task.block, task.barriers_per_step(Partition::Units)), (4, 1));
        let component = &pass.components.list[task.components[0]];
        assert_eq!((component.width.frames, component.width.bound), (4, Some(4)));
        assert_eq!(component.barrier_bound, Some((1, 4)));
    }
    let figures = rnnc_plan::Figures::of(&plan);
    for (stage, figures) in plan.stages().zip(&figures.stages) {
        if stage.kind == StageKind::Loop {
            assert_eq!((figures.steps, figures.barriers, figures.frames_at_once), (16, 16, 4.0));
        }
    }
}

#[test]
fn a_cycle_of_two_layers_with_delays_two_and_three_is_retimed_to_five_frames() {
    let mut net = Net::new("ring");
    let x = net.graph.input("x", 12);
    let a = net.dense("a", 32, Tanh, &[(x, 0)]);
    let b = net.dense("b", 32, Tanh, &[(a, 2)]);
    net.full(b, a, 3);
    let plan = plan(&net.out(b));
    for pass in both(&plan) {
        assert_eq!(only_loop(pass).block, 5);
    }
}

#[test]
fn independent_towers_run_side_by_side() {
    let plan = plan(&nets::two_towers(12, 32));
    for pass in both(&plan) {
        let loops: Vec<&Stage> = pass.stages.iter().filter(|s| s.kind == StageKind::Loop).collect();
        assert_eq!(loops.len(), 1);
        assert_eq!(loops[0].tasks.len(), 2);
        // The path is that of one.
        let own = only_steps(pass, 64);
        assert_eq!(own, 64);
    }
    let figures = rnnc_plan::Figures::of(&plan);
    let one = rnnc_plan::Figures::of(&self::plan(&nets::lstm(12, 32, false)));
    assert!(figures.critical_path <= one.critical_path + 3);
}

/// The most steps of a stage's loop.
fn only_steps(pass: &Pass, frames: usize) -> usize {
    let loops = pass.stages.iter().filter(|s| s.kind == StageKind::Loop);
    loops.flat_map(|s| &s.tasks).map(|t| frames.div_ceil(t.block)).max().unwrap()
}

#[test]
fn a_scan_and_a_loop_that_do_not_read_each_other_share_a_level() {
    let mut net = Net::new("n");
    let x = net.graph.input("x", 12);
    let h = net.dense("h", 32, Tanh, &[(x, 0)]);
    net.full(h, h, 1);
    let c = net.dense("c", 32, Identity, &[(x, 0)]);
    net.diag(c, c, 1);
    let y = net.dense("y", 4, Identity, &[(h, 0), (c, 0)]);
    let plan = plan(&net.out(y));
    for pass in both(&plan) {
        let level = |kind| pass.stages.iter().find(|s| s.kind == kind).unwrap().level;
        assert_eq!(level(StageKind::Scan), level(StageKind::Loop));
    }
}

#[test]
fn stacked_loops_are_hoisted_one_after_the_other() {
    let plan = plan(&nets::text_model(20, 32));
    let forward = &plan.forward_pass;
    use StageKind::{Frames, Loop};
    assert_eq!(kinds(forward), [Frames, Loop, Frames, Loop, Frames]);
    // A look-up, and the product between the layers for all frames at once.
    assert_eq!(names(&ops(&forward.stages[0]).collect::<Vec<_>>()), ["gather"]);
    assert_eq!(names(&ops(&forward.stages[2]).collect::<Vec<_>>()), ["matmul"]);
    assert_eq!(shapes(&products(ops(&forward.stages[2]))), [(4 * 32, 32, false, 0)]);
    assert_eq!(kinds(backward(&plan)), [Frames, Loop, Frames, Loop, Frames]);
    let tables = backward(&plan).stages.iter().flat_map(ops).filter(|op| matches!(op, Op::TableGradient(_)));
    assert_eq!(tables.count(), 1);
}

#[test]
fn heads_multiply_each_its_own_units_and_together_the_diagonal_blocks_alone() {
    let (m, n, heads) = (12, 32, 4);
    let plan = plan(&nets::heads(m, n, heads));
    for pass in both(&plan) {
        let inside = products(task_ops(only_loop(pass)));
        assert_eq!(inside.len(), heads);
        for p in inside {
            assert_eq!((p.to.len, p.from.view.len, p.slice_len), (n / heads, n / heads, n));
            assert_eq!(p.to.column % n, p.from.view.column % n);
        }
    }
    let cost = &plan.forward_pass.stages[1].cost;
    assert_eq!(cost.product_flops, (2 * n * n / heads) as u64);
    let own =
        outer_sums(backward(&plan).stages.iter().flat_map(ops)).into_iter().filter(|s| s.source.delay == 1);
    assert_eq!(own.count(), heads);
}

/// Of each pass's only loop: heads, and the barriers of a step if units are shared out, and if whole heads are.
fn barriers_of_heads(graph: &Graph) -> [(usize, usize, usize); 2] {
    let plan = plan(graph);
    both(&plan).map(|pass| {
        let task = only_loop(pass);
        let barriers = |partition| task.barriers_per_step(partition);
        (task.heads, barriers(Partition::Units), barriers(Partition::Heads))
    })
}

#[test]
fn whole_heads_need_no_barrier() {
    for heads in [2, 3, 4] {
        let graph = nets::heads(12, 48, heads);
        assert_eq!(barriers_of_heads(&graph), [(heads, 1, 0); 2]);
        assert_eq!(barrier_bounds(&graph), [(0, 1); 2]);
    }
    assert_eq!(barriers_of_heads(&nets::heads(12, 48, 1)), [(1, 1, 1); 2]);
}

#[test]
fn heads_that_read_a_vector_of_all_have_one_barrier() {
    // Two products in a row, the first of heads; and the same the other way round.
    for [first, second] in [[4, 1], [1, 4]] {
        let mut net = Net::new("heads");
        let x = net.graph.input("x", 12);
        let m = net.dense("m", 24, Tanh, &[(x, 0)]);
        let h = net.dense("h", 48, Tanh, &[(x, 0)]);
        net.heads(h, m, 1, first);
        net.heads(m, h, 0, second);
        let graph = net.out(h);
        assert_eq!(barriers_of_heads(&graph), [(4, 2, 1); 2]);
        assert_eq!(barrier_bounds(&graph), [(1, 1); 2]);
    }
}

#[test]
fn a_bidirectional_layer_runs_both_ways_at_once() {
    let plan = plan(&nets::bidirectional(12, 32));
    assert!(plan.forward.looks_ahead());
    for pass in both(&plan) {
        let stage = pass.stages.iter().find(|s| s.kind == StageKind::Loop).unwrap();
        let mut directions: Vec<bool> =
            stage.tasks.iter().map(|t| t.direction == Direction::Forward).collect();
        directions.sort_unstable();
        assert_eq!(directions, [false, true]);
    }
}

#[test]
fn what_leaves_a_loop_is_computed_after_it_for_all_frames() {
    let mut net = Net::new("n");
    let x = net.graph.input("x", 12);
    let h = net.dense("h", 32, Tanh, &[(x, 0)]);
    net.full(h, h, 1);
    let y = net.dense("y", 5, Tanh, &[(h, 0), (h, 2)]);
    let part = net.graph.sum("part", 2, Identity);
    net.graph.connect(y, part, rnnc_graph::Connect::identity().from(Range::new(1, 2)));
    let plan = plan(&net.out(part));
    assert_eq!(kinds(&plan.forward_pass), [StageKind::Frames, StageKind::Loop, StageKind::Frames]);
    let mut after = shapes(&products(ops(&plan.forward_pass.stages[2])));
    after.sort_unstable();
    assert_eq!(after, [(5, 32, false, 0), (5, 32, true, 2)]);
}

#[test]
fn the_stages_work_adds_up_to_the_products_of_the_equations() {
    let (m, n, frames) = (12, 32, 64);
    let plan = plan(&nets::lstm(m, n, false));
    let products: u64 = plan.forward_pass.stages.iter().map(|s| s.cost.product_flops).sum();
    assert_eq!(products, (2 * 4 * n * (m + n)) as u64);
    // The errors of the state, and a gradient for each weight.
    let products: u64 = backward(&plan).stages.iter().map(|s| s.cost.product_flops).sum();
    assert_eq!(products, (2 * 4 * n * n + 2 * 4 * n * (m + n)) as u64);
    let figures = rnnc_plan::Figures::of(&plan);
    let total: u64 = plan.stages().map(|s| s.cost.flops()).sum();
    assert_eq!(figures.flops, total as f64 * frames as f64);
    // Amdahl: loops do one frame at a time, all else all at once.
    let serial = 1.0 - figures.parallel_share;
    let expected = 1.0 / (serial + figures.parallel_share / frames as f64);
    assert!((figures.speed_up_bound - expected).abs() < 1e-9 * expected);
}

#[test]
fn products_write_each_number_once_before_they_add_to_it() {
    for graph in [
        nets::lstm(12, 32, true),
        nets::gru(12, 32),
        nets::gru_reset_after(12, 32),
        nets::text_model(20, 32),
        nets::two_towers(12, 32),
        nets::heads(12, 32, 4),
        nets::bidirectional(12, 32),
    ] {
        for pass in both(&plan(&graph)) {
            let mut written: HashSet<(usize, usize)> = HashSet::new();
            let mut write = |to: View, adds: bool| {
                for column in to.column..to.column + to.len {
                    assert_eq!(!written.insert((to.buffer.0, column)), adds, "{} {to:?}", graph.name());
                }
            };
            for op in pass.stages.iter().flat_map(ops) {
                match op {
                    Op::MatMul(list) => list.iter().for_each(|p| write(p.to, p.accumulate)),
                    Op::Gather(list) => list.iter().for_each(|l| write(l.to, l.accumulate)),
                    _ => {}
                }
            }
        }
    }
}

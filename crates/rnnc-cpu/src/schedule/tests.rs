//! Which schedules known networks get.

use super::*;
use rnnc_graph::{Activation, Connect, Graph, Init};
use rnnc_plan::PlanOptions;

/// Layers h = tanh(W below + U h[t-1]), each over the one before, or, if not stacked, all over the input.
fn layers(count: usize, units: usize, stacked: bool) -> Graph {
    let mut graph = Graph::new("layers");
    let mut below = graph.input("x", units);
    for layer in 0..count {
        let h = graph.sum(format!("h{layer}"), units, Activation::Tanh);
        for (name, source, delay) in [("W", below, 0), ("U", h, 1)] {
            let name = format!("h{layer}.{name}");
            let weight = graph.weight(name, &[units, units], Init::Uniform(0.1));
            graph.connect(source, h, Connect::full(weight).delay(delay));
        }
        graph.output(format!("h{layer}"), h);
        if stacked {
            below = h;
        }
    }
    graph
}

/// The plan of a network with gradients, and its schedule.
fn training(graph: &Graph, workers: usize, streams: usize, frames: usize) -> (Plan, Schedule) {
    scheduled(graph, PlanOptions::training(streams, frames), workers, Speeds::CORE)
}

fn scheduled(graph: &Graph, options: PlanOptions, workers: usize, speeds: Speeds) -> (Plan, Schedule) {
    let plan = Plan::new(graph, options).unwrap();
    let PlanOptions { streams, frames, .. } = options;
    let schedule = Schedule::new(&plan, ScheduleOptions { workers, streams, frames, speeds });
    (plan, schedule)
}

/// How stages of a kind are shared out.
fn partitions(kind: StageKind, (plan, schedule): &(Plan, Schedule)) -> Vec<Partition> {
    let stages = plan.stages().zip(schedule.partitions());
    stages.filter(|(stage, _)| stage.kind == kind).map(|(_, partition)| partition).collect()
}

/// Stages and chunks of each pass's pipelines.
fn pipelines_of((_, schedule): &(Plan, Schedule)) -> Vec<Vec<((usize, usize), usize)>> {
    let of = |pass: &PassSchedule| {
        pass.pipelines.iter().map(|pipeline| (pipeline.stages, pipeline.chunks)).collect()
    };
    schedule.passes().map(of).collect()
}

#[test]
fn a_pass_is_predicted_by_its_stages_as_they_are_partitioned() {
    let inference = |graph, workers, streams| {
        scheduled(graph, PlanOptions::inference(streams, 256), workers, Speeds::CORE)
    };
    let graph = layers(1, 512, false);
    let (_, alone) = inference(&graph, 1, 4);
    let one = alone.forward.us_of_one;
    assert_eq!(alone.forward.us, one);
    let (plan, shared) = inference(&graph, 8, 4);
    assert_eq!(shared.forward.us_of_one, one);
    let model = Model::new(shared.options);
    let stages = plan.forward_pass.stages.iter().zip(&shared.forward.partitions);
    let sum: f64 = stages.map(|(stage, &partition)| model.us(stage, partition)).sum();
    let barriers = plan.forward_pass.stages.len() as f64 * Speeds::CORE.barrier;
    let all = shared.forward.us;
    assert!((all - sum - barriers).abs() < 1e-9 * all, "{all}, of which {sum} are the stages'");
    assert!(all < one / 3.0, "{all} of {one}");
    // In a pipeline, its loops count once, together.
    let (_, stacked) = inference(&layers(2, 256, true), 2, 1);
    let PassSchedule { pipelines, us: all, us_of_one: one, .. } = stacked.forward;
    assert!(!pipelines.is_empty(), "two loops, one above the other, make a pipeline");
    assert!(pipelines.iter().map(|w| w.us).sum::<f64>() <= all && all < one, "{all} of {one}");
}

#[test]
fn stacked_small_loops_are_a_pipeline_in_both_passes_and_one_loop_is_none() {
    let pipelines = pipelines_of(&training(&layers(2, 128, true), 2, 1, 256));
    assert!(pipelines.len() == 2 && pipelines.iter().all(|of| of.len() == 1 && of[0].1 > 1), "{pipelines:?}");
    assert!(pipelines_of(&training(&layers(1, 128, true), 2, 1, 256)).iter().all(Vec::is_empty));
    assert!(pipelines_of(&training(&layers(2, 128, true), 1, 1, 256)).iter().all(Vec::is_empty));
}

#[test]
fn independent_loops_run_side_by_side_without_chunks() {
    let found = training(&layers(2, 128, false), 2, 1, 256);
    for of in pipelines_of(&found) {
        assert!(matches!(of[..], [((first, last), 1)] if first == last), "{of:?}");
    }
    let groups: Vec<_> =
        found.1.forward.pipelines[0].loops.iter().map(|group| group.workers.clone()).collect();
    assert_eq!(groups, [0..1, 1..2]);
}

#[test]
fn a_third_loop_does_not_wait_for_its_turn_on_one_of_two_workers() {
    // Two on one worker would take as long as two shared out, and more.
    let (_, schedule) = training(&layers(3, 128, true), 2, 1, 256);
    for pass in schedule.passes() {
        assert!(pass.pipelines.iter().all(|pipeline| pipeline.loops.len() == 2), "{:?}", pass.pipelines);
    }
}

#[test]
fn five_workers_are_parted_among_two_loops() {
    let graph = layers(2, 512, true);
    let at =
        |barrier| scheduled(&graph, PlanOptions::training(1, 256), 5, Speeds { barrier, ..Speeds::CORE });
    // What is shared out among all is faster where barriers cost little.
    assert!(partitions(StageKind::Loop, &at(0.1)).iter().all(|&partition| partition == Partition::Units));
    let (_, schedule) = at(3.0);
    let Some(pipeline) = schedule.forward.pipelines.first() else { panic!("no pipeline") };
    let groups: Vec<_> = pipeline.loops.iter().map(|group| group.workers.clone()).collect();
    assert!(groups[0].end == groups[1].start && groups[1].end == 5, "{groups:?}");
    assert!(pipeline.loops.iter().all(|group| group.partition == Partition::Units), "{pipeline:?}");
}

#[test]
fn many_streams_are_shared_out_large_loops_by_units_and_small_ones_not_at_all() {
    let of =
        |units, streams| partitions(StageKind::Loop, &training(&layers(1, units, true), 2, streams, 256));
    assert_eq!(of(256, 32), [Partition::Batch; 2]);
    assert_eq!(of(512, 1), [Partition::Units; 2]);
    assert_eq!(of(16, 1), [Partition::Serial; 2]);
}

#[test]
fn a_scan_is_cut_into_chunks_of_frames_where_lanes_are_fewer_than_workers() {
    let of = |units, workers, streams, frames| {
        let mut graph = Graph::new("scan");
        let [x, f] = ["x", "f"].map(|name| graph.input(name, units));
        let kept = graph.product("kept", units, Activation::Identity);
        let h = graph.sum("h", units, Activation::Identity);
        graph.connect(f, kept, Connect::identity());
        graph.connect(h, kept, Connect::identity().delay(1));
        graph.connect(kept, h, Connect::identity());
        graph.connect(x, h, Connect::identity());
        graph.output("h", h);
        partitions(StageKind::Scan, &training(&graph, workers, streams, frames))
    };
    assert_eq!(of(16, 8, 1, 4096), [Partition::Time]);
    assert_eq!(of(64, 16, 1, 4096), [Partition::Time]);
    // As many lanes as workers have wait for nobody.
    assert_eq!(of(1024, 8, 1, 4096), [Partition::Units]);
    assert_eq!(of(16, 8, 64, 4096), [Partition::Batch]);
    assert_eq!(of(64, 2, 1, 4096), [Partition::Units]);
    // Two would have too much to find for what they gain.
    assert_eq!(of(16, 2, 1, 4096), [Partition::Serial]);
    assert_eq!(of(16, 1, 1, 4096), [Partition::Serial]);
    assert_eq!(of(16, 8, 1, 4), [Partition::Serial]);
}

#[test]
fn gradients_of_weights_are_shared_out_beside_a_loop_that_is_not() {
    let found = training(&layers(1, 48, true), 2, 1, 256);
    assert_eq!(partitions(StageKind::Loop, &found), [Partition::Serial; 2]);
    let last = found.0.stages().zip(found.1.partitions()).last();
    let last = last.map(|(stage, partition)| (stage.kind, partition));
    assert_eq!(last, Some((StageKind::Frames, Partition::Batch)));
}

#[test]
fn frame_by_frame_only_what_is_worth_waking_others_for_is_shared_out() {
    let of = |units| partitions(StageKind::Loop, &training(&layers(1, units, true), 2, 1, 1));
    assert!(of(256).iter().all(|&partition| partition == Partition::Serial));
    assert!(of(4096).iter().all(|&partition| partition == Partition::Units));
}

#[test]
fn buffers_of_a_pipeline_lie_apart() {
    let (plan, schedule) = training(&layers(2, 128, true), 2, 1, 256);
    let placement = plan.place(1, 256, false, &schedule.residency(&plan, 256));
    let one_by_one = ScheduleOptions { workers: 1, ..schedule.options };
    let one_by_one = Schedule::new(&plan, one_by_one).residency(&plan, 256);
    assert!(placement.total >= plan.place(1, 256, false, &one_by_one).total);
    // What the stages of the pipeline touch.
    let pipeline = &schedule.forward.pipelines[0];
    let mut used = Vec::new();
    for stage in &plan.forward_pass.stages[pipeline.stages.0..=pipeline.stages.1] {
        stage.for_each_view(&mut |view| used.push(view.buffer.0));
    }
    used.sort_unstable();
    used.dedup();
    let end = |i: usize| placement.offsets[i] + placement.sizes[i];
    for (n, &a) in used.iter().enumerate() {
        for &b in &used[n + 1..] {
            assert!(end(a) <= placement.offsets[b] || end(b) <= placement.offsets[a], "{a} and {b}");
        }
    }
}

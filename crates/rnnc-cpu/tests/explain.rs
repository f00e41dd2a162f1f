//! What a report says of how workers run a plan.

#[path = "../../rnnc-plan/tests/nets/mod.rs"]
mod nets;

use rnnc_cpu::Foreseen;
use rnnc_graph::Graph;
use rnnc_plan::{ExecutionConfig, Partition, Plan, PlanOptions, StageKind};

/// One stream's training, in windows of so many frames.
fn foreseen(graph: &Graph, frames: usize, workers: usize) -> Foreseen {
    let plan = Plan::new(graph, PlanOptions::training(1, frames)).unwrap();
    Foreseen::new(plan, ExecutionConfig::new(1, frames), workers)
}

fn text(foreseen: &Foreseen) -> String {
    rnnc_report::text(&foreseen.plan, Some(&foreseen.notes()))
}

#[test]
fn the_text_of_a_peephole_lstm() {
    insta::assert_snapshot!(text(&foreseen(&nets::lstm(12, 32, true), 64, 2)));
}

#[test]
fn the_text_tells_which_barriers_whole_heads_need_and_how_they_are_shared_out() {
    let of = |heads: usize, workers: usize| {
        let text = text(&foreseen(&nets::heads(12, 512, heads), 256, workers));
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let text = of(4, 2);
    assert!(
        text.contains("barriers none, if 4 whole heads are shared out; 1 a frame planned, if units are"),
        "{text}"
    );
    assert!(text.contains("whole heads are shared out (no barriers): predicted"), "{text}");
    assert!(!text.contains("-- barrier --"), "{text}");
    let text = of(1, 2);
    assert!(text.contains("1 a frame planned, at least 1 a frame needed, if units are shared out"), "{text}");
    assert!(text.contains("-- barrier --") && !text.contains("whole heads"), "{text}");
}

#[test]
fn whole_heads_are_shared_out_where_that_is_predicted_to_be_fastest() {
    let partition = |units: usize, heads: usize, workers: usize| {
        let Foreseen { plan, schedule, .. } = foreseen(&nets::heads(12, units, heads), 256, workers);
        let stages = plan.stages().zip(schedule.partitions());
        let partitions: Vec<_> =
            stages.filter(|(stage, _)| stage.kind == StageKind::Loop).map(|(_, of)| of).collect();
        assert_eq!(partitions[0], partitions[1], "{units} units, {heads} heads, {workers} workers");
        partitions[0]
    };
    assert_eq!(partition(512, 2, 2), Partition::Heads);
    assert_eq!(partition(512, 4, 2), Partition::Heads);
    assert_eq!(partition(512, 1, 2), Partition::Units, "there are none");
    assert_eq!(partition(4096, 2, 8), Partition::Units, "too few of them for all");
}

#[test]
fn the_data_tells_how_passes_and_stages_are_scheduled() {
    let foreseen = foreseen(&nets::lstm(12, 32, true), 64, 2);
    let value = rnnc_report::json(&foreseen.plan, Some(&foreseen.notes()));
    assert_eq!(value["schedule"], serde_json::json!({ "executor": "cpu", "workers": 2 }));
    let [frames, cycle] = [0, 1].map(|at| &value["passes"][0]["stages"][at]["schedule"]);
    assert_eq!((&frames["partition"], &cycle["partition"]), (&"serial".into(), &"serial".into()));
    assert!(frames["predicted_us"].is_null() && cycle["predicted_us"]["units"].is_f64(), "{cycle}");
    for pass in value["passes"].as_array().unwrap() {
        let predicted = &pass["schedule"]["predicted_us"];
        assert!(predicted["all"].as_f64() <= predicted["one"].as_f64(), "{predicted}");
    }
    let memory = &value["memory"];
    let sum: u64 = ["weights", "gradients", "optimizer_state", "values", "working"]
        .iter()
        .map(|k| memory[k].as_u64().unwrap())
        .sum();
    assert_eq!(memory["total"], sum);
}

#[test]
fn no_line_of_the_text_is_longer_than_100_columns() {
    for graph in
        [nets::text_model(256, 128), nets::bidirectional(4, 8), nets::sru(4, 8), nets::heads(4, 8, 2)]
    {
        for line in text(&foreseen(&graph, 64, 2)).lines() {
            assert!(line.chars().count() <= 100 && line.trim_end() == line, "{line:?}");
        }
    }
}

//! What the plans of the cell library must be like, written as their equations: no cell has code of its own.

use rnnc_graph::Kind;
use rnnc_plan::{Op, Pass, Plan, PlanOptions, StageKind, report};

const CELLS: [&str; 26] = [
    "elman(x; 32)",
    "lstm(x; 32)",
    "lstm_peephole(x; 32)",
    "lstm_coupled(x; 32)",
    "lstm_projected(x; 32, 16)",
    "lstm_layer_norm(x; 32)",
    "gru(x; 32)",
    "gru_reset_after(x; 32)",
    "minimal_gated(x; 32)",
    "ugrnn(x; 32)",
    "janet(x; 32)",
    "scrn(x; 32, 16)",
    "clockwork(x; 32)",
    "indrnn(x; 32)",
    "ran(x; 32)",
    "sru(x; 32)",
    "qrnn(x; 32)",
    "mingru(x; 32)",
    "minlstm(x; 32)",
    "lru(x; 32, 16)",
    "rg_lru(x; 32)",
    "slstm(x; 32)",
    "slstm(x; 32, heads = 4)",
    "leaky_integrator(x; 32)",
    "tdnn(x; 32)",
    "dilated_rnn(x; 32)",
];

fn plan(call: &str) -> Plan {
    plan_of(&format!("network net {{ input x : vector(32)  h = {call}  output h }}"))
}

fn plan_of(text: &str) -> Plan {
    let graph = rnnc_lang::compile("net.rnn", text, None);
    let graph = graph.unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    Plan::new(&graph, PlanOptions::training(1, 64)).unwrap()
}

fn passes(plan: &Plan) -> [&Pass; 2] {
    [&plan.forward_pass, plan.backward_pass.as_ref().unwrap()]
}

/// Of each loop: barriers in a step, frames in a step, and the bound (barriers, frames).
fn loops(pass: &Pass) -> Vec<(u64, u64, (u64, u64))> {
    let stages = pass.stages.iter().filter(|s| s.kind == StageKind::Loop);
    stages
        .flat_map(|s| &s.tracks)
        .map(|t| {
            let bound = pass.components.list[t.components[0]].barrier_bound.unwrap();
            (t.barriers_per_step() as u64, t.block as u64, bound)
        })
        .collect()
}

#[test]
fn every_cell_of_the_library_is_planned_here() {
    for cell in rnnc_lang::cells() {
        let call = format!("{}(", cell.name);
        assert!(CELLS.iter().any(|c| c.starts_with(&call)), "{}", cell.name);
    }
}

#[test]
fn loops_have_no_more_barriers_than_their_cycles_need() {
    for cell in CELLS {
        for pass in passes(&plan(cell)) {
            for (barriers, block, (links, delay)) in loops(pass) {
                assert!(barriers * delay <= links * block, "{cell}: {barriers} in {block} frames");
            }
        }
    }
}

#[test]
fn cells_made_to_run_in_parallel_have_no_loop_in_either_direction() {
    for cell in [
        "sru(x; 32)",
        "qrnn(x; 32)",
        "mingru(x; 32)",
        "minlstm(x; 32)",
        "lru(x; 32, 16)",
        "rg_lru(x; 32)",
        "leaky_integrator(x; 32)",
        "tdnn(x; 32)",
    ] {
        let plan = plan(cell);
        for pass in passes(&plan) {
            assert!(pass.components.list.iter().all(|c| c.kind != Kind::Loop), "{cell}");
        }
        assert_eq!(report::Figures::of(&plan).parallel_share, 1.0, "{cell}");
    }
}

#[test]
fn gates_written_line_by_line_are_one_product_before_the_loop_and_one_inside() {
    for (cell, gates) in [
        ("lstm(x; 32)", 4),
        ("lstm_peephole(x; 32)", 4),
        ("lstm_coupled(x; 32)", 3),
        ("ugrnn(x; 32)", 2),
        ("janet(x; 32)", 2),
        ("slstm(x; 32)", 4),
    ] {
        let plan = plan(cell);
        let [forward, backward] = passes(&plan);
        let shapes = |pass: &Pass, kind: StageKind| -> Vec<(usize, usize)> {
            let stages = pass.stages.iter().filter(|s| s.kind == kind);
            let ops = stages.flat_map(|s| &s.tracks).flat_map(|t| &t.phases).flat_map(|p| &p.ops);
            ops.flat_map(|placed| match &placed.op {
                Op::MatMul(list) => list.iter().map(|p| (p.to.len, p.from.view.len)).collect(),
                _ => Vec::new(),
            })
            .collect()
        };
        assert_eq!(shapes(forward, StageKind::Frames), [(gates * 32, 32)], "{cell}");
        assert_eq!(shapes(forward, StageKind::Loop), [(gates * 32, 32)], "{cell}");
        assert_eq!(shapes(backward, StageKind::Loop), [(32, gates * 32)], "{cell}");
        for pass in [forward, backward] {
            let track = &pass.stages.iter().find(|s| s.kind == StageKind::Loop).unwrap().tracks[0];
            let maps = track.phases.iter().flat_map(|p| &p.ops).filter(|o| matches!(o.op, Op::Map(_)));
            assert_eq!((maps.count(), track.barriers_per_step()), (1, 1), "{cell}");
        }
    }
}

#[test]
fn gates_that_are_slices_of_one_layer_have_the_loops_of_gates_with_a_layer_each() {
    let sliced = "
        cell sliced(x; n) {
            sums = dense(x, h[t-1]; 4 * n)
            i = sigmoid(slice(sums; 0, n))
            f = sigmoid(slice(sums; n, 2 * n))
            z = tanh(slice(sums; 2 * n, 3 * n))
            o = sigmoid(slice(sums; 3 * n, 4 * n))
            c = f * c[t-1] + i * z
            h = o * tanh(c)
            return h
        }
        network net { input x : vector(32)  h = sliced(x; 32)  output h }";
    let (sliced, whole) = (plan_of(sliced), plan("lstm(x; 32)"));
    for (sliced, whole) in passes(&sliced).into_iter().zip(passes(&whole)) {
        assert_eq!(loops(sliced), [(1, 1, (1, 1))]);
        let ops = |pass: &Pass| -> Vec<_> {
            let tracks = pass.stages.iter().filter(|s| s.kind == StageKind::Loop).flat_map(|s| &s.tracks);
            let ops = tracks.flat_map(|t| &t.phases).flat_map(|p| &p.ops);
            ops.map(|placed| match &placed.op {
                Op::Map(map) => (map.span, map.len, map.program.len()),
                Op::MatMul(list) => (list[0].span, list[0].to.len, list[0].from.view.len),
                other => panic!("{}", other.name()),
            })
            .collect()
        };
        assert_eq!(ops(sliced), ops(whole));
    }
}

#[test]
fn a_layer_norm_lstm_meets_once_for_its_product_and_once_for_each_norm() {
    for pass in passes(&plan("lstm_layer_norm(x; 32)")) {
        assert_eq!(loops(pass), [(3, 1, (3, 1))]);
    }
}

#[test]
fn the_peephole_lstm_of_the_library_saves_at_most_six_numbers_a_unit_and_frame() {
    let figures = report::Figures::of(&plan("lstm_peephole(x; 32)"));
    assert!(figures.saved[0].numbers_per_unit <= 6.0, "{:?}", figures.saved);
}

#[test]
fn the_reset_gate_before_the_product_costs_a_second_barrier() {
    for (cell, barriers) in [("gru(x; 32)", 2), ("gru_reset_after(x; 32)", 1)] {
        for pass in passes(&plan(cell)) {
            assert_eq!(loops(pass), [(barriers, 1, (barriers, 1))], "{cell}");
        }
    }
}

#[test]
fn a_dilated_cell_runs_as_many_frames_at_once_as_its_delay() {
    for pass in passes(&plan("dilated_rnn(x; 32, 4)")) {
        assert_eq!(loops(pass), [(1, 4, (1, 4))]);
    }
}

#[test]
fn every_cell_can_be_printed_and_drawn() {
    for cell in CELLS {
        let plan = plan(cell);
        for line in report::text(&plan).lines() {
            assert!(line.chars().count() <= 100, "{cell}: {line}");
        }
        assert!(report::svg(&plan).is_ok(), "{cell}");
        assert!(report::json(&plan)["passes"][1]["stages"].is_array(), "{cell}");
    }
}

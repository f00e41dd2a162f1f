//! What the plans of the cell library must be like, written as their equations: no cell has code of its own.

use rnnc_graph::Kind;
use rnnc_plan::{Figures, Op, Partition, Pass, Plan, PlanOptions, StageKind};

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
        .flat_map(|s| &s.tasks)
        .map(|t| {
            let bound = pass.components.list[t.components[0]].barrier_bound.unwrap();
            (t.barriers_per_step(Partition::Heads) as u64, t.block as u64, bound)
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
fn heads_need_a_barrier_only_where_something_reads_all_of_them() {
    // Of each pass's loops: heads, and barriers in a step of workers with whole ones.
    let heads = |text: &str| {
        let plan = plan_of(&format!("network net {{ input x : vector(32)  {text}  output h }}"));
        passes(&plan).map(|pass| -> Vec<(usize, usize)> {
            let loops = pass.stages.iter().filter(|s| s.kind == StageKind::Loop).flat_map(|s| &s.tasks);
            loops.map(|task| (task.heads, task.barriers_per_step(Partition::Heads))).collect()
        })
    };
    assert_eq!(heads("h = slstm(x; 32, heads = 4)"), [[(4, 0)], [(4, 0)]]);
    let normalized = "a = dense(x; 32) + dense(h[t-1]; 32, bias = none, heads = 4)
        h = tanh(layer_norm(a; groups = GROUPS))";
    assert_eq!(heads(&normalized.replace("GROUPS", "8")), [[(4, 0)], [(4, 0)]]);
    assert_eq!(heads(&normalized.replace("GROUPS", "2")), [[(2, 0)], [(2, 0)]]);
    let [forward, backward] = heads(&normalized.replace("GROUPS", "1"));
    assert_eq!((&forward[..], &backward[..]), (&[(4, 1)][..], &[(4, 1)][..]), "all are normalized together");
    assert_eq!(heads("h = tanh(dense(x, h[t-1]; 32))"), [[(1, 1)], [(1, 1)]]);
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
        assert_eq!(Figures::of(&plan).parallel_share, 1.0, "{cell}");
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
            let ops = stages.flat_map(|s| &s.tasks).flat_map(|t| &t.phases).flat_map(|p| &p.ops);
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
            let task = &pass.stages.iter().find(|s| s.kind == StageKind::Loop).unwrap().tasks[0];
            let maps = task.phases.iter().flat_map(|p| &p.ops).filter(|o| matches!(o.op, Op::Map(_)));
            assert_eq!((maps.count(), task.barriers_per_step(Partition::Units)), (1, 1), "{cell}");
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
            let tasks = pass.stages.iter().filter(|s| s.kind == StageKind::Loop).flat_map(|s| &s.tasks);
            let ops = tasks.flat_map(|t| &t.phases).flat_map(|p| &p.ops);
            ops.map(|placed| match &placed.op {
                Op::Map(map) => (map.slice_len, map.len, map.program.instructions.len()),
                Op::MatMul(list) => (list[0].slice_len, list[0].to.len, list[0].from.view.len),
                other => panic!("{}", other.name()),
            })
            .collect()
        };
        assert_eq!(ops(sliced), ops(whole));
    }
}

#[test]
fn a_layer_norm_lstm_has_a_barrier_for_its_product_and_once_for_each_norm() {
    for pass in passes(&plan("lstm_layer_norm(x; 32)")) {
        assert_eq!(loops(pass), [(3, 1, (3, 1))]);
    }
}

#[test]
fn the_peephole_lstm_of_the_library_saves_at_most_six_numbers_a_unit_and_frame() {
    let figures = Figures::of(&plan("lstm_peephole(x; 32)"));
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
fn a_cell_that_reads_a_concatenation_is_planned_as_one_that_reads_its_parts() {
    let cell = |read: &str, call: &str| {
        plan_of(&format!(
            "cell hw(s; n) {{ h = tanh(dense(s; n)) return h }}
             cell gated(s, h; n) {{ g = sigmoid(dense(s; n)) z = tanh(dense(s; n)) h2 = g * h + (1 - g) * z return h2 }}
             cell parts(x, h; n) {{ g = sigmoid(dense(x, h; n)) z = tanh(dense(x, h; n)) h2 = g * h + (1 - g) * z return h2 }}
             cell plain(x, s; n) {{ h = tanh(dense(x, s; n)) return h }}
             network net {{ input x : vector(16)  y = {call}({read}; 32)  output y }}"
        ))
    };
    let pairs = [
        (cell("concat(x, y[t-1])", "hw"), cell("x, y[t-1]", "plain")),
        (cell("concat(x, y[t-1]), y[t-1]", "gated"), cell("x, y[t-1]", "parts")),
    ];
    for (concat, parts) in pairs {
        for (concat, parts) in passes(&concat).into_iter().zip(passes(&parts)) {
            assert_eq!(loops(concat), [(1, 1, (1, 1))]);
            // All but where weights and values lie.
            let shapes = |pass: &Pass| -> Vec<_> {
                let ops = |stage: &rnnc_plan::Stage| -> Vec<_> {
                    let phases = stage.tasks.iter().flat_map(|t| &t.phases);
                    let shape = |op: &Op| match op {
                        Op::MatMul(list) => {
                            list.iter().map(|p| (p.to.len, p.from.view.len, p.accumulate)).collect()
                        }
                        Op::WeightGradient(list) => {
                            list.iter().map(|s| (s.error.len, s.source.view.len, s.accumulate)).collect()
                        }
                        Op::Map(map) => vec![(map.len, map.program.instructions.len(), false)],
                        _ => Vec::new(),
                    };
                    phases.flat_map(|p| &p.ops).map(|placed| (placed.op.name(), shape(&placed.op))).collect()
                };
                pass.stages.iter().map(|stage| (stage.kind, stage.cost, ops(stage))).collect()
            };
            assert_eq!(shapes(concat), shapes(parts));
            assert!(concat.cleared.is_empty() && parts.cleared.is_empty());
        }
    }
}

#[test]
fn unequal_slices_of_one_layer_cost_no_barriers_more_backward_than_forward() {
    let plan = plan_of(
        "cell two(x; n, m) {
            sums = dense(x, h[t-1], c[t-1]; n + m)
            h = tanh(slice(sums; 0, n))
            c = sigmoid(slice(sums; n, n + m))
            return h, c
        }
        network net { input x : vector(16)  h, c = two(x; 24, 40)  output h, c }",
    );
    let [forward, backward] = passes(&plan).map(loops);
    assert!(backward[0].0 <= forward[0].0, "{forward:?} {backward:?}");
    assert_eq!(backward[0].0, 1);
}

#[test]
fn the_adjoint_of_a_scan_is_a_scan_of_no_more_numbers_a_unit() {
    let order = |pass: &Pass| -> Vec<usize> {
        let order = |kind: &Kind| match kind {
            Kind::Scan(form) => Some(form.order),
            Kind::Loop => Some(usize::MAX),
            Kind::Frames => None,
        };
        pass.components.list.iter().filter_map(|c| order(&c.kind)).collect()
    };
    let rotation = "network net { input x : vector(32)  a = param(32)  b = param(32)
        u = a * u[t-1] - b * v[t-1] + x  v = b * u[t-1] + a * v[t-1]  output u, v }";
    let older = "network net { input x : vector(32)  f = sigmoid(diag(x))  g = tanh(diag(x))
        c = f * c[t-1] + g * c[t-2] + f * c[t-3] + x  output c }";
    for (text, expected) in [(rotation, 2), (older, 3)] {
        let plan = plan_of(text);
        assert_eq!(passes(&plan).map(order), [vec![expected], vec![expected]], "{text}");
    }
    for cell in ["sru(x; 32)", "rg_lru(x; 32)", "lru(x; 32, 16)", "qrnn(x; 32)", "minlstm(x; 32)"] {
        let plan = plan(cell);
        let [forward, backward] = passes(&plan).map(order);
        assert!(backward.iter().max() <= forward.iter().max(), "{cell}: {forward:?} {backward:?}");
    }
    let five = plan_of(
        "network net { input x : vector(64)
            f = sigmoid(x + diag(c[t-1]))  g = sigmoid(x + diag(c[t-1]))
            h = sigmoid(x + diag(c[t-1]))  k = sigmoid(x + diag(c[t-1]))
            c = f * c[t-1] + g * h * k  output c }",
    );
    assert_eq!(passes(&five).map(order), [vec![usize::MAX], vec![1]]);
}

#[test]
fn what_parameters_alone_give_is_in_no_stage() {
    let text = "network net { input x : vector(32)  a = param(32)  b = param(32)
        lambda = exp(-exp(a)) * cos(b)  gamma = exp(-exp(a)) * sin(b)
        s = lambda * s[t-1] + gamma * x  output s }";
    let plain = "network net { input x : vector(32)  lambda = param(32)  gamma = param(32)
        s = lambda * s[t-1] + gamma * x  output s }";
    let (plan, plain) = (plan_of(text), plan_of(plain));
    for (derived, learned) in passes(&plan).into_iter().zip(passes(&plain)) {
        let costs = |pass: &Pass| pass.stages.iter().map(|s| (s.kind, s.cost)).collect::<Vec<_>>();
        assert_eq!(costs(derived), costs(learned));
    }
    assert_eq!(plan.weights.len(), plain.weights.len(), "nothing derived is learned");
    assert!(!plan.once.backward.is_empty() && plain.once.forward.is_empty());
}

#[test]
fn what_is_said_of_a_backward_pass_names_what_the_text_has() {
    for cell in CELLS {
        let plan = plan(cell);
        for pass in passes(&plan) {
            for component in &pass.components.list {
                for said in [&component.reason, &component.remedy] {
                    assert!(!said.contains("`d "), "{cell}: {said}");
                    let numbered = said.split('`').skip(1).step_by(2).filter(|name| !name.contains(".W"));
                    for name in numbered {
                        let last = name.rsplit('.').next().unwrap_or_default();
                        assert!(!last.bytes().all(|b| b.is_ascii_digit()), "{cell}: {said}");
                    }
                }
            }
        }
    }
}

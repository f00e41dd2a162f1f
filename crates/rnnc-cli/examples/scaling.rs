//! Whether what becomes of a network takes a time that grows with its layers, and no faster: microseconds a layer of each
//! step from the text to the first windows, for networks of several sizes. What is linear keeps its number.
//!
//! `cargo run --release -p rnnc-cli --example scaling -- [LAYERS,..] [CASE] [STEP]`; what is named is all that runs.

use rnnc::cpu::{CpuExecutor, Foreseen};
use rnnc::cuda::{device::Device, explain::explain};
use rnnc::graph::{Adjoint, AdjointOptions, Components, Graph};
use rnnc::io::Weights;
use rnnc::plan::{ExecutionConfig, Executor, ParameterArray, Plan, PlanOptions, Values};
use rnnc::reference::ReferenceExecutor;
use rnnc::report;
use std::fmt::Write;
use std::time::Instant;

/// The text of a network of about so many layers, and its name.
type Case = (&'static str, fn(usize) -> String);

/// Shapes of which something was once quadratic, or could be.
const CASES: [Case; 18] = [
    ("dense chain", |n| chain(n, |i| format!("h{i} = tanh(dense(h{}; 2))", i - 1))),
    ("elementwise chain", |n| chain(n, |i| format!("h{i} = tanh(h{})", i - 1))),
    ("sums of a chain", |n| chain(n, |i| format!("h{i} = 0.5 * h{} + h{}[t-1]", i - 1, i - 1))),
    ("ring", |n| {
        format!(
            "h0 = x + h{n}[t-1]\n{}output h{n}",
            equations(1..n + 1, |i| format!("h{i} = tanh(h{})", i - 1))
        )
    }),
    ("dense ring", |n| {
        format!(
            "h0 = x + h{n}[t-1]\n{}output h{n}",
            equations(1..n + 1, |i| format!("h{i} = tanh(dense(h{}; 2))", i - 1))
        )
    }),
    ("one read by all", |n| {
        format!("{}y = {}\noutput y", equations(0..n, |i| format!("h{i} = tanh(x * {i})")), list(n, " + "))
    }),
    ("dense of one", |n| {
        format!(
            "{}y = {}\noutput y",
            equations(0..n, |i| format!("h{i} = tanh(dense(x; 2))")),
            list(n, " + ")
        )
    }),
    ("concat", |n| {
        format!(
            "{}y = concat({})\noutput y",
            equations(0..n, |i| format!("h{i} = tanh(x * {i})")),
            list(n, ", ")
        )
    }),
    ("slices", |n| {
        let wide = format!("w = dense(x; {n})\n");
        let slices = equations(0..n, |i| format!("h{i} = tanh(slice(w; {i}, {}))", i + 1));
        format!("{wide}{slices}y = {}\noutput y", list(n, " + "))
    }),
    ("stacked lstm", |n| chain(n / 10, |i| format!("h{i} = lstm(h{}; 2)", i - 1))),
    ("lstm side by side", |n| {
        format!(
            "{}y = {}\noutput y",
            equations(0..n / 10, |i| format!("h{i} = lstm(x; 2)")),
            list(n / 10, " + ")
        )
    }),
    ("scans side by side", |n| {
        let scan = |i| format!("h{i} = 0.5 * h{i}[t-1] + x");
        format!("{}y = {}\noutput y", equations(0..n, scan), list(n, " + "))
    }),
    ("chain of scans", |n| chain(n, |i| format!("h{i} = 0.5 * h{i}[t-1] + h{}", i - 1))),
    ("dense scans", |n| chain(n / 2, |i| format!("h{i} = 0.5 * h{i}[t-1] + dense(h{}; 2)", i - 1))),
    ("reads of a state", |n| {
        let reads = equations(0..n, |i| format!("h{i} = {} * c[t-1]", 0.5 / n as f64));
        format!("{reads}c = x + {}\noutput c", list(n, " + "))
    }),
    ("constants", |n| {
        let last = n - 1;
        format!(
            "h0 = param(2)\n{}y = x * h{last}\noutput y",
            equations(1..n, |i| format!("h{i} = tanh(h{})", i - 1))
        )
    }),
    ("outputs", |n| {
        format!("{}output {}", equations(0..n, |i| format!("h{i} = tanh(x * {i})")), list(n, ", "))
    }),
    ("ways", |n| {
        chain(n / 4, |i| {
            let before = i - 1;
            format!(
                "h{i} = tanh(dense(h{before}, h{before}[t-2]; 2)) + softmax(h{before}) * diag(h{before}[t-1])"
            )
        })
    }),
];

fn equations(range: std::ops::Range<usize>, equation: impl Fn(usize) -> String) -> String {
    range.fold(String::new(), |mut text, i| {
        let _ = writeln!(text, "{}", equation(i));
        text
    })
}

fn chain(n: usize, equation: impl Fn(usize) -> String) -> String {
    format!("h0 = tanh(x)\n{}output h{}", equations(1..n, equation), n - 1)
}

fn list(n: usize, between: &str) -> String {
    (0..n).map(|i| format!("h{i}")).collect::<Vec<_>>().join(between)
}

/// The frames of a window.
const FRAMES: usize = 4;
/// Workers of the CPU.
const WORKERS: usize = 2;

/// The steps of a network: which are measured, and the seconds of each.
struct Steps<'a> {
    only: Option<&'a str>,
    seconds: Vec<(String, f64)>,
}

impl Steps<'_> {
    fn wants(&self, name: &str) -> bool {
        self.only.is_none_or(|only| only == name)
    }

    /// Does a step in any case.
    fn time<T>(&mut self, name: &str, step: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let made = step();
        if self.wants(name) {
            self.seconds.push((name.into(), start.elapsed().as_secs_f64()));
        }
        made
    }

    /// Does a step that no other needs.
    fn if_wanted<T>(&mut self, name: &str, step: impl FnOnce() -> T) {
        if self.wants(name) {
            self.time(name, step);
        }
    }
}

/// Takes a network from its text to its first windows. Returns its layers.
fn measure(text: &str, steps: &mut Steps<'_>) -> usize {
    let graph = steps.time("text", || rnnc::lang::compile("scaling.rnn", text, None));
    let graph = graph.unwrap_or_else(|errors| panic!("{:.1000}", errors.to_string()));
    steps.if_wanted("validate", || rnnc::graph::validate(&graph));
    steps.if_wanted("components", || Components::find(&graph));
    steps.if_wanted("adjoint", || {
        Adjoint::derive(&graph, AdjointOptions { input_gradients: true, ..AdjointOptions::default() })
    });
    steps.if_wanted("initial", || Weights::initial(&graph, 1));
    for (options, end) in [
        (PlanOptions::inference(1, FRAMES), ""),
        (PlanOptions::training(1, FRAMES).with_input_gradients(), " both"),
    ] {
        planned(&graph, options, end, steps);
    }
    graph.layers().len()
}

/// What becomes of a plan. `end` is that of the steps' names.
fn planned(graph: &Graph, options: PlanOptions, end: &str, steps: &mut Steps<'_>) {
    let config =
        ExecutionConfig { threads: WORKERS, ..ExecutionConfig::new(options.streams, options.frames) };
    let name = |step: &str| format!("{step}{end}");
    let plan = steps.time(&name("plan"), || Plan::new(graph, options)).expect("it can be planned");
    if ["foresee", "report", "json"].iter().any(|step| steps.wants(&name(step))) {
        let foreseen = steps.time(&name("foresee"), || Foreseen::new(plan.clone(), config, WORKERS));
        steps.if_wanted(&name("report"), || report::text(&foreseen.plan, Some(&foreseen.notes())));
        steps.if_wanted(&name("json"), || report::json(&foreseen.plan, Some(&foreseen.notes())).to_string());
    }
    steps.if_wanted(&name("dot"), || report::dot(&plan));
    steps.if_wanted(&name("svg"), || report::svg(&plan));
    let device = Device::named("h200").expect("a known device");
    // Long loops are refused, for what they would need of its shared memory.
    steps.if_wanted(&name("cuda"), || explain(&plan, config, &device).map(|explained| explained.to_string()));
    let runs = ["", " run", " back"];
    if runs.iter().any(|run| steps.wants(&name(&format!("cpu{run}")))) {
        let executor = steps.time(&name("cpu"), || CpuExecutor::new(plan.clone(), config));
        windows(graph, &mut executor.expect("it can be run"), &name("cpu"), steps);
    }
    if runs.iter().any(|run| steps.wants(&name(&format!("reference{run}")))) {
        let executor = steps.time(&name("reference"), || ReferenceExecutor::new(plan.clone(), config));
        windows(graph, &mut executor.expect("it can be run"), &name("reference"), steps);
    }
}

/// The first windows of a network, forward and back.
fn windows(graph: &Graph, executor: &mut dyn Executor, name: &str, steps: &mut Steps<'_>) {
    steps.time(&format!("{name} run"), || {
        Weights::initial(graph, 1).put_into(executor, ParameterArray::Weight).expect("weights fit");
        for _ in 0..2 {
            executor.forward(FRAMES, &[Values::F32(&[0.5; 2 * FRAMES])], None).expect("inputs fit");
        }
        executor.state().expect("there is a state");
    });
    if executor.plan().backward_pass.is_some() {
        let errors: Vec<Option<Values<'_>>> = graph.outputs().iter().map(|_| None).collect();
        steps.time(&format!("{name} back"), || executor.backward(FRAMES, &errors)).expect("errors fit");
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let sizes = arguments.next().unwrap_or_else(|| "10000,20000,40000,100000".into());
    let sizes: Vec<usize> = sizes.split(',').map(|size| size.parse().expect("sizes are numbers")).collect();
    let (case, only) = (arguments.next().unwrap_or_default(), arguments.next());
    for (name, network) in CASES.iter().filter(|(name, _)| name.contains(&case)) {
        let mut columns: Vec<(usize, Vec<(String, f64)>)> = Vec::new();
        for &size in &sizes {
            let text = format!("network n {{ input x : vector(2)\n{} }}", network(size));
            let mut steps = Steps { only: only.as_deref(), seconds: Vec::new() };
            columns.push((measure(&text, &mut steps), steps.seconds));
        }
        let layers: Vec<usize> = columns.iter().map(|(layers, _)| *layers).collect();
        println!("{name}: microseconds a layer, of {layers:?} layers");
        for row in 0..columns[0].1.len() {
            let each = columns.iter().map(|(layers, steps)| steps[row].1 * 1e6 / *layers as f64);
            let each: Vec<String> = each.map(|us| format!("{us:9.2}")).collect();
            println!("  {:<20} {}", columns[0].1[row].0, each.concat());
        }
    }
}

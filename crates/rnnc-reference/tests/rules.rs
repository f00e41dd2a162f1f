//! The rules of starts, resets, delays and windows, on networks small enough to work out by hand.

use rnnc_graph::{Activation, Connect, ConnectionKind, Graph, Init, LayerId, Range, Start, WeightId};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, NO_SYMBOL, OptimizerSettings, ParameterArray, Plan,
    PlanOptions, State, Update, Values, ValuesMut,
};
use rnnc_reference::ReferenceExecutor;

/// An executor for one stream.
fn executor(graph: &Graph, window: usize, step: usize) -> ReferenceExecutor {
    executor_for(graph, ExecutionConfig { window, step, ..ExecutionConfig::new(1, window) }).unwrap()
}

fn executor_for(graph: &Graph, config: ExecutionConfig) -> Result<ReferenceExecutor, ExecutorError> {
    let options = PlanOptions::training(config.streams, config.window).with_input_gradients();
    ReferenceExecutor::new(Plan::new(graph, options).unwrap(), config)
}

fn run(executor: &mut ReferenceExecutor, x: &[f64], resets: &[usize]) -> Vec<f64> {
    let flags: Vec<bool> = (0..x.len()).map(|t| resets.contains(&t)).collect();
    executor.forward(x.len(), &[Values::F64(x)], Some(&flags)).unwrap();
    let mut y = vec![0.0; x.len()];
    executor.output(0, ValuesMut::F64(&mut y)).unwrap();
    y
}

fn write(executor: &mut ReferenceExecutor, weight: WeightId, values: &[f64]) {
    executor.write(ParameterArray::Weight, weight, Values::F64(values)).unwrap();
}

fn gradient(executor: &ReferenceExecutor, weight: WeightId) -> f64 {
    let mut out = [0.0];
    executor.read(ParameterArray::Gradient, weight, ValuesMut::F64(&mut out)).unwrap();
    out[0]
}

fn input_gradient(executor: &ReferenceExecutor, frames: usize) -> Vec<f64> {
    let mut out = vec![0.0; frames];
    executor.input_gradient(0, ValuesMut::F64(&mut out)).unwrap();
    out
}

/// y = x[t - delay], by way of a layer `a` that starts at `start`.
fn shift(delay: i64, start: Start) -> Graph {
    let mut graph = Graph::new("shift");
    let x = graph.input("x", 1);
    let a = graph.sum("a", 1, Activation::Identity);
    let y = graph.sum("y", 1, Activation::Identity);
    graph.connect(x, a, Connect::identity());
    graph.connect(a, y, Connect::identity().delay(delay));
    graph.set_start(a, start);
    graph.output("y", y);
    graph
}

#[test]
fn a_delayed_read_gives_the_start_for_as_many_frames_as_its_delay() {
    let mut e = executor(&shift(2, Start::Constant(9.0)), 6, 6);
    assert_eq!(run(&mut e, &[1., 2., 3., 4., 5., 6.], &[3]), [9., 9., 1., 9., 9., 4.]);
}

#[test]
fn a_reset_in_an_earlier_window_is_still_seen() {
    let mut e = executor(&shift(3, Start::Constant(9.0)), 2, 2);
    assert_eq!(run(&mut e, &[1., 2.], &[]), [9., 9.]);
    assert_eq!(run(&mut e, &[3., 4.], &[1]), [9., 9.]);
    assert_eq!(run(&mut e, &[5., 6.], &[]), [9., 9.]);
    assert_eq!(run(&mut e, &[7., 8.], &[]), [4., 5.]);
}

#[test]
fn a_read_ahead_gives_the_start_at_resets_and_past_the_last_frame() {
    let mut e = executor(&shift(-2, Start::Constant(9.0)), 6, 6);
    assert_eq!(run(&mut e, &[1., 2., 3., 4., 5., 6.], &[3]), [3., 9., 9., 6., 9., 9.]);
    // Every window ends the stream as far as reads ahead can see.
    assert_eq!(run(&mut e, &[1., 2., 3.], &[]), [3., 9., 9.]);
}

#[test]
fn an_input_read_before_the_stream_begins_is_zero() {
    let mut graph = Graph::new("inputs");
    let x = graph.input("x", 1);
    let y = graph.sum("y", 1, Activation::Identity);
    graph.connect(x, y, Connect::identity().delay(1));
    graph.output("y", y);
    assert_eq!(run(&mut executor(&graph, 3, 3), &[1., 2., 3.], &[]), [0., 1., 2.]);
}

/// s = x + w s[t-1], with a learned start.
fn accumulator() -> (Graph, WeightId, WeightId) {
    let mut graph = Graph::new("accumulator");
    let x = graph.input("x", 1);
    let s = graph.sum("s", 1, Activation::Identity);
    let w = graph.weight("s.diag.s[t-1]", &[1], Init::Zeros);
    let start = graph.weight("s.start", &[1], Init::Zeros);
    graph.connect(x, s, Connect::identity());
    graph.connect(s, s, Connect::diagonal(w).delay(1));
    graph.set_start(s, Start::Learned(start));
    graph.output("s", s);
    (graph, w, start)
}

#[test]
fn a_learned_start_enters_at_every_reset_and_collects_its_gradient_there() {
    let (graph, w, start) = accumulator();
    let mut e = executor(&graph, 4, 4);
    write(&mut e, w, &[0.5]);
    write(&mut e, start, &[8.0]);
    // Frames 0 and 2 read the start.
    assert_eq!(run(&mut e, &[1., 1., 1., 1.], &[2]), [5., 3.5, 5., 3.5]);
    e.backward(4, &[Some(Values::F64(&[1., 1., 1., 1.]))]).unwrap();
    // dL/ds = 1.5 at frames 0 and 2 (1, and half of the next frame's 1), 1 at frames 1 and 3.
    assert_eq!(input_gradient(&e, 4), [1.5, 1., 1.5, 1.]);
    assert_eq!(gradient(&e, start), 0.5 * (1.5 + 1.5));
    // The start stands in as the source: 1.5 * 8 + 1 * 5, twice.
    assert_eq!(gradient(&e, w), 2.0 * (1.5 * 8.0 + 5.0));
}

#[test]
fn errors_go_back_through_the_window_and_no_further() {
    let (graph, w, start) = accumulator();
    let mut e = executor(&graph, 3, 1);
    write(&mut e, w, &[0.5]);
    write(&mut e, start, &[8.0]);
    assert_eq!(run(&mut e, &[1.], &[]), [5.]);
    assert_eq!(run(&mut e, &[1.], &[]), [3.5]);
    assert_eq!(run(&mut e, &[1.], &[]), [2.75]);
    assert_eq!(run(&mut e, &[1.], &[]), [2.375]);
    // Only the newest frame has an error of its own: 1, then 0.5 and 0.25 in the two before it.
    e.backward(3, &[Some(Values::F64(&[1.]))]).unwrap();
    assert_eq!(input_gradient(&e, 3), [0.25, 0.5, 1.]);
    // The sources are s[t-1] = 5, 3.5 and 2.75; the first lies before the window, a constant.
    assert_eq!(gradient(&e, w), 0.25 * 5.0 + 0.5 * 3.5 + 2.75);
    // The start was read in frame 0, which is no longer in the window.
    assert_eq!(gradient(&e, start), 0.0);
    let refused = e.backward(4, &[None]).unwrap_err();
    assert!(matches!(refused, ExecutorError::OutOfRange { found: 4, .. }), "{refused}");
}

#[test]
fn older_frames_keep_their_values_and_errors_go_through_the_weights_of_today() {
    let (graph, w, start) = accumulator();
    let mut e = executor(&graph, 2, 1);
    write(&mut e, w, &[0.5]);
    write(&mut e, start, &[8.0]);
    assert_eq!(run(&mut e, &[1.], &[]), [5.]);
    write(&mut e, w, &[2.0]);
    assert_eq!(run(&mut e, &[1.], &[]), [11.]);
    e.backward(2, &[Some(Values::F64(&[1.]))]).unwrap();
    assert_eq!(input_gradient(&e, 2), [2., 1.]);
    assert_eq!(gradient(&e, w), 1.0 * 5.0 + 2.0 * 8.0);
}

#[test]
fn a_state_keeps_the_frames_that_errors_still_go_back_through() {
    let (graph, w, _) = accumulator();
    let mut e = executor(&graph, 3, 1);
    assert_eq!(e.state().unwrap().kept, None);
    write(&mut e, w, &[1.0]);
    assert_eq!(run(&mut e, &[5.], &[]), [5.]);
    write(&mut e, w, &[2.0]);
    assert_eq!(run(&mut e, &[1.], &[]), [11.]);
    let state = e.state().unwrap();
    let without = State { kept: None, ..state.clone() };
    assert_eq!(state.kept.as_ref().unwrap().since_reset, [0, 1]);
    assert_eq!(e.forward_state().unwrap(), without);

    let mut other = executor(&graph, 3, 1);
    other.set_state(&state).unwrap();
    assert_eq!(other.state().unwrap(), state);
    write(&mut other, w, &[3.0]);
    assert_eq!(run(&mut other, &[1.], &[]), [34.]);
    other.backward(3, &[Some(Values::F64(&[1.]))]).unwrap();
    // Errors go through the weight of today, to the values of their time: 0, 5 and 11.
    assert_eq!(input_gradient(&other, 3), [9., 3., 1.]);
    assert_eq!(gradient(&other, w), 3.0 * 5.0 + 11.0);

    // Without them, errors go back through new frames alone.
    other.set_state(&without).unwrap();
    run(&mut other, &[1.], &[]);
    assert!(matches!(other.backward(2, &[None]), Err(ExecutorError::OutOfRange { .. })));
    // An executor takes as many as it would keep itself, the newest.
    let mut shorter = executor(&graph, 2, 1);
    shorter.set_state(&state).unwrap();
    assert_eq!(shorter.state().unwrap().kept.unwrap().since_reset, [1]);
    let mut none = executor(&graph, 2, 2);
    none.set_state(&state).unwrap();
    assert_eq!(none.state().unwrap(), without);
}

#[test]
fn a_read_ahead_sends_its_error_back_in_time() {
    let mut e = executor(&shift(-1, Start::Zero), 4, 4);
    assert_eq!(run(&mut e, &[1., 2., 3., 4.], &[2]), [2., 0., 4., 0.]);
    e.backward(4, &[Some(Values::F64(&[10., 20., 30., 40.]))]).unwrap();
    // Frame 1's read crossed the reset at 2, and frame 3's the end.
    assert_eq!(input_gradient(&e, 4), [0., 10., 0., 30.]);
}

#[test]
fn networks_that_look_ahead_take_no_step_shorter_than_the_window() {
    let graph = shift(-1, Start::Zero);
    let Err(error) =
        executor_for(&graph, ExecutionConfig { window: 4, step: 2, ..ExecutionConfig::new(1, 4) })
    else {
        panic!("it was taken");
    };
    assert!(error.to_string().contains("`y`, which looks ahead"), "{error}");
    let mut e = executor(&graph, 4, 4);
    run(&mut e, &[1., 2.], &[]);
    run(&mut e, &[1., 2.], &[]);
    assert!(matches!(e.backward(4, &[None]), Err(ExecutorError::OutOfRange { .. })));
    e.backward(2, &[None]).unwrap();
}

#[test]
fn a_state_carries_on_where_it_was_taken() {
    let graph = shift(3, Start::Constant(9.0));
    let mut e = executor(&graph, 4, 4);
    run(&mut e, &[1., 2., 3., 4.], &[2]);
    let state = e.state().unwrap();
    assert_eq!((state.since_reset.as_slice(), state.frames), (&[2][..], 4));
    assert_eq!(state.histories.len(), 1);
    assert_eq!(state.histories[0].values, [2., 3., 4.]);

    let mut other = executor(&graph, 4, 4);
    other.set_state(&state).unwrap();
    assert_eq!(other.state().unwrap(), state);
    assert_eq!(run(&mut other, &[5., 6., 7., 8.], &[]), [9., 3., 4., 5.]);
    e.clear_state();
    assert_eq!(run(&mut e, &[5., 6., 7., 8.], &[]), [9., 9., 9., 5.]);
}

#[test]
fn a_state_of_another_network_is_refused_by_name() {
    let mut e = executor(&shift(3, Start::Zero), 4, 4);
    let good = e.state().unwrap();
    let problem = |e: &mut ReferenceExecutor, state| match e.set_state(&state) {
        Err(ExecutorError::State(problem)) => problem,
        other => panic!("{other:?}"),
    };
    let mut renamed = good.clone();
    renamed.histories[0].layer = "b".into();
    assert!(problem(&mut e, renamed).contains("`b`"));
    let mut missing = good.clone();
    let name = missing.histories.remove(0).layer;
    let lacks = problem(&mut e, missing);
    assert!(lacks.contains(&format!("lacks `{name}`")), "{lacks}");
    // What is there, what should be, and what to do.
    assert!(lacks.contains(&format!("(there: none; needed: `{name}`)")), "{lacks}");
    assert!(lacks.ends_with("begin without a state"), "{lacks}");
    let mut short = good.clone();
    short.histories[0].values.pop();
    assert!(problem(&mut e, short).contains("2 values, not 3"));
    let mut streams = good;
    streams.since_reset.push(0);
    assert!(problem(&mut e, streams).contains("2 streams"));
}

#[test]
fn symbols_are_looked_up_and_none_reads_as_zeros() {
    let mut graph = Graph::new("symbols");
    let x = graph.symbol("x", 3);
    let y = graph.sum("y", 2, Activation::Identity);
    let w = graph.weight("y.W.x[t-1]", &[2, 3], Init::Zeros);
    graph.connect(x, y, Connect::full(w).delay(1));
    graph.output("y", y);
    let mut e = executor(&graph, 4, 4);
    write(&mut e, w, &[1., 2., 3., 4., 5., 6.]);
    e.forward(4, &[Values::Symbols(&[2, NO_SYMBOL, 0, 1])], None).unwrap();
    let mut y = [0.0; 8];
    e.output(0, ValuesMut::F64(&mut y)).unwrap();
    assert_eq!(y, [0., 0., 3., 6., 0., 0., 1., 4.]);
    assert_eq!(e.state().unwrap().histories[0].values, [1.]);
    e.backward(4, &[Some(Values::F64(&[1., 2., 3., 4., 5., 6., 7., 8.]))]).unwrap();
    let mut gradient = [0.0; 6];
    e.read(ParameterArray::Gradient, w, ValuesMut::F64(&mut gradient)).unwrap();
    assert_eq!(gradient, [7., 0., 3., 8., 0., 4.]);

    let error = e.forward(2, &[Values::Symbols(&[0, 3])], None).unwrap_err();
    assert!(matches!(error, ExecutorError::Symbol { frame: 1, found: 3, .. }), "{error}");
    // What was refused changed nothing.
    assert_eq!(e.state().unwrap().frames, 4);
}

#[test]
fn wrong_input_is_refused_by_name() {
    let mut e = executor(&shift(1, Start::Zero), 4, 4);
    assert!(matches!(e.forward(5, &[Values::F64(&[0.; 5])], None), Err(ExecutorError::OutOfRange { .. })));
    assert!(matches!(e.forward(2, &[], None), Err(ExecutorError::Count { .. })));
    assert!(matches!(e.forward(2, &[Values::F64(&[0.; 3])], None), Err(ExecutorError::Length { .. })));
    assert!(matches!(e.forward(2, &[Values::Symbols(&[0; 2])], None), Err(ExecutorError::Type { .. })));
    let resets = [true];
    assert!(matches!(
        e.forward(2, &[Values::F64(&[0.; 2])], Some(&resets)),
        Err(ExecutorError::Length { .. })
    ));
    assert!(matches!(e.backward(1, &[None]), Err(ExecutorError::Order(_))));
}

#[test]
fn more_memory_than_there_is_is_refused_before_it_is_taken() {
    let config = ExecutionConfig { streams: usize::MAX / 16, ..ExecutionConfig::new(1, 8) };
    let Err(error) = executor_for(&shift(1, Start::Zero), config) else { panic!("it was taken") };
    assert!(matches!(error, ExecutorError::Memory { .. }), "{error}");
}

#[test]
fn the_layer_that_first_went_non_finite_is_named() {
    let mut graph = Graph::new("overflow");
    let x = graph.input("x", 1);
    let fine = graph.sum("fine", 1, Activation::Tanh);
    let grows = graph.sum("grows", 1, Activation::Exp);
    let after = graph.sum("after", 1, Activation::Identity);
    graph.connect(x, fine, Connect::identity());
    graph.connect(x, grows, Connect::identity());
    graph.connect(grows, after, Connect::scaled(2.0));
    graph.connect(fine, after, Connect::identity());
    graph.output("after", after);
    let mut e = executor(&graph, 4, 4);
    run(&mut e, &[1., 2., 50.], &[]);
    assert_eq!(e.first_non_finite(), None);
    // e^100 is finite, but not in single precision.
    run(&mut e, &[1., 2., 100.], &[]);
    let found = e.first_non_finite().unwrap();
    let name = &e.plan().forward.layer_at(found.layer).name;
    assert_eq!((name.as_str(), found.frame, found.stream, found.unit), ("grows", 2, 0, 0));
    run(&mut e, &[f64::NAN], &[]);
    let found = e.first_non_finite().unwrap();
    assert_eq!(e.plan().forward.layer_at(found.layer).name, "x");
}

#[test]
fn an_update_changes_the_weights_by_adam() {
    let (graph, w, start) = accumulator();
    let mut e = executor(&graph, 2, 2);
    write(&mut e, w, &[0.5]);
    write(&mut e, start, &[8.0]);
    e.write(ParameterArray::Gradient, w, Values::F64(&[3.0])).unwrap();
    e.write(ParameterArray::Gradient, start, Values::F64(&[-4.0])).unwrap();
    let optimizer = OptimizerSettings::default().with("epsilon", &[1.0]).unwrap();
    let update = Update { learning_rate: 0.01, step: 1, clip_norm: Some(2.5), optimizer };
    assert_eq!(e.update(&update).unwrap(), 5.0);
    let mut value = [0.0];
    e.read(ParameterArray::Weight, w, ValuesMut::F64(&mut value)).unwrap();
    // The clipped gradient is 1.5; the step 0.01 * 1.5 / (1.5 + 1).
    assert!((value[0] - (0.5 - 0.006)).abs() < 1e-12);
    e.read(ParameterArray::Weight, start, ValuesMut::F64(&mut value)).unwrap();
    assert!((value[0] - (8.0 + 0.01 * 2.0 / 3.0)).abs() < 1e-12);
}

/// Every kind of connection into one sum, from two units of x to four.
#[test]
fn each_kind_of_connection_gives_its_term() {
    let value = |connect: &dyn Fn(&mut Graph, LayerId, LayerId)| {
        let mut graph = Graph::new("terms");
        let x = graph.input("x", 2);
        let y = graph.sum("y", 4, Activation::Identity);
        connect(&mut graph, x, y);
        graph.output("y", y);
        let mut e = executor(&graph, 1, 1);
        for (id, weight) in graph.weights().iter().enumerate() {
            let values: Vec<f64> = (1..=weight.len()).map(|i| i as f64).collect();
            write(&mut e, WeightId::from_index(id), &values);
        }
        e.forward(1, &[Values::F64(&[10., 100.])], None).unwrap();
        let mut y = [0.0; 4];
        e.output(0, ValuesMut::F64(&mut y)).unwrap();
        y
    };
    let full = |graph: &mut Graph, x, y| {
        let w = graph.weight("w", &[4, 2], Init::Zeros);
        graph.connect(x, y, Connect::full(w));
    };
    assert_eq!(value(&full), [210., 430., 650., 870.]);
    let heads = |graph: &mut Graph, x, y| {
        let weight = graph.weight("w", &[2, 2, 1], Init::Zeros);
        graph.connect(
            x,
            y,
            Connect::new(ConnectionKind::Full { weight, heads: 2, transposed: false, part: None }),
        );
    };
    assert_eq!(value(&heads), [10., 20., 300., 400.]);
    let diagonal = |graph: &mut Graph, x, y| {
        let w = graph.weight("w", &[2], Init::Zeros);
        graph.connect(x, y, Connect::diagonal(w).to(Range::new(1, 2)));
    };
    assert_eq!(value(&diagonal), [0., 10., 200., 0.]);
    let identity = |graph: &mut Graph, x, y| {
        graph.connect(x, y, Connect::scaled(-1.0).from(Range::new(1, 1)).to(Range::new(3, 1)));
    };
    assert_eq!(value(&identity), [0., 0., 0., -100.]);
    let broadcast = |graph: &mut Graph, x, y| {
        graph.connect(x, y, Connect::broadcast());
        graph.connect_constant(0.5, y);
    };
    assert_eq!(value(&broadcast), [10.5, 10.5, 100.5, 100.5]);
}

#[test]
fn a_dropout_mask_is_one_but_in_training_and_then_the_same_however_the_run_is_split() {
    let mut graph = Graph::new("dropout");
    let x = graph.input("x", 1);
    let mask = graph.mask("mask", 1, 0.25);
    let y = graph.product("y", 1, Activation::Identity);
    graph.connect(x, y, Connect::identity());
    graph.connect(mask, y, Connect::identity());
    graph.output("y", y);
    let ones = [1.0; 64];
    assert_eq!(run(&mut executor(&graph, 64, 64), &ones, &[]), ones);

    let config = ExecutionConfig { training: true, seed: 5, ..ExecutionConfig::new(1, 64) };
    let mut whole = executor_for(&graph, config).unwrap();
    let y = run(&mut whole, &ones, &[]);
    assert!(y.iter().all(|&y| y == 0.0 || y == 1.0 / 0.75));
    let dropped = y.iter().filter(|&&y| y == 0.0).count();
    assert!((4..=32).contains(&dropped), "{dropped} of 64 dropped");
    let mut split = executor_for(&graph, config).unwrap();
    let parts = [&ones[..10], &ones[10..11], &ones[11..]];
    assert_eq!(parts.map(|part| run(&mut split, part, &[])).concat(), y);
    // The error takes the mask that the value took.
    whole.backward(64, &[Some(Values::F64(&ones))]).unwrap();
    assert_eq!(input_gradient(&whole, 64), y);
}

#[test]
fn a_state_that_is_read_further_back_where_no_gradient_goes_has_gradients_of_0_there() {
    let mut graph = Graph::new("stopped");
    let x = graph.input("x", 1);
    let h = graph.sum("h", 1, Activation::Identity);
    let y = graph.sum("y", 1, Activation::Identity);
    graph.connect(x, h, Connect::identity());
    graph.connect(h, h, Connect::scaled(0.5).delay(1));
    graph.connect(h, y, Connect::identity());
    graph.connect(h, y, Connect::identity().delay(3).stop_gradient());
    graph.output("y", y);
    let plan = Plan::new(&graph, PlanOptions::training(1, 4).with_state_gradients()).unwrap();
    let mut executor = ReferenceExecutor::new(plan, ExecutionConfig::new(1, 4)).unwrap();
    for _ in 0..2 {
        executor.forward(4, &[Values::F64(&[1.0; 4])], None).unwrap();
    }
    executor.backward(4, &[Some(Values::F64(&[1.0; 4]))]).unwrap();
    let mut gradient = [1.0; 3];
    executor.state_gradient(0, ValuesMut::F64(&mut gradient)).unwrap();
    assert_eq!(gradient, [0.0, 0.0, 0.5 + 0.25 + 0.125 + 0.0625]);
}

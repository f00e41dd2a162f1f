//! Calls as functions of what they are given: the same bits as an executor's, the same numbers as the reference's, whatever the caller's
//! arrays are like, and however many calls there are at a time.

#[cfg(unix)]
mod forked;

#[cfg(unix)]
use forked::forked;
use proptest::prelude::*;
use proptest::test_runner::contextualize_config;
use rnnc_cpu::{Compiled, CpuExecutor};
use rnnc_graph::{LayerKind, WeightId};
use rnnc_plan::{
    Array, ArrayElement, ArrayMut, Backward, ExecutionConfig, Executor, Forward, Functional, History,
    ParameterArray, Plan, PlanOptions, Port, PortKind, Replayed, State, StatePort, TapeHeader, ValuesMut,
};
use rnnc_reference::ReferenceExecutor;
use rnnc_suite::functional::{
    Around, Results, TapeMemory, all_held, backward, both, check_functional, check_joined, draw_around,
    forward, functional_config, functional_plan, held, odd_state, state_len, state_shape,
};
use rnnc_suite::{Case, Smooth, cases, cell_networks, is_well_conditioned, networks, random_case};
use rnnc_verify::{Array as DrawnArray, Random, Window, write_weights};
use std::sync::Arc;

/// Relative to the largest number of an array; single precision against double.
const TOLERANCE: f64 = 2e-4;

fn compiled(case: &Case, config: ExecutionConfig) -> Arc<Compiled> {
    Compiled::new(functional_plan(&held(&case.graph), case.streams, config.window).unwrap(), config).unwrap()
}

fn reference(case: &Case, config: ExecutionConfig) -> Replayed<ReferenceExecutor> {
    let plan = functional_plan(&held(&case.graph), case.streams, config.window).unwrap();
    Replayed::new(ReferenceExecutor::new(plan, config).unwrap())
}

/// What an executor gives in a window, beginning with that state.
fn executed(executor: &mut CpuExecutor, functional: &Compiled, window: &Window, around: &Around) -> Results {
    let (ports, streams) = (functional.ports(), functional.config().streams);
    executor.clear_state();
    if let Some(state) = &around.state {
        let mut histories: Vec<_> = (ports.state.iter().zip(state))
            .map(|(port, values)| {
                let symbols = port.kind == PortKind::Symbols;
                let (layer, depth) = (port.name.clone(), port.depth);
                let size = if symbols { 1 } else { port.size };
                (port.layer, History { layer, depth, size, symbols, values: values.clone() })
            })
            .collect();
        histories.sort_by_key(|(layer, _)| *layer);
        let histories = histories.into_iter().map(|(_, history)| history).collect();
        let since_reset = vec![1 << 40; streams];
        let state = State { histories, since_reset, frames: around.first_frame, kept: None };
        executor.set_state(&state).unwrap();
    }
    window.forward(executor).unwrap();
    let mut left = vec![None; ports.state.iter().filter(|port| port.vector.is_some()).count()];
    for (port, values) in ports.state.iter().zip(&around.left) {
        if let (Some(vector), Some(values)) = (port.vector, values) {
            left[vector] = Some(values.iter().map(|x| *x as f32).collect());
        }
    }
    let frames = window.frames;
    window.backward_from(executor, frames, &left).unwrap();
    let mut results = Results {
        outputs: ports.outputs.iter().map(|port| vec![0.0; frames * streams * port.size]).collect(),
        state: Vec::new(),
        d_weights: ports.weights.iter().map(|port| vec![0.0; port.shape.iter().product()]).collect(),
        d_inputs: Vec::new(),
        d_state: Vec::new(),
    };
    for (place, values) in results.outputs.iter_mut().enumerate() {
        executor.output(place, ValuesMut::F64(values)).unwrap();
    }
    for (place, values) in results.d_weights.iter_mut().enumerate() {
        let id = WeightId::from_index(place);
        executor.read(ParameterArray::Gradient, id, ValuesMut::F64(values)).unwrap();
    }
    for (place, port) in ports.inputs.iter().enumerate() {
        let is_numbers = port.kind == PortKind::Numbers;
        let mut values = vec![0.0; if is_numbers { frames * streams * port.size } else { 0 }];
        if is_numbers {
            executor.input_gradient(place, ValuesMut::F64(&mut values)).unwrap();
        }
        results.d_inputs.push(values);
    }
    let state = executor.forward_state().unwrap();
    for port in &ports.state {
        results.state.push(state.histories.iter().find(|h| h.layer == port.name).unwrap().values.clone());
        let mut values = vec![0.0; port.vector.map_or(0, |_| state_len(port, streams))];
        if let Some(vector) = port.vector {
            executor.state_gradient(vector, ValuesMut::F64(&mut values)).unwrap();
        }
        results.d_state.push(values);
    }
    results
}

/// Without the gradients and the values of state before a reset within several frames: an executor's state says when resets were.
fn without_deep_state(functional: &dyn Functional, mut around: Around) -> Around {
    for (port, left) in functional.ports().state.iter().zip(&mut around.left) {
        if port.depth > 1 {
            *left = None;
        }
    }
    around
}

/// The bits of all results, so that one that is no number equals itself.
fn bits(results: &Results, functional: &dyn Functional) -> Vec<u64> {
    results.named(functional).into_iter().flat_map(|array| array.values).map(f64::to_bits).collect()
}

#[test]
fn calls_have_the_bits_of_an_executor_s() {
    for threads in [1, 2] {
        for case in cases() {
            let config = ExecutionConfig { threads, ..functional_config(&case) };
            let functional = compiled(&case, config);
            let trial = case.trial().unwrap();
            let mut random = Random(case.seed ^ 3);
            let plan = functional_plan(&held(&case.graph), case.streams, config.window).unwrap();
            let mut executor = CpuExecutor::new(plan, config).unwrap();
            write_weights(&mut executor, &trial.weights).unwrap();
            for (place, window) in trial.windows.iter().enumerate() {
                let around = draw_around(&*functional, &case, &trial, &mut random);
                let mut around = without_deep_state(&*functional, around);
                if place == 1 {
                    around = Around { state: None, first_frame: 0, ..around };
                }
                let expected = executed(&mut executor, &functional, window, &around);
                let mut found = both(&*functional, window, &around).unwrap();
                for (place, port) in functional.ports().state.iter().enumerate() {
                    if port.depth > 1 {
                        found.state[place] = expected.state[place].clone();
                    }
                }
                let (found, expected) = (bits(&found, &*functional), bits(&expected, &*functional));
                assert!(found == expected, "{}, window {place}, {threads} threads", case.name);
            }
        }
    }
}

#[test]
fn calls_agree_with_the_reference_with_state_and_without() {
    let odd = [odd_state(), all_held()].into_iter().flat_map(|graph| {
        [([1, 7], 0.2), ([4, 3], 0.0)].map(|(windows, resets)| {
            let names = graph.held().len();
            Case::new(&format!("odd, {names} held"), graph.clone(), 3, &windows, resets)
        })
    });
    let wrong: Vec<String> = (cases().into_iter().chain(odd))
        .filter_map(|case| {
            let config = ExecutionConfig { threads: 2, ..functional_config(&case) };
            let (found, expected) = (compiled(&case, config), reference(&case, config));
            check_functional(&case, &*found, &expected, TOLERANCE).err()
        })
        .collect();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

proptest! {
    #![proptest_config(contextualize_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) }))]

    #[test]
    fn calls_of_random_networks_agree_with_the_reference(case in random_case(Smooth::Yes), all in any::<bool>()) {
        let mut case = case;
        if all {
            case.graph.layer_ids().collect::<Vec<_>>().into_iter().for_each(|layer| case.graph.hold(layer));
        }
        let config = ExecutionConfig { threads: 2, ..functional_config(&case) };
        let (found, expected) = (compiled(&case, config), reference(&case, config));
        let agrees = check_functional(&case, &*found, &expected, 1e-3);
        if let Err(error) = agrees && is_well_conditioned(&case, 1e-3) {
            prop_assert!(false, "{error}");
        }
    }
}

#[test]
fn two_calls_joined_by_state_are_one_call() {
    let networks = networks().into_iter().map(|network| (network.name.to_owned(), (network.build)(3, 8)));
    let mut wrong = Vec::new();
    for (name, graph) in networks.chain(cell_networks(5, 8)).filter(|(_, graph)| !graph.looks_ahead()) {
        for resets in [0.0, 0.1] {
            let case = Case { training: true, ..Case::new(&name, graph.clone(), 2, &[32, 32], resets) };
            let config = |frames| ExecutionConfig { window: frames, step: frames, ..case.config() };
            let (whole, half) = (compiled(&case, config(64)), compiled(&case, config(40)));
            wrong.extend(check_joined(&case, &*whole, &*half, 1e-5).err());
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// A network of numbers and symbols, of state of several depths, and two weights of a matrix's shape.
fn small() -> Case {
    let text = "network small {
        input x: vector(3) input s: symbol(5)
        h = tanh(dense(x, s, h[t-1], g[t-2]; 6))
        g = h * sigmoid(dense(h, s[t-1]; 6))
        start g = learned
        y = dense(g; 2)
        output y
    }";
    let graph =
        rnnc_lang::compile("text", text, None).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    Case::new("small", graph, 4, &[6, 5], 0.2)
}

/// Elements of an array in another order of dimensions, between others that are none: what lies there, and the strides.
struct Elsewhere<T> {
    values: Vec<T>,
    shape: Vec<usize>,
    strides: Vec<isize>,
}

impl<T: Copy> Elsewhere<T> {
    /// With the last dimension outermost, each stride twice as long as it must be.
    fn new(values: &[T], shape: &[usize], other: T) -> Elsewhere<T> {
        let mut strides = Vec::new();
        let mut stride = 2;
        for &size in shape {
            strides.push(stride as isize);
            stride *= size;
        }
        let mut all = Elsewhere { values: vec![other; stride], shape: shape.to_vec(), strides };
        for (place, &value) in values.iter().enumerate() {
            let at = all.place(place);
            all.values[at] = value;
        }
        all
    }

    /// Where the element of a place in row-major order is.
    fn place(&self, mut place: usize) -> usize {
        let mut at = 0;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            at += place % size * stride as usize;
            place /= size;
        }
        at
    }

    fn read(&self) -> Vec<T> {
        (0..self.shape.iter().product()).map(|place| self.values[self.place(place)]).collect()
    }

    /// Whether nothing was written between the elements.
    fn is_untouched_between(&self, other: impl Fn(&T) -> bool) -> bool {
        self.values.iter().skip(1).step_by(2).all(other)
    }
}

impl<T: ArrayElement> Elsewhere<T> {
    fn array(&self) -> Array<'_> {
        Array::strided(&self.values, &self.shape, &self.strides).unwrap()
    }

    fn array_mut(&mut self) -> ArrayMut<'_> {
        ArrayMut::strided(&mut self.values, &self.shape, &self.strides).unwrap()
    }
}

#[test]
fn arrays_may_lie_as_they_like() {
    let case = small();
    let functional = compiled(&case, functional_config(&case));
    let (ports, streams) = (functional.ports(), case.streams);
    let trial = case.trial().unwrap();
    let window = &trial.windows[0];
    let frames = window.frames;
    let around = draw_around(&*functional, &case, &trial, &mut Random(5));
    let expected = both(&*functional, window, &around).unwrap();

    let single = |values: &[f64]| -> Vec<f32> { values.iter().map(|x| *x as f32).collect() };
    let symbols = |values: &[f64]| -> Vec<i32> { values.iter().map(|x| *x as i32).collect() };
    let away = |values: &[f32], shape: &[usize]| Elsewhere::new(values, shape, f32::NAN);
    let nowhere = |shape: &[usize]| away(&vec![f32::NAN; shape.iter().product()], shape);
    let weights: Vec<_> = (ports.weights.iter().zip(&around.weights))
        .map(|(port, values)| away(&single(values), &port.shape))
        .collect();
    let x_shape = |port: &Port| match port.kind {
        PortKind::Symbols => vec![frames, streams],
        _ => vec![frames, streams, port.size],
    };
    let [drawn_x, drawn_s] = &window.inputs[..] else { panic!("two inputs") };
    let (DrawnArray::Numbers(x), DrawnArray::Symbols(s)) = (drawn_x, drawn_s) else { panic!("{drawn_x:?}") };
    let x = away(x, &x_shape(&ports.inputs[0]));
    let s: Vec<i64> = s.iter().map(|&s| if s == u32::MAX { -1 } else { i64::from(s) }).collect();
    let s = Elsewhere::new(&s, &x_shape(&ports.inputs[1]), 1 << 40);
    let resets: Vec<u8> = window.resets.iter().flatten().map(|&reset| 3 * u8::from(reset)).collect();
    let resets = Elsewhere::new(&resets, &[frames, streams], 1);
    let states = around.state.as_ref().unwrap().iter().zip(&ports.state);
    let numbers: Vec<_> =
        states.clone().map(|(values, port)| away(&single(values), &state_shape(port, streams))).collect();
    let codes: Vec<_> = states
        .map(|(values, port)| Elsewhere::new(&symbols(values), &state_shape(port, streams), 1 << 20))
        .collect();
    let is_numbers = |port: &StatePort| port.kind == PortKind::Numbers;
    let state_in: Vec<Array<'_>> = (ports.state.iter().zip(&numbers).zip(&codes))
        .map(|((port, numbers), codes)| if is_numbers(port) { numbers.array() } else { codes.array() })
        .collect();
    let mut outputs: Vec<_> = ports.outputs.iter().map(|port| nowhere(&x_shape(port))).collect();
    let mut state: Vec<_> = ports.state.iter().map(|port| nowhere(&state_shape(port, streams))).collect();
    let mut state_codes: Vec<_> = (ports.state.iter())
        .map(|port| Elsewhere::new(&vec![7i32; state_len(port, streams)], &state_shape(port, streams), 9))
        .collect();
    let mut tape = TapeMemory::new(functional.tape_len() + 5);
    let weights: Vec<Array<'_>> = weights.iter().map(Elsewhere::array).collect();
    let mut outputs_to: Vec<_> = outputs.iter_mut().map(|y| Some(y.array_mut())).collect();
    let mut state_to: Vec<_> = (ports.state.iter().zip(&mut state).zip(&mut state_codes))
        .map(|((port, numbers), codes)| {
            Some(if is_numbers(port) { numbers.array_mut() } else { codes.array_mut() })
        })
        .collect();
    let tape_len = tape.as_slice().len();
    functional
        .forward(Forward {
            resets: Some(resets.array()),
            state_in: Some(&state_in),
            seed: around.seed,
            first_frame: around.first_frame,
            outputs: &mut outputs_to,
            state_out: &mut state_to,
            tape: Some(ArrayMut::from_slice(tape.as_mut_slice(), &[tape_len]).unwrap()),
            ..Forward::new(frames, &weights, &[x.array(), s.array()])
        })
        .unwrap();
    let d_outputs: Vec<_> = (ports.outputs.iter().zip(&window.output_gradients))
        .map(|(port, errors)| errors.as_ref().map(|errors| away(errors, &x_shape(port))))
        .collect();
    let d_outputs: Vec<Option<Array<'_>>> =
        d_outputs.iter().map(|errors| errors.as_ref().map(Elsewhere::array)).collect();
    let left: Vec<_> = (ports.state.iter().zip(&around.left))
        .map(|(port, left)| {
            let left = left.as_ref().filter(|_| is_numbers(port))?;
            Some(away(&single(left), &state_shape(port, streams)))
        })
        .collect();
    let left: Vec<Option<Array<'_>>> = left.iter().map(|left| left.as_ref().map(Elsewhere::array)).collect();
    let mut d_weights: Vec<_> = ports.weights.iter().map(|port| nowhere(&port.shape)).collect();
    let mut d_x = nowhere(&x_shape(&ports.inputs[0]));
    let mut d_state: Vec<_> = ports.state.iter().map(|port| nowhere(&state_shape(port, streams))).collect();
    let mut d_weights_to: Vec<_> = d_weights.iter_mut().map(|d| Some(d.array_mut())).collect();
    let mut d_state_to: Vec<_> = (ports.state.iter().zip(&mut d_state))
        .map(|(port, d)| is_numbers(port).then(|| d.array_mut()))
        .collect();
    functional
        .backward(Backward {
            resets: Some(resets.array()),
            d_outputs: &d_outputs,
            d_state_out: &left,
            d_weights: &mut d_weights_to,
            d_inputs: &mut [Some(d_x.array_mut()), None],
            d_state_in: &mut d_state_to,
            ..Backward::new(frames, &weights, tape.array())
        })
        .unwrap();
    let double = |values: &Elsewhere<f32>| -> Vec<f64> {
        assert!(values.is_untouched_between(|x| x.is_nan()), "something between the elements was written");
        values.read().into_iter().map(f64::from).collect()
    };
    let all = |values: &[Elsewhere<f32>]| -> Vec<Vec<f64>> { values.iter().map(double).collect() };
    let mut found = Results {
        outputs: all(&outputs),
        state: all(&state),
        d_weights: all(&d_weights),
        d_inputs: vec![double(&d_x), Vec::new()],
        d_state: all(&d_state),
    };
    for (place, port) in ports.state.iter().enumerate().filter(|(_, port)| !is_numbers(port)) {
        assert!(state_codes[place].is_untouched_between(|x| *x == 9));
        found.state[place] = state_codes[place].read().into_iter().map(f64::from).collect();
        assert_eq!(found.state[place].len(), state_len(port, streams));
        found.d_state[place].clear();
    }
    assert_eq!(found, expected);
}

#[test]
fn forward_calls_wait_for_their_backward_calls_which_may_come_in_any_order_and_again() {
    let case = Case { training: true, ..small() };
    for threads in [1, 2] {
        let functional = compiled(&case, ExecutionConfig { threads, ..functional_config(&case) });
        let trial = case.trial().unwrap();
        let mut random = Random(9);
        let calls: Vec<(&Window, Around)> = (0..20)
            .map(|call| {
                let mut around = draw_around(&*functional, &case, &trial, &mut random);
                // Each with weights and a seed of its own.
                around.weights.iter_mut().flatten().for_each(|x| *x = 0.5 * *x + 0.01 * f64::from(call));
                (&trial.windows[call as usize % 2], Around { seed: random.bits(), ..around })
            })
            .collect();
        let expected: Vec<Results> =
            calls.iter().map(|(window, around)| both(&*functional, window, around).unwrap()).collect();
        let mut tapes: Vec<TapeMemory> =
            calls.iter().map(|_| TapeMemory::new(functional.tape_len())).collect();
        for ((window, around), tape) in calls.iter().zip(&mut tapes) {
            forward(&*functional, window, around, tape).unwrap();
        }
        for _ in 0..2 {
            for place in (0..calls.len()).rev() {
                let (window, around) = &calls[place];
                let before = tapes[place].clone();
                let [d_weights, d_inputs, d_state] =
                    backward(&*functional, window, around, &tapes[place]).unwrap();
                let Results { d_weights: w, d_inputs: x, d_state: s, .. } = &expected[place];
                assert!((&d_weights, &d_inputs, &d_state) == (w, x, s), "call {place}, {threads} threads");
                let bits =
                    |tape: &TapeMemory| -> Vec<u32> { tape.as_slice().iter().map(|x| x.to_bits()).collect() };
                assert!(bits(&before) == bits(&tapes[place]), "a backward call leaves the tape as it was");
            }
        }
    }
}

#[test]
fn threads_call_one_program_at_a_time_to_the_same_bits() {
    let case = small();
    let functional = compiled(&case, ExecutionConfig { threads: 2, ..functional_config(&case) });
    let trial = case.trial().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (functional, trial, case) = (&functional, &trial, &case);
            scope.spawn(move || {
                let window = &trial.windows[thread % 2];
                let around = draw_around(&**functional, case, trial, &mut Random(thread as u64));
                let expected = both(&**functional, window, &around).unwrap();
                for _ in 0..50 {
                    assert!(both(&**functional, window, &around).unwrap() == expected);
                }
            });
        }
    });
}

#[test]
fn weights_of_a_version_are_read_once_and_those_of_none_in_every_call() {
    let case = small();
    let functional = compiled(&case, ExecutionConfig { threads: 1, ..functional_config(&case) });
    let ports = functional.ports();
    let (x, s) = (vec![0.5f32; 2 * 4 * 3], vec![1i32; 2 * 4]);
    let inputs = [Array::from_slice(&x, &[2, 4, 3]).unwrap(), Array::from_slice(&s, &[2, 4]).unwrap()];
    let run = |scale: f32, version: Option<u64>| {
        let weights: Vec<Vec<f32>> =
            ports.weights.iter().map(|port| vec![scale; port.shape.iter().product()]).collect();
        let weights: Vec<Array<'_>> = (ports.weights.iter().zip(&weights))
            .map(|(port, values)| Array::from_slice(values, &port.shape).unwrap())
            .collect();
        let mut y = vec![0.0f32; 2 * 4 * 2];
        let mut outputs = [Some(ArrayMut::from_slice(&mut y, &[2, 4, 2]).unwrap())];
        let call =
            Forward { weights_version: version, outputs: &mut outputs, ..Forward::new(2, &weights, &inputs) };
        functional.forward(call).unwrap();
        y[0]
    };
    let (one, two) = (run(0.1, None), run(0.2, None));
    assert_ne!(one, two);
    assert_eq!([run(0.1, None), run(0.2, None)], [one, two]);
    assert_eq!(run(0.1, Some(7)), one);
    assert_eq!(run(0.2, Some(7)), one, "not read again");
    assert_eq!(run(0.2, Some(8)), two);
    assert_eq!(run(0.1, None), one);
    assert_eq!(run(0.2, Some(8)), two, "after a call of other weights, they are read");
}

/// What is said of a call that is changed by `change`.
fn said_of_forward(functional: &Compiled, change: impl Fn(&mut Forward<'_, 'static>)) -> String {
    static ZEROS: [f32; 4096] = [0.0; 4096];
    static SYMBOLS: [i64; 64] = [0; 64];
    let ports = functional.ports();
    let len = |shape: &[usize]| shape.iter().product::<usize>();
    let zeros = |shape: &[usize]| Array::from_slice(&ZEROS[..len(shape)], shape).unwrap();
    let weights: Vec<_> = ports.weights.iter().map(|port| zeros(&port.shape)).collect();
    let inputs = [zeros(&[3, 4, 3]), Array::from_slice(&SYMBOLS[..12], &[3, 4]).unwrap()];
    let mut call = Forward::new(3, &weights, &inputs);
    change(&mut call);
    functional.forward(call).unwrap_err().to_string()
}

#[test]
fn what_does_not_fit_a_port_is_refused_by_its_name() {
    let case = small();
    let functional = compiled(&case, ExecutionConfig { threads: 1, ..functional_config(&case) });
    let f32s = |shape: &[usize]| -> Array<'static> {
        let values = vec![0.0f32; shape.iter().product()].leak();
        Array::from_slice(values, shape).unwrap()
    };
    let f32s_mut = |shape: &[usize]| -> ArrayMut<'static> {
        let values = vec![0.0f32; shape.iter().product()].leak();
        ArrayMut::from_slice(values, shape).unwrap()
    };
    let i64s = |values: &[i64]| -> Array<'static> {
        Array::from_slice(values.to_vec().leak(), &[values.len() / 4, 4]).unwrap()
    };
    let said = |change: &dyn Fn(&mut Forward<'_, 'static>)| said_of_forward(&functional, change);
    assert_eq!(said(&|call| call.frames = 0), "the number of frames must be 1 to 6, not 0");
    assert_eq!(said(&|call| call.frames = 7), "the number of frames must be 1 to 6, not 7");
    let inputs = |list: Vec<Array<'static>>| said(&|call| call.inputs = list.clone().leak());
    let symbols = || i64s(&[0; 12]);
    assert_eq!(
        inputs(vec![f32s(&[3, 4, 2]), symbols()]),
        "input `x` has shape [3, 4, 2]; it must have [3, 4, 3]: frames, streams, units"
    );
    assert_eq!(
        inputs(vec![f32s(&[3, 4]), symbols()]),
        "input `x` has shape [3, 4]; it must have [3, 4, 3]: frames, streams, units"
    );
    assert_eq!(
        inputs(vec![f32s(&[3, 4, 3]), f32s(&[3, 4])]),
        "input `s` is of f32; it must be of i32, i64 or u32, for symbols"
    );
    assert_eq!(inputs(vec![f32s(&[3, 4, 3])]), "inputs: 2 arrays are needed, for `x`, `s`, and 1 given");
    for wrong in [5, -2, i64::MIN, 1 << 33] {
        let mut symbols = [0; 12];
        symbols[6] = wrong;
        assert_eq!(
            inputs(vec![f32s(&[3, 4, 3]), i64s(&symbols)]),
            format!("`s`: symbol {wrong} in frame 1 of stream 2, but there are only 5 (from 0)")
        );
    }
    let huge: Array<'static> = Array::from_slice(vec![1e300; 36].leak(), &[3, 4, 3]).unwrap();
    assert!(
        inputs(vec![huge, symbols()]).starts_with("`x`: number 0 (from 0) is 1e300, and single precision")
    );
    let resets = |array: Array<'static>| said(&|call| call.resets = Some(array));
    assert_eq!(resets(i64s(&[0; 12])), "resets are of i64; they must be of bool or u8");
    let short: Array<'static> = Array::from_slice(vec![false; 8].leak(), &[2, 4]).unwrap();
    assert_eq!(resets(short), "resets have shape [2, 4]; they must have [3, 4]: frames, streams");
    let names: Vec<String> = functional.ports().state.iter().map(|port| port.name.clone()).collect();
    assert_eq!(names, ["s", "h", "g"]);
    let state = |list: Vec<Array<'static>>| said(&|call| call.state_in = Some(list.clone().leak()));
    let state_symbols: Array<'static> = Array::from_slice(vec![0i32; 4].leak(), &[4]).unwrap();
    assert_eq!(
        state(vec![state_symbols, f32s(&[4, 6]), f32s(&[4, 6])]),
        "state_in `g` has shape [4, 6]; it must have [2, 4, 6]: frames, oldest first, streams, units"
    );
    assert_eq!(
        state(vec![state_symbols, f32s(&[1, 4, 6]), f32s(&[2, 4, 6])]),
        "state_in `h` has shape [1, 4, 6]; it must have [4, 6]: streams, units"
    );
    let past: Array<'static> = Array::from_slice(vec![0i32, 1, 2, 9].leak(), &[4]).unwrap();
    assert_eq!(
        state(vec![past, f32s(&[4, 6]), f32s(&[2, 4, 6])]),
        "`s`: symbol 9 in frame 0 of stream 3, but there are only 5 (from 0)"
    );
    assert_eq!(
        said(&|call| call.outputs = vec![Some(f32s_mut(&[3, 4, 3]))].leak()),
        "output `y` has shape [3, 4, 3]; it must have [3, 4, 2]: frames, streams, units"
    );
    assert_eq!(
        said(&|call| call.state_out = vec![None, Some(f32s_mut(&[6])), None].leak()),
        "state_out `h` has shape [6]; it must have [4, 6]: streams, units"
    );
    let weights = &functional.ports().weights;
    let list: Vec<Array<'static>> =
        weights.iter().map(|port| f32s(&[port.shape.clone(), vec![1]].concat())).collect();
    let said_of_weights = said(&|call| call.weights = list.clone().leak());
    assert_eq!(said_of_weights, "weight `h.W.x` has shape [6, 3, 1]; it must have [6, 3]");
    let tape = |array: &dyn Fn() -> ArrayMut<'static>| said(&|call| call.tape = Some(array()));
    let len = functional.tape_len();
    assert_eq!(
        tape(&|| f32s_mut(&[len - 1])),
        format!("the tape has {} numbers; it must have {len} or more", len - 1)
    );
    let misaligned = || -> ArrayMut<'static> {
        let values = vec![0.0f32; len + 32].leak();
        let first = values.as_ptr().addr().wrapping_neg() % 64 / 4 + 1;
        ArrayMut::from_slice(&mut values[first..][..len], &[len]).unwrap()
    };
    let said_of_tape = tape(&misaligned);
    assert!(said_of_tape.ends_with("it must lie at a multiple of 64 bytes"), "{said_of_tape}");
    let apart =
        || -> ArrayMut<'static> { ArrayMut::strided(vec![0.0f32; 2 * len].leak(), &[len], &[2]).unwrap() };
    assert!(tape(&apart).ends_with("it must be contiguous"));
}

#[test]
fn a_tape_of_another_program_or_call_is_refused() {
    let case = small();
    let config = ExecutionConfig { threads: 1, ..functional_config(&case) };
    let [functional, other] = [compiled(&case, config), compiled(&case, config)];
    let trial = case.trial().unwrap();
    let window = &trial.windows[0];
    let around = draw_around(&*functional, &case, &trial, &mut Random(1));
    let mut tape = TapeMemory::new(functional.tape_len());
    let said = |functional: &Compiled, window: &Window, tape: &TapeMemory| {
        backward(functional, window, &around, tape).unwrap_err().to_string()
    };
    let unknown = "the tape is not what a forward call of this program has written";
    assert_eq!(said(&functional, window, &tape), unknown);
    forward(&*functional, window, &around, &mut tape).unwrap();
    backward(&*functional, window, &around, &tape).unwrap();
    assert_eq!(said(&other, window, &tape), unknown);
    let mut cleared = tape.clone();
    cleared.as_mut_slice()[0] = 0.0;
    assert_eq!(said(&functional, window, &cleared), unknown);
    let shorter = &trial.windows[1];
    assert_eq!(said(&functional, shorter, &tape), "the tape is of 6 frames, and the backward call of 5");
    let mut moved = window.clone();
    moved.resets.as_mut().unwrap()[7] ^= true;
    assert_eq!(
        said(&functional, &moved, &tape),
        "resets are not those of the forward call whose tape this is"
    );
    backward(&*functional, window, &around, &tape).unwrap();
}

#[test]
fn a_tape_that_was_changed_gives_wrong_numbers_and_reads_no_other_memory() {
    // Networks of symbols keep them on the tape, where they are places in tables.
    let cases = cases().into_iter().filter(|case| {
        case.graph.inputs().iter().any(|&id| case.graph.layer_at(id).kind == LayerKind::Symbol)
    });
    let mut count = 0;
    for case in cases {
        let functional = compiled(&case, ExecutionConfig { threads: 1, ..functional_config(&case) });
        let trial = case.trial().unwrap();
        let window = &trial.windows[0];
        let around = draw_around(&*functional, &case, &trial, &mut Random(1));
        let mut tape = TapeMemory::new(functional.tape_len());
        forward(&*functional, window, &around, &mut tape).unwrap();
        // All but what says whose it is.
        let behind = TapeHeader::LEN;
        tape.as_mut_slice()[behind..].fill(f32::from_bits(0x7f7f_ffff));
        backward(&*functional, window, &around, &tape).unwrap();
        count += 1;
    }
    assert!(count > 1);
}

#[test]
fn gradients_that_the_network_was_not_compiled_with_are_refused() {
    let case = small();
    let graph = held(&case.graph);
    let config = functional_config(&case);
    let of = |options: PlanOptions| Compiled::new(Plan::new(&graph, options).unwrap(), config).unwrap();
    let weights_only = of(PlanOptions::training(4, 6));
    let trial = case.trial().unwrap();
    let window = &trial.windows[0];
    let around = draw_around(&*weights_only, &case, &trial, &mut Random(1));
    let mut tape = TapeMemory::new(weights_only.tape_len());
    forward(&*weights_only, window, &around, &mut tape).unwrap();
    let said = backward(&*weights_only, window, &around, &tape).unwrap_err().to_string();
    assert_eq!(said, "the network was compiled without gradients of its inputs");
    let none = of(PlanOptions::inference(4, 6));
    assert_eq!(none.tape_len(), 0);
    let [outputs, state] = forward(&*none, window, &around, &mut tape).unwrap();
    let expected = forward(&*weights_only, window, &around, &mut tape).unwrap();
    assert_eq!([outputs, state], expected);
    let said = backward(&*none, window, &around, &tape).unwrap_err().to_string();
    assert_eq!(said, "the network was compiled without gradients");
}

#[cfg(unix)]
#[test]
fn a_forked_process_calls_on() {
    let case = small();
    let functional = compiled(&case, ExecutionConfig { threads: 2, ..functional_config(&case) });
    let trial = case.trial().unwrap();
    let window = &trial.windows[0];
    let around = draw_around(&*functional, &case, &trial, &mut Random(1));
    let expected = both(&*functional, window, &around).unwrap();
    let child = forked(|| both(&*functional, window, &around).is_ok_and(|found| found == expected));
    assert_eq!(child, (true, 0));
}

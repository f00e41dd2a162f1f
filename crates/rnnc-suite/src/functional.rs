//! Calls of a network as a pure function: all that a call takes, drawn, and all that it gives, by name; and what must hold of them.

use crate::case::Case;
use rnnc_graph::Graph;
use rnnc_plan::{
    Array, ArrayMut, Backward, ExecutionConfig, ExecutorError, Forward, Functional, Plan, PlanError,
    PlanOptions, PortKind, StatePort,
};
use rnnc_verify::{Array as Drawn, Named, Random, Trial, Window, agree};

/// A graph with its state held: what it reads with a delay, if it says nothing else.
///
/// # Panics
/// Never: without names there is nothing to refuse.
pub fn held(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    if !graph.held().is_empty() {
        return graph;
    }
    graph.hold_state(None).expect("all state may be held");
    graph
}

/// Layers of all kinds that may be state: a concat, a copy of an input, a shift register, two names of one expression, an input read three
/// frames back, symbols, a mask, a parameter, a constant, learned starts, deep and not.
///
/// # Panics
/// If the text is none.
pub fn odd_state() -> Graph {
    let text = "network odd {
            input x: vector(3) input s: symbol(4)
            h = tanh(dense(x, cat[t-1]; 2))
            c = sigmoid(dense(h, s[t-2]; 2))
            cat = concat(h, c)
            last = x
            prev = last[t-1]
            prev2 = prev[t-1]
            a = h * 2
            b = h * 2
            start a = learned
            p = param(2)
            k = softplus(p)
            d = dropout(h; 0.5)
            e = tanh(dense(d[t-1], e[t-3], k[t-1], p[t-2]; 2))
            start e = learned
            f = 0.5 * e[t-2] + h[t-4]
            start f = 0.25
            y = dense(cat, prev2[t-1], a[t-1] * b[t-1], x[t-3], f[t-2], a[t-2]; 2)
            unread = tanh(y)
            output y output h
        }";
    rnnc_lang::compile("odd", text, None).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

/// The same with every layer held.
///
/// # Panics
/// Never: it has all layers that there are.
pub fn all_held() -> Graph {
    let mut graph = odd_state();
    let names: Vec<String> = graph.layers().iter().map(|layer| layer.name.clone()).rev().collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    graph.hold_state(Some(&names)).expect("they are all there");
    graph
}

/// Its plan, with all gradients.
///
/// # Errors
/// If the network is none.
pub fn functional_plan(graph: &Graph, streams: usize, window: usize) -> Result<Plan, PlanError> {
    let options = PlanOptions::training(streams, window);
    Plan::new(graph, options.with_input_gradients().with_state_gradients())
}

/// How a case's functions are set up: with a window as long as its longest call.
pub fn functional_config(case: &Case) -> ExecutionConfig {
    let longest = case.windows.iter().copied().max().unwrap_or(1);
    ExecutionConfig { window: longest, step: longest, ..case.config() }
}

/// Numbers that begin at a multiple of 64 bytes: a tape.
#[derive(Debug)]
pub struct TapeMemory {
    values: Vec<f32>,
    first: usize,
    len: usize,
}

impl Clone for TapeMemory {
    fn clone(&self) -> TapeMemory {
        let mut other = TapeMemory::new(self.len);
        other.as_mut_slice().copy_from_slice(self.as_slice());
        other
    }
}

impl TapeMemory {
    /// So many numbers, which are none.
    pub fn new(len: usize) -> TapeMemory {
        let values = vec![f32::NAN; len + 16];
        let first = values.as_ptr().addr().wrapping_neg() % 64 / 4;
        TapeMemory { values, first, len }
    }

    /// To read.
    pub fn as_slice(&self) -> &[f32] {
        &self.values[self.first..self.first + self.len]
    }

    /// To write.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.values[self.first..self.first + self.len]
    }

    /// As calls read it.
    ///
    /// # Panics
    /// Never.
    pub fn array(&self) -> Array<'_> {
        Array::from_slice(self.as_slice(), &[self.len]).expect("of that length")
    }
}

/// What a call is given beside its window.
#[derive(Clone, Debug)]
pub struct Around {
    /// One for each weight.
    pub weights: Vec<Vec<f64>>,
    /// One for each vector of the state, symbols as numbers, or none.
    pub state: Option<Vec<Vec<f64>>>,
    /// Gradients of the state that the call leaves; of symbols none.
    pub left: Vec<Option<Vec<f64>>>,
    /// The seed of dropout.
    pub seed: u64,
    /// The number of the call's first frame.
    pub first_frame: u64,
}

/// What a forward call gave, and the gradients of its backward call, in double precision.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// `[T, B, N]`
    pub outputs: Vec<Vec<f64>>,
    /// `[depth, B, N]`, symbols as numbers.
    pub state: Vec<Vec<f64>>,
    /// In their canonical shapes.
    pub d_weights: Vec<Vec<f64>>,
    /// `[T, B, N]`; empty for symbols.
    pub d_inputs: Vec<Vec<f64>>,
    /// `[depth, B, N]`; empty for symbols.
    pub d_state: Vec<Vec<f64>>,
}

/// The shape of a vector of the state.
pub fn state_shape(port: &StatePort, streams: usize) -> Vec<usize> {
    let units = (port.kind == PortKind::Numbers).then_some(port.size);
    (port.depth != 1).then_some(port.depth).into_iter().chain([streams]).chain(units).collect()
}

/// How many numbers a vector of the state has.
pub fn state_len(port: &StatePort, streams: usize) -> usize {
    state_shape(port, streams).iter().product()
}

/// State and its gradients, drawn.
pub fn draw_state(functional: &dyn Functional, random: &mut Random) -> Vec<Vec<f64>> {
    let streams = functional.config().streams;
    let draw = |port: &StatePort| -> Vec<f64> {
        let len = state_len(port, streams);
        match port.kind {
            PortKind::Symbols => {
                (0..len).map(|_| (random.bits() % (port.size as u64 + 1)) as f64 - 1.0).collect()
            }
            _ => random.numbers(len, 0.9).into_iter().map(f64::from).collect(),
        }
    };
    functional.ports().state.iter().map(draw).collect()
}

/// A forward call: its outputs, and the state that it leaves.
///
/// # Errors
/// Those of the call.
///
/// # Panics
/// If what is given does not fit the ports.
pub fn forward(
    functional: &dyn Functional,
    window: &Window,
    around: &Around,
    tape: &mut TapeMemory,
) -> Result<[Vec<Vec<f64>>; 2], ExecutorError> {
    let (ports, streams, frames) = (functional.ports(), functional.config().streams, window.frames);
    let weights = weights(functional, around);
    let inputs: Vec<Array<'_>> = (ports.inputs.iter().zip(&window.inputs))
        .map(|(port, drawn)| match drawn {
            Drawn::Numbers(x) => Array::from_slice(x, &[frames, streams, port.size]).unwrap(),
            Drawn::Symbols(x) => Array::from_slice(x, &[frames, streams]).unwrap(),
        })
        .collect();
    let symbols: Vec<Vec<i64>> =
        (around.state.iter().flatten()).map(|values| values.iter().map(|x| *x as i64).collect()).collect();
    let state: Option<Vec<Array<'_>>> = around.state.as_ref().map(|state| {
        let mut arrays = Vec::new();
        for ((port, numbers), symbols) in ports.state.iter().zip(state).zip(&symbols) {
            let shape = state_shape(port, streams);
            arrays.push(match port.kind {
                PortKind::Symbols => Array::from_slice(symbols, &shape).unwrap(),
                _ => Array::from_slice(numbers, &shape).unwrap(),
            });
        }
        arrays
    });
    let sizes = ports.outputs.iter().map(|port| frames * streams * port.size);
    let mut outputs: Vec<Vec<f64>> = sizes.map(|len| vec![f64::NAN; len]).collect();
    let lengths = || ports.state.iter().map(|port| state_len(port, streams));
    let mut numbers: Vec<Vec<f64>> = lengths().map(|len| vec![f64::NAN; len]).collect();
    let mut symbols: Vec<Vec<i64>> = lengths().map(|len| vec![-7; len]).collect();
    {
        let mut outputs: Vec<Option<ArrayMut<'_>>> = (ports.outputs.iter().zip(&mut outputs))
            .map(|(port, y)| Some(ArrayMut::from_slice(y, &[frames, streams, port.size]).unwrap()))
            .collect();
        let mut state_out: Vec<Option<ArrayMut<'_>>> =
            (ports.state.iter().zip(&mut numbers).zip(&mut symbols))
                .map(|((port, numbers), symbols)| {
                    let shape = state_shape(port, streams);
                    Some(match port.kind {
                        PortKind::Symbols => ArrayMut::from_slice(symbols, &shape).unwrap(),
                        _ => ArrayMut::from_slice(numbers, &shape).unwrap(),
                    })
                })
                .collect();
        let len = functional.tape_len();
        functional.forward(Forward {
            resets: resets(functional, window),
            state_in: state.as_deref(),
            seed: around.seed,
            first_frame: around.first_frame,
            outputs: &mut outputs,
            state_out: &mut state_out,
            tape: (len > 0).then(|| ArrayMut::from_slice(tape.as_mut_slice(), &[len]).unwrap()),
            ..Forward::new(frames, &weights, &inputs)
        })?;
    }
    for ((port, numbers), symbols) in ports.state.iter().zip(&mut numbers).zip(symbols) {
        if port.kind == PortKind::Symbols {
            *numbers = symbols.into_iter().map(|x| x as f64).collect();
        }
    }
    Ok([outputs, numbers])
}

fn weights<'a>(functional: &dyn Functional, around: &'a Around) -> Vec<Array<'a>> {
    let ports = functional.ports().weights.iter().zip(&around.weights);
    ports.map(|(port, values)| Array::from_slice(values, &port.shape).unwrap()).collect()
}

fn resets<'a>(functional: &dyn Functional, window: &'a Window) -> Option<Array<'a>> {
    let shape = [window.frames, functional.config().streams];
    window.resets.as_ref().map(|resets| Array::from_slice(resets, &shape).unwrap())
}

/// The backward call of a forward call with the same window and surroundings: gradients of weights, inputs and state.
///
/// # Errors
/// Those of the call.
///
/// # Panics
/// If what is given does not fit the ports.
pub fn backward(
    functional: &dyn Functional,
    window: &Window,
    around: &Around,
    tape: &TapeMemory,
) -> Result<[Vec<Vec<f64>>; 3], ExecutorError> {
    let (ports, streams, frames) = (functional.ports(), functional.config().streams, window.frames);
    let weights = weights(functional, around);
    let d_outputs: Vec<Option<Array<'_>>> = (ports.outputs.iter().zip(&window.output_gradients))
        .map(|(port, errors)| {
            let shape = [frames, streams, port.size];
            errors.as_ref().map(|errors| Array::from_slice(errors, &shape).unwrap())
        })
        .collect();
    let d_state_out: Vec<Option<Array<'_>>> = (ports.state.iter().zip(&around.left))
        .map(|(port, left)| {
            let left = left.as_ref().filter(|_| port.kind == PortKind::Numbers)?;
            Some(Array::from_slice(left, &state_shape(port, streams)).unwrap())
        })
        .collect();
    let numbers = |shapes: Vec<Option<Vec<usize>>>| -> Vec<Vec<f64>> {
        shapes.iter().map(|s| s.as_ref().map_or(Vec::new(), |s| vec![f64::NAN; s.iter().product()])).collect()
    };
    fn arrays<'a>(values: &'a mut [Vec<f64>], shapes: &[Option<Vec<usize>>]) -> Vec<Option<ArrayMut<'a>>> {
        let each = values.iter_mut().zip(shapes);
        each.map(|(values, shape)| Some(ArrayMut::from_slice(values, shape.as_ref()?).unwrap())).collect()
    }
    let w_shapes: Vec<Option<Vec<usize>>> =
        ports.weights.iter().map(|port| Some(port.shape.clone())).collect();
    let is_numbers = |kind: PortKind| kind == PortKind::Numbers;
    let x_shapes: Vec<Option<Vec<usize>>> = (ports.inputs.iter())
        .map(|port| is_numbers(port.kind).then(|| vec![frames, streams, port.size]))
        .collect();
    let s_shapes: Vec<Option<Vec<usize>>> =
        (ports.state.iter()).map(|port| is_numbers(port.kind).then(|| state_shape(port, streams))).collect();
    let mut d_weights = numbers(w_shapes.clone());
    let mut d_inputs = numbers(x_shapes.clone());
    let mut d_state = numbers(s_shapes.clone());
    functional.backward(Backward {
        resets: resets(functional, window),
        d_outputs: &d_outputs,
        d_state_out: &d_state_out,
        d_weights: &mut arrays(&mut d_weights, &w_shapes),
        d_inputs: &mut arrays(&mut d_inputs, &x_shapes),
        d_state_in: &mut arrays(&mut d_state, &s_shapes),
        ..Backward::new(frames, &weights, tape.array())
    })?;
    Ok([d_weights, d_inputs, d_state])
}

/// A forward call and its backward call.
///
/// # Errors
/// Those of the calls.
pub fn both(functional: &dyn Functional, window: &Window, around: &Around) -> Result<Results, ExecutorError> {
    let mut tape = TapeMemory::new(functional.tape_len());
    let [outputs, state] = forward(functional, window, around, &mut tape)?;
    let [d_weights, d_inputs, d_state] = backward(functional, window, around, &tape)?;
    Ok(Results { outputs, state, d_weights, d_inputs, d_state })
}

impl Results {
    /// All of it, by name.
    pub fn named(&self, functional: &dyn Functional) -> Vec<Named> {
        let ports = functional.ports();
        let list = |what: &str, names: Vec<&String>, values: &[Vec<f64>]| -> Vec<Named> {
            let each = names.into_iter().zip(values);
            each.map(|(name, values)| Named::new(format!("{what} `{name}`"), values.clone())).collect()
        };
        let state = || ports.state.iter().map(|port| &port.name).collect();
        let mut all = list("output", ports.outputs.iter().map(|port| &port.name).collect(), &self.outputs);
        all.extend(list("state", state(), &self.state));
        all.extend(list("d weight", ports.weights.iter().map(|port| &port.name).collect(), &self.d_weights));
        all.extend(list("d input", ports.inputs.iter().map(|port| &port.name).collect(), &self.d_inputs));
        all.extend(list("d state", state(), &self.d_state));
        all
    }
}

/// What is around a call of a case: its weights, and state and gradients of state, drawn.
pub fn draw_around(
    functional: &dyn Functional,
    case: &Case,
    trial: &Trial<'_>,
    random: &mut Random,
) -> Around {
    let state = draw_state(functional, random);
    let left = draw_state(functional, random);
    // On every third vector nothing depends.
    let left = left.into_iter().enumerate().map(|(place, left)| (place % 3 != 2).then_some(left));
    Around {
        weights: trial.weights.iter().map(|w| w.iter().copied().map(f64::from).collect()).collect(),
        state: Some(state),
        left: left.collect(),
        seed: case.seed,
        first_frame: random.bits() % 100,
    }
}

/// Compares the calls of a case's windows, each with state and from the beginning, with those of another [`Functional`] of the
/// same network: outputs, state and all gradients.
///
/// Numbers may differ by `tolerance` times the largest magnitude in their array plus a hundredth.
///
/// # Errors
/// Says what differs: the array, the place, both values.
pub fn check_functional(
    case: &Case,
    found: &dyn Functional,
    expected: &dyn Functional,
    tolerance: f64,
) -> Result<(), String> {
    let trial = case.trial()?;
    let mut random = Random(case.seed ^ 11);
    for (place, window) in trial.windows.iter().enumerate() {
        let given = draw_around(expected, case, &trial, &mut random);
        for around in [Around { state: None, ..given.clone() }, given] {
            let fail = |error: String| {
                let begins = if around.state.is_some() { "with state" } else { "from the beginning" };
                format!("{}: window {place}, {begins}: {error}", case.name)
            };
            let results = |functional: &dyn Functional| {
                let results = both(functional, window, &around).map_err(|error| fail(error.to_string()))?;
                Ok::<_, String>(results.named(functional))
            };
            agree(&results(expected)?, &results(found)?, tolerance).map_err(fail)?;
        }
    }
    Ok(())
}

/// Cuts a window in two calls, joined by state, and compares them with one call: outputs, state, and all gradients.
///
/// # Errors
/// Says what differs.
pub fn check_joined(
    case: &Case,
    whole: &dyn Functional,
    half: &dyn Functional,
    tolerance: f64,
) -> Result<(), String> {
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", case.name);
    let trial = case.trial()?;
    let joined = trial.joined();
    let cut = trial.halved();
    let [first, second] = &cut.windows[..] else { return Err(fail(&"it cannot be cut")) };
    let mut random = Random(case.seed ^ 13);
    let drawn = draw_around(whole, case, &trial, &mut random);
    for around in [Around { state: None, ..drawn.clone() }, drawn] {
        let expected = both(whole, &joined.windows[0], &around).map_err(|error| fail(&error))?;
        let mut tapes = [TapeMemory::new(half.tape_len()), TapeMemory::new(half.tape_len())];
        let [first_tape, second_tape] = &mut tapes;
        let mut run = || {
            let [mut outputs, between] = forward(half, first, &around, first_tape)?;
            let first_frame = around.first_frame + first.frames as u64;
            let behind = Around { state: Some(between), first_frame, ..around.clone() };
            let [more, state] = forward(half, second, &behind, second_tape)?;
            outputs.iter_mut().zip(more).for_each(|(all, more)| all.extend(more));
            let [d_weights_behind, d_inputs_behind, d_between] =
                backward(half, second, &behind, second_tape)?;
            let ahead = Around { left: d_between.into_iter().map(Some).collect(), ..around.clone() };
            let [mut d_weights, mut d_inputs, d_state] = backward(half, first, &ahead, first_tape)?;
            for (sums, more) in d_weights.iter_mut().zip(d_weights_behind) {
                sums.iter_mut().zip(more).for_each(|(sum, x)| *sum += x);
            }
            d_inputs.iter_mut().zip(d_inputs_behind).for_each(|(all, more)| all.extend(more));
            Ok::<_, ExecutorError>(Results { outputs, state, d_weights, d_inputs, d_state })
        };
        let found = run().map_err(|error| fail(&error))?;
        agree(&expected.named(whole), &found.named(half), tolerance).map_err(|error| {
            let begins = if around.state.is_some() { "with state" } else { "from the beginning" };
            fail(&format!("{begins}: {error}"))
        })?;
    }
    Ok(())
}

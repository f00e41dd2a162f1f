//! Runs a network of the language through the reference executor, and compares it with a transcription.

use crate::maths::Vector;
use rnnc_graph::{Graph, WeightId};
use rnnc_plan::{ExecutionConfig, Executor, ParameterArray, Plan, PlanOptions, Values, ValuesMut};
use rnnc_reference::ReferenceExecutor;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Enough for a clock that ticks every eighth frame to tick again.
const FRAMES: usize = 12;
const STREAMS: usize = 2;
/// (frame, stream): where a new sequence begins.
const RESETS: [(usize, usize); 2] = [(4, 0), (10, 1)];

/// An array with its shape.
#[derive(Clone)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

/// The weights of a network by name, as a transcription reads them.
pub struct Weights {
    arrays: BTreeMap<String, Array>,
    read: RefCell<BTreeSet<String>>,
}

impl Weights {
    fn array(&self, name: &str) -> &Array {
        self.read.borrow_mut().insert(name.to_owned());
        self.arrays.get(name).unwrap_or_else(|| {
            let names: Vec<_> = self.arrays.keys().collect();
            panic!("no weight is named {name}; there are {names:?}")
        })
    }

    /// A vector of weights.
    pub fn vector(&self, name: &str) -> Vector {
        let array = self.array(name);
        assert_eq!(array.shape.len(), 1, "{name} has the shape {:?}", array.shape);
        array.values.clone()
    }

    /// How many diagonal blocks a weight matrix has.
    pub fn heads(&self, name: &str) -> usize {
        match *self.array(name).shape.as_slice() {
            [heads, _, _] => heads,
            _ => 1,
        }
    }

    /// The product of a weight matrix, perhaps a block-diagonal one, and a vector.
    pub fn product(&self, name: &str, x: &[f64]) -> Vector {
        let array = self.array(name);
        let (heads, rows, columns) = match *array.shape.as_slice() {
            [rows, columns] => (1, rows, columns),
            [heads, rows, columns] => (heads, rows, columns),
            _ => panic!("{name} has the shape {:?}", array.shape),
        };
        assert_eq!(heads * columns, x.len(), "{name} has the shape {:?}", array.shape);
        let row = |row: usize| {
            let part = &x[row / rows * columns..][..columns];
            array.values[row * columns..][..columns].iter().zip(part).map(|(w, x)| w * x).sum()
        };
        (0..heads * rows).map(row).collect()
    }
}

/// What a network computed from one window of `[T, B, N]` input.
pub struct Run {
    pub output: Vec<f64>,
    pub weight_gradients: BTreeMap<String, Array>,
    pub input_gradient: Vec<f64>,
}

/// A window: T x B frames of input, and where new sequences begin.
pub struct Window<'a> {
    pub frames: usize,
    pub streams: usize,
    pub input: &'a [f64],
    pub resets: &'a [bool],
}

/// Compiles a network of one input and one output; the text's own error is the panic's message.
pub fn compile(text: &str) -> Graph {
    match rnnc_lang::compile("test.rnn", text, None) {
        Ok(graph) => graph,
        Err(errors) => panic!("{}", errors.render(false)),
    }
}

/// Forward, and backward from `d_output(output size)`.
pub fn run(graph: &Graph, weights: &BTreeMap<String, Array>, window: &Window<'_>, d_output: &[f64]) -> Run {
    let Window { frames, streams, .. } = *window;
    let options = PlanOptions::training(streams, frames).with_input_gradients();
    let plan = Plan::new(graph, options).expect("the network has a plan");
    let mut executor = ReferenceExecutor::new(plan, ExecutionConfig::new(streams, frames))
        .expect("the reference executor runs all plans");
    let ids: Vec<WeightId> = (0..graph.weights().len()).map(WeightId::from_index).collect();
    for (&id, weight) in ids.iter().zip(graph.weights()) {
        let array =
            weights.get(&weight.name).unwrap_or_else(|| panic!("there is no value for {}", weight.name));
        assert_eq!(array.shape, weight.shape, "the shape of {}", weight.name);
        executor
            .write(ParameterArray::Weight, id, Values::F64(&array.values))
            .expect("a weight of its own shape");
    }
    executor.forward(frames, &[Values::F64(window.input)], Some(window.resets)).expect("a whole window");
    let mut output = vec![0.0; d_output.len()];
    executor.output(0, ValuesMut::F64(&mut output)).expect("an output of its own size");
    executor.backward(frames, &[Some(Values::F64(d_output))]).expect("a whole window");
    let mut input_gradient = vec![0.0; window.input.len()];
    executor.input_gradient(0, ValuesMut::F64(&mut input_gradient)).expect("a gradient of its own size");
    let weight_gradients = ids
        .iter()
        .zip(graph.weights())
        .map(|(&id, weight)| {
            let mut values = vec![0.0; weight.len()];
            executor
                .read(ParameterArray::Gradient, id, ValuesMut::F64(&mut values))
                .expect("a gradient of its own shape");
            (weight.name.clone(), Array { shape: weight.shape.clone(), values })
        })
        .collect();
    Run { output, weight_gradients, input_gradient }
}

/// Compares arrays by the largest difference, relative to the largest value.
pub fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: how many values");
    let scale = expected.iter().fold(1e-3, |most: f64, x| most.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let difference = (f - e).abs();
        assert!(difference <= tolerance * scale, "{what}[{i}] is {f}, expected {e}");
    }
}

/// Numbers between -1 and 1 that are the same in every run (Steele, Lea & Flood 2014, SplitMix).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    pub fn take(&mut self, count: usize) -> Vec<f64> {
        let mut next = || {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            2.0 * (z >> 11) as f64 / (1u64 << 53) as f64 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }
}

/// Checks a network of one input `x` and one output against `transcription`, which maps one sequence of frames,
/// read from its beginning, to its outputs: values, and the gradients of all weights and inputs.
pub fn check(text: &str, transcription: impl Fn(&Weights, &[Vector]) -> Vec<Vector>) {
    let graph = compile(text);
    let size = |id: rnnc_graph::LayerId| graph.layer_at(id).size;
    let (inputs, outputs) = (size(graph.inputs()[0]), size(graph.outputs()[0].layer));

    let mut numbers = Numbers::new(42);
    let input = numbers.take(FRAMES * STREAMS * inputs);
    let d_output = numbers.take(FRAMES * STREAMS * outputs);
    let arrays: BTreeMap<String, Array> = graph
        .weights()
        .iter()
        .map(|w| (w.name.clone(), Array { shape: w.shape.clone(), values: numbers.take(w.len()) }))
        .collect();
    let mut resets = [false; FRAMES * STREAMS];
    for (frame, stream) in RESETS {
        resets[frame * STREAMS + stream] = true;
    }
    let window = Window { frames: FRAMES, streams: STREAMS, input: &input, resets: &resets };
    let run = run(&graph, &arrays, &window, &d_output);

    let mut weights = Weights { arrays, read: RefCell::default() };
    let expected = transcribed(&transcription, &weights, &input, &resets, outputs);
    let read = weights.read.borrow().clone();
    let unread: Vec<_> = weights.arrays.keys().filter(|name| !read.contains(*name)).collect();
    assert!(unread.is_empty(), "the paper's formulas have no weights {unread:?}");
    assert_close("output", &run.output, &expected, 1e-9);

    // The gradient of sum(output * d_output), number by number, from the transcription alone.
    let loss = |weights: &Weights, input: &[f64]| -> f64 {
        let output = transcribed(&transcription, weights, input, &resets, outputs);
        output.iter().zip(&d_output).map(|(y, d)| y * d).sum()
    };
    let gradient = |at: f64, mut loss_at: Box<dyn FnMut(f64) -> f64 + '_>| {
        let h = 1e-3;
        let near = loss_at(at + h) - loss_at(at - h);
        let far = loss_at(at + 2.0 * h) - loss_at(at - 2.0 * h);
        (8.0 * near - far) / (12.0 * h)
    };
    let names: Vec<String> = weights.arrays.keys().cloned().collect();
    for name in names {
        let mut expected = Vec::new();
        for i in 0..weights.arrays[&name].values.len() {
            let at = weights.arrays[&name].values[i];
            expected.push(gradient(
                at,
                Box::new(|value| {
                    weights.arrays.get_mut(&name).expect("a name of the list").values[i] = value;
                    loss(&weights, &input)
                }),
            ));
            weights.arrays.get_mut(&name).expect("a name of the list").values[i] = at;
        }
        assert_close(&format!("gradient of {name}"), &run.weight_gradients[&name].values, &expected, 1e-7);
    }
    let mut moved = input.clone();
    let mut expected = Vec::new();
    for i in 0..input.len() {
        expected.push(gradient(
            input[i],
            Box::new(|value| {
                moved[i] = value;
                loss(&weights, &moved)
            }),
        ));
        moved[i] = input[i];
    }
    assert_close("gradient of the input", &run.input_gradient, &expected, 1e-7);
}

/// Runs a transcription over each sequence of a `[T, B, N]` input.
fn transcribed(
    transcription: &impl Fn(&Weights, &[Vector]) -> Vec<Vector>,
    weights: &Weights,
    input: &[f64],
    resets: &[bool],
    outputs: usize,
) -> Vec<f64> {
    let inputs = input.len() / (FRAMES * STREAMS);
    let mut all = vec![0.0; FRAMES * STREAMS * outputs];
    for stream in 0..STREAMS {
        let place = |frame: usize| frame * STREAMS + stream;
        let mut begin = 0;
        while begin < FRAMES {
            let end = (begin + 1..FRAMES).find(|&t| resets[place(t)]).unwrap_or(FRAMES);
            let sequence: Vec<Vector> =
                (begin..end).map(|t| input[place(t) * inputs..][..inputs].to_vec()).collect();
            let output = transcription(weights, &sequence);
            assert_eq!(output.len(), end - begin, "the transcription gives one output per frame");
            for (t, y) in (begin..end).zip(output) {
                all[place(t) * outputs..][..outputs].copy_from_slice(&y);
            }
            begin = end;
        }
    }
    all
}

//! Cases of the suite as calls of a pure function on device memory, against the reference executor: arrays of all layouts and
//! types, windows joined by their state, all forward calls before the first backward call.
#![allow(unsafe_code, reason = "arrays of device memory are made of addresses")]
#![allow(dead_code, reason = "each test takes what it needs")]

use rnnc_cuda::CudaFunctional;
use rnnc_cuda::driver::StreamHandle;
use rnnc_graph::{Start, WeightId};
use rnnc_plan::{
    Array, ArrayMut, Backward, Element, ExecutionConfig, Executor, Forward, Functional, History, NO_SYMBOL,
    ParameterArray, Plan, PlanOptions, PortKind, State, Values, ValuesMut,
};
use rnnc_reference::ReferenceExecutor;
use rnnc_suite::Case;
use rnnc_verify::{Random, write_weights};
use std::collections::HashMap;

/// Device memory of a test's.
pub trait DeviceMemory {
    /// Copies to it.
    fn put(&mut self, at: u64, data: &[u8]);

    /// Copies from it, behind all calls.
    fn get(&self, at: u64, into: &mut [u8]);
}

/// Arrays one after the other, in one allocation.
pub struct Arena<'a> {
    memory: &'a mut dyn DeviceMemory,
    base: u64,
    len: usize,
    used: usize,
    random: Random,
}

/// An array of device memory.
#[derive(Clone, Debug)]
pub struct Place {
    address: u64,
    element: Element,
    shape: Vec<usize>,
    strides: Vec<isize>,
}

impl Place {
    pub fn array(&self) -> Array<'static> {
        // SAFETY: the arena has it, and tests read or write none of it before they wait for the call.
        unsafe { Array::from_raw_parts(self.address as usize, self.element, &self.shape, &self.strides) }
            .unwrap_or_else(|error| panic!("{self:?} {error}"))
    }

    pub fn array_mut(&self) -> ArrayMut<'static> {
        // SAFETY: as above; no other array has any of it.
        unsafe { ArrayMut::from_raw_parts(self.address as usize, self.element, &self.shape, &self.strides) }
            .unwrap_or_else(|error| panic!("{self:?} {error}"))
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The place of each element, row-major.
    fn places(&self) -> Vec<usize> {
        let mut places = vec![0isize];
        for (&size, &stride) in self.shape.iter().zip(&self.strides) {
            places = places.iter().flat_map(|at| (0..size as isize).map(move |k| at + k * stride)).collect();
        }
        places.into_iter().map(|at| at as usize).collect()
    }

    fn reach(&self) -> usize {
        self.places().into_iter().max().map_or(0, |last| last + 1)
    }
}

impl<'a> Arena<'a> {
    pub fn new(memory: &'a mut dyn DeviceMemory, base: u64, len: usize, seed: u64) -> Arena<'a> {
        Arena { memory, base, len, used: 0, random: Random(seed) }
    }

    pub fn clear(&mut self) {
        self.used = 0;
    }

    fn place(&mut self, shape: &[usize], elements: &[Element]) -> Place {
        let element = elements[(self.random.bits() % elements.len() as u64) as usize];
        // Dimensions in order, turned round, or with gaps.
        let layout = self.random.bits() % 3;
        let mut strides = vec![0isize; shape.len()];
        let mut stride = if layout == 2 { 2 } else { 1 };
        let order: Vec<usize> =
            if layout == 1 { (0..shape.len()).collect() } else { (0..shape.len()).rev().collect() };
        for place in order {
            strides[place] = stride as isize;
            stride *= shape[place].max(1);
            stride += usize::from(layout == 2);
        }
        self.at(shape, element, strides)
    }

    fn at(&mut self, shape: &[usize], element: Element, strides: Vec<isize>) -> Place {
        let address = self.base + self.used as u64;
        let place = Place { address, element, shape: shape.to_vec(), strides };
        self.used = (self.used + place.reach() * element.bytes() + 64).next_multiple_of(64);
        assert!(self.used <= self.len, "the arena is too small");
        place
    }

    /// An array to be written; whatever is not, is NaN.
    pub fn out(&mut self, shape: &[usize], elements: &[Element]) -> Place {
        let place = self.place(shape, elements);
        self.wipe(&place);
        place
    }

    /// So many numbers in single precision, side by side.
    pub fn plain(&mut self, len: usize) -> Place {
        let place = self.at(&[len], Element::F32, vec![1]);
        self.memory.put(place.address, &vec![0xff; 4 * len]);
        place
    }

    /// An array of these values.
    pub fn put(&mut self, values: &[f64], shape: &[usize], elements: &[Element]) -> Place {
        let place = self.place(shape, elements);
        self.fill(&place, values);
        place
    }

    /// Makes all of an array NaN.
    pub fn wipe(&mut self, place: &Place) {
        self.memory.put(place.address, &vec![0xff; place.reach() * place.element.bytes()]);
    }

    /// Sets an array's values.
    pub fn fill(&mut self, place: &Place, values: &[f64]) {
        assert_eq!(values.len(), place.len());
        let wide = place.element.bytes();
        let mut bytes = vec![0xff; place.reach() * wide];
        for (at, &value) in place.places().into_iter().zip(values) {
            let to = &mut bytes[at * wide..(at + 1) * wide];
            match place.element {
                Element::F32 => to.copy_from_slice(&(value as f32).to_ne_bytes()),
                Element::F64 => to.copy_from_slice(&value.to_ne_bytes()),
                Element::I32 => to.copy_from_slice(&(value as i32).to_ne_bytes()),
                Element::I64 => to.copy_from_slice(&(value as i64).to_ne_bytes()),
                Element::U32 => {
                    let symbol = if value < 0.0 { NO_SYMBOL } else { value as u32 };
                    to.copy_from_slice(&symbol.to_ne_bytes());
                }
                _ => to[0] = value as u8,
            }
        }
        self.memory.put(place.address, &bytes);
    }

    /// What is in an array.
    pub fn get(&self, place: &Place) -> Vec<f64> {
        let wide = place.element.bytes();
        let mut bytes = vec![0; place.reach() * wide];
        self.memory.get(place.address, &mut bytes);
        let value = |at: usize| {
            let from = &bytes[at * wide..(at + 1) * wide];
            let four = || from.try_into().expect("4 bytes");
            let eight = || from.try_into().expect("8 bytes");
            match place.element {
                Element::F32 => f64::from(f32::from_ne_bytes(four())),
                Element::F64 => f64::from_ne_bytes(eight()),
                Element::I32 => f64::from(i32::from_ne_bytes(four())),
                Element::I64 => i64::from_ne_bytes(eight()) as f64,
                Element::U32 if u32::from_ne_bytes(four()) == NO_SYMBOL => -1.0,
                Element::U32 => f64::from(u32::from_ne_bytes(four())),
                _ => f64::from(from[0]),
            }
        };
        place.places().into_iter().map(value).collect()
    }
}

pub const NUMBERS: &[Element] = &[Element::F32, Element::F64];
pub const SYMBOLS: &[Element] = &[Element::I32, Element::I64, Element::U32];
pub const RESETS: &[Element] = &[Element::Bool, Element::U8];

fn elements(kind: PortKind) -> &'static [Element] {
    if kind == PortKind::Numbers { NUMBERS } else { SYMBOLS }
}

/// The plan of a case as a function, its state held.
pub fn plan(case: &Case) -> Plan {
    let mut graph = case.graph.clone();
    graph.hold_state(None).unwrap();
    let options = PlanOptions::training(case.streams, longest(case));
    Plan::new(&graph, options.with_input_gradients().with_state_gradients()).unwrap()
}

/// How it is compiled.
pub fn config(case: &Case) -> ExecutionConfig {
    ExecutionConfig { window: longest(case), step: longest(case), ..case.config() }
}

fn longest(case: &Case) -> usize {
    case.windows.iter().copied().max().unwrap_or(1)
}

fn close(what: &str, expected: &[f64], found: &[f64], tolerance: f64) -> Result<(), String> {
    assert_eq!(expected.len(), found.len(), "{what}");
    let size = expected.iter().fold(1e-2f64, |most, x| most.max(x.abs()));
    for (place, (e, f)) in expected.iter().zip(found).enumerate() {
        if f.is_nan() || (e - f).abs() > tolerance * size {
            return Err(format!("{what}[{place}]: {f:e} instead of {e:e}"));
        }
    }
    Ok(())
}

/// What a window's calls are given and give.
struct Called {
    tape: Place,
    resets: Option<Place>,
    outputs: Vec<Place>,
    state_in: Option<Vec<Vec<f64>>>,
    state_out: Vec<Place>,
}

/// Runs a case as calls on a stream, and compares all that they give with the reference.
pub fn check(
    case: &Case,
    functional: &CudaFunctional,
    stream: StreamHandle,
    arena: &mut Arena<'_>,
    tolerance: f64,
) -> Result<(), String> {
    check_inner(case, functional, stream, arena, tolerance).map_err(|error| format!("{}: {error}", case.name))
}

fn check_inner(
    case: &Case,
    functional: &CudaFunctional,
    stream: StreamHandle,
    arena: &mut Arena<'_>,
    tolerance: f64,
) -> Result<(), String> {
    let text = |error: rnnc_plan::ExecutorError| error.to_string();
    let trial = case.trial()?;
    let ports = functional.ports().clone();
    let streams = case.streams;
    let mut random = Random(case.seed ^ 11);
    arena.clear();
    let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let weights: Vec<Place> = ports
        .weights
        .iter()
        .zip(&trial.weights)
        .map(|(port, values)| arena.put(&wide(values), &port.shape, NUMBERS))
        .collect();
    let weights: Vec<Array<'_>> = weights.iter().map(Place::array).collect();
    let state_shape = |port: &rnnc_plan::StatePort| {
        let mut shape = if port.depth == 1 { vec![streams] } else { vec![port.depth, streams] };
        if port.kind == PortKind::Numbers {
            shape.push(port.size);
        }
        shape
    };
    // All forward calls.
    let mut called: Vec<Called> = Vec::new();
    let mut run = 0;
    for (number, window) in trial.windows.iter().enumerate() {
        let frames = window.frames;
        let inputs: Vec<Place> = ports
            .inputs
            .iter()
            .zip(&window.inputs)
            .map(|(port, input)| match input {
                rnnc_verify::Array::Numbers(x) => arena.put(&wide(x), &[frames, streams, port.size], NUMBERS),
                rnnc_verify::Array::Symbols(x) => {
                    let symbols: Vec<f64> =
                        x.iter().map(|&s| if s == NO_SYMBOL { -1.0 } else { f64::from(s) }).collect();
                    arena.put(&symbols, &[frames, streams], SYMBOLS)
                }
            })
            .collect();
        let resets = window.resets.as_ref().map(|resets| {
            let values: Vec<f64> = resets.iter().map(|&r| f64::from(u8::from(r))).collect();
            arena.put(&values, &[frames, streams], RESETS)
        });
        let state_in: Option<Vec<Vec<f64>>> =
            called.last().map(|last| last.state_out.iter().map(|place| arena.get(place)).collect());
        let state_places: Option<Vec<Place>> = state_in.as_ref().map(|state| {
            let put = |(port, values): (&rnnc_plan::StatePort, &Vec<f64>)| {
                arena.put(values, &state_shape(port), elements(port.kind))
            };
            ports.state.iter().zip(state).map(put).collect()
        });
        let outputs: Vec<Place> =
            ports.outputs.iter().map(|port| arena.out(&[frames, streams, port.size], NUMBERS)).collect();
        let state_out: Vec<Place> =
            ports.state.iter().map(|port| arena.out(&state_shape(port), elements(port.kind))).collect();
        let tape = arena.plain(functional.tape_len());
        let inputs: Vec<Array<'_>> = inputs.iter().map(Place::array).collect();
        let state_arrays: Option<Vec<Array<'_>>> =
            state_places.as_ref().map(|state| state.iter().map(Place::array).collect());
        let mut out: Vec<_> = outputs.iter().map(|place| Some(place.array_mut())).collect();
        let mut behind: Vec<_> = state_out.iter().map(|place| Some(place.array_mut())).collect();
        functional
            .forward_on(
                stream,
                Forward {
                    resets: resets.as_ref().map(Place::array),
                    state_in: state_arrays.as_deref(),
                    seed: case.config().seed,
                    first_frame: run,
                    outputs: &mut out,
                    state_out: &mut behind,
                    tape: Some(tape.array_mut()),
                    weights_version: (number % 2 == 1).then_some(7),
                    ..Forward::new(frames, &weights, &inputs)
                },
            )
            .map_err(text)?;
        functional.finish().map_err(text)?;
        called.push(Called { tape, resets, outputs, state_in, state_out });
        run += frames as u64;
    }
    // The backward calls, the last first.
    let plan = functional.plan().clone();
    let graph = plan.forward.clone();
    let mut reference = ReferenceExecutor::new(plan, functional.config()).map_err(text)?;
    write_weights(&mut reference, &trial.weights).map_err(text)?;
    for (number, (window, called)) in trial.windows.iter().zip(&called).enumerate().rev() {
        let frames = window.frames;
        run -= frames as u64;
        // The reference, from the same state.
        match &called.state_in {
            None => reference.clear_state(),
            Some(state) => {
                let by_name: HashMap<&str, &Vec<f64>> =
                    ports.state.iter().map(|port| &*port.name).zip(state).collect();
                let template = reference.forward_state().map_err(text)?;
                let histories = template
                    .histories
                    .into_iter()
                    .map(|history| History { values: by_name[&*history.layer].clone(), ..history });
                let state = State {
                    histories: histories.collect(),
                    since_reset: vec![1000; streams],
                    frames: run,
                    kept: None,
                };
                reference.set_state(&state).map_err(text)?;
            }
        }
        window.forward(&mut reference).map_err(text)?;
        for (output, place) in called.outputs.iter().enumerate() {
            let mut expected = vec![0.0; place.len()];
            reference.output(output, ValuesMut::F64(&mut expected)).map_err(text)?;
            close(&format!("window {number}: output {output}"), &expected, &arena.get(place), tolerance)?;
        }
        let behind = reference.forward_state().map_err(text)?;
        // Whether frame j of so many lies before its stream's last reset.
        let is_start = |depth: usize, j: usize, b: usize| behind.since_reset[b] < (depth - j) as u64;
        let mut left: Vec<Option<Vec<f64>>> = vec![None; ports.state.len()];
        let mut start_gradients: HashMap<usize, Vec<f64>> = HashMap::new();
        let mut d_state_out = Vec::new();
        for (place, (port, found)) in ports.state.iter().zip(&called.state_out).enumerate() {
            let history = behind.histories.iter().find(|h| h.layer == port.name).unwrap();
            let units = if port.kind == PortKind::Numbers { port.size } else { 1 };
            let mut expected = history.values.clone();
            let row = |j: usize, b: usize| (j * streams + b) * units;
            let starts: Vec<(usize, usize)> = (0..port.depth)
                .flat_map(|j| (0..streams).map(move |b| (j, b)))
                .filter(|&(j, b)| is_start(port.depth, j, b))
                .collect();
            let start = graph.layer_at(port.layer).start;
            for &(j, b) in &starts {
                for unit in 0..units {
                    expected[row(j, b) + unit] = match start {
                        _ if port.kind == PortKind::Symbols => -1.0,
                        Start::Zero => 0.0,
                        Start::Constant(value) => value,
                        Start::Learned(weight) => f64::from(trial.weights[weight.index()][unit]),
                    };
                }
            }
            let what = format!("window {number}: state `{}` behind", port.name);
            close(&what, &expected, &arena.get(found), tolerance)?;
            // Of every third vector nothing depends.
            if port.kind == PortKind::Symbols || (number + place) % 3 == 2 {
                d_state_out.push(None);
                continue;
            }
            let mut given = wide(&random.numbers(expected.len(), 1.0));
            d_state_out.push(Some(arena.put(&given, &state_shape(port), NUMBERS)));
            for &(j, b) in &starts {
                for unit in 0..units {
                    if let Start::Learned(weight) = start {
                        let sums = start_gradients.entry(weight.index()).or_insert(vec![0.0; units]);
                        sums[unit] += given[row(j, b) + unit];
                    }
                    given[row(j, b) + unit] = 0.0;
                }
            }
            left[port.vector.unwrap()] = Some(given);
        }
        left.truncate(ports.state.iter().filter(|port| port.vector.is_some()).count());
        let errors: Vec<_> = window.output_gradients.iter().map(|g| g.as_deref().map(Values::F32)).collect();
        let left: Vec<_> = left.iter().map(|values| values.as_deref().map(Values::F64)).collect();
        reference.backward_from(frames, &errors, &left).map_err(text)?;
        // The call, twice: a tape stays as it is.
        for repeat in 0..2 {
            let d_outputs: Vec<Option<Place>> = ports
                .outputs
                .iter()
                .zip(&window.output_gradients)
                .map(|(port, g)| {
                    g.as_ref().map(|g| arena.put(&wide(g), &[frames, streams, port.size], NUMBERS))
                })
                .collect();
            let d_outputs: Vec<Option<Array<'_>>> =
                d_outputs.iter().map(|place| place.as_ref().map(Place::array)).collect();
            let d_left: Vec<Option<Array<'_>>> =
                d_state_out.iter().map(|place: &Option<Place>| place.as_ref().map(Place::array)).collect();
            let d_weights: Vec<Place> =
                ports.weights.iter().map(|port| arena.out(&port.shape, NUMBERS)).collect();
            let numbers = |kind: PortKind| kind == PortKind::Numbers;
            let mut d_inputs = Vec::new();
            for port in &ports.inputs {
                let shape = [frames, streams, port.size];
                d_inputs.push(numbers(port.kind).then(|| arena.out(&shape, NUMBERS)));
            }
            let mut d_state_in = Vec::new();
            for port in &ports.state {
                let shape = state_shape(port);
                d_state_in.push(numbers(port.kind).then(|| arena.out(&shape, NUMBERS)));
            }
            let some = |places: &[Option<Place>]| -> Vec<Option<ArrayMut<'static>>> {
                places.iter().map(|place| place.as_ref().map(Place::array_mut)).collect()
            };
            let mut weight_arrays: Vec<_> = d_weights.iter().map(|place| Some(place.array_mut())).collect();
            let (mut input_arrays, mut state_arrays) = (some(&d_inputs), some(&d_state_in));
            functional
                .backward_on(
                    stream,
                    Backward {
                        resets: called.resets.as_ref().map(Place::array),
                        d_outputs: &d_outputs,
                        d_state_out: &d_left,
                        d_weights: &mut weight_arrays,
                        d_inputs: &mut input_arrays,
                        d_state_in: &mut state_arrays,
                        ..Backward::new(frames, &weights, called.tape.array())
                    },
                )
                .map_err(text)?;
            functional.finish().map_err(text)?;
            let of = |what: &str| format!("window {number}, backward call {repeat}: {what}");
            for (id, place) in d_weights.iter().enumerate() {
                let mut expected = vec![0.0; place.len()];
                let weight = WeightId::from_index(id);
                let into = ValuesMut::F64(&mut expected);
                reference.read(ParameterArray::Gradient, weight, into).map_err(text)?;
                if let Some(sums) = start_gradients.get(&id) {
                    expected.iter_mut().zip(sums).for_each(|(e, sum)| *e += sum);
                }
                let what = of(&format!("gradient of `{}`", ports.weights[id].name));
                close(&what, &expected, &arena.get(place), tolerance)?;
            }
            for (input, place) in d_inputs.iter().enumerate() {
                let Some(place) = place else { continue };
                let mut expected = vec![0.0; place.len()];
                reference.input_gradient(input, ValuesMut::F64(&mut expected)).map_err(text)?;
                close(&of(&format!("gradient of input {input}")), &expected, &arena.get(place), tolerance)?;
            }
            for (port, place) in ports.state.iter().zip(&d_state_in) {
                let (Some(place), Some(vector)) = (place, port.vector) else { continue };
                let mut expected = vec![0.0; place.len()];
                reference.state_gradient(vector, ValuesMut::F64(&mut expected)).map_err(text)?;
                let what = of(&format!("gradient of state `{}`", port.name));
                close(&what, &expected, &arena.get(place), tolerance)?;
            }
        }
    }
    Ok(())
}

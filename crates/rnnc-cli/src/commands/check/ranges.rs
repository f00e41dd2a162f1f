//! From where `check` draws numbers: ranges of inputs and weights, by name.

use crate::failure::BadInput;
use rnnc_graph::{Graph, LayerKind, nearest};
use rnnc_verify::{Array, Random, Trial};
use std::str::FromStr;

/// From where to draw: the numbers of an input or a weight, or of all vector inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawRange {
    name: Option<String>,
    low: f32,
    high: f32,
}

impl FromStr for DrawRange {
    type Err = String;

    /// `LOW:HIGH` or `NAME=LOW:HIGH`. Names of weights may have any of these signs but the last `=`.
    fn from_str(text: &str) -> Result<DrawRange, String> {
        let (name, range) = match text.rsplit_once('=') {
            Some((name, range)) => (Some(name.to_owned()), range),
            None => (None, text),
        };
        let wrong = || {
            "a range is two numbers, `LOW:HIGH`, as in `x=0.1:2`, or `0:1` for all vector inputs".to_string()
        };
        let (low, high) = range.split_once(':').ok_or_else(wrong)?;
        let number = |text: &str| text.trim().parse::<f32>().ok().filter(|x| x.is_finite()).ok_or_else(wrong);
        let (low, high) = (number(low)?, number(high)?);
        // As far apart as single precision can hold.
        if low >= high || !(high - low).is_finite() {
            return Err(format!("{low}:{high} has no room: LOW must be less than HIGH, by less than 3.4e38"));
        }
        Ok(DrawRange { name, low, high })
    }
}

impl DrawRange {
    /// Whether it says anything of inputs: one that has no name, or that of one.
    pub fn is_of_inputs(&self, graph: &Graph) -> bool {
        let is_named = |name: &String| graph.inputs().iter().any(|&id| graph.layer_at(id).name == *name);
        self.name.as_ref().is_none_or(is_named)
    }

    fn draw(&self, random: &mut Random, count: usize) -> Vec<f32> {
        random.between(count, self.low, self.high)
    }
}

/// Draws inputs and weights of a trial anew, from these ranges; where several fit, from the last.
///
/// # Errors
/// Names of neither.
pub fn draw_from(ranges: &[DrawRange], trial: &mut Trial<'_>) -> Result<(), BadInput> {
    let graph = trial.graph;
    let inputs: Vec<_> = graph.inputs().iter().map(|&id| graph.layer_at(id)).collect();
    let is_vector = |place: &usize| inputs[*place].kind != LayerKind::Symbol;
    for (number, range) in (1..).zip(ranges) {
        // Each has numbers of its own.
        let mut random = Random(Random(trial.config.seed.wrapping_add(number)).bits());
        let Some(name) = &range.name else {
            let vectors: Vec<usize> = (0..inputs.len()).filter(is_vector).collect();
            for place in vectors {
                draw_input(trial, place, range, &mut random);
            }
            continue;
        };
        let is_named = |(_, known): &(usize, &str)| known == name;
        if let Some((place, _)) = inputs.iter().map(|i| &*i.name).enumerate().find(is_named) {
            if !is_vector(&place) {
                return Err(BadInput(format!(
                    "`--range {name}=..`: `{name}` is a symbol input, and all of its symbols are drawn"
                )));
            }
            draw_input(trial, place, range, &mut random);
            continue;
        }
        let weights = graph.weights().iter().map(|w| &*w.name);
        if let Some((place, _)) = weights.clone().enumerate().find(is_named) {
            trial.weights[place] = range.draw(&mut random, trial.weights[place].len());
            continue;
        }
        let known: Vec<&str> = inputs.iter().map(|i| &*i.name).chain(weights).collect();
        let meant = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are `{}`", known.join("`, `")),
        };
        return Err(BadInput(format!(
            "`--range {name}=..`: network `{}` has no input and no weight `{name}`; {meant}",
            graph.name()
        )));
    }
    Ok(())
}

fn draw_input(trial: &mut Trial<'_>, place: usize, range: &DrawRange, random: &mut Random) {
    for window in &mut trial.windows {
        if let Array::Numbers(numbers) = &mut window.inputs[place] {
            *numbers = range.draw(random, numbers.len());
        }
    }
}

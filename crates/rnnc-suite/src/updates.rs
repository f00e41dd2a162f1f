//! What an update does with gradients of any size, and with settings and gradients that are none.

use crate::net::Net;
use rnnc_graph::{Activation, Graph, WeightId};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, ParameterArray, Plan, PlanOptions, Update, Values, ValuesMut,
};
use rnnc_verify::Make;

const UPDATE: Update =
    Update { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-37, step: 1, clip_norm: None };

/// The gradients of some updates, for weights that have as many numbers.
const GRADIENTS: [[f32; 8]; 4] = [
    [1.0, -2.0, 3.0, 0.0, 0.5, 2.0, -1.0, 0.25],
    [-3.0, 1.0, 2.0, 0.0, 0.5, -2.0, -1.0, 2.0],
    [0.5, 0.5, -1.0, 0.0, 3.0, 1.0, -2.0, 0.0],
    [2.0, 1.0, 0.25, 0.0, -1.0, 1.0, 1.0, 1.0],
];

fn network() -> Graph {
    let mut net = Net::new("updates");
    let x = net.graph.input("x", 2);
    let y = net.dense("y", 4, Activation::Identity, &[(x, 0)]);
    net.out(y)
}

/// Adam does not depend on the unit that gradients are measured in: gradients whose squares are too large or too small for
/// single precision move weights as others do, with and without clipping. Settings that are out of bounds, and gradients
/// that are not finite, change nothing.
///
/// # Errors
/// Says what moved otherwise, or was taken.
pub fn check_updates(make: Make<'_>) -> Result<(), String> {
    let fresh = || {
        let plan = Plan::new(&network(), PlanOptions::training(1, 2)).map_err(text)?;
        make(plan, ExecutionConfig::new(1, 2)).map_err(text)
    };
    for (clip_norm, scales) in [(None, &[1e21f32, 5e37, 1e-21, 1e-31][..]), (Some(1.0), &[1e21, 5e37][..])] {
        let expected = weights_after(fresh()?.as_mut(), 1.0, clip_norm)?;
        for &scale in scales {
            let found = weights_after(fresh()?.as_mut(), scale, clip_norm)?;
            if expected.iter().zip(&found).any(|(e, f)| (e - f).abs() > 1e-5 || !f.is_finite()) {
                return Err(format!(
                    "with gradients {scale:e} times as large and clip_norm {clip_norm:?}, weights became {found:?} \
                     instead of {expected:?}"
                ));
            }
        }
    }
    refuses(fresh()?.as_mut())
}

/// The matrix after the updates, with gradients so many times as large.
fn weights_after(
    executor: &mut dyn Executor,
    scale: f32,
    clip_norm: Option<f64>,
) -> Result<Vec<f64>, String> {
    for (step, gradients) in (1..).zip(GRADIENTS) {
        let scaled = gradients.map(|g| g * scale);
        executor.write(ParameterArray::Gradient, matrix(), Values::F32(&scaled)).map_err(text)?;
        let expected = scaled.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let norm = executor.update(&Update { step, clip_norm, ..UPDATE }).map_err(text)?;
        if (norm / expected - 1.0).abs() > 1e-5 {
            return Err(format!("the norm of gradients of {expected} is said to be {norm}"));
        }
    }
    for part in [ParameterArray::Moment1, ParameterArray::Moment2] {
        let moments = read(executor, part)?;
        if moments.iter().any(|m| !m.is_finite()) {
            return Err(format!("{part:?} of gradients of {scale:e} is {moments:?}"));
        }
    }
    read(executor, ParameterArray::Weight)
}

fn refuses(executor: &mut dyn Executor) -> Result<(), String> {
    weights_after(executor, 1.0, None)?;
    let all = |executor: &dyn Executor| -> Result<[Vec<f64>; 3], String> {
        let [w, m, r] = [ParameterArray::Weight, ParameterArray::Moment1, ParameterArray::Moment2]
            .map(|part| read(executor, part));
        Ok([w?, m?, r?])
    };
    let before = all(executor)?;
    for wrong in [
        Update { learning_rate: f64::NAN, ..UPDATE },
        Update { learning_rate: -0.1, ..UPDATE },
        Update { beta1: 1.0, ..UPDATE },
        Update { beta2: -0.5, ..UPDATE },
        Update { epsilon: 1e-60, ..UPDATE },
        Update { clip_norm: Some(f64::INFINITY), ..UPDATE },
    ] {
        match executor.update(&wrong) {
            Err(ExecutorError::Setting { .. }) => {}
            other => return Err(format!("{wrong:?} is answered with {other:?}")),
        }
    }
    if !matches!(executor.update(&Update { step: 0, ..UPDATE }), Err(ExecutorError::OutOfRange { .. })) {
        return Err("an update that is counted from 0 was taken".into());
    }
    for wrong in [f32::NAN, f32::INFINITY] {
        let mut gradients = GRADIENTS[0];
        gradients[5] = wrong;
        executor.write(ParameterArray::Gradient, matrix(), Values::F32(&gradients)).map_err(text)?;
        let norm = executor.update(&Update { step: 5, ..UPDATE }).map_err(text)?;
        if norm.is_finite() {
            return Err(format!("the norm of gradients of which one is {wrong} is said to be {norm}"));
        }
    }
    if all(executor)? != before {
        return Err("an update that was refused, or whose gradients are not finite, changed something".into());
    }
    Ok(())
}

/// The weight whose numbers are looked at; the other is a bias.
fn matrix() -> WeightId {
    WeightId::from_index(1)
}

fn read(executor: &dyn Executor, part: ParameterArray) -> Result<Vec<f64>, String> {
    let mut values = vec![0.0; 8];
    executor.read(part, matrix(), ValuesMut::F64(&mut values)).map_err(text)?;
    Ok(values)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

//! What an update does, of every optimizer: as the reference does with gradients of any size and every setting; as PyTorch does;
//! and nothing where settings or gradients are invalid.

use crate::net::Net;
use rnnc_graph::{Activation, Graph, WeightId};
use rnnc_plan::{
    ExecutionConfig, Executor, ExecutorError, Optimizer, OptimizerSettings, ParameterArray, Plan,
    PlanOptions, SettingError, Update, Values, ValuesMut,
};
use rnnc_reference::ReferenceExecutor;
use rnnc_verify::Make;
use serde::Deserialize;
use std::collections::BTreeMap;

const LEARNING_RATE: f64 = 0.1;

/// The weights with which updates begin.
const INITIAL: [f32; 8] = [0.5, -1.0, 0.0, 0.25, 2.0, -0.125, 1.0, -0.75];

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

/// Updates move weights and slots as the reference's do, with gradients of any size that single precision holds what comes of, with
/// and without clipping; and as those of PyTorch. Settings that are out of bounds, and gradients that are not finite, change
/// nothing.
///
/// # Errors
/// Says what moved otherwise, or was taken.
pub fn check_updates(make: Make<'_>) -> Result<(), String> {
    for optimizer in Optimizer::ALL {
        let says = |error| format!("{}: {error}", optimizer.name());
        let config = ExecutionConfig { optimizer, ..ExecutionConfig::new(1, 2) };
        let plan = || Plan::new(&network(), PlanOptions::training(1, 2)).map_err(text);
        let mut executor = make(plan()?, config).map_err(text)?;
        let mut reference = ReferenceExecutor::new(plan()?, config).map_err(text)?;
        for settings in variants(optimizer) {
            for (clip_norm, scales) in
                [(None, &[1.0, 1e21f32, 5e37, 1e-21, 1e-31][..]), (Some(1.0), &[1.0, 1e21, 5e37])]
            {
                for &scale in scales {
                    agree(executor.as_mut(), &mut reference, settings, clip_norm, scale).map_err(|error| {
                        says(format!("{settings:?}, clip_norm {clip_norm:?}, gradients {scale:e} times as large: {error}"))
                    })?;
                }
            }
        }
        as_pytorch(executor.as_mut()).map_err(says)?;
        refuses(executor.as_mut()).map_err(says)?;
    }
    Ok(())
}

/// Every choice between a setting's default and another value.
fn variants(optimizer: Optimizer) -> Vec<OptimizerSettings> {
    let mut all = vec![OptimizerSettings::new(optimizer)];
    for setting in optimizer.settings() {
        let other = if (setting.bounds.allows)(0.5) { 0.5 } else { 1.0 };
        let values = vec![other; setting.default.len()];
        let others: Vec<_> = all.iter().flat_map(|settings| settings.with(setting.name, &values)).collect();
        all.extend(others);
    }
    all.retain(|settings| settings.check().is_ok());
    all
}

/// Both after some updates with gradients so many times as large.
fn agree(
    executor: &mut dyn Executor,
    reference: &mut ReferenceExecutor,
    optimizer: OptimizerSettings,
    clip_norm: Option<f64>,
    scale: f32,
) -> Result<(), String> {
    begin(executor, &INITIAL)?;
    begin(reference, &INITIAL)?;
    for (step, gradients) in (1..).zip(GRADIENTS) {
        let scaled = gradients.map(|g| g * scale);
        let update = Update { learning_rate: LEARNING_RATE, step, clip_norm, optimizer };
        let (expected, found) = (updated(reference, &scaled, &update)?, updated(executor, &scaled, &update)?);
        if (found / expected - 1.0).abs() > 1e-5 {
            return Err(format!("the norm of gradients of {expected} is said to be {found}"));
        }
        for part in ParameterArray::trained(optimizer.optimizer()) {
            let (expected, found) = (read(reference, part)?, read(executor, part)?);
            let largest = expected.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
            // What comes next may be twice as large.
            if largest > f64::from(f32::MAX) / 2.0 {
                return Ok(());
            }
            let least = if part == ParameterArray::Weight { 1.0 } else { f64::from(f32::MIN_POSITIVE) };
            if expected
                .iter()
                .zip(&found)
                .any(|(e, f)| (e - f).abs() > 1e-5 * largest.max(least) || !f.is_finite())
            {
                return Err(format!("after step {step}, {part:?} is {found:?} instead of {expected:?}"));
            }
        }
    }
    Ok(())
}

/// What `bench/fixtures/make_optimizer_fixtures.py` made.
#[derive(Deserialize)]
struct Fixture {
    initial: [f32; 8],
    gradients: Vec<[f32; 8]>,
    learning_rates: Vec<f64>,
    cases: Vec<FixtureCase>,
}

#[derive(Deserialize)]
struct FixtureCase {
    optimizer: Optimizer,
    settings: BTreeMap<String, Vec<f64>>,
    after: Vec<[f64; 8]>,
}

fn as_pytorch(executor: &mut dyn Executor) -> Result<(), String> {
    let fixture: Fixture = serde_json::from_str(include_str!("optimizers.json")).map_err(text)?;
    let optimizer = executor.config().optimizer;
    for case in fixture.cases.iter().filter(|case| case.optimizer == optimizer) {
        let mut settings = OptimizerSettings::new(optimizer);
        for (name, values) in &case.settings {
            settings = settings.with(name, values).map_err(text)?;
        }
        begin(executor, &fixture.initial)?;
        let steps = fixture.gradients.iter().zip(&fixture.learning_rates).zip(&case.after);
        for (step, ((gradients, &learning_rate), expected)) in (1..).zip(steps) {
            updated(
                executor,
                gradients,
                &Update { learning_rate, step, clip_norm: None, optimizer: settings },
            )?;
            let found = read(executor, ParameterArray::Weight)?;
            if expected.iter().zip(&found).any(|(e, f)| (e - f).abs() > 1e-6 || f.is_nan()) {
                return Err(format!(
                    "{settings:?}: after step {step}, the weights are {found:?}, and in PyTorch {expected:?}"
                ));
            }
        }
    }
    Ok(())
}

fn refuses(executor: &mut dyn Executor) -> Result<(), String> {
    let optimizer = executor.config().optimizer;
    let plain = OptimizerSettings::new(optimizer);
    let right = Update { learning_rate: LEARNING_RATE, step: 1, clip_norm: None, optimizer: plain };
    begin(executor, &INITIAL)?;
    updated(executor, &GRADIENTS[0], &right)?;
    let all = |executor: &dyn Executor| -> Result<Vec<Vec<f64>>, String> {
        ParameterArray::trained(optimizer).map(|part| read(executor, part)).collect()
    };
    let before = all(executor)?;
    let mut wrong = vec![
        Update { learning_rate: f64::NAN, ..right },
        Update { learning_rate: -0.1, ..right },
        Update { clip_norm: Some(f64::INFINITY), ..right },
    ];
    for setting in optimizer.settings() {
        for value in [-0.5, f64::NAN, 1e60] {
            let optimizer = plain.with(setting.name, &vec![value; setting.default.len()]).map_err(text)?;
            wrong.push(Update { optimizer, ..right });
        }
    }
    let others = Optimizer::ALL.into_iter().filter(|&other| other != optimizer);
    wrong.extend(others.map(|other| Update { optimizer: OptimizerSettings::new(other), ..right }));
    for wrong in wrong {
        match executor.update(&wrong) {
            Err(ExecutorError::Setting(SettingError::Bounds { .. } | SettingError::Optimizer { .. })) => {}
            other => return Err(format!("{wrong:?} is answered with {other:?}")),
        }
    }
    if !matches!(executor.update(&Update { step: 0, ..right }), Err(ExecutorError::OutOfRange { .. })) {
        return Err("an update that is counted from 0 was taken".into());
    }
    let mut one = [0.0; 8];
    let missing = ParameterArray::Slot(optimizer.slots().len());
    if !matches!(
        executor.read(missing, matrix(), ValuesMut::F64(&mut one)),
        Err(ExecutorError::OutOfRange { .. })
    ) {
        return Err("a slot was read that does not exist".into());
    }
    for wrong in [f32::NAN, f32::INFINITY] {
        let mut gradients = GRADIENTS[0];
        gradients[5] = wrong;
        let norm = updated(executor, &gradients, &Update { step: 5, ..right })?;
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

/// As if there had been no update.
fn begin(executor: &mut dyn Executor, weights: &[f32]) -> Result<(), String> {
    for part in ParameterArray::trained(executor.config().optimizer) {
        let zeros = vec![0.0f32; weights.len()];
        let values = if part == ParameterArray::Weight { weights } else { &zeros };
        executor.write(part, matrix(), Values::F32(values)).map_err(text)?;
    }
    Ok(())
}

/// Makes an update along these gradients; the norm that it says.
fn updated(executor: &mut dyn Executor, gradients: &[f32], update: &Update) -> Result<f64, String> {
    executor.write(ParameterArray::Gradient, matrix(), Values::F32(gradients)).map_err(text)?;
    executor.update(update).map_err(text)
}

fn read(executor: &dyn Executor, part: ParameterArray) -> Result<Vec<f64>, String> {
    let mut values = vec![0.0; 8];
    executor.read(part, matrix(), ValuesMut::F64(&mut values)).map_err(text)?;
    Ok(values)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

//! Finite differences tell wrong gradients, inside of functions' domains and near their poles, from right ones, and from what
//! cannot be told.

use rnnc_plan::ExecutionConfig;
use rnnc_suite::{Alteration, Altered};
use rnnc_verify::{Array, Differences, Make, Random, Spread, Trial, differences};

const SQRT: &str = "network n { input x : vector(4)  y = sqrt(dense(x; 3))  output y }";
const RECIPROCAL: &str = "network n { input x : vector(4)  y = 1 / dense(x; 3)  output y }";
const LSTM: &str = "network n { input x : vector(3)  input s : symbol(4)  h = lstm(x; 5)
    g = relu(dense(s, h; 4))  start g = learned  y = dense(g, g[t-2]; 2)  output y }";
const DROPOUT: &str =
    "network n { input x : vector(3)  h = dropout(lstm(x; 5); 0.4)  y = dense(h, h[t-1]; 2)  output y }";

/// What differences say of a network with such numbers, changed as `set` says, and an executor altered so.
fn found(text: &str, seed: u64, set: impl Fn(&mut Trial<'_>), alteration: Alteration) -> Differences {
    let graph = rnnc_lang::compile("net.rnn", text, None).unwrap();
    let config = ExecutionConfig { seed, ..ExecutionConfig::new(2, 6) };
    let mut trial = Trial::draw(&graph, config, &[6], 0.2, Spread::PLAIN).unwrap();
    set(&mut trial);
    let make: Make<'_> = &|plan, config| Altered::make(plan, config, alteration);
    differences(&trial, 3, make, &mut |_, _| {}).unwrap()
}

fn as_drawn(_: &mut Trial<'_>) {}

/// Inside the domain of [`SQRT`].
fn positive(trial: &mut Trial<'_>) {
    let mut random = Random(trial.config.seed);
    for input in &mut trial.windows[0].inputs {
        if let Array::Numbers(values) = input {
            *values = random.between(values.len(), 0.0, 1.0);
        }
    }
    trial.weights.iter_mut().for_each(|weight| *weight = random.between(weight.len(), 0.0, 1.0));
}

fn with_dropout(trial: &mut Trial<'_>) {
    trial.config.training = true;
}

fn is_wrong(found: &Differences) -> bool {
    found.findings.iter().any(|f| f.problem.is_some())
}

fn is_right(found: &Differences) -> bool {
    found.outside.is_none()
        && found.findings.iter().all(|f| f.problem.is_none() && f.unchecked.is_none() && f.error < 1e-4)
}

#[test]
fn right_gradients_agree_with_differences() {
    let found = found(LSTM, 1, as_drawn, Alteration::Nothing);
    assert_eq!(found.findings.len(), 20);
    assert!(is_right(&found) && found.sampled, "{found:#?}");
}

#[test]
fn a_stopped_read_stands_still_under_differences() {
    let text = "network n { input x : vector(3)  h = tanh(dense(x, h[t-1]; 3) + stop_gradient(h[t-1]) * x)
         start h = 0.5  output h }";
    assert!(is_right(&found(text, 1, as_drawn, Alteration::Nothing)));
}

#[test]
fn outside_a_functions_domain_no_gradient_is_called_wrong_and_the_layer_is_named() {
    for seed in 0..24 {
        let found = found(SQRT, seed, as_drawn, Alteration::Nothing);
        assert!(!is_wrong(&found), "{seed}: {found:#?}");
        assert!(found.outside.unwrap().starts_with("layer `y` is NaN in unit "));
    }
}

#[test]
fn inside_a_functions_domain_and_near_poles_right_gradients_agree() {
    for seed in 0..48 {
        let inside = found(SQRT, seed, positive, Alteration::Nothing);
        assert!(is_right(&inside), "{seed}: {inside:#?}");
        let near_poles = found(RECIPROCAL, seed, as_drawn, Alteration::Nothing);
        assert!(!is_wrong(&near_poles) && near_poles.outside.is_none(), "{seed}: {near_poles:#?}");
    }
}

#[test]
fn wrong_gradients_are_found_near_poles_too() {
    for seed in 0..8 {
        for (text, alteration) in [
            (LSTM, Alteration::Gradient),
            (LSTM, Alteration::ShortBackward),
            (LSTM, Alteration::LateInputGradient),
            (RECIPROCAL, Alteration::LateInputGradient),
        ] {
            let found = found(text, seed, as_drawn, alteration);
            assert!(is_wrong(&found), "{alteration:?}, {seed}: {found:#?}");
        }
        let found = found(SQRT, seed, positive, Alteration::Gradient);
        assert!(is_wrong(&found), "{seed}: {found:#?}");
    }
}

#[test]
fn gradients_with_dropout_masks_are_checked_with_the_same_masks() {
    for seed in 0..8 {
        let masked = found(DROPOUT, seed, with_dropout, Alteration::Nothing);
        assert!(is_right(&masked), "{seed}: {masked:#?}");
        assert!(is_wrong(&found(DROPOUT, seed, with_dropout, Alteration::Gradient)), "{seed}");
    }
}

/// Vector inputs are 0 where they would be negative, and all zeros in the first frame.
fn with_zeros(trial: &mut Trial<'_>) {
    for input in &mut trial.windows[0].inputs {
        if let Array::Numbers(values) = input {
            let first = values.len() / 6;
            values[..first].fill(0.0);
            values.iter_mut().for_each(|x| *x = x.max(0.0));
        }
    }
}

#[test]
fn where_a_derivative_is_not_finite_no_gradient_is_called_wrong_and_the_layer_is_named() {
    const COSINE: &str = "input x : vector(3)  a = dense(x; 3)
        n = sqrt(sum(x * x)) * sqrt(sum(a * a)) + 1e-3  y = sum(x * a) / n";
    for (equations, place) in [
        ("input x : vector(3)  y = sqrt(dense(x; 2, bias = none) * 0)", "the derivative of sqrt in layer `y"),
        // Flat, and infinite by the chain rule.
        ("input x : vector(3)  y = sqrt(max(dense(x; 2), 0))", "the derivative of sqrt in layer `y"),
        (COSINE, "the derivative of sqrt in layer `n"),
        ("input x : vector(3)  y = sigmoid(log(x))", "the derivative of log in layer `y"),
        ("input x : vector(3)  p = param(2)  n = sqrt(0 * p)  y = dense(x; 2) + n", "the derivative of sqrt"),
        ("input x : vector(3)  y = tanh(1 / x)", "the derivative of quotient in layer `y"),
        // A power of 0.
        ("input x : vector(3)  y = exp(0.5 * log(x))", "the derivative of log in layer `y"),
        // Layers that are not finite, of which only weights read.
        ("input x : vector(3)  q = 1 / sum(x)  y = tanh(dense(stop_gradient(q); 2))", "layer `q` is inf"),
    ] {
        for seed in 0..4 {
            let text = format!("network n {{ {equations}  output y }}");
            let found = found(&text, seed, with_zeros, Alteration::Nothing);
            assert!(!is_wrong(&found) && found.outside.is_none(), "{text}, {seed}: {found:#?}");
            let named = found.non_finite.as_deref().unwrap_or_default();
            assert!(named.starts_with(place), "{text}, {seed}: {found:#?}");
            assert!(found.findings.iter().any(|f| f.unchecked.is_some()), "{text}: {found:#?}");
        }
    }
}

#[test]
fn beside_a_derivative_that_is_not_finite_a_wrong_gradient_is_found() {
    let text = "network n { input x : vector(3)  input z : vector(3)  a = tanh(dense(z; 2))
        y = sqrt(max(x, 0))  output a, y }";
    for seed in 0..4 {
        let right = found(text, seed, with_zeros, Alteration::Nothing);
        assert!(!is_wrong(&right) && right.non_finite.is_some(), "{right:#?}");
        let found = found(text, seed, with_zeros, Alteration::Gradient);
        assert!(is_wrong(&found) && found.non_finite.is_some(), "{found:#?}");
    }
}

#[test]
fn a_gradient_at_a_kink_is_a_subgradient() {
    let text = "network n { input x : vector(3)  y = relu(x)  z = max(x, 0 * x)  output y, z }";
    let at_kinks = |trial: &mut Trial<'_>| trial.windows[0].inputs[0] = Array::Numbers(vec![0.0; 36]);
    let mut right = 0;
    for seed in 0..24 {
        // Where the two meet with opposite signs, their subgradients need not lie between the derivatives of the sum.
        let found = found(text, seed, at_kinks, Alteration::Nothing);
        assert!(!is_wrong(&found) && found.outside.is_none() && found.non_finite.is_none(), "{found:#?}");
        right += usize::from(is_right(&found));
    }
    assert!(right > 0);
}

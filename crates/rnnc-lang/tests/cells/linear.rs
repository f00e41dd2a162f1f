//! Cells whose state is linear in itself, so that it can be scanned.

use crate::maths::*;
use crate::support::{Weights, check};

pub const CELLS: &[&str] = &["sru", "qrnn", "mingru", "minlstm", "lru", "rg_lru", "leaky_integrator"];

/// W x + b
fn dense(w: &Weights, name: &str, x: &[f64]) -> Vector {
    add(&w.product(&format!("h.{name}.W.x"), x), &w.vector(&format!("h.{name}.bias")))
}

#[test]
fn sru_gates_a_running_average_and_a_highway() {
    // Lei, Zhang & Artzi, arXiv:1709.02755 version 1 (2017), section 2, with g = tanh. (In the version of 2018 the
    // gates see the state, which then cannot be scanned.)
    check("network n { input x : vector(5)  h = sru(x; 5)  output h }", |w, xs| {
        let mut c = zeros(5);
        xs.iter()
            .map(|x| {
                let f = sigmoid(&dense(w, "f", x));
                let r = sigmoid(&dense(w, "r", x));
                c = add(&times(&f, &c), &times(&rest(&f), &w.product("h.z.W.x", x)));
                add(&times(&r, &tanh(&c)), &times(&rest(&r), x))
            })
            .collect()
    });
}

#[test]
fn qrnn_pools_a_convolution() {
    // Bradbury et al. (2017), equations 1, 2 and 4: width 2, fo-pooling.
    check("network n { input x : vector(3)  h = qrnn(x; 5)  output h }", |w, xs| {
        let mut c = zeros(5);
        let mut before = zeros(3);
        xs.iter()
            .map(|x| {
                let convolution = |name: &str| {
                    let now = w.product(&format!("h.{name}.W.x"), x);
                    add(&now, &w.product(&format!("h.{name}.W.x[t-1]"), &before))
                };
                let z = tanh(&convolution("z"));
                let f = sigmoid(&convolution("f"));
                let o = sigmoid(&convolution("o"));
                c = add(&times(&f, &c), &times(&rest(&f), &z));
                before = x.clone();
                times(&o, &c)
            })
            .collect()
    });
}

#[test]
fn mingru_has_gates_of_the_input_alone() {
    // Feng et al. (2024), section 3.1.3.
    check("network n { input x : vector(3)  h = mingru(x; 5)  output h }", |w, xs| {
        let mut h = zeros(5);
        xs.iter()
            .map(|x| {
                let z = sigmoid(&dense(w, "z", x));
                h = add(&times(&rest(&z), &h), &times(&z, &dense(w, "m", x)));
                h.clone()
            })
            .collect()
    });
}

#[test]
fn minlstm_scales_its_gates_to_a_sum_of_one() {
    // Feng et al. (2024), section 3.2.4.
    check("network n { input x : vector(3)  h = minlstm(x; 5)  output h }", |w, xs| {
        let mut h = zeros(5);
        xs.iter()
            .map(|x| {
                let f = sigmoid(&dense(w, "f", x));
                let i = sigmoid(&dense(w, "i", x));
                let total = add(&f, &i);
                h = add(&times(&over(&f, &total), &h), &times(&over(&i, &total), &dense(w, "m", x)));
                h.clone()
            })
            .collect()
    });
}

#[test]
fn lru_decays_by_the_exponential_of_an_exponential() {
    // Orvieto et al. (2023), equations 1 and 6 to 8, without the imaginary parts: lambda = exp(-exp(nu)), the input
    // scaled by sqrt(1 - lambda^2). The weight is nu + 2.5, so that 0 is a long memory.
    check("network n { input x : vector(3)  y = lru(x; 5, 4)  output y }", |w, xs| {
        let mut s = zeros(5);
        let lambda = map(&w.vector("y.nu.param"), |nu| (-(nu - 2.5).exp()).exp());
        let gamma = map(&lambda, |l| (1.0 - l * l).sqrt());
        xs.iter()
            .map(|x| {
                s = add(&times(&lambda, &s), &times(&gamma, &w.product("y.s.W.x", x)));
                add(&w.product("y.y.W.s", &s), &w.product("y.y.W.x", x))
            })
            .collect()
    });
}

#[test]
fn rg_lru_gates_its_own_decay() {
    // De et al. (2024), equations 1 to 4, c = 8. The weight is Lambda - 6.5.
    for (heads, text) in [(1, "rg_lru(x; 6)"), (2, "rg_lru(x; 6, heads = 2)")] {
        check(&format!("network n {{ input x : vector(6)  h = {text}  output h }}"), |w, xs| {
            let mut h = zeros(6);
            let base = map(&w.vector("h.lambda.param"), |lambda| logistic(lambda + 6.5));
            assert_eq!(w.heads("h.r.W.x"), heads);
            xs.iter()
                .map(|x| {
                    let r = sigmoid(&dense(w, "r", x));
                    let i = sigmoid(&dense(w, "i", x));
                    let a: Vector = base.iter().zip(&r).map(|(a, r)| a.powf(8.0 * r)).collect();
                    let open = map(&a, |a| (1.0 - a * a).sqrt());
                    h = add(&times(&a, &h), &times(&open, &times(&i, x)));
                    h.clone()
                })
                .collect()
        });
    }
}

#[test]
fn leaky_integrator_follows_its_input_slowly() {
    // Stornetta, Hogg & Huberman (1988): a running average with a decay, 0.9, of what the weights hand in.
    check("network n { input x : vector(3)  h = leaky_integrator(x; 5)  output h }", |w, xs| {
        let mut h = zeros(5);
        xs.iter()
            .map(|x| {
                h = add(&scaled(0.9, &h), &scaled(0.1, &dense(w, "h", x)));
                h.clone()
            })
            .collect()
    });
}

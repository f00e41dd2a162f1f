//! Gated units without a memory cell of their own: the GRU and its kin.

use crate::maths::*;
use crate::support::{Weights, check};

pub const CELLS: &[&str] = &["gru", "minimal_gated", "ugrnn"];

/// W x + U h + b
fn dense(w: &Weights, name: &str, delayed: &str, x: &[f64], h: &[f64]) -> Vector {
    let from_x = w.product(&format!("h.{name}.W.x"), x);
    let from_h = w.product(&format!("h.{name}.W.{delayed}"), h);
    sum(&[from_x, from_h, w.vector(&format!("h.{name}.bias"))])
}

#[test]
fn gru_resets_before_the_product() {
    // Cho et al. (2014), equations 5 to 8: z keeps the old state.
    check("network n { input x : vector(3)  h = gru(x; 5)  output h }", |w, xs| {
        let mut h = zeros(5);
        xs.iter()
            .map(|x| {
                let r = sigmoid(&dense(w, "r", "h[t-1]", x, &h));
                let z = sigmoid(&dense(w, "z", "h[t-1]", x, &h));
                let candidate = tanh(&dense(w, "m", "2", x, &times(&r, &h)));
                h = add(&times(&z, &h), &times(&rest(&z), &candidate));
                h.clone()
            })
            .collect()
    });
}

#[test]
fn minimal_gated_has_one_gate_for_both_uses() {
    // Zhou et al. (2016), equations 7 and 8: f takes the new state in.
    check("network n { input x : vector(3)  h = minimal_gated(x; 5)  output h }", |w, xs| {
        let mut h = zeros(5);
        xs.iter()
            .map(|x| {
                let f = sigmoid(&dense(w, "f", "h[t-1]", x, &h));
                let candidate = tanh(&dense(w, "m", "2", x, &times(&f, &h)));
                h = add(&times(&rest(&f), &h), &times(&f, &candidate));
                h.clone()
            })
            .collect()
    });
}

#[test]
fn ugrnn_mixes_old_and_new_by_one_gate() {
    // Collins, Sohl-Dickstein & Sussillo (2017), section 2: g keeps the old state.
    check("network n { input x : vector(3)  h = ugrnn(x; 5)  output h }", |w, xs| {
        let mut h = zeros(5);
        xs.iter()
            .map(|x| {
                let c = tanh(&dense(w, "c", "h[t-1]", x, &h));
                let g = sigmoid(&dense(w, "g", "h[t-1]", x, &h));
                h = add(&times(&g, &h), &times(&rest(&g), &c));
                h.clone()
            })
            .collect()
    });
}

//! LSTM and its kin with a memory cell.

use crate::maths::*;
use crate::support::{Weights, check};

pub const CELLS: &[&str] =
    &["lstm_peephole", "lstm_coupled", "lstm_projected", "lstm_layer_norm", "janet", "ran", "slstm"];

/// W x + R h + b of a gate.
fn gate(w: &Weights, name: &str, x: &[f64], h: &[f64]) -> Vector {
    let from_x = w.product(&format!("h.{name}.W.x"), x);
    let from_h = w.product(&format!("h.{name}.W.h[t-1]"), h);
    sum(&[from_x, from_h, w.vector(&format!("h.{name}.bias"))])
}

#[test]
fn lstm_peephole_is_that_of_gers_schraudolph_and_schmidhuber() {
    // Gers, Schraudolph & Schmidhuber (2002), in the form of Greff et al. (2017), section II.
    check("network n { input x : vector(3)  h = lstm_peephole(x; 5)  output h }", |w, xs| {
        let (mut h, mut c) = (zeros(5), zeros(5));
        let peephole = |name: &str, c: &[f64]| times(&w.vector(name), c);
        xs.iter()
            .map(|x| {
                let i = sigmoid(&add(&gate(w, "i", x, &h), &peephole("h.i.diag.c[t-1]", &c)));
                let f = sigmoid(&add(&gate(w, "f", x, &h), &peephole("h.f.diag.c[t-1]", &c)));
                let z = tanh(&gate(w, "z", x, &h));
                c = add(&times(&z, &i), &times(&c, &f));
                let o = sigmoid(&add(&gate(w, "o", x, &h), &peephole("h.o.diag.c", &c)));
                h = times(&tanh(&c), &o);
                h.clone()
            })
            .collect()
    });
}

#[test]
fn lstm_coupled_forgets_what_it_does_not_take_in() {
    // Greff et al. (2017), section III.B, CIFG, without peepholes: one gate, of which the other is the rest.
    check("network n { input x : vector(3)  h = lstm_coupled(x; 5)  output h }", |w, xs| {
        let (mut h, mut c) = (zeros(5), zeros(5));
        xs.iter()
            .map(|x| {
                let f = sigmoid(&gate(w, "f", x, &h));
                let z = tanh(&gate(w, "z", x, &h));
                c = add(&times(&z, &rest(&f)), &times(&c, &f));
                let o = sigmoid(&gate(w, "o", x, &h));
                h = times(&tanh(&c), &o);
                h.clone()
            })
            .collect()
    });
}

#[test]
fn lstm_projected_is_that_of_sak_senior_and_beaufays() {
    // Sak, Senior & Beaufays (2014), section 2.2: what the gates read is the recurrent projection r.
    check("network n { input x : vector(3)  h = lstm_projected(x; 6, 4)  output h }", |w, xs| {
        let (mut r, mut c) = (zeros(4), zeros(6));
        let gate = |name: &str, x: &[f64], r: &[f64]| {
            let from_x = w.product(&format!("h.{name}.W.x"), x);
            let from_r = w.product(&format!("h.{name}.W.r[t-1]"), r);
            sum(&[from_x, from_r, w.vector(&format!("h.{name}.bias"))])
        };
        let peephole = |name: &str, c: &[f64]| times(&w.vector(name), c);
        xs.iter()
            .map(|x| {
                let i = sigmoid(&add(&gate("i", x, &r), &peephole("h.i.diag.c[t-1]", &c)));
                let f = sigmoid(&add(&gate("f", x, &r), &peephole("h.f.diag.c[t-1]", &c)));
                c = add(&times(&f, &c), &times(&i, &tanh(&gate("z", x, &r))));
                let o = sigmoid(&add(&gate("o", x, &r), &peephole("h.o.diag.c", &c)));
                let m = times(&o, &tanh(&c));
                r = w.product("h.r.W.h", &m);
                r.clone()
            })
            .collect()
    });
}

#[test]
fn lstm_layer_norm_is_that_of_ba_kiros_and_hinton() {
    // Ba, Kiros & Hinton (2016), equations 20 to 22: all four gates' sums are normalized together.
    check("network n { input x : vector(3)  h = lstm_layer_norm(x; 5)  output h }", |w, xs| {
        let (mut h, mut c) = (zeros(5), zeros(5));
        let norm = |name: &str, a: &[f64]| {
            let gained = times(&w.vector(&format!("{name}.gain")), &normalized(a));
            add(&gained, &w.vector(&format!("{name}.bias")))
        };
        xs.iter()
            .map(|x| {
                let from_h = norm("h.sums.layer_norm", &w.product("h.sums.W.h[t-1]", &h));
                let from_x = norm("h.sums.layer_norm2", &w.product("h.sums.W2.x", x));
                let sums = sum(&[from_h, from_x, w.vector("h.sums.param")]);
                let [f, i, o, g] = [&sums[..5], &sums[5..10], &sums[10..15], &sums[15..]];
                c = add(&times(&sigmoid(f), &c), &times(&sigmoid(i), &tanh(g)));
                h = times(&sigmoid(o), &tanh(&norm("h.h.layer_norm", &c)));
                h.clone()
            })
            .collect()
    });
}

#[test]
fn janet_has_a_forget_gate_alone() {
    // van der Westhuizen & Lasenby (2018), equations 7: s - beta opens the input, beta = 1.
    check("network n { input x : vector(3)  h = janet(x; 5)  output h }", |w, xs| {
        let mut c = zeros(5);
        xs.iter()
            .map(|x| {
                let s = gate(w, "s", x, &c);
                let candidate = tanh(&gate(w, "z", x, &c));
                let open = map(&s, |s| 1.0 - logistic(s - 1.0));
                c = add(&times(&sigmoid(&s), &c), &times(&open, &candidate));
                c.clone()
            })
            .collect()
    });
}

#[test]
fn ran_adds_gated_inputs_and_nothing_else() {
    // Lee, Levy & Zettlemoyer (2017), equations 1: the content is a linear function of the input alone.
    check("network n { input x : vector(3)  h = ran(x; 5)  output h }", |w, xs| {
        let (mut h, mut c) = (zeros(5), zeros(5));
        xs.iter()
            .map(|x| {
                let content = w.product("h.z.W.x", x);
                let i = sigmoid(&gate(w, "i", x, &h));
                let f = sigmoid(&gate(w, "f", x, &h));
                c = add(&times(&i, &content), &times(&f, &c));
                h = tanh(&c);
                h.clone()
            })
            .collect()
    });
}

#[test]
fn slstm_has_exponential_gates_and_heads() {
    // Beck et al. (2024), equations 8 to 14, without the stabilizer of equations 15 to 17, which changes nothing
    // but the range of the numbers.
    check("network n { input x : vector(3)  h = slstm(x; 6, heads = 2)  output h }", |w, xs| {
        let (mut h, mut c, mut n) = (zeros(6), zeros(6), zeros(6));
        let gate = |name: &str, x: &[f64], h: &[f64]| {
            let from_x = w.product(&format!("h.{name}.W.x"), x);
            let recurrent = format!("h.{name}.W2.h[t-1]");
            assert_eq!(w.heads(&recurrent), 2);
            sum(&[from_x, w.product(&recurrent, h), w.vector(&format!("h.{name}.bias"))])
        };
        xs.iter()
            .map(|x| {
                let i = map(&gate("i", x, &h), f64::exp);
                let f = map(&gate("f", x, &h), f64::exp);
                let z = tanh(&gate("z", x, &h));
                let o = sigmoid(&gate("o", x, &h));
                c = add(&times(&f, &c), &times(&i, &z));
                n = add(&times(&f, &n), &i);
                h = times(&o, &over(&c, &n));
                h.clone()
            })
            .collect()
    });
}

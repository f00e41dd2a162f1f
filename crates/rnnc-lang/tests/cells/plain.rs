//! Cells without gates.

use crate::maths::*;
use crate::support::check;

pub const CELLS: &[&str] = &["indrnn", "scrn", "tdnn", "dilated_rnn"];

#[test]
fn indrnn_has_one_recurrent_weight_per_unit() {
    // Li et al. (2018), equation 2, with the rectifier.
    check("network n { input x : vector(3)  h = indrnn(x; 5)  output h }", |w, xs| {
        let mut h = zeros(5);
        xs.iter()
            .map(|x| {
                let recurrent = times(&w.vector("h.h.diag.h[t-1]"), &h);
                let s = sum(&[w.product("h.h.W.x", x), recurrent, w.vector("h.h.bias")]);
                h = map(&s, |s| s.max(0.0));
                h.clone()
            })
            .collect()
    });
}

#[test]
fn scrn_has_a_slow_context() {
    // Mikolov et al. (2014), equations 4 and 5, alpha = 0.95.
    check("network n { input x : vector(3)  h = scrn(x; 5, 2)  output h }", |w, xs| {
        let (mut h, mut s) = (zeros(5), zeros(2));
        xs.iter()
            .map(|x| {
                s = add(&scaled(0.05, &w.product("h.s.W.x", x)), &scaled(0.95, &s));
                let from_x = w.product("h.h.W.x", x);
                h = sigmoid(&sum(&[w.product("h.h.W.s", &s), from_x, w.product("h.h.W.h[t-1]", &h)]));
                h.clone()
            })
            .collect()
    });
}

#[test]
fn tdnn_sees_a_window_of_frames() {
    // Waibel et al. (1989), section III: the present frame and the two before it.
    check("network n { input x : vector(3)  h = tdnn(x; 5)  output h }", |w, xs| {
        (0..xs.len())
            .map(|t| {
                let mut s = add(&w.product("h.h.W.x", &xs[t]), &w.vector("h.h.bias"));
                for k in 1..=2.min(t) {
                    s = add(&s, &w.product(&format!("h.h.W.x[t-{k}]"), &xs[t - k]));
                }
                sigmoid(&s)
            })
            .collect()
    });
}

#[test]
fn dilated_rnn_skips_frames() {
    // Chang et al. (2017), equation 2, with a tanh cell.
    check("network n { input x : vector(3)  h = dilated_rnn(x; 5, d = 3)  output h }", |w, xs| {
        let mut hs: Vec<Vector> = Vec::new();
        for (t, x) in xs.iter().enumerate() {
            let before = if t < 3 { zeros(5) } else { hs[t - 3].clone() };
            let s = sum(&[w.product("h.h.W.x", x), w.product("h.h.W.h[t-3]", &before), w.vector("h.h.bias")]);
            hs.push(tanh(&s));
        }
        hs
    });
}

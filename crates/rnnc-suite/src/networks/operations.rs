//! Networks that show what layers compute: functions, products, quotients, and functions of vectors.

use crate::net::{Net, part};
use rnnc_graph::Activation::{
    self, Cos, Cosh, Exp, Expm1, Gelu, Identity, Log, Log1p, Sigmoid, Silu, Sin, Sinh, Sqrt, Square, Tanh,
};
use rnnc_graph::ops::Relation;
use rnnc_graph::{Connect, ConnectionKind, Graph, Operation, Range, Start};

pub fn feed_forward(m: usize, n: usize) -> Graph {
    let mut net = Net::new("feed_forward");
    let x = net.graph.input("x", m);
    let also = net.graph.input("also", 2);
    let a = net.dense("a", n, Gelu, &[(x, 0), (also, 0), (x, 2)]);
    let b = net.dense("b", n, Silu, &[(a, 0), (a, 1), (also, 3)]);
    net.output(x);
    net.output(b);
    let y = net.dense("y", 1, Identity, &[(b, 0), (a, 0)]);
    net.out(y)
}

pub fn quotient(m: usize, n: usize) -> Graph {
    let mut net = Net::new("quotient");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let b = net.dense("b", n, Sigmoid, &[(x, 0)]);
    let below = net.sum("below", n, Identity);
    net.graph.connect_constant(1.0, below);
    net.add(b, below, 1.0, 0);
    let q = net.graph.operation("q", n, Operation::Divide);
    net.add(a, q, 1.0, 0);
    net.add(below, q, 1.5, 0);
    // The quotient of weighted terms, and by a constant.
    let ratio = net.graph.operation("ratio", n, Operation::Divide);
    net.full(q, ratio, 1);
    net.graph.connect_constant(0.5, ratio);
    net.add(ratio, a, 0.5, 1);
    net.out(ratio)
}

pub fn max_and_min(m: usize, n: usize) -> Graph {
    let mut net = Net::new("max_and_min");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let b = net.dense("b", n, Identity, &[(x, 0)]);
    let high = net.operation("high", n, Operation::Max, &[(a, 0), (b, 1)]);
    let low = net.operation("low", n, Operation::Min, &[(b, 0), (high, 2)]);
    net.full(low, a, 1);
    let clipped = net.graph.operation("clipped", n, Operation::Min);
    net.add(low, clipped, 1.0, 0);
    net.graph.connect_constant(0.3, clipped);
    net.output(clipped);
    net.out(high)
}

/// Choices in a scan, in a loop, and of what is no number where it is not taken.
pub fn choices(m: usize, n: usize) -> Graph {
    let mut net = Net::new("choices");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let b = net.dense("b", n, Identity, &[(x, 0), (x, 1)]);
    let less = net.operation("less", n, Operation::Compare { relation: Relation::Less }, &[(a, 0), (b, 0)]);
    // h = where(a < b, 0.9 h[t-1], b): a scan.
    let h = net.sum("h", n, Identity);
    let kept = net.graph.operation("kept", n, Operation::When);
    net.add(h, kept, 0.9, 1);
    net.add(less, kept, 1.0, 0);
    let new = net.operation("new", n, Operation::Unless, &[(b, 0), (less, 0)]);
    net.add(kept, h, 1.0, 0);
    net.add(new, h, 1.0, 0);
    // l = where(a <= l[t-1], dense(l[t-1]), h): a loop. (h is often close to l, and rounding would choose.)
    let l = net.sum("l", n, Tanh);
    let most = net.operation("most", n, Operation::Compare { relation: Relation::AtMost }, &[(a, 0), (l, 1)]);
    let again = net.dense("again", n, Identity, &[(l, 1)]);
    let first = net.operation("first", n, Operation::When, &[(again, 0), (most, 0)]);
    let second = net.operation("second", n, Operation::Unless, &[(h, 0), (most, 0)]);
    net.add(first, l, 1.0, 0);
    net.add(second, l, 1.0, 0);
    // Where it is negative, its logarithm is NaN, which goes nowhere. (About 0, rounding would make much of it.)
    let log = net.sum("log", n, Log);
    net.add(b, log, 1.0, 0);
    let low = net.graph.operation("low", n, Operation::Compare { relation: Relation::Less });
    net.add(b, low, 1.0, 0);
    net.graph.connect_constant(0.5, low);
    let some = net.operation("some", n, Operation::Unless, &[(log, 0), (low, 0)]);
    // Away from 0, where a quotient is large.
    let divisor = net.sum("divisor", n, Identity);
    net.add(a, divisor, 0.5, 0);
    net.graph.connect_constant(1.0, divisor);
    let rest = net.operation("rest", n, Operation::Mod, &[(l, 0), (divisor, 0)]);
    net.output(h);
    net.output(some);
    net.output(rest);
    net.out(l)
}

/// Where x is negative, log(x) is NaN, and then nothing is known.
pub fn known(m: usize, n: usize) -> Graph {
    let mut net = Net::new("known");
    let x = net.graph.input("x", m);
    let log = net.sum("log", m, Log);
    net.add(x, log, 1.0, 0);
    let a = net.dense("a", m, Tanh, &[(x, 0)]);
    let known = net.operation("known", m, Operation::Known, &[(a, 0), (log, 0)]);
    // NaN itself where it is not known, and there the derivative, 1 / x, is a number.
    let b = net.operation("b", m, Operation::Known, &[(log, 0), (log, 0)]);
    net.full(known, a, 1);
    let y = net.dense("y", n, Identity, &[(known, 0), (b, 0)]);
    net.output(known);
    net.out(y)
}

pub fn softmax_groups(m: usize, n: usize) -> Graph {
    let mut net = Net::new("softmax_groups");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Identity, &[(x, 0), (x, 1)]);
    let soft = net.operation("soft", n, Operation::Softmax { groups: part(n) }, &[(a, 0)]);
    let log = net.operation("log", n, Operation::LogSoftmax { groups: part(n) }, &[(a, 1)]);
    let whole = net.operation("whole", n, Operation::LogSoftmax { groups: 1 }, &[(soft, 0)]);
    net.output(log);
    net.output(soft);
    net.out(whole)
}

pub fn normalize_groups(m: usize, n: usize) -> Graph {
    let mut net = Net::new("normalize_groups");
    let x = net.graph.input("x", m);
    // Four times the size, so that each group has something to normalize.
    let n = 4 * n;
    let a = net.dense("a", n, Tanh, &[(x, 0), (x, 1)]);
    let layer = Operation::Normalize { groups: 4, center: true, epsilon: 1e-2 };
    let b = net.operation("b", n, layer, &[(a, 0)]);
    let rms = Operation::Normalize { groups: 2, center: false, epsilon: 1e-2 };
    let c = net.operation("c", n, rms, &[(a, 1)]);
    let y = net.sum("y", n, Identity);
    net.diagonal(b, y, 0);
    net.diagonal(c, y, 0);
    net.bias(y);
    net.out(y)
}

pub fn group_sums(m: usize, n: usize) -> Graph {
    let mut net = Net::new("group_sums");
    let x = net.graph.input("x", m);
    let groups = part(n);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let sums = net.operation("sums", groups, Operation::GroupSum { groups }, &[(a, 0)]);
    // A sum over a part of the units, and one inside a loop.
    let some = net.graph.operation("some", 1, Operation::GroupSum { groups: 1 });
    let tail = Range::new(n / 2, n - n / 2);
    net.graph.connect(a, some, Connect::scaled(0.5).from(tail).to(Range::new(0, tail.len)));
    net.graph.connect(sums, a, Connect::new(ConnectionKind::Broadcast { scale: -0.3 }).delay(1));
    net.output(some);
    net.out(sums)
}

/// Products of weighted terms, constants, the same layer twice, and delayed factors.
pub fn products(m: usize, n: usize) -> Graph {
    let mut net = Net::new("products");
    let x = net.graph.input("x", m);
    let a = net.dense("a", n, Tanh, &[(x, 0)]);
    let p = net.graph.product("p", n, Tanh);
    net.full(a, p, 0);
    net.diagonal(a, p, 1);
    net.graph.connect_constant(1.5, p);
    let s = net.graph.product("s", n, Identity);
    net.add(p, s, 0.8, 0);
    net.add(p, s, 1.0, 0);
    net.add(a, s, -1.0, 2);
    let alone = net.graph.product("alone", n, Sigmoid);
    net.add(s, alone, 3.0, 1);
    net.full(alone, a, 1);
    net.output(s);
    net.out(alone)
}

pub fn dropout(m: usize, n: usize) -> Graph {
    let mut net = Net::new("dropout");
    let x = net.graph.input("x", m);
    let inner = net.mask("inner", n, 0.3);
    let outer = net.mask("outer", n, 0.5);
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    let dropped = net.product("dropped", &[(h, 1), (inner, 0)]);
    net.full(dropped, h, 0);
    let y = net.product("y", &[(h, 0), (outer, 0)]);
    net.out(y)
}

pub fn function(f: Activation, m: usize, n: usize) -> Graph {
    let mut net = Net::new(f.name());
    let x = net.graph.input("x", m);
    let h = net.dense("h", n, Tanh, &[(x, 0)]);
    let argument = match f {
        // Only what is positive has a logarithm or a derivative of its root.
        Log | Log1p | Sqrt => {
            let square = net.map("square", Square, h);
            let above = net.sum("above", n, Identity);
            net.add(square, above, 1.0, 0);
            net.graph.connect_constant(0.5, above);
            above
        }
        _ => {
            let wide = net.sum("wide", n, Identity);
            net.diagonal(h, wide, 0);
            // Wide enough to reach both ends of the hard functions; what grows is kept from growing too far, and what
            // swings from chaos.
            net.add(
                h,
                wide,
                if matches!(f, Exp | Expm1 | Sinh | Cosh | Square | Sin | Cos) { 0.6 } else { 4.0 },
                0,
            );
            wide
        }
    };
    let inside = net.map("inside", f, argument);
    net.diagonal(inside, h, 1);
    let product = net.graph.product("product", n, f);
    net.add(argument, product, 1.0, 0);
    net.add(argument, product, 1.0, 1);
    // The logarithm of a product needs a start above 0, as the derivative of its root does.
    net.graph.set_start(argument, Start::Constant(0.8));
    net.output(inside);
    net.out(product)
}

/// An operation of layers that its own value reaches a frame later, and once more of layers that it does not reach.
pub fn operation(operation: Operation, m: usize, n: usize) -> Graph {
    let mut net = Net::new("operation");
    let x = net.graph.input("x", m);
    let symbol = operation.symbol().map(|_| net.graph.symbol("symbol", 2 * n));
    // An even number of units, so that they fall into groups.
    let size = 2 * n;
    for name in ["inside", "outside"] {
        let mut parts = Vec::new();
        let operands: Vec<_> = (0..operation.operands())
            .map(|operand| match symbol {
                Some(symbol) if operation.symbol() == Some(operand) => symbol,
                _ => {
                    // Away from 0, whatever comes back, for what divides by it.
                    let part = net.dense(&format!("{name}.part{operand}"), size, Sigmoid, &[(x, 0)]);
                    let above = net.sum(&format!("{name}.above{operand}"), size, Identity);
                    net.diagonal(part, above, 0);
                    net.add(part, above, 2.0, 0);
                    net.graph.connect_constant(0.7, above);
                    parts.push(part);
                    above
                }
            })
            .collect();
        let units = match operation.changes_size() {
            true => {
                (1..=size).find(|&units| operation.check_sizes(&vec![size; operands.len()], units).is_ok())
            }
            false => Some(size),
        };
        let reads: Vec<_> = operands.into_iter().map(|operand| (operand, 0)).collect();
        let value = net.operation(name, units.unwrap_or(size), operation, &reads);
        if name == "inside" {
            parts.into_iter().for_each(|part| net.full(value, part, 1));
        }
        net.output(value);
    }
    net.graph
}

//! The cells of the language's library, each as a network, and a few other networks in the language.

use rnnc_graph::Graph;

/// A network for each cell of the library, with m units of input and n of the cell.
///
/// # Panics
/// If a cell of the library does not compile.
pub fn cell_networks(m: usize, n: usize) -> Vec<(String, Graph)> {
    let cells = rnnc_lang::cells().iter().map(|cell| {
        // Some cells have a second size.
        let sizes = if cell.text.contains("(x; n, m") { format!("{n}, {}", n + 1) } else { n.to_string() };
        // These read their input unit by unit, so the sizes must agree.
        let x =
            if ["sru", "rg_lru"].contains(&cell.name) { format!("dense(x; {n})") } else { "x".to_owned() };
        (format!("cell_{}", cell.name), format!("h = {}({x}; {sizes})", cell.name))
    });
    let others = [
        ("bidirectional_lstm", format!("h = concat(lstm(x; {n}), reversed lstm(x; {n}))")),
        ("stacked_cells", format!("a = lstm_peephole(x; {n}) b = gru(a; {n}) h = sru(b; {n})")),
        ("residual_cells", format!("a = gru_reset_after(x; {n}) b = lstm(a; {n}) h = layer_norm(a + b)")),
        ("order_of_operations", order_of_operations(n)),
    ];
    cells
        .chain(others.map(|(name, body)| (name.to_owned(), body)))
        .map(|(name, body)| {
            let text = format!("network {name} {{ input x: vector({m}) {body} output h }}");
            match rnnc_lang::compile(&name, &text, None) {
                Ok(graph) => (name, graph),
                Err(errors) => panic!("{}", errors.render(false)),
            }
        })
        .collect()
}

/// Equations whose results in single precision are right in the order that is written, and in another lost.
fn order_of_operations(n: usize) -> String {
    format!(
        "u = tanh(dense(x; {n}))
        one = stop_gradient(exp(0 * u))
        large = one * 1000000
        huge = one * 1000000000000000000000000000000
        tiny = one * 0.000000000000000000000000000001
        a = u + (one - 1) * 1000000
        b = u - (1000000 - large)
        c = u * (huge * (huge * tiny * tiny))
        d = u * tiny * 1000000000000000000000000000000 * 3
        e = tanh(dense(u, e[t-1]; {n}) + (large - 1000000))
        h = a + b + c + d + e"
    )
}

mod nets;
use rnnc_plan::{Plan, PlanOptions, report};
#[test]
fn show() {
    let which = std::env::var("NET").unwrap_or_default();
    let g = match which.as_str() {
        "peep" => nets::lstm(40, 256, true), "text" => nets::text_model(256, 256), "gru" => nets::gru(40, 256),
        "after" => nets::gru_reset_after(40, 256), "sru" => nets::sru(40, 256), "elman4" => nets::elman(40, 256, 4),
        "towers" => nets::two_towers(40, 256), "heads" => nets::heads(40, 256, 4), "bi" => nets::bidirectional(40, 256),
        "softmax" => nets::softmax_loop(40, 256),
        _ => nets::lstm(40, 256, false),
    };
    let mut o = PlanOptions::training(1, 256);
    o.workers = 2;
    let plan = Plan::new(&g, o).unwrap();
    println!("{}", report::text(&plan));
}

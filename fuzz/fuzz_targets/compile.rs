//! Any text is taken or refused: `cargo +nightly fuzz run compile fuzz/corpus/compile crates/rnnc-lang/cells`.
//! What is taken is a graph that passes its own checks; what is refused can be shown.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    compile(text);
    // A cell of the library, spoilt, with something that calls it.
    let name =
        text.split_once("cell ").and_then(|(_, rest)| rest.split_once('(')).map_or("", |(name, _)| name);
    compile(&format!("{text}\nnetwork n {{ input x : vector(4)  y = {name}(x; 4)  output y }}"));
});

fn compile(text: &str) {
    match rnnc_lang::compile("fuzz.rnn", text, None) {
        Ok(graph) => assert!(!graph.outputs().is_empty()),
        Err(errors) => assert!(errors.render(true).contains("error")),
    }
}

//! The examples of the language's document, `docs/language.md`, and of the README are true.

const DOCUMENT: &str = include_str!("../../../docs/language.md");
const README: &str = include_str!("../../../README.md");

/// Compiles the fenced examples; returns how many there are.
fn compile_examples(name: &str, document: &str) -> usize {
    let after = document.split("```rnn\n").skip(1);
    let examples = after.map(|rest| rest.split_once("```").expect("every fence is closed").0);
    examples
        .map(|example| {
            if let Err(errors) = rnnc_lang::compile(name, example, None) {
                panic!("{errors}");
            }
        })
        .count()
}

#[test]
fn every_example_of_the_document_compiles() {
    assert!(compile_examples("docs/language.md", DOCUMENT) >= 6);
}

#[test]
fn the_example_of_the_readme_compiles() {
    assert_eq!(compile_examples("README.md", README), 1);
}

#[test]
fn the_readme_counts_the_cells() {
    let text = README.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(&format!("{} cells come with it", rnnc_lang::cells().len())));
}

#[test]
fn the_document_names_every_function() {
    for function in rnnc_graph::Activation::called() {
        assert!(DOCUMENT.contains(function.name()), "{}", function.name());
    }
    let version = format!("version {}", rnnc_lang::LANGUAGE_VERSION);
    assert!(DOCUMENT.contains(&version));
    assert_eq!(rnnc_lang::MAX_LAYERS, 500_000, "the document says so");
}

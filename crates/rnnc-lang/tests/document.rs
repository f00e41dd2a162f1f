//! The examples of the language's document, `docs/language.md`, are true.

const DOCUMENT: &str = include_str!("../../../docs/language.md");

/// The fenced examples.
fn examples() -> Vec<&'static str> {
    let after = DOCUMENT.split("```rnn\n").skip(1);
    after.map(|rest| rest.split_once("```").expect("every fence is closed").0).collect()
}

#[test]
fn every_example_of_the_document_compiles() {
    assert!(examples().len() >= 6);
    for example in examples() {
        if let Err(errors) = rnnc_lang::compile("docs/language.md", example, None) {
            panic!("{errors}");
        }
    }
}

#[test]
fn the_document_names_every_function() {
    for function in rnnc_graph::Activation::ALL.into_iter().skip(1) {
        assert!(DOCUMENT.contains(function.name()), "{}", function.name());
    }
    let version = format!("version {}", rnnc_lang::LANGUAGE_VERSION);
    assert!(DOCUMENT.contains(&version));
    assert_eq!(rnnc_lang::MAX_LAYERS, 200_000, "the document says so");
}

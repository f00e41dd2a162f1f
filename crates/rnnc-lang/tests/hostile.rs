//! Random texts: none panics, none hangs, every error can be shown.

use proptest::prelude::*;
use proptest::test_runner::contextualize_config;

/// Takes or refuses a text, and shows the errors.
fn survives(text: &str) {
    if let Err(errors) = rnnc_lang::compile("random.rnn", text, None) {
        assert!(!errors.diagnostics().is_empty());
        assert!(errors.render(false).contains("error"));
        errors.render(true);
    }
}

/// Networks of the library's cells, to be spoilt.
fn programs() -> Vec<String> {
    let mut programs: Vec<String> = rnnc_lang::cells()
        .iter()
        .map(|cell| {
            let own = cell.text.replace(&format!("cell {}(", cell.name), "cell own(");
            let m = if own.contains("; n, m") { ", m = 8" } else { "" };
            let y = format!("y = concat(a, reversed own(x; 8{m}))  start y = learned  output y");
            format!("{own}network n {{ input x : vector(8)  a = own(x; 8{m})  {y} }}")
        })
        .collect();
    programs.push(
        "network s { input x : symbol(9)  y = softmax(dense(x, x[t+1]; 4) / 3; groups = 2)  output y }"
            .into(),
    );
    programs
}

/// Where a text can be cut.
fn borders(text: &str) -> Vec<usize> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut borders: Vec<usize> = text
        .char_indices()
        .zip(text.chars().skip(1))
        .filter(|((_, a), b)| !(word(*a) && word(*b)))
        .map(|((i, a), _)| i + a.len_utf8())
        .collect();
    borders.push(text.len());
    borders
}

proptest! {
    #![proptest_config(contextualize_config(ProptestConfig { cases: 512, ..ProptestConfig::default() }))]

    #[test]
    fn any_string_is_taken_or_refused(text in "\\PC{0,200}") {
        survives(&text);
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_words_of_the_language_are_taken_or_refused(words in prop::collection::vec(prop::sample::select(vec![
        "cell", "network", "input", "output", "return", "start", "reversed", "symbol", "vector", "learned", "none",
        "rnn", "t", "x", "y", "h", "n", "f", "dense", "diag", "param", "tanh", "max", "sum", "concat", "slice", "lstm",
        "softmax", "layer_norm", "dropout", "broadcast", "stop_gradient", "(", ")", "{", "}", "[", "]", ",", ";", ":",
        "=", "+", "-", "*", "/", ".", "0", "1", "2", "4", "0.5", "1e9", "1e300", "#", "\n",
    ]), 0..80)) {
        survives(&words.join(" "));
        survives(&format!("network n {{ input x : vector(4) {} output x }}", words.join(" ")));
        survives(&format!("network n {{ input x : vector(4) y = x {} output y }}", words.concat()));
    }

    #[test]
    fn spoilt_programs_are_taken_or_refused(
        choice in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..3u8), 1..6),
    ) {
        let programs = programs();
        let mut text = programs[choice.index(programs.len())].clone();
        for (from, to, at, edit) in edits {
            let borders = borders(&text);
            let (mut a, mut b) = (borders[from.index(borders.len())], borders[to.index(borders.len())]);
            if a > b {
                std::mem::swap(&mut a, &mut b);
            }
            let at = borders[at.index(borders.len())];
            match edit {
                0 if b - a < 40 => text.replace_range(a..b, ""),
                1 => {
                    let part = text[a..b].to_owned();
                    text.insert_str(at, &part);
                }
                _ => {
                    // One word in place of another.
                    let end = borders.iter().copied().find(|&border| border > a).unwrap_or(a);
                    let word = text[a..end].to_owned();
                    let other = borders.iter().copied().find(|&border| border > at).unwrap_or(at);
                    text.replace_range(at..other, &word);
                }
            }
        }
        survives(&text);
    }
}

#[test]
fn programs_are_good_before_they_are_spoilt() {
    for program in programs() {
        assert_eq!(rnnc_lang::compile("good.rnn", &program, None).err(), None);
    }
}

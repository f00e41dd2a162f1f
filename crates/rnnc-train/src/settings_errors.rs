//! What is wrong with a text of settings: what the TOML reader says, and what to write instead.

use crate::config::Config;
use rnnc_graph::nearest;

const SECTIONS: [&str; 4] = ["network", "data", "training", "run"];

/// The error with its line, and help.
pub(crate) fn explain(error: &toml::de::Error, text: &str) -> String {
    let shown = plain(error.to_string().trim_end());
    match help(error, text) {
        Some(help) => format!("{shown}\n  = help: {help}"),
        None => shown,
    }
}

/// The types of settings, in words.
fn plain(message: &str) -> String {
    let words = [
        ("expected usize", "expected a whole number, at least 0"),
        ("expected u64", "expected a whole number, at least 0"),
        ("expected f64", "expected a number"),
        ("expected a sequence", "expected a list"),
        (" as i128", ""),
    ];
    words.iter().fold(message.to_owned(), |message, (from, to)| message.replace(from, to))
}

fn help(error: &toml::de::Error, text: &str) -> Option<String> {
    let message = error.message();
    let line = error.span().map_or("", |span| line_of(text, span.start));
    let (key, value) = match line.split_once('=') {
        Some((key, value)) => (key.trim(), value.trim()),
        None => (line.trim(), ""),
    };
    let quoted = || message.split('`').nth(1).unwrap_or_default();
    if message.starts_with("unknown field") {
        return of_unknown(quoted(), &listed(message));
    }
    if message.starts_with("unknown variant") {
        let known = listed(message);
        let name = quoted();
        let meant = match name {
            "mse" | "l2" | "mean_square_error" => Some("mean_squared_error"),
            "ce" | "nll" | "softmax" | "crossentropy" | "cross-entropy" => Some("cross_entropy"),
            "cos" => Some("cosine"),
            "npz" | "numpy" | "array" => Some("arrays"),
            "txt" | "bytes" | "characters" => Some("text"),
            _ => None,
        };
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let meant = meant.filter(|m| known.contains(m)).or_else(|| nearest(name, known));
        return meant.map(|meant| format!("did you mean `{meant}`?"));
    }
    if message.starts_with("missing field") {
        let name = quoted();
        return Some(match SECTIONS.contains(&name) {
            true => format!("write a section `[{name}]`; `rnnc new DIR` makes settings to begin with"),
            false => format!("write `{name} = ...` in this section: it has no default"),
        });
    }
    if message.starts_with("duplicate key") {
        return Some("it is there twice: leave out one".into());
    }
    if message.starts_with("invalid type: string") && message.contains("boolean") {
        return Some(format!("write `{key} = true` or `{key} = false`, without quotes"));
    }
    if message.starts_with("invalid type: string") && message.contains("sequence") {
        return Some(format!("a list stands in square brackets: `{key} = [{value}]`"));
    }
    let bare = value.split('#').next().unwrap_or_default().trim();
    let is_of_files = bare.starts_with(['"', '\'', '[']) && message.contains("expected f64");
    if matches!(key, "validation" | "test")
        && is_of_files
        && bare.trim_matches(['"', '\'']).parse::<f64>().is_err()
    {
        let files = bare.trim_matches(['[', ']']);
        return Some(format!(
            "`{key}` is a share of the data, as in `{key} = 0.05`; files of their own are given by `{key}_files = [{files}]`"
        ));
    }
    if message.starts_with("invalid type: string") && value.starts_with(['"', '\'']) {
        let unquoted = bare.trim_matches(['"', '\'']);
        return Some(match unquoted.parse::<f64>() {
            Ok(_) => format!("numbers stand without quotes: `{key} = {unquoted}`"),
            Err(_) => "a number belongs here, without quotes".into(),
        });
    }
    if message.starts_with("invalid type: floating point")
        && (message.contains("usize") || message.contains("u64"))
    {
        return Some("write it without a point and without an exponent, as in `1000`".into());
    }
    if message.starts_with("invalid basic string") || message.starts_with("invalid literal string") {
        return Some("is the quote that ends it missing?".into());
    }
    if message.starts_with("key with no value") {
        return Some("a setting is written `window = 8`, a section `[training]`".into());
    }
    if line.trim_start().starts_with('{') {
        return Some(
            "settings are TOML, not JSON: `[network]`, and below it `file = \"network.rnn\"`".into(),
        );
    }
    of_value(key, value, message)
}

/// What to write instead of a value that is none.
fn of_value(key: &str, value: &str, message: &str) -> Option<String> {
    if value.is_empty() || value.starts_with('#') {
        return Some(format!("write a value: `{key} = ...`"));
    }
    let unquoted = ["string values must be quoted", "invalid float", "invalid boolean", "invalid array"];
    if message.starts_with("unexpected key or value") && value.contains(',') && !value.starts_with(['"', '['])
    {
        return Some(format!("numbers have no commas: `{key} = {}`", value.replace(',', "")));
    }
    if !unquoted.iter().any(|m| message.starts_with(m)) {
        return None;
    }
    if let Some((_, _)) = value.split_once("//") {
        return Some("a comment begins with `#`".into());
    }
    if let Some(share) = value.strip_suffix('%')
        && let Ok(share) = share.trim().parse::<f64>()
    {
        return Some(format!("write a share of 1: `{key} = {}`", share / 100.0));
    }
    Some(match value {
        "True" | "TRUE" | "yes" | "on" => format!("write `{key} = true`"),
        "False" | "FALSE" | "no" | "off" => format!("write `{key} = false`"),
        _ if value.contains(['“', '”', '‘', '’']) => "write plain quotes: `\"`".into(),
        _ => match value.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
            Some(inside) => {
                let words: Vec<String> =
                    inside.split(',').map(|word| format!("\"{}\"", word.trim().trim_matches('"'))).collect();
                format!("words and paths stand in quotes: `{key} = [{}]`", words.join(", "))
            }
            None => format!("words and paths stand in quotes: `{key} = \"{value}\"`"),
        },
    })
}

/// What is meant by a setting, or a section, that there is none of.
fn of_unknown(name: &str, known: &[String]) -> Option<String> {
    let other_name = match name {
        "lr" | "rate" | "alpha" => "learning_rate",
        "batch" | "batch_size" | "batchsize" | "minibatch" => "streams",
        "epochs" | "epoch" | "steps" | "iterations" | "num_updates" | "max_steps" | "n_updates" => "updates",
        "seq_len" | "seq_length" | "sequence_length" | "bptt" | "unroll" | "tbptt" => "window",
        "clip" | "grad_clip" | "max_norm" | "clip_grad_norm" | "max_grad_norm" | "gradient_clip" => {
            "clip_norm"
        }
        "beta" | "beta1" | "beta2" | "momentum" => "betas",
        "eps" => "epsilon",
        "scheduler" | "schedule" | "lr_schedule" => "decay",
        "warmup_steps" => "warmup",
        "device" | "backend" => "executor",
        "num_threads" | "workers" | "num_workers" => "threads",
        "save_every" | "checkpoint_interval" => "checkpoint_every",
        "eval_every" => "validate_every",
        "out" | "output_dir" | "dir" | "save_dir" => "directory",
        "path" | "paths" | "file" | "text" => "files",
        "val" | "valid" | "dev" | "val_split" | "validation_split" => "validation",
        "train" | "trainer" | "optimizer" | "optim" => "training",
        "model" | "net" => "network",
        "dataset" => "data",
        "init" | "checkpoint" => "weights",
        _ => name,
    };
    let here: Vec<&str> = known.iter().map(String::as_str).collect();
    if here.contains(&other_name) {
        return Some(format!("it is called `{other_name}`"));
    }
    for section in SECTIONS {
        if settings_of(section).iter().any(|s| s == other_name) {
            return Some(format!("`{other_name}` belongs into the section `[{section}]`"));
        }
    }
    nearest(name, here).map(|near| format!("did you mean `{near}`?"))
}

/// The settings of a section, as the reader lists them where it finds another.
fn settings_of(section: &str) -> Vec<String> {
    // No setting has no name.
    match toml::from_str::<Config>(&format!("[{section}]\n\"\" = 0")) {
        Ok(_) => Vec::new(),
        Err(error) => listed(error.message()),
    }
}

/// The names behind `expected`: "unknown field `a`, expected one of `b`, `c`".
fn listed(message: &str) -> Vec<String> {
    let Some((_, names)) = message.split_once("expected") else { return Vec::new() };
    names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn line_of(text: &str, place: usize) -> &str {
    let place = place.min(text.len());
    let start = text.as_bytes()[..place].iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
    let end = text.as_bytes()[place..].iter().position(|&b| b == b'\n').map_or(text.len(), |i| place + i);
    // Both lie beside a line's end, which no character spans.
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    const GOOD: &str = "[network]\nfile = \"net.rnn\"\n[data]\nkind = \"text\"\nfiles = [\"a.txt\"]\n[training]\nstreams = 2\n\
        window = 8\nupdates = 10\nloss = \"cross_entropy\"\n[run]\noverwrite = true\n";

    #[test]
    fn each_wrong_setting_is_answered_with_what_to_write() {
        assert!(Config::parse(GOOD.into(), Path::new("")).is_ok());
        let cases = [
            // Quotes, lists, numbers.
            ("\"net.rnn\"", "net.rnn", "stand in quotes: `file = \"net.rnn\"`"),
            ("\"text\"", "text", "stand in quotes: `kind = \"text\"`"),
            ("[\"a.txt\"]", "[a.txt, b.txt]", "`files = [\"a.txt\", \"b.txt\"]`"),
            ("[\"a.txt\"]", "\"a.txt\"", "`files = [\"a.txt\"]`"),
            ("\"text\"", "“text”", "write plain quotes"),
            ("\"net.rnn\"", "\"net.rnn", "is the quote that ends it missing?"),
            ("window = 8", "window = \"8\"", "without quotes: `window = 8`"),
            ("window = 8", "window = 8.0", "without a point"),
            ("updates = 10", "updates = 1e3", "without an exponent"),
            ("updates = 10", "updates = 1,000", "numbers have no commas: `updates = 1000`"),
            ("window = 8", "window = -8", "expected a whole number, at least 0"),
            ("overwrite = true", "overwrite = True", "write `overwrite = true`"),
            (
                "overwrite = true",
                "overwrite = \"true\"",
                "`overwrite = true` or `overwrite = false`, without quotes",
            ),
            ("[\"a.txt\"]", "[\"a.txt\"]\nvalidation = 5%", "write a share of 1: `validation = 0.05`"),
            ("window = 8", "window =", "write a value: `window = ...`"),
            ("window = 8", "window = 8\nbetas = [0.9, 0.99, 0.999]", "expected a list of 2 numbers"),
            ("window = 8", "window = 8\nbetas = [0.9]", "expected a list of 2 numbers"),
            // A share of the data, and files of their own.
            ("[\"a.txt\"]", "[\"a.txt\"]\nvalidation = \"val.txt\"", "`validation_files = [\"val.txt\"]`"),
            (
                "[\"a.txt\"]",
                "[\"a.txt\"]\ntest = [\"b.txt\", \"c.txt\"]",
                "`test_files = [\"b.txt\", \"c.txt\"]`",
            ),
            ("[\"a.txt\"]", "[\"a.txt\"]\nvalidation = \"0.1\"", "without quotes: `validation = 0.1`"),
            ("window = 8", "window = \"long\"", "a number belongs here, without quotes"),
            // Signs of other languages.
            ("window = 8", "window: 8", "a setting is written `window = 8`"),
            ("window = 8", "window = 8 // frames", "a comment begins with `#`"),
            ("[network]", "{\"network\": {}}", "settings are TOML, not JSON"),
            // Names.
            ("window = 8", "windows = 8", "did you mean `window`?"),
            ("window = 8", "bptt = 8", "it is called `window`"),
            ("streams = 2", "batch_size = 2", "it is called `streams`"),
            ("updates = 10", "epochs = 10", "it is called `updates`"),
            ("updates = 10", "lr = 0.1", "it is called `learning_rate`"),
            ("overwrite = true", "seed = 3", "`seed` belongs into the section `[training]`"),
            ("overwrite = true", "lr = 3", "`learning_rate` belongs into the section `[training]`"),
            ("[run]", "[train]", "it is called `training`"),
            ("[run]", "[runs]", "did you mean `run`?"),
            ("\"cross_entropy\"", "\"mse\"", "did you mean `mean_squared_error`?"),
            ("\"cross_entropy\"", "\"cross_entropi\"", "did you mean `cross_entropy`?"),
            ("\"text\"", "\"txt\"", "did you mean `text`?"),
            ("window = 8", "", "write `window = ...` in this section"),
            ("[run]\noverwrite = true\n", "[run]\noverwrite = true\noverwrite = true\n", "it is there twice"),
        ];
        for (from, to, help) in cases {
            assert!(GOOD.contains(from), "{from}");
            let error = Config::parse(GOOD.replace(from, to), Path::new("")).unwrap_err();
            assert!(error.contains(help), "{to}\n{error}");
        }
        let without = GOOD.replace("[network]\nfile = \"net.rnn\"\n", "");
        let error = Config::parse(without, Path::new("")).unwrap_err();
        assert!(error.contains("write a section `[network]`"), "{error}");
    }
}

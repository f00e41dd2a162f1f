//! What is wrong with a text of settings: what the TOML reader says, and what to write instead.

use crate::task::losses::Loss;
use crate::task::metrics::Metric;
use rnnc_graph::nearest;
use rnnc_plan::Optimizer;
use serde::de::DeserializeOwned;

/// The sections of a file.
pub(crate) const SECTIONS: [&str; 4] = ["network", "data", "training", "run"];

/// The error with its line, and help. `C` is what was to be read.
pub(crate) fn explain<C: DeserializeOwned>(error: &toml::de::Error, text: &str) -> String {
    let shown = plain(error.to_string().trim_end());
    let help = help::<C>(error, text).map_or_else(String::new, |help| format!("{help}\n          "));
    format!("{shown}\n  = help: {help}`rnnc config --reference` and docs/training.md have all settings")
}

/// The reader's message in words of settings.
fn plain(message: &str) -> String {
    let words = [
        ("expected usize", "expected a whole number, at least 0"),
        ("expected u64", "expected a whole number, at least 0"),
        ("expected f64", "expected a number"),
        ("expected a sequence", "expected a list"),
        (" as i128", ""),
        ("wanted string or table", "expected a word in quotes"),
        ("unknown variant", "unknown value"),
        ("unknown field", "unknown setting"),
        ("missing field", "missing"),
    ];
    words.iter().fold(message.to_owned(), |message, (from, to)| message.replace(from, to))
}

fn help<C: DeserializeOwned>(error: &toml::de::Error, text: &str) -> Option<String> {
    let message = error.message();
    let line = error.span().map_or("", |span| line_of(text, span.start));
    let (key, value) = match line.split_once('=') {
        Some((key, value)) => (key.trim(), value.trim()),
        None => (line.trim(), ""),
    };
    let quoted = || message.split('`').nth(1).unwrap_or_default();
    if message.starts_with("unknown field") {
        return of_unknown::<C>(quoted(), &listed(message));
    }
    if message.starts_with("unknown variant") {
        let known = listed(message);
        let name = quoted();
        let meant = match name {
            "cos" => Some("cosine"),
            "onecycle" | "cycle" => Some("one_cycle"),
            "exponential" | "steps" | "multistep" => Some("step"),
            "reduce_on_plateau" => Some("plateau"),
            "npz" | "numpy" | "array" => Some("arrays"),
            "wav" | "sound" | "sounds" | "recordings" => Some("audio"),
            "tables" | "table" | "tsv" | "pandas" | "series" => Some("csv"),
            "txt" | "bytes" | "characters" => Some("text"),
            _ => None,
        };
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let meant = meant.into_iter().chain(of_elsewhere(name)).find(|meant| known.contains(meant));
        let meant = meant
            .or_else(|| nearest(name, known.iter().copied()))
            .or_else(|| nearest(&plain_name(name), known));
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
    if key == "decay" && message.starts_with("wanted string") {
        return Some(
            "`decay` is how the learning rate falls, \"constant\", \"cosine\", \"linear\", \"step\", \"one_cycle\" or \"plateau\"; the decay of weights is `weight_decay`, those of an optimizer's averages `betas` or `alpha`".into(),
        );
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
    // What is wrong with a section is wrong with no value.
    if line.trim_start().starts_with('[') { None } else { of_value(key, value, message) }
}

/// The losses, metrics and optimizers that are called so elsewhere.
fn of_elsewhere(name: &str) -> impl Iterator<Item = &'static str> {
    let plain = plain_name(name);
    let losses = Loss::ALL.map(|loss| (loss.name(), loss.synonyms()));
    let optimizers = Optimizer::ALL.map(|optimizer| (optimizer.name(), optimizer.synonyms()));
    let metrics = Metric::ALL.map(|metric| (metric.name(), metric.synonyms()));
    let all = losses.into_iter().chain(metrics).chain(optimizers);
    all.filter(move |(name, synonyms)| *name == plain || synonyms.contains(&&*plain)).map(|(name, _)| name)
}

/// A name in small letters without signs, as a class or a function of another library may be called: `nn.MSELoss` is `mse`.
fn plain_name(name: &str) -> String {
    let last = name.rsplit('.').next().unwrap_or(name);
    let plain: String = last.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    plain.strip_suffix("loss").unwrap_or(&plain).to_owned()
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
fn of_unknown<C: DeserializeOwned>(name: &str, known: &[String]) -> Option<String> {
    if matches!(
        name,
        "amsgrad"
            | "centered"
            | "dampening"
            | "maximize"
            | "foreach"
            | "fused"
            | "capturable"
            | "differentiable"
    ) {
        return Some("no optimizer here has it: leave it out".into());
    }
    let other_name = match name {
        "lr" | "rate" | "alpha" => "learning_rate",
        "batch" | "batch_size" | "batchsize" | "minibatch" => "streams",
        "epochs" | "epoch" | "steps" | "iterations" | "num_updates" | "max_steps" | "n_updates" => "updates",
        "seq_len" | "seq_length" | "sequence_length" | "bptt" | "unroll" | "tbptt" => "window",
        "clip" | "grad_clip" | "max_norm" | "clip_grad_norm" | "max_grad_norm" | "gradient_clip" => {
            "clip_norm"
        }
        "beta" | "beta1" | "beta2" => "betas",
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
        "train" | "trainer" => "training",
        "optim" | "opt" | "algorithm" => "optimizer",
        "wd" | "l2" | "decoupled_weight_decay" => "weight_decay",
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
        if settings_of::<C>(section).iter().any(|s| s == other_name) {
            return Some(format!("`{other_name}` belongs into the section `[{section}]`"));
        }
    }
    nearest(name, here).map(|near| format!("did you mean `{near}`?"))
}

/// The settings of a section, as the reader lists them where it finds another.
fn settings_of<C: DeserializeOwned>(section: &str) -> Vec<String> {
    // No setting has no name.
    match toml::from_str::<C>(&format!("[{section}]\n\"\" = 0")) {
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

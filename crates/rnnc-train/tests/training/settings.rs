//! What is said of settings that are wrong: where, and what to write instead.

use rnnc_plan::Optimizer;
use rnnc_train::{Config, Loss};
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
        (
            "updates = 10",
            "rho = 0.9",
            "`rho` is no setting of \"adam\": leave it out, or write `optimizer = \"adadelta\"`",
        ),
        ("updates = 10", "amsgrad = true", "no optimizer here has it"),
        ("updates = 10", "decay = 0.9", "the decay of weights is `weight_decay`"),
        ("updates = 10", "lr = 0.1", "it is called `learning_rate`"),
        ("overwrite = true", "seed = 3", "`seed` belongs into the section `[training]`"),
        ("overwrite = true", "lr = 3", "`learning_rate` belongs into the section `[training]`"),
        ("[run]", "[train]", "it is called `training`"),
        ("[run]", "[runs]", "did you mean `run`?"),
        ("\"cross_entropy\"", "\"mse\"", "did you mean `mean_squared_error`?"),
        ("\"cross_entropy\"", "\"cross_entropi\"", "did you mean `cross_entropy`?"),
        ("\"cross_entropy\"", "\"nn.L1Loss\"", "did you mean `mean_absolute_error`?"),
        ("\"cross_entropy\"", "\"SmoothL1\"", "did you mean `huber`?"),
        ("\"cross_entropy\"", "\"BCEWithLogitsLoss\"", "did you mean `binary_cross_entropy`?"),
        ("\"text\"", "\"txt\"", "did you mean `text`?"),
        // Optimizers.
        ("window = 8", "window = 8\noptimizer = \"SGD\"", "did you mean `sgd`?"),
        ("window = 8", "window = 8\noptimizer = \"Adam-W\"", "did you mean `adamw`?"),
        ("window = 8", "window = 8\noptimizer = \"adem\"", "did you mean `adam`?"),
        ("window = 8", "window = 8\noptimizer = \"nesterov\"", "did you mean `sgd`?"),
        ("window = 8", "window = 8\noptim = \"sgd\"", "it is called `optimizer`"),
        ("window = 8", "window = 8\nepsilo = 1e-8", "did you mean `epsilon`?"),
        ("window = 8", "window = 8\neps = 1e-8", "it is called `epsilon`"),
        ("window = 8", "window = 8\nnesterov = 1", "expected a boolean"),
        ("window = 8", "window = 8\nmomentum = \"0.9\"", "without quotes: `momentum = 0.9`"),
        (
            "window = 8",
            "momentum = 0.9\nwindow = 8",
            "`momentum` is no setting of \"adam\": leave it out, or write `optimizer = \"sgd\"`",
        ),
        (
            "window = 8",
            "window = 8\noptimizer = \"sgd\"\nbetas = [0.9, 0.99]",
            "`betas` is no setting of \"sgd\": leave it out, or write `optimizer = \"adam\"` or `",
        ),
        ("overwrite = true", "momentum = 0.9", "`momentum` belongs into the section `[training]`"),
        ("window = 8", "", "write `window = ...` in this section"),
        ("[run]\noverwrite = true\n", "[run]\noverwrite = true\noverwrite = true\n", "it is there twice"),
    ];
    for (from, to, help) in cases {
        assert!(GOOD.contains(from), "{from}");
        let error = Config::parse(GOOD.replace(from, to), Path::new("")).unwrap_err();
        assert!(error.contains(help), "{to}\n{error}");
    }
    let foreign = GOOD.replace("window = 8", "momentum = 0.9\nwindow = 8");
    let error = Config::parse(foreign, Path::new("")).unwrap_err();
    assert!(error.contains("= help: `rnnc config --reference`"), "what to do is said already: {error}");
    let without = GOOD.replace("[network]\nfile = \"net.rnn\"\n", "");
    let error = Config::parse(without, Path::new("")).unwrap_err();
    assert!(error.contains("write a section `[network]`"), "{error}");
}

#[test]
fn every_loss_optimizer_and_setting_stands_in_the_documents() {
    let page = include_str!("../../../../docs/training.md");
    for name in Loss::NAMES.iter().chain(Optimizer::NAMES) {
        assert!(page.contains(&format!("| `\"{name}\"`")), "`{name}` is not in docs/training.md");
    }
    for setting in Optimizer::ALL.into_iter().flat_map(Optimizer::settings) {
        let name = setting.name;
        assert!(page.contains(&format!("`{name} = ")), "`{name}` is not in docs/training.md");
    }
}

//! The data of a run, split: to train on, to validate and to test with.

use crate::data::files::DataFiles;
use crate::data::recordings::read_recordings;
use crate::data::sequences::{Sequences, Split};
use crate::data::series::read_series;
use crate::data::text::Text;
use crate::error::TrainError;
use crate::sample::symbol_input;
use crate::settings::config::{Config, DataKind};
use crate::task::losses::{Loss, LossNetwork};
use rnnc_graph::{Graph, count};
use rnnc_io::list;

/// Reads the data and splits it, and refuses parts that are empty or have no target.
pub(crate) fn read_data(config: &Config, graph: &Graph, network: &LossNetwork) -> Result<Split, TrainError> {
    let data = &config.data;
    let base = &*config.base;
    let all = DataFiles { setting: "data.files", patterns: &data.files, base };
    let own = [("data.validation_files", &data.validation_files), ("data.test_files", &data.test_files)];
    let own = own.map(|(setting, patterns)| DataFiles { setting, patterns, base });
    for files in own {
        check_apart(all, files)?;
    }
    let mut split = read_files(config, graph, network, all)?.split(data.validation, data.test);
    for (fraction, part, name) in
        [(data.validation, &split.validation, "validation"), (data.test, &split.test, "test")]
    {
        if fraction > 0.0 && part.frames < 2 {
            return Err(TrainError::Setting(format!(
                "`data.{name} = {fraction}` leaves {} to it: there is too little data",
                count(part.frames, "frame")
            )));
        }
    }
    for (files, part) in own.into_iter().zip([&mut split.validation, &mut split.test]) {
        if !files.patterns.is_empty() {
            *part = read_files(config, graph, network, files)?;
        }
    }
    let parts = [
        ("training", &split.train, &Vec::new()),
        ("validation", &split.validation, &data.validation_files),
        ("test", &split.test, &data.test_files),
    ];
    let mut from = 0;
    for (name, part, own) in parts {
        let (first, files) = if own.is_empty() { (from, &data.files) } else { (0, own) };
        if part.frames > 0 && !part.has_rows_in_loss() {
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            return Err(TrainError::Setting(format!(
                "the {name} data, frames {first} to {} of {}, has no frame with a target whose loss counts",
                first + part.frames - 1,
                list(&files)
            )));
        }
        from += part.frames;
    }
    Ok(split)
}

/// Refuses a file to validate or test with that is trained on too.
fn check_apart(all: DataFiles<'_>, own: DataFiles<'_>) -> Result<(), TrainError> {
    let trained = all.paths()?.len();
    // A file that has several names is there once, under the first.
    let both = [all.patterns, own.patterns].concat();
    let paths = DataFiles { patterns: &both, ..own }.paths()?;
    match own.paths()?.iter().find(|path| !paths[trained..].contains(path)) {
        None => Ok(()),
        Some(both) => Err(TrainError::Setting(format!(
            "{} is in `{}` and in `{}`: a loss on what is trained on says nothing about other data",
            both.display(),
            all.setting,
            own.setting
        ))),
    }
}

/// Reads files of the kind that the settings say. `graph` is the network without its loss.
pub(crate) fn read_files(
    config: &Config,
    graph: &Graph,
    network: &LossNetwork,
    files: DataFiles<'_>,
) -> Result<Sequences, TrainError> {
    match config.data.kind {
        DataKind::Text => {
            let symbols = symbol_input(graph)?;
            let problem = |problem: String| TrainError::Network { network: graph.name().into(), problem };
            if !config.training.loss.takes_symbols() {
                let of_symbols = Loss::ALL.into_iter().filter(|loss| loss.takes_symbols());
                let names: Vec<String> = of_symbols.map(|loss| format!("{:?}", loss.name())).collect();
                return Err(problem(format!(
                    "text has symbols as targets: `training.loss` must be {}",
                    names.join(" or ")
                )));
            }
            if network.target_size < symbols.min(256) {
                return Err(problem(format!(
                    "its input has {symbols} symbols and its output only {}: the next symbol must be one of them",
                    network.target_size
                )));
            }
            Text::read(&files)?.sequences(symbols)
        }
        DataKind::Arrays => read_series(&files, network),
        DataKind::Audio => read_recordings(&files, network),
    }
}

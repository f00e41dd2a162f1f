//! The data of a run, split: to train on, to validate and to test with.

use crate::data::files::DataFiles;
use crate::data::parts::Split;
use crate::data::preparation::Preparation;
use crate::data::recordings::read_recordings;
use crate::data::sequences::Sequences;
use crate::data::series::read_series;
use crate::data::tables::read_tables;
use crate::data::text::Text;
use crate::error::TrainError;
use crate::sample::symbol_input;
use crate::settings::config::{Config, DataKind, LossAt, SplitBy};
use crate::task::losses::{Loss, LossNetwork};
use rnnc_graph::{Graph, count};
use rnnc_io::list;

/// Reads the data and splits it, and refuses parts that are empty or have no target. Tables are prepared as a model has `known` them, or
/// else as the training part says.
pub(crate) fn read_data(
    config: &Config,
    graph: &Graph,
    network: &LossNetwork,
    known: Option<&Preparation>,
) -> Result<(Split, Preparation), TrainError> {
    // What a model of tables knows says nothing of other data.
    let known = known.filter(|_| config.data.kind == DataKind::Csv);
    let data = &config.data;
    let base = &*config.base;
    let all = DataFiles { setting: "data.files", patterns: &data.files, base };
    let own = [("data.validation_files", &data.validation_files), ("data.test_files", &data.test_files)];
    let own = own.map(|(setting, patterns)| DataFiles { setting, patterns, base });
    for files in own {
        check_apart(all, files)?;
    }
    let (whole, mut preparation) = read_raw(config, graph, network, all, known)?;
    let mut split = match data.split {
        SplitBy::End => whole.split(data.validation, data.test),
        by => {
            let stratified = by == SplitBy::Stratified;
            whole.split_by_chance(data.validation, data.test, config.training.seed, stratified)?
        }
    };
    match known {
        Some(known) => preparation = known.clone(),
        None if data.normalize && data.kind == DataKind::Csv => preparation.learn(&split.train),
        None => {}
    }
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
            *part = read_raw(config, graph, network, files, Some(&preparation))?.0;
        }
    }
    for part in [&mut split.train, &mut split.validation, &mut split.test] {
        finish(part, config, &preparation);
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
    Ok((split, preparation))
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

/// Reads files of the kind that the settings say, as a model knows them. `graph` is the network without its loss.
pub(crate) fn read_files(
    config: &Config,
    graph: &Graph,
    network: &LossNetwork,
    files: DataFiles<'_>,
    known: &Preparation,
) -> Result<Sequences, TrainError> {
    let mut data = read_raw(config, graph, network, files, Some(known))?.0;
    finish(&mut data, config, known);
    Ok(data)
}

/// Makes of what was read what the network reads, and leaves out losses that do not count.
fn finish(data: &mut Sequences, config: &Config, preparation: &Preparation) {
    if config.data.kind == DataKind::Csv {
        preparation.apply(data);
    }
    data.mask_losses(config.training.burn_in, config.training.loss_at == LossAt::Last);
}

/// What the files have. Classes are those that are known, or those of the files.
fn read_raw(
    config: &Config,
    graph: &Graph,
    network: &LossNetwork,
    files: DataFiles<'_>,
    known: Option<&Preparation>,
) -> Result<(Sequences, Preparation), TrainError> {
    let plain = |data| Ok((data, Preparation::default()));
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
            plain(Text::read(&files)?.sequences(symbols)?)
        }
        DataKind::Arrays => plain(read_series(&files, network)?),
        DataKind::Audio => plain(read_recordings(&files, network)?),
        DataKind::Csv => read_tables(&files, &config.data, network, known),
    }
}

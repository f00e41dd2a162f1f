//! Tables as data: CSV files whose columns are inputs and targets, each file a sequence or several.

use crate::data::files::DataFiles;
use crate::data::preparation::{Preparation, Scaled};
use crate::data::sequences::{Column, Sequences};
use crate::error::TrainError;
use crate::settings::config::{DataConfig, Missing};
use crate::task::losses::LossNetwork;
use rnnc_graph::{LayerKind, count};
use rnnc_io::{Table, is_missing, list, make_room};
use rnnc_plan::NO_SYMBOL;
use std::collections::BTreeMap;
use std::path::Path;

/// What memory is taken for.
const DATA: &str = "the data";

/// Reads tables as data for a network with a loss: numbers as they are, missing ones as NaN. Classes are those of `known`, or else
/// those that the files name; scales are left to be learned.
///
/// # Errors
/// A column that is not there; a cell that is no number or no class of `known`, with file, line and column; missing values, unless
/// they are allowed; columns that are not as many as the network's units.
pub(crate) fn read_tables(
    named: &DataFiles<'_>,
    settings: &DataConfig,
    network: &LossNetwork,
    known: Option<&Preparation>,
) -> Result<(Sequences, Preparation), TrainError> {
    let form = Form::of(settings, network)?;
    if let Some(known) = known {
        form.check_known(known)?;
    }
    let mut names = Names::of(known);
    let mut rows = Rows { inputs: vec![Vec::new(); form.sizes.len()], ..Rows::default() };
    for path in named.paths()? {
        let label = match form.by_folder {
            true => {
                let folder = folder(&path)?;
                let problem = |expected| {
                    TrainError::file(&path, format!("expected {expected}, found folder `{folder}`"))
                };
                Some(names.number(folder).map_err(problem)?)
            }
            false => None,
        };
        read(&path, &form, label, &mut names, &mut rows)?;
    }
    if rows.frames == 0 {
        let problem = format!("there is no data: the files of `{}` have no rows", named.setting);
        return Err(TrainError::Setting(problem));
    }
    let classes = names.sort(&mut rows.symbols);
    if classes.len() > network.target_size {
        let some: Vec<&str> = classes.iter().map(String::as_str).collect();
        return Err(TrainError::Setting(format!(
            "the data has {} ({}), and the network's output only {}: give it a unit for each class",
            count(classes.len(), "class"),
            list(&some),
            count(network.target_size, "unit")
        )));
    }
    let mut columns: Vec<Column> =
        form.sizes.iter().zip(rows.inputs).map(|(&size, values)| Column::Numbers { size, values }).collect();
    columns.push(match form.of_classes {
        true => Column::Symbols(rows.symbols),
        false => Column::Numbers { size: network.target_size, values: rows.targets },
    });
    let scaled = |names: &[String]| names.iter().map(|name| Scaled::plain(name)).collect();
    let preparation = Preparation {
        inputs: scaled(&settings.inputs),
        targets: if form.of_classes { Vec::new() } else { scaled(&settings.targets) },
        sequence: settings.sequence.clone(),
        classes,
    };
    let data = Sequences { columns, starts: rows.starts, loss_mask: None, frames: rows.frames };
    Ok((data, preparation))
}

/// The rows of a table, as a network reads them that was trained on others.
#[derive(Clone, Debug, PartialEq)]
pub struct TableInputs {
    /// For each input of the network, `[rows, units]`.
    pub inputs: Vec<Vec<f32>>,
    /// The rows that begin a sequence, and what the sequence's column calls it, if there is one.
    pub sequences: Vec<(usize, Option<String>)>,
    /// How many rows there are.
    pub rows: usize,
}

/// Reads the inputs of a network from a table, as it was trained to. `sizes` are the units of its inputs.
///
/// # Errors
/// A column that is not there, a cell that is no number, no rows, and columns that are not as many as units.
pub fn read_table_inputs(
    path: &Path,
    sizes: &[usize],
    preparation: &Preparation,
) -> Result<TableInputs, TrainError> {
    let units: usize = sizes.iter().sum();
    if units != preparation.inputs.len() {
        return Err(TrainError::file(
            path,
            format!(
                "the model was trained on {} of a table, and the network's inputs have {}",
                count(preparation.inputs.len(), "column"),
                count(units, "unit")
            ),
        ));
    }
    let mut table = Table::open(path)?;
    let place = |name: &String| table.place(name);
    let columns =
        preparation.inputs.iter().map(|scaled| place(&scaled.name)).collect::<Result<Vec<_>, _>>()?;
    let sequence = preparation.sequence.as_ref().map(place).transpose()?;
    let mut data = Sequences::default();
    let mut inputs: Vec<Vec<f32>> = vec![Vec::new(); sizes.len()];
    let mut sequences: Vec<(usize, Option<String>)> = Vec::new();
    while table.next_row()? {
        let id = sequence.map(|column| table.text(column)).transpose()?;
        if sequences.last().is_none_or(|(_, last)| last.as_deref() != id) {
            sequences.push((data.frames, id.map(str::to_owned)));
            data.starts.push(data.frames);
        }
        let mut next = columns.iter();
        for (values, &size) in inputs.iter_mut().zip(sizes) {
            make_room(values, size, DATA)?;
            for &column in next.by_ref().take(size) {
                values.push(table.number(column)?.unwrap_or(f32::NAN));
            }
        }
        data.frames += 1;
    }
    if data.frames == 0 {
        return Err(TrainError::file(path, "it has no rows"));
    }
    let rows = data.frames;
    data.columns =
        inputs.into_iter().zip(sizes).map(|(values, &size)| Column::Numbers { size, values }).collect();
    // The last column is a target, and here is none.
    data.columns.push(Column::Symbols(Vec::new()));
    preparation.apply(&mut data);
    let values = data.columns.into_iter().filter_map(|column| match column {
        Column::Numbers { values, .. } => Some(values),
        _ => None,
    });
    Ok(TableInputs { inputs: values.collect(), sequences, rows })
}

/// What is read of each row.
struct Form<'a> {
    settings: &'a DataConfig,
    /// Units of each input of the network.
    sizes: Vec<usize>,
    of_classes: bool,
    by_folder: bool,
    targets: (f64, f64),
}

impl<'a> Form<'a> {
    fn of(settings: &'a DataConfig, network: &LossNetwork) -> Result<Form<'a>, TrainError> {
        let graph = &network.graph;
        let layers: Vec<_> = graph.inputs().iter().map(|&input| graph.layer_at(input)).collect();
        let problem = |problem: String| TrainError::Network { network: graph.name().into(), problem };
        let Some((target, inputs)) = layers.split_last() else {
            return Err(problem("it has no inputs".into()));
        };
        if let Some(input) = inputs.iter().find(|input| input.kind != LayerKind::Input) {
            return Err(problem(format!(
                "input `{}` is a symbol, and the columns of tables are numbers: make it a vector",
                input.name
            )));
        }
        let units: usize = inputs.iter().map(|input| input.size).sum();
        if units != settings.inputs.len() {
            return Err(problem(format!(
                "its inputs have {}, and `data.inputs` names {}: one for each unit",
                count(units, "unit"),
                count(settings.inputs.len(), "column")
            )));
        }
        let of_classes = target.kind == LayerKind::Symbol;
        let expected = match (of_classes, settings.label_by_folder) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => target.size,
        };
        if settings.label_by_folder && !of_classes {
            return Err(TrainError::Setting(
                "`data.label_by_folder` makes classes of folders: `training.loss` must be \"cross_entropy\""
                    .into(),
            ));
        }
        if settings.targets.len() != expected {
            let why = if of_classes { "a class a frame" } else { "one for each unit of the output" };
            return Err(TrainError::Setting(format!(
                "`data.targets` must name {}, {why}, not {}",
                count(expected, "column"),
                settings.targets.len()
            )));
        }
        Ok(Form {
            settings,
            sizes: inputs.iter().map(|input| input.size).collect(),
            of_classes,
            by_folder: settings.label_by_folder,
            targets: network.targets,
        })
    }
}

impl Form<'_> {
    /// Refuses what a model knows of other columns.
    fn check_known(&self, known: &Preparation) -> Result<(), TrainError> {
        let targets = if self.of_classes { &[] } else { &self.settings.targets[..] };
        let pairs = [
            ("data.inputs", &self.settings.inputs[..], &known.inputs),
            ("data.targets", targets, &known.targets),
        ];
        for (setting, now, known) in pairs {
            if !now.iter().eq(known.iter().map(|scaled| &scaled.name)) {
                let known: Vec<&str> = known.iter().map(|scaled| scaled.name.as_str()).collect();
                return Err(TrainError::Setting(format!(
                    "`{setting}` must be the columns that the model was trained on: {}",
                    list(&known)
                )));
            }
        }
        Ok(())
    }
}

/// What was read.
#[derive(Default)]
struct Rows {
    /// For each input of the network.
    inputs: Vec<Vec<f32>>,
    targets: Vec<f32>,
    symbols: Vec<u32>,
    starts: Vec<usize>,
    frames: usize,
}

/// Adds the rows of a file.
fn read(
    path: &Path,
    form: &Form<'_>,
    label: Option<u32>,
    names: &mut Names,
    rows: &mut Rows,
) -> Result<(), TrainError> {
    let Form { settings, .. } = form;
    let mut table = Table::open(path)?;
    let places = |names: &[String]| names.iter().map(|name| table.place(name)).collect::<Result<Vec<_>, _>>();
    let (inputs, targets) = (places(&settings.inputs)?, places(&settings.targets)?);
    let sequence = settings.sequence.as_ref().map(|name| table.place(name)).transpose()?;
    let mut current: Option<String> = None;
    let mut begin = rows.frames;
    while table.next_row()? {
        let id = sequence.map(|column| table.text(column)).transpose()?;
        if rows.frames == begin || id != current.as_deref() {
            shift_targets(rows, begin, form);
            begin = rows.frames;
            rows.starts.push(begin);
            current = id.map(str::to_owned);
        }
        let mut next = inputs.iter();
        for (values, &size) in rows.inputs.iter_mut().zip(&form.sizes) {
            make_room(values, size, DATA)?;
            for &column in next.by_ref().take(size) {
                values.push(number(&table, column, settings)?);
            }
        }
        if form.of_classes {
            make_room(&mut rows.symbols, 1, DATA)?;
            rows.symbols.push(match label {
                Some(label) => label,
                None => class(&table, targets[0], settings, names)?,
            });
        } else {
            make_room(&mut rows.targets, targets.len(), DATA)?;
            for &column in &targets {
                let x = number(&table, column, settings)?;
                let (least, most) = form.targets;
                if !x.is_nan() && !(least..=most).contains(&f64::from(x)) {
                    let expected = format!("a number from {least} to {most}, as the loss takes");
                    return Err(table.error(column, &expected, &x.to_string()).into());
                }
                rows.targets.push(x);
            }
        }
        rows.frames += 1;
    }
    shift_targets(rows, begin, form);
    Ok(())
}

/// Gives each row of the sequence that ends here the target of so many rows later; the last rows have none.
fn shift_targets(rows: &mut Rows, begin: usize, form: &Form<'_>) {
    let ahead = form.settings.ahead.min(rows.frames - begin);
    if ahead == 0 {
        return;
    }
    if form.of_classes {
        let own = &mut rows.symbols[begin..];
        own.rotate_left(ahead);
        let left = own.len() - ahead;
        own[left..].fill(NO_SYMBOL);
    } else {
        let size = form.settings.targets.len();
        let own = &mut rows.targets[begin * size..];
        own.rotate_left(ahead * size);
        let left = own.len() - ahead * size;
        own[left..].fill(f32::NAN);
    }
}

/// The number of a cell; NaN where it is missing.
fn number(table: &Table, column: usize, settings: &DataConfig) -> Result<f32, TrainError> {
    match table.number(column)? {
        Some(x) => Ok(x),
        None if settings.missing == Missing::Mask => Ok(f32::NAN),
        None => Err(table
            .error(column, "a number (`missing = \"mask\"` in `[data]` takes rows that have none)", "")
            .into()),
    }
}

fn class(table: &Table, column: usize, settings: &DataConfig, names: &mut Names) -> Result<u32, TrainError> {
    let name = table.text(column)?;
    if is_missing(name) {
        return match settings.missing {
            Missing::Mask => Ok(NO_SYMBOL),
            Missing::Refuse => Err(table
                .error(column, "a class (`missing = \"mask\"` in `[data]` takes rows that have none)", "")
                .into()),
        };
    }
    names.number(name).map_err(|expected| table.error(column, &expected, name).into())
}

/// The folder that a file is in: its class.
fn folder(path: &Path) -> Result<&str, TrainError> {
    let name = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    name.ok_or_else(|| {
        TrainError::file(
            path,
            "`data.label_by_folder` takes the name of a file's folder as its class, and it has none",
        )
    })
}

/// The classes' numbers by name.
struct Names {
    numbers: BTreeMap<String, u32>,
    /// Whether no other may come.
    are_known: bool,
}

impl Names {
    fn of(known: Option<&Preparation>) -> Names {
        let classes = known.map(|known| &known.classes[..]).unwrap_or_default();
        let numbers = classes.iter().cloned().zip(0..).collect();
        Names { numbers, are_known: known.is_some() }
    }

    /// The number of a name; the error is what was expected.
    fn number(&mut self, name: &str) -> Result<u32, String> {
        if let Some(&number) = self.numbers.get(name) {
            return Ok(number);
        }
        if self.are_known {
            let known: Vec<&str> = self.numbers.keys().map(String::as_str).collect();
            return Err(format!("one of the classes that were learned, {}", list(&known)));
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(name.into(), number);
        Ok(number)
    }

    /// The classes in order, whole numbers by size; the symbols become those of this order.
    fn sort(self, symbols: &mut [u32]) -> Vec<String> {
        let mut classes: Vec<(String, u32)> = self.numbers.into_iter().collect();
        if self.are_known {
            classes.sort_by_key(|(_, number)| *number);
        } else if classes.iter().all(|(name, _)| name.parse::<i64>().is_ok()) {
            classes.sort_by_key(|(name, _)| name.parse::<i64>().unwrap_or(0));
        }
        let mut becomes = vec![0; classes.len()];
        for (now, (_, before)) in (0..).zip(&classes) {
            becomes[*before as usize] = now;
        }
        for symbol in symbols.iter_mut().filter(|symbol| **symbol != NO_SYMBOL) {
            *symbol = becomes[*symbol as usize];
        }
        classes.into_iter().map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::config::tests::{SMALL, parse};
    use crate::task::losses::Loss;
    use rnnc_graph::{Activation, Connect, Graph, Init};

    fn network(loss: Loss, outputs: usize) -> LossNetwork {
        let mut graph = Graph::new("net");
        let x = graph.input("x", 2);
        let y = graph.sum("y", outputs, Activation::Identity);
        let w = graph.weight("y.W.x", &[outputs, 2], Init::Zeros);
        graph.connect(x, y, Connect::full(w));
        graph.output("y", y);
        loss.of(&graph, None).unwrap()
    }

    fn settings(more: &str) -> DataConfig {
        let data = format!("kind = \"csv\"\nfiles = [\"**/*.csv\"]\ninputs = [\"a\", \"b\"]\n{more}");
        parse(&SMALL.replace("kind = \"text\"\nfiles = [\"a.txt\"]", &data)).unwrap().data
    }

    fn read_all(
        files: &[(&str, &str)],
        more: &str,
        network: &LossNetwork,
        known: Option<&Preparation>,
    ) -> Result<(Sequences, Preparation), String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let settings = settings(more);
        let named = DataFiles { setting: "data.files", patterns: &settings.files, base: directory.path() };
        read_tables(&named, &settings, network, known)
            .map_err(|e| e.to_string().replace(&format!("{}/", directory.path().display()), ""))
    }

    #[test]
    fn columns_are_found_by_name_and_sequences_by_file_and_by_a_column() {
        let network = network(Loss::MeanSquaredError, 1);
        let files = [("1.csv", "b,id,t,a\n2,p,9,1\n4,p,8,3\n6,q,7,5\n"), ("2.csv", "a,b,t,id\n7,8,6,q\n")];
        let (data, found) = read_all(&files, "targets = [\"t\"]\nsequence = \"id\"", &network, None).unwrap();
        assert_eq!(data.columns[0], Column::Numbers { size: 2, values: (1..9).map(|x| x as f32).collect() });
        assert_eq!(data.columns[1], Column::Numbers { size: 1, values: vec![9.0, 8.0, 7.0, 6.0] });
        assert_eq!(data.starts, [0, 2, 3]);
        assert_eq!(found.inputs, [Scaled::plain("a"), Scaled::plain("b")]);
    }

    #[test]
    fn a_target_ahead_is_that_of_a_later_row_of_the_same_sequence() {
        let network = network(Loss::MeanSquaredError, 1);
        let files = [("1.csv", "a,b\n1,0\n2,0\n3,0\n"), ("2.csv", "a,b\n4,0\n5,0\n")];
        let (data, _) = read_all(&files, "targets = [\"a\"]\nahead = 1", &network, None).unwrap();
        let Column::Numbers { values, .. } = &data.columns[1] else { panic!() };
        assert_eq!(format!("{values:?}"), "[2.0, 3.0, NaN, 5.0, NaN]");
    }

    #[test]
    fn classes_are_names_in_order_of_a_column_or_of_folders() {
        let network = network(Loss::CrossEntropy, 3);
        let files = [("1.csv", "a,b,c\n0,0,10\n0,0,9\n0,0,10\n")];
        let (data, found) = read_all(&files, "targets = [\"c\"]", &network, None).unwrap();
        assert_eq!(
            (&data.columns[1], &found.classes[..]),
            (&Column::Symbols(vec![1, 0, 1]), &["9".into(), "10".to_string()][..])
        );
        let files =
            [("dog/1.csv", "a,b\n0,0\n0,0\n"), ("cat/1.csv", "a,b\n1,1\n"), ("dog/2.csv", "a,b\n0,0\n")];
        let (data, found) = read_all(&files, "label_by_folder = true", &network, None).unwrap();
        assert_eq!(
            (&data.columns[1], &data.starts[..]),
            (&Column::Symbols(vec![0, 1, 1, 1]), &[0, 1, 3][..])
        );
        assert_eq!(found.classes, ["cat", "dog"]);
        // Those of a model stay as they are numbered.
        let known = Preparation { classes: vec!["dog".into(), "cat".into()], ..found };
        let (data, again) = read_all(&files, "label_by_folder = true", &network, Some(&known)).unwrap();
        assert_eq!(
            (&data.columns[1], again.classes),
            (&Column::Symbols(vec![1, 0, 0, 0]), known.classes.clone())
        );
        let other = [("cow/1.csv", "a,b\n0,0\n")];
        let error = read_all(&other, "label_by_folder = true", &network, Some(&known)).unwrap_err();
        let others = Preparation { inputs: vec![Scaled::plain("a")], ..known.clone() };
        let wrong = read_all(&files, "label_by_folder = true", &network, Some(&others)).unwrap_err();
        assert_eq!(wrong, "`data.inputs` must be the columns that the model was trained on: `a`");
        assert!(
            error.contains("expected one of the classes that were learned, `cat`, `dog`, found folder `cow`"),
            "{error}"
        );
    }

    #[test]
    fn what_does_not_fit_is_said_with_file_line_and_column() {
        let numbers = network(Loss::MeanSquaredError, 1);
        let error = |text: &str, more: &str| read_all(&[("t.csv", text)], more, &numbers, None).unwrap_err();
        assert_eq!(
            error("a,b,t\n1,2,3\n1,x,3\n", "targets = [\"t\"]"),
            "t.csv: line 3, column `b`: expected a number, found `x`"
        );
        assert_eq!(
            error("a,b,t\n1,,3\n", "targets = [\"t\"]"),
            "t.csv: line 2, column `b`: expected a number (`missing = \"mask\"` in `[data]` takes rows that have none), found nothing"
        );
        assert_eq!(
            error("a,b,t\n", "targets = [\"u\"]"),
            "t.csv: there is no column `u`: line 1 has `a`, `b`, `t`"
        );
        assert!(error("a,b,t\n", "targets = [\"t\"]").starts_with("there is no data"));
        assert!(
            error("a,b,t\n", "targets = [\"t\", \"a\"]")
                .contains("must name 1 column, one for each unit of the output, not 2")
        );
        assert!(
            error("a,b,t\n", "targets = [\"t\"]\nlabel_by_folder = true")
                .contains("must be \"cross_entropy\"")
        );
        let flags = network(Loss::BinaryCrossEntropy, 1);
        let error = read_all(&[("t.csv", "a,b,t\n1,1,2\n")], "targets = [\"t\"]", &flags, None).unwrap_err();
        assert_eq!(
            error,
            "t.csv: line 2, column `t`: expected a number from 0 to 1, as the loss takes, found `2`"
        );
        let classes = network(Loss::CrossEntropy, 2);
        let error =
            read_all(&[("t.csv", "a,b,t\n1,1,u\n1,1,v\n1,1,w\n")], "targets = [\"t\"]", &classes, None);
        assert!(
            error
                .unwrap_err()
                .starts_with("the data has 3 classes (`u`, `v`, `w`), and the network's output only 2 units")
        );
    }

    #[test]
    fn missing_values_are_taken_where_they_may_be() {
        let more = "targets = [\"t\"]\nmissing = \"mask\"";
        let (data, _) =
            read_all(&[("t.csv", "a,b,t\n1,,3\n1,2,NA\n")], more, &network(Loss::MeanSquaredError, 1), None)
                .unwrap();
        assert_eq!(format!("{:?}", data.columns[0]), "Numbers { size: 2, values: [1.0, NaN, 1.0, 2.0] }");
        assert_eq!(format!("{:?}", data.columns[1]), "Numbers { size: 1, values: [3.0, NaN] }");
        let (data, _) =
            read_all(&[("t.csv", "a,b,t\n1,1,u\n1,2,NA\n")], more, &network(Loss::CrossEntropy, 1), None)
                .unwrap();
        assert_eq!(data.columns[1], Column::Symbols(vec![0, NO_SYMBOL]));
    }
}

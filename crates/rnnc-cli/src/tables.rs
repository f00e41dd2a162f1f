//! What `run` writes of a network that was trained on tables.

use crate::numbers::Numbers;
use crate::sequence::Sequence;
use rnnc_io::{FileError, write_table};
use rnnc_train::Preparation;
use std::path::Path;

/// What a checkpoint says of the tables that it was trained on.
pub struct TrainedOnTables {
    pub preparation: Preparation,
    /// The output that the loss read, by its place.
    pub output: usize,
}

impl TrainedOnTables {
    /// Gives the output that was trained the units of its target.
    pub fn unscale(&self, outputs: &mut [Numbers], sizes: &[usize]) {
        let targets = &self.preparation.targets;
        let Some(output) = outputs.get_mut(self.output).filter(|_| targets.len() == sizes[self.output])
        else {
            return;
        };
        match output {
            Numbers::Single(values) => {
                for (x, scaled) in values.iter_mut().zip(targets.iter().cycle()) {
                    *x = scaled.unscale(f64::from(*x)) as f32;
                }
            }
            Numbers::Double(values) => {
                values.iter_mut().zip(targets.iter().cycle()).for_each(|(x, scaled)| *x = scaled.unscale(*x));
            }
            Numbers::Symbols(_) => {}
        }
    }

    /// Writes the output that was trained, a row for each row that was read.
    pub fn write(
        &self,
        path: &Path,
        outputs: &[Numbers],
        sizes: &[usize],
        sequence: &Sequence,
    ) -> Result<(), FileError> {
        let Preparation { targets, classes, sequence: id, .. } = &self.preparation;
        let (output, size) = (&outputs[self.output], sizes[self.output].max(1));
        let own: Vec<&String> = if classes.is_empty() {
            targets.iter().map(|t| &t.name).collect()
        } else {
            classes.iter().collect()
        };
        let units =
            (0..size).map(|unit| own.get(unit).map_or_else(|| format!("y.{unit}"), |name| (*name).clone()));
        let mut names: Vec<String> = id.iter().cloned().collect();
        names.extend((!classes.is_empty()).then(|| "class".into()));
        names.extend(units);
        let begins = sequence.table.as_deref().unwrap_or_default();
        let mut rows = (0..sequence.frames).map(|row| {
            let values = output.row(row, size);
            let mut cells: Vec<String> = Vec::with_capacity(names.len());
            if id.is_some() {
                let place = begins.partition_point(|(first, _)| *first <= row);
                let begun = place.checked_sub(1).and_then(|place| begins[place].1.clone());
                cells.push(begun.unwrap_or_default());
            }
            if !classes.is_empty() {
                // Of equal ones the first, as accuracy has it.
                let best = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
                let class = best.and_then(|(unit, _)| classes.get(unit));
                cells.push(class.cloned().unwrap_or_default());
            }
            cells.extend(values.iter().map(|x| match output {
                Numbers::Single(_) => (*x as f32).to_string(),
                _ => x.to_string(),
            }));
            cells
        });
        write_table(path, &names, &mut rows)
    }
}

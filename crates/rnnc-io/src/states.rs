//! States in `.npz` files: all that a network carries from one run to the next.
//!
//! Per layer that is read with a delay, `LAYER`, `[D, B, N]`: its last D frames, oldest first (of a symbol layer
//! integers with N = 1, -1 for no symbol); and `since_reset`, `[B]`: how many frames ago each stream began or was reset.

use crate::array::{Array, Dimension, Elements};
use crate::arrays::{ArrayFile, write_arrays};
use crate::error::FileError;
use rnnc_plan::{History, NO_SYMBOL, State};
use std::path::Path;

const SINCE_RESET: &str = "since_reset";

/// What older versions called it.
const AGE: &str = "age";

/// Reads a state for a network whose state has the form of `like`.
///
/// # Errors
/// Arrays that are missing, are others or do not fit, by name; a layer that is called `since_reset`.
pub fn read_state(path: &Path, like: &State) -> Result<State, FileError> {
    check_names(like, path)?;
    let streams = like.since_reset.len();
    let mut file = ArrayFile::open(path)?;
    let is_layer = |name: &str| like.histories.iter().any(|h| h.layer == name);
    let is_old = file.contains(AGE) && !file.contains(SINCE_RESET) && !is_layer(AGE);
    let since_reset = if is_old { AGE } else { SINCE_RESET };
    let known: Vec<&str> = like.histories.iter().map(|h| &*h.layer).chain([since_reset]).collect();
    file.refuse_others(&known, "the layers that the network reads with a delay, and `since_reset`")?;

    let mut histories = Vec::new();
    for History { layer, depth, size, symbols, .. } in &like.histories {
        let shape = [*depth, streams, *size].map(Dimension::Size);
        let array = file.read_shaped(layer, &shape)?;
        let values = if *symbols { symbol_numbers(&array)? } else { array.f64s()?.into_owned() };
        histories.push(History {
            layer: layer.clone(),
            depth: *depth,
            size: *size,
            symbols: *symbols,
            values,
        });
    }
    let array = file.read_shaped(since_reset, &[Dimension::Size(streams)])?;
    let since_reset = |&since_reset: &i64| {
        u64::try_from(since_reset)
            .map_err(|_| array.error("a number of frames, at least 0", since_reset.to_string()))
    };
    let since_reset = array.integers()?.iter().map(since_reset).collect::<Result<_, _>>()?;
    Ok(State { histories, since_reset, frames: 0, kept: None })
}

/// The largest symbol is checked by the executor, which knows how many there are.
fn symbol_numbers(array: &Array) -> Result<Vec<f64>, FileError> {
    let symbols = array.symbols(NO_SYMBOL as usize, true)?;
    Ok(symbols.iter().map(|&s| if s == NO_SYMBOL { -1.0 } else { f64::from(s) }).collect())
}

/// Writes a state, in single precision or in double.
pub fn write_state(path: &Path, state: State, double: bool) -> Result<(), FileError> {
    check_names(&state, path)?;
    let streams = state.since_reset.len();
    let mut arrays: Vec<Array> = state
        .histories
        .into_iter()
        .map(|History { layer, depth, size, symbols, values }| {
            let shape = [depth, streams, size];
            if symbols {
                // Symbols and -1 are whole numbers, far below 2^53.
                Array::new(layer, &shape, Elements::Integers(values.iter().map(|&s| s as i64).collect()))
            } else if double {
                Array::new(layer, &shape, Elements::F64(values))
            } else {
                Array::new(layer, &shape, Elements::F32(values.iter().map(|&x| x as f32).collect()))
            }
        })
        .collect();
    let since_reset =
        state.since_reset.iter().map(|&since_reset| i64::try_from(since_reset).unwrap_or(i64::MAX)).collect();
    arrays.push(Array::new(SINCE_RESET, &[streams], Elements::Integers(since_reset)));
    write_arrays(path, &arrays)
}

fn check_names(state: &State, path: &Path) -> Result<(), FileError> {
    if state.histories.iter().any(|h| h.layer == SINCE_RESET) {
        let problem = format!(
            "the network reads a layer `{SINCE_RESET}` with a delay, and the array of that name means something else here: rename \
             the layer"
        );
        return Err(FileError::contents(path, problem));
    }
    Ok(())
}

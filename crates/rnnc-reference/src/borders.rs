//! What passes in and out: arrays of the right length and type, as double precision.

use rnnc_graph::{Layer, LayerKind};
use rnnc_plan::{ExecutorError, NO_SYMBOL, Values, ValuesMut};

/// The frames and streams of an array `[frames, B, ..]`.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub frames: usize,
    pub streams: usize,
}

/// Checks the number of values.
pub(crate) fn check_len(name: &str, shape: &[usize], found: usize) -> Result<(), ExecutorError> {
    let expected = shape.iter().fold(1, |all: usize, &n| all.saturating_mul(n));
    if found == expected {
        return Ok(());
    }
    Err(ExecutorError::Length { name: name.into(), shape: format!("{shape:?}"), expected, found })
}

/// The numbers of a vector array.
pub(crate) fn numbers(name: &str, shape: &[usize], values: Values<'_>) -> Result<Vec<f64>, ExecutorError> {
    check_len(name, shape, values.len())?;
    match values {
        Values::F32(v) => Ok(v.iter().map(|&x| f64::from(x)).collect()),
        Values::F64(v) => Ok(v.to_vec()),
        Values::Symbols(_) => {
            Err(ExecutorError::Type { name: name.into(), expected: "numbers", found: "symbols" })
        }
    }
}

/// The values of an input layer; symbols as numbers, -1 for none.
pub(crate) fn input(layer: &Layer, shape: Shape, values: Values<'_>) -> Result<Vec<f64>, ExecutorError> {
    let Shape { frames, streams } = shape;
    if layer.kind != LayerKind::Symbol {
        return numbers(&layer.name, &[frames, streams, layer.size], values);
    }
    let Values::Symbols(symbols) = values else {
        return Err(ExecutorError::Type { name: layer.name.clone(), expected: "symbols", found: "numbers" });
    };
    check_len(&layer.name, &[frames, streams], symbols.len())?;
    let wrong = |&symbol: &u32| symbol != NO_SYMBOL && symbol as usize >= layer.size;
    if let Some(place) = symbols.iter().position(wrong) {
        return Err(ExecutorError::Symbol {
            name: layer.name.clone(),
            symbols: layer.size,
            found: symbols[place],
            frame: place / streams,
            stream: place % streams,
        });
    }
    Ok(symbols.iter().map(|&s| if s == NO_SYMBOL { -1.0 } else { f64::from(s) }).collect())
}

/// Copies numbers out.
pub(crate) fn copy_out(
    name: &str,
    shape: &[usize],
    values: &[f64],
    into: ValuesMut<'_>,
) -> Result<(), ExecutorError> {
    check_len(name, shape, into.len())?;
    match into {
        ValuesMut::F32(into) => into.iter_mut().zip(values).for_each(|(x, &v)| *x = v as f32),
        ValuesMut::F64(into) => into.copy_from_slice(values),
    }
    Ok(())
}

/// An error unless one array was given for each of the names.
pub(crate) fn check_count<'a>(
    what: &'static str,
    names: impl Iterator<Item = &'a str>,
    found: usize,
) -> Result<(), ExecutorError> {
    let names: Vec<String> = names.map(|n| format!("`{n}`")).collect();
    if names.len() == found {
        return Ok(());
    }
    Err(ExecutorError::Count { what, expected: names.len(), names: names.join(", "), found })
}

/// An error unless the number lies within bounds.
pub(crate) fn check_range(
    what: &'static str,
    found: usize,
    least: usize,
    most: usize,
) -> Result<(), ExecutorError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let expected = match (least, most) {
        (_, usize::MAX) => format!("at least {least}"),
        _ if least == most => format!("{least}"),
        _ => format!("{least} to {most}"),
    };
    Err(ExecutorError::OutOfRange { what, expected, found })
}

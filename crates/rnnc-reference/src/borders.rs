//! What passes in and out: arrays, as double precision. Who calls has checked their lengths and types.

use rnnc_plan::{ExecutorError, NO_SYMBOL, Values, ValuesMut, check_len};

/// Copies values in; symbols as numbers, -1 for none.
pub(crate) fn copy_in(values: Values<'_>, to: &mut [f64]) {
    match values {
        Values::F32(v) => to.iter_mut().zip(v).for_each(|(to, &x)| *to = f64::from(x)),
        Values::F64(v) => to.copy_from_slice(v),
        Values::Symbols(v) => {
            to.iter_mut().zip(v).for_each(|(to, &s)| *to = if s == NO_SYMBOL { -1.0 } else { f64::from(s) })
        }
    }
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

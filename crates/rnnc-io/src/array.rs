//! One array of numbers with its shape, its type and its name, and the checks that its readers make.

use crate::error::FileError;
use crate::inputs::reserve;
use rnnc_plan::ExecutorError;
use std::borrow::Cow;
use std::path::PathBuf;

/// The type of an array's elements, as its file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum ElementType {
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Bool,
}

impl ElementType {
    /// NumPy's name of it.
    pub fn name(self) -> &'static str {
        match self {
            ElementType::F16 => "float16",
            ElementType::F32 => "float32",
            ElementType::F64 => "float64",
            ElementType::I8 => "int8",
            ElementType::I16 => "int16",
            ElementType::I32 => "int32",
            ElementType::I64 => "int64",
            ElementType::U8 => "uint8",
            ElementType::U16 => "uint16",
            ElementType::U32 => "uint32",
            ElementType::U64 => "uint64",
            ElementType::Bool => "bool",
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            ElementType::I8 | ElementType::U8 | ElementType::Bool => 1,
            ElementType::F16 | ElementType::I16 | ElementType::U16 => 2,
            ElementType::F32 | ElementType::I32 | ElementType::U32 => 4,
            ElementType::F64 | ElementType::I64 | ElementType::U64 => 8,
        }
    }
}

/// The elements of an array, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// Single precision.
    F32(Vec<f32>),
    /// Double precision.
    F64(Vec<f64>),
    /// Integers of every width.
    Integers(Vec<i64>),
    /// Truth values.
    Booleans(Vec<bool>),
}

impl Elements {
    pub(crate) fn len(&self) -> usize {
        match self {
            Elements::F32(v) => v.len(),
            Elements::F64(v) => v.len(),
            Elements::Integers(v) => v.len(),
            Elements::Booleans(v) => v.len(),
        }
    }

    /// Bytes of one element, as it is written.
    pub(crate) fn size(&self) -> usize {
        match self {
            Elements::Booleans(_) => 1,
            Elements::F32(_) => 4,
            Elements::F64(_) | Elements::Integers(_) => 8,
        }
    }

    /// From column-major (Fortran) order.
    pub(crate) fn make_row_major(&mut self, shape: &[usize]) -> Result<(), ExecutorError> {
        fn reorder<T: Copy>(values: &mut Vec<T>, shape: &[usize]) -> Result<(), ExecutorError> {
            let mut index = vec![0usize; shape.len()];
            let mut out = reserve(values.len(), "the array in row-major order")?;
            for _ in 0..values.len() {
                let place = index.iter().zip(shape).rev().fold(0, |place, (&i, &d)| place * d + i);
                out.push(values[place]);
                // The next index, the last dimension fastest.
                for (i, &d) in index.iter_mut().zip(shape).rev() {
                    *i += 1;
                    if *i < d {
                        break;
                    }
                    *i = 0;
                }
            }
            *values = out;
            Ok(())
        }
        match self {
            Elements::F32(v) => reorder(v, shape),
            Elements::F64(v) => reorder(v, shape),
            Elements::Integers(v) => reorder(v, shape),
            Elements::Booleans(v) => reorder(v, shape),
        }
    }
}

/// An array, and where it came from for messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Empty for an array that was made and not read.
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) element: ElementType,
    pub(crate) elements: Elements,
}

impl Array {
    /// An array to be written under that name. `elements` must be as many as `shape` says; [`crate::write_arrays`]
    /// checks it.
    pub fn new(name: impl Into<String>, shape: &[usize], elements: Elements) -> Array {
        let element = match elements {
            Elements::F32(_) => ElementType::F32,
            Elements::F64(_) => ElementType::F64,
            Elements::Integers(_) => ElementType::I64,
            Elements::Booleans(_) => ElementType::Bool,
        };
        Array { path: PathBuf::new(), name: name.into(), shape: shape.to_vec(), element, elements }
    }

    /// Its name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The type that its file gave.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Its elements, row-major.
    pub fn elements(&self) -> &Elements {
        &self.elements
    }

    /// An error that names this array and its file.
    pub fn error(&self, expected: impl Into<String>, found: impl Into<String>) -> FileError {
        FileError::Array {
            path: self.path.clone(),
            array: self.name.clone(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// Checks the shape. A dimension is a number, or a name (`T`) that any size fits.
    pub fn check_shape(&self, expected: &[Dimension<'_>]) -> Result<(), FileError> {
        let fits = expected.len() == self.shape.len()
            && expected.iter().zip(&self.shape).all(|(e, &found)| match *e {
                Dimension::Size(size) | Dimension::Units(size) => size == found,
                Dimension::Any(_) => true,
            });
        if fits {
            return Ok(());
        }
        let words: Vec<String> = expected
            .iter()
            .map(|d| match *d {
                Dimension::Size(size) | Dimension::Units(size) => size.to_string(),
                Dimension::Any(name) => name.to_string(),
            })
            .collect();
        let hint = self.shape_hint(expected);
        Err(self.error(format!("shape [{}]", words.join(", ")), format!("shape {:?}{hint}", self.shape)))
    }

    /// What to do with an array that lacks a dimension, or has the first two in the other order.
    fn shape_hint(&self, expected: &[Dimension<'_>]) -> String {
        let fits = |shape: &[usize]| {
            shape.len() == expected.len()
                && shape.iter().zip(expected).all(|(&s, e)| match *e {
                    Dimension::Size(size) | Dimension::Units(size) => s == size,
                    Dimension::Any(_) => true,
                })
        };
        let name = &self.name;
        // Behind the frames, streams are lacking where units are not.
        let has_streams = !matches!(expected.get(1), Some(Dimension::Units(_)));
        if let [frames, rest @ ..] = &*self.shape
            && has_streams
            && fits(&[&[*frames, 1], rest].concat())
        {
            return format!(" (of a single stream, `{name}[:, None]` has it)");
        }
        if fits(&[&*self.shape, &[1]].concat()) {
            return format!(" (of a single unit, `{name}[..., None]` has it)");
        }
        if let [first, second, rest @ ..] = &*self.shape
            && fits(&[&[*second, *first], rest].concat())
        {
            return format!(" (frames come before streams: `{name}.swapaxes(0, 1)`)");
        }
        String::new()
    }

    /// An error of a type that does not fit, with what NumPy makes of it.
    fn type_error(&self, expected: &str, fitting: &str) -> FileError {
        let found = format!("{}: `{}.astype({fitting:?})` makes them", self.element.name(), self.name);
        self.error(expected, found)
    }

    /// Floats, in single precision; those that are too large for it are an error, and so are integers that it does not
    /// hold exactly. Truth values are 0 and 1.
    pub fn f32s(&self) -> Result<Cow<'_, [f32]>, FileError> {
        match &self.elements {
            Elements::F32(v) => Ok(Cow::Borrowed(v)),
            Elements::F64(v) => {
                let too_large = |x: &f64| x.is_finite() && !(*x as f32).is_finite();
                if let Some(place) = v.iter().position(too_large) {
                    let found = format!("{:e} at {}", v[place], self.place(place));
                    return Err(self.error("numbers within single precision", found));
                }
                converted(v, |x| x as f32)
            }
            Elements::Integers(v) => {
                // Through the widest integers, for the largest of 64 bits rounds to one more.
                self.check_exact(v, |x| x as f32 as i128, "float32")?;
                converted(v, |x| x as f32)
            }
            Elements::Booleans(v) => converted(v, |x| f32::from(u8::from(x))),
        }
    }

    fn check_exact(
        &self,
        values: &[i64],
        there_and_back: fn(i64) -> i128,
        float: &str,
    ) -> Result<(), FileError> {
        match values.iter().position(|&x| there_and_back(x) != i128::from(x)) {
            None => Ok(()),
            Some(place) => {
                let found = format!("{} at {}", values[place], self.place(place));
                Err(self.error(format!("floats, or integers that {float} holds exactly"), found))
            }
        }
    }

    /// Floats, in double precision; integers that it does not hold exactly are an error. Truth values are 0 and 1.
    pub fn f64s(&self) -> Result<Cow<'_, [f64]>, FileError> {
        match &self.elements {
            Elements::F32(v) => converted(v, f64::from),
            Elements::F64(v) => Ok(Cow::Borrowed(v)),
            Elements::Integers(v) => {
                self.check_exact(v, |x| x as f64 as i128, "float64")?;
                converted(v, |x| x as f64)
            }
            Elements::Booleans(v) => converted(v, |x| f64::from(u8::from(x))),
        }
    }

    /// Integers.
    pub fn integers(&self) -> Result<&[i64], FileError> {
        match &self.elements {
            Elements::Integers(v) => Ok(v),
            _ => Err(self.type_error("integers", "int64")),
        }
    }

    /// Symbols from 0 to `symbols` - 1. Where `none_allowed`, a negative number stands for no symbol
    /// ([`rnnc_plan::NO_SYMBOL`]).
    pub fn symbols(&self, symbols: usize, none_allowed: bool) -> Result<Vec<u32>, FileError> {
        let values = self.integers()?;
        let symbol = |(place, &value): (usize, &i64)| match u32::try_from(value) {
            Ok(s) if (s as usize) < symbols => Ok(s),
            Err(_) if value < 0 && none_allowed => Ok(rnnc_plan::NO_SYMBOL),
            _ => Err(self.error(
                format!("symbols from 0 to {}", symbols.saturating_sub(1)),
                format!("{value} at {}", self.place(place)),
            )),
        };
        values.iter().enumerate().map(symbol).collect()
    }

    /// Truth values: booleans, or integers that are 0 or 1.
    pub fn flags(&self) -> Result<Vec<bool>, FileError> {
        match &self.elements {
            Elements::Booleans(v) => Ok(v.clone()),
            Elements::Integers(v) => {
                let flag = |(place, &x): (usize, &i64)| match x {
                    0 => Ok(false),
                    1 => Ok(true),
                    _ => Err(self.error("0 or 1", format!("{x} at {}", self.place(place)))),
                };
                v.iter().enumerate().map(flag).collect()
            }
            _ => Err(self.type_error("bool or uint8", "bool")),
        }
    }

    /// Refuses NaN and infinity.
    pub fn check_finite(&self) -> Result<(), FileError> {
        let bad = match &self.elements {
            Elements::F32(v) => v.iter().position(|x| !x.is_finite()).map(|i| (i, v[i].to_string())),
            Elements::F64(v) => v.iter().position(|x| !x.is_finite()).map(|i| (i, v[i].to_string())),
            _ => None,
        };
        match bad {
            None => Ok(()),
            Some((place, value)) => {
                Err(self.error("finite numbers", format!("{value} at {}", self.place(place))))
            }
        }
    }

    /// `[2, 0, 5]`, from the place in row-major order.
    fn place(&self, place: usize) -> String {
        format!("{:?}", index_of(place, &self.shape))
    }
}

/// Numbers of another type, if there is memory for them too.
fn converted<T: Copy, U: Clone>(values: &[T], convert: impl Fn(T) -> U) -> Result<Cow<'_, [U]>, FileError> {
    let mut out = reserve(values.len(), "the array's numbers in another type")?;
    out.extend(values.iter().map(|&x| convert(x)));
    Ok(Cow::Owned(out))
}

/// The index of a row-major place.
pub fn index_of(mut place: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (i, &d) in index.iter_mut().zip(shape).rev() {
        *i = place % d.max(1);
        place /= d.max(1);
    }
    index
}

/// What a dimension of an array must be.
#[derive(Clone, Copy, Debug)]
pub enum Dimension<'a> {
    /// This many.
    Size(usize),
    /// This many units, in the last place.
    Units(usize),
    /// Any number; the name is for the message.
    Any(&'a str),
}

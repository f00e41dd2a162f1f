//! Named tensors in a safetensors file: reading and writing numbers without losing a bit.

use crate::array::index_of;
use crate::error::TrainError;
use crate::files::write_whole;
use crate::kind::{self, Wanted};
use safetensors::tensor::{SafeTensorError, TensorView};
use safetensors::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

/// What a tensor's numbers take in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Four bytes; numbers are rounded.
    Single,
    /// Eight bytes.
    Double,
    /// Four bytes if every number is one of single precision, else eight: nothing is lost in either case.
    Lossless,
}

/// A named array of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, row-major.
    pub values: Vec<f64>,
}

/// The contents of a safetensors file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorFile {
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// What the file says about itself, in the words of whoever wrote it.
    pub about: BTreeMap<String, String>,
}

impl TensorFile {
    /// Reads a file. Floats of 16, 32 and 64 bits are accepted.
    pub fn read(path: &Path) -> Result<TensorFile, TrainError> {
        kind::check(path, Wanted::Weights)?;
        let bytes = std::fs::read(path).map_err(|e| TrainError::read(path, e))?;
        let whole = |e: SafeTensorError| match e {
            SafeTensorError::HeaderTooSmall
            | SafeTensorError::InvalidHeaderLength
            | SafeTensorError::MetadataIncompleteBuffer => {
                TrainError::file(path, format!("not a whole safetensors file (cut short?): {e}"))
            }
            e => TrainError::file(path, format!("not a safetensors file: {e}")),
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(whole)?;
        let about = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes).map_err(whole)?.tensors() {
            let values = numbers(&view).ok_or_else(|| TrainError::Array {
                path: path.into(),
                array: name.clone(),
                expected: "F16, BF16, F32 or F64".into(),
                found: format!("{:?}", view.dtype()),
            })?;
            tensors.insert(name, Tensor { shape: view.shape().to_vec(), values });
        }
        Ok(TensorFile { tensors, about })
    }

    /// Writes the file, whole or not at all. The same contents give the same bytes if `about` has one entry.
    pub fn write(&self, path: &Path, precision: Precision) -> Result<(), TrainError> {
        let about: HashMap<String, String> = self.about.clone().into_iter().collect();
        let views = self.tensors.iter().map(|(name, tensor)| (name, Stored::new(tensor, precision)));
        let bytes = safetensors::serialize(views, Some(about))
            .map_err(|e| TrainError::file(path, format!("cannot be written as safetensors: {e}")))?;
        write_whole(path, |out| out.write_all(&bytes))
    }

    /// Refuses numbers that are not finite, naming tensor and place.
    pub fn check_finite(&self, path: &Path) -> Result<(), TrainError> {
        for (name, tensor) in &self.tensors {
            if let Some(place) = tensor.values.iter().position(|x| !x.is_finite()) {
                return Err(TrainError::Array {
                    path: path.into(),
                    array: name.clone(),
                    expected: "finite numbers".into(),
                    found: format!("{} at {:?}", tensor.values[place], index_of(place, &tensor.shape)),
                });
            }
        }
        Ok(())
    }
}

/// A tensor on its way to a file.
struct Stored<'a> {
    tensor: &'a Tensor,
    single: bool,
}

impl<'a> Stored<'a> {
    fn new(tensor: &'a Tensor, precision: Precision) -> Stored<'a> {
        // NaN is kept as NaN by both; its payload does not matter.
        let fits = |x: &f64| f64::from(*x as f32) == *x || x.is_nan();
        let single = match precision {
            Precision::Single => true,
            Precision::Double => false,
            Precision::Lossless => tensor.values.iter().all(fits),
        };
        Stored { tensor, single }
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        if self.single { Dtype::F32 } else { Dtype::F64 }
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.tensor.values.iter();
        Cow::Owned(if self.single {
            values.flat_map(|&x| (x as f32).to_le_bytes()).collect()
        } else {
            values.flat_map(|&x| x.to_le_bytes()).collect()
        })
    }

    fn data_len(&self) -> usize {
        self.tensor.values.len() * if self.single { 4 } else { 8 }
    }
}

fn numbers(view: &TensorView<'_>) -> Option<Vec<f64>> {
    // The reader has checked that the bytes are a multiple of the element's size.
    macro_rules! read {
        ($bytes:literal, $convert:expr) => {
            view.data()
                .chunks_exact($bytes)
                .map(|c| $convert(c.try_into().expect("a chunk of the element's size")))
                .collect()
        };
    }
    Some(match view.dtype() {
        Dtype::F64 => read!(8, f64::from_le_bytes),
        Dtype::F32 => read!(4, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::BF16 => read!(2, |b| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))),
        Dtype::F16 => read!(2, |b| half(u16::from_le_bytes(b))),
        _ => return None,
    })
}

/// IEEE 754 binary16: a sign, 5 bits of exponent, 10 of fraction.
pub(crate) fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(values: Vec<f64>) -> TensorFile {
        let tensor = Tensor { shape: vec![values.len(), 1], values };
        TensorFile {
            tensors: BTreeMap::from([("w".to_string(), tensor)]),
            about: BTreeMap::from([("rnnc".to_string(), "test".to_string())]),
        }
    }

    #[test]
    fn lossless_files_keep_every_bit_and_are_small_where_they_can_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.safetensors");
        let (single, double) = (file(vec![0.5, f64::from(0.1f32), -0.0]), file(vec![0.5, 0.1, 1e300]));
        let mut sizes = Vec::new();
        for contents in [&single, &double] {
            contents.write(&path, Precision::Lossless).unwrap();
            let read = TensorFile::read(&path).unwrap();
            assert_eq!(&read, contents);
            assert_eq!(read.tensors["w"].values[0].to_bits(), contents.tensors["w"].values[0].to_bits());
            sizes.push(std::fs::read(&path).unwrap().len());
        }
        assert_eq!(sizes[1] - sizes[0], 12);
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.safetensors");
        file(vec![1.0, 2.0]).write(&path, Precision::Single).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = TensorFile::read(&path).unwrap_err().to_string();
            let problem = if length == 0 { "an empty file" } else { "cut short" };
            assert!(error.contains("w.safetensors") && error.contains(problem), "{error}");
        }
    }

    #[test]
    fn half_precision_is_read_exactly() {
        // The largest, the smallest normal, the smallest of all, one, a third, minus two.
        let known = [
            (0x7bff, 65504.0),
            (0x0400, 6.103515625e-5),
            (0x0001, 5.960464477539063e-8),
            (0x3c00, 1.0),
            (0x3555, 0.333251953125),
            (0xc000, -2.0),
            (0xfc00, f64::NEG_INFINITY),
        ];
        for (bits, value) in known {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7e00).is_nan());
    }

    #[test]
    fn a_number_that_is_not_finite_is_named_with_its_place() {
        let contents = file(vec![1.0, f64::NAN]);
        let error = contents.check_finite(Path::new("w.safetensors")).unwrap_err().to_string();
        assert_eq!(error, "w.safetensors: array `w`: expected finite numbers, found NaN at [1, 0]");
    }
}

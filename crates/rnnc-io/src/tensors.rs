//! Named tensors in a safetensors file: reading and writing numbers without losing a bit.

use crate::array::index_of;
use crate::error::FileError;
use crate::files::write_whole;
use crate::inputs::{open_regular, reserve};
use crate::kind::{Wanted, check_kind};
use rnnc_plan::{ExecutorError, check_available};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, View};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// The longest header that the form allows.
const HEADER: u64 = 100_000_000;

/// Bytes that are read at a time: a multiple of every number's size.
const CHUNK: usize = 1 << 16;

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
    pub fn read(path: &Path) -> Result<TensorFile, FileError> {
        let (mut file, metadata) = open(path)?;
        let infos = metadata.tensors();
        let mut count = 0;
        for (name, info) in &infos {
            if size(info.dtype).is_none() {
                return Err(FileError::Array {
                    path: path.into(),
                    array: name.clone(),
                    expected: "F16, BF16, F32 or F64".into(),
                    found: format!("{:?}", info.dtype),
                });
            }
            count += info.shape.iter().product::<usize>() as u128;
        }
        check_available(&format!("reading {}", path.display()), count * size_of::<f64>() as u128)?;

        let mut tensors = BTreeMap::new();
        for name in metadata.offset_keys() {
            let info = infos[&name];
            let values = numbers(&mut file, info).map_err(|problem| match problem {
                Problem::Read(e) => FileError::read(path, e),
                Problem::Memory(e) => e.into(),
            })?;
            tensors.insert(name, Tensor { shape: info.shape.clone(), values });
        }
        Ok(TensorFile { tensors, about: about(&metadata) })
    }

    /// Reads what a file says about itself, and none of its numbers.
    pub fn read_about(path: &Path) -> Result<BTreeMap<String, String>, FileError> {
        Ok(about(&open(path)?.1))
    }

    /// Writes the file, whole or not at all. The same contents give the same bytes if `about` has one entry.
    pub fn write(&self, path: &Path, precision: Precision) -> Result<(), FileError> {
        let about: HashMap<String, String> = self.about.clone().into_iter().collect();
        let views = self.tensors.iter().map(|(name, tensor)| (name, Stored::new(tensor, precision)));
        let bytes = safetensors::serialize(views, Some(about))
            .map_err(|e| FileError::contents(path, format!("cannot be written as safetensors: {e}")))?;
        write_whole(path, |out| out.write_all(&bytes))
    }

    /// Refuses numbers that are not finite, naming tensor and place.
    pub fn check_finite(&self, path: &Path) -> Result<(), FileError> {
        for (name, tensor) in &self.tensors {
            if let Some(place) = tensor.values.iter().position(|x| !x.is_finite()) {
                return Err(FileError::Array {
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

/// Opens a file, and reads its header: then the numbers come.
fn open(path: &Path) -> Result<(BufReader<File>, Metadata), FileError> {
    check_kind(path, Wanted::Weights)?;
    let (file, length) = open_regular(path)?;
    let mut file = BufReader::new(file);
    let cut = |problem: String| {
        FileError::contents(path, format!("not a whole safetensors file (cut short?): {problem}"))
    };
    let other = |problem: String| FileError::contents(path, format!("not a safetensors file: {problem}"));
    let Some(rest) = length.checked_sub(8) else { return Err(cut(format!("it has {length} bytes"))) };
    let fail = |e: io::Error| FileError::read(path, e);
    let mut header = [0; 8];
    file.read_exact(&mut header).map_err(fail)?;
    let header = u64::from_le_bytes(header);
    if header > HEADER {
        return Err(other(format!(
            "its first bytes give a header of {header} bytes; at most {HEADER} are allowed"
        )));
    }
    if header > rest {
        return Err(cut(format!("a header of {header} bytes, and {rest} are there")));
    }
    // Less than HEADER: a usize.
    let mut bytes = reserve(header as usize, "the header of a safetensors file")?;
    bytes.resize(header as usize, 0);
    file.read_exact(&mut bytes).map_err(fail)?;
    // Names, shapes and places are checked against each other here.
    let metadata: Metadata = serde_json::from_slice(&bytes).map_err(|e| other(e.to_string()))?;
    let (said, found) = (metadata.data_len() as u64, rest - header);
    match said.cmp(&found) {
        Ordering::Equal => Ok((file, metadata)),
        Ordering::Greater => Err(cut(format!("{said} bytes of numbers, and {found} are there"))),
        Ordering::Less => Err(other(format!("{said} bytes of numbers, and {found} are there"))),
    }
}

fn about(metadata: &Metadata) -> BTreeMap<String, String> {
    metadata.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Bytes of a number, if the type is one that is read.
fn size(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F64 => Some(8),
        Dtype::F32 => Some(4),
        Dtype::F16 | Dtype::BF16 => Some(2),
        _ => None,
    }
}

/// Why numbers cannot be read.
enum Problem {
    Read(io::Error),
    Memory(ExecutorError),
}

fn numbers(source: &mut impl Read, info: &TensorInfo) -> Result<Vec<f64>, Problem> {
    let count = info.shape.iter().product();
    let mut values = reserve(count, "a tensor").map_err(Problem::Memory)?;
    macro_rules! read {
        ($bytes:literal, $convert:expr) => {{
            let mut chunk = vec![0; CHUNK.min(count * $bytes)];
            while values.len() < count {
                let part = &mut chunk[..CHUNK.min((count - values.len()) * $bytes)];
                source.read_exact(part).map_err(Problem::Read)?;
                values.extend(
                    part.chunks_exact($bytes)
                        .map(|c| $convert(c.try_into().expect("a chunk of the element's size"))),
                );
            }
        }};
    }
    match info.dtype {
        Dtype::F64 => read!(8, f64::from_le_bytes),
        Dtype::F32 => read!(4, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::BF16 => read!(2, |b| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))),
        Dtype::F16 => read!(2, |b| half(u16::from_le_bytes(b))),
        // `size` has refused them.
        _ => {}
    }
    Ok(values)
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

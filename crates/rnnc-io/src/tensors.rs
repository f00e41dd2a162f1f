//! Named tensors in a safetensors file: reading and writing numbers without losing a bit.

use crate::array::index_of;
use crate::error::FileError;
use crate::files::write_whole;
use crate::inputs::{open_regular, reserve};
use crate::kind::{Wanted, check_kind};
use rnnc_plan::{ExecutorError, check_available};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
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
        TensorFile::read_some(path, |_| true)
    }

    /// Reads those of a file's tensors whose names are wanted.
    pub(crate) fn read_some(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<TensorFile, FileError> {
        let (mut file, metadata) = open(path)?;
        let infos = metadata.tensors();
        let mut count = 0;
        for (name, info) in infos.iter().filter(|(name, _)| wanted(name)) {
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
            if !wanted(&name) {
                let (begin, end) = info.data_offsets;
                file.seek_relative((end - begin) as i64).map_err(|e| FileError::read(path, e))?;
                continue;
            }
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
        let views = self.tensors.iter().map(|(name, Tensor { shape, values })| TensorView {
            name: name.clone(),
            shape: shape.clone(),
            values,
        });
        write_tensors(path, views.collect(), &self.about, precision)
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
pub struct TensorView<'a> {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, row-major.
    pub values: &'a [f64],
}

/// Writes a file of tensors, whole or not at all: some numbers at a time, for there are as many of them as memory holds.
///
/// # Errors
/// Numbers that are not as many as their shape says, names that are too many, and what the system says.
pub fn write_tensors(
    path: &Path,
    tensors: Vec<TensorView<'_>>,
    about: &BTreeMap<String, String>,
    precision: Precision,
) -> Result<(), FileError> {
    // NaN is kept as NaN by both; its payload does not matter.
    let fits = |x: &f64| f64::from(*x as f32) == *x || x.is_nan();
    let is_single = |values: &[f64]| match precision {
        Precision::Single => true,
        Precision::Double => false,
        Precision::Lossless => values.iter().all(fits),
    };
    let mut tensors: Vec<(bool, TensorView<'_>)> =
        tensors.into_iter().map(|t| (is_single(t.values), t)).collect();
    // The wider first, so that each begins at a multiple of its numbers' size.
    tensors.sort_by(|(a_single, a), (b_single, b)| a_single.cmp(b_single).then_with(|| a.name.cmp(&b.name)));

    let mut end = 0;
    let infos = tensors.iter().map(|(single, tensor)| {
        let (dtype, bytes) = if *single { (Dtype::F32, 4) } else { (Dtype::F64, 8) };
        let begin = end;
        end += tensor.values.len() * bytes;
        (tensor.name.clone(), TensorInfo { dtype, shape: tensor.shape.clone(), data_offsets: (begin, end) })
    });
    let infos: Vec<_> = infos.collect();
    let fail =
        |problem: String| FileError::contents(path, format!("cannot be written as safetensors: {problem}"));
    let about: HashMap<String, String> = about.clone().into_iter().collect();
    // Without anything in it, the library would write what it does not read.
    let about = (!about.is_empty()).then_some(about);
    // Shapes and numbers are checked against each other here.
    let metadata = Metadata::new(about, infos).map_err(|e| fail(e.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|e| fail(e.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() as u64 > HEADER {
        return Err(fail(format!(
            "its header would have {} bytes; at most {HEADER} are allowed",
            header.len()
        )));
    }

    write_whole(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        let mut chunk = Vec::with_capacity(CHUNK);
        for (single, tensor) in &tensors {
            for values in tensor.values.chunks(CHUNK / 8) {
                chunk.clear();
                match single {
                    true => values.iter().for_each(|&x| chunk.extend((x as f32).to_le_bytes())),
                    false => values.iter().for_each(|&x| chunk.extend(x.to_le_bytes())),
                }
                out.write_all(&chunk)?;
            }
        }
        Ok(())
    })
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
    fn a_file_is_as_the_library_writes_it() {
        use safetensors::tensor::TensorView;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.safetensors");
        let mut contents = file((0..100_001).map(f64::from).collect());
        let tensor = |shape: &[usize], values: &[f64]| Tensor { shape: shape.into(), values: values.into() };
        contents.tensors.insert("a".into(), tensor(&[], &[0.1]));
        contents.tensors.insert("none".into(), tensor(&[0, 3], &[]));
        contents.tensors.insert("z".into(), tensor(&[1, 2], &[0.1, -0.3]));
        contents.write(&path, Precision::Lossless).unwrap();
        let bytes: BTreeMap<&String, (Dtype, Vec<u8>)> = contents
            .tensors
            .iter()
            .map(|(name, t)| match t.values.iter().all(|&x| f64::from(x as f32) == x) {
                true => {
                    (name, (Dtype::F32, t.values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect()))
                }
                false => (name, (Dtype::F64, t.values.iter().flat_map(|&x| x.to_le_bytes()).collect())),
            })
            .collect();
        let views = contents.tensors.iter().map(|(name, t)| {
            let (dtype, bytes) = &bytes[name];
            (name, TensorView::new(*dtype, t.shape.clone(), bytes).unwrap())
        });
        let about = contents.about.clone().into_iter().collect();
        assert!(std::fs::read(&path).unwrap() == safetensors::serialize(views, Some(about)).unwrap());
        assert_eq!(TensorFile::read(&path).unwrap(), contents);
        let some = TensorFile::read_some(&path, |name| name == "w").unwrap();
        assert!(some.tensors.len() == 1 && some.tensors["w"] == contents.tensors["w"]);
    }

    #[test]
    fn numbers_of_another_count_than_the_shape_says_are_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.safetensors");
        let mut wrong = file(vec![1.0, 2.0]);
        wrong.tensors.get_mut("w").unwrap().shape = vec![3];
        let error = wrong.write(&path, Precision::Double).unwrap_err().to_string();
        assert!(error.contains("cannot be written as safetensors: ") && !path.exists(), "{error}");
    }

    #[test]
    fn a_file_of_nothing_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.safetensors");
        TensorFile::default().write(&path, Precision::Lossless).unwrap();
        assert_eq!(TensorFile::read(&path).unwrap(), TensorFile::default());
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

//! Arrays in NumPy's `.npz` files: reading with checks that name file and array, and writing.
//!
//! An `.npz` file is a zip archive of `.npy` arrays, as `numpy.savez` and `numpy.savez_compressed` write it.

use crate::array::Array;
use crate::error::FileError;
use crate::files::write_whole;
use crate::inputs::open_regular;
use crate::kind::{Wanted, check_kind};
use crate::npy;
use rnnc_graph::nearest;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Deflated bytes become at most so many (RFC 1951: at least 2 bits for up to 258 bytes).
const DEFLATED: u64 = 1032;

/// An `.npz` file, open for reading.
///
/// ```
/// use rnnc_io::{Array, ArrayFile, Dimension, Elements, write_arrays};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("in.npz");
/// write_arrays(&path, &[Array::new("x", &[2, 1, 3], Elements::F32(vec![0.5; 6]))])?;
/// let x = ArrayFile::open(&path)?.read("x")?;
/// x.check_shape(&[Dimension::Any("T"), Dimension::Size(1), Dimension::Size(3)])?;
/// assert_eq!(x.f32s()?[0], 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ArrayFile {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

impl ArrayFile {
    /// Opens the file and reads its table of contents.
    pub fn open(path: impl Into<PathBuf>) -> Result<ArrayFile, FileError> {
        let path = path.into();
        check_kind(&path, Wanted::Arrays)?;
        let (file, _) = open_regular(&path)?;
        let archive = ZipArchive::new(BufReader::new(file))
            .map_err(|e| FileError::contents(&path, format!("not a whole .npz file (cut short?): {e}")))?;
        Ok(ArrayFile { path, archive })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        // A name that is not text is no array of ours.
        let entries = self.archive.file_names().filter_map(Result::ok);
        let mut names: Vec<String> =
            entries.map(|entry| entry.strip_suffix(".npy").unwrap_or(&entry).to_string()).collect();
        names.sort();
        names
    }

    /// Whether it has an array of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.archive.index_for_name(&format!("{name}.npy")).is_some()
    }

    /// Refuses arrays other than these. `what` says what they are: "the network's inputs and `reset`".
    pub fn refuse_others(&self, known: &[&str], what: &str) -> Result<(), FileError> {
        match self.names().into_iter().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(array) => {
                let meant = match nearest(&array, known.iter().copied()) {
                    _ if array.starts_with("arr_") => {
                        " (what NumPy calls one without a name: `numpy.savez(path, x=...)` gives it one)"
                            .into()
                    }
                    Some(near) => format!(" (did you mean `{near}`?)"),
                    None => String::new(),
                };
                Err(FileError::Array {
                    path: self.path.clone(),
                    array,
                    expected: format!("{what} ({})", list(known)),
                    found: format!("an array of another name{meant}"),
                })
            }
        }
    }

    /// Reads an array.
    pub fn read(&mut self, name: &str) -> Result<Array, FileError> {
        let (path, names) = (self.path.clone(), self.names());
        let error = |expected: String, found: String| FileError::Array {
            path: path.clone(),
            array: name.to_string(),
            expected,
            found,
        };
        let Some(place) = self.archive.index_for_name(&format!("{name}.npy")) else {
            let there: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(error("an array of this name".into(), format!("only {}", list(&there))));
        };
        let mut entry = self
            .archive
            .by_index(place)
            .map_err(|e| error("a whole array".into(), std::io::Error::from(e).to_string()))?;
        // What the archive says of its size may be wrong, so that what it can hold at most counts too.
        let most = entry.size().min(entry.compressed_size().saturating_mul(DEFLATED));
        let array = npy::decode(&mut entry, most).map_err(|problem| match problem.split_once("; ") {
            Some((expected, found)) => error(expected.into(), found.into()),
            None => error(problem, "something else".into()),
        })?;
        Ok(Array {
            path: self.path.clone(),
            name: name.to_string(),
            shape: array.shape,
            element: array.element,
            elements: array.elements,
        })
    }
}

/// Writes an `.npz` file, whole or not at all. numpy.load reads it.
pub fn write_arrays(path: &Path, arrays: &[Array]) -> Result<(), FileError> {
    for array in arrays {
        let count = array.shape.iter().product::<usize>();
        if count != array.elements.len() {
            let named = Array { path: path.into(), ..array.clone() };
            return Err(named.error(
                format!("{count} values for shape {:?}", array.shape),
                format!("{} values", array.elements.len()),
            ));
        }
    }
    write_whole(path, |out| {
        let mut zip = ZipWriter::new(out);
        for array in arrays {
            let bytes = npy::encode(&array.shape, &array.elements);
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .large_file(bytes.len() >= u32::MAX as usize);
            zip.start_file(format!("{}.npy", array.name), options)?;
            zip.write_all(&bytes)?;
        }
        zip.finish()?;
        Ok(())
    })
}

/// `a`, `b`, `c`
pub fn list(names: &[&str]) -> String {
    match names {
        [] => "nothing".into(),
        names => names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::{Dimension, ElementType, Elements};
    use proptest::prelude::*;

    fn written(arrays: &[Array]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("in.npz");
        write_arrays(&path, arrays).unwrap();
        (directory, path)
    }

    #[test]
    fn every_type_reads_back_as_written() {
        let arrays = [
            Array::new("x", &[2, 1, 3], Elements::F32(vec![1.0, -2.5, 3.0, 0.0, f32::MIN_POSITIVE, 6.0])),
            Array::new("y", &[2], Elements::F64(vec![1.0, f64::NAN])),
            Array::new("age", &[], Elements::Integers(vec![-7])),
            Array::new("reset", &[1, 2], Elements::Booleans(vec![true, false])),
            Array::new("none", &[0, 3], Elements::F32(vec![])),
        ];
        let (_kept, path) = written(&arrays);
        let mut file = ArrayFile::open(&path).unwrap();
        assert_eq!(file.names(), ["age", "none", "reset", "x", "y"]);
        for array in &arrays {
            let read = file.read(array.name()).unwrap();
            assert_eq!((read.shape(), read.element()), (array.shape(), array.element()));
            assert_eq!(format!("{:?}", read.elements()), format!("{:?}", array.elements()));
        }
    }

    fn decode(bytes: &[u8]) -> Result<npy::Npy, String> {
        npy::decode(&mut &*bytes, bytes.len() as u64)
    }

    /// The layout of `numpy.arange(6, dtype=">i2").reshape(2, 3, order="F")`.
    #[test]
    fn column_major_big_endian_arrays_are_turned() {
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }";
        bytes.extend(format!("{header:<117}\n").as_bytes());
        bytes.extend([0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5]);
        let array = decode(&bytes).ok().unwrap();
        assert_eq!(array.shape, [2, 3]);
        assert_eq!(array.elements, Elements::Integers(vec![0, 2, 4, 1, 3, 5]));
    }

    /// An array that is written by hand, of 3 elements.
    fn read_raw(descr: &str, data: &[u8]) -> Result<Array, FileError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("in.npz");
        let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (3,), }}");
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        bytes.extend(format!("{header:<117}\n").as_bytes());
        bytes.extend(data);
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        zip.start_file("x.npy", SimpleFileOptions::default()).unwrap();
        zip.write_all(&bytes).unwrap();
        zip.finish().unwrap();
        ArrayFile::open(&path).unwrap().read("x")
    }

    #[test]
    fn half_precision_in_both_byte_orders_is_read_as_single() {
        // One, minus two and the smallest of all.
        let expected = Elements::F32(vec![1.0, -2.0, 5.9604645e-8]);
        let array = read_raw("'<f2'", &[0, 0x3c, 0, 0xc0, 1, 0]).unwrap();
        assert_eq!((array.elements(), array.element()), (&expected, ElementType::F16));
        assert_eq!(read_raw("'>f2'", &[0x3c, 0, 0xc0, 0, 0, 1]).unwrap().elements(), &expected);
    }

    #[test]
    fn types_that_are_not_read_are_named_with_what_to_do() {
        for (descr, found) in [
            ("'<c8'", "complex numbers ('<c8'): save their real and imaginary parts"),
            ("'|O'", "Python objects ('|O'): build it of numbers of one shape"),
            ("'<U4'", "text ('<U4'): number its words or characters"),
            ("'<M8[D]'", "dates or times ('<M8[D]'): make numbers of them"),
            ("'|V2'", "raw bytes (bfloat16?) ('|V2'): convert it before saving: `.astype(\"float32\")`"),
            ("'<f16'", "long doubles ('<f16'): `.astype(\"float32\")`"),
            (
                "[('a', '<f4'), ('b', '<i4')]",
                "a structured array ('[('a', '<f4'), ('b', '<i4')]'): save each",
            ),
        ] {
            let error = read_raw(descr, &[0; 24]).unwrap_err().to_string();
            let expected = format!("array `x`: expected floats, integers or booleans, found {found}");
            assert!(error.contains(&expected), "{descr}: {error}");
        }
    }

    #[test]
    fn a_missing_array_is_named_with_those_that_are_there() {
        let (_kept, path) = written(&[Array::new("x", &[1], Elements::F32(vec![1.0]))]);
        let error = ArrayFile::open(&path).unwrap().read("z").unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{}: array `z`: expected an array of this name, found only `x`", path.display())
        );
    }

    #[test]
    fn an_unknown_array_is_refused_by_name() {
        let (_kept, path) = written(&[Array::new("xx", &[1], Elements::F32(vec![1.0]))]);
        let error = ArrayFile::open(&path).unwrap().refuse_others(&["x", "reset"], "the inputs").unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("array `xx`: expected the inputs (`x`, `reset`), found an array of another name")
        );
    }

    #[test]
    fn shapes_types_and_values_are_checked_in_words() {
        let (_kept, path) = written(&[
            Array::new("x", &[2, 2], Elements::F32(vec![1.0, 2.0, f32::NAN, 4.0])),
            Array::new("s", &[3], Elements::Integers(vec![0, 9, -1])),
            Array::new("d", &[2], Elements::F64(vec![0.5, -1e39])),
        ]);
        let mut file = ArrayFile::open(&path).unwrap();
        let (x, s) = (file.read("x").unwrap(), file.read("s").unwrap());
        let after = |e: FileError| e.to_string().split_once("npz: ").unwrap().1.to_string();
        assert_eq!(
            after(
                x.check_shape(&[Dimension::Any("T"), Dimension::Any("B"), Dimension::Size(5)]).unwrap_err()
            ),
            "array `x`: expected shape [T, B, 5], found shape [2, 2]"
        );
        assert!(x.check_shape(&[Dimension::Any("T"), Dimension::Size(2)]).is_ok());
        assert_eq!(
            after(x.check_finite().unwrap_err()),
            "array `x`: expected finite numbers, found NaN at [1, 0]"
        );
        assert_eq!(
            after(x.symbols(4, false).unwrap_err()),
            "array `x`: expected integers, found float32: `x.astype(\"int64\")` makes them"
        );
        assert_eq!(s.f32s().unwrap()[..], [0.0, 9.0, -1.0]);
        let large = Array::new("l", &[2], Elements::Integers(vec![1 << 24, i64::MAX]));
        assert!(large.f32s().unwrap_err().to_string().ends_with("found 9223372036854775807 at [1]"));
        assert!(large.f64s().unwrap_err().to_string().ends_with("found 9223372036854775807 at [1]"));
        assert_eq!(
            after(s.symbols(5, false).unwrap_err()),
            "array `s`: expected symbols from 0 to 4, found 9 at [1]"
        );
        assert_eq!(
            after(file.read("d").unwrap().f32s().unwrap_err()),
            "array `d`: expected numbers within single precision, found -1e39 at [1]"
        );
        assert_eq!(s.symbols(10, true).unwrap(), [0, 9, rnnc_plan::NO_SYMBOL]);
        assert_eq!(after(s.flags().unwrap_err()), "array `s`: expected 0 or 1, found 9 at [1]");
    }

    #[test]
    fn compressed_files_are_read_and_damaged_ones_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("in.npz");
        let values = Elements::F64((0..50).map(f64::from).collect());
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        zip.start_file("x.npy", options).unwrap();
        zip.write_all(&npy::encode(&[50], &values)).unwrap();
        zip.finish().unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert!(whole.len() < 400);
        assert_eq!(*ArrayFile::open(&path).unwrap().read("x").unwrap().elements(), values);
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x55;
            std::fs::write(&path, damaged).unwrap();
            // Some bytes, like a date, say nothing about the array; the others are checked by sums.
            if let Ok(read) = ArrayFile::open(&path).and_then(|mut file| file.read("x")) {
                assert_eq!(*read.elements(), values, "{place}");
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_and_no_panic() {
        let (_kept, path) = written(&[Array::new("x", &[2, 2], Elements::F32(vec![1.0; 4]))]);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = ArrayFile::open(&path).and_then(|mut f| f.read("x")).unwrap_err();
            assert!(error.to_string().contains("in.npz"), "{error}");
        }
    }

    #[test]
    fn a_shape_larger_than_the_data_is_an_error_before_anything_is_allocated() {
        let mut bytes = npy::encode(&[4], &Elements::F32(vec![0.0; 4]));
        let place = bytes.windows(4).position(|w| w == b"(4,)").unwrap();
        bytes[place..place + 4].copy_from_slice(b"(9,)");
        assert!(decode(&bytes).err().unwrap().contains("9 float32 values"));
        let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999, 99999999999999), }\n";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        assert!(decode(&bytes).err().unwrap().contains("very many"));
    }

    #[test]
    fn no_more_is_read_than_the_shape_says_and_a_byte() {
        struct Endless<'a>(&'a [u8], usize);
        impl std::io::Read for Endless<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.1 += buffer.len();
                match self.0.read(buffer)? {
                    0 => Ok(buffer.len()),
                    read => Ok(read),
                }
            }
        }
        let bytes = npy::encode(&[2, 3], &Elements::F32(vec![1.0; 6]));
        let mut bomb = Endless(&bytes, 0);
        let error = npy::decode(&mut bomb, u64::MAX).err().unwrap();
        assert!(
            error.ends_with("6 float32 values, as the shape [2, 3] says; there are more than 24 bytes"),
            "{error}"
        );
        assert_eq!(bomb.1, bytes.len() + 1);
    }

    #[test]
    fn a_shape_that_so_small_a_file_cannot_hold_is_refused_before_room_is_made() {
        let bytes = npy::encode(&[4_000_000_000_000], &Elements::F64(vec![]));
        let error = npy::decode(&mut &*bytes, 1 << 40).err().unwrap();
        assert!(error.contains("there are at most"), "{error}");
    }

    proptest! {
        #[test]
        fn no_header_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut whole = b"\x93NUMPY\x01\x00".to_vec();
            whole.extend((bytes.len() as u16).to_le_bytes());
            whole.extend(&bytes);
            prop_assert!(decode(&whole).is_err());
        }
    }
}

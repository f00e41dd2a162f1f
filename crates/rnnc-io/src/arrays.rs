//! Arrays in NumPy's `.npz` files: reading with checks that name file and array, and writing.
//!
//! An `.npz` file is a zip archive of `.npy` arrays, as `numpy.savez` and `numpy.savez_compressed` write it.

use crate::array::{Array, Dimension, Elements};
use crate::error::FileError;
use crate::files::{Output, write_whole};
use crate::inputs::open_regular;
use crate::kind::{Wanted, check_kind};
use crate::npy::{self, Header};
use rnnc_graph::nearest;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader};
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
/// let x = ArrayFile::open(&path)?.read_shaped("x", &[Dimension::Any("T"), Dimension::Size(1), Dimension::Size(3)])?;
/// assert_eq!(x.f32s()?[0], 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ArrayFile {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    /// The places of the arrays in the archive, by name.
    places: BTreeMap<String, usize>,
}

impl ArrayFile {
    /// Opens the file and reads its table of contents.
    ///
    /// # Errors
    /// A file that is none, one with other things in it than arrays, and one with two arrays of one name.
    pub fn open(path: impl Into<PathBuf>) -> Result<ArrayFile, FileError> {
        let path = path.into();
        check_kind(&path, Wanted::Arrays)?;
        let (file, _) = open_regular(&path)?;
        let archive = ZipArchive::new(BufReader::new(file))
            .map_err(|e| FileError::contents(&path, format!("not a whole .npz file (cut short?): {e}")))?;
        let fail = |problem: String| FileError::contents(&path, problem);
        let mut places = BTreeMap::new();
        for (place, member) in archive.file_names().enumerate() {
            let member = member.map_err(|_| fail("it has a member whose name is not text".into()))?;
            let Some(name) = member.strip_suffix(".npy") else {
                return Err(fail(format!(
                    "its member `{member}` is not an array: in an .npz file each is called NAME.npy"
                )));
            };
            places.insert(name.to_string(), place);
        }
        // The archive's own table has one place a name.
        if archive.has_duplicate_names() {
            return Err(fail("it has two arrays of one name: leave one of them".into()));
        }
        Ok(ArrayFile { path, archive, places })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    /// Whether it has an array of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Refuses arrays other than these. `what` says what they are: "the network's inputs and `reset`".
    pub fn refuse_others(&self, known: &[&str], what: &str) -> Result<(), FileError> {
        // A list of sequences has as many names as it has arrays.
        let set: HashSet<&str> = known.iter().copied().collect();
        match self.places.keys().find(|name| !set.contains(name.as_str())) {
            None => Ok(()),
            Some(array) => {
                let meant = match nearest(array, known.iter().copied()) {
                    _ if array.starts_with("arr_") => {
                        " (what NumPy calls one without a name: `numpy.savez(path, x=...)` gives it one)"
                            .into()
                    }
                    Some(near) => format!(" (did you mean `{near}`?)"),
                    None => String::new(),
                };
                let expected = format!("{what} ({})", list(known));
                Err(self.error(array, expected, format!("an array of another name{meant}")))
            }
        }
    }

    fn error(&self, array: &str, expected: String, found: String) -> FileError {
        FileError::Array { path: self.path.clone(), array: array.into(), expected, found }
    }

    /// Reads an array, whatever its shape.
    pub fn read(&mut self, name: &str) -> Result<Array, FileError> {
        self.read_if(name, |_| Ok(()))
    }

    /// Reads an array of this shape. One of another is refused before its numbers are read.
    pub fn read_shaped(&mut self, name: &str, shape: &[Dimension<'_>]) -> Result<Array, FileError> {
        self.read_if(name, |array| array.check_shape(shape))
    }

    /// Reads an array, unless something is wrong with what its header says.
    fn read_if(
        &mut self,
        name: &str,
        check: impl FnOnce(&Array) -> Result<(), FileError>,
    ) -> Result<Array, FileError> {
        let Some(&place) = self.places.get(name) else {
            let there: Vec<&str> = self.places.keys().map(String::as_str).collect();
            let found =
                if there.is_empty() { "none at all".into() } else { format!("only {}", list(&there)) };
            return Err(self.error(name, "an array of this name".into(), found));
        };
        let path = self.path.clone();
        let error = |expected: String, found: String| FileError::Array {
            path: path.clone(),
            array: name.into(),
            expected,
            found,
        };
        let mut member = self.archive.by_index(place).map_err(|e| {
            let e = npy::unread(e.into());
            error(e.expected, e.found)
        })?;
        // What the archive says of its size may be wrong, so that what it can hold at most counts too.
        let most = member.size().min(member.compressed_size().saturating_mul(DEFLATED));
        let header = Header::read(&mut member, most).map_err(|e| error(e.expected, e.found))?;
        let mut array = Array {
            path: path.clone(),
            name: name.into(),
            shape: header.shape.clone(),
            element: header.element,
            elements: Elements::F32(Vec::new()),
        };
        check(&array)?;
        array.elements = header.elements(&mut member).map_err(|e| error(e.expected, e.found))?;
        Ok(array)
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
        let put = |array| put(&mut zip, array);
        match arrays.iter().try_for_each(put) {
            Ok(()) => zip.finish().map(|_| ()).map_err(Into::into),
            Err(error) => {
                // Dropped, it would finish the archive, and tell stderr that it cannot.
                std::mem::forget(zip);
                Err(error)
            }
        }
    })
}

fn put(zip: &mut ZipWriter<&mut dyn Output>, array: &Array) -> io::Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(npy::length(&array.shape, &array.elements) >= u64::from(u32::MAX));
    zip.start_file(format!("{}.npy", array.name), options)?;
    npy::write(zip, &array.shape, &array.elements)
}

/// `a`, `b`, `c`
pub fn list(names: &[&str]) -> String {
    match names {
        [] => "nothing".into(),
        names => {
            let named = names.iter().take(NAMED).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            let more = names.len().saturating_sub(NAMED);
            if more > 0 { format!("{named} and {more} more") } else { named }
        }
    }
}

/// More names than these are counted, not listed.
const NAMED: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::ElementType;
    use proptest::prelude::*;
    use std::io::Write;

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

    fn encode(shape: &[usize], elements: &Elements) -> Vec<u8> {
        let mut bytes = Vec::new();
        npy::write(&mut bytes, shape, elements).unwrap();
        bytes
    }

    fn decode_from(source: &mut impl io::Read, most: u64) -> Result<(Vec<usize>, Elements), String> {
        let in_words = |e: npy::Wrong| format!("{}; {}", e.expected, e.found);
        let header = Header::read(source, most).map_err(in_words)?;
        let elements = header.elements(source).map_err(in_words)?;
        Ok((header.shape, elements))
    }

    fn decode(bytes: &[u8]) -> Result<(Vec<usize>, Elements), String> {
        decode_from(&mut &*bytes, bytes.len() as u64)
    }

    /// The layout of `numpy.arange(6, dtype=">i2").reshape(2, 3, order="F")`.
    #[test]
    fn column_major_big_endian_arrays_are_turned() {
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }";
        bytes.extend(format!("{header:<117}\n").as_bytes());
        bytes.extend([0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5]);
        let (shape, elements) = decode(&bytes).unwrap();
        assert_eq!(shape, [2, 3]);
        assert_eq!(elements, Elements::Integers(vec![0, 2, 4, 1, 3, 5]));
    }

    /// An array that is written by hand, of 3 elements, as Python 2 writes their number.
    fn read_raw(descr: &str, data: &[u8]) -> Result<Array, FileError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("in.npz");
        let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (3L,), }}");
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

    /// A file whose members are these.
    fn archive(members: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("in.npz");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        for (name, bytes) in members {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        (directory, path)
    }

    #[test]
    fn a_member_that_is_no_array_is_named() {
        let x = encode(&[1], &Elements::F32(vec![1.0]));
        for name in ["x", "read.me", "a/"] {
            let (_kept, path) = archive(&[("y.npy", &x), (name, &x)]);
            let error = ArrayFile::open(&path).err().unwrap().to_string();
            assert!(error.contains(&format!("its member `{name}` is not an array")), "{error}");
        }
        let (_kept, path) = archive(&[("a/x.npy", &x)]);
        assert_eq!(ArrayFile::open(&path).unwrap().names(), ["a/x"]);
    }

    #[test]
    fn an_array_that_is_packed_otherwise_than_numpy_does_is_refused_with_what_is_read() {
        let (_kept, path) = archive(&[("x.npy", &encode(&[1], &Elements::F32(vec![1.0])))]);
        let mut bytes = std::fs::read(&path).unwrap();
        let central = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
        // The number of bzip2.
        (bytes[8], bytes[central + 10]) = (12, 12);
        std::fs::write(&path, bytes).unwrap();
        let error = ArrayFile::open(&path).unwrap().read("x").unwrap_err().to_string();
        assert!(error.contains("12 (`numpy.savez` and `numpy.savez_compressed` write"), "{error}");
    }

    #[test]
    fn two_arrays_of_one_name_are_refused() {
        let (one, two) = (encode(&[1], &Elements::F32(vec![1.0])), encode(&[1], &Elements::F32(vec![2.0])));
        let (_kept, path) = archive(&[("x.npy", &one), ("z.npy", &two)]);
        let mut bytes = std::fs::read(&path).unwrap();
        let places: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i..].starts_with(b"z.npy")).collect();
        places.into_iter().for_each(|place| bytes[place] = b'x');
        std::fs::write(&path, bytes).unwrap();
        let error = ArrayFile::open(&path).err().unwrap().to_string();
        assert!(error.ends_with("it has two arrays of one name: leave one of them"), "{error}");
    }

    #[test]
    fn an_array_of_another_shape_is_refused_before_its_numbers_are_read() {
        // The numbers are damaged, so that to read them is an error of its own.
        let (_kept, path) = archive(&[("x.npy", &encode(&[300, 2], &Elements::F64(vec![0.5; 600])))]);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let mut file = ArrayFile::open(&path).unwrap();
        let any = Dimension::Any("T");
        let error = file.read_shaped("x", &[any, Dimension::Size(3)]).unwrap_err().to_string();
        assert!(error.ends_with("expected shape [T, 3], found shape [300, 2]"), "{error}");
        let error = file.read_shaped("x", &[any, Dimension::Size(2)]).unwrap_err().to_string();
        assert!(error.contains("expected a whole array"), "{error}");
    }

    #[test]
    fn many_names_are_counted_and_not_listed() {
        let names: Vec<String> = (0..25).map(|i| format!("x.{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(list(&names).ends_with("`x.19` and 5 more"));
        assert_eq!(list(&names[..2]), "`x.0`, `x.1`");
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
        zip.write_all(&encode(&[50], &values)).unwrap();
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
        let mut bytes = encode(&[4], &Elements::F32(vec![0.0; 4]));
        let place = bytes.windows(4).position(|w| w == b"(4,)").unwrap();
        bytes[place..place + 4].copy_from_slice(b"(9,)");
        assert!(decode(&bytes).err().unwrap().contains("9 float32 values"));
        let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999, 99999999999999), }\n";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        assert!(decode(&bytes).err().unwrap().contains("very many"));
        let bytes = encode(&[1; 65], &Elements::F32(vec![1.0]));
        assert_eq!(decode(&bytes).err().unwrap(), "at most 64 dimensions; 65");
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
        let bytes = encode(&[2, 3], &Elements::F32(vec![1.0; 6]));
        let mut bomb = Endless(&bytes, 0);
        let error = decode_from(&mut bomb, u64::MAX).err().unwrap();
        assert!(
            error.ends_with("6 float32 values, as the shape [2, 3] says; there are more than 24 bytes"),
            "{error}"
        );
        assert_eq!(bomb.1, bytes.len() + 1);
    }

    #[test]
    fn a_shape_that_so_small_a_file_cannot_hold_is_refused_before_room_is_made() {
        let bytes = encode(&[4_000_000_000_000], &Elements::F64(vec![]));
        let error = decode_from(&mut &*bytes, 1 << 40).err().unwrap();
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

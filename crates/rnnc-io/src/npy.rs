//! One array in NumPy's `.npy` form: a magic number, a header that is a Python dictionary, the numbers.
//!
//! The form is fixed by NumPy's "NEP 1: a simple file format for NumPy arrays".

use crate::array::{ElementType, Elements};
use crate::inputs::reserve;
use crate::tensors::half;
use rnnc_plan::ExecutorError;
use std::io::{self, Read, Write};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Bytes that are read or written at a time: a multiple of every element's size.
const CHUNK: usize = 1 << 16;

/// More than the header of any array takes: NumPy itself refuses 10,000.
const HEADER: usize = 1 << 16;

/// As many dimensions as NumPy's arrays have at most.
const DIMENSIONS: usize = 64;

/// What was expected of a file, and what was found.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) expected: String,
    pub(crate) found: String,
}

fn wrong(expected: impl Into<String>, found: impl Into<String>) -> Wrong {
    Wrong { expected: expected.into(), found: found.into() }
}

/// What an array that cannot be read is told.
pub(crate) fn unread(error: io::Error) -> Wrong {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => wrong("a whole array", "the file is cut short"),
        // How an archive packs an array may be told only where it is read.
        io::ErrorKind::Unsupported => wrong(
            "a whole array",
            format!("{error} (`numpy.savez` and `numpy.savez_compressed` write what is read here)"),
        ),
        _ => wrong("a whole array", error.to_string()),
    }
}

/// What the header of an `.npy` file says of the numbers behind it.
pub(crate) struct Header {
    pub(crate) shape: Vec<usize>,
    pub(crate) element: ElementType,
    big_endian: bool,
    column_major: bool,
    /// As many as the shape says.
    count: usize,
}

impl Header {
    /// Reads the header of a file that has at most so many bytes.
    pub(crate) fn read(source: &mut impl Read, most: u64) -> Result<Header, Wrong> {
        let mut begin = [0; MAGIC.len() + 2];
        source.read_exact(&mut begin).map_err(unread)?;
        let Some([version, _]) = begin.strip_prefix(MAGIC) else {
            return Err(wrong("an .npy array", "something that does not begin as one"));
        };
        let mut length = [0; 4];
        match version {
            1 => source.read_exact(&mut length[..2]),
            2 | 3 => source.read_exact(&mut length),
            newer => return Err(wrong("an .npy array of version 1 to 3", format!("version {newer}"))),
        }
        .map_err(unread)?;
        let length = u32::from_le_bytes(length) as usize;
        const SAYS: &str = "a header that says type and shape";
        if length > HEADER {
            return Err(wrong(SAYS, format!("one of {length} bytes")));
        }
        let mut text = vec![0; length];
        source.read_exact(&mut text).map_err(unread)?;
        let text = String::from_utf8_lossy(&text);
        let said = Said::parse(&text).ok_or_else(|| wrong(SAYS, format!("{:?}", text.trim_end())))?;
        if said.shape.len() > DIMENSIONS {
            let found = format!("{}", said.shape.len());
            return Err(wrong(format!("at most {DIMENSIONS} dimensions"), found));
        }

        let Some((big_endian, element)) = element_type(&said.descr) else {
            return Err(wrong("floats, integers or booleans", unsupported(&said.descr)));
        };
        let count = said.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let Some((count, size)) = count.and_then(|n| Some((n, n.checked_mul(element.size())?))) else {
            let expected = format!("{} values, as the shape {:?} says", element.name(), said.shape);
            return Err(wrong(expected, "a shape of very many: no file has them"));
        };
        let header =
            Header { shape: said.shape, element, big_endian, column_major: said.fortran_order, count };
        let there = most.saturating_sub((begin.len() + length) as u64);
        if size as u64 > there {
            return Err(header.wrong(format!("there are at most {there} bytes (cut short?)")));
        }
        Ok(header)
    }

    /// Something else than as many numbers as the shape says.
    fn wrong(&self, found: impl Into<String>) -> Wrong {
        let Header { shape, element, count, .. } = self;
        wrong(format!("{count} {} values, as the shape {shape:?} says", element.name()), found)
    }

    /// Reads the numbers behind the header, in row-major order, and no more than it says.
    pub(crate) fn elements(&self, source: &mut impl Read) -> Result<Elements, Wrong> {
        let mut elements = read_elements(self, source).map_err(|problem| match problem {
            Problem::Read(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                self.wrong("the file is cut short")
            }
            Problem::Read(e) => unread(e),
            Problem::Memory(e) => wrong("an array that memory holds", e.to_string()),
            Problem::TooLarge(x) => wrong("integers below 2^63", x.to_string()),
        })?;
        // What comes after them is not looked at; that nothing comes is when archives compare their sums.
        if source.read(&mut [0]).map_err(unread)? > 0 {
            return Err(self.wrong(format!("there are more than {} bytes", self.count * self.element.size())));
        }
        if self.column_major && self.shape.len() > 1 {
            let turned = elements.make_row_major(&self.shape);
            turned.map_err(|e| wrong("an array that memory holds", e.to_string()))?;
        }
        Ok(elements)
    }
}

/// The bytes that [`write`] writes.
pub(crate) fn length(shape: &[usize], elements: &Elements) -> u64 {
    (header(shape, elements).len() + elements.len() * elements.size()) as u64
}

/// Writes the header and the numbers of an array, little-endian and row-major.
pub(crate) fn write(out: &mut impl Write, shape: &[usize], elements: &Elements) -> io::Result<()> {
    fn put<T: Copy, const N: usize>(
        out: &mut impl Write,
        values: &[T],
        bytes: impl Fn(T) -> [u8; N],
    ) -> io::Result<()> {
        let mut chunk = Vec::with_capacity(CHUNK.min(values.len() * N));
        for values in values.chunks(CHUNK / N) {
            chunk.clear();
            values.iter().for_each(|&x| chunk.extend(bytes(x)));
            out.write_all(&chunk)?;
        }
        Ok(())
    }
    out.write_all(&header(shape, elements))?;
    match elements {
        Elements::F32(v) => put(out, v, f32::to_le_bytes),
        Elements::F64(v) => put(out, v, f64::to_le_bytes),
        Elements::Integers(v) => put(out, v, i64::to_le_bytes),
        Elements::Booleans(v) => put(out, v, |x| [u8::from(x)]),
    }
}

fn header(shape: &[usize], elements: &Elements) -> Vec<u8> {
    let descr = match elements {
        Elements::F32(_) => "<f4",
        Elements::F64(_) => "<f8",
        Elements::Integers(_) => "<i8",
        Elements::Booleans(_) => "|b1",
    };
    // A tuple of one has a comma: (3,).
    let dimensions: String = shape.iter().map(|d| format!("{d}, ")).collect();
    let dimensions = if shape.len() == 1 { dimensions.trim_end() } else { dimensions.trim_end_matches(", ") };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dimensions}), }}");
    // The numbers begin at a multiple of 64.
    let before = MAGIC.len() + 2 + 2;
    let padding = (before + header.len() + 1).next_multiple_of(64) - (before + header.len() + 1);
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');

    let mut out = Vec::from(MAGIC);
    out.extend([1, 0]);
    // A shape would need thousands of dimensions to pass 65535 bytes; ours have four at most.
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out
}

/// Whether the bytes are big-endian, and the type.
fn element_type(descr: &str) -> Option<(bool, ElementType)> {
    let element = match descr.get(1..)? {
        "f2" => ElementType::F16,
        "f4" => ElementType::F32,
        "f8" => ElementType::F64,
        "i1" => ElementType::I8,
        "i2" => ElementType::I16,
        "i4" => ElementType::I32,
        "i8" => ElementType::I64,
        "u1" => ElementType::U8,
        "u2" => ElementType::U16,
        "u4" => ElementType::U32,
        "u8" => ElementType::U64,
        "b1" => ElementType::Bool,
        _ => return None,
    };
    match descr.as_bytes()[0] {
        b'<' | b'|' => Some((false, element)),
        b'>' => Some((true, element)),
        _ => None,
    }
}

/// A type that is not read, and what to do about it.
fn unsupported(descr: &str) -> String {
    let float = "`.astype(\"float32\")` makes floats of it";
    let (name, remedy) = match descr.trim_start_matches(['<', '>', '|', '=']).chars().next() {
        _ if descr.starts_with('[') => ("a structured array", "save each of its fields as an array"),
        Some('c') => ("complex numbers", "save their real and imaginary parts, `.real` and `.imag`"),
        Some('f') => ("long doubles", float),
        Some('O') => {
            ("Python objects", "build it of numbers of one shape: `numpy.array(.., dtype=\"float32\")`")
        }
        Some('U' | 'S') => ("text", "number its words or characters, from 0"),
        Some('M' | 'm') => ("dates or times", "make numbers of them: `.astype(\"int64\")`"),
        // NumPy has no bfloat16 of its own, and writes that of others as raw bytes.
        Some('V') => ("raw bytes (bfloat16?)", "convert it before saving: `.astype(\"float32\")`"),
        _ => ("a type that is not known", float),
    };
    format!("{name} ('{descr}'): {remedy}")
}

/// Why elements cannot be read.
enum Problem {
    Read(io::Error),
    Memory(ExecutorError),
    TooLarge(u64),
}

fn read_elements(header: &Header, source: &mut impl Read) -> Result<Elements, Problem> {
    let &Header { element, big_endian, count, .. } = header;
    // `chunks_exact` gives slices of the element's size, so that the conversion to an array cannot fail.
    macro_rules! read {
        ($type:ty, $fit:expr) => {{
            const SIZE: usize = size_of::<$type>();
            let mut values = reserve(count, "the array").map_err(Problem::Memory)?;
            let mut chunk = vec![0; CHUNK.min(count * SIZE)];
            while values.len() < count {
                let part = &mut chunk[..CHUNK.min((count - values.len()) * SIZE)];
                source.read_exact(part).map_err(Problem::Read)?;
                for bytes in part.chunks_exact(SIZE) {
                    let bytes = bytes.try_into().expect("a chunk of the element's size");
                    let value = if big_endian {
                        <$type>::from_be_bytes(bytes)
                    } else {
                        <$type>::from_le_bytes(bytes)
                    };
                    values.push($fit(value)?);
                }
            }
            values
        }};
    }
    macro_rules! integers {
        ($type:ty) => {
            Elements::Integers(read!($type, |x| Ok(i64::from(x))))
        };
    }
    Ok(match element {
        // Each is one of single precision.
        ElementType::F16 => Elements::F32(read!(u16, |x| Ok(half(x) as f32))),
        ElementType::F32 => Elements::F32(read!(f32, Ok)),
        ElementType::F64 => Elements::F64(read!(f64, Ok)),
        ElementType::I8 => integers!(i8),
        ElementType::I16 => integers!(i16),
        ElementType::I32 => integers!(i32),
        ElementType::I64 => integers!(i64),
        ElementType::U8 => integers!(u8),
        ElementType::U16 => integers!(u16),
        ElementType::U32 => integers!(u32),
        ElementType::U64 => {
            Elements::Integers(read!(u64, |x| { i64::try_from(x).map_err(|_| Problem::TooLarge(x)) }))
        }
        ElementType::Bool => Elements::Booleans(read!(u8, |x| Ok(x != 0))),
    })
}

/// The dictionary that a header is.
struct Said {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Said {
    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, the keys in any order.
    fn parse(text: &str) -> Option<Said> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
        while !rest.is_empty() {
            let (key, after) = quoted(rest)?;
            let value = after.trim_start().strip_prefix(':')?.trim_start();
            rest = match key {
                "descr" if value.starts_with('[') => {
                    // A list of fields, in which other keys do not occur as keys.
                    let end = value.find("], ")? + 1;
                    descr = Some(value[..end].to_string());
                    &value[end..]
                }
                "descr" => {
                    let (value, after) = quoted(value)?;
                    descr = Some(value.to_string());
                    after
                }
                "fortran_order" => {
                    let after = value.strip_prefix("True").or_else(|| value.strip_prefix("False"))?;
                    fortran_order = Some(value.starts_with("True"));
                    after
                }
                "shape" => {
                    let (inside, after) = value.strip_prefix('(')?.split_once(')')?;
                    // Python 2 writes `3L`.
                    let sizes = inside.split(',').map(|s| s.trim().trim_end_matches('L'));
                    let sizes = sizes.filter(|s| !s.is_empty());
                    shape = Some(sizes.map(|s| s.parse().ok()).collect::<Option<Vec<usize>>>()?);
                    after
                }
                _ => return None,
            };
            rest = rest.trim_start();
            rest = match rest.strip_prefix(',') {
                Some(after) => after.trim_start(),
                None if rest.is_empty() => rest,
                None => return None,
            };
        }
        Some(Said { descr: descr?, fortran_order: fortran_order?, shape: shape? })
    }
}

/// A string in single or double quotes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

//! Tables of named columns, as spreadsheets and pandas write them: CSV files whose first line has the columns' names.
//!
//! Cells are parted by commas, semicolons or tabs, whichever the first line has most of, and may stand in double quotes. An empty
//! cell, `NA`, `NaN`, `null`, `None` and `?` are missing values.

use crate::error::FileError;
use crate::files::write_whole;
use crate::inputs::open_regular;
use csv::{ByteRecord, ReaderBuilder, WriterBuilder};
use rnnc_graph::nearest;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::{Path, PathBuf};

/// How missing values are written, in small letters.
const MISSING: [&str; 6] = ["", "na", "nan", "null", "none", "?"];

/// What a text in UTF-8 may begin with, of no meaning.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Bytes of the first line that are looked at for what parts its cells.
const FIRST_LINE: u64 = 1 << 16;

/// A CSV file, open for reading row by row.
pub struct Table {
    path: PathBuf,
    names: Vec<String>,
    reader: csv::Reader<BufReader<File>>,
    row: ByteRecord,
}

impl Table {
    /// Opens the file and reads its columns' names.
    ///
    /// # Errors
    /// What cannot be read; a first line that is not UTF-8, is empty or has a name twice.
    pub fn open(path: impl Into<PathBuf>) -> Result<Table, FileError> {
        let path = path.into();
        let (file, _) = open_regular(&path)?;
        let mut file = BufReader::new(file);
        let delimiter = delimiter(&mut file).map_err(|e| FileError::read(&path, e))?;
        // A row of another number of cells is an error here, with its line.
        let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(file);
        let header = reader.byte_headers().map_err(|e| unread(&path, &e))?.clone();
        let mut names: Vec<String> = Vec::new();
        for (place, name) in header.iter().enumerate() {
            let name = if place == 0 { name.strip_prefix(MARK).unwrap_or(name) } else { name };
            let Ok(name) = std::str::from_utf8(name) else {
                let problem = "line 1 is not a text in UTF-8: save the file as UTF-8";
                return Err(FileError::contents(&path, problem));
            };
            let name = name.trim();
            if !name.is_empty() && names.iter().any(|n| n == name) {
                let problem = format!("two columns are called `{name}` in line 1: rename one");
                return Err(FileError::contents(&path, problem));
            }
            names.push(name.into());
        }
        if names.iter().all(String::is_empty) {
            let problem = "no table: its first line has the names of columns, and this one has none";
            return Err(FileError::contents(&path, problem));
        }
        Ok(Table { path, names, reader, row: ByteRecord::new() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The columns' names, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The place of a column.
    ///
    /// # Errors
    /// No such column, with those that there are.
    pub fn place(&self, name: &str) -> Result<usize, FileError> {
        if let Some(place) = self.names.iter().position(|n| n == name) {
            return Ok(place);
        }
        let known: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let meant = nearest(name, known.iter().copied()).map(|near| format!(" (did you mean `{near}`?)"));
        let problem = format!(
            "there is no column `{name}`{}: line 1 has {}",
            meant.unwrap_or_default(),
            crate::arrays::list(&known)
        );
        Err(FileError::contents(&self.path, problem))
    }

    /// Goes on to the next row; whether there is one.
    ///
    /// # Errors
    /// What cannot be read, and a row of more or fewer cells than there are columns.
    pub fn next_row(&mut self) -> Result<bool, FileError> {
        self.reader.read_byte_record(&mut self.row).map_err(|e| unread(&self.path, &e))
    }

    /// The number in a column of the current row; `None` if it is missing.
    ///
    /// # Errors
    /// What is no finite number of single precision, with its line and column.
    pub fn number(&self, column: usize) -> Result<Option<f32>, FileError> {
        let text = self.text(column)?;
        if is_missing(text) {
            return Ok(None);
        }
        match text.parse::<f64>().map(|x| x as f32) {
            Ok(x) if x.is_finite() => Ok(Some(x)),
            Ok(_) => Err(self.error(column, "a number that single precision holds", text)),
            Err(_) => Err(self.error(column, "a number", text)),
        }
    }

    /// The text in a column of the current row, without spaces around it.
    ///
    /// # Errors
    /// Bytes that are not UTF-8.
    pub fn text(&self, column: usize) -> Result<&str, FileError> {
        let cell = self.row.get(column).unwrap_or_default();
        let text = std::str::from_utf8(cell).map_err(|_| {
            self.error(column, "a text in UTF-8 (save the file as UTF-8)", &String::from_utf8_lossy(cell))
        })?;
        Ok(text.trim())
    }

    /// What is wrong with a cell of the current row.
    pub fn error(&self, column: usize, expected: &str, found: &str) -> FileError {
        let line = self.row.position().map_or(0, csv::Position::line);
        let name = self.names.get(column).map_or("", String::as_str);
        // A cell may be as long as the file.
        let shown: String = found.chars().take(40).collect();
        let found = if is_missing(found) { "nothing".into() } else { format!("`{shown}`") };
        FileError::contents(
            &self.path,
            format!("line {line}, column `{name}`: expected {expected}, found {found}"),
        )
    }
}

/// Whether a cell's text stands for a value that is missing.
pub fn is_missing(text: &str) -> bool {
    text.len() <= 4 && MISSING.contains(&&*text.to_ascii_lowercase())
}

/// Writes a table, whole or not at all: its columns' names, and row by row their cells.
///
/// # Errors
/// A file that cannot be written.
pub fn write_table(
    path: &Path,
    names: &[String],
    rows: &mut dyn Iterator<Item = Vec<String>>,
) -> Result<(), FileError> {
    write_whole(path, |out| {
        let mut writer = WriterBuilder::new().from_writer(out);
        writer.write_record(names)?;
        for row in rows {
            writer.write_record(row)?;
        }
        writer.flush()
    })
}

/// What parts the cells of the first line; the reader begins anew then.
fn delimiter(file: &mut BufReader<File>) -> std::io::Result<u8> {
    let mut line = Vec::new();
    std::io::Read::take(&mut *file, FIRST_LINE).read_until(b'\n', &mut line)?;
    file.rewind()?;
    let count = |sign: u8| line.iter().filter(|&&byte| byte == sign).count();
    // Of equal ones the last: commas.
    Ok(*b"\t;,".iter().max_by_key(|&&sign| count(sign)).unwrap_or(&b','))
}

fn unread(path: &Path, error: &csv::Error) -> FileError {
    match error.kind() {
        csv::ErrorKind::Io(e) => FileError::read(path, std::io::Error::new(e.kind(), e.to_string())),
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            let problem =
                format!("line {line}: expected {expected_len} cells, as line 1 has names, found {len}");
            FileError::contents(path, problem)
        }
        _ => FileError::contents(path, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &[u8]) -> (tempfile::TempDir, Result<Table, FileError>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        let table = Table::open(path);
        (directory, table)
    }

    fn numbers(text: &[u8], column: &str) -> Result<Vec<Option<f32>>, String> {
        let (_kept, table) = table(text);
        let read = || -> Result<_, FileError> {
            let mut table = table?;
            let place = table.place(column)?;
            let mut numbers = Vec::new();
            while table.next_row()? {
                numbers.push(table.number(place)?);
            }
            Ok(numbers)
        };
        read().map_err(|e| e.to_string().split_once("t.csv: ").unwrap().1.to_string())
    }

    #[test]
    fn commas_semicolons_and_tabs_part_cells() {
        for text in ["a,b\n1,2.5\n3,-4e1\n", "a;b\r\n1;2.5\r\n3; -4e1\r\n", "a\tb\n1\t2.5\n\n3\t\"-4e1\""] {
            assert_eq!(numbers(text.as_bytes(), "b").unwrap(), [Some(2.5), Some(-40.0)]);
        }
        assert_eq!(numbers(b"\xef\xbb\xbfa\n1\n", "a").unwrap(), [Some(1.0)]);
    }

    #[test]
    fn missing_values_are_none_in_all_their_spellings() {
        let text = b"a,b\n,1\nNA,1\nNaN,1\nnull,1\n?,1\nNone,1\n0,1\n";
        let found = numbers(text, "a").unwrap();
        assert_eq!(found, [None, None, None, None, None, None, Some(0.0)]);
    }

    #[test]
    fn what_is_wrong_is_said_with_line_and_column() {
        for (text, column, expected) in [
            (&b"a,b\n1,2\n3,x1\n"[..], "b", "line 3, column `b`: expected a number, found `x1`"),
            (b"a,b\n1,\"2\n2\"\n3,x\n", "a", "there is none"),
            (
                b"a,b\n1,1e39\n",
                "b",
                "line 2, column `b`: expected a number that single precision holds, found `1e39`",
            ),
            (b"a,b\n1,2\n3\n", "b", "line 3: expected 2 cells, as line 1 has names, found 1"),
            (
                b"a,price\n1,2\n",
                "prise",
                "there is no column `prise` (did you mean `price`?): line 1 has `a`, `price`",
            ),
            (b"a,a\n1,2\n", "a", "two columns are called `a` in line 1: rename one"),
            (b"", "a", "no table: its first line has the names of columns, and this one has none"),
            (b"a\xff\n1\n", "a", "line 1 is not a text in UTF-8: save the file as UTF-8"),
            (
                b"a\n\xff\n",
                "a",
                "line 2, column `a`: expected a text in UTF-8 (save the file as UTF-8), found `\u{fffd}`",
            ),
        ] {
            match expected {
                "there is none" => assert_eq!(numbers(text, column).unwrap().len(), 2),
                _ => assert_eq!(numbers(text, column).unwrap_err(), expected),
            }
        }
    }

    #[test]
    fn a_table_reads_back_as_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.csv");
        let names = ["a".to_string(), "b, c".into()];
        let mut rows =
            [["1.5".to_string(), "x\"y".into()], ["-2".into(), String::new()]].map(Vec::from).into_iter();
        write_table(&path, &names, &mut rows).unwrap();
        let mut table = Table::open(&path).unwrap();
        assert_eq!(table.names(), names);
        assert!(table.next_row().unwrap());
        assert_eq!((table.number(0).unwrap(), table.text(1).unwrap()), (Some(1.5), "x\"y"));
        assert!(table.next_row().unwrap());
        assert_eq!(table.text(1).unwrap(), "");
        assert!(!table.next_row().unwrap());
    }
}

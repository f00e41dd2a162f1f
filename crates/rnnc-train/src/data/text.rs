//! Text as data: files and globs in, one symbol per byte out.

use crate::data::files::DataFiles;
use crate::data::sequences::{Column, Sequences};
use crate::error::TrainError;
use rnnc_io::{open_regular, regular_length, reserve};
use rnnc_plan::check_available;
use std::io::Read;
use std::path::PathBuf;

/// The bytes of some files, laid end to end, each file a sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Text {
    bytes: Vec<u8>,
    /// Where each file begins.
    starts: Vec<usize>,
    files: Vec<PathBuf>,
}

impl Text {
    /// Reads files and globs (`src/**/*.rs`): in the order in which they are named, the files of a glob sorted by path, and
    /// each file once. Files that are empty add nothing.
    ///
    /// # Errors
    /// A file that cannot be read, a glob that no file matches, and nothing but empty files.
    pub fn read(named: &DataFiles<'_>) -> Result<Text, TrainError> {
        let what = format!("the text of `{}`", named.setting);
        let mut text = Text::default();
        let mut files = Vec::new();
        for path in named.paths()? {
            let length = regular_length(&path)?;
            files.push((path, length));
        }
        let length = files.iter().map(|(_, length)| u128::from(*length)).sum::<u128>();
        // As read, and as split.
        check_available(&what, length.saturating_mul(2))?;
        // It fits into memory.
        text.bytes = reserve(length as usize, &what)?;
        for (path, length) in files {
            let start = text.bytes.len();
            // One at a time: a process may have few files open at once.
            let (file, _) = open_regular(&path)?;
            // No more than there was room made for, should it grow meanwhile.
            let read = file.take(length).read_to_end(&mut text.bytes);
            if read.map_err(|e| TrainError::read(&path, e))? > 0 {
                text.starts.push(start);
                text.files.push(path);
            }
        }
        if text.bytes.is_empty() {
            let names: Vec<&str> = named.patterns.iter().map(String::as_str).collect();
            return Err(TrainError::Setting(format!(
                "there is no text: {} is empty",
                if names.is_empty() { format!("`{}`", named.setting) } else { rnnc_io::list(&names) }
            )));
        }
        Ok(text)
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none. [`Text::read`] gives no such text.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The files, in order.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// As data for a network with one symbol input of that many symbols: each byte is a symbol, and the next
    /// byte of the same file its target.
    ///
    /// # Errors
    /// A byte that is no symbol, with its file and place.
    pub fn sequences(self, symbols: usize) -> Result<Sequences, TrainError> {
        if let Some(place) = self.bytes.iter().position(|&b| usize::from(b) >= symbols) {
            let file = self.starts.partition_point(|&s| s <= place) - 1;
            return Err(TrainError::file(
                &self.files[file],
                format!(
                    "byte {} at offset {} is not a symbol of the network's input, which has {symbols} (from 0)",
                    self.bytes[place],
                    place - self.starts[file]
                ),
            ));
        }
        Ok(Sequences {
            frames: self.bytes.len(),
            columns: vec![Column::Bytes(self.bytes), Column::NextByte { of: 0 }],
            starts: self.starts,
            loss_mask: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, contents) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, contents).unwrap();
        }
        directory
    }

    fn read(patterns: &[&str], base: &Path) -> Result<Text, TrainError> {
        let patterns: Vec<String> = patterns.iter().map(|p| p.to_string()).collect();
        Text::read(&DataFiles { setting: "data.files", patterns: &patterns, base })
    }

    #[test]
    fn globs_are_sorted_and_each_file_is_read_once() {
        let kept = directory(&[
            ("b/z.rs", b"zz"),
            ("b/a.rs", b"a"),
            ("c.rs", b"ccc"),
            ("b/no.txt", b"!"),
            ("b/e.rs", b""),
        ]);
        let text = read(&["c.rs", "**/*.rs"], kept.path()).unwrap();
        assert_eq!(text.bytes, b"cccazz");
        assert_eq!(text.starts, [0, 3, 4]);
        assert_eq!(text.files()[2], kept.path().join("b/z.rs"));
    }

    #[test]
    fn a_directory_with_the_signs_of_a_glob_is_taken_as_it_is() {
        let kept = directory(&[("[a]/one.rs", b"1"), ("a/two.rs", b"2")]);
        assert_eq!(read(&["*.rs"], &kept.path().join("[a]")).unwrap().bytes, b"1");
    }

    #[test]
    fn missing_empty_and_unmatched_files_are_errors_that_name_them() {
        let kept = directory(&[("empty.txt", b"")]);
        let error = |patterns: &[&str]| read(patterns, kept.path()).unwrap_err().to_string();
        assert!(
            error(&["none.txt"]).starts_with(&format!("cannot read {}/none.txt: ", kept.path().display()))
        );
        assert_eq!(error(&["empty.txt"]), "there is no text: `empty.txt` is empty");
        assert_eq!(
            error(&["*.md"]),
            format!("`*.md` in `data.files`: no file in {} matches", kept.path().display())
        );
        assert!(error(&["a**"]).starts_with("`a**` in `data.files`: "));
        assert!(read(&["empty.txt"], kept.path()).unwrap_err().is_bad_input());
    }

    #[test]
    fn a_byte_that_is_no_symbol_is_named_with_its_file_and_place() {
        let kept = directory(&[("one", b"\x01\x02"), ("two", b"\x03\x07")]);
        let text = read(&["one", "two"], kept.path()).unwrap();
        let error = text.clone().sequences(7).unwrap_err().to_string();
        assert!(error.ends_with(
            "two: byte 7 at offset 1 is not a symbol of the network's input, which has 7 (from 0)"
        ));
        assert_eq!(text.sequences(8).unwrap().starts, [0, 2]);
    }
}

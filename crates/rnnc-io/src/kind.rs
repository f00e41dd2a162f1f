//! What kind of file this is, by its first bytes: for the message where another kind was asked for, which says how to
//! make the one of the other. The one place that knows other programs' files.

use crate::error::FileError;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zip::ZipArchive;

/// As much of a file as tells its kind.
const BEGINNING: u64 = 4096;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Weights or a checkpoint: safetensors.
    Weights,
    /// Arrays: `.npz`.
    Arrays,
    /// A sound: `.wav`.
    Audio,
    /// A text of networks: `.rnn`.
    Network,
    /// Settings: `train.toml`.
    Settings,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    Empty,
    Safetensors,
    Npz,
    Npy,
    Wav,
    OtherSound,
    PyTorch,
    Keras,
    Hdf5,
    Onnx,
    Pickle,
    Gguf,
    Gzip,
    Zip,
    Network,
    Settings,
    Text,
}

/// Refuses a file that is of another kind.
pub fn check_kind(path: &Path, wanted: Wanted) -> Result<(), FileError> {
    mistaken(path, wanted).map_or(Ok(()), |problem| Err(FileError::contents(path, problem)))
}

/// What a file is instead of what was wanted, and how to come from the one to the other. None if it is of the kind that was
/// wanted, or of one that is not known.
fn mistaken(path: &Path, wanted: Wanted) -> Option<String> {
    let found = kind(path)?;
    if found == wanted.kind() || found == Kind::Text && matches!(wanted, Wanted::Network | Wanted::Settings) {
        return None;
    }
    let remedy = remedy(path, found, wanted);
    let remedy = if remedy.is_empty() { remedy } else { format!(". {remedy}") };
    Some(format!("this is {}, not {}{remedy}", found.name(), wanted.name()))
}

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Wanted::Weights => "a file of weights (safetensors)",
            Wanted::Arrays => "a file of arrays (.npz)",
            Wanted::Audio => "a sound (.wav)",
            Wanted::Network => "a text of networks (.rnn)",
            Wanted::Settings => "a file of settings (train.toml)",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Wanted::Weights => Kind::Safetensors,
            Wanted::Arrays => Kind::Npz,
            Wanted::Audio => Kind::Wav,
            Wanted::Network => Kind::Network,
            Wanted::Settings => Kind::Settings,
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Directory => "a directory",
            Kind::Empty => "an empty file",
            Kind::Safetensors => "a safetensors file",
            Kind::Npz => "a file of NumPy arrays (.npz)",
            Kind::Npy => "a single NumPy array (.npy)",
            Kind::Wav => "a sound (.wav)",
            Kind::OtherSound => "a sound of another kind than WAV",
            Kind::PyTorch => "a PyTorch file (.pt)",
            Kind::Keras => "a Keras model (.keras)",
            Kind::Hdf5 => "an HDF5 file (.h5)",
            Kind::Onnx => "an ONNX model (.onnx)",
            Kind::Pickle => "a Python pickle",
            Kind::Gguf => "a GGUF file",
            Kind::Gzip => "a file compressed by gzip",
            Kind::Zip => "a zip archive without arrays",
            Kind::Network => "a text of networks (.rnn)",
            Kind::Settings => "a file of settings (TOML)",
            Kind::Text => "a text",
        }
    }

    /// A Python expression for a dictionary of its arrays.
    fn dictionary(self, path: &str) -> Option<String> {
        Some(match self {
            Kind::Safetensors => format!("safetensors.numpy.load_file({path:?})"),
            Kind::Npz => format!("dict(numpy.load({path:?}))"),
            Kind::Npy => format!("{{\"NAME\": numpy.load({path:?})}}"),
            Kind::PyTorch => format!("torch.load({path:?}, map_location=\"cpu\")"),
            Kind::Pickle => format!("pickle.load(open({path:?}, \"rb\"))"),
            Kind::Onnx => format!(
                "{{t.name: onnx.numpy_helper.to_array(t) for t in onnx.load({path:?}).graph.initializer}}"
            ),
            Kind::Hdf5 => format!("{{name: data[()] for name, data in h5py.File({path:?}).items()}}"),
            _ => return None,
        })
    }
}

/// How to make what was wanted.
fn remedy(path: &Path, found: Kind, wanted: Wanted) -> String {
    let shown = path.display().to_string();
    let names = match wanted {
        Wanted::Weights => ", under the names and in the shapes that `rnnc init` writes",
        _ => ", named like the network's inputs and in their shapes",
    };
    match (found, wanted) {
        (Kind::Directory, Wanted::Weights) if path.join("checkpoint.safetensors").is_file() => {
            format!("The checkpoint of a run is in it: {}", path.join("checkpoint.safetensors").display())
        }
        (Kind::Directory, Wanted::Settings) if path.join("train.toml").is_file() => {
            format!("There is one in it: {}", path.join("train.toml").display())
        }
        (Kind::OtherSound, _) => format!("Convert it: `ffmpeg -i {shown} sound.wav`"),
        (Kind::Wav, Wanted::Arrays) => {
            "`kind = \"audio\"` in `[data]` trains on sounds, and `rnnc run --input sound.wav` reads one"
                .into()
        }
        (_, Wanted::Audio) => {
            "Pairs `NAME-input.wav` and `NAME-target.wav` are what `kind = \"audio\"` trains on".into()
        }
        (Kind::Gzip, _) => format!("Unpack it first: `gunzip {shown}`"),
        (Kind::PyTorch, Wanted::Weights) => format!(
            "Convert it{names}: `import torch, safetensors.torch`; \
             `safetensors.torch.save_file(torch.load({shown:?}, map_location=\"cpu\"), \"weights.safetensors\")`"
        ),
        (Kind::PyTorch, Wanted::Arrays) => format!(
            "Convert it{names}: `import torch, numpy`; \
             `numpy.savez(\"in.npz\", **{{name: t.numpy() for name, t in torch.load({shown:?}).items()}})`"
        ),
        (Kind::Text, Wanted::Arrays) => format!(
            "If it is a table of numbers, one row a frame: `import numpy`; \
             `numpy.savez(\"in.npz\", x=numpy.loadtxt({shown:?}, delimiter=\",\", ndmin=2)[:, None, :])`, with the input's name \
             for x"
        ),
        (_, Wanted::Weights) => match found.dictionary(&shown) {
            Some(dictionary) => format!(
                "Convert it{names}: `import numpy, safetensors.numpy`; \
                 `safetensors.numpy.save_file({dictionary}, \"weights.safetensors\")`"
            ),
            None => "`rnnc init` and `rnnc train` write weights".into(),
        },
        (_, Wanted::Arrays) => match found.dictionary(&shown) {
            Some(dictionary) => {
                format!("Convert it{names}: `import numpy`; `numpy.savez(\"in.npz\", **{dictionary})`")
            }
            None => "`numpy.savez(\"in.npz\", x=...)` writes arrays".into(),
        },
        (Kind::Network, Wanted::Settings) => {
            format!(
                "Settings name it: `file = {shown:?}` under `[network]`; `rnnc new DIR` makes some to begin with"
            )
        }
        (Kind::Settings, Wanted::Network) => "`rnnc train` takes it".into(),
        (_, Wanted::Network | Wanted::Settings) => "`rnnc new DIR` makes one to begin with".into(),
    }
}

fn kind(path: &Path) -> Option<Kind> {
    // A pipe would be waited for.
    let about = std::fs::metadata(path).ok()?;
    if about.is_dir() {
        return Some(Kind::Directory);
    }
    if !about.is_file() {
        return None;
    }
    if about.len() == 0 {
        return Some(Kind::Empty);
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(BEGINNING).read_to_end(&mut bytes).ok()?;
    let ends = |extension: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
    Some(match bytes.as_slice() {
        // A length, and JSON. It comes first: a length may look like any of the marks below.
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => Kind::Safetensors,
        [b'P', b'K', ..] => of_archive(path),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Kind::Npy,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => Kind::Wav,
        [b'f', b'L', b'a', b'C', ..] | [b'O', b'g', b'g', b'S', ..] | [b'I', b'D', b'3', ..] => {
            Kind::OtherSound
        }
        [0x89, b'H', b'D', b'F', ..] => Kind::Hdf5,
        [b'G', b'G', b'U', b'F', ..] => Kind::Gguf,
        [0x1f, 0x8b, ..] => Kind::Gzip,
        // PyTorch's own form before its version 1.6 begins with a pickle.
        [0x80, 2..=5, ..] if ends("pt") || ends("pth") => Kind::PyTorch,
        [0x80, 2..=5, ..] => Kind::Pickle,
        // A protocol buffer has no mark of its own.
        [0x08, ..] if ends("onnx") => Kind::Onnx,
        bytes => of_text(bytes)?,
    })
}

fn of_archive(path: &Path) -> Kind {
    let Some(archive) = File::open(path).ok().and_then(|file| ZipArchive::new(file).ok()) else {
        // Cut short, perhaps.
        return Kind::Npz;
    };
    let has = |end: &str| archive.file_names().filter_map(Result::ok).any(|name| name.ends_with(end));
    if has(".npy") || archive.is_empty() {
        Kind::Npz
    } else if has("data.pkl") {
        Kind::PyTorch
    } else if has(".weights.h5") {
        Kind::Keras
    } else {
        Kind::Zip
    }
}

/// None for what is no text, and for what is too short to tell.
fn of_text(bytes: &[u8]) -> Option<Kind> {
    if bytes.len() < 8 {
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // The beginning may end inside a character.
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&bytes[..e.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    if text.contains('\0') {
        return None;
    }
    let mut lines =
        text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|l| !l.starts_with('#'));
    let first = lines.clone().find(|l| !l.is_empty()).unwrap_or_default();
    Some(if ["network ", "cell ", "rnn "].iter().any(|word| first.starts_with(word)) {
        Kind::Network
    } else if lines.any(|l| ["[network]", "[data]", "[training]", "[run]"].contains(&l)) {
        Kind::Settings
    } else {
        Kind::Text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::{Array, Elements};
    use crate::{TensorFile, write_arrays};
    use std::io::Write;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    /// A directory with a file of each kind, named after it.
    fn files() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let write = |name: &str, bytes: &[u8]| std::fs::write(path(name), bytes).unwrap();
        let zip = |name: &str, entry: &str| {
            let mut zip = ZipWriter::new(File::create(path(name)).unwrap());
            zip.start_file(entry, SimpleFileOptions::default()).unwrap();
            zip.write_all(b"some").unwrap();
            zip.finish().unwrap();
        };
        write_arrays(&path("npz"), &[Array::new("x", &[1], Elements::F32(vec![1.0]))]).unwrap();
        TensorFile::default().write(&path("safetensors"), crate::Precision::Single).unwrap();
        zip("pytorch", "archive/data.pkl");
        zip("keras", "model.weights.h5");
        zip("zip", "a.txt");
        write("npy", b"\x93NUMPY\x01\x00");
        write("old.pt", b"\x80\x02\x8a\x0a");
        write("pickle", b"\x80\x04\x95");
        write("hdf5", b"\x89HDF\r\n\x1a\n");
        write("model.onnx", b"\x08\x07\x12\x07pytorch");
        write("gguf", b"GGUF\x03");
        write("gzip", b"\x1f\x8b\x08");
        write("network", b"# mine\n\nnetwork n { input x : vector(3)  output x }");
        write("settings", b"# mine\n[network]\nfile = \"net.rnn\"\n");
        write("table.csv", b"1,2,3\n4,5,6\n");
        write("empty", b"");
        write("unknown", b"\xff\xfe\xfd");
        std::fs::create_dir(path("run")).unwrap();
        write("run/checkpoint.safetensors", b"");
        directory
    }

    #[test]
    fn each_kind_of_file_is_named_where_another_is_wanted() {
        let kept = files();
        let said = |name: &str, wanted| mistaken(&kept.path().join(name), wanted).unwrap_or_default();
        let kinds = [
            ("npz", "a file of NumPy arrays (.npz)"),
            ("safetensors", "a safetensors file"),
            ("pytorch", "a PyTorch file (.pt)"),
            ("old.pt", "a PyTorch file (.pt)"),
            ("keras", "a Keras model (.keras)"),
            ("zip", "a zip archive without arrays"),
            ("npy", "a single NumPy array (.npy)"),
            ("pickle", "a Python pickle"),
            ("hdf5", "an HDF5 file (.h5)"),
            ("model.onnx", "an ONNX model (.onnx)"),
            ("gguf", "a GGUF file"),
            ("gzip", "a file compressed by gzip"),
            ("network", "a text of networks (.rnn)"),
            ("settings", "a file of settings (TOML)"),
            ("table.csv", "a text"),
            ("empty", "an empty file"),
            ("run", "a directory"),
        ];
        let wanted = [
            (Wanted::Weights, "safetensors", "not a file of weights (safetensors)"),
            (Wanted::Arrays, "npz", "not a file of arrays (.npz)"),
            (Wanted::Network, "network", "not a text of networks (.rnn)"),
            (Wanted::Settings, "settings", "not a file of settings (train.toml)"),
        ];
        for (wanted, right, not) in wanted {
            assert_eq!(mistaken(&kept.path().join(right), wanted), None);
            assert_eq!(mistaken(&kept.path().join("unknown"), wanted), None);
            assert_eq!(mistaken(&kept.path().join("missing"), wanted), None);
            for (name, kind) in kinds.iter().filter(|(name, _)| *name != right) {
                let said = said(name, wanted);
                let may_be = *name == "table.csv" && matches!(wanted, Wanted::Network | Wanted::Settings);
                assert!(may_be || said.starts_with(&format!("this is {kind}, {not}. ")), "{name}: {said}");
            }
        }
    }

    #[test]
    fn safetensors_are_known_whatever_the_length_of_their_header() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.safetensors");
        // Among them are 0x0280 to 0x0580, whose bytes begin a pickle, and 0x4b50, which begins an archive.
        for length in (8..2048u64).step_by(8).chain([0x4b50, 0x1_0480]) {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend(b"{\"w\":{}}");
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(kind(&path), Some(Kind::Safetensors), "{length}");
        }
    }

    #[test]
    fn the_way_from_one_kind_to_the_other_is_shown() {
        let kept = files();
        let said = |name: &str, wanted| mistaken(&kept.path().join(name), wanted).unwrap();
        assert!(said("pytorch", Wanted::Weights).contains("safetensors.torch.save_file(torch.load("));
        assert!(said("npz", Wanted::Weights).contains("safetensors.numpy.save_file(dict(numpy.load("));
        assert!(said("npy", Wanted::Arrays).contains("numpy.savez(\"in.npz\", **{\"NAME\": numpy.load("));
        assert!(said("table.csv", Wanted::Arrays).contains("numpy.loadtxt("));
        assert!(said("gzip", Wanted::Arrays).contains("gunzip "));
        let run = said("run", Wanted::Weights);
        assert!(
            run.contains("The checkpoint of a run is in it: ") && run.ends_with("checkpoint.safetensors"),
            "{run}"
        );
        assert!(said("network", Wanted::Settings).contains("under `[network]`"));
    }
}

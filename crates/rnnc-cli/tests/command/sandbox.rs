//! A directory of its own for each test, and `rnnc` run in it.

use rnnc::io::{Array, ArrayFile, Elements, TensorFile, write_arrays};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A network with all kinds of input, delays of 1 and 2, and a start.
pub const NETWORK: &str = "
network n {
    input x : vector(3)
    input s : symbol(5)
    h = lstm(x; 4)
    g = tanh(dense(s, h, g[t-2]; 3))
    start g = 0.5
    y = dense(g; 2)
    output y, g
}";

/// T and B of what [`Sandbox::inputs`] gives.
pub const FRAMES: usize = 9;
pub const STREAMS: usize = 2;

/// What a process left.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A temporary directory.
pub struct Sandbox(tempfile::TempDir);

impl Sandbox {
    pub fn new() -> Sandbox {
        Sandbox(tempfile::tempdir().unwrap())
    }

    /// With `net.rnn` and its weights `w.safetensors`.
    pub fn with_network() -> Sandbox {
        let sandbox = Sandbox::new();
        sandbox.write("net.rnn", NETWORK);
        sandbox.succeeds("init net.rnn --seed 3 --output w.safetensors");
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn write_arrays(&self, name: &str, arrays: &[Array]) {
        write_arrays(&self.path(name), arrays).unwrap();
    }

    pub fn floats(&self, file: &str, array: &str) -> Vec<f64> {
        ArrayFile::open(self.path(file)).unwrap().read(array).unwrap().f64s().unwrap().into_owned()
    }

    pub fn tensors(&self, file: &str) -> TensorFile {
        TensorFile::read(&self.path(file)).unwrap()
    }

    /// A command that has not started, with arguments split at spaces.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rnnc"));
        command.args(arguments.split_whitespace()).current_dir(self.0.path());
        command
    }

    pub fn run(&self, arguments: &str) -> Done {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Done { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
    }

    pub fn succeeds(&self, arguments: &str) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "rnnc {arguments}: {done:#?}");
        done.out
    }

    /// The message of a command that ends with that code.
    pub fn fails(&self, code: i32, arguments: &str) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, code, "rnnc {arguments}: {done:#?}");
        assert!(!done.err.is_empty());
        done.err
    }

    /// The inputs of [`NETWORK`] from frame `from` to `to`, with a reset of stream 1 at frame 5.
    pub fn inputs(from: usize, to: usize) -> Vec<Array> {
        let rows = from * STREAMS..to * STREAMS;
        let frames = to - from;
        let x = (rows.start * 3..rows.end * 3).map(|i| ((i * 7 % 23) as f32 - 11.0) / 10.0).collect();
        let s = rows.clone().map(|i| (i * 3 % 5) as i64).collect();
        let reset = rows.map(|i| i == 5 * STREAMS + 1).collect();
        vec![
            Array::new("x", &[frames, STREAMS, 3], Elements::F32(x)),
            Array::new("s", &[frames, STREAMS], Elements::Integers(s)),
            Array::new("reset", &[frames, STREAMS], Elements::Booleans(reset)),
        ]
    }

    /// Gradients with respect to the outputs of [`NETWORK`], in all frames.
    pub fn output_gradients() -> Vec<Array> {
        let numbers = |n: usize, k: usize| {
            let values = (0..FRAMES * STREAMS * n).map(|i| ((i * k % 17) as f64 - 8.0) / 8.0);
            Elements::F64(values.collect())
        };
        vec![
            Array::new("d_y", &[FRAMES, STREAMS, 2], numbers(2, 5)),
            Array::new("d_g", &[FRAMES, STREAMS, 3], numbers(3, 11)),
        ]
    }

    /// The inputs and the gradients with respect to the outputs.
    pub fn all_arrays() -> Vec<Array> {
        let mut arrays = Sandbox::inputs(0, FRAMES);
        arrays.extend(Sandbox::output_gradients());
        arrays
    }
}

/// Asserts that numbers are equal but for rounding.
pub fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (place, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance, "value {place} is {f}, not {e}");
    }
}

/// Files of a directory, to see that nothing was left behind.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

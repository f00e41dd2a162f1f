//! What is fuzzed: whatever stands in a file, it is taken or refused, without a panic and without memory that the file does
//! not account for.
//!
//! Each function says whether it took the file. It is a target of cargo-fuzz (`fuzz_targets/`), and of the tests that spoil valid files
//! (`crates/rnnc-cli/tests/hostile.rs`). [`seeds`] gives valid files to begin with.

use rnnc::graph::Graph;
use rnnc::io::{
    Array, ArrayFile, Audio, Elements, Precision, Table, Weights, audio_bytes, read_audio, read_state,
    write_arrays, write_state,
};
use rnnc::lang::compile;
use rnnc::plan::{ExecutionConfig, Executor, Plan, PlanOptions, Values};
use rnnc::reference::ReferenceExecutor;
use rnnc::train::{Checkpoint, Column, Config, Loss, Sequences, Trainer, TrainingConfig};
use std::path::{Path, PathBuf};

/// The network of weights, checkpoints and states.
const NETWORK: &str = "network n {
    input x : symbol(5)
    h = elman(x; 3)
    g = tanh(dense(x, g[t-2], x[t-1]; 2))
    start g = learned
    y = dense(h, g; 5)
    output y
}";

/// Takes a file, or refuses it.
pub type Target = fn(&[u8]) -> bool;

/// The targets by name.
pub const TARGETS: [(&str, Target); 9] = [
    ("network", network),
    ("settings", settings),
    ("arrays", arrays),
    ("array", array),
    ("weights", weights),
    ("checkpoint", checkpoint),
    ("state", state),
    ("audio", audio),
    ("table", table),
];

/// Valid files for a target.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let file = File::new();
    let graph = graph();
    match target {
        "network" => {
            let cells = rnnc::lang::cells().iter().map(|cell| cell.text).chain([NETWORK]);
            // Some cells are called otherwise than the target calls them.
            cells.map(|text| text.as_bytes().to_vec()).filter(|text| network(text)).collect()
        }
        "settings" => vec![SETTINGS.into()],
        "arrays" => vec![file.written(|path| write_arrays(path, &some_arrays()).unwrap())],
        "array" => some_arrays().iter().map(|array| npy(array, &file)).collect(),
        "weights" => [Precision::Single, Precision::Double]
            .iter()
            .map(|p| file.written(|path| Weights::initial(&graph, 1).save(path, &graph, *p).unwrap()))
            .collect(),
        "checkpoint" => {
            let mut trainer = trainer();
            for _ in 0..3 {
                trainer.step().unwrap();
            }
            let checkpoint = trainer.checkpoint(1.5).unwrap();
            vec![file.written(|path| checkpoint.save(path, &trainer.network().graph).unwrap())]
        }
        "state" => {
            let state = executor().forward_state().unwrap();
            vec![file.written(|path| write_state(path, state, true).unwrap())]
        }
        "audio" => [1, 2]
            .iter()
            .map(|&channels| audio_bytes(&Audio { rate: 8000, channels, samples: vec![0.25; 60] }).unwrap())
            .collect(),
        "table" => vec!["a,b,class\n1,2.5,x\n,-3e2,\"y z\"\n".into(), "a;b\n1;2\n".into()],
        _ => Vec::new(),
    }
}

/// The text of a network, or of cells: what is taken is a graph that passes its own checks; what is refused can be shown.
pub fn network(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let check = |text: &str| match compile("fuzz.rnn", text, None) {
        Ok(graph) => {
            assert!(!graph.outputs().is_empty());
            true
        }
        Err(errors) => {
            assert!(errors.render(true).contains("error"));
            false
        }
    };
    let alone = check(text);
    // A cell of the library, spoilt, with something that calls it.
    let name =
        text.split_once("cell ").and_then(|(_, rest)| rest.split_once('(')).map_or("", |(name, _)| name);
    check(&format!("{text}\nnetwork n {{ input x : vector(4)  y = {name}(x; 4)  output y }}")) || alone
}

const SETTINGS: &str = r#"[network]
file = "network.rnn"
name = "n"
[data]
kind = "text"
files = ["src/**/*.rs", "a.txt"]
validation = 0.05
test = 0.05
[training]
streams = 16
window = 128
step = 64
updates = 2000
minutes = 1.5
seed = 1
loss = "cross_entropy"
output = "y"
learning_rate = 0.002
warmup = 100
decay = "cosine"
final_learning_rate = 0.0
betas = [0.9, 0.999]
epsilon = 1e-8
clip_norm = 1.0
[run]
directory = "run"
overwrite = false
executor = "cpu"
threads = 0
log_every = 10
validate_every = 100
validation_streams = 16
validation_frames = 100000
checkpoint_every = 1000
checkpoint_minutes = 10.0
sample_prompt = "fn "
sample_length = 400
sample_temperature = 0.7
"#;

/// `train.toml`: what is taken has learning rates.
pub fn settings(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(config) = Config::parse(text.into(), Path::new("somewhere")) else { return false };
    for update in [1, 2, 100, u64::MAX] {
        assert!(config.training.learning_rate_at(update).is_finite());
    }
    true
}

/// An `.npz` file, whose arrays are read as all that they may be.
pub fn arrays(bytes: &[u8]) -> bool {
    let file = File::holding(bytes);
    let Ok(mut archive) = ArrayFile::open(&file.0) else { return false };
    let names = archive.names();
    let mut read = 0;
    for name in &names {
        if let Ok(array) = archive.read(name) {
            let count = array.shape().iter().product::<usize>();
            assert!(array.f64s().map_or(true, |values| values.len() == count));
            assert!(array.symbols(7, true).map_or(true, |values| values.len() == count));
            assert!(array.flags().map_or(true, |values| values.len() == count));
            read += 1;
        }
    }
    read > 0 && read == names.len()
}

/// An `.npy` array, in an archive that is as it should be: of a damaged one, the sums would not let it be read.
pub fn array(bytes: &[u8]) -> bool {
    arrays(&stored("x.npy", bytes))
}

/// A file of weights.
pub fn weights(bytes: &[u8]) -> bool {
    let file = File::holding(bytes);
    Weights::load(&file.0, &graph()).is_ok()
}

/// A checkpoint: from what is taken, training goes on or says why not.
pub fn checkpoint(bytes: &[u8]) -> bool {
    let file = File::holding(bytes);
    let mut trainer = trainer();
    let Ok(checkpoint) = Checkpoint::load(&file.0, &trainer.network().graph) else { return false };
    let goes_on = trainer.restore(&checkpoint).is_ok() && trainer.step().is_ok();
    if goes_on {
        trainer.checkpoint(0.0).unwrap();
    }
    goes_on
}

/// A state: from what is taken, the network runs on.
pub fn state(bytes: &[u8]) -> bool {
    let file = File::holding(bytes);
    let mut executor = executor();
    let like = executor.forward_state().expect("a state");
    let Ok(state) = read_state(&file.0, &like) else { return false };
    let fits = executor.set_state(&state).is_ok();
    if fits {
        executor.forward(2, &[Values::Symbols(&[1, 2, 3, 4])], None).unwrap();
        executor.forward_state().unwrap();
    }
    fits
}

/// A sound: what is taken has whole frames of finite numbers, and no more of them than the file has bytes.
pub fn audio(bytes: &[u8]) -> bool {
    let file = File::holding(bytes);
    let Ok(sound) = read_audio(&file.0) else { return false };
    assert_eq!(sound.samples.len(), sound.frames() * sound.channels);
    assert!(sound.samples.len() <= bytes.len() && sound.samples.iter().all(|sample| sample.is_finite()));
    true
}

/// A table: what is taken has cells that are numbers, or none, or texts.
pub fn table(bytes: &[u8]) -> bool {
    let file = File::holding(bytes);
    let Ok(mut table) = Table::open(&file.0) else { return false };
    let columns = table.names().len();
    let mut rows = 0;
    while let Ok(true) = table.next_row() {
        for column in 0..columns {
            if let Ok(Some(number)) = table.number(column) {
                assert!(number.is_finite());
            }
            assert!(table.text(column).map_or(true, |text| text.len() <= bytes.len()));
        }
        rows += 1;
        assert!(rows <= bytes.len());
    }
    rows > 0
}

fn graph() -> Graph {
    compile("n.rnn", NETWORK, None).expect("a valid network")
}

fn executor() -> ReferenceExecutor {
    let plan = Plan::new(&graph(), PlanOptions::inference(2, 2)).expect("a plan");
    ReferenceExecutor::new(plan, ExecutionConfig::new(2, 2)).expect("an executor")
}

fn trainer() -> Trainer {
    let bytes = (0..40u32).map(|i| (i * i % 5) as u8).collect();
    let data = Sequences {
        columns: vec![Column::Bytes(bytes), Column::NextByte { of: 0 }],
        starts: vec![0, 17],
        frames: 40,
        ..Sequences::default()
    };
    let config = TrainingConfig { step: Some(2), ..TrainingConfig::new(2, 4, Loss::CrossEntropy) };
    let network = config.loss.of(&graph(), None).expect("a loss");
    let trainer = Trainer::new(network, NETWORK, data, &config, 1, &|plan, config| {
        Ok(Box::new(ReferenceExecutor::new(plan, config)?))
    });
    trainer.expect("a trainer")
}

fn some_arrays() -> Vec<Array> {
    vec![
        Array::new("x", &[2, 1, 3], Elements::F32(vec![0.5, -1.0, 2.0, 3.0, f32::NAN, 1e30])),
        Array::new("y", &[2, 2], Elements::F64(vec![0.5, -1.0, f64::INFINITY, 3.0])),
        Array::new("s", &[3], Elements::Integers(vec![1, -1, i64::MAX])),
        Array::new("reset", &[1, 2], Elements::Booleans(vec![true, false])),
    ]
}

/// An array as it stands in its archive: stored, between headers of known lengths.
fn npy(array: &Array, file: &File) -> Vec<u8> {
    let archive = file.written(|path| write_arrays(path, std::slice::from_ref(array)).unwrap());
    let begin = archive.windows(6).position(|w| w == b"\x93NUMPY").expect("an array");
    let end = archive.windows(4).rposition(|w| w == b"PK\x01\x02").expect("a directory");
    archive[begin..end].to_vec()
}

/// A zip archive of one file that is not compressed.
fn stored(name: &str, bytes: &[u8]) -> Vec<u8> {
    let crc = !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    let length = bytes.len() as u32;
    let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
    for number in [crc, length, length] {
        common.extend(number.to_le_bytes());
    }
    common.extend([name.len() as u8, 0, 0, 0]);
    let local = [b"PK\x03\x04", &*common, name.as_bytes(), bytes].concat();
    let central = [b"PK\x01\x02\x14\0", &*common, &[0; 14], name.as_bytes()].concat();
    let mut end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0".to_vec();
    end.extend((central.len() as u32).to_le_bytes());
    end.extend((local.len() as u32).to_le_bytes());
    end.extend([0, 0]);
    [local, central, end].concat()
}

/// A file of this thread's own, which is removed in the end.
struct File(PathBuf);

impl File {
    fn new() -> File {
        let name = format!("rnnc-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
        File(std::env::temp_dir().join(name))
    }

    fn holding(bytes: &[u8]) -> File {
        let file = File::new();
        std::fs::write(&file.0, bytes).expect("a temporary file");
        file
    }

    /// What something writes there.
    fn written(&self, write: impl FnOnce(&Path)) -> Vec<u8> {
        write(&self.0);
        std::fs::read(&self.0).expect("it was written")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

//! The example in C, compiled and linked to this library: a trained LSTM's output, block by block, and errors in words.

use rnnc::Model;
use rnnc::plan::{Values, ValuesMut};
use rnnc::train::{Column, Loss, Sequences, TrainingConfig};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NETWORK: &str =
    "network amplifier { input x : vector(1)  h = lstm(x; 12)  y = dense(h; 1) + x  output y }";

/// Compiles the example; where it lies.
fn compile(directory: &Path) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Beside the tests, where cargo has built the library for them.
    let library = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let program = directory.join("stream");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let output = Command::new(compiler)
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1"])
        .arg(here.join("examples/stream.c"))
        .arg("-I")
        .arg(here.join("include"))
        .arg("-L")
        .arg(&library)
        .arg("-lrnnc_c")
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// What the program makes of its input, or says.
fn run(program: &Path, network: &Path, weights: &Path, input: &[f32]) -> Result<Vec<f32>, String> {
    let mut child = Command::new(program)
        .args([network, weights])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes: Vec<u8> = input.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut stdin = child.stdin.take().unwrap();
    // It may have left already, with something to say.
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    match output.status.success() {
        true => {
            let numbers = output.stdout.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            Ok(numbers.collect())
        }
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn a_trained_lstm_streams_audio_from_c_as_from_rust() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (network, weights) = (path("amplifier.rnn"), path("weights.safetensors"));
    std::fs::write(&network, NETWORK).unwrap();
    // Learn to overdrive.
    let clean: Vec<f32> = (0..4000).map(|t| (t as f32 * 0.05).sin() * (t as f32 * 0.0017).sin()).collect();
    let driven: Vec<f32> = clean.iter().map(|x| (3.0 * x).tanh()).collect();
    let data = Sequences::one(vec![Column::numbers(1, clean.clone()), Column::numbers(1, driven)]).unwrap();
    let mut model = Model::read(&network).unwrap();
    let config = TrainingConfig { learning_rate: 0.01, ..TrainingConfig::new(4, 50, Loss::MeanSquaredError) };
    let mut trainer = model.trainer(data, &config).unwrap();
    let losses: Vec<f64> = (0..300).map(|_| trainer.step().unwrap().loss()).collect();
    assert!(losses[299] < losses[0] / 2.0, "{} to {}", losses[0], losses[299]);
    model.set_weights(trainer.weights().unwrap()).unwrap();
    model.save(&weights).unwrap();

    let mut session = model.session().unwrap();
    let expected: Vec<f32> = (clean.iter())
        .map(|&x| {
            let mut y = [0.0];
            session.step(&[Values::F32(&[x])], None).unwrap();
            session.output(0, ValuesMut::F32(&mut y)).unwrap();
            y[0]
        })
        .collect();
    let program = compile(directory.path());
    let found = run(&program, &network, &weights, &clean).unwrap();
    assert_eq!(found.len(), expected.len());
    let off = found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
    assert!(off < 1e-5, "{off:e}");

    let said = run(&program, &path("nothing.rnn"), &weights, &clean).unwrap_err();
    assert!(said.contains("nothing.rnn"), "{said}");
    std::fs::write(path("other.rnn"), NETWORK.replace("12", "13")).unwrap();
    let said = run(&program, &path("other.rnn"), &weights, &clean).unwrap_err();
    assert!(said.contains("weights.safetensors"), "{said}");
}

//! Sessions in blocks of frames, and their weights by name.

use rnnc_cpu::{Session, SessionOptions};
use rnnc_plan::{Values, ValuesMut};

/// A network in the language's library, its weights drawn.
fn lstm(block: usize) -> Session {
    let text = "network n { input x : vector(3)  h = lstm(x; 20)  output h  output h.c }";
    let graph = rnnc_lang::compile("n.rnn", text, None).map_err(|errors| errors.to_string()).unwrap();
    let mut session =
        Session::with(&graph, SessionOptions { streams: 2, block, ..Default::default() }).unwrap();
    for weight in graph.weights() {
        let values = rnnc_graph::initial_values(weight, 3);
        session.write_named(&weight.name, Values::F64(&values)).unwrap();
    }
    session
}

#[test]
fn blocks_of_any_number_of_frames_give_what_single_frames_give() {
    let frames = 50;
    let x: Vec<f32> = (0..frames * 2 * 3).map(|i| (i as f32 * 0.37).sin()).collect();
    let resets: Vec<bool> = (0..frames * 2).map(|i| i % 13 == 5).collect();
    let mut steps = lstm(1);
    let mut expected = [Vec::new(), Vec::new()];
    for t in 0..frames {
        steps.step(&[Values::F32(&x[t * 6..][..6])], Some(&resets[t * 2..][..2])).unwrap();
        for (output, expected) in expected.iter_mut().enumerate() {
            let mut now = [0.0; 40];
            steps.output(output, ValuesMut::F32(&mut now)).unwrap();
            expected.extend(now);
        }
    }
    for block in [1, 7, 50, 64] {
        let mut session = lstm(block);
        let mut found = [vec![0.0; frames * 40], vec![0.0; frames * 40]];
        let mut first = 0;
        for frames in [1, 9, 0, 40] {
            let [h, c] = &mut found;
            let mut outputs = [h, c].map(|out| ValuesMut::F32(&mut out[first * 40..(first + frames) * 40]));
            let given = [Values::F32(&x[first * 6..(first + frames) * 6])];
            let resets = &resets[first * 2..(first + frames) * 2];
            let ran = session.run(frames, &given, Some(resets), &mut outputs);
            assert_eq!(ran.is_ok(), frames > 0, "{ran:?}");
            first += frames;
        }
        for (expected, found) in expected.iter().zip(&found) {
            let off = expected.iter().zip(found).map(|(e, f)| (e - f).abs()).fold(0.0, f32::max);
            assert!(off < 1e-6, "blocks of {block}: {off:e}");
        }
    }
}

#[test]
fn a_weight_that_is_not_there_is_named_with_what_may_be_meant() {
    let error = lstm(1).write_named("h.i.b", Values::F32(&[0.0])).unwrap_err().to_string();
    assert!(error.starts_with("network `n` has no weight `h.i.b`"), "{error}");
}

#[test]
fn a_block_with_an_array_of_another_length_runs_nothing() {
    let mut session = lstm(4);
    let before = session.state();
    let (mut h, mut c) = (vec![0.0; 40 * 8], vec![0.0; 40 * 7]);
    let mut outputs = [ValuesMut::F32(&mut h), ValuesMut::F32(&mut c)];
    let error = session.run(8, &[Values::F32(&[0.5; 48])], None, &mut outputs).unwrap_err().to_string();
    assert!(error.contains("h.c") && error.contains("[8, 2, 20]"), "{error}");
    assert_eq!(session.state(), before);
}

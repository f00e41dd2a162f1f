//! What makes a run what it is, for one that goes on to tell what has changed.

use crate::task::losses::Loss;
use rnnc_graph::{Graph, Layer, TextHash};
use rnnc_plan::Optimizer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// What makes a run what it is. A run that goes on with other facts becomes another than it would have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunIdentity {
    /// The network's name.
    pub network: String,
    /// A hash of its text, in hexadecimal.
    pub text_hash: String,
    /// A hash of the network itself, in hexadecimal: of its layers, whatever else the text has. Older checkpoints do not say.
    #[serde(default)]
    pub equations_hash: String,
    /// The output that the loss reads.
    pub output: String,
    /// The loss.
    pub loss: Loss,
    /// The seed.
    pub seed: u64,
    /// Streams, B.
    pub streams: usize,
    /// Frames that errors go back through, h.
    pub window: usize,
    /// New frames per update, h'.
    pub step: usize,
    /// Frames of training data.
    pub data_frames: usize,
    /// A hash of the training data, in hexadecimal. Older checkpoints do not say.
    #[serde(default)]
    pub data_hash: String,
    /// The executor's name.
    pub executor: String,
    /// Its threads.
    pub threads: usize,
    /// How coarsely its products round their operands. Older checkpoints do not say.
    #[serde(with = "PrecisionName", default)]
    pub precision: rnnc_plan::Precision,
    /// The optimizer, whose slots the checkpoint has. Older checkpoints do not say: it is Adam.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// What decides how weights move, by name. Older checkpoints have none.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// A precision's name in a checkpoint, the same as on the command line.
#[derive(Serialize, Deserialize)]
#[serde(remote = "rnnc_plan::Precision", rename_all = "snake_case")]
enum PrecisionName {
    F32,
    Tf32,
    Bf16,
}

impl RunIdentity {
    /// What differs, in words.
    pub fn differences(&self, now: &RunIdentity) -> Vec<String> {
        let pairs = [
            ("network", self.network.clone(), now.network.clone()),
            ("output", self.output.clone(), now.output.clone()),
            ("loss", self.loss.name().into(), now.loss.name().into()),
            ("seed", self.seed.to_string(), now.seed.to_string()),
            ("streams", self.streams.to_string(), now.streams.to_string()),
            ("window", self.window.to_string(), now.window.to_string()),
            ("step", self.step.to_string(), now.step.to_string()),
            ("frames of training data", self.data_frames.to_string(), now.data_frames.to_string()),
            ("executor", self.executor.clone(), now.executor.clone()),
            ("threads", self.threads.to_string(), now.threads.to_string()),
            ("precision", format!("{:?}", self.precision), format!("{:?}", now.precision)),
        ];
        // What is not known of before is not said to differ.
        let settings = self.settings.iter().filter_map(|(name, before)| {
            now.settings.get(name).map(|now| (name.as_str(), before.clone(), now.clone()))
        });
        let differ = pairs.into_iter().chain(settings).filter(|(_, before, now)| before != now);
        let mut differ: Vec<String> =
            differ.map(|(what, before, now)| format!("{what} ({before} before, {now} now)")).collect();
        // Hashes tell a person nothing but that there is a difference. Of one text, the network is the same in every version.
        let is_known = !self.equations_hash.is_empty();
        if self.text_hash != now.text_hash && !(is_known && self.equations_hash == now.equations_hash) {
            differ.push("equations of the network".into());
        }
        // Where there are more frames or fewer, it is said already.
        let is_known = !self.data_hash.is_empty() && self.data_frames == now.data_frames;
        if is_known && self.data_hash != now.data_hash {
            differ.push("contents of the training data".into());
        }
        differ
    }
}

/// A hash of a network's layers, connections and weights, wherever in a text they are written.
pub(crate) fn hash_of(network: &Graph) -> String {
    let mut hash = TextHash::default();
    let mut write = |part: fmt::Arguments<'_>| hash.write_fmt(part).unwrap_or(()); // it takes whatever is written
    for Layer { name, size, kind, function, start, .. } in network.layers() {
        // As it was written when checkpoints began to keep it.
        write(format_args!(
            "Layer {{ name: {name:?}, size: {size:?}, kind: {kind:?}, function: {function:?}, start: {start:?}, origin: None }}"
        ));
    }
    let (connections, weights, outputs) = (network.connections(), network.weights(), network.outputs());
    write(format_args!("{connections:?}{weights:?}{outputs:?}"));
    format!("{:016x}", hash.number())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn identity() -> RunIdentity {
        RunIdentity {
            network: "net".into(),
            text_hash: "0".into(),
            equations_hash: "0".into(),
            output: "y".into(),
            loss: Loss::CrossEntropy,
            seed: u64::MAX,
            streams: 1,
            window: 8,
            step: 8,
            data_frames: 100,
            data_hash: "1".into(),
            executor: "reference".into(),
            threads: 1,
            precision: rnnc_plan::Precision::Bf16,
            optimizer: Optimizer::Adam,
            settings: BTreeMap::from([("clip_norm".into(), "none".into())]),
        }
    }

    #[test]
    fn facts_that_differ_are_told_with_both_values() {
        let before = identity();
        let now = RunIdentity { threads: 2, executor: "cpu".into(), ..before.clone() };
        assert_eq!(
            before.differences(&now),
            ["executor (reference before, cpu now)", "threads (1 before, 2 now)"]
        );
        assert!(before.differences(&before).is_empty());
        let settings = BTreeMap::from([("clip_norm".into(), "1.0".into())]);
        let now = RunIdentity { settings, precision: rnnc_plan::Precision::F32, ..before.clone() };
        assert_eq!(
            before.differences(&now),
            ["precision (Bf16 before, F32 now)", "clip_norm (none before, 1.0 now)"]
        );
    }

    #[test]
    fn another_network_of_the_same_text_is_no_difference() {
        let hash = |text: &str| hash_of(&rnnc_lang::compile("net.rnn", text, Some("n")).unwrap());
        let network = "network n { input x : vector(3)  y = tanh(dense(x, y[t-1]; 2))  output y }";
        let other = format!("network m {{ input x : vector(3)  output x }}\n{network}");
        assert_eq!(hash(network), hash(&other));
        let others = [
            ("tanh", "sin"),
            ("t-1", "t-2"),
            ("; 2", "; 3"),
            ("; 2", "; 2, bias = 1"),
            ("output y", "output y, x"),
        ];
        for (from, to) in others {
            assert_ne!(hash(network), hash(&network.replacen(from, to, 1)), "{to}");
        }

        let before = identity();
        let other_text = RunIdentity { text_hash: "1".into(), ..before.clone() };
        assert!(before.differences(&other_text).is_empty());
        let now = RunIdentity { equations_hash: "1".into(), ..other_text };
        assert_eq!(before.differences(&now), ["equations of the network"]);
        // All that an older checkpoint says is the text's.
        let older = RunIdentity { equations_hash: String::new(), ..before };
        assert_eq!(older.differences(&now), ["equations of the network"]);
        assert!(older.differences(&RunIdentity { text_hash: "0".into(), ..now }).is_empty());
    }

    #[test]
    fn other_data_of_as_many_frames_is_told() {
        let before = identity();
        let now = RunIdentity { data_hash: "2".into(), ..before.clone() };
        assert_eq!(before.differences(&now), ["contents of the training data"]);
        let more = RunIdentity { data_frames: 101, ..now.clone() };
        assert_eq!(before.differences(&more), ["frames of training data (100 before, 101 now)"]);
        let older = RunIdentity { data_hash: String::new(), ..before };
        assert!(older.differences(&now).is_empty());
    }
}

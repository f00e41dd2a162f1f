//! Checkpoints: all that training needs to go on as if it had never stopped, in one safetensors file.
//!
//! The weights stand under their own names, so that a checkpoint is also a weights file; the optimizer's slots as
//! `SLOT/NAME`, of Adam `moment1/NAME` and `moment2/NAME` (the root of the second, since form 2; form 3 says which optimizer it
//! is); the last frames of each layer that is read with a delay as `state/LAYER`,
//! `[D, B, N]`, oldest first; with h' < h, the frames before those that errors still go back through, of each layer that
//! they read, as `kept/LAYER`, `[K, B, N]`; and everything that is no array of numbers as JSON ([`About`]) in the
//! metadata, under `rnnc`.

use crate::data::preparation::Preparation;
use crate::diagnosis;
use crate::error::TrainError;
use crate::run::best::{Best, Validations};
use crate::run::identity::RunIdentity;
use crate::settings::rules::MOST_UPDATES;
use rnnc_graph::Graph;
use rnnc_io::Weights;
use rnnc_io::section::{self, ABOUT, KEPT, STATE};
use rnnc_io::{Precision, Tensor, TensorFile, TensorView, write_tensors};
use rnnc_plan::{History, Kept, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The newest form of checkpoint that this version reads, and the one that it writes.
pub const CHECKPOINT_VERSION: u64 = 3;

const FORMAT: &str = "checkpoint";

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// `checkpoint`
    pub format: String,
    /// [`CHECKPOINT_VERSION`]
    pub version: u64,
    /// How the run was set up. (`facts` before form 3.)
    #[serde(alias = "facts")]
    pub identity: RunIdentity,
    /// How far it is.
    pub progress: Progress,
    /// What was done to tables before the network saw them. (Not in checkpoints of older versions, nor of other data.)
    #[serde(default, skip_serializing_if = "Preparation::is_none")]
    pub preparation: Preparation,
    /// Frames since the last reset, for each stream. (`ages` before form 3.)
    #[serde(alias = "ages")]
    since_reset: Vec<u64>,
    /// Frames run, to which dropout masks are keyed.
    state_frames: u64,
    /// The layers that are read with a delay, in order, and whether they are symbols.
    histories: Vec<(String, bool)>,
    /// The older frames that errors still go back through.
    kept: Option<AboutKept>,
}

/// What is no array of numbers in [`Kept`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct AboutKept {
    /// How many frames, K.
    frames: usize,
    /// Frames since the last reset: `[K, B]`. (`ages` before form 3.)
    #[serde(alias = "ages")]
    since_reset: Vec<u64>,
    /// The layers, in order, and whether they are symbols.
    layers: Vec<(String, bool)>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Updates made.
    pub updates: u64,
    /// Frames of each stream read.
    pub position: u64,
    /// Seconds of training, over all sittings.
    pub seconds: f64,
    /// What the validations have found. (Not in checkpoints of older versions.)
    #[serde(default)]
    pub validations: Validations,
}

impl Progress {
    /// Refuses what no run comes to: numbers that would overflow where one goes on.
    fn check(&self) -> Result<(), String> {
        let counts = [("updates", self.updates), ("position", self.position)];
        if let Some((what, found)) = counts.into_iter().find(|(_, found)| *found > MOST_UPDATES) {
            return Err(format!("`{what}` must be at most {MOST_UPDATES}, not {found}"));
        }
        if let Some(Best { update, loss }) = self.validations.best
            && (update > self.updates || loss.is_nan())
        {
            return Err(format!("`validations` cannot have found a loss of {loss:?} after update {update}"));
        }
        if !(0.0..=MOST_SECONDS).contains(&self.seconds) {
            return Err(format!(
                "`seconds` must be at least 0 and at most {MOST_SECONDS:e}, not {:?}",
                self.seconds
            ));
        }
        Ok(())
    }
}

/// Some 30,000 years.
const MOST_SECONDS: f64 = 1e12;

/// A checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// How the run was set up.
    pub identity: RunIdentity,
    /// How far it is.
    pub progress: Progress,
    /// What was done to tables before the network saw them.
    pub preparation: Preparation,
    /// The weights.
    pub weights: Weights,
    /// The slots of the identity's optimizer, in its order.
    pub slots: Vec<Weights>,
    /// What the next window reads of the last ones.
    pub state: State,
}

impl Checkpoint {
    /// Writes the file, whole or not at all, without losing a bit. The same checkpoint gives the same bytes.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] for a weight or slot that [`load`](Checkpoint::load) would refuse: the file that is there
    /// stays.
    pub fn save(&self, path: &Path, graph: &Graph) -> Result<(), TrainError> {
        let names = self.identity.optimizer.slots().iter().map(|slot| slot.name);
        let slots = || names.clone().zip(&self.slots);
        let parts = slots().map(|(name, slot)| (format!("{name} of"), slot));
        for (what, part) in [("weight".to_owned(), &self.weights)].into_iter().chain(parts) {
            if let Some(place) = diagnosis::first_non_finite(graph, part) {
                let problem = format!("after it, {what} {place}");
                return Err(TrainError::NotFinite { update: self.progress.updates, problem });
            }
        }
        let mut tensors: Vec<TensorView<'_>> = self.weights.views("", graph).collect();
        for (name, slot) in slots() {
            tensors.extend(slot.views(&section::of_slot(name), graph));
        }
        let streams = self.state.since_reset.len();
        let histories = put_layers(&mut tensors, STATE, &self.state.histories, streams);
        let kept = self.state.kept.as_ref().map(|kept| AboutKept {
            frames: kept.frames,
            since_reset: kept.since_reset.clone(),
            layers: put_layers(&mut tensors, KEPT, &kept.layers, streams),
        });
        let about = About {
            format: FORMAT.into(),
            version: CHECKPOINT_VERSION,
            identity: self.identity.clone(),
            progress: self.progress,
            preparation: self.preparation.clone(),
            since_reset: self.state.since_reset.clone(),
            state_frames: self.state.frames,
            histories,
            kept,
        };
        let about = serde_json::to_string(&about).map_err(|e| TrainError::file(path, e.to_string()))?;
        Ok(write_tensors(path, tensors, &BTreeMap::from([(ABOUT.into(), about)]), Precision::Lossless)?)
    }

    /// Reads a checkpoint of a network.
    ///
    /// # Errors
    /// A file that is none, or of a newer form, or of another network (which weights differ), or cut short.
    pub fn load(path: &Path, graph: &Graph) -> Result<Checkpoint, TrainError> {
        let mut file = TensorFile::read(path)?;
        let about = About::of(&file.about, path)?;
        let streams = about.since_reset.len();
        // Taken out before numbers are looked at: a layer may be infinite where the loss is not.
        let histories = take_layers(&mut file.tensors, STATE, about.histories, streams, path)?;
        let kept = match about.kept {
            None => None,
            Some(AboutKept { frames, since_reset, layers }) => {
                let layers = take_layers(&mut file.tensors, KEPT, layers, streams, path)?;
                Some(Kept { frames, since_reset, layers })
            }
        };
        file.check_finite(path)?;
        let fail = |problem: String| TrainError::file(path, problem);
        // The weights are what a reader knows; of the slots, the same names would be missing.
        let weights = Weights::take(&mut file.tensors, "", graph).map_err(|d| fail(d.to_string()))?;
        let mut slots = Vec::new();
        for slot in about.identity.optimizer.slots() {
            let prefix = section::of_slot(slot.name);
            let of_slot = |d: rnnc_io::Differences| {
                let optimizer = about.identity.optimizer.name();
                fail(format!("what {optimizer} keeps of each weight, `{prefix}WEIGHT`: {d}"))
            };
            let mut values = Weights::take(&mut file.tensors, &prefix, graph).map_err(of_slot)?;
            for (weight, values) in graph.weights().iter().zip(&mut values.0).filter(|_| slot.is_magnitude) {
                if let Some(wrong) = values.iter().find(|&&x| x < 0.0) {
                    return Err(fail(format!(
                        "`{prefix}{}` has {wrong}, and is never less than 0",
                        weight.name
                    )));
                }
                // Form 1, which is Adam's, has the squares.
                if about.version < 2 {
                    values.iter_mut().for_each(|x| *x = x.sqrt());
                }
            }
            slots.push(values);
        }
        let state = State { histories, since_reset: about.since_reset, frames: about.state_frames, kept };
        Ok(Checkpoint {
            identity: about.identity,
            progress: about.progress,
            preparation: about.preparation,
            weights,
            slots,
            state,
        })
    }
}

/// Puts frames of layers into a file as `PREFIX LAYER`, and says what their names are and whether they are symbols.
fn put_layers<'a>(
    tensors: &mut Vec<TensorView<'a>>,
    prefix: &str,
    layers: &'a [History],
    streams: usize,
) -> Vec<(String, bool)> {
    for History { layer, depth, size, values, .. } in layers {
        let (name, shape) = (format!("{prefix}{layer}"), vec![*depth, streams, *size]);
        tensors.push(TensorView { name, shape, values });
    }
    layers.iter().map(|h| (h.layer.clone(), h.symbols)).collect()
}

/// Takes them out again.
fn take_layers(
    tensors: &mut BTreeMap<String, Tensor>,
    prefix: &str,
    layers: Vec<(String, bool)>,
    streams: usize,
    path: &Path,
) -> Result<Vec<History>, TrainError> {
    let fail = |problem: String| TrainError::file(path, problem);
    let take = |(layer, symbols): (String, bool)| {
        let name = format!("{prefix}{layer}");
        let Tensor { shape, values } =
            tensors.remove(&name).ok_or_else(|| fail(format!("`{name}` is missing")))?;
        let &[depth, found, size] = shape.as_slice() else {
            return Err(fail(format!("`{name}` has shape {shape:?}, not [frames, streams, units]")));
        };
        if found != streams {
            return Err(fail(format!("`{name}` has {found} streams, not {streams}")));
        }
        Ok(History { layer, depth, size, symbols, values })
    };
    layers.into_iter().map(take).collect()
}

impl About {
    /// Reads what a checkpoint says of itself.
    pub fn read(path: &Path) -> Result<About, TrainError> {
        About::of(&TensorFile::read_about(path)?, path)
    }

    fn of(about: &BTreeMap<String, String>, path: &Path) -> Result<About, TrainError> {
        #[derive(Deserialize)]
        struct Form {
            format: String,
            version: u64,
        }
        let none = || TrainError::file(path, "not a checkpoint of rnnc (a file of weights alone?)");
        let text = about.get(ABOUT).ok_or_else(none)?;
        let form: Form = serde_json::from_str(text).map_err(|_| none())?;
        if form.format != FORMAT {
            return Err(none());
        }
        if form.version > CHECKPOINT_VERSION {
            return Err(TrainError::file(
                path,
                format!(
                    "a checkpoint of form {}, and this version of rnnc reads up to form {CHECKPOINT_VERSION}: use a \
                     newer rnnc",
                    form.version
                ),
            ));
        }
        let damaged =
            |problem: String| TrainError::file(path, format!("what it says of itself is damaged: {problem}"));
        let about: About = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
        about.progress.check().map_err(damaged)?;
        about.preparation.check().map_err(damaged)?;
        if about.state_frames > MOST_UPDATES {
            return Err(damaged(format!(
                "`state_frames` must be at most {MOST_UPDATES}, not {}",
                about.state_frames
            )));
        }
        Ok(about)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::run::identity::tests::identity;
    use rnnc_graph::Init;
    use rnnc_plan::Optimizer;
    use std::path::PathBuf;

    pub(crate) fn graph(weight: &str) -> Graph {
        let mut graph = Graph::new("net");
        graph.weight(weight, &[2], Init::Zeros);
        graph
    }

    pub(crate) fn checkpoint() -> Checkpoint {
        Checkpoint {
            identity: identity(),
            progress: Progress {
                updates: 3,
                position: 24,
                seconds: 0.1,
                validations: Validations::default(),
            },
            preparation: Preparation::default(),
            weights: Weights(vec![vec![0.1, 1.0]]),
            slots: vec![Weights(vec![vec![1e-300, 0.0]]), Weights(vec![vec![0.0, 0.5]])],
            state: State {
                histories: vec![
                    History { layer: "h".into(), depth: 1, size: 2, symbols: false, values: vec![0.3, 0.5] },
                    History { layer: "x".into(), depth: 2, size: 1, symbols: true, values: vec![-1.0, 7.0] },
                ],
                since_reset: vec![u64::MAX],
                frames: 24,
                kept: Some(Kept {
                    frames: 2,
                    since_reset: vec![u64::MAX - 2, u64::MAX - 1],
                    layers: vec![History {
                        layer: "h".into(),
                        depth: 2,
                        size: 2,
                        symbols: false,
                        values: vec![0.1, f64::NEG_INFINITY, 0.2, 1e-320],
                    }],
                }),
            },
        }
    }

    fn saved() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint.safetensors");
        checkpoint().save(&path, &graph("w")).unwrap();
        (directory, path)
    }

    #[test]
    fn a_checkpoint_reads_back_bit_by_bit_and_serves_as_a_weights_file() {
        let (_kept, path) = saved();
        assert_eq!(Checkpoint::load(&path, &graph("w")).unwrap(), checkpoint());
        assert_eq!(Weights::load(&path, &graph("w")).unwrap(), checkpoint().weights);
        let bytes = std::fs::read(&path).unwrap();
        checkpoint().save(&path, &graph("w")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn a_checkpoint_of_another_network_says_which_weights_differ() {
        let (_kept, path) = saved();
        let error = Checkpoint::load(&path, &graph("v")).unwrap_err().to_string();
        assert!(
            error.contains(
                "these are not the weights of network `net`; missing: `v`; not in the network: `w`"
            ),
            "{error}"
        );
    }

    #[test]
    fn a_newer_form_is_refused_by_name() {
        let (_kept, path) = saved();
        let mut file = TensorFile::read(&path).unwrap();
        let about = file.about.get_mut(ABOUT).unwrap();
        *about = about.replace("\"version\":3", "\"version\":4").replace("\"facts\"", "\"renamed\"");
        file.write(&path, Precision::Lossless).unwrap();
        let error = Checkpoint::load(&path, &graph("w")).unwrap_err().to_string();
        assert!(
            error.contains("a checkpoint of form 4, and this version of rnnc reads up to form 3"),
            "{error}"
        );
    }

    #[test]
    fn a_weights_file_is_no_checkpoint() {
        let (_kept, path) = saved();
        checkpoint().weights.save(&path, &graph("w"), Precision::Single).unwrap();
        let error = Checkpoint::load(&path, &graph("w")).unwrap_err().to_string();
        assert!(error.contains("not a checkpoint of rnnc"), "{error}");
    }

    /// The saved file, with something else in place of what it says of itself.
    fn changed(path: &Path, from: &str, to: &str) {
        let mut file = TensorFile::read(path).unwrap();
        let about = file.about.get_mut(ABOUT).unwrap();
        assert!(about.contains(from), "{about}");
        *about = about.replace(from, to);
        file.write(path, Precision::Lossless).unwrap();
    }

    #[test]
    fn a_checkpoint_of_form_1_has_squares_and_says_less() {
        let (_kept, path) = saved();
        changed(&path, "\"version\":3", "\"version\":1");
        changed(
            &path,
            ",\"precision\":\"bf16\",\"optimizer\":\"adam\",\"settings\":{\"clip_norm\":\"none\"}",
            "",
        );
        let Checkpoint { identity, slots, .. } = Checkpoint::load(&path, &graph("w")).unwrap();
        assert_eq!(slots[1], Weights(vec![vec![0.0, 0.5f64.sqrt()]]));
        assert_eq!((identity.precision, identity.settings.len()), (rnnc_plan::Precision::F32, 0));
        assert!(
            identity
                .differences(&RunIdentity { settings: checkpoint().identity.settings, ..identity.clone() })
                .is_empty()
        );
    }

    #[test]
    fn a_checkpoint_of_form_2_says_no_optimizer_and_is_adams() {
        let (_kept, path) = saved();
        changed(&path, "\"version\":3", "\"version\":2");
        changed(&path, ",\"optimizer\":\"adam\"", "");
        assert_eq!(Checkpoint::load(&path, &graph("w")).unwrap(), checkpoint());
    }

    #[test]
    fn a_checkpoint_of_a_version_that_had_other_names_is_read() {
        let (_kept, path) = saved();
        changed(&path, "\"version\":3", "\"version\":2");
        changed(&path, ",\"optimizer\":\"adam\"", "");
        changed(&path, "\"identity\":", "\"facts\":");
        changed(&path, "\"since_reset\":", "\"ages\":");
        assert_eq!(Checkpoint::load(&path, &graph("w")).unwrap(), checkpoint());
    }

    #[test]
    fn an_array_of_the_optimizer_that_is_missing_is_not_taken_for_a_weight() {
        let (_kept, path) = saved();
        let mut file = TensorFile::read(&path).unwrap();
        file.tensors.remove("moment2/w").unwrap();
        file.write(&path, Precision::Lossless).unwrap();
        let error = Checkpoint::load(&path, &graph("w")).unwrap_err().to_string();
        assert!(error.contains("what adam keeps of each weight, `moment2/WEIGHT`"), "{error}");
    }

    #[test]
    fn slots_stand_under_the_names_of_the_optimizer() {
        let (_kept, path) = saved();
        for optimizer in Optimizer::ALL {
            let identity = RunIdentity { optimizer, ..identity() };
            let slots = vec![Weights(vec![vec![0.5, 0.25]]); optimizer.slots().len()];
            let checkpoint = Checkpoint { identity, slots, ..checkpoint() };
            checkpoint.save(&path, &graph("w")).unwrap();
            assert_eq!(Checkpoint::load(&path, &graph("w")).unwrap(), checkpoint);
            let names: Vec<String> =
                optimizer.slots().iter().map(|slot| format!("{}/w", slot.name)).collect();
            let file = TensorFile::read(&path).unwrap();
            let found = file.tensors.keys().filter(|name| name.ends_with("/w"));
            assert_eq!(found.collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
            // And it is a weights file.
            assert_eq!(Weights::load(&path, &graph("w")).unwrap(), checkpoint.weights);
        }
    }

    #[test]
    fn a_checkpoint_that_would_not_load_does_not_replace_one_that_does() {
        let (_kept, path) = saved();
        for (part, said) in [
            (0, "update 3: after it, weight `w` is inf at [1]"),
            (1, "update 3: after it, moment1 of `w` is inf at [1]"),
            (2, "update 3: after it, moment2 of `w` is inf at [1]"),
        ] {
            let mut wrong = checkpoint();
            let Checkpoint { weights, slots, .. } = &mut wrong;
            [weights].into_iter().chain(slots).nth(part).unwrap().0[0][1] = f64::INFINITY;
            assert_eq!(wrong.save(&path, &graph("w")).unwrap_err().to_string(), said);
        }
        assert_eq!(Checkpoint::load(&path, &graph("w")).unwrap(), checkpoint());
    }

    #[test]
    fn counts_that_no_run_comes_to_are_damage() {
        for (from, to, said) in [
            ("\"updates\":3", "\"updates\":18446744073709551615", "`updates` must be at most"),
            ("\"updates\":3", "\"updates\":18446744073709551616", "what it says of itself is damaged"),
            ("\"updates\":3", "\"updates\":-1", "what it says of itself is damaged"),
            ("\"updates\":3", "\"updates\":0.5", "what it says of itself is damaged"),
            ("\"position\":24", "\"position\":18446744073709551600", "`position` must be at most"),
            ("\"state_frames\":24", "\"state_frames\":9300000000000000000", "`state_frames` must be at most"),
            ("\"seconds\":0.1", "\"seconds\":-1.0", "`seconds` must be at least 0"),
            ("\"seconds\":0.1", "\"seconds\":1e300", "`seconds` must be at least 0"),
            ("\"seconds\":0.1", "\"seconds\":1e999", "what it says of itself is damaged"),
            ("\"seconds\":0.1", "\"seconds\":null", "what it says of itself is damaged"),
        ] {
            let (_kept, path) = saved();
            changed(&path, from, to);
            let error = Checkpoint::load(&path, &graph("w")).unwrap_err();
            assert!(error.to_string().contains(said) && error.is_bad_input(), "{error}");
        }
    }

    #[test]
    fn a_second_moment_below_0_is_damage() {
        let (_kept, path) = saved();
        let mut wrong = checkpoint();
        wrong.slots[1].0[0][1] = -0.5;
        wrong.save(&path, &graph("w")).unwrap();
        let error = Checkpoint::load(&path, &graph("w")).unwrap_err().to_string();
        assert!(error.ends_with("`moment2/w` has -0.5, and is never less than 0"), "{error}");
    }

    #[test]
    fn whatever_fails_the_old_checkpoint_or_the_new_is_there_and_a_second_try_succeeds() {
        use rnnc_io::disk::faults::{all_faults, with_fault};
        let (_kept, path) = saved();
        let (old, graph) = (checkpoint(), graph("w"));
        let new = Checkpoint { progress: Progress { updates: 4, ..old.progress }, ..old.clone() };
        for fault in all_faults() {
            for place in 0.. {
                old.save(&path, &graph).unwrap();
                let (written, done) = with_fault(Some((place, fault)), || new.save(&path, &graph));
                let found = Checkpoint::load(&path, &graph).unwrap();
                match written {
                    Ok(()) => assert_eq!(found, new),
                    Err(error) => {
                        assert!(error.to_string().contains("checkpoint.safetensors: "), "{error}");
                        assert!(found == old || found == new);
                    }
                }
                new.save(&path, &graph).unwrap();
                assert_eq!(Checkpoint::load(&path, &graph).unwrap(), new);
                if done.len() <= place {
                    break;
                }
            }
        }
    }
}

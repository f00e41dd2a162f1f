//! A network with its weights: the shortest way from files to numbers.

use crate::ModelError;
use rnnc_graph::Graph;
use rnnc_io::{Precision, Weights, read_network};
use std::path::Path;

/// A network with its weights.
///
/// Inference from files takes three lines:
///
#[cfg_attr(feature = "cpu", doc = "```")]
#[cfg_attr(not(feature = "cpu"), doc = "```ignore")]
/// use rnnc::Model;
/// use rnnc::plan::{Values, ValuesMut};
/// # let directory = tempfile::tempdir()?;
/// # let path = |name: &str| directory.path().join(name);
/// # let (net, weights) = (path("net.rnn"), path("weights.safetensors"));
/// # std::fs::write(&net, "network n { input x : vector(2)  h = elman(x; 3)  output h }")?;
/// # Model::read(&net)?.save(&weights)?;
/// # let (x, mut h) = ([0.5, -0.5], [0.0; 3]);
/// let mut session = Model::load(&net, &weights)?.session()?;
/// session.step(&[Values::F32(&x)], None)?;
/// session.output(0, ValuesMut::F32(&mut h))?;
/// # assert!(h.iter().all(|h| h.abs() < 1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Model {
    graph: Graph,
    weights: Weights,
}

impl Model {
    /// A network of a text in the language, with initial weights of seed 1.
    ///
    /// # Errors
    /// All that is wrong with the text, with places.
    pub fn compile(text: &str) -> Result<Model, ModelError> {
        Model::of("network", text)
    }

    /// A network of a file, with initial weights of seed 1.
    ///
    /// # Errors
    /// A file that cannot be read, and all that is wrong with its text.
    pub fn read(network: impl AsRef<Path>) -> Result<Model, ModelError> {
        let path = network.as_ref();
        Model::of(&path.display().to_string(), &read_network(path)?)
    }

    /// A network of a file, with the weights of another: of a weights file, or of a checkpoint.
    ///
    /// # Errors
    /// As [`Model::read`]; weights that are not exactly this network's, by name.
    pub fn load(network: impl AsRef<Path>, weights: impl AsRef<Path>) -> Result<Model, ModelError> {
        let mut model = Model::read(network)?;
        model.weights = Weights::load(weights.as_ref(), &model.graph)?;
        Ok(model)
    }

    fn of(name: &str, text: &str) -> Result<Model, ModelError> {
        let graph = rnnc_lang::compile(name, text, None)?;
        Ok(Model { weights: Weights::initial(&graph, 1), graph })
    }

    /// The network.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The weights, in the order of [`Graph::weights`].
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Replaces the weights.
    ///
    /// # Errors
    /// If they are not as many, or not of the sizes, of the network's.
    pub fn set_weights(&mut self, weights: Weights) -> Result<(), ModelError> {
        let sizes: Vec<usize> = self.graph.weights().iter().map(|w| w.len()).collect();
        let found: Vec<usize> = weights.0.iter().map(Vec::len).collect();
        if sizes != found {
            return Err(ModelError::OtherWeights {
                network: self.graph.name().into(),
                expected: sizes,
                found,
            });
        }
        self.weights = weights;
        Ok(())
    }

    /// Writes the weights as a safetensors file, in single precision.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), ModelError> {
        Ok(self.weights.save(path.as_ref(), &self.graph, Precision::Single)?)
    }

    /// Runs it frame by frame: one stream, on the calling thread.
    ///
    /// # Errors
    /// A network that looks ahead, or that does not fit into memory.
    #[cfg(feature = "cpu")]
    pub fn session(&self) -> Result<rnnc_cpu::Session, ModelError> {
        self.session_with(rnnc_cpu::SessionOptions::default())
    }

    /// The same with more streams, more threads, or in blocks of frames.
    ///
    /// # Errors
    /// As [`Model::session`].
    #[cfg(feature = "cpu")]
    pub fn session_with(&self, options: rnnc_cpu::SessionOptions) -> Result<rnnc_cpu::Session, ModelError> {
        let mut session = rnnc_cpu::Session::with(&self.graph, options)?;
        for (index, values) in self.weights.0.iter().enumerate() {
            session.write(rnnc_graph::WeightId::from_index(index), rnnc_plan::Values::F64(values))?;
        }
        Ok(session)
    }

    /// Trains it, on all cores: `data` has a column for each input and one for the target.
    ///
    #[cfg_attr(feature = "cpu", doc = "```")]
    #[cfg_attr(not(feature = "cpu"), doc = "```ignore")]
    /// use rnnc::Model;
    /// use rnnc::train::{Column, Loss, Sequences, TrainingConfig};
    /// # let x: Vec<f32> = (0..400).map(|t| (t as f32 / 10.0).sin()).collect();
    /// # let target = x[1..].iter().copied().chain([0.0]).collect();
    /// let mut model = Model::compile("network next { input x : vector(1)  h = gru(x; 8)  y = dense(h; 1)  output y }")?;
    /// let data = Sequences::one(vec![Column::numbers(1, x), Column::numbers(1, target)])?;
    /// let mut trainer = model.trainer(data, &TrainingConfig::new(4, 25, Loss::MeanSquaredError))?;
    /// let losses: Vec<f64> = (0..100).map(|_| Ok(trainer.step()?.loss())).collect::<Result<_, rnnc::ModelError>>()?;
    /// # assert!(losses[99] < losses[0] / 2.0);
    /// model.set_weights(trainer.weights()?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Settings out of their bounds, data that do not fit the network, and what plan and executor refuse.
    #[cfg(feature = "train")]
    pub fn trainer(
        &self,
        data: rnnc_train::Sequences,
        config: &rnnc_train::TrainingConfig,
    ) -> Result<rnnc_train::Trainer, ModelError> {
        self.trainer_on(crate::ExecutorKind::default(), data, config)
    }

    /// The same, on an executor of one's choice.
    ///
    /// # Errors
    /// As [`Model::trainer`], and an executor that is not there.
    #[cfg(feature = "train")]
    pub fn trainer_on(
        &self,
        executor: crate::ExecutorKind,
        data: rnnc_train::Sequences,
        config: &rnnc_train::TrainingConfig,
    ) -> Result<rnnc_train::Trainer, ModelError> {
        let network = config.loss.of(&self.graph, config.output.as_deref())?;
        let make = |plan, config| executor.make(plan, config);
        let mut trainer = rnnc_train::Trainer::new(network, "", data, config, 0, &make)?;
        trainer.set_weights(&self.weights)?;
        Ok(trainer)
    }
}

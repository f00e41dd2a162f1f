//! What the tests of whole runs share: tiny networks, a text, a directory, and a run with the reference executor.

use rnnc_graph::{Activation, Connect, Function, Graph, Init, Layer, LayerId, LayerKind, Start};
use rnnc_io::{Array, write_arrays};
use rnnc_plan::{ExecutionConfig, Executor, ExecutorError, Plan};
use rnnc_reference::ReferenceExecutor;
use rnnc_train::{Checkpoint, Config, Event, Job, MakeExecutor, RunDirectory, Summary, TrainError, train};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

pub fn reference(plan: Plan, config: ExecutionConfig) -> Result<Box<dyn Executor>, ExecutorError> {
    Ok(Box::new(ReferenceExecutor::new(plan, config)?))
}

pub fn symbol(graph: &mut Graph, name: &str, size: usize) -> LayerId {
    graph.add_layer(Layer {
        name: name.into(),
        size,
        kind: LayerKind::Symbol,
        function: Function::IDENTITY,
        start: Start::Zero,
        origin: None,
        error_of: None,
    })
}

/// `dense(source[t-delay]; n)`, without the bias.
pub fn dense(graph: &mut Graph, source: LayerId, target: LayerId, delay: i64) {
    let (rows, columns) = (graph.layer_at(target).size, graph.layer_at(source).size);
    let fan = if graph.layer_at(source).kind == LayerKind::Symbol { 1 } else { columns };
    let name = format!("{}.W.{}[t-{delay}]", graph.layer_at(target).name, graph.layer_at(source).name);
    let weight = graph.weight(name, &[rows, columns], Init::Uniform(1.0 / (fan as f64).sqrt()));
    graph.connect(source, target, Connect::full(weight).delay(delay));
}

/// A model of text with all that a checkpoint must keep: two delays, a delayed symbol, a learned start, dropout.
pub fn text_network() -> Graph {
    let mut graph = Graph::new("text");
    let x = symbol(&mut graph, "x", 256);
    let h = graph.sum("h", 8, Activation::Tanh);
    dense(&mut graph, x, h, 0);
    dense(&mut graph, x, h, 2);
    dense(&mut graph, h, h, 1);
    let start = graph.weight("h.start", &[8], Init::Uniform(0.1));
    graph.set_start(h, Start::Learned(start));
    let mask = graph.mask("mask", 8, 0.1);
    let kept = graph.product("kept", 8, Activation::Identity);
    graph.connect(h, kept, Connect::identity());
    graph.connect(mask, kept, Connect::identity());
    let y = graph.sum("y", 256, Activation::Identity);
    dense(&mut graph, kept, y, 0);
    dense(&mut graph, h, y, 3);
    graph.output("y", y);
    graph
}

/// A directory with a text of 1200 bytes in two files, and settings for a run on it.
pub struct Workplace {
    pub directory: tempfile::TempDir,
    pub config: Config,
    pub network: Graph,
}

impl Workplace {
    /// `training` and `run` are added to those sections.
    pub fn new(network: Graph, training: &str, run: &str) -> Workplace {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.txt"), "the cat sat on the mat, ".repeat(30)).unwrap();
        std::fs::write(directory.path().join("b.txt"), "a dog ran. ".repeat(44)).unwrap();
        let text = format!(
            "[network]\nfile = \"net.rnn\"\n[data]\nkind = \"text\"\nfiles = [\"*.txt\"]\nvalidation = 0.1\n\
             test = 0.1\n[training]\nloss = \"cross_entropy\"\nlearning_rate = 0.02\n{training}\n[run]\n{run}\n"
        );
        let config = Config::parse(text, directory.path()).unwrap();
        Workplace { directory, config, network }
    }

    /// The same for arrays in `data.npz`.
    pub fn of_arrays(network: Graph, arrays: &[Array], data: &str, training: &str, run: &str) -> Workplace {
        let directory = tempfile::tempdir().unwrap();
        write_arrays(&directory.path().join("data.npz"), arrays).unwrap();
        let text = format!(
            "[network]\nfile = \"net.rnn\"\n[data]\nkind = \"arrays\"\nfiles = [\"data.npz\"]\n{data}\n\
             [training]\n{training}\n[run]\n{run}\n"
        );
        let config = Config::parse(text, directory.path()).unwrap();
        Workplace { directory, config, network }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn train(&self, resume: bool, mut observer: impl FnMut(Event<'_>)) -> Result<Summary, TrainError> {
        self.train_until(resume, &AtomicBool::new(false), &mut observer)
    }

    pub fn train_until(
        &self,
        resume: bool,
        stop: &AtomicBool,
        observer: &mut dyn FnMut(Event<'_>),
    ) -> Result<Summary, TrainError> {
        self.train_on(&reference, resume, stop, observer)
    }

    /// With another executor.
    pub fn train_on(
        &self,
        make: MakeExecutor<'_>,
        resume: bool,
        stop: &AtomicBool,
        observer: &mut dyn FnMut(Event<'_>),
    ) -> Result<Summary, TrainError> {
        let job = Job {
            config: &self.config,
            network: &self.network,
            network_text: "network text { .. }",
            make,
            resume,
            stop,
        };
        train(&job, &mut |event: Event<'_>| observer(event))
    }

    pub fn checkpoint(&self) -> Checkpoint {
        self.checkpoint_in(&self.config.run.directory)
    }

    pub fn checkpoint_in(&self, run: &Path) -> Checkpoint {
        let directory = RunDirectory::open(run).unwrap();
        Checkpoint::load(&directory.checkpoint(), &self.network).unwrap()
    }
}

//! The options by which commands choose an executor.

use clap::{Args, ValueEnum};
pub use rnnc::ExecutorKind;
use rnnc_cpu::CpuExecutor;
use rnnc_cuda::{CudaExecutor, Speeds};
use rnnc_graph::Graph;
use rnnc_io::Weights;
use rnnc_plan::{ExecutionConfig, Executor, ExecutorError, ParameterArray, Plan, PlanOptions};
use rnnc_train::Config;

/// How precise products of matrices are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// single precision throughout
    #[default]
    F32,
    /// operands rounded to 11 significant bits, each by at most 0.05 percent; sums in single precision
    Tf32,
    /// operands rounded to 8 significant bits, each by at most 0.4 percent; sums in single precision
    Bf16,
}

impl Precision {
    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        }
    }

    /// The same in a config.
    pub fn of_config(self) -> rnnc_plan::Precision {
        match self {
            Precision::F32 => rnnc_plan::Precision::F32,
            Precision::Tf32 => rnnc_plan::Precision::Tf32,
            Precision::Bf16 => rnnc_plan::Precision::Bf16,
        }
    }

    /// That of a config.
    pub fn of(precision: rnnc_plan::Precision) -> Precision {
        match precision {
            rnnc_plan::Precision::F32 => Precision::F32,
            rnnc_plan::Precision::Tf32 => Precision::Tf32,
            rnnc_plan::Precision::Bf16 => Precision::Bf16,
        }
    }
}

/// Makes an executor, of the config's precision unless another is asked for.
pub fn make(
    kind: ExecutorKind,
    plan: Plan,
    config: ExecutionConfig,
    precision: Option<Precision>,
) -> Result<Box<dyn Executor>, ExecutorError> {
    if let (ExecutorKind::Reference, Some(precision)) = (kind, precision) {
        let what = format!("with `--precision {}`", precision.name());
        return Err(ExecutorError::Unsupported { executor: kind.name(), what });
    }
    let precision = precision.map_or(config.precision, Precision::of_config);
    kind.make(plan, ExecutionConfig { precision, ..config }).map_err(with_remedy)
}

/// Says what runs on any machine.
fn with_remedy(error: ExecutorError) -> ExecutorError {
    match error {
        ExecutorError::Missing { executor, what } => {
            ExecutorError::Missing { executor, what: format!("{what}; `--executor cpu` runs on any machine") }
        }
        other => other,
    }
}

/// Names, with `and` before the last.
pub fn in_words(names: &[String]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        names => names.concat(),
    }
}

/// The options of commands that run networks.
#[derive(Args, Clone, Copy, Debug)]
pub struct ExecutorArgs {
    /// What runs the network
    #[arg(long, value_enum, default_value_t)]
    pub executor: ExecutorKind,
    /// Threads of the cpu executor, no more than there are cores that the process may use; 0 means as many as these
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// How coarsely products of matrices may round their operands [default: f32]
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
}

/// The options of commands that run what the settings of a run name.
#[derive(Args, Clone, Copy, Debug)]
pub struct RunExecutorArgs {
    /// What runs the network, instead of the settings' `run.executor`
    #[arg(long, value_enum)]
    executor: Option<ExecutorKind>,
    /// Threads to run on, instead of the settings' `run.threads`
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl RunExecutorArgs {
    /// The executor, where the options stand for what the settings say of it; they have the threads then.
    pub fn of(&self, config: &mut Config) -> anyhow::Result<ExecutorKind> {
        config.run.threads = self.threads.unwrap_or(config.run.threads);
        match self.executor {
            Some(kind) => Ok(kind),
            None => Ok(ExecutorKind::parse(&config.run.executor)?),
        }
    }
}

impl ExecutorArgs {
    /// The executor of a CPU, for commands that ask it what others do not know.
    pub fn cpu(&self, plan: Plan, config: ExecutionConfig) -> Result<CpuExecutor, ExecutorError> {
        self.executor.check_threads(config.threads)?;
        let precision = self.precision.map_or(config.precision, Precision::of_config);
        CpuExecutor::new(plan, ExecutionConfig { precision, ..config })
    }

    /// The executor of a GPU, for commands that ask it what others do not know.
    pub fn cuda(&self, plan: Plan, config: ExecutionConfig) -> Result<CudaExecutor, ExecutorError> {
        let precision = self.precision.unwrap_or_default().of_config();
        CudaExecutor::new(plan, ExecutionConfig { precision, ..config }).map_err(with_remedy)
    }

    /// How fast this machine's GPU is, in the precision that is asked for.
    pub fn speeds(&self) -> Result<Speeds, ExecutorError> {
        Speeds::measure(self.precision.unwrap_or_default().of_config()).map_err(with_remedy)
    }

    /// Makes an executor for a network in windows of `frames` frames, with these weights.
    pub fn make(
        &self,
        graph: &Graph,
        options: PlanOptions,
        weights: &Weights,
    ) -> anyhow::Result<Box<dyn Executor>> {
        let config = ExecutionConfig {
            threads: self.threads,
            ..ExecutionConfig::new(options.streams, options.frames)
        };
        let mut executor = make(self.executor, Plan::new(graph, options)?, config, self.precision)?;
        weights.put_into(&mut *executor, ParameterArray::Weight)?;
        Ok(executor)
    }
}

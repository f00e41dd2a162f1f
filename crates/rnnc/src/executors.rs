//! Which executor runs: the one place that knows them all.

use rnnc_plan::{ExecutionConfig, Executor, ExecutorError, Plan};

/// More threads than any machine has cores: asking for them is a slip.
const MOST_THREADS: usize = 4096;

/// The executors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum ExecutorKind {
    /// on the cores of the CPU, in single precision
    #[default]
    Cpu,
    /// on an NVIDIA GPU, in single precision
    Cuda,
    /// frame by frame in double precision: slow, and what all others are compared with
    Reference,
}

/// A name that no executor has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no executor `{name}`{}; there are `cpu`, `cuda` and `reference`", meant.map_or(String::new(), |m| format!(" (did you mean `{m}`?)")))]
pub struct UnknownExecutor {
    name: String,
    meant: Option<&'static str>,
}

impl ExecutorKind {
    /// All of them.
    pub const ALL: [ExecutorKind; 3] = [ExecutorKind::Cpu, ExecutorKind::Cuda, ExecutorKind::Reference];

    /// The executor of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn parse(name: &str) -> Result<ExecutorKind, UnknownExecutor> {
        ExecutorKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let meant = match name.to_lowercase().as_str() {
                "gpu" | "nvidia" => Some("cuda"),
                // Of names this short, each is a letter or two from the others.
                lower => ExecutorKind::ALL.into_iter().map(ExecutorKind::name).find(|&known| known == lower),
            };
            UnknownExecutor { name: name.into(), meant }
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            ExecutorKind::Cpu => "cpu",
            ExecutorKind::Cuda => "cuda",
            ExecutorKind::Reference => "reference",
        }
    }

    /// Whether it computes in double precision, so that numbers pass in and out of it as float64.
    pub fn is_double(self) -> bool {
        self == ExecutorKind::Reference
    }

    /// Makes one.
    ///
    /// # Errors
    /// What the executor refuses of the plan or the config, and an executor that this build leaves out.
    pub fn make(self, plan: Plan, config: ExecutionConfig) -> Result<Box<dyn Executor>, ExecutorError> {
        self.check_threads(config.threads)?;
        match self {
            #[cfg(feature = "cpu")]
            ExecutorKind::Cpu => Ok(Box::new(rnnc_cpu::CpuExecutor::new(plan, config)?)),
            #[cfg(feature = "cuda")]
            ExecutorKind::Cuda => Ok(Box::new(rnnc_cuda::CudaExecutor::new(plan, config)?)),
            #[cfg(feature = "reference")]
            ExecutorKind::Reference => Ok(Box::new(rnnc_reference::ReferenceExecutor::new(plan, config)?)),
            #[allow(unreachable_patterns)]
            left_out => {
                let _ = (plan, config);
                Err(ExecutorError::Missing {
                    executor: left_out.name(),
                    what: format!("the feature `{}` of the crate `rnnc`", left_out.name()),
                })
            }
        }
    }

    /// Refuses more threads than any machine has cores.
    ///
    /// # Errors
    /// That.
    pub fn check_threads(self, threads: usize) -> Result<(), ExecutorError> {
        if threads <= MOST_THREADS {
            return Ok(());
        }
        Err(ExecutorError::OutOfRange {
            what: "the number of threads",
            expected: format!("at most {MOST_THREADS}"),
            found: threads,
        })
    }

    /// How many threads it works with when `threads` are asked for; 0 asks for as many as there are cores that the process may
    /// use, and more than these are not used.
    pub fn workers(self, threads: usize) -> usize {
        match self {
            #[cfg(feature = "cpu")]
            ExecutorKind::Cpu => rnnc_cpu::team::workers(threads),
            _ => {
                let _ = threads;
                1
            }
        }
    }
}

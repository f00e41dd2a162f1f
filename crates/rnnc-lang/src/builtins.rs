//! The functions of the language: their names, how many inputs each takes, and their options.

use rnnc_graph::Activation;

/// A function of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    Apply(Activation),
    Dense,
    Diag,
    Param,
    Max,
    Min,
    Softmax,
    LogSoftmax,
    LayerNorm,
    RmsNorm,
    Sum,
    Mean,
    Concat,
    Slice,
    Broadcast,
    StopGradient,
    Dropout,
}

/// How a function is called.
pub(crate) struct Signature {
    /// The fewest inputs.
    pub least: usize,
    /// The most inputs.
    pub most: usize,
    /// Its options in their order, and whether each must be given.
    pub options: &'static [(&'static str, bool)],
    /// How a call is written, for messages.
    pub usage: &'static str,
}

const MANY: usize = usize::MAX;

impl Builtin {
    /// All of them, by name, but for the activations.
    const NAMED: [(&'static str, Builtin); 16] = [
        ("dense", Builtin::Dense),
        ("diag", Builtin::Diag),
        ("param", Builtin::Param),
        ("max", Builtin::Max),
        ("min", Builtin::Min),
        ("softmax", Builtin::Softmax),
        ("log_softmax", Builtin::LogSoftmax),
        ("layer_norm", Builtin::LayerNorm),
        ("rms_norm", Builtin::RmsNorm),
        ("sum", Builtin::Sum),
        ("mean", Builtin::Mean),
        ("concat", Builtin::Concat),
        ("slice", Builtin::Slice),
        ("broadcast", Builtin::Broadcast),
        ("stop_gradient", Builtin::StopGradient),
        ("dropout", Builtin::Dropout),
    ];

    /// The names of all functions.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let activations =
            Activation::ALL.into_iter().filter(|&f| f != Activation::Identity).map(Activation::name);
        Builtin::NAMED.into_iter().map(|(name, _)| name).chain(activations)
    }

    pub fn find(name: &str) -> Option<Builtin> {
        let named = Builtin::NAMED.into_iter().find(|&(n, _)| n == name).map(|(_, builtin)| builtin);
        named.or_else(|| Activation::from_name(name).map(Builtin::Apply))
    }

    pub fn signature(self) -> Signature {
        let (least, most, options, usage): (_, _, &'static [_], _) = match self {
            Builtin::Apply(_) => (1, 1, &[], "tanh(a)"),
            Builtin::Dense => (
                1,
                MANY,
                &[("n", true), ("bias", false), ("heads", false), ("init", false)],
                "dense(a, b; n, bias = 0, heads = 1)",
            ),
            Builtin::Diag => (1, 1, &[("init", false)], "diag(a)"),
            Builtin::Param => (1, 1, &[("init", false)], "param(n; init = zeros)"),
            Builtin::Max => (2, MANY, &[], "max(a, b)"),
            Builtin::Min => (2, MANY, &[], "min(a, b)"),
            Builtin::Softmax => (1, 1, &[("groups", false)], "softmax(a)"),
            Builtin::LogSoftmax => (1, 1, &[("groups", false)], "log_softmax(a)"),
            Builtin::LayerNorm => {
                (1, 1, &[("groups", false), ("affine", false)], "layer_norm(a; groups = 1, affine = none)")
            }
            Builtin::RmsNorm => {
                (1, 1, &[("groups", false), ("affine", false)], "rms_norm(a; groups = 1, affine = none)")
            }
            Builtin::Sum => (1, 1, &[("groups", false)], "sum(a; groups = 1)"),
            Builtin::Mean => (1, 1, &[("groups", false)], "mean(a; groups = 1)"),
            Builtin::Concat => (1, MANY, &[], "concat(a, b)"),
            Builtin::Slice => (1, 1, &[("from", true), ("to", true)], "slice(a; from, to)"),
            Builtin::Broadcast => (1, 1, &[("n", true)], "broadcast(a; n)"),
            Builtin::StopGradient => (1, 1, &[], "stop_gradient(a)"),
            Builtin::Dropout => (1, 1, &[("p", true)], "dropout(a; p)"),
        };
        Signature { least, most, options, usage }
    }
}

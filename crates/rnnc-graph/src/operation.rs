//! Layers that are operations: their operands have a fixed order.

use crate::activations::DerivativeReads;

/// Operations with operands in a fixed order. `groups = g` treats g equal parts of the vector apart.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // `groups` is explained once, above
pub enum Operation {
    /// a / b
    Divide,
    /// The larger of a and b; NaN if either is.
    Max,
    /// The smaller of a and b; NaN if either is.
    Min,
    /// a, whatever it is, where b is a number, and 0 where b is NaN: for losses, where nothing is known to compare a with. No
    /// error goes back to b.
    Known,
    /// exp(a_i) / sum_j exp(a_j)
    Softmax { groups: usize },
    /// a_i - log(sum_j exp(a_j))
    LogSoftmax { groups: usize },
    /// (a - mean) / sqrt(variance + epsilon) if `center` (layer norm), else a / sqrt(mean square + epsilon)
    /// (RMS norm). The gain and bias are connections of the layers that read it.
    Normalize { groups: usize, center: bool, epsilon: f64 },
    /// The sum of each of the groups: a layer of `groups` units.
    GroupSum { groups: usize },
    /// Operands: logits, and a symbol layer of as many symbols. One unit: `-log softmax(logits)[symbol]`, and 0 in
    /// frames without a symbol.
    CrossEntropy,
    /// No operands. In training 1 / (1 - p) with probability 1 - p and else 0, drawn afresh for each frame,
    /// stream and unit; otherwise 1. What is drawn follows from the key, which is the mask's own: the same for all that
    /// read it, forward and back, and no other mask's, whatever layers are called. [`crate::Graph::mask`] gives it one.
    DropoutMask { probability: f64, key: u64 },

    /// For the adjoints of max and min: 1 where a > b, 1/2 where a = b, else 0.
    Step,
    /// Operands: the error e of a softmax layer, and its value y. y (e - sum(e y))
    SoftmaxGradient { groups: usize },
    /// Operands: the error e of a log-softmax layer, and its value y. e - exp(y) sum(e)
    LogSoftmaxGradient { groups: usize },
    /// Operands: the error e of a [`Operation::Normalize`] layer, and its operand x.
    NormalizeGradient { groups: usize, center: bool, epsilon: f64 },
    /// Operands: the error e (one unit) of a cross-entropy layer, its logits, its symbols.
    /// e (softmax(logits) - one-hot(symbol)), and 0 in frames without a symbol.
    CrossEntropyGradient,
}

impl Operation {
    /// The operation's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Divide => "quotient",
            Operation::Max => "max",
            Operation::Min => "min",
            Operation::Known => "known",
            Operation::Softmax { .. } => "softmax",
            Operation::LogSoftmax { .. } => "log_softmax",
            Operation::Normalize { center: true, .. } => "layer_norm",
            Operation::Normalize { center: false, .. } => "rms_norm",
            Operation::GroupSum { .. } => "sum over groups",
            Operation::CrossEntropy => "cross-entropy",
            Operation::DropoutMask { .. } => "dropout mask",
            Operation::Step => "step",
            Operation::SoftmaxGradient { .. } => "softmax gradient",
            Operation::LogSoftmaxGradient { .. } => "log_softmax gradient",
            Operation::NormalizeGradient { center: true, .. } => "layer_norm gradient",
            Operation::NormalizeGradient { center: false, .. } => "rms_norm gradient",
            Operation::CrossEntropyGradient => "cross-entropy gradient",
        }
    }

    /// How many groups of units it treats apart.
    pub fn groups(self) -> usize {
        match self {
            Operation::Softmax { groups }
            | Operation::LogSoftmax { groups }
            | Operation::Normalize { groups, .. }
            | Operation::GroupSum { groups }
            | Operation::SoftmaxGradient { groups }
            | Operation::LogSoftmaxGradient { groups }
            | Operation::NormalizeGradient { groups, .. } => groups,
            _ => 1,
        }
    }

    /// The same function of another number of groups; `None` if it has none.
    pub fn with_groups(self, groups: usize) -> Option<Operation> {
        Some(match self {
            Operation::Softmax { .. } => Operation::Softmax { groups },
            Operation::LogSoftmax { .. } => Operation::LogSoftmax { groups },
            Operation::Normalize { center, epsilon, .. } => Operation::Normalize { groups, center, epsilon },
            Operation::GroupSum { .. } => Operation::GroupSum { groups },
            Operation::SoftmaxGradient { .. } => Operation::SoftmaxGradient { groups },
            Operation::LogSoftmaxGradient { .. } => Operation::LogSoftmaxGradient { groups },
            Operation::NormalizeGradient { center, epsilon, .. } => {
                Operation::NormalizeGradient { groups, center, epsilon }
            }
            Operation::Divide
            | Operation::Max
            | Operation::Min
            | Operation::Known
            | Operation::CrossEntropy
            | Operation::DropoutMask { .. }
            | Operation::Step
            | Operation::CrossEntropyGradient => return None,
        })
    }

    /// Of a function of one vector that has an operation for its gradient: that, whose operands are the error and what is
    /// said.
    pub fn gradient(self) -> Option<(Operation, DerivativeReads)> {
        match self {
            Operation::Softmax { groups } => {
                Some((Operation::SoftmaxGradient { groups }, DerivativeReads::Value))
            }
            Operation::LogSoftmax { groups } => {
                Some((Operation::LogSoftmaxGradient { groups }, DerivativeReads::Value))
            }
            Operation::Normalize { groups, center, epsilon } => {
                Some((Operation::NormalizeGradient { groups, center, epsilon }, DerivativeReads::Argument))
            }
            Operation::Divide
            | Operation::Max
            | Operation::Min
            | Operation::Known
            | Operation::GroupSum { .. }
            | Operation::CrossEntropy
            | Operation::DropoutMask { .. }
            | Operation::Step
            | Operation::SoftmaxGradient { .. }
            | Operation::LogSoftmaxGradient { .. }
            | Operation::NormalizeGradient { .. }
            | Operation::CrossEntropyGradient => None,
        }
    }

    /// How many operands it takes.
    pub fn operands(self) -> usize {
        match self {
            Operation::DropoutMask { .. } => 0,
            Operation::Softmax { .. }
            | Operation::LogSoftmax { .. }
            | Operation::Normalize { .. }
            | Operation::GroupSum { .. } => 1,
            Operation::Divide
            | Operation::Max
            | Operation::Min
            | Operation::Known
            | Operation::Step
            | Operation::CrossEntropy
            | Operation::SoftmaxGradient { .. }
            | Operation::LogSoftmaxGradient { .. }
            | Operation::NormalizeGradient { .. } => 2,
            Operation::CrossEntropyGradient => 3,
        }
    }

    /// Whether its operands have other sizes than its result. A connection into such a layer writes the units of
    /// the operand, not of the layer.
    pub fn changes_size(self) -> bool {
        matches!(self, Operation::GroupSum { .. } | Operation::CrossEntropy | Operation::CrossEntropyGradient)
    }

    /// Whether unit u of the result depends on unit u of the operands alone.
    pub fn is_elementwise(self) -> bool {
        matches!(
            self,
            Operation::Divide
                | Operation::Max
                | Operation::Min
                | Operation::Known
                | Operation::Step
                | Operation::DropoutMask { .. }
        )
    }
}

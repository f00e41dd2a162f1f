//! Where numbers stop being finite, on the way forward and on the way back: what is said of it.

use crate::network::{Network, Read, Surroundings};
use crate::order::Pair;
use crate::window::Place;
use rnnc_graph::{Function, Graph, LayerId, LayerKind, Operation};
use std::fmt::{self, Display, Formatter};

/// Where errors, on their way back, first leave the numbers that are finite.
#[derive(Clone, Debug, PartialEq)]
pub struct NonFiniteDerivative {
    /// The layer whose derivative, or error, is not finite.
    pub layer: String,
    /// The function whose derivative it is, if it is one: `sqrt`.
    pub function: Option<&'static str>,
    /// The frame within the last forward call; none for a layer of parameters alone, which is the same in all, or an
    /// older frame.
    pub frame: Option<usize>,
    /// The stream.
    pub stream: usize,
    /// The unit.
    pub unit: usize,
    /// What it is.
    pub value: f64,
}

impl Display for NonFiniteDerivative {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.function {
            Some(function) => write!(f, "the derivative of {function} in")?,
            None => write!(f, "the error of")?,
        }
        write!(
            f,
            " layer `{}` is {} in unit {} of stream {}",
            self.layer, self.value, self.unit, self.stream
        )?;
        self.frame.map_or(Ok(()), |frame| write!(f, ", frame {frame}"))
    }
}

/// A value that is not finite, or too large.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NonFinite {
    /// The layer, of the plan's forward graph.
    pub layer: LayerId,
    /// The frame within the last forward call.
    pub frame: usize,
    /// The stream.
    pub stream: usize,
    /// The unit.
    pub unit: usize,
    /// What it is.
    pub value: f64,
}

/// The first value of the adjoint of `forward` that is not finite, though all that it was computed from is.
pub(crate) fn first_to_leave(
    network: &Network,
    around: &Surroundings<'_>,
    order: &[Pair],
    forward: &Graph,
) -> Option<NonFiniteDerivative> {
    let mut places = order.iter().flat_map(|&Pair { layer, frame }| {
        (0..around.window.streams()).map(move |stream| (layer, Place { frame, stream }))
    });
    places.find_map(|(id, at)| {
        let units = network.layer_values[id.index()].at(at);
        let unit = units.iter().position(|x| !x.is_finite())?;
        let is_finite = |read| match read {
            Read::Units(units) => units.iter().all(|x: &f64| x.is_finite()),
            Read::Symbol(_) => true,
        };
        let mut sources = network.graph.incoming(id).filter_map(|c| Some((c.source?, c.delay)));
        if !sources.all(|(source, delay)| is_finite(network.read(around, source, at, delay))) {
            return None;
        }
        let layer = network.graph.layer_at(id);
        // The others are the forward network's, computed again.
        let of = layer.error_of?;
        let function = match (layer.function, layer.kind) {
            (Function::Derivative(activation), _) => Some(activation.name()),
            (_, LayerKind::Operation(Operation::Divide)) => Some(Operation::Divide.name()),
            (_, LayerKind::Operation(operation)) => operation.name().strip_suffix(" gradient"),
            _ => None,
        };
        Some(NonFiniteDerivative {
            layer: forward.layer_at(of).name.clone(),
            function,
            frame: Some(at.frame),
            stream: at.stream,
            unit,
            value: units[unit],
        })
    })
}

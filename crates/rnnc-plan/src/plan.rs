//! (being written)
use rnnc_graph::*;
/// A plan.
#[derive(Clone, Debug)]
pub struct Plan { #[allow(missing_docs)] pub forward: Graph, #[allow(missing_docs)] pub adjoint: Option<Graph> }
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanOptions { pub gradients: bool, pub input_gradients: bool, pub streams: usize, pub frames: usize }
#[allow(missing_docs)]
impl PlanOptions {
    pub fn inference(streams: usize, frames: usize) -> Self { PlanOptions { gradients: false, input_gradients: false, streams, frames } }
    pub fn training(streams: usize, frames: usize) -> Self { PlanOptions { gradients: true, input_gradients: false, streams, frames } }
}
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum PlanError { #[error(transparent)] Graph(#[from] GraphError) }
#[allow(missing_docs)]
impl Plan {
    pub fn new(graph: &Graph, options: PlanOptions) -> Result<Plan, PlanError> {
        validate(graph)?;
        Components::find(graph)?;
        if options.gradients {
            let a = Adjoint::derive(graph, AdjointOptions { input_gradients: options.input_gradients })?;
            Ok(Plan { forward: a.forward, adjoint: Some(a.graph) })
        } else {
            Ok(Plan { forward: normalize(graph), adjoint: None })
        }
    }
}

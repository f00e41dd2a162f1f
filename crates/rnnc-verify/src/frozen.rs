//! `stop_gradient` under finite differences: what is read through it must not move when a weight does.
//!
//! So each such read becomes an input, which is fed what the read gives at the point where the gradient is taken.

use rnnc_graph::{Activation, Connect, Connection, Graph, LayerId, LayerKind};

/// Two copies of a graph in which every stopped read goes through a layer of its own.
pub(crate) struct Frozen {
    /// Here that layer copies what is read, and is an output, after the graph's own.
    pub probe: Graph,
    /// Here that layer is an input, after the graph's own.
    pub frozen: Graph,
}

impl Frozen {
    /// Makes the copies.
    pub fn of(graph: &Graph) -> Frozen {
        Frozen { probe: copy(graph, false), frozen: copy(graph, true) }
    }
}

fn copy(graph: &Graph, frozen: bool) -> Graph {
    let mut out = Graph::with_weights_of(graph.name(), graph);
    for layer in graph.layers() {
        out.add_layer(layer.clone());
    }
    for output in graph.outputs() {
        out.output(&*output.name, output.layer);
    }
    for connection in graph.connections() {
        match connection.source.filter(|_| connection.stops_gradient) {
            // A symbol moves under no difference.
            Some(source) if graph.layer_at(source).kind != LayerKind::Symbol => {
                let layer = read_of(&mut out, source, connection.delay, frozen);
                out.add_connection(Connection { source: Some(layer), delay: 0, ..connection.clone() });
            }
            _ => {
                out.add_connection(connection.clone());
            }
        }
    }
    out
}

fn read_of(out: &mut Graph, source: LayerId, delay: i64, frozen: bool) -> LayerId {
    let size = out.layer_at(source).size;
    // Told apart by a number behind a space, which no name of the language has.
    let name = format!("stop_gradient({}) {}", out.layer_at(source).name, out.layers().len());
    if frozen {
        return out.input(name, size);
    }
    let layer = out.sum(&*name, size, Activation::Identity);
    out.connect(source, layer, Connect::identity().delay(delay));
    out.output(name, layer);
    layer
}

//! Who does what a remedy says has a scan.

use rnnc_graph::{
    Components, Connection, ConnectionKind, Function, Graph, Kind, LayerId, LayerKind, Obstacle,
    ObstacleKind, Range, normalize,
};
use rnnc_suite::{cell_networks, networks};

/// The network without some obstacles, as their remedies say; `None` where one says nothing that could be done to a graph.
fn obeyed(graph: &Graph, inside: &[LayerId], obstacles: &[Obstacle]) -> Option<Graph> {
    let mut out = Graph::new(graph.name());
    for weight in graph.weights() {
        out.weight(weight.name.clone(), &weight.shape, weight.init);
    }
    graph.layers().iter().for_each(|layer| {
        out.add_layer(layer.clone());
    });
    let mut changed: Vec<Connection> = graph.connections().to_vec();
    let id_of = |c: &Connection| graph.connections().iter().position(|other| std::ptr::eq(c, other));
    let constant = |c: &Connection| Connection {
        source: None,
        kind: ConnectionKind::Constant { value: 1.0 },
        delay: 0,
        source_range: Range::new(0, 0),
        ..c.clone()
    };
    let is_inside = |c: &Connection| c.source.is_some_and(|source| inside.contains(&source));
    for obstacle in obstacles {
        match obstacle.kind {
            ObstacleKind::Function(_) => out.layer_at_mut(obstacle.layer).function = Function::IDENTITY,
            ObstacleKind::Product(_) => {
                for c in graph.incoming(obstacle.layer).filter(|c| is_inside(c)).skip(1) {
                    changed[id_of(c)?] = constant(c);
                }
            }
            ObstacleKind::Divisor | ObstacleKind::Condition => {
                let c = graph.incoming(obstacle.layer).nth(1)?;
                changed[id_of(c)?] = constant(c);
            }
            ObstacleKind::Operation(op) if !op.changes_size() => {
                out.layer_at_mut(obstacle.layer).kind = LayerKind::Sum;
            }
            ObstacleKind::Matrix(id) => {
                let c = &graph.connections()[id.index()];
                let whole = c.source_range == Range::new(0, graph.layer_at(c.source?).size)
                    && c.source_range.len == c.target_range.len;
                // A matrix that no diagonal can stand for is to go.
                let kind = ConnectionKind::Identity { scale: 0.5 };
                changed[id.index()] = if whole { Connection { kind, ..c.clone() } } else { constant(c) };
            }
            _ => return None,
        }
    }
    changed.into_iter().for_each(|c| {
        out.add_connection(c);
    });
    graph.outputs().iter().for_each(|o| out.output(o.name.clone(), o.layer));
    Some(out)
}

#[test]
fn without_the_obstacles_that_it_names_every_loop_is_a_scan() {
    let suite = networks().into_iter().map(|n| (n.name.to_string(), (n.build)(3, 4)));
    let (mut loops, mut tried) = (0, 0);
    for (name, graph) in suite.chain(cell_networks(4, 4)) {
        let graph = normalize(&graph);
        for component in Components::find(&graph).unwrap().list.iter().filter(|c| c.kind == Kind::Loop) {
            loops += 1;
            assert!(!component.obstacles.is_empty() && !component.remedy.is_empty(), "{name}");
            let Some(without) = obeyed(&graph, &component.layers, &component.obstacles) else { continue };
            tried += 1;
            let found = Components::find(&without).unwrap();
            for &layer in &component.layers {
                assert!(found.of(layer).kind != Kind::Loop, "{name}: {}", found.of(layer).reason);
            }
        }
    }
    assert!(loops > 40 && tried * 2 > loops, "{tried} of {loops}");
}

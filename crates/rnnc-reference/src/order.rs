//! All layers in all frames, each after what it reads.
//!
//! A pair is one layer in one frame, all streams together. A pair waits for the pairs that it reads, unless the
//! read gives a start in every stream. Pairs that wait for nothing are computed, which sets others free. No
//! recursion, and no thought about components, directions or delays.

use crate::network::{Network, Surroundings};
use crate::window::Place;
use rnnc_graph::{Connection, ConnectionId, LayerId};
use std::collections::VecDeque;
use std::ops::Range;

/// One layer in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub layer: LayerId,
    pub frame: usize,
}

/// Computes all layers that are not given, in those frames. Returns the pairs in the order in which they were
/// computed; or, where pairs wait for each other, one of them.
pub(crate) fn run(
    network: &mut Network,
    around: &Surroundings<'_>,
    frames: Range<usize>,
) -> Result<Vec<Pair>, Pair> {
    let layers: Vec<LayerId> = network.graph.layer_ids().filter(|&id| !network.is_given(id)).collect();
    let size = network.layer_values.len();
    let place = |pair: Pair| (pair.frame - frames.start) * size + pair.layer.index();

    // How many reads each pair waits for.
    let mut waits = vec![0usize; frames.len() * size];
    let mut ready = VecDeque::new();
    for frame in frames.clone() {
        for &layer in &layers {
            let count = network
                .graph
                .incoming(layer)
                .filter(|c| waits_for(network, around, c, frame, &frames))
                .count();
            waits[place(Pair { layer, frame })] = count;
            if count == 0 {
                ready.push_back(Pair { layer, frame });
            }
        }
    }

    let outgoing: Vec<Vec<ConnectionId>> = network.graph.outgoing();
    let mut order = Vec::with_capacity(frames.len() * layers.len());
    while let Some(pair) = ready.pop_front() {
        for stream in 0..around.window.streams() {
            let at = Place { frame: pair.frame, stream };
            let value = network.compute(around, pair.layer, at);
            network.layer_values[pair.layer.index()].at_mut(at).copy_from_slice(&value);
        }
        order.push(pair);
        for &id in &outgoing[pair.layer.index()] {
            let connection = network.graph.connection_at(id);
            // Frame s is read by frame s + d.
            let Some(reader) = offset(pair.frame, connection.delay).filter(|frame| frames.contains(frame))
            else {
                continue;
            };
            if waits_for(network, around, connection, reader, &frames) {
                let reader = Pair { layer: connection.target, frame: reader };
                waits[place(reader)] -= 1;
                if waits[place(reader)] == 0 {
                    ready.push_back(reader);
                }
            }
        }
    }

    let stuck = waits.iter().position(|&count| count > 0);
    match stuck {
        None => Ok(order),
        Some(place) => {
            Err(Pair { layer: LayerId::from_index(place % size), frame: frames.start + place / size })
        }
    }
}

/// Whether the target of a connection, in a frame, waits for the source: the frame read is one of those to be
/// computed, in some stream.
fn waits_for(
    network: &Network,
    around: &Surroundings<'_>,
    connection: &Connection,
    frame: usize,
    frames: &Range<usize>,
) -> bool {
    let known = |&source: &LayerId| network.is_given(source);
    let Some(source) = connection.source.filter(|source| !known(source)) else { return false };
    (0..around.window.streams()).any(|stream| {
        let found = network.find(around, source, Place { frame, stream }, connection.delay);
        found.is_some_and(|frame| frames.contains(&frame))
    })
}

fn offset(frame: usize, delay: i64) -> Option<usize> {
    let distance = usize::try_from(delay.unsigned_abs()).ok()?;
    if delay >= 0 { frame.checked_add(distance) } else { frame.checked_sub(distance) }
}

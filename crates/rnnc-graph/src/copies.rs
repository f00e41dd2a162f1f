//! Reads of layers that only copy others are reads of those others.
//!
//! A concatenation, a slice with a name, a new name for a layer: each unit of such a layer is a unit of another one, as it
//! is. What reads it can read the others at once, with both delays added. A matrix then multiplies by columns: W
//! concat(a, b) is W's first columns times a and its others times b. So `dense(concat(x, h[t-1]); n)` is what
//! `dense(x, h[t-1]; n)` is, and the product with x leaves the loop. Adjoints have such layers where the network has slices.
//!
//! Both reads must give the same in every frame. Through a copy of delay e, a read of delay d gives the copy's start if
//! a reset lies within d frames, else the source's start if one lies in the e frames before. A read of delay d + e gives
//! the source's start in both cases: the same if the starts are equal and both delays have one sign, or d is 0.
//!
//! A layer that is held as state is no copy: frames before a call's first are whatever the caller says they are.
//!
//! What reads several pieces and is not a matrix of one block still reads the copy: a `diag`, a matrix with heads, a vector
//! function. The copy is one pass over a vector. In a loop it costs a barrier only before a vector function or heads, and only
//! if the pieces are of unequal sizes: equal ones are shared out as what they copy is (`slices.rs`).

use crate::activations::Function;
use crate::graph::Graph;
use crate::parts::{
    Accumulation, AccumulationKind, Connection, ConnectionId, ConnectionKind, LayerId, LayerKind, Range,
    Start, Submatrix,
};

/// The most layers that a read is spread over: as many products of few columns would cost more than a copy.
const MOST: usize = 16;

/// Units of a copy, and where they come from.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    /// In the copy.
    range: Range,
    source: LayerId,
    /// The first unit of the source.
    first: usize,
    delay: i64,
    stops_gradient: bool,
}

impl Piece {
    /// What it has of some units of the copy.
    fn within(self, range: Range) -> Option<Piece> {
        let (start, end) = (self.range.start.max(range.start), self.range.end().min(range.end()));
        (start < end).then(|| Piece {
            range: Range::new(start, end - start),
            first: self.first + start - self.range.start,
            ..self
        })
    }

    /// Whether `next` goes on where it ends, in both layers.
    fn continues_in(self, next: Piece) -> bool {
        let alike = self.source == next.source
            && self.delay == next.delay
            && self.stops_gradient == next.stops_gradient;
        alike && self.range.end() == next.range.start && self.first + self.range.len == next.first
    }
}

/// Whether reading units of a copy with a delay, which has them of a source with the piece's, gives what one read of the
/// source with both delays gives.
fn add_up(copy: Start, delay: i64, source: Start, piece: Piece) -> bool {
    let same_start = match (copy, source) {
        // Of each unit its own number.
        (Start::Learned(a), Start::Learned(b)) => a == b && piece.range.start == piece.first,
        (copy, source) => copy == source,
    };
    delay == 0 || (same_start && (piece.delay == 0 || (piece.delay > 0) == (delay > 0)))
}

/// Makes reads of copies read what is copied, in connections and accumulations. The copies stay, for what else reads them.
pub(crate) fn forward_copies(graph: &mut Graph) {
    let copies = Copies::find(graph);
    for id in graph.connection_ids() {
        copies.forward(graph, id);
    }
    for accumulation in graph.take_accumulations() {
        copies.accumulations(graph, accumulation).into_iter().for_each(|a| graph.accumulate(a));
    }
}

/// Of each layer that only copies, its pieces, by their units.
struct Copies(Vec<Option<Vec<Piece>>>);

impl Copies {
    fn find(graph: &Graph) -> Copies {
        let mut pieces: Vec<Option<Vec<Piece>>> = graph.layer_ids().map(|id| pieces(graph, id)).collect();
        // State has a value of its own before the first frame.
        graph.held().iter().for_each(|id| pieces[id.index()] = None);
        // Copies of copies, each after those that it reads. What is left over copies itself, frames before: delay lines.
        let mut waiting = vec![0usize; pieces.len()];
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); pieces.len()];
        for (copy, own) in pieces.iter().enumerate() {
            for piece in own.iter().flatten().filter(|p| pieces[p.source.index()].is_some()) {
                waiting[copy] += 1;
                readers[piece.source.index()].push(copy);
            }
        }
        let mut open: Vec<usize> =
            (0..pieces.len()).filter(|&l| waiting[l] == 0 && pieces[l].is_some()).collect();
        let mut found = Copies(vec![None; pieces.len()]);
        while let Some(copy) = open.pop() {
            let own = pieces[copy].take().unwrap_or_default();
            found.0[copy] = Some(found.resolve(graph, own));
            for &reader in &readers[copy] {
                waiting[reader] -= 1;
                if waiting[reader] == 0 {
                    open.push(reader);
                }
            }
        }
        found
    }

    /// The pieces of a copy, those of other copies replaced by what these are made of.
    fn resolve(&self, graph: &Graph, own: Vec<Piece>) -> Vec<Piece> {
        let mut out: Vec<Piece> = Vec::with_capacity(own.len());
        for piece in &own {
            let read = Range::new(piece.first, piece.range.len);
            let deeper = self.read(graph, piece.source, read, piece.delay, piece.stops_gradient);
            let few = |pieces: &Vec<Piece>| out.len() + pieces.len() <= MOST.max(own.len());
            let shifted = |p: Piece| Piece {
                range: Range::new(p.range.start - piece.first + piece.range.start, p.range.len),
                ..p
            };
            match deeper.filter(few) {
                Some(pieces) => out.extend(pieces.into_iter().map(shifted)),
                None => out.push(*piece),
            }
        }
        join(out)
    }

    /// What a read of some units of a layer can read in its place: pieces that cover them all.
    fn read(
        &self,
        graph: &Graph,
        layer: LayerId,
        units: Range,
        delay: i64,
        stops_gradient: bool,
    ) -> Option<Vec<Piece>> {
        let all = self.0[layer.index()].as_ref()?;
        let from = all.partition_point(|p| p.range.end() <= units.start);
        let mut out = Vec::new();
        let mut next = units.start;
        for piece in all[from..].iter().map_while(|p| p.within(units)) {
            let starts = (graph.layer_at(layer).start, graph.layer_at(piece.source).start);
            if piece.range.start != next || !add_up(starts.0, delay, starts.1, piece) || out.len() == MOST {
                return None;
            }
            next = piece.range.end();
            out.push(Piece {
                delay: delay + piece.delay,
                stops_gradient: stops_gradient || piece.stops_gradient,
                ..piece
            });
        }
        (next == units.end()).then_some(out)
    }

    fn forward(&self, graph: &mut Graph, id: ConnectionId) {
        let c = graph.connection_at(id).clone();
        let Some(source) = c.source else { return };
        let Some(pieces) = self.read(graph, source, c.source_range, c.delay, c.stops_gradient) else {
            return;
        };
        let read = |piece: &Piece, kind: ConnectionKind| Connection {
            source: Some(piece.source),
            kind,
            delay: piece.delay,
            source_range: Range::new(piece.first, piece.range.len),
            stops_gradient: piece.stops_gradient,
            ..c.clone()
        };
        match (&pieces[..], c.kind) {
            ([piece], kind) => *graph.connection_at_mut(id) = read(piece, kind),
            (pieces, ConnectionKind::Full { weight, heads: 1, transposed, part }) => {
                let whole = part.unwrap_or_else(|| whole(&c, transposed));
                for (n, piece) in pieces.iter().enumerate() {
                    let units = Range::new(piece.range.start - c.source_range.start, piece.range.len);
                    let part = Some(columns(whole, units, transposed));
                    let new = read(piece, ConnectionKind::Full { weight, heads: 1, transposed, part });
                    if n == 0 {
                        *graph.connection_at_mut(id) = new;
                    } else {
                        graph.add_connection(new);
                    }
                }
            }
            _ => {}
        }
    }

    /// The same sums of the errors that a copy copies: those of its own frame, since an error is not shifted.
    fn accumulations(&self, graph: &Graph, a: Accumulation) -> Vec<Accumulation> {
        let pieces = self.read(graph, a.error, a.error_range, 0, false);
        let Some(pieces) = pieces.filter(|pieces| pieces.iter().all(|p| p.delay == 0)) else {
            return vec![a];
        };
        let one = pieces.len() == 1;
        let weight = graph.weight_at(a.weight);
        let parts = pieces.iter().map(|piece| {
            let units = Range::new(piece.range.start - a.error_range.start, piece.range.len);
            let kind = match a.kind {
                kind if one => kind,
                AccumulationKind::Outer { source, source_range, delay, heads: 1, part } => {
                    let whole = match (part, &weight.shape[..]) {
                        (Some(part), _) => part,
                        (None, &[rows, columns]) => {
                            Submatrix { rows: Range::new(0, rows), columns: Range::new(0, columns) }
                        }
                        _ => return None,
                    };
                    let part = Some(columns(whole, units, true));
                    AccumulationKind::Outer { source, source_range, delay, heads: 1, part }
                }
                AccumulationKind::Sum { scale, weight_range } => {
                    AccumulationKind::Sum { scale, weight_range: weight_range.part(units) }
                }
                AccumulationKind::Start { scale, delay, weight_range } => {
                    AccumulationKind::Start { scale, delay, weight_range: weight_range.part(units) }
                }
                _ => return None,
            };
            let error_range = Range::new(piece.first, piece.range.len);
            Some(Accumulation { error: piece.source, error_range, kind, ..a.clone() })
        });
        parts.collect::<Option<Vec<_>>>().unwrap_or_else(|| vec![a])
    }
}

/// All of the matrix that a connection multiplies by.
fn whole(c: &Connection, transposed: bool) -> Submatrix {
    let (from, to) = (Range::new(0, c.source_range.len), Range::new(0, c.target_range.len));
    if transposed { Submatrix { rows: from, columns: to } } else { Submatrix { rows: to, columns: from } }
}

/// Some columns of a part of a matrix; of its transpose, rows.
fn columns(part: Submatrix, units: Range, transposed: bool) -> Submatrix {
    if transposed {
        Submatrix { rows: part.rows.part(units), ..part }
    } else {
        Submatrix { columns: part.columns.part(units), ..part }
    }
}

/// The pieces of a layer each of whose units is at most one other layer's unit, as it is; by their units.
fn pieces(graph: &Graph, id: LayerId) -> Option<Vec<Piece>> {
    let layer = graph.layer_at(id);
    if layer.kind != LayerKind::Sum || layer.function != Function::IDENTITY {
        return None;
    }
    let piece = |c: &Connection| match (c.kind, c.source) {
        (ConnectionKind::Identity { scale: 1.0 }, Some(source)) => Some(Piece {
            range: c.target_range,
            source,
            first: c.source_range.start,
            delay: c.delay,
            stops_gradient: c.stops_gradient,
        }),
        _ => None,
    };
    let mut pieces: Vec<Piece> = graph.incoming(id).map(piece).collect::<Option<_>>()?;
    pieces.sort_by_key(|p| p.range);
    let apart = pieces.windows(2).all(|w| w[0].range.end() <= w[1].range.start);
    (apart && !pieces.is_empty()).then(|| join(pieces))
}

/// Makes one of pieces that go on in each other.
fn join(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match out.last_mut() {
            Some(last) if last.continues_in(piece) => last.range.len += piece.range.len,
            _ => out.push(piece),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::Activation::{Identity, Tanh};
    use crate::graph::Connect;
    use crate::init::Init;
    use crate::normalize::normalize;

    /// y = tanh(W concat(x, y[t-1])), with that start of the concatenation, read with that delay.
    fn concat(start: Start, delay: i64, stopped: bool) -> Graph {
        let mut g = Graph::new("concat");
        let (x, y) = (g.input("x", 2), g.sum("y", 3, Tanh));
        let both = g.sum("both", 5, Identity);
        g.set_start(both, start);
        g.connect(x, both, Connect::identity().to(Range::new(0, 2)));
        let state = Connect::identity().delay(1).to(Range::new(2, 3));
        g.connect(y, both, if stopped { state.stop_gradient() } else { state });
        let w = g.weight("w", &[3, 5], Init::Glorot);
        g.connect(both, y, Connect::full(w).delay(delay));
        g.output("y", y);
        normalize(&g)
    }

    fn reads(graph: &Graph) -> Vec<(&str, i64, Option<Submatrix>, bool)> {
        let y = graph.find_layer("y").unwrap();
        let read = |c: &Connection| {
            let ConnectionKind::Full { part, .. } = c.kind else { panic!("{c:?}") };
            let source = &graph.layer_at(c.source.unwrap()).name;
            (source.clone(), c.delay, part, c.stops_gradient)
        };
        let reads: Vec<_> = graph.incoming(y).map(read).collect();
        reads
            .into_iter()
            .map(|(name, delay, part, stops)| {
                (&*graph.layer_at(graph.find_layer(&name).unwrap()).name, delay, part, stops)
            })
            .collect()
    }

    fn part(start: usize, len: usize) -> Option<Submatrix> {
        Some(Submatrix { rows: Range::new(0, 3), columns: Range::new(start, len) })
    }

    #[test]
    fn what_is_held_as_state_is_read_itself_and_is_kept_even_if_nothing_reads_it() {
        let mut g = Graph::new("held");
        let (x, y) = (g.input("x", 2), g.sum("y", 2, Tanh));
        let [last, prev, unread] = ["last", "prev", "unread"].map(|name| g.sum(name, 2, Identity));
        g.connect(x, last, Connect::identity());
        g.connect(last, prev, Connect::identity().delay(1));
        g.connect(prev, y, Connect::identity().delay(1));
        g.connect(y, unread, Connect::identity());
        g.output("y", y);
        let source = |g: &Graph, layer: &str| {
            let c = g.incoming(g.find_layer(layer).unwrap()).next().unwrap().clone();
            (g.layer_at(c.source.unwrap()).name.clone(), c.delay)
        };
        assert_eq!(source(&normalize(&g), "y"), ("x".into(), 2));
        g.hold_state(None).unwrap();
        assert_eq!(g.held(), [last, prev]);
        let all = normalize(&g);
        assert_eq!((source(&all, "y"), source(&all, "prev")), (("prev".into(), 1), ("last".into(), 1)));
        assert!(all.find_layer("unread").is_none());
        g.hold_state(Some(&["unread", "prev", "last"])).unwrap();
        let named = normalize(&g);
        let names: Vec<&str> = named.held().iter().map(|&layer| &*named.layer_at(layer).name).collect();
        assert_eq!(names, ["unread", "prev", "last"]);
        assert_eq!(
            named.held().iter().map(|l| named.history_depths()[l.index()]).collect::<Vec<_>>(),
            [1; 3]
        );
    }

    #[test]
    fn a_matrix_times_a_concatenation_is_its_columns_times_the_parts() {
        for (delay, start) in [(0, Start::Zero), (0, Start::Constant(2.0)), (1, Start::Zero)] {
            let g = concat(start, delay, false);
            assert_eq!(reads(&g), [("x", delay, part(0, 2), false), ("y", 1 + delay, part(2, 3), false)]);
            assert!(g.find_layer("both").is_none(), "nothing else reads it");
        }
    }

    #[test]
    fn a_delayed_read_goes_through_only_where_it_gives_the_same_past_resets() {
        for (delay, start) in [(1, Start::Constant(2.0)), (-1, Start::Zero)] {
            let g = concat(start, delay, false);
            assert_eq!(reads(&g), [("both", delay, None, false)], "{delay}, {start:?}");
        }
    }

    #[test]
    fn a_learned_start_is_the_same_only_of_the_same_units() {
        let delay = |first: usize| {
            let mut g = Graph::new("learned");
            let x = g.input("x", 4);
            let start = g.weight("start", &[4], Init::Zeros);
            let (a, b) = (g.sum("a", 4, Tanh), g.sum("b", 4, Identity));
            g.connect(x, a, Connect::identity());
            g.connect(a, b, Connect::identity().from(Range::new(first, 2)).to(Range::new(0, 2)));
            g.connect(a, b, Connect::identity().from(Range::new(2 - first, 2)).to(Range::new(2, 2)));
            [a, b].iter().for_each(|&layer| g.set_start(layer, Start::Learned(start)));
            let y = g.sum("y", 2, Identity);
            g.connect(b, y, Connect::scaled(0.5).from(Range::new(0, 2)).delay(1));
            g.output("y", y);
            let normal = normalize(&g);
            let y = normal.find_layer("y").unwrap();
            let read = normal.incoming(y).next().unwrap().source.unwrap();
            normal.layer_at(read).name.clone()
        };
        assert_eq!((&*delay(0), &*delay(2)), ("a", "b"));
    }

    #[test]
    fn no_error_flows_where_the_copy_lets_none() {
        let g = concat(Start::Zero, 0, true);
        assert_eq!(reads(&g), [("x", 0, part(0, 2), false), ("y", 1, part(2, 3), true)]);
    }

    #[test]
    fn a_delay_line_copies_itself_and_is_read_as_it_is() {
        let mut g = Graph::new("line");
        let x = g.input("x", 1);
        let line = g.sum("line", 3, Identity);
        g.connect(x, line, Connect::identity().to(Range::new(0, 1)));
        g.connect(line, line, Connect::identity().from(Range::new(0, 2)).to(Range::new(1, 2)).delay(1));
        let y = g.sum("y", 1, Identity);
        g.connect(line, y, Connect::identity().from(Range::new(2, 1)));
        g.output("y", y);
        assert_eq!(normalize(&g), normalize(&normalize(&g)));
        assert!(normalize(&g).find_layer("line").is_some());
    }
}

//! Networks drawn at random: several components, cycles through delays of 1 to 3 in either direction, all kinds of
//! layers and connections. Every draw is a valid network.
//!
//! Among the layers are such whose units fall into heads, and read their own head's alone; and such whose terms reach parts of them, side by side and overlapping: sums, products, broadcasts and
//! recurrences within a concatenation. Whatever reads a layer may read a slice of it.
//!
//! A draw is a list of genes, one for each layer, so that a failing one shrinks by dropping layers. Layers stand in
//! segments. A layer reads layers before it without delay, and any layer of its own segment or an earlier one with
//! delay; within a segment, all delays have the segment's sign. So every cycle has a delay, and of one sign.

use crate::case::Case;
use crate::net::Net;
use proptest::prelude::*;
use rnnc_graph::ops::Relation;
use rnnc_graph::{
    Activation, Connect, Connection, ConnectionKind, Graph, Init, LayerId, Operation, Range, Start,
};

/// Whether random networks keep clear of kinks (relu, max and such), whose derivatives finite differences miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Smooth {
    /// They keep clear.
    Yes,
    /// They have all functions.
    No,
}

/// What one layer is made from. The numbers are taken modulo the choices there are.
#[derive(Clone, Debug)]
struct Gene {
    kind: u8,
    size: u8,
    function: u8,
    reads: Vec<Read>,
    start: u8,
}

#[derive(Clone, Debug)]
struct Read {
    source: u16,
    delay: u8,
    way: u8,
    stops: bool,
}

/// A random valid network of up to 14 layers and some between.
pub fn random_graph(smooth: Smooth) -> impl Strategy<Value = Graph> {
    let read = (any::<u16>(), any::<u8>(), any::<u8>(), prop::bool::weighted(0.05))
        .prop_map(|(source, delay, way, stops)| Read { source, delay, way, stops });
    let gene = (any::<u8>(), any::<u8>(), any::<u8>(), prop::collection::vec(read, 1..4), any::<u8>())
        .prop_map(|(kind, size, function, reads, start)| Gene { kind, size, function, reads, start });
    // The segments' signs: backwards now and then.
    let segments = prop::collection::vec(prop::bool::weighted(0.25), 1..4);
    (prop::collection::vec(gene, 1..14), segments)
        .prop_map(move |(genes, backward)| build(&genes, &backward, smooth))
}

/// A random network with random streams, windows and resets.
pub fn random_case(smooth: Smooth) -> impl Strategy<Value = Case> {
    let windows = prop::collection::vec(1usize..7, 1..5);
    let resets = prop_oneof![Just(0.0), Just(0.2)];
    // Dropout is on in half of them; it matters where a layer is a mask.
    let drawn = (any::<u64>(), any::<bool>());
    (random_graph(smooth), 1usize..5, windows, 0usize..6, resets, drawn).prop_map(
        |(graph, streams, windows, older, resets, (seed, training))| {
            let case = Case { seed, training, ..Case::new("random", graph, streams, &windows, resets) };
            let window = case.window + older;
            if older == 0 || case.graph.looks_ahead() { case } else { case.with_window(window) }
        },
    )
}

const BOUNDED: [Activation; 7] = [
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Sin,
    Activation::Cos,
    Activation::Softsign,
    Activation::Atan,
    Activation::Erf,
];
const UNBOUNDED: [Activation; 4] =
    [Activation::Identity, Activation::Softplus, Activation::Gelu, Activation::Silu];
const KINKED: [Activation; 9] = [
    Activation::Relu,
    Activation::LeakyRelu,
    Activation::Elu,
    Activation::Abs,
    Activation::HardSigmoid,
    Activation::HardTanh,
    Activation::Floor,
    Activation::Round,
    Activation::Sign,
];
/// Of the largest, two workers have units each.
const SIZES: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 24];

/// What the gene's kind stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Dense,
    Sum,
    Product,
    Accumulator,
    Divide,
    Larger,
    Smaller,
    Choice,
    Mod,
    Softmax,
    Normalize,
    GroupSum,
    Parameter,
    Mask,
    Concat,
    Heads,
}

fn form(gene: &Gene, smooth: Smooth) -> Form {
    use Form::*;
    const FORMS: [Form; 24] = [
        Dense,
        Dense,
        Dense,
        Sum,
        Sum,
        Product,
        Product,
        Accumulator,
        Accumulator,
        Divide,
        Larger,
        Smaller,
        Choice,
        Mod,
        Softmax,
        Normalize,
        GroupSum,
        Parameter,
        Concat,
        Concat,
        Concat,
        Concat,
        Heads,
        Heads,
    ];
    match FORMS[usize::from(gene.kind) % FORMS.len()] {
        Larger | Smaller | Choice | Mod if smooth == Smooth::Yes => Product,
        Parameter if gene.start.is_multiple_of(2) => Mask,
        form => form,
    }
}

fn pick<T: Copy>(choices: &[T], number: u8) -> T {
    choices[usize::from(number) % choices.len()]
}

struct Builder<'a> {
    net: Net,
    genes: &'a [Gene],
    forms: Vec<Form>,
    /// The layers of the genes, after the input.
    layers: Vec<LayerId>,
    backward: &'a [bool],
    symbol: LayerId,
}

fn build(genes: &[Gene], backward: &[bool], smooth: Smooth) -> Graph {
    let mut net = Net::new("random");
    let x = net.graph.input("x", 3);
    let symbol = net.graph.symbol("symbol", 4);
    let forms: Vec<Form> = genes.iter().map(|gene| form(gene, smooth)).collect();
    let mut layers = vec![x];
    for (place, (gene, &form)) in genes.iter().zip(&forms).enumerate() {
        // Some masks are called as the adjoint calls the error of the last output: names must not matter to them.
        let name = match form {
            Form::Mask if gene.function.is_multiple_of(2) => format!("d_l{}", genes.len() - 1),
            _ => format!("l{place}"),
        };
        layers.push(make_layer(&mut net, &name, gene, form, smooth));
    }
    let mut builder = Builder { net, genes, forms, layers, backward, symbol };
    for place in 0..genes.len() {
        builder.connect(place);
    }
    builder.set_starts();
    let Builder { mut net, layers, .. } = builder;
    // The last layer, and one more.
    net.output(layers[layers.len() / 2]);
    let last = layers[layers.len() - 1];
    net.out(last)
}

/// A layer without its connections.
fn make_layer(net: &mut Net, name: &str, gene: &Gene, form: Form, smooth: Smooth) -> LayerId {
    let size = pick(&SIZES, gene.size);
    let groups = if size.is_multiple_of(2) { 2 } else { 1 };
    let free = |gene: &Gene| match (gene.function % 4, smooth) {
        (0, _) => pick(&UNBOUNDED, gene.function / 4),
        (1, Smooth::No) => pick(&KINKED, gene.function / 4),
        _ => pick(&BOUNDED, gene.function / 4),
    };
    match form {
        Form::Concat if copies(gene) => net.sum(name, size, Activation::Identity),
        Form::Dense | Form::Concat | Form::Heads => net.sum(name, size, free(gene)),
        Form::Sum | Form::Accumulator | Form::Choice => net.sum(name, size, Activation::Identity),
        Form::Product => net.graph.product(name, size, [Activation::Identity, Activation::Tanh][groups - 1]),
        Form::Divide => net.graph.operation(name, size, Operation::Divide),
        Form::Mod => net.graph.operation(name, size, Operation::Mod),
        Form::Larger => net.graph.operation(name, size, Operation::Max),
        Form::Smaller => net.graph.operation(name, size, Operation::Min),
        Form::Softmax if gene.function.is_multiple_of(2) => {
            net.graph.operation(name, size, Operation::Softmax { groups })
        }
        Form::Softmax => net.graph.operation(name, size, Operation::LogSoftmax { groups }),
        // A large epsilon: parts of one or two units have variances near 0.
        Form::Normalize => {
            let operation =
                Operation::Normalize { groups, center: gene.function.is_multiple_of(2), epsilon: 0.1 };
            net.graph.operation(name, size, operation)
        }
        Form::GroupSum => net.graph.operation(name, groups, Operation::GroupSum { groups }),
        Form::Parameter => net.parameter(name, size),
        Form::Mask => net.mask(name, size, 0.25),
    }
}

/// Whether a concatenation is of nothing but other layers' units, as they are: whoever reads it may as well read those.
fn copies(gene: &Gene) -> bool {
    gene.start >= 128
}

impl Builder<'_> {
    fn segment(&self, place: usize) -> usize {
        place * self.backward.len() / self.genes.len()
    }

    /// The layer and the delay of a read by the layer of gene `place`.
    fn source(&self, place: usize, read: &Read) -> (LayerId, i64) {
        let distance = i64::from(read.delay % 4);
        let own = self.segment(place);
        let end = if distance == 0 {
            place
        } else {
            (0..self.genes.len()).rfind(|&p| self.segment(p) == own).map_or(place, |p| p + 1)
        };
        // Layer 0 is the input; the layer of gene p is p + 1.
        let index = usize::from(read.source) % (end + 1);
        let is_own = index > 0 && self.segment(index - 1) == own;
        // Reads of what stands outside the segment may go either way, where the network looks ahead at all.
        let backward = match is_own {
            true => self.backward[own],
            false => self.backward.contains(&true) && read.way.is_multiple_of(3),
        };
        (self.layers[index], if backward { -distance } else { distance })
    }

    /// Adds a read as a term of some units, by whatever connection fits the sizes.
    fn term(&mut self, place: usize, read: &Read, target: LayerId, to: Range, scale: f64) {
        let (source, delay) = self.source(place, read);
        let (from, len) = (self.net.size(source), to.len);
        // A part of the source, where it does not fit as it is.
        let slice = |len: usize| Range::new(usize::from(read.way / 8) % (from - len + 1), len);
        let name = format!("w{}", self.net.graph.weights().len());
        let connect = match read.way % 8 {
            0 if from >= len => {
                let weight = self.net.graph.weight(name, &[len], Init::Uniform(0.5));
                Connect::diagonal(weight).from(slice(len))
            }
            1 if len > 1 => {
                // The largest part of the source whose units repeat evenly, but for all of them.
                let part = (1..=from.min(len / 2)).rev().find(|part| len.is_multiple_of(*part)).unwrap_or(1);
                Connect::new(ConnectionKind::Broadcast { scale }).from(slice(part))
            }
            2 if from.is_multiple_of(2) && len.is_multiple_of(2) => {
                let weight = self.net.graph.weight(name, &[2, len / 2, from / 2], Init::Glorot);
                Connect::new(ConnectionKind::Full { weight, heads: 2, transposed: false, part: None })
            }
            3.. if from >= len => {
                // Of every other, one of equal slices, if it can be.
                let step = if read.way.is_multiple_of(2) && from.is_multiple_of(len) { len } else { 1 };
                let first = usize::from(read.way) % ((from - len) / step + 1) * step;
                Connect::scaled(scale).from(Range::new(first, len))
            }
            3.. if len.is_multiple_of(from) => Connect::new(ConnectionKind::Broadcast { scale }),
            _ => {
                let part = slice(if read.way.is_multiple_of(3) { from.div_ceil(2) } else { from });
                let weight = self.net.graph.weight(name, &[len, part.len], Init::Glorot);
                Connect::full(weight).from(part)
            }
        };
        let connect = connect.delay(delay).to(to);
        let connect = if read.stops { connect.stop_gradient() } else { connect };
        self.net.graph.connect(source, target, connect);
    }

    fn connect(&mut self, place: usize) {
        let gene = &self.genes[place];
        let target = self.layers[place + 1];
        let size = self.net.size(target);
        let read = |k: usize| &gene.reads[k % gene.reads.len()];
        match self.forms[place] {
            Form::Dense => {
                self.net.bias(target);
                for r in &gene.reads {
                    let (source, delay) = self.source(place, r);
                    self.net.full(source, target, delay);
                }
                if gene.function.is_multiple_of(5) {
                    self.net.full(self.symbol, target, i64::from(gene.size % 3));
                }
            }
            // Scaled so that no cycle of sums grows.
            Form::Sum => {
                for (k, r) in gene.reads.iter().enumerate() {
                    self.term(place, r, target, Range::new(0, size), [0.3, -0.3, 0.25][k % 3]);
                }
                let one = Connect::scaled(0.5).from(Range::new(0, 1)).to(Range::new(size / 2, 1));
                self.net.graph.connect(self.layers[0], target, one);
            }
            Form::Product => {
                self.term(place, read(0), target, Range::new(0, size), 0.9);
                let gate = self.gate(place, read(1), size);
                self.net.add(gate, target, 1.0, 0);
                if gene.reads.len() > 2 {
                    self.net.graph.connect_constant(0.8, target);
                }
            }
            // c = f c[t-d] + z
            Form::Accumulator => {
                let gate = self.gate(place, read(0), size);
                let sign = if self.backward[self.segment(place)] { -1 } else { 1 };
                let delay = sign * i64::from(1 + gene.function % 3);
                let kept = self.net.product(&format!("l{place}.kept"), &[(gate, 0), (target, delay)]);
                self.net.add(kept, target, 1.0, 0);
                self.term(place, read(1), target, Range::new(0, size), 0.5);
            }
            Form::Divide | Form::Mod => {
                self.term(place, read(0), target, Range::new(0, size), 0.7);
                let gate = self.gate(place, read(1), size);
                let below = self.net.sum(&format!("l{place}.below"), size, Activation::Identity);
                self.net.graph.connect_constant(1.0, below);
                self.net.add(gate, below, 0.5, 0);
                self.net.add(below, target, 1.0, 0);
            }
            // h = where(c, h[t-d], z), or of something else that is read.
            Form::Choice => {
                let all = Range::new(0, size);
                let relation = [Relation::Less, Relation::AtMost, Relation::Equal, Relation::Unequal]
                    [usize::from(gene.size) % 4];
                let condition = self.net.graph.operation(
                    format!("l{place}.condition"),
                    size,
                    Operation::Compare { relation },
                );
                self.term(place, read(0), condition, all, 0.9);
                let gate = self.gate(place, read(1), size);
                self.net.add(gate, condition, 1.0, 0);
                let kept = self.net.graph.operation(format!("l{place}.kept"), size, Operation::When);
                if gene.function.is_multiple_of(2) {
                    let sign = if self.backward[self.segment(place)] { -1 } else { 1 };
                    self.net.add(target, kept, 0.8, sign * i64::from(1 + gene.function % 3));
                } else {
                    self.term(place, read(2), kept, all, 0.6);
                }
                self.net.add(condition, kept, 1.0, 0);
                let new = self.net.graph.operation(format!("l{place}.new"), size, Operation::Unless);
                self.term(place, read(1), new, all, 0.5);
                self.net.add(condition, new, 1.0, 0);
                self.net.add(kept, target, 1.0, 0);
                self.net.add(new, target, 1.0, 0);
            }
            Form::Larger | Form::Smaller => {
                self.term(place, read(0), target, Range::new(0, size), 0.9);
                let gate = self.gate(place, read(1), size);
                self.net.add(gate, target, 1.0, 0);
            }
            Form::Softmax | Form::Normalize => self.term(place, read(0), target, Range::new(0, size), 0.8),
            Form::GroupSum => self.term(place, read(0), target, Range::new(0, 2 * size), 0.4),
            Form::Concat => self.concat(place),
            Form::Heads => self.heads(place),
            Form::Parameter | Form::Mask => {}
        }
    }

    /// Parts side by side, of one to three terms each; the last may reach into the part before.
    fn concat(&mut self, place: usize) {
        let gene = &self.genes[place];
        let target = self.layers[place + 1];
        let size = self.net.size(target);
        let parts = (1 + usize::from(gene.start / 4) % 4).min(size);
        let mut first = 0;
        for part in 0..parts {
            let len = match part + 1 == parts {
                true => size - first,
                // Equal parts, or such as get smaller.
                false if gene.start.is_multiple_of(2) => size / parts,
                false => ((size - first) / 2).clamp(1, size - first - (parts - 1 - part)),
            };
            let read = |k: usize| &gene.reads[(part + k) % gene.reads.len()];
            // Now and then a unit more, before the part, or a part that nothing reaches but one term.
            let early = usize::from(part > 0 && gene.function.is_multiple_of(7));
            let to = Range::new(first - early, len + early);
            if copies(gene) {
                let read = Read { way: read(0).way | 4, ..read(0).clone() };
                self.term(place, &read, target, to, 1.0);
                first += len;
                continue;
            }
            for k in 0..1 + usize::from(read(0).way / 16) % 2 {
                self.part(place, read(k), target, to);
            }
            first += len;
        }
    }

    /// A term of some units of a layer: a read, a product, a number, or a recurrence of these units.
    fn part(&mut self, place: usize, read: &Read, target: LayerId, to: Range) {
        let name = format!("l{place}.part{}", self.net.graph.layers().len());
        match read.way / 32 {
            0 | 1 => {
                let product = self.net.graph.product(&name, to.len, Activation::Identity);
                self.term(place, read, product, Range::new(0, to.len), 0.8);
                let gate = self.gate(place, read, to.len);
                self.net.add(gate, product, 0.5, 0);
                self.net.graph.connect(product, target, Connect::identity().to(to));
            }
            2 => {
                let kept = self.net.graph.product(&name, to.len, Activation::Identity);
                let gate = self.gate(place, read, to.len);
                let sign = if self.backward[self.segment(place)] { -1 } else { 1 };
                let delay = sign * i64::from(1 + read.delay % 2);
                self.net.add(gate, kept, 0.7, 0);
                self.net.graph.connect(target, kept, Connect::identity().from(to).delay(delay));
                self.net.graph.connect(kept, target, Connect::identity().to(to));
            }
            3 => {
                self.net.graph.add_connection(Connection {
                    source: None,
                    target,
                    kind: ConnectionKind::Constant { value: 0.4 },
                    delay: 0,
                    source_range: Range::new(0, 0),
                    target_range: to,
                    stops_gradient: false,
                });
            }
            _ => self.term(place, read, target, to, 0.3),
        }
    }

    /// Heads that read themselves, and, where others divide into as many, these head by head.
    fn heads(&mut self, place: usize) {
        let gene = &self.genes[place];
        let target = self.layers[place + 1];
        let size = self.net.size(target);
        let heads = [2, 4, 3][usize::from(gene.start) % 3];
        let heads = if size.is_multiple_of(heads) { heads } else { 1 };
        let sign = if self.backward[self.segment(place)] { -1 } else { 1 };
        self.net.bias(target);
        self.net.heads(target, target, sign * i64::from(1 + gene.function % 2), heads);
        for read in &gene.reads {
            let (source, delay) = self.source(place, read);
            let divides = self.net.size(source).is_multiple_of(heads);
            self.net.heads(source, target, delay, if divides { heads } else { 1 });
        }
    }

    /// A layer with values in 0 .. 1 that reads what it is told.
    fn gate(&mut self, place: usize, read: &Read, size: usize) -> LayerId {
        let reads = [self.source(place, read)];
        self.net.dense(&format!("l{place}.gate"), size, Activation::Sigmoid, &reads)
    }

    fn set_starts(&mut self) {
        for (gene, &layer) in self.genes.iter().zip(&self.layers[1..]) {
            match gene.start % 4 {
                0 => self.net.learned_start(layer),
                1 => self.net.graph.set_start(layer, Start::Constant(0.5)),
                _ => {}
            }
        }
    }
}

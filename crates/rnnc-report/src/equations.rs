//! Names as the text has them. A layer without a name of its own (`h.c.1`), a bias (`h.c.bias`) and an error (`d h.c.1`)
//! belong to an equation, and the equations of a cell to what it was called as: `h.i`, `h.c` and `h.h` together are `h`.

use rnnc_graph::{Graph, LayerId, LayerKind};
use std::collections::{HashMap, HashSet};

/// The most calls of cells, one within the other, that are told as one name.
const MOST_CALLS: usize = 8;

/// The equations of a network.
pub(crate) struct Equations<'a> {
    /// For each layer, the place of its equation.
    pub of_layer: Vec<usize>,
    /// Their names, in the order of the network's layers.
    pub names: Vec<&'a str>,
    /// Which of them are computed in each frame: no inputs, no parameters.
    pub computed: Vec<bool>,
    /// How many computed ones each call of a cell has, by what it was called as.
    under: HashMap<&'a str, usize>,
    /// For each call of a cell of which something is read elsewhere, that equation; `None` if there are several.
    returned: HashMap<&'a str, Option<usize>>,
}

impl<'a> Equations<'a> {
    /// Those of a network, not of its adjoint.
    pub fn of(graph: &'a Graph) -> Equations<'a> {
        let mut names: Vec<&str> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut computed: Vec<bool> = Vec::new();
        let mut of_layer = Vec::with_capacity(graph.layers().len());
        for layer in graph.layers() {
            let name = equation(&layer.name);
            let place = *places.entry(name).or_insert(names.len());
            if place == names.len() {
                names.push(name);
                computed.push(false);
            }
            let given = matches!(layer.kind, LayerKind::Input | LayerKind::Symbol | LayerKind::Parameter(_));
            computed[place] |= !given;
            of_layer.push(place);
        }
        let mut under: HashMap<&str, usize> = HashMap::new();
        for (name, _) in names.iter().zip(&computed).filter(|(_, computed)| **computed) {
            calls(name).for_each(|call| *under.entry(call).or_default() += 1);
        }
        let mut returned: HashMap<&str, Option<usize>> = HashMap::new();
        for c in graph.connections() {
            let Some(source) = c.source.map(|source| of_layer[source.index()]) else { continue };
            if let Some(call) = foreign(names[of_layer[c.target.index()]], names[source]) {
                let equation = returned.entry(call).or_insert(Some(source));
                *equation = equation.filter(|&equation| equation == source);
            }
        }
        Equations { of_layer, names, computed, under, returned }
    }

    /// The name of a layer's equation.
    pub fn name(&self, layer: LayerId) -> &'a str {
        self.names[self.of_layer[layer.index()]]
    }

    /// Some equations, each once and in the order of the network; cells of which all equations are there are one name.
    pub fn together(&self, mut equations: Vec<usize>) -> Vec<&'a str> {
        equations.sort_unstable();
        equations.dedup();
        let mut here: HashMap<&str, usize> = HashMap::new();
        for &place in equations.iter().filter(|&&place| self.computed[place]) {
            calls(self.names[place]).for_each(|call| *here.entry(call).or_default() += 1);
        }
        let mut told = HashSet::new();
        let mut out = Vec::new();
        for place in equations {
            let name = self.names[place];
            let whole = calls(name).find(|call| here.get(call) == self.under.get(call));
            let name = whole.filter(|_| self.computed[place]).unwrap_or(name);
            if told.insert(name) {
                out.push(name);
            }
        }
        out
    }

    /// What a reader calls a layer: of a cell that was called elsewhere and gave one value, what it was called as.
    pub fn seen_from(&self, reader: LayerId, layer: LayerId) -> &'a str {
        let (reader, name) = (self.name(reader), self.name(layer));
        let call = foreign(reader, name);
        call.filter(|call| self.returned.get(call).is_some_and(Option::is_some)).unwrap_or(name)
    }
}

/// The name of an equation, of the name of one of its layers: names do not begin with digits, numbers of layers without a
/// name do.
pub(crate) fn equation(mut name: &str) -> &str {
    while let Some((rest, number)) = name.rsplit_once('.')
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
    {
        name = rest;
    }
    name
}

/// Of the calls of cells that an equation stands in, the outermost that its reader does not stand in.
fn foreign<'a>(reader: &str, name: &'a str) -> Option<&'a str> {
    let call = name.match_indices('.').find(|&(at, _)| !reader.starts_with(&name[..=at]));
    call.map(|(at, _)| &name[..at])
}

/// What the cells that an equation stands in were called as, the outermost first.
fn calls(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').take(MOST_CALLS).map(|(at, _)| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rnnc_graph::{Activation, Connect};

    fn graph() -> Graph {
        let mut graph = Graph::new("n");
        let x = graph.input("x", 4);
        for name in ["h.i", "h.c.1", "h.c", "h.g.a", "h.g.b", "y"] {
            let layer = graph.sum(name, 4, Activation::Tanh);
            graph.connect(x, layer, Connect::identity());
        }
        graph
    }

    #[test]
    fn helper_layers_belong_to_their_equation() {
        let graph = graph();
        let equations = Equations::of(&graph);
        assert_eq!(equations.names, ["x", "h.i", "h.c", "h.g.a", "h.g.b", "y"]);
        assert_eq!(equation("h.c.1.2"), "h.c");
        assert_eq!(equation("h2"), "h2");
    }

    #[test]
    fn whole_cells_are_one_name() {
        let graph = graph();
        let equations = Equations::of(&graph);
        assert_eq!(equations.together(vec![5, 4, 3, 2, 1]), ["h", "y"]);
        assert_eq!(equations.together(vec![3, 2, 4]), ["h.c", "h.g"]);
        assert_eq!(equations.together(vec![1, 2, 2]), ["h.i", "h.c"]);
    }
    #[test]
    fn a_cell_that_gives_one_value_is_seen_by_what_it_was_called_as() {
        let mut graph = graph();
        let id = |graph: &Graph, name| graph.find_layer(name).unwrap();
        let (i, c, y) = (id(&graph, "h.i"), id(&graph, "h.c"), id(&graph, "y"));
        graph.connect(i, c, Connect::identity());
        graph.connect(c, y, Connect::identity());
        let equations = Equations::of(&graph);
        assert_eq!((equations.seen_from(y, c), equations.seen_from(c, i)), ("h", "h.i"));
        graph.connect(i, y, Connect::identity());
        let equations = Equations::of(&graph);
        assert_eq!((equations.seen_from(y, c), equations.seen_from(y, i)), ("h.c", "h.i"));
    }
}

//! Words for what the operations of a pass read and write: the layers' names, sizes, delays.

use rnnc_graph::Graph;
use rnnc_plan::{Op, Overlaps, Pass, Read, View};
use std::collections::HashMap;

/// The layers of a pass by where their values lie.
#[derive(Debug)]
pub struct Names<'a> {
    /// For each buffer, its layers: (first column, numbers, name), by column.
    layers: HashMap<usize, Overlaps<(usize, usize, &'a str)>>,
}

impl<'a> Names<'a> {
    /// Those of a pass over a graph.
    pub fn of(graph: &'a Graph, pass: &Pass) -> Names<'a> {
        let mut layers: HashMap<usize, Vec<(usize, usize, &str)>> = HashMap::new();
        for id in graph.layer_ids() {
            if let Some(view) = pass.storage[id.index()] {
                layers.entry(view.buffer.0).or_default().push((
                    view.column,
                    view.len,
                    &graph.layer_at(id).name,
                ));
            }
        }
        layers.values_mut().for_each(|list| list.sort_unstable());
        let columns = |layer: (usize, usize, &'a str)| (layer.0..layer.0 + layer.1, layer);
        let of_buffer = |(buffer, list): (usize, Vec<_>)| {
            (buffer, Overlaps::new(list.into_iter().map(columns).collect()))
        };
        Names { layers: layers.into_iter().map(of_buffer).collect() }
    }

    /// The layers that a view covers, with a mark where it covers a part.
    fn view(&self, view: View) -> Vec<String> {
        let Some(list) = self.layers.get(&view.buffer.0) else { return Vec::new() };
        let end = view.column + view.len;
        list.with(view.column..end)
            .map(|&(first, len, name)| {
                let (from, to) = (view.column.max(first) - first, end.min(first + len) - first);
                if (from, to) == (0, len) { name.to_string() } else { format!("{name}[{from}..{to}]") }
            })
            .collect()
    }

    fn read(&self, read: &Read) -> Vec<String> {
        let names = self.view(read.view);
        let at = delay(read.delay);
        names.into_iter().map(|name| format!("{name}{at}")).collect()
    }

    /// In a few words, what each part of an operation does: as listings say it.
    pub fn words(&self, op: &Op, graph: &Graph) -> Vec<String> {
        self.op(op, graph, 60).iter().map(|line| plain(line)).collect()
    }

    /// One line for each part of an operation. `budget` is the most characters a list of names may take.
    pub(crate) fn op(&self, op: &Op, graph: &Graph, budget: usize) -> Vec<String> {
        let list = |names: Vec<String>| shorten(&names, budget);
        match op {
            Op::MatMul(products) => products
                .iter()
                .map(|p| {
                    let adds = if p.accumulate { "+<-" } else { "<-" };
                    let (rows, columns) = (p.to.len, p.from.view.len);
                    let (to, from) = (list(self.view(p.to)), list(self.read(&p.from)));
                    format!("product {to} {adds} {from}: {rows}x{columns}")
                })
                .collect(),
            Op::Gather(look_ups) => look_ups
                .iter()
                .map(|l| {
                    let adds = if l.accumulate { "+<-" } else { "<-" };
                    let (to, from) = (list(self.view(l.to)), list(self.read(&l.symbol)));
                    format!("look-up {to} {adds} {from}: {} numbers", l.to.len)
                })
                .collect(),
            Op::Map(map) => {
                let names: Vec<String> = map.layers.iter().map(|&l| graph.layer_at(l).name.clone()).collect();
                let part = if map.len == map.slice_len {
                    format!("{} units", map.slice_len)
                } else {
                    format!("units {}..{} of {}", map.first, map.first + map.len, map.slice_len)
                };
                let layers = count(map.layers.len(), "layer");
                vec![format!(
                    "map of {layers}, {}, {part}: {}",
                    count(map.program.instructions.len(), "step"),
                    list(names)
                )]
            }
            Op::Vector(vector) => {
                let operands: Vec<String> = vector.operands.iter().flat_map(|r| self.read(r)).collect();
                vec![format!(
                    "{} {} <- {}: {} units",
                    vector.operation.name(),
                    list(self.view(vector.to)),
                    list(operands),
                    vector.to.len
                )]
            }
            Op::WeightGradient(sums) => sums
                .iter()
                .map(|s| {
                    format!(
                        "weight gradient {} by {}: {}x{}",
                        list(self.view(s.error)),
                        list(self.read(&s.source)),
                        s.error.len,
                        s.source.view.len
                    )
                })
                .collect(),
            Op::TableGradient(sums) => sums
                .iter()
                .map(|s| {
                    format!(
                        "table gradient {} by {}: {} numbers",
                        list(self.view(s.error)),
                        list(self.read(&s.symbol)),
                        s.error.len
                    )
                })
                .collect(),
            Op::Reduce(sums) => sums
                .iter()
                .map(|s| {
                    let by = s.source.map(|r| format!(" by {}", list(self.read(&r)))).unwrap_or_default();
                    let crossing =
                        s.crossing.map(|d| format!(", where [{}] crosses", at(d))).unwrap_or_default();
                    format!(
                        "sum over frames {}{by}: {} numbers{crossing}",
                        list(self.view(s.error)),
                        s.error.len
                    )
                })
                .collect(),
        }
    }
}

/// `t-1`, `t+2`
pub(crate) fn at(delay: i64) -> String {
    match delay {
        0 => "t".into(),
        d if d > 0 => format!("t-{d}"),
        d => format!("t+{}", d.unsigned_abs()),
    }
}

/// `[t-1]`, or nothing where there is no delay.
fn delay(delay: i64) -> String {
    if delay == 0 { String::new() } else { format!("[{}]", at(delay)) }
}

/// Stands for a space within a name, where no line is to be broken.
pub(crate) const GLUE: char = '\u{a0}';

/// The first names that fit, and how many there are if not all do. Spaces within names are glue: see [`plain`].
pub(crate) fn shorten(names: &[String], budget: usize) -> String {
    let mut out = String::new();
    for (i, name) in names.iter().enumerate() {
        if i > 0 && out.len() + 2 + name.len() > budget {
            return format!("{out}, .. ({} in all)", names.len());
        }
        if i > 0 {
            out.push_str(", ");
        }
        out.extend(name.chars().map(|c| if c == ' ' { GLUE } else { c }));
    }
    out
}

/// With spaces for glue.
pub(crate) fn plain(text: &str) -> String {
    text.replace(GLUE, " ")
}

/// `1 step`, `2 steps`
pub fn count(n: usize, what: &str) -> String {
    format!("{} {what}{}", thousands(n as u128), if n == 1 { "" } else { "s" })
}

/// 1234567 as `1,234,567`.
pub(crate) fn thousands(n: u128) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A number with as many digits as it needs, at most two after the point.
pub fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// Three figures and a prefix: `1.23 MB` of 1,234,567 and `B`.
pub fn scaled(n: f64, unit: &str) -> String {
    let prefixes = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"];
    let (mut value, mut prefix) = (n, 0);
    while value >= 999.5 && prefix + 1 < prefixes.len() {
        value /= 1000.0;
        prefix += 1;
    }
    let value = if prefix == 0 { format!("{value:.0}") } else { three_figures(value) };
    format!("{value} {}{unit}", prefixes[prefix])
}

/// `0.04`, `1.57`, `13.3`, `243`
pub(crate) fn three_figures(value: f64) -> String {
    let digits = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_in_three_figures() {
        assert_eq!(scaled(999.0, "FLOP"), "999 FLOP");
        assert_eq!(scaled(1234.0, "B"), "1.23 kB");
        assert_eq!(scaled(45_678_000.0, "B"), "45.7 MB");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(12), "12");
    }

    #[test]
    fn long_lists_of_names_tell_their_length() {
        let names: Vec<String> = (0..9).map(|i| format!("layer{i}")).collect();
        assert_eq!(shorten(&names, 20), "layer0, layer1, .. (9 in all)");
        assert_eq!(shorten(&names[..2], 20), "layer0, layer1");
    }
}

//! How weights lie in one flat buffer: fused gates side by side, so that products fuse without a copy.

use crate::ir::{PlanError, WeightLayout, WeightView};
use rnnc_graph::{ConnectionKind, Graph, LayerId, LayerKind, Range, WeightId};
use std::collections::{HashMap, HashSet};

/// Groups begin at multiples of this many numbers: a cache line of f32.
const ALIGNMENT: usize = 16;

/// What a full connection reads: connections alike in this, into layers side by side, are one product.
type SourceKey = (LayerId, Range, i64);

impl WeightLayout {
    /// Lays out the weights of a graph. `bundles` are the layers whose products lie side by side, in that order.
    pub(crate) fn new(graph: &Graph, bundles: &[Vec<LayerId>]) -> Result<WeightLayout, PlanError> {
        let learned = graph.weights().len();
        let count = learned + graph.derived().len();
        let mut layout = Builder { graph, views: vec![None; count], learned, len: 0 };
        for bundle in bundles {
            layout.matrices(bundle)?;
            layout.vectors(bundle)?;
        }
        for id in (0..learned).map(WeightId::from_index) {
            layout.align();
            layout.place(id)?;
        }
        layout.align();
        let len = layout.len;
        layout.learned = count;
        for id in (learned..count).map(WeightId::from_index) {
            layout.align();
            layout.place(id)?;
        }
        layout.align();
        let total = layout.len;
        Ok(WeightLayout { views: layout.views.into_iter().flatten().collect(), len, total })
    }
}

struct Builder<'a> {
    graph: &'a Graph,
    views: Vec<Option<WeightView>>,
    /// Weights from here on are not placed yet: derived ones come last.
    learned: usize,
    len: usize,
}

impl Builder<'_> {
    fn align(&mut self) {
        self.len = self.len.next_multiple_of(ALIGNMENT);
    }

    fn advance(&mut self, count: usize) -> Result<(), PlanError> {
        // Room for alignment is kept, so that it cannot overflow either.
        self.len = self
            .len
            .checked_add(count)
            .filter(|&n| n < isize::MAX as usize / 16)
            .ok_or_else(|| PlanError::TooLarge { what: "the weights".into() })?;
        Ok(())
    }

    /// A weight by itself, row-major.
    fn place(&mut self, id: WeightId) -> Result<(), PlanError> {
        if self.views[id.index()].is_some() || id.index() >= self.learned {
            return Ok(());
        }
        let weight = self.graph.weight_at(id);
        let (heads, rows, columns) = match *weight.shape.as_slice() {
            [heads, rows, columns] => (heads, rows, columns),
            [rows, columns] => (1, rows, columns),
            _ => (1, weight.len(), 1),
        };
        self.views[id.index()] = Some(WeightView {
            offset: self.len,
            heads,
            rows,
            columns,
            head_stride: rows * columns,
            row_stride: columns,
            column_stride: 1,
        });
        self.advance(weight.len())
    }

    /// The matrices into a bundle: those that read the same, one below the other; tables, side by side, so that a
    /// symbol's row of all of them lies together.
    fn matrices(&mut self, bundle: &[LayerId]) -> Result<(), PlanError> {
        let mut groups: Vec<(SourceKey, Vec<WeightId>)> = Vec::new();
        let mut place: HashMap<SourceKey, usize> = HashMap::new();
        let mut seen: HashSet<(usize, WeightId)> = HashSet::new();
        for c in bundle.iter().flat_map(|&layer| self.graph.incoming(layer)) {
            if let (ConnectionKind::Full { weight, .. }, Some(source)) = (c.kind, c.source) {
                if self.views[weight.index()].is_some() {
                    continue; // shared with a connection before
                }
                let key = (source, c.source_range, c.delay);
                let group = *place.entry(key).or_insert_with(|| {
                    groups.push((key, Vec::new()));
                    groups.len() - 1
                });
                if seen.insert((group, weight)) {
                    groups[group].1.push(weight);
                }
            }
        }
        for ((source, ..), weights) in groups {
            self.align();
            if self.graph.layer_at(source).kind != LayerKind::Symbol {
                for weight in weights {
                    self.place(weight)?;
                }
                continue;
            }
            let rows = |w: &WeightId| self.graph.weight_at(*w).shape[0];
            let width: usize = weights.iter().map(rows).sum();
            let symbols = self.graph.layer_at(source).size;
            let mut offset = self.len;
            for weight in &weights {
                let rows = rows(weight);
                self.views[weight.index()] = Some(WeightView {
                    offset,
                    heads: 1,
                    rows,
                    columns: symbols,
                    head_stride: 0,
                    row_stride: 1,
                    column_stride: width,
                });
                offset += rows;
            }
            let count = width.checked_mul(symbols);
            self.advance(count.ok_or_else(|| PlanError::TooLarge { what: "the weights".into() })?)?;
        }
        Ok(())
    }

    /// The vectors of a bundle's layers (biases, peepholes), side by side as the layers are.
    fn vectors(&mut self, bundle: &[LayerId]) -> Result<(), PlanError> {
        self.align();
        for c in bundle.iter().flat_map(|&layer| self.graph.incoming(layer)) {
            let parameter = c.source.map(|s| self.graph.layer_at(s).kind);
            if let Some(LayerKind::Parameter(weight)) = parameter {
                self.place(weight)?;
            }
        }
        self.align();
        for c in bundle.iter().flat_map(|&layer| self.graph.incoming(layer)) {
            if let ConnectionKind::Diagonal { weight } = c.kind {
                self.place(weight)?;
            }
        }
        Ok(())
    }
}

//! How weights lie in one flat buffer: fused gates side by side, so that products fuse without a copy.

use crate::plan::{Matrix, PlanError};
use rnnc_graph::{ConnectionKind, Graph, LayerId, LayerKind, Range, Submatrix, WeightId};
use std::collections::{HashMap, HashSet};

/// Groups begin at multiples of this many numbers: a cache line of f32.
const ALIGNMENT: usize = 16;

/// All weights in one flat buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightLayout {
    views: Vec<WeightView>,
    len: usize,
    total: usize,
}

/// Where a weight's elements lie: element (head, row, column) of its canonical shape at
/// `offset + head * head_stride + row * row_stride + column * column_stride`. A vector has one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // explained above
pub struct WeightView {
    pub offset: usize,
    pub heads: usize,
    pub rows: usize,
    pub columns: usize,
    pub head_stride: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl WeightView {
    /// The place of each element in canonical order.
    pub fn places(self) -> impl Iterator<Item = usize> {
        (0..self.heads).flat_map(move |h| {
            (0..self.rows).flat_map(move |r| {
                (0..self.columns).map(move |c| {
                    self.offset + h * self.head_stride + r * self.row_stride + c * self.column_stride
                })
            })
        })
    }

    /// A part of a matrix of one head, or all of it.
    pub fn part(self, part: Option<Submatrix>) -> WeightView {
        let Some(Submatrix { rows, columns }) = part else { return self };
        let offset = self.offset + rows.start * self.row_stride + columns.start * self.column_stride;
        WeightView { offset, rows: rows.len, columns: columns.len, ..self }
    }

    /// One head, as a matrix.
    pub fn matrix(self, head: usize) -> Matrix {
        Matrix {
            offset: self.offset + head * self.head_stride,
            row_stride: self.row_stride,
            column_stride: self.column_stride,
        }
    }
}

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

    /// Numbers in the flat buffer that are learned, gaps included (they stay 0).
    pub fn len(&self) -> usize {
        self.len
    }

    /// Numbers in the flat buffer, with those that are derived, which come last. Gradients have as many.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Whether there are no weights.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where a weight lies.
    pub fn view(&self, weight: WeightId) -> WeightView {
        self.views[weight.index()]
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

//! The results of products, summed up over warps, and the maps behind them: a warp has a few units of a few streams.

use super::{Kernel, Piece, ReadAhead};
use crate::stages::step::choice::units;
use crate::stages::step::early::Early;
use crate::stages::step::exchange;
use crate::stages::step::product_layout::ProductLayout;
use crate::stages::step::site::{Result, result};
use rnnc_plan::{Map, MapLeaf, Op, View};

impl<'a> Kernel<'a> {
    /// The results and maps of all units of one size: a warp takes a few units of a stream at a time.
    pub(super) fn items(&mut self, piece: &Piece<'a>, slice_len: usize) {
        let layout = self.layout;
        let (groups, streams) = (layout.choice.groups, layout.choice.groups.own());
        let own = units(slice_len, layout.choice.blocks);
        let (lanes, of_streams) = layout.item(slice_len);
        let chunks = own.div_ceil(lanes);
        let warps = layout.threads / 32;
        let items = self.items_of_a_warp(slice_len);
        let all = self.items_of(slice_len);
        let row = format!(
            "            const u32 stream = item / {chunks}u * {of_streams}u + lane / {lanes}u % {of_streams}u, chunk = item % {chunks}u, row = {}; (void)row;",
            groups.row("stream")
        );
        // What always holds is not asked: in each step, every instruction counts.
        let own_lanes = (lanes * of_streams < 32).then(|| format!("lane < {}u", lanes * of_streams));
        let all_streams = groups.are_equal() && self.streams().is_multiple_of(of_streams);
        let own_stream = (!all_streams).then(|| format!("stream < {streams}"));
        let own_unit = (!own.is_multiple_of(lanes)).then(|| format!("inside < {own}u"));
        let there = (own * layout.choice.blocks > slice_len).then(|| format!("unit < {slice_len}u"));
        let mine: Vec<String> = [own_lanes, own_stream, own_unit, there].into_iter().flatten().collect();
        let mine = all_of(&mine);
        let unit = format!(
            "            const u32 inside = chunk * {lanes}u + lane % {lanes}u, unit = g * {own}u + inside;\n            const bool mine = {mine}; (void)mine;"
        );
        if let Some(to) = self.ahead {
            let has_one = if items * warps == all { "true".into() } else { format!("item < {all}u") };
            let open = format!(
                "        UNROLL for (u32 it = 0; it < {items}u; it++) {{ const u32 item = warp + it * {warps}u; if ({has_one}) {{"
            );
            let head = format!("{open}\n{row}\n{unit}");
            self.earlies.push(ReadAhead { head, early: Early::new(to, self.earlies.len(), items) });
            self.line(&open);
        } else {
            let frame = self.frame(piece.offset, "j");
            self.line(&format!("        for (u32 j = 0; j < {}u; j++) {frame}", self.width()));
            self.line(&format!("        for (u32 item = warp; item < {all}u; item += {warps}u) {{"));
        }
        self.line(&row);
        self.line(&unit);
        let mut results: Vec<Result> = Vec::new();
        let mut at = 0;
        // Where the results of each product of this slice length are, and its own or that of the product it adds to.
        let mut places: Vec<(usize, usize)> = Vec::new();
        for &k in &piece.products {
            let p = &layout.products[k];
            if p.slice_len() == slice_len {
                self.results(piece, k, at, lanes, &mut places, &mut results);
            }
            at += p.layers * 32;
        }
        let begin = self.late.len();
        for map in piece.maps.iter().filter(|m| m.slice_len == slice_len) {
            self.map(piece, map, &mut results);
        }
        if self.late.len() > begin {
            let puts = self.late.split_off(begin);
            if let Some(place) = self.earlies.last() {
                self.late.push_str(&format!("{}\n{puts}        }} }}\n", place.head));
            }
        }
        self.line("            warp_sync();");
        self.line("        } }");
    }

    /// Sums up the partial sums of one product's rows of an item.
    pub(super) fn results(
        &mut self,
        piece: &Piece<'a>,
        k: usize,
        at: usize,
        lanes: usize,
        places: &mut Vec<(usize, usize)>,
        results: &mut Vec<Result>,
    ) {
        let layout = self.layout;
        let p = &layout.products[k];
        let (own, slice_len, layers) = (p.own_units(), p.slice_len(), p.layers);
        let per_warp: usize = layout.products.iter().map(|p| p.layers * 32).sum();
        let into = p.into.and_then(|(earlier, layer)| {
            places.iter().find(|&&(k, _)| k == earlier).map(|&(_, at)| (earlier, at, layer))
        });
        let (owner, at, shift) = into.unwrap_or((k, at, 0));
        // A lane sums up what it needs itself, or the lanes share the layers and hand each other the sums.
        let packs = layout.packs;
        let place = match packs {
            true => format!("sum{owner}[layer + {shift}u]"),
            false => format!(
                "sm[{}u + warp * {per_warp}u + {at}u + (layer + {shift}u) * {lanes}u + k]",
                layout.sums
            ),
        };
        let value = |layer: usize| match packs {
            true => format!("sum{owner}[{layer}]"),
            false => format!("sm[{}u + warp * {per_warp}u + {at}u + {}u + lane]", layout.sums, layer * lanes),
        };
        let at_once = if packs { 1 } else { 32 / lanes };
        let parts = layers.div_ceil(at_once);
        let place_of_lane = match packs {
            true => "const u32 layer = part;".to_string(),
            false => format!(
                "const u32 layer = part * {at_once}u + lane / {lanes}u, k = lane % {lanes}u, inside = chunk * {lanes}u + k, unit = g * {own}u + inside;"
            ),
        };
        let open =
            format!("            UNROLL for (u32 part = 0; part < {parts}u; part++) {{ {place_of_lane}");
        if packs && into.is_none() {
            self.line(&format!(
                "            float sum{k}[{layers}]; UNROLL for (u32 i = 0; i < {layers}u; i++) sum{k}[i] = 0.f;"
            ));
        }
        self.line(&open);
        let (first, end, column) = match p.partial() {
            true => (
                p.parts[0].first,
                p.parts[0].first + p.to().len,
                "unit - ".to_string() + &p.parts[0].first.to_string() + "u",
            ),
            false => (0, slice_len, format!("layer * {slice_len}u + unit")),
        };
        let mut conditions = Vec::new();
        if parts * at_once != layers {
            conditions.push(format!("layer < {layers}u"));
        }
        match packs {
            true => conditions.push("mine".to_string()),
            false => {
                if !own.is_multiple_of(lanes) {
                    conditions.push(format!("inside < {own}u"));
                }
                if !layout.choice.groups.are_equal() {
                    conditions.push("stream < a.streams".into());
                }
            }
        }
        if first > 0 {
            conditions.push(format!("unit >= {first}u"));
        }
        if end < slice_len || !packs && own * layout.choice.blocks > slice_len {
            conditions.push(format!("unit < {end}u"));
        }
        let inside = format!("                if ({}) {{", all_of(&conditions));
        self.line(&inside);
        let address = self.places.address(p.to(), "row", &column);
        let here = places.iter().any(|&(k, _)| exchange::overlap(layout.products[k].to(), p.to()));
        let before_it = here || exchange::is_stored_before(self.task, p.place, p.to());
        let before = match (p.parts[0].accumulate, into) {
            (false, _) => "0.f".into(),
            (true, Some(_)) => place.clone(),
            (true, None) => match self.earlies.last_mut().filter(|_| self.ahead.is_some() && !before_it) {
                None => format!("own({address})"),
                Some(site) => {
                    let (load, value) = site.early.element(parts, &address);
                    site.early
                        .load(&format!("{open}\n{inside}\n                {load}\n            }} }}\n"));
                    value
                }
            },
        };
        // The sums of warps, or of the team's blocks.
        let frame = if self.ahead.is_some() { String::new() } else { format!("j * {}u + ", self.streams()) };
        let (at_sums, stride, parts, next) = match layout.choice.team {
            1 => (p.sums_at, p.sums_stride(), p.column_warps, p.padded_rows()),
            _ => (p.gathered_at, p.gathered_stride(), p.team, p.rows() / p.team),
        };
        let buffer = match layout.choice.team > 1 || layout.buffers() > 1 {
            false => String::new(),
            true => format!("((u32)step & 1u) * {}u + ", layout.work.rows),
        };
        self.line(&format!("                    float s = {before};"));
        self.line(&format!(
            "                    const float* sums = sm + ({at_sums}u + ({buffer}{frame}stream) * {stride}u + layer * {own}u + inside);"
        ));
        self.line(&format!(
            "                    UNROLL for (u32 w = 0; w < {parts}u; w++) s += sums[w * {next}u];"
        ));
        self.line(&format!("                    {place} = s;"));
        if into.is_none() {
            places.push((k, at));
            for layer in 0..layers {
                let (view, first) = match p.partial() {
                    true => (p.to(), p.parts[0].first),
                    false => (p.to().part(layer * slice_len, slice_len), 0),
                };
                results.push(Result { view, first, value: value(layer) });
            }
        }
        if self.is_read_from_memory(piece, k) {
            self.line(&format!("                    put({address}, s);"));
        }
        self.line("                }");
        self.line("            }");
        if !packs {
            self.line("            warp_sync();");
        }
    }

    /// Whether what a product writes is read other than by the maps behind it in its piece.
    pub(super) fn is_read_from_memory(&self, piece: &Piece<'a>, k: usize) -> bool {
        let plan = self.places.plan;
        let (view, slice_len) = (self.layout.products[k].to(), self.layout.products[k].slice_len());
        if plan.buffers[view.buffer.0].lifetime.is_none() || self.layout.is_added_to_in_memory(k) {
            return true;
        }
        let overlaps = |v: View| {
            v.buffer == view.buffer && v.column < view.column + view.len && view.column < v.column + v.len
        };
        let products = |p: &ProductLayout| -> Vec<Result> {
            let whole = |layer| Result {
                view: p.to().part(layer * p.slice_len(), p.slice_len()),
                first: 0,
                value: String::new(),
            };
            match p.partial() {
                true => vec![Result { view: p.to(), first: p.parts[0].first, value: String::new() }],
                false => (0..p.layers).map(whole).collect(),
            }
        };
        let own: Vec<Result> = piece
            .products
            .iter()
            .map(|&k| &self.layout.products[k])
            .filter(|p| p.slice_len() == slice_len && p.into.is_none())
            .flat_map(products)
            .collect();
        let is_own_map =
            |map: &Map| map.slice_len == slice_len && piece.maps.iter().any(|m| std::ptr::eq(*m, map));
        let is_own_products = |list: *const rnnc_plan::Product| {
            piece.products.iter().any(|&k| {
                let place = self.layout.products[k].place;
                matches!(&self.task.phases[place.0].ops[place.1].op, Op::MatMul(own) if std::ptr::eq(own.as_ptr(), list))
            })
        };
        // What maps behind it store in the same place is what all others read.
        let is_overwritten = |r: &Result| {
            let mut stores = piece.maps.iter().filter(|m| m.slice_len == slice_len).flat_map(|m| m.stores());
            stores.any(|to| {
                to.buffer == r.view.buffer
                    && to.column <= r.view.column
                    && r.view.column + r.view.len <= to.column + to.len
            })
        };
        let overwritten = own.iter().filter(|r| overlaps(r.view)).all(is_overwritten);
        let ops = plan.stages().flat_map(|s| &s.tasks).flat_map(|t| &t.phases).flat_map(|p| &p.ops);
        ops.into_iter().any(|placed| match &placed.op {
            Op::Map(map) if overwritten && !is_own_map(map) => false,
            Op::MatMul(list) => {
                let read = !overwritten && list.iter().any(|p| overlaps(p.from.view));
                // A product of another operation adds to it through memory.
                let added =
                    !is_own_products(list.as_ptr()) && list.iter().any(|p| p.accumulate && overlaps(p.to));
                read || added
            }
            Op::Gather(list) => list.iter().any(|l| l.accumulate && overlaps(l.to)),
            Op::Map(map) => map.program.leaves().any(|leaf| match leaf {
                MapLeaf::Read(read) if overlaps(read.view) => {
                    !(is_own_map(map) && read.delay == 0 && result(&own, read.view, map.first).is_some())
                }
                MapLeaf::Repeated(read, _) => overlaps(read.view),
                MapLeaf::Read(_) | MapLeaf::Weight(_) | MapLeaf::Mask(_) => false,
            }),
            _ if overwritten => false,
            Op::Vector(v) => v.operands.iter().any(|read| overlaps(read.view)),
            Op::WeightGradient(list) => list.iter().any(|o| overlaps(o.error) || overlaps(o.source.view)),
            Op::TableGradient(list) => list.iter().any(|o| overlaps(o.error)),
            Op::Reduce(list) => {
                list.iter().any(|o| overlaps(o.error) || o.source.is_some_and(|s| overlaps(s.view)))
            }
        })
    }
}

/// Conditions that all are to hold.
fn all_of(conditions: &[String]) -> String {
    if conditions.is_empty() { "true".into() } else { conditions.join(" && ") }
}

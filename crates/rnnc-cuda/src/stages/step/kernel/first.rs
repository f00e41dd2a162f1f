//! What a loop does before its first step: it brings what that needs of the frame before to where later steps find theirs,
//! and makes absent what blocks will look for.

use super::Kernel;
use crate::stages::step::choice::Tier;
use crate::stages::step::posts::Posts;
use crate::stages::step::product_layout::ProductLayout;
use crate::stages::step::{copies, product};

impl<'a> Kernel<'a> {
    /// Brings the first step's sources to shared memory, where later ones will be put.
    pub(super) fn first_sources(&mut self) {
        if self.layout.products.iter().all(|p| !p.exchanged) && self.layout.choice.team == 1 {
            return;
        }
        let frame = self.step_frame("0");
        self.line(&format!("    const int begin_frame = {frame}; (void)begin_frame;"));
        let layout = self.layout;
        for (k, p) in layout.products.iter().enumerate().filter(|(_, p)| p.exchanged) {
            let crossing = self.crossing(k);
            product::first_sources(
                &mut self.out,
                &k.to_string(),
                p,
                layout.threads,
                layout.choice.groups,
                &crossing,
            );
        }
        // No block may put anything into another's memory before that has begun.
        match layout.choice.tier == Tier::Cluster || layout.choice.team > 1 {
            true => self.line("    cluster_arrive();\n    cluster_wait();"),
            false => self.line("    block_sync();"),
        }
    }

    /// Copies what the first step reads of the frame before it, if anything.
    pub(super) fn first_copies(&mut self) {
        if !self.copies_first() {
            return;
        }
        let (layout, sizes) = (self.layout, (self.layout.choice, self.layout.threads));
        self.line(&format!("    if (n > 0) {{ const int frame = {};", self.step_frame("begin")));
        for (k, p) in layout.products.iter().enumerate().filter(|(_, p)| p.copied) {
            let crossing = self.crossing(k);
            copies::first(&mut self.out, &k.to_string(), p, &self.stored, sizes, &crossing);
        }
        self.line("    }");
        if !self.counts_first() {
            return;
        }
        self.line("    block_sync();");
        let (c, blocks) = (self.groups(), self.layout.choice.blocks);
        for phase in 0..self.task.phases.len() {
            if !self.is_waited_for(phase) {
                continue;
            }
            let counter = self.counter(phase);
            self.line(&format!(
                "    if (tid == 0) signal(a.counters + {counter} + g * {c}u / {blocks}u * 32u);"
            ));
        }
    }

    /// Whether it does.
    fn copies_first(&self) -> bool {
        self.layout.products.iter().any(copies_before)
    }

    /// Whether that counts as a step.
    pub(super) fn counts_first(&self) -> bool {
        self.layout.products.iter().any(|p| copies_before(p) && !p.polled)
    }

    /// What the loop posts.
    fn posts(&self) -> Vec<Posts> {
        let products = self.layout.products.iter().zip(&self.copies).filter(|(p, _)| p.polled);
        let copies = products.filter_map(|(p, copies)| {
            let numbers = p.copied_numbers();
            // A frame's are behind those of the frame before.
            copies.map(|copies| Posts { at: copies.at + numbers, numbers })
        });
        let streams = self.streams();
        let sums = self.summed.iter().filter(|(s, _)| s.polled);
        copies.chain(sums.map(|(s, at)| Posts { at: *at, numbers: s.frame(streams) })).collect()
    }

    /// Makes absent what will be posted. Behind that, all blocks synchronize.
    pub(super) fn first_barrier(&mut self) {
        let posts = self.posts();
        if posts.is_empty() {
            return;
        }
        for posts in posts {
            let whose = match self.layout.choice.groups.several() {
                true => {
                    format!(", g * {0}u + tid, {0}u * {1}u", self.layout.threads, self.layout.choice.blocks)
                }
                false => String::new(),
            };
            self.line(&format!("    {}", posts.make_absent(&whose)));
        }
        let (c, blocks, code) = (self.groups(), self.layout.choice.blocks, self.code);
        let counter = self.counter(self.task.phases.len());
        self.line("    block_sync();");
        self.line(&format!("    if (tid == 0) signal(a.counters + {counter} + g * {c}u / {blocks}u * 32u);"));
        self.line(&format!("    if (warp == 0) wait_for(a, {counter}, lane, members, 1, {code}u, failed);"));
        self.line("    block_sync();");
    }
}

/// Whether a product's copies have something of the frame before the first.
fn copies_before(p: &ProductLayout) -> bool {
    p.copied && p.parts.iter().any(|part| part.from.delay != 0)
}

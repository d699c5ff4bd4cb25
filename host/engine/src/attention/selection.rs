//! Sparse attention by pages of neighbouring keys (Quest, Tang et al., arXiv:2406.10774): a query sees the keys of its own page,
//! and of those pages before it in which the bounds promise the largest products.

use super::{AttentionSpec, Queries};
use std::ops::Range;

/// Which pages the queries of a block see.
pub(super) struct Chosen {
    /// Rows of a page.
    rows: usize,
    pages: usize,
    /// `[tokens, pages]`
    flags: Vec<bool>,
}

impl Chosen {
    /// The pages for queries on the keys of head `kv`, chosen for all the heads that share it; none where all pages are seen.
    /// Rows are positions: nothing was evicted, and there are no branches.
    pub fn of(spec: &AttentionSpec, queries: &Queries<'_>, kv: usize) -> Option<Self> {
        let (cache, (rows, top)) = (queries.cache, spec.pages?);
        let last = queries.positions.iter().copied().max()? as usize;
        let pages = last / rows + 1;
        // A cache that is only looked through has no bounds.
        if cache.pages().rows() == 0 || cache.branched() || pages <= top {
            return None;
        }
        let (dim, group) = (spec.head_dim, spec.heads / spec.kv_heads);
        let mut flags = vec![false; queries.positions.len() * pages];
        let (mut sums, mut bounds) = (Vec::<(f32, u32)>::with_capacity(pages), Vec::with_capacity(pages));
        let mut scaled = vec![0f32; dim];
        for (token, (position, flags)) in queries.positions.iter().zip(flags.chunks_exact_mut(pages)).enumerate() {
            let own = *position as usize / rows;
            if own < top {
                flags[..=own].fill(true);
                continue;
            }
            // Heads that share the keys each say which share of their attention a page would have if its bounds were met.
            sums.clear();
            sums.extend((0..own as u32).map(|page| (0.0, page)));
            for head in kv * group..(kv + 1) * group {
                let query = &queries.q[token * spec.query_width() + head * dim..][..dim];
                scaled.iter_mut().zip(query).for_each(|(scaled, q)| *scaled = q * spec.scale);
                bounds.clear();
                let bound = |page: usize| cache.pages().bound(page, cache.spec.key_width, kv, &scaled);
                bounds.extend((0..own).map(bound));
                crate::kernels::softmax(&mut bounds);
                sums.iter_mut().zip(&bounds).for_each(|((sum, _), share)| *sum += share);
            }
            if top > 1 {
                sums.select_nth_unstable_by(top - 2, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                sums[..top - 1].iter().for_each(|(_, page)| flags[*page as usize] = true);
            }
            flags[own] = true;
        }
        Some(Self { rows, pages, flags })
    }

    fn flags(&self, token: usize) -> &[bool] {
        &self.flags[token * self.pages..(token + 1) * self.pages]
    }

    /// The rows that a token sees, of those before `end`.
    pub fn rows(&self, token: usize, end: usize) -> Vec<Range<usize>> {
        let chosen = self.flags(token).iter().enumerate().filter(|(_, chosen)| **chosen);
        chosen.map(|(page, _)| page * self.rows..end.min((page + 1) * self.rows)).collect()
    }

    /// Takes out what a token does not see, of scores that begin with row `first`.
    pub fn mask(&self, token: usize, first: usize, scores: &mut [f32]) {
        let flags = self.flags(token);
        for (score, row) in scores.iter_mut().zip(first..) {
            if !flags[row / self.rows] {
                *score = f32::NEG_INFINITY;
            }
        }
    }
}

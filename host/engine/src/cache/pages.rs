//! Bounds of the keys of a page, channel by channel: what a query's product with any of them is at most (Quest, Tang et al.,
//! arXiv:2406.10774).

use super::rows::Buffer;

/// The bounds of pages of so many rows each.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    /// Rows of a page; 0 for no pages.
    rows: usize,
    /// `[pages, width]`
    least: Vec<f32>,
    most: Vec<f32>,
    /// Rows that the bounds hold for.
    bounded: usize,
}

impl Pages {
    pub(super) fn new(rows: usize) -> Self {
        Self { rows, least: Vec::new(), most: Vec::new(), bounded: 0 }
    }

    /// Takes in the rows that came, `total` with those before.
    pub(super) fn update(&mut self, keys: &Buffer, width: usize, total: usize) {
        if self.rows == 0 {
            return;
        }
        let mut row = vec![0f32; width];
        for at in self.bounded..total {
            keys.read(width, 0, width, at, &mut row);
            if at.is_multiple_of(self.rows) {
                self.least.extend_from_slice(&row);
                self.most.extend_from_slice(&row);
            } else {
                let start = at / self.rows * width;
                self.least[start..].iter_mut().zip(&row).for_each(|(bound, x)| *bound = bound.min(*x));
                self.most[start..].iter_mut().zip(&row).for_each(|(bound, x)| *bound = bound.max(*x));
            }
        }
        self.bounded = total;
    }

    /// The last rows went: `total` are left.
    pub(super) fn shrink(&mut self, keys: &Buffer, width: usize, total: usize) {
        if self.rows == 0 {
            return;
        }
        self.bounded = total / self.rows * self.rows;
        self.least.truncate(self.bounded / self.rows * width);
        self.most.truncate(self.bounded / self.rows * width);
        self.update(keys, width, total);
    }

    /// Rows of a page; 0 for no pages.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What the products of a query with the keys of a page are at most; `head` has its columns of rows `width` wide.
    pub fn bound(&self, page: usize, width: usize, head: usize, query: &[f32]) -> f32 {
        let at = page * width + head * query.len();
        let bounds = self.least[at..].iter().zip(&self.most[at..]);
        query.iter().zip(bounds).map(|(q, (least, most))| (q * least).max(q * most)).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        4 * (self.least.len() + self.most.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::CacheType;
    use super::*;

    #[test]
    fn bounds_hold_for_every_key_and_are_met() {
        let (width, rows) = (8, 37);
        let keys: Vec<f32> = (0..rows * width).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
        let mut buffer = Buffer::new(CacheType::F32, true);
        let mut pages = Pages::new(4);
        for row in keys.chunks_exact(width) {
            buffer.append(row);
            let total = pages.bounded + 1;
            pages.update(&buffer, width, total);
        }
        let grown = pages.clone();
        // Two rows more that are taken back leave nothing behind.
        buffer.append(&[100.0; 16]);
        pages.update(&buffer, width, rows + 2);
        buffer.drop_last(width, 2);
        pages.shrink(&buffer, width, rows);
        assert_eq!((&pages.least, &pages.most), (&grown.least, &grown.most));
        for (page, rows) in keys.chunks(4 * width).enumerate() {
            for head in 0..2 {
                let query = [0.5f32, -1.0, 0.25, 2.0];
                let bound = pages.bound(page, width, head, &query);
                let of = |row: &[f32]| query.iter().zip(&row[head * 4..]).map(|(q, k)| q * k).sum::<f32>();
                assert!(rows.chunks_exact(width).all(|row| of(row) <= bound + 1e-6));
                // One channel alone: some key meets its bound.
                let one = [0.0f32, -1.0, 0.0, 0.0];
                let most = rows.chunks_exact(width).map(|row| -row[head * 4 + 1]).fold(f32::MIN, f32::max);
                assert_eq!(pages.bound(page, width, head, &one), most);
            }
        }
    }
}

//! Block-quantised matrices in the order in which the CPU reads them. Sixteen rows stand side by side: of every 32 columns
//! come first the scales of the rows, then their codes, four columns of each row at a time, so that a lane holds four columns
//! of its row and a product needs no sum across lanes. Upper bits of codes of three, five and six bits lie apart from the
//! lower ones. Packing loses nothing.
//!
//! A product rounds the activations too (see [`Activations`]), works on integers within 32 columns, and sums in float32.

mod activations;
mod blocks;
mod fold;
mod kernel;
mod layout;

pub(crate) use activations::{Activations, Rounded};
pub(crate) use layout::Layout;

use crate::Representation;
use crate::lanes::{LANES, Level, at_level};
use crate::threads::SendPointer;
use blocks::Block;
use kernel::linear;
use rayon::prelude::*;
use std::ops::Range;

/// Columns that share a scale of activations, and a record of codes.
pub(crate) const BLOCK: usize = 32;

/// Evaluates an expression with `$R` as the number of records of a layout.
macro_rules! with_records {
    ($layout:expr, $R:ident => $body:expr) => {
        with_records!(@each $layout, $R, $body, 1 2 4 8)
    };
    (@each $layout:expr, $R:ident, $body:expr, $($records:literal)*) => {
        match $layout.records {
            $($records => {
                const $R: usize = $records;
                $body
            })*
            other => unreachable!("no layout has {other} records"),
        }
    };
}

/// Puts rows of blocks in the lanes of a tile.
fn pack_tile<const R: usize>(form: Representation, layout: Layout, rows: &[u8], tile: &mut [u8]) {
    let row_bytes = tile.len() / layout.group() * form.block_bytes();
    for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
        let groups = tile.chunks_exact_mut(layout.group());
        for (block, group) in row.chunks_exact(form.block_bytes()).zip(groups) {
            Block::<R>::split(form, block).place(layout, lane, group);
        }
    }
}

/// A packed matrix `[rows, columns]`; rows are filled up to a multiple of [`LANES`] with zeros.
pub(crate) struct Packed {
    layout: Layout,
    rows: usize,
    columns: usize,
    data: Vec<u8>,
}

impl Packed {
    /// Packs rows of blocks, in parallel; none where the representation has no blocks. Panics unless the bytes are rows x
    /// columns.
    pub fn new(form: Representation, bytes: &[u8], rows: usize, columns: usize) -> Option<Self> {
        let layout = Layout::of(form)?;
        assert_eq!(Some(bytes.len() as u64), form.bytes(&[rows, columns]), "the bytes must be the matrix");
        let groups = columns / layout.columns();
        let mut data = vec![0u8; rows.div_ceil(LANES) * groups * layout.group()];
        let tiles = data.par_chunks_mut((groups * layout.group()).max(1));
        tiles.zip(bytes.par_chunks((LANES * groups * form.block_bytes()).max(1))).for_each(|(tile, rows)| {
            with_records!(layout, R => pack_tile::<R>(form, layout, rows, tile));
        });
        Some(Self { layout, rows, columns, data })
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Sixteen rows.
    fn tile(&self, tile: usize) -> &[u8] {
        let bytes = self.columns / self.layout.columns() * self.layout.group();
        &self.data[tile * bytes..(tile + 1) * bytes]
    }

    /// One row as float32.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        let layout = self.layout;
        let groups = self.tile(row / LANES).chunks_exact(layout.group());
        for (group, out) in groups.zip(out.chunks_exact_mut(layout.columns())) {
            with_records!(layout, R => Block::<R>::take(layout, row % LANES, group).decode(layout, out));
        }
    }

    /// y = x W' by its definition, on the same rounded activations as the fast one: the reference for [`Packed::linear`].
    #[cfg(test)]
    pub fn linear_plain(&self, x: Rounded, y: &mut [f32]) {
        let mut weights = vec![0f32; self.columns];
        for row in 0..self.rows {
            self.decode_row(row, &mut weights);
            for m in 0..x.rows {
                let products = weights.iter().enumerate().map(|(k, w)| f64::from(*w) * x.value(m, k));
                y[m * self.rows + row] = products.sum::<f64>() as f32;
            }
        }
    }

    /// Number of tiles of sixteen rows.
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// The tiles' columns of y = x W', with y `[x.rows, rows]`. Panics when the activations have other columns.
    ///
    /// # Safety
    /// `x` and `y` must be there, rounded and as large as said; nothing else may use those columns of y meanwhile; and the
    /// machine must have the level.
    pub unsafe fn linear_tiles(&self, level: Level, tiles: Range<usize>, x: Rounded, y: *mut f32) {
        assert!(x.columns == self.columns && tiles.end <= self.tiles(), "activations must have the weight's columns");
        // SAFETY: the activations fit, and the rest is the caller's promise.
        unsafe { products(level, self, tiles, x, y) }
    }

    /// y = x W', with x `[m, columns]` and y `[m, rows]`, on the threads of the current pool.
    pub fn linear(&self, x: &[f32], y: &mut [f32]) {
        let mut room = Activations::default();
        let x = room.round(x, self.columns);
        assert_eq!(y.len(), x.rows * self.rows, "the output must be activations x rows");
        let task = self.tiles().div_ceil(rayon::current_num_threads() * 4).max(1);
        let (level, out) = (Level::best(), SendPointer(y.as_mut_ptr()));
        (0..self.tiles().div_ceil(task)).into_par_iter().for_each(|i| {
            // SAFETY: `room` and `y` live on, and each task has columns of its own.
            unsafe { self.linear_tiles(level, i * task..((i + 1) * task).min(self.tiles()), x, out.get()) };
        });
    }
}

unsafe fn products(level: Level, w: &Packed, tiles: Range<usize>, x: Rounded, y: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe { at_level!(level, linear(w: &Packed, tiles: Range<usize>, x: Rounded, y: *mut f32)) }
}

#[cfg(test)]
mod tests;

//! Block-quantised matrices in the order in which the CPU reads them. Eight rows stand side by side: of every 32 columns
//! come first the scales of the eight rows, then their codes, four columns of each row at a time, so that one vector
//! register holds four columns of eight rows and a product needs no sum across lanes. Fifth and sixth bits of a code lie
//! apart from its lower four. The formats are those of ggml (`ggml-common.h`); packing loses nothing and can be undone.
//!
//! A product rounds the activations too (see [`Activations`]), works on integers within 32 columns, and sums in float32.

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod blocks;

pub(crate) use activations::{Activations, Rounded, Rounding};

use crate::stored::SendPointer;
use aehost_formats::Encoding;
use blocks::Block;
use half::f16;
use rayon::prelude::*;
use std::ops::Range;

/// Rows that stand side by side.
pub(crate) const LANES: usize = 8;
/// Columns that share a scale.
pub(crate) const BLOCK: usize = 32;

/// What a format keeps, and where. A *group* is `LANES` rows of as many columns as share a header: float16 scales, float16
/// minima where there are any, then a record for each 32 columns: two small scales a row where there are any, and codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bits of a code.
    pub bits: u32,
    /// Whether the header has minima; codes are otherwise centred on half their range.
    pub minimum: bool,
    /// Records that share a header; with more than one, each record has small scales of its own.
    pub records: usize,
}

impl Layout {
    /// The layout of a format, if it can be packed.
    pub const fn of(encoding: Encoding) -> Option<Self> {
        let (bits, minimum, records) = match encoding {
            Encoding::Q4_0 => (4, false, 1),
            Encoding::Q4_1 => (4, true, 1),
            Encoding::Q5_0 => (5, false, 1),
            Encoding::Q5_1 => (5, true, 1),
            Encoding::Q8_0 => (8, false, 1),
            Encoding::Q4K => (4, true, 8),
            Encoding::Q5K => (5, true, 8),
            Encoding::Q6K => (6, false, 8),
            _ => return None,
        };
        Some(Self { bits, minimum, records })
    }

    /// Bytes of a group's header.
    pub const fn header(self) -> usize {
        LANES * if self.minimum { 4 } else { 2 }
    }

    /// Bytes of a record's small scales.
    pub const fn small_scales(self) -> usize {
        if self.records > 1 { 2 * LANES } else { 0 }
    }

    /// Bytes of a record.
    pub const fn record(self) -> usize {
        self.small_scales() + LANES * BLOCK * self.bits as usize / 8
    }

    /// Bytes of a group.
    pub const fn group(self) -> usize {
        self.header() + self.records * self.record()
    }

    /// Columns of a group.
    pub const fn columns(self) -> usize {
        self.records * BLOCK
    }

    /// What a code of 0 stands for, in scales, where there is no minimum.
    pub const fn zero(self) -> i32 {
        match self.bits {
            8 => 0,
            bits => -(1 << (bits - 1)),
        }
    }
}

/// Whether packed matrices run on this machine.
pub(crate) fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("fma")
        && std::is_x86_feature_detected!("f16c");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Compiles a body for each format that can be packed, with the format and its number of records as constants.
macro_rules! with_layout {
    ($format:expr, |$encoding:ident, $records:ident| $body:expr) => {
        with_layout!(@each $format, $encoding, $records, $body, Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4K Q5K Q6K)
    };
    (@each $format:expr, $encoding:ident, $records:ident, $body:expr, $($name:ident)*) => {
        match $format {
            $(Encoding::$name => {
                #[allow(non_upper_case_globals, reason = "it stands for a variable")]
                const $encoding: Encoding = Encoding::$name;
                const $records: usize = Layout::of($encoding).unwrap().records;
                $body
            })*
            other => unreachable!("{} has no packed layout", other.name()),
        }
    };
}

/// Puts a row of ggml blocks in its lane of a tile.
#[inline(always)]
fn pack_row<const R: usize>(encoding: Encoding, row: &[u8], lane: usize, tile: &mut [u8]) {
    let layout = Layout::of(encoding).expect("the caller packs formats that have a layout");
    let groups = tile.chunks_exact_mut(layout.group());
    for (block, group) in row.chunks_exact(encoding.block_bytes()).zip(groups) {
        Block::<R>::split(encoding, block).place(layout, lane, group);
    }
}

/// A packed matrix `[rows, columns]`; rows are filled up to a multiple of [`LANES`] with zeros.
pub(crate) struct Packed {
    encoding: Encoding,
    layout: Layout,
    rows: usize,
    columns: usize,
    data: Vec<u8>,
}

impl Packed {
    /// Packs rows of ggml blocks, in parallel. Panics unless the format can be packed and the bytes are rows x columns.
    pub fn new(encoding: Encoding, bytes: &[u8], rows: usize, columns: usize) -> Self {
        let layout = Layout::of(encoding).expect("the caller packs formats that have a layout");
        assert_eq!(Some(bytes.len()), encoding.bytes_of(&[rows, columns]), "the bytes must be the matrix");
        let groups = columns / layout.columns();
        let row_bytes = groups * encoding.block_bytes();
        let mut data = vec![0u8; rows.div_ceil(LANES) * groups * layout.group()];
        let tiles = data.par_chunks_mut((groups * layout.group()).max(1));
        tiles.zip(bytes.par_chunks((LANES * row_bytes).max(1))).for_each(|(tile, rows)| {
            for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
                with_layout!(encoding, |encoding, R| pack_row::<R>(encoding, row, lane, tile));
            }
        });
        Self { encoding, layout, rows, columns, data }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Eight rows.
    fn tile(&self, tile: usize) -> &[u8] {
        let bytes = self.columns / self.layout.columns() * self.layout.group();
        &self.data[tile * bytes..(tile + 1) * bytes]
    }

    /// The bytes as ggml lays them out.
    #[cfg(test)]
    pub fn unpack(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for row in 0..self.rows {
            for group in self.tile(row / LANES).chunks_exact(self.layout.group()) {
                with_layout!(self.encoding, |encoding, R| {
                    Block::<R>::take(self.layout, row % LANES, group).join(encoding, &mut bytes);
                });
            }
        }
        bytes
    }

    /// One row as float32.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        with_layout!(self.encoding, |encoding, R| {
            let layout = const { Layout::of(encoding).unwrap() };
            let groups = self.tile(row / LANES).chunks_exact(layout.group());
            for (group, out) in groups.zip(out.chunks_exact_mut(layout.columns())) {
                Block::<R>::take(layout, row % LANES, group).decode(layout, out);
            }
        });
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

    /// How rows and columns are packed.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Number of tiles of eight rows.
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// The tiles' columns of y = x W', with y `[x.rows, rows]`. Panics where [`available`] says no, and when the activations
    /// were rounded for another matrix.
    ///
    /// # Safety
    /// `x` and `y` must be there, rounded and as large as said, and nothing else may use those columns of y meanwhile.
    pub unsafe fn linear_tiles(&self, tiles: Range<usize>, x: Rounded, y: *mut f32) {
        assert!(available(), "packed matrices do not run here");
        let fits = x.columns == self.columns && x.rounding == Rounding::of(self.layout);
        assert!(fits && tiles.end <= self.tiles(), "the activations were rounded for another matrix");
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the features were detected, the activations fit, and the rest is the caller's promise.
        unsafe {
            avx2::linear(self, tiles, x, y);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = y;
    }

    /// y = x W', with x `[m, columns]` and y `[m, rows]`, on the threads of the current pool.
    pub fn linear(&self, x: &[f32], y: &mut [f32]) {
        let mut room = Activations::default();
        let x = room.round(self.layout, x, self.columns);
        assert_eq!(y.len(), x.rows * self.rows, "the output must be activations x rows");
        let task = self.tiles().div_ceil(rayon::current_num_threads() * 4).max(1);
        let out = SendPointer(y.as_mut_ptr());
        (0..self.tiles().div_ceil(task)).into_par_iter().for_each(|i| {
            // SAFETY: `room` and `y` live on, and each task has columns of its own.
            unsafe { self.linear_tiles(i * task..((i + 1) * task).min(self.tiles()), x, out.get()) };
        });
    }
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

#[cfg(test)]
mod tests;

//! A weight in memory as its file has it, and the linear layer on it: for formats and machines without kernels on rows
//! side by side.
//!
//! One mechanism serves all formats: few rows of activations take a dot product per weight row straight on the blocks;
//! many take panels of rows, decoded to float32 in a scratch that stays in cache, and one matrix product a panel: that of
//! plain numbers side by side where it runs.

use crate::dense::{self, Panel};
use crate::{EngineError, kernels};
use aehost_formats::Encoding;
use candle_core::quantized::GgmlType;
use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
};
use half::{bf16, f16};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// From this many activation rows on, decoding a panel once is cheaper than a dot product per row.
const PANEL_MINIMUM_ROWS: usize = 6;
/// Bytes of a decoded panel: half of a core's second-level cache, as the product also wants room there.
const PANEL_BYTES: usize = 512 << 10;

/// Weight rows in a panel of rows this long.
fn panel_rows(columns: usize) -> usize {
    (PANEL_BYTES / 4 / columns.max(1)).clamp(32, 512) / 16 * 16
}

trait Blocks: Send + Sync {
    fn dequantize(&self, first: usize, out: &mut [f32]);
    /// One product with each of `out.len()` rows from `first` on.
    fn dots(&self, first: usize, x: &[f32], out: &mut [f32]);
    fn as_f32(&self) -> Option<&[f32]>;
    fn raw(&self) -> &[u8];
}

/// A matrix `[rows, columns]`, row-major, of one encoding.
pub(crate) struct Stored {
    rows: usize,
    columns: usize,
    blocks: Box<dyn Blocks>,
}

struct Typed<T> {
    data: Vec<T>,
    columns: usize,
}

/// Marks the plain number types, whose products run in float32.
trait Element: GgmlType + 'static {
    const PLAIN: bool = false;
    /// The product with a row as it is stored, where that beats decoding the row first.
    fn dot(_row: &[Self], _x: &[f32]) -> Option<f32> {
        None
    }
}
impl Element for bf16 {
    const PLAIN: bool = true;
}
impl Element for f32 {
    const PLAIN: bool = true;
    fn dot(row: &[f32], x: &[f32]) -> Option<f32> {
        Some(kernels::dot(row, x))
    }
}
impl Element for f16 {
    const PLAIN: bool = true;
}
macro_rules! elements {
    ($($t:ty),*) => { $(impl Element for $t {})* };
}
elements!(BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K);

/// Evaluates an expression with `$t` as the block type of an encoding.
macro_rules! dispatch {
    ($encoding:expr, $t:ident => $body:expr) => {
        match $encoding {
            Encoding::F32 => {
                type $t = f32;
                $body
            }
            Encoding::F16 => {
                type $t = f16;
                $body
            }
            Encoding::BF16 => {
                type $t = bf16;
                $body
            }
            Encoding::Q4_0 => {
                type $t = BlockQ4_0;
                $body
            }
            Encoding::Q4_1 => {
                type $t = BlockQ4_1;
                $body
            }
            Encoding::Q5_0 => {
                type $t = BlockQ5_0;
                $body
            }
            Encoding::Q5_1 => {
                type $t = BlockQ5_1;
                $body
            }
            Encoding::Q8_0 => {
                type $t = BlockQ8_0;
                $body
            }
            Encoding::Q2K => {
                type $t = BlockQ2K;
                $body
            }
            Encoding::Q3K => {
                type $t = BlockQ3K;
                $body
            }
            Encoding::Q4K => {
                type $t = BlockQ4K;
                $body
            }
            Encoding::Q5K => {
                type $t = BlockQ5K;
                $body
            }
            Encoding::Q6K => {
                type $t = BlockQ6K;
                $body
            }
            other => return Err(EngineError::Unsupported(format!("the engine does not run {} weights", other.name()))),
        }
    };
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with a scratch of this thread, at least `len` long.
pub(crate) fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with(|cell| {
        // Taken out for the call, so that a nested call gets a scratch of its own.
        let mut scratch = cell.take();
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        let result = f(&mut scratch[..len]);
        cell.replace(scratch);
        result
    })
}

impl<T: Element> Blocks for Typed<T> {
    fn dequantize(&self, first: usize, out: &mut [f32]) {
        let from = first * self.columns / T::BLCK_SIZE;
        T::to_float(&self.data[from..from + out.len() / T::BLCK_SIZE], out);
    }

    fn dots(&self, first: usize, x: &[f32], out: &mut [f32]) {
        let row_blocks = self.columns / T::BLCK_SIZE;
        let row = |r: usize| &self.data[(first + r) * row_blocks..(first + r + 1) * row_blocks];
        if T::PLAIN {
            with_scratch(self.columns, |scratch| {
                for (r, y) in out.iter_mut().enumerate() {
                    *y = T::dot(row(r), x).unwrap_or_else(|| {
                        T::to_float(row(r), scratch);
                        kernels::dot(scratch, x)
                    });
                }
            });
            return;
        }
        let mut activation = vec![T::VecDotType::zeros(); self.columns / T::VecDotType::BLCK_SIZE];
        T::VecDotType::from_float(x, &mut activation);
        for (j, four) in out.chunks_mut(4).enumerate() {
            let r = j * 4;
            if let [a, b, c, d] = four {
                (*a, *b, *c, *d) = T::vec_dot_4(self.columns, row(r), row(r + 1), row(r + 2), row(r + 3), &activation);
            } else {
                for (l, y) in four.iter_mut().enumerate() {
                    *y = T::vec_dot(self.columns, row(r + l), &activation);
                }
            }
        }
    }

    fn as_f32(&self) -> Option<&[f32]> {
        (&self.data as &dyn std::any::Any).downcast_ref::<Vec<f32>>().map(Vec::as_slice)
    }

    fn raw(&self) -> &[u8] {
        // SAFETY: block types are plain old data without padding, as ggml defines them.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr().cast(), std::mem::size_of_val(self.data.as_slice())) }
    }
}

impl Stored {
    fn check(encoding: Encoding, rows: usize, columns: usize) -> Result<usize, EngineError> {
        encoding.bytes_of(&[rows, columns]).ok_or_else(|| {
            EngineError::Unsupported(format!(
                "{} needs rows that are a multiple of {} long; these have {columns} elements",
                encoding.name(),
                encoding.block_size()
            ))
        })
    }

    /// Copies the bytes of a checkpoint or a plugin.
    pub fn from_bytes(encoding: Encoding, bytes: &[u8], rows: usize, columns: usize) -> Result<Self, EngineError> {
        let expected = Self::check(encoding, rows, columns)?;
        if bytes.len() != expected {
            return Err(EngineError::Invalid(format!(
                "{} [{rows}, {columns}] takes {expected} bytes, found {}",
                encoding.name(),
                bytes.len()
            )));
        }
        let blocks = dispatch!(encoding, T => {
            let mut data = vec![<T as GgmlType>::zeros(); rows * columns / T::BLCK_SIZE];
            assert_eq!(std::mem::size_of_val(data.as_slice()), bytes.len(), "block layout differs from ggml's");
            // SAFETY: the sizes were just compared, and any bytes are valid block types (plain old data).
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), data.as_mut_ptr().cast::<u8>(), bytes.len()) };
            Box::new(Typed { data, columns }) as Box<dyn Blocks>
        });
        Ok(Self { rows, columns, blocks })
    }

    /// Encodes float32 numbers, rows in parallel.
    pub fn from_floats(encoding: Encoding, values: &[f32], rows: usize, columns: usize) -> Result<Self, EngineError> {
        Self::check(encoding, rows, columns)?;
        assert_eq!(values.len(), rows * columns, "a matrix must have rows x columns elements");
        let blocks = dispatch!(encoding, T => {
            let row_blocks = columns / T::BLCK_SIZE;
            let mut data = vec![<T as GgmlType>::zeros(); rows * row_blocks];
            data.par_chunks_mut(row_blocks.max(1))
                .zip(values.par_chunks(columns.max(1)))
                .for_each(|(blocks, row)| T::from_float(row, blocks));
            Box::new(Typed { data, columns }) as Box<dyn Blocks>
        });
        Ok(Self { rows, columns, blocks })
    }

    /// Encodes float32 numbers so that the squared error weighted by the columns' `importance` is small.
    pub fn from_floats_weighted(
        encoding: Encoding,
        values: &[f32],
        rows: usize,
        columns: usize,
        importance: &[f32],
    ) -> Result<Self, EngineError> {
        let expected = Self::check(encoding, rows, columns)?;
        if importance.len() != columns {
            return Err(EngineError::Invalid(format!(
                "importance has {} elements, expected one for each of the {columns} columns",
                importance.len()
            )));
        }
        if crate::importance::encodes(encoding) {
            let parts: Vec<Vec<u8>> = values
                .par_chunks(columns * 64)
                .map(|rows| {
                    let mut bytes = Vec::with_capacity(rows.len() * encoding.block_bytes() / encoding.block_size());
                    for row in rows.chunks_exact(columns) {
                        crate::importance::encode(encoding, row, importance, &mut bytes);
                    }
                    bytes
                })
                .collect();
            let mut bytes = Vec::with_capacity(expected);
            parts.iter().for_each(|p| bytes.extend_from_slice(p));
            return Self::from_bytes(encoding, &bytes, rows, columns);
        }
        let blocks = match encoding {
            Encoding::Q2K | Encoding::Q3K | Encoding::Q4K | Encoding::Q5K | Encoding::Q6K => dispatch!(encoding, T => {
                let row_blocks = columns / T::BLCK_SIZE;
                let mut data = vec![<T as GgmlType>::zeros(); rows * row_blocks];
                data.par_chunks_mut(row_blocks.max(1))
                    .zip(values.par_chunks(columns.max(1)))
                    .for_each(|(blocks, row)| T::from_float_imatrix(row, blocks, importance, columns));
                Box::new(Typed { data, columns }) as Box<dyn Blocks>
            }),
            _ => return Self::from_floats(encoding, values, rows, columns),
        };
        Ok(Self { rows, columns, blocks })
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// A copy of the bytes.
    #[cfg(test)]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.raw().to_vec()
    }

    /// The bytes as ggml lays them out.
    pub fn raw(&self) -> &[u8] {
        self.blocks.raw()
    }

    /// Rows as float32, `out` being `rows.len() * columns` long.
    pub fn dequantize(&self, rows: Range<usize>, out: &mut [f32]) {
        assert_eq!(out.len(), rows.len() * self.columns, "the output must hold the rows");
        self.blocks.dequantize(rows.start, out);
    }

    /// Rows that one task of a product with `m` activations should take when `threads` share it.
    pub fn task(&self, m: usize, threads: usize) -> usize {
        // Some tasks a thread, so that a slower thread does not hold up the others; small weights are still spread.
        let spread = |tasks: usize| self.rows.div_ceil(threads * tasks).next_multiple_of(16);
        if m < PANEL_MINIMUM_ROWS { spread(4) } else { panel_rows(self.columns).min(spread(1)) }
    }

    /// Columns `rows` of y = x W', with x `[m, columns]` and y `[m, all rows]`, both row-major.
    ///
    /// # Safety
    /// `y` must hold m x all rows floats, and nothing else may use those columns meanwhile.
    pub unsafe fn linear_rows(&self, rows: Range<usize>, x: &[f32], y: *mut f32) {
        let (k, n) = (self.columns, self.rows);
        let m = x.len() / k.max(1);
        assert!(x.len() == m * k && rows.end <= n, "activations must have the weight's columns, and rows must exist");
        if m < PANEL_MINIMUM_ROWS {
            for (i, x) in x.chunks_exact(k).enumerate() {
                // SAFETY: these elements of y lie within row i, and the caller keeps others away from them.
                let out = unsafe { std::slice::from_raw_parts_mut(y.add(i * n + rows.start), rows.len()) };
                self.blocks.dots(rows.start, x, out);
            }
            return;
        }
        if crate::packed::available() {
            with_scratch((dense::LANES + 1) * k, |scratch| {
                let (row, room) = scratch.split_at_mut(k);
                for first in rows.clone().step_by(dense::LANES) {
                    let count = dense::LANES.min(rows.end - first);
                    let mut panel = Panel::new(room, count, k);
                    for i in 0..count {
                        self.blocks.dequantize(first + i, row);
                        panel.set(i, row);
                    }
                    // SAFETY: the panel's columns of all m rows are the caller's.
                    unsafe { panel.linear(x, y.add(first), n) };
                }
            });
            return;
        }
        let panel = panel_rows(k);
        for first in rows.clone().step_by(panel) {
            let count = panel.min(rows.end - first);
            let product = |weights: &[f32]| {
                debug_assert_eq!(weights.len(), count * k);
                // SAFETY: x holds m x k and weights count x k floats; the panel writes columns first..first + count of
                // each of the m output rows, which are the caller's.
                unsafe {
                    gemm::gemm(
                        m,
                        count,
                        k,
                        y.add(first),
                        1,
                        n as isize,
                        false,
                        x.as_ptr(),
                        1,
                        k as isize,
                        weights.as_ptr(),
                        k as isize,
                        1,
                        0f32,
                        1f32,
                        false,
                        false,
                        false,
                        gemm::Parallelism::None,
                    );
                }
            };
            match self.blocks.as_f32() {
                Some(all) => product(&all[first * k..(first + count) * k]),
                None => with_scratch(count * k, |scratch| {
                    self.blocks.dequantize(first, scratch);
                    product(scratch);
                }),
            }
        }
    }

    /// y = x W', with x `[m, columns]` and y `[m, rows]`, both row-major, on the threads of the current pool.
    pub fn linear(&self, x: &[f32], y: &mut [f32]) {
        let m = x.len() / self.columns.max(1);
        assert_eq!(y.len(), m * self.rows, "the output must have the weight's rows");
        let task = self.task(m, rayon::current_num_threads());
        let out = SendPointer(y.as_mut_ptr());
        (0..self.rows.div_ceil(task.max(1))).into_par_iter().for_each(|i| {
            // SAFETY: y was measured, and each task has columns of its own.
            unsafe { self.linear_rows(i * task..((i + 1) * task).min(self.rows), x, out.get()) };
        });
    }
}

/// A pointer that threads may share; its users write disjoint elements.
#[derive(Clone, Copy)]
pub(crate) struct SendPointer(pub *mut f32);
// SAFETY: the pointer is only dereferenced in the blocks that state why their writes are disjoint.
unsafe impl Send for SendPointer {}
// SAFETY: as above.
unsafe impl Sync for SendPointer {}
impl SendPointer {
    pub fn get(self) -> *mut f32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect()
    }

    #[test]
    fn every_format_multiplies_as_its_decoded_numbers_do() {
        let (rows, columns) = (133, 256);
        let weights = numbers(rows * columns, 1);
        let formats = [Encoding::F32, Encoding::F16, Encoding::BF16].into_iter().chain(crate::representation::BLOCKED);
        for encoding in formats {
            let stored = Stored::from_floats(encoding, &weights, rows, columns).unwrap();
            let mut decoded = vec![0f32; rows * columns];
            stored.dequantize(0..rows, &mut decoded);
            for m in [1, 3, 17] {
                let x = numbers(m * columns, 2);
                let mut y = vec![0f32; m * rows];
                stored.linear(&x, &mut y);
                for (i, y) in y.iter().enumerate() {
                    let (r, w) = (i / rows, i % rows);
                    let expected = kernels::dot_plain(
                        &x[r * columns..(r + 1) * columns],
                        &decoded[w * columns..(w + 1) * columns],
                    );
                    // Few rows run on activations rounded to 8 bits.
                    let tolerance = if m < PANEL_MINIMUM_ROWS && encoding.is_blocked() { 0.05 } else { 1e-3 };
                    assert!((y - expected).abs() < tolerance, "{} m={m}: {y} is not {expected}", encoding.name());
                }
            }
        }
    }

    #[test]
    fn bytes_survive_a_round_trip() {
        let stored = Stored::from_floats(Encoding::Q4_0, &numbers(64 * 32, 3), 32, 64).unwrap();
        let again = Stored::from_bytes(Encoding::Q4_0, stored.raw(), 32, 64).unwrap();
        assert_eq!(stored.raw(), again.raw());
    }

    #[test]
    fn rows_that_do_not_fit_the_block_are_refused() {
        let error = Stored::from_floats(Encoding::Q4K, &numbers(576, 4), 1, 576).err().unwrap().to_string();
        assert_eq!(error, "Q4_K needs rows that are a multiple of 256 long; these have 576 elements");
    }
}

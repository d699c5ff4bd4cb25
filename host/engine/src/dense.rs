//! Matrices of plain numbers in the order in which the CPU reads them: sixteen rows stand side by side, so that two vector
//! registers hold one column of all of them, and a product with a token's activation needs no sum across lanes. Numbers are
//! kept in their own type and widened in registers; sums are float32.

use crate::stored::SendPointer;
use aehost_formats::Encoding;
use half::{bf16, f16};
use rayon::prelude::*;
use std::ops::Range;

/// Rows that stand side by side.
pub(crate) const LANES: usize = 16;

/// The numbers, tile by tile: `[rows / LANES, columns, LANES]`.
enum Numbers {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

/// A matrix `[rows, columns]`; rows are filled up to a multiple of [`LANES`] with zeros.
pub(crate) struct Dense {
    rows: usize,
    columns: usize,
    numbers: Numbers,
}

/// Calls a function with the numbers as a slice of their type.
macro_rules! with_numbers {
    ($numbers:expr, |$slice:ident| $body:expr) => {
        match $numbers {
            Numbers::F32($slice) => $body,
            Numbers::F16($slice) => $body,
            Numbers::BF16($slice) => $body,
        }
    };
}

/// Sixteen rows side by side, from row-major little-endian bytes.
fn interleave<T: Copy + Default + Send + Sync, const SIZE: usize>(
    bytes: &[u8],
    columns: usize,
    read: impl Fn([u8; SIZE]) -> T + Sync,
) -> Vec<T> {
    let row_bytes = (columns * SIZE).max(1);
    let mut numbers = vec![T::default(); (bytes.len() / row_bytes).div_ceil(LANES) * LANES * columns];
    let tiles = numbers.par_chunks_mut((LANES * columns).max(1));
    tiles.zip(bytes.par_chunks(LANES * row_bytes)).for_each(|(tile, rows)| {
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            let values = row.as_chunks::<SIZE>().0.iter().map(|bytes| read(*bytes));
            tile[lane..].iter_mut().step_by(LANES).zip(values).for_each(|(to, value)| *to = value);
        }
    });
    numbers
}

impl Dense {
    /// Packs rows of plain numbers, in parallel; none for other encodings. Panics unless the bytes are rows x columns.
    pub fn new(encoding: Encoding, bytes: &[u8], rows: usize, columns: usize) -> Option<Self> {
        assert_eq!(Some(bytes.len()), encoding.bytes_of(&[rows, columns]), "the bytes must be the matrix");
        let numbers = match encoding {
            Encoding::F32 => Numbers::F32(interleave(bytes, columns, f32::from_le_bytes)),
            Encoding::F16 => Numbers::F16(interleave(bytes, columns, f16::from_le_bytes)),
            Encoding::BF16 => Numbers::BF16(interleave(bytes, columns, bf16::from_le_bytes)),
            _ => return None,
        };
        Some(Self { rows, columns, numbers })
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Number of tiles of sixteen rows.
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// One row as float32.
    #[allow(clippy::useless_conversion, reason = "one of the three types is float32 already")]
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        let first = row / LANES * LANES * self.columns + row % LANES;
        with_numbers!(&self.numbers, |numbers| {
            let values = numbers[first..].iter().step_by(LANES);
            out.iter_mut().zip(values).for_each(|(to, value)| *to = f32::from(*value));
        });
    }

    /// The tiles' columns of y = x W', with x `[m, columns]` and y `[m, rows]`. Panics where [`crate::packed::available`]
    /// says no.
    ///
    /// # Safety
    /// `y` must hold m x rows numbers, and nothing else may use the tiles' columns of it meanwhile.
    pub unsafe fn linear_tiles(&self, tiles: Range<usize>, x: &[f32], y: *mut f32) {
        assert!(crate::packed::available(), "matrices of rows side by side do not run here");
        let m = x.len() / self.columns.max(1);
        assert!(x.len() == m * self.columns && tiles.end <= self.tiles(), "activations must have the weight's columns");
        #[cfg(target_arch = "x86_64")]
        with_numbers!(&self.numbers, |numbers| {
            // SAFETY: the features were detected, activations and tiles were measured, the rest is the caller's promise.
            unsafe { avx2::linear(numbers, self.shape(), tiles, x, (y, self.rows)) }
        });
        #[cfg(not(target_arch = "x86_64"))]
        let _ = y;
    }

    /// y = x W', with x `[m, columns]` and y `[m, rows]`, on the threads of the current pool.
    pub fn linear(&self, x: &[f32], y: &mut [f32]) {
        let m = x.len() / self.columns.max(1);
        assert_eq!(y.len(), m * self.rows, "the output must have the weight's rows");
        let task = self.tiles().div_ceil(rayon::current_num_threads() * 4).max(1);
        let out = SendPointer(y.as_mut_ptr());
        (0..self.tiles().div_ceil(task)).into_par_iter().for_each(|i| {
            // SAFETY: y was measured, and each task has columns of its own.
            unsafe { self.linear_tiles(i * task..((i + 1) * task).min(self.tiles()), x, out.get()) };
        });
    }
}

/// A few rows of another representation, decoded to be multiplied at once: no more than [`LANES`].
pub(crate) struct Panel<'a> {
    /// `[columns, LANES]`.
    numbers: &'a mut [f32],
    rows: usize,
    columns: usize,
}

impl<'a> Panel<'a> {
    /// A panel in some room of at least [`LANES`] x `columns` numbers.
    pub fn new(room: &'a mut [f32], rows: usize, columns: usize) -> Self {
        assert!(rows <= LANES, "a panel is one tile");
        let numbers = &mut room[..LANES * columns];
        numbers.fill(0.0);
        Self { numbers, rows, columns }
    }

    /// Sets one of its rows.
    pub fn set(&mut self, row: usize, values: &[f32]) {
        self.numbers[row..].iter_mut().step_by(LANES).zip(values).for_each(|(to, value)| *to = *value);
    }

    /// The panel's columns of y = x W', with x `[m, columns]`; y has a row of `row` numbers for each token. Panics where
    /// [`crate::packed::available`] says no.
    ///
    /// # Safety
    /// `y` must have those rows from the panel's first column on, and nothing else may use its columns meanwhile.
    pub unsafe fn linear(&self, x: &[f32], y: *mut f32, row: usize) {
        assert!(crate::packed::available(), "matrices of rows side by side do not run here");
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the features were detected, and the rest is the caller's promise.
        unsafe {
            avx2::linear(self.numbers, (self.rows, self.columns), 0..1, x, (y, row));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (x, y, row);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::LANES;
    use half::{bf16, f16};
    use std::arch::x86_64::*;
    use std::ops::Range;

    /// Tokens whose sums fill the registers, beside two of weights.
    const TOKENS: usize = 6;
    /// Tokens after which the next tile is taken: their activations stay in the second-level cache.
    const BLOCK: usize = 8 * TOKENS;
    /// Numbers of a register.
    const HALF: usize = LANES / 2;

    /// A number that eight of can be widened at once.
    pub(super) trait Number: Copy {
        /// # Safety
        /// Eight must be there, and the processor must have AVX2 and F16C.
        unsafe fn eight(at: *const Self) -> __m256;
    }

    impl Number for f32 {
        #[inline(always)]
        unsafe fn eight(at: *const Self) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { _mm256_loadu_ps(at) }
        }
    }

    impl Number for f16 {
        #[inline(always)]
        unsafe fn eight(at: *const Self) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
        }
    }

    impl Number for bf16 {
        #[inline(always)]
        unsafe fn eight(at: *const Self) -> __m256 {
            // SAFETY: the caller's promise. A bfloat16 is the upper half of a float32.
            unsafe {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            }
        }
    }

    /// The tiles' columns of y = x W', where y has a row of `row` numbers for each token.
    ///
    /// # Safety
    /// The machine must have AVX2, FMA and F16C; the tiles must be there; `y` must have those rows, and nothing else may use
    /// the tiles' columns of it meanwhile.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn linear<T: Number>(
        numbers: &[T],
        (rows, columns): (usize, usize),
        tiles: Range<usize>,
        x: &[f32],
        (y, row): (*mut f32, usize),
    ) {
        let tokens = x.len() / columns.max(1);
        for block in (0..tokens).step_by(BLOCK) {
            let end = tokens.min(block + BLOCK);
            for number in tiles.clone() {
                let weights = numbers[number * LANES * columns..(number + 1) * LANES * columns].as_ptr();
                let lanes = LANES.min(rows - number * LANES);
                let mut m = block;
                while m < end {
                    let count = TOKENS.min(end - m);
                    // SAFETY: the caller's promise; the tokens are there.
                    unsafe {
                        let x = x.as_ptr().add(m * columns);
                        let out = Output { at: y.add(m * row + number * LANES), row, lanes };
                        match count {
                            1 => tile::<T, 1, 3>(weights, columns, x, out),
                            2 => tile::<T, 2, 3>(weights, columns, x, out),
                            3 => tile::<T, 3, 1>(weights, columns, x, out),
                            4 => tile::<T, 4, 1>(weights, columns, x, out),
                            5 => tile::<T, 5, 1>(weights, columns, x, out),
                            _ => tile::<T, TOKENS, 1>(weights, columns, x, out),
                        }
                    }
                    m += count;
                }
            }
        }
    }

    /// Where the products of a tile go.
    #[derive(Clone, Copy)]
    struct Output {
        at: *mut f32,
        row: usize,
        /// Columns that the tile has: fewer than sixteen at the end.
        lanes: usize,
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn store<const M: usize>(out: Output, sums: [[__m256; 2]; M]) {
        for (m, [low, high]) in sums.into_iter().enumerate() {
            // SAFETY: the output has `lanes` columns from here on in each row.
            unsafe {
                let at = out.at.add(m * out.row);
                if out.lanes == LANES {
                    _mm256_storeu_ps(at, low);
                    _mm256_storeu_ps(at.add(HALF), high);
                } else {
                    let mut all = [0f32; LANES];
                    _mm256_storeu_ps(all.as_mut_ptr(), low);
                    _mm256_storeu_ps(all[HALF..].as_mut_ptr(), high);
                    std::ptr::copy_nonoverlapping(all.as_ptr(), at, out.lanes);
                }
            }
        }
    }

    /// The products of a tile with `M` tokens. With few tokens, several columns have sums of their own, so that no product
    /// waits for the one before; with more, one set of sums keeps the multipliers busy.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn tile<T: Number, const M: usize, const APART: usize>(
        weights: *const T,
        columns: usize,
        x: *const f32,
        out: Output,
    ) {
        let mut sums = [[[_mm256_setzero_ps(); 2]; M]; APART];
        let whole = columns / APART * APART;
        // SAFETY: a tile has `columns` times sixteen numbers, and each token `columns` activations.
        unsafe {
            let add = |column: usize, sums: &mut [[__m256; 2]; M]| {
                let low = T::eight(weights.add(column * LANES));
                let high = T::eight(weights.add(column * LANES + HALF));
                for (m, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_broadcast_ss(&*x.add(m * columns + column));
                    sums[0] = _mm256_fmadd_ps(low, x, sums[0]);
                    sums[1] = _mm256_fmadd_ps(high, x, sums[1]);
                }
            };
            for column in (0..whole).step_by(APART) {
                for (apart, sums) in sums.iter_mut().enumerate() {
                    add(column + apart, sums);
                }
            }
            for column in whole..columns {
                add(column, &mut sums[0]);
            }
            let mut total = sums[0];
            for sums in &sums[1..] {
                for (total, sums) in total.iter_mut().zip(sums) {
                    total[0] = _mm256_add_ps(total[0], sums[0]);
                    total[1] = _mm256_add_ps(total[1], sums[1]);
                }
            }
            store(out, total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn products_equal_their_definition(
            rows in 1usize..70, columns in 1usize..80, tokens in 1usize..60, kind in 0usize..3, seed in any::<u32>(),
        ) {
            prop_assume!(crate::packed::available());
            let mut state = seed | 1;
            let mut next = || { state ^= state << 13; state ^= state >> 17; state ^= state << 5; (state >> 8) as f32 / (1 << 23) as f32 - 1.0 };
            let encoding = [Encoding::F32, Encoding::F16, Encoding::BF16][kind];
            let (mut weights, mut bytes) = (Vec::new(), Vec::new());
            for _ in 0..rows * columns {
                let value = next();
                match encoding {
                    Encoding::F16 => {
                        let value = f16::from_f32(value);
                        weights.push(value.to_f32());
                        bytes.extend(value.to_le_bytes());
                    }
                    Encoding::BF16 => {
                        let value = bf16::from_f32(value);
                        weights.push(value.to_f32());
                        bytes.extend(value.to_le_bytes());
                    }
                    _ => {
                        weights.push(value);
                        bytes.extend(value.to_le_bytes());
                    }
                }
            }
            let dense = Dense::new(encoding, &bytes, rows, columns).unwrap();
            let mut row = vec![0f32; columns];
            for r in 0..rows {
                dense.decode_row(r, &mut row);
                prop_assert_eq!(&row, &weights[r * columns..(r + 1) * columns]);
            }
            let x: Vec<f32> = (0..tokens * columns).map(|_| next()).collect();
            let mut y = vec![f32::NAN; tokens * rows];
            dense.linear(&x, &mut y);
            for (i, y) in y.iter().enumerate() {
                let (x, w) = (&x[i / rows * columns..][..columns], &weights[i % rows * columns..][..columns]);
                let expected = crate::kernels::dot_plain(x, w);
                prop_assert!((y - expected).abs() < 1e-4, "{} is not {}", y, expected);
            }
        }
    }
}

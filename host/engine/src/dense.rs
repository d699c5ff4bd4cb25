//! Matrices of plain numbers in the order in which the CPU reads them: sixteen rows stand side by side, so that a lane is a
//! row, and a product with a token's activation needs no sum across lanes. Numbers are kept in their own type and widened in
//! registers; sums are float32. Of a matrix with two zeros among every four columns only the other two are kept, and where
//! they stand; its products pick the activations that they need, and are half as many.

use crate::lanes::{LANES, Lanes, Level, Portion, QUAD, at_level, portions};
use crate::representation::SPARSE_BLOCK;
use crate::threads::SendPointer;
use crate::{FloatType, Representation};
use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use rayon::prelude::*;
use std::ops::Range;

/// Numbers that are kept of four.
const KEPT: usize = 2;

/// Numbers of a stored block of a sparse matrix, and bytes of positions before them.
const SPARSE: (usize, usize) = (SPARSE_BLOCK / QUAD * KEPT, 1);

/// The numbers, tile by tile: `[rows / LANES, columns, LANES]`, of sparse matrices as many columns as are kept.
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
    /// Of a sparse matrix: which of four columns the kept numbers are of, two bits a lane: `[rows / LANES, kept]`.
    positions: Option<Vec<u32>>,
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

/// A row as it is stored: its numbers, and of a sparse one the positions beside them.
struct Rows<'a> {
    bytes: &'a [u8],
    /// Bytes of a row.
    row: usize,
    /// Numbers of a block, and bytes of positions before them.
    block: (usize, usize),
}

impl Rows<'_> {
    /// Puts sixteen rows side by side, the numbers `per_row` in each.
    fn interleave<T: Copy + Default + Send + Sync, const SIZE: usize>(
        &self,
        per_row: usize,
        numbers: &mut [T],
        read: impl Fn([u8; SIZE]) -> T + Sync,
    ) {
        let (count, skip) = self.block;
        let tiles = numbers.par_chunks_mut((LANES * per_row).max(1));
        tiles.zip(self.bytes.par_chunks(LANES * self.row)).for_each_init(
            || vec![T::default(); LANES * per_row],
            |side_by_side, (tile, rows)| {
                let rows = rows.chunks_exact(self.row);
                // Rows that the last tile lacks are zeros.
                side_by_side[rows.len() * per_row..].fill(T::default());
                for (row, to) in rows.zip(side_by_side.chunks_exact_mut(per_row.max(1))) {
                    let blocks = row.chunks_exact(skip + count * SIZE).zip(to.chunks_exact_mut(count));
                    for (block, to) in blocks {
                        let bytes = block[skip..].as_chunks::<SIZE>().0;
                        to.iter_mut().zip(bytes).for_each(|(to, bytes)| *to = read(*bytes));
                    }
                }
                let columns = tile.as_chunks_mut::<LANES>().0;
                let (squares, rest) = columns.as_chunks_mut::<LANES>();
                for (square, at) in squares.iter_mut().zip((0..per_row).step_by(LANES)) {
                    let row = |lane: usize| side_by_side[lane * per_row + at..].first_chunk::<LANES>();
                    *square = turned(std::array::from_fn(|lane| *row(lane).expect("a square lies within the rows")));
                }
                for (column, sixteen) in (per_row / LANES * LANES..).zip(rest) {
                    *sixteen = std::array::from_fn(|lane| side_by_side[lane * per_row + column]);
                }
            },
        );
    }

    /// Puts the positions of sixteen rows side by side.
    fn positions(&self, per_row: usize, positions: &mut [u32]) {
        let block_bytes = self.row / (per_row / self.block.0).max(1);
        let tiles = positions.par_chunks_mut(per_row.max(1));
        tiles.zip(self.bytes.par_chunks(LANES * self.row)).for_each(|(tile, rows)| {
            for (lane, row) in rows.chunks_exact(self.row).enumerate() {
                let bytes = row.chunks_exact(block_bytes).map(|block| block[0]);
                for (four, byte) in tile.chunks_exact_mut(self.block.0).zip(bytes) {
                    for (i, bits) in four.iter_mut().enumerate() {
                        *bits |= u32::from(byte >> (2 * i) & 3) << (2 * lane);
                    }
                }
            }
        });
    }
}

/// Rows and columns of a square exchanged. Each round puts the elements of two rows in turns, which moves one bit of an element's
/// place from row to column and one back: instructions do that with whole registers.
#[inline(always)]
fn turned<T: Copy>(mut square: [[T; LANES]; LANES]) -> [[T; LANES]; LANES] {
    const HALF: usize = LANES / 2;
    for _ in 0..LANES.ilog2() {
        square = std::array::from_fn(|row| {
            let (a, b) = (&square[row / 2], &square[row / 2 + HALF]);
            let from = row % 2 * HALF;
            std::array::from_fn(|i| if i % 2 == 0 { a[from + i / 2] } else { b[from + i / 2] })
        });
    }
    square
}

impl Dense {
    /// Packs rows of plain numbers, in parallel; none for other representations. Panics unless the bytes are rows x columns.
    pub fn new(form: Representation, bytes: &[u8], rows: usize, columns: usize) -> Option<Self> {
        let mut dense = Self::zeros(form, rows, columns)?;
        assert_eq!(dense.fill(0, bytes), rows, "the bytes must be the matrix");
        Some(dense)
    }

    /// Zeros, to be filled; none for representations that are not of plain numbers.
    pub fn zeros(form: Representation, rows: usize, columns: usize) -> Option<Self> {
        let (ty, sparse) = match form {
            Representation::Dense(ty) => (ty, false),
            Representation::Sparse(ty) => (ty, true),
            _ => return None,
        };
        let kept = if sparse { columns / QUAD * KEPT } else { columns };
        let tiles = rows.div_ceil(LANES);
        let count = tiles * LANES * kept;
        let numbers = match ty {
            FloatType::F32 => Numbers::F32(vec![0.0; count]),
            // Of integers, which the system gives as zeros without writing them.
            FloatType::F16 => Numbers::F16(vec![0u16; count].reinterpret_into()),
            FloatType::BF16 => Numbers::BF16(vec![0u16; count].reinterpret_into()),
        };
        Some(Self { rows, columns, numbers, positions: sparse.then(|| vec![0; tiles * kept]) })
    }

    /// Packs rows that begin a tile, and says how many: all but the last are whole tiles. Panics where there are more than
    /// the matrix has.
    pub fn fill(&mut self, first: usize, bytes: &[u8]) -> usize {
        let (kept, block) = (self.kept(), self.block());
        let size = with_numbers!(&self.numbers, |numbers| numbers.first().map_or(1, size_of_val));
        let rows = Rows { bytes, row: (kept / block.0 * (block.1 + block.0 * size)).max(1), block };
        let count = bytes.len() / rows.row;
        assert!(
            first.is_multiple_of(LANES) && first + count <= self.rows,
            "the rows must be whole tiles of the matrix"
        );
        let (from, to) = (first / LANES, (first + count).div_ceil(LANES));
        let range = from * LANES * kept..to * LANES * kept;
        match &mut self.numbers {
            Numbers::F32(numbers) => rows.interleave(kept, &mut numbers[range], f32::from_le_bytes),
            Numbers::F16(numbers) => rows.interleave(kept, &mut numbers[range], f16::from_le_bytes),
            Numbers::BF16(numbers) => rows.interleave(kept, &mut numbers[range], bf16::from_le_bytes),
        }
        if let Some(positions) = &mut self.positions {
            rows.positions(kept, &mut positions[from * kept..to * kept]);
        }
        count
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Number of tiles of sixteen rows.
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// Numbers of a stored block, and bytes of positions before them.
    fn block(&self) -> (usize, usize) {
        if self.positions.is_some() { SPARSE } else { (self.columns.max(1), 0) }
    }

    /// Numbers that are kept of a row.
    fn kept(&self) -> usize {
        if self.positions.is_some() { self.columns / QUAD * KEPT } else { self.columns }
    }

    /// One row as float32.
    #[allow(clippy::useless_conversion, reason = "one of the three types is float32 already")]
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        let (tile, lane, kept) = (row / LANES, row % LANES, self.kept());
        with_numbers!(&self.numbers, |numbers| {
            let values = numbers[tile * LANES * kept + lane..].iter().step_by(LANES).map(|value| f32::from(*value));
            match &self.positions {
                None => out.iter_mut().zip(values).for_each(|(to, value)| *to = value),
                Some(positions) => {
                    out.fill(0.0);
                    let places = positions[tile * kept..(tile + 1) * kept].iter().enumerate();
                    for ((i, bits), value) in places.zip(values) {
                        // A second number in the same place adds to the first, as in products.
                        out[i / KEPT * QUAD + (bits >> (2 * lane) & 3) as usize] += value;
                    }
                }
            }
        });
    }

    /// Some rows with the columns exchanged, as a matrix of float32 in `numbers`, which must be as long as [`Dense::numbers_of`]
    /// says; the first is the first of a tile. None of a sparse one.
    pub fn exchanged(&self, rows: Range<usize>, mut numbers: Vec<f32>) -> Result<Self, Vec<f32>> {
        if self.positions.is_some() {
            return Err(numbers);
        }
        let (first, count, columns) = (rows.start / LANES, rows.len(), self.columns);
        let tiles = numbers.par_chunks_mut(LANES * count).enumerate();
        tiles.for_each(|(at, to)| {
            // Sixteen columns of sixteen rows stand together before and after.
            let wide = (columns - at * LANES).min(LANES);
            for (tile, to) in (first..).zip(to.chunks_mut(LANES * LANES)) {
                let start = (tile * columns + at * LANES) * LANES;
                let mut square = [[0f32; LANES]; LANES];
                let range = start..start + wide * LANES;
                let room = &mut square.as_flattened_mut()[..wide * LANES];
                match &self.numbers {
                    Numbers::F32(numbers) => room.copy_from_slice(&numbers[range]),
                    Numbers::F16(numbers) => numbers[range].convert_to_f32_slice(room),
                    Numbers::BF16(numbers) => numbers[range].convert_to_f32_slice(room),
                }
                to.copy_from_slice(&turned(square).as_flattened()[..to.len()]);
            }
        });
        Ok(Self { rows: columns, columns: count, numbers: Numbers::F32(numbers), positions: None })
    }

    /// The same of rows one after another, as float32.
    pub fn exchanged_of(rows: &[f32], columns: usize, mut numbers: Vec<f32>) -> Self {
        let count = rows.len() / columns.max(1);
        numbers.par_chunks_mut(LANES * count).enumerate().for_each(|(at, to)| {
            let wide = (columns - at * LANES).min(LANES);
            for (row, to) in rows.chunks_exact(columns).zip(to.chunks_exact_mut(LANES)) {
                to[..wide].copy_from_slice(&row[at * LANES..at * LANES + wide]);
                to[wide..].fill(0.0);
            }
        });
        Self { rows: columns, columns: count, numbers: Numbers::F32(numbers), positions: None }
    }

    /// Float32 numbers of a matrix `[rows, columns]`.
    pub fn numbers_of(rows: usize, columns: usize) -> usize {
        rows.next_multiple_of(LANES) * columns
    }

    /// Its numbers, where they are float32.
    pub fn into_numbers(self) -> Vec<f32> {
        match self.numbers {
            Numbers::F32(numbers) => numbers,
            _ => vec![],
        }
    }

    /// The rows as they were packed.
    pub fn bytes(&self) -> Vec<u8> {
        let (kept, (count, skip)) = (self.kept(), self.block());
        with_numbers!(&self.numbers, |numbers| {
            let size = numbers.first().map_or(1, size_of_val);
            let block = skip + count * size;
            let row = kept / count * block;
            let mut bytes = vec![0u8; self.rows * row];
            bytes.par_chunks_mut((LANES * row).max(1)).enumerate().for_each(|(tile, rows)| {
                let sixteens = numbers[tile * LANES * kept..][..LANES * kept].as_chunks::<LANES>().0;
                let positions = self.positions.as_ref().map(|positions| &positions[tile * kept..][..kept]);
                for (lane, row) in rows.chunks_exact_mut(row.max(1)).enumerate() {
                    for (i, (block, sixteens)) in row.chunks_exact_mut(block).zip(sixteens.chunks(count)).enumerate() {
                        let (byte, to) = block.split_at_mut(skip);
                        if let (Some(positions), [byte]) = (positions, byte) {
                            let bits =
                                positions[i * count..][..count].iter().map(|bits| (bits >> (2 * lane) & 3) as u8);
                            *byte = bits.rev().fold(0, |byte, bits| byte << 2 | bits);
                        }
                        let numbers = sixteens.iter().map(|sixteen| sixteen[lane].to_le_bytes());
                        to.chunks_exact_mut(size).zip(numbers).for_each(|(to, number)| to.copy_from_slice(&number));
                    }
                }
            });
            bytes
        })
    }

    /// The tiles' columns of y = x W', with x `[m, columns]` and y `[m, rows]`.
    ///
    /// # Safety
    /// `y` must hold m x rows numbers, nothing else may use the tiles' columns of it meanwhile, and the machine must have the
    /// level.
    pub unsafe fn linear_tiles(&self, level: Level, tiles: Range<usize>, x: &[f32], y: *mut f32) {
        let m = x.len() / self.columns.max(1);
        assert!(x.len() == m * self.columns && tiles.end <= self.tiles(), "activations must have the weight's columns");
        // SAFETY: activations and tiles were measured, the rest is the caller's promise.
        unsafe { products(level, self, tiles, x, y) }
    }

    /// y = x W', with x `[m, columns]` and y `[m, rows]`, on the threads of the current pool.
    pub fn linear(&self, x: &[f32], y: &mut [f32]) {
        let m = x.len() / self.columns.max(1);
        assert_eq!(y.len(), m * self.rows, "the output must have the weight's rows");
        let task = self.tiles().div_ceil(rayon::current_num_threads() * 4).max(1);
        let (level, out) = (Level::best(), SendPointer(y.as_mut_ptr()));
        (0..self.tiles().div_ceil(task)).into_par_iter().for_each(|i| {
            // SAFETY: y was measured, and each task has columns of its own.
            unsafe { self.linear_tiles(level, i * task..((i + 1) * task).min(self.tiles()), x, out.get()) };
        });
    }
}

unsafe fn products(level: Level, w: &Dense, tiles: Range<usize>, x: &[f32], y: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe { at_level!(level, linear(w: &Dense, tiles: Range<usize>, x: &[f32], y: *mut f32)) }
}

/// A number that sixteen of can be widened at once.
trait Number: Copy {
    /// # Safety
    /// Sixteen must be there, and the processor must have the lanes' instructions.
    unsafe fn sixteen<S: Lanes>(at: *const Self) -> S::Floats;
}

impl Number for f32 {
    #[inline(always)]
    unsafe fn sixteen<S: Lanes>(at: *const Self) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::singles(at) }
    }
}

impl Number for f16 {
    #[inline(always)]
    unsafe fn sixteen<S: Lanes>(at: *const Self) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::halves(at.cast()) }
    }
}

impl Number for bf16 {
    #[inline(always)]
    unsafe fn sixteen<S: Lanes>(at: *const Self) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::bfloats(at.cast()) }
    }
}

/// Groups of tokens after which the next tile is taken: their activations stay in the second-level cache.
const GROUPS: usize = 8;

/// The tiles' columns of y = x W'.
///
/// # Safety
/// As [`Dense::linear_tiles`] with the level of the lanes.
#[inline(always)]
unsafe fn linear<S: Lanes>(w: &Dense, tiles: Range<usize>, x: &[f32], y: *mut f32) {
    with_numbers!(&w.numbers, |numbers| {
        // SAFETY: the caller's promise.
        unsafe {
            match &w.positions {
                None => all_tokens::<S, _, false>(w, (numbers, &[]), tiles, x, y),
                Some(positions) => all_tokens::<S, _, true>(w, (numbers, positions), tiles, x, y),
            }
        }
    });
}

/// A tile, the tokens that it multiplies, and where the products go.
#[derive(Clone, Copy)]
struct Work<T> {
    numbers: *const T,
    positions: *const u32,
    columns: usize,
    x: *const f32,
    out: *mut f32,
    out_row: usize,
    /// Columns that the tile has: fewer than sixteen at the end.
    lanes: usize,
}

#[inline(always)]
unsafe fn all_tokens<S: Lanes, T: Number, const SPARSE: bool>(
    w: &Dense,
    (numbers, positions): (&[T], &[u32]),
    tiles: Range<usize>,
    x: &[f32],
    y: *mut f32,
) {
    let (rows, columns) = w.shape();
    let many = if SPARSE { S::TOKENS.2 } else { S::TOKENS.1 };
    let (tokens, kept) = (x.len() / columns.max(1), w.kept());
    for Portion { tile, first, count } in portions(tiles, tokens, GROUPS * many, many) {
        // SAFETY: a tile has `kept` times sixteen numbers and as many positions as it has kept; the tokens are there; the
        // rest is the caller's promise.
        unsafe {
            let work = Work {
                numbers: numbers.as_ptr().add(tile * LANES * kept),
                positions: positions.as_ptr().wrapping_add(tile * kept),
                columns,
                x: x.as_ptr().add(first * columns),
                out: y.add(first * rows + tile * LANES),
                out_row: rows,
                lanes: LANES.min(rows - tile * LANES),
            };
            // A few tokens have sums of their own for every third column, so that no product waits for the one before; with
            // more, one set of sums keeps the multipliers busy.
            match count {
                12 if many >= 12 => multiply::<S, T, SPARSE, 12, 1>(work),
                6 if many >= 6 => multiply::<S, T, SPARSE, 6, 1>(work),
                4 if many >= 4 => multiply::<S, T, SPARSE, 4, 1>(work),
                2 => multiply::<S, T, SPARSE, 2, 3>(work),
                _ => multiply::<S, T, SPARSE, 1, 3>(work),
            }
        }
    }
}

/// Adds the products of one step: of a column, or of one of the two that are kept of four.
#[inline(always)]
unsafe fn add_step<S: Lanes, T: Number, const SPARSE: bool, const M: usize>(
    work: Work<T>,
    step: usize,
    sums: &mut [S::Floats; M],
) {
    // SAFETY: the caller's tile and tokens.
    unsafe {
        let weights = T::sixteen::<S>(work.numbers.add(step * LANES));
        if SPARSE {
            let indices = S::indices(*work.positions.add(step));
            for (m, sum) in sums.iter_mut().enumerate() {
                let x = S::pick(work.x.add(m * work.columns + step / KEPT * QUAD), indices);
                *sum = S::multiply_add(weights, x, *sum);
            }
        } else {
            for (m, sum) in sums.iter_mut().enumerate() {
                let x = S::splat(*work.x.add(m * work.columns + step));
                *sum = S::multiply_add(weights, x, *sum);
            }
        }
    }
}

/// The products of a tile with `M` tokens, `APART` steps of columns having sums of their own.
#[inline(always)]
unsafe fn multiply<S: Lanes, T: Number, const SPARSE: bool, const M: usize, const APART: usize>(work: Work<T>) {
    let steps = if SPARSE { work.columns / QUAD * KEPT } else { work.columns };
    // SAFETY: the caller's tile, tokens and output.
    unsafe {
        let mut sums = [[S::splat(0.0); M]; APART];
        let whole = steps / APART * APART;
        for step in (0..whole).step_by(APART) {
            for (apart, sums) in sums.iter_mut().enumerate() {
                add_step::<S, T, SPARSE, M>(work, step + apart, sums);
            }
        }
        for step in whole..steps {
            add_step::<S, T, SPARSE, M>(work, step, &mut sums[0]);
        }
        for m in 0..M {
            let total = sums[1..].iter().fold(sums[0][m], |total, sums| S::add(total, sums[m]));
            S::store(total, work.out.add(m * work.out_row), work.lanes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn products_equal_their_definition(
            rows in 1usize..70, columns in 1usize..80, tokens in 1usize..60, kind in 0usize..3, sparse in any::<bool>(), seed in any::<u32>(),
        ) {
            let mut state = seed | 1;
            let mut next = || { state ^= state << 13; state ^= state >> 17; state ^= state << 5; (state >> 8) as f32 / (1 << 23) as f32 - 1.0 };
            let ty = [FloatType::F32, FloatType::F16, FloatType::BF16][kind];
            let columns = if sparse { columns.next_multiple_of(SPARSE_BLOCK) } else { columns };
            let form = if sparse { Representation::Sparse(ty) } else { Representation::Dense(ty) };
            let values: Vec<f32> = (0..rows * columns).map(|_| next()).collect();
            let bytes = codec::encode(form, &values, rows, columns, None).unwrap();
            let mut weights = vec![f32::NAN; rows * columns];
            codec::decode(form, &bytes, columns, &mut weights);
            let dense = Dense::new(form, &bytes, rows, columns).unwrap();
            prop_assert_eq!(dense.bytes(), bytes);
            let mut row = vec![f32::NAN; columns];
            for r in 0..rows {
                dense.decode_row(r, &mut row);
                prop_assert_eq!(&row, &weights[r * columns..(r + 1) * columns]);
            }
            // Rows from a tile on, columns exchanged, from the packed numbers and from plain ones.
            let first = LANES.min(rows / 2 / LANES * LANES);
            let room = || vec![f32::NAN; Dense::numbers_of(columns, rows - first)];
            let plain = Dense::exchanged_of(&weights[first * columns..], columns, room());
            for made in dense.exchanged(first..rows, room()).into_iter().chain([plain]) {
                let mut column = vec![f32::NAN; rows - first];
                for c in 0..columns {
                    made.decode_row(c, &mut column);
                    prop_assert!(column.iter().eq(weights[first * columns..].iter().skip(c).step_by(columns)));
                }
                prop_assert!(made.into_numbers().iter().all(|number| number.is_finite()));
            }
            let x: Vec<f32> = (0..tokens * columns).map(|_| next()).collect();
            for level in Level::available() {
                let mut y = vec![f32::NAN; tokens * rows];
                // SAFETY: y is as large as it must be, and nobody else's.
                unsafe { dense.linear_tiles(level, 0..dense.tiles(), &x, y.as_mut_ptr()) };
                for (i, y) in y.iter().enumerate() {
                    let (x, w) = (&x[i / rows * columns..][..columns], &weights[i % rows * columns..][..columns]);
                    let expected = crate::kernels::dot_plain(x, w);
                    prop_assert!((y - expected).abs() < 1e-4, "{:?}: {} is not {}", level, y, expected);
                }
            }
        }
    }
}

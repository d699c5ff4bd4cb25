//! Sixteen numbers at a time, one of each of sixteen rows: what the kernels of matrix products are written in, once for all
//! processors. A kernel is compiled for each [`Level`], and the best that the machine has is taken when it runs.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(test)]
mod speed;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use portable::Portable;

use std::ops::Range;

/// Rows that stand side by side.
pub(crate) const LANES: usize = 16;
/// Columns of a row that stand side by side, where codes are bytes.
pub(crate) const QUAD: usize = 4;

/// Instructions that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// What every processor of the target has.
    Portable,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW and VL with VNNI, beside those of AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// All that this machine has, the best last.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let more = {
            use std::is_x86_feature_detected as has;
            let avx2 = has_avx2();
            let avx512 = avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vnni");
            [(avx2, Level::Avx2), (avx512, Level::Avx512)].into_iter().filter_map(|(has, level)| has.then_some(level))
        };
        #[cfg(not(target_arch = "x86_64"))]
        let more = std::iter::empty();
        std::iter::once(Level::Portable).chain(more)
    }

    /// The best that this machine has.
    pub fn best() -> Self {
        Self::available().last().unwrap_or(Level::Portable)
    }
}

/// Whether this machine has AVX2, FMA and F16C.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    use std::is_x86_feature_detected as has;
    has!("avx2") && has!("fma") && has!("f16c")
}

/// A tile, and some tokens that it multiplies at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Portion {
    pub tile: usize,
    pub first: usize,
    /// 12, 6, 4, 2 or 1.
    pub count: usize,
}

/// All tiles with all tokens, of which at most `many` are multiplied at once. `near` tokens go through all tiles before the
/// next, so that their activations stay in cache.
#[inline(always)]
pub(crate) fn portions(tiles: Range<usize>, tokens: usize, near: usize, many: usize) -> impl Iterator<Item = Portion> {
    // The tokens that are going through the tiles, and where they are.
    let (mut going, mut tile, mut first) = (0..tokens.min(near), tiles.start, 0);
    std::iter::from_fn(move || {
        if first == going.end {
            (tile, first) = (tile + 1, going.start);
        }
        if tile >= tiles.end {
            going = going.end..tokens.min(going.end + near);
            (tile, first) = (tiles.start, going.start);
        }
        if going.is_empty() || tiles.is_empty() {
            return None;
        }
        let left = going.end - first;
        let count = [12, 6, 4, 2].into_iter().find(|count| *count <= many && *count <= left).unwrap_or(1);
        first += count;
        Some(Portion { tile, first: first - count, count })
    })
}

/// Calls a function that is generic in its [`Lanes`] and in nothing else, compiled for a level: `at_level!(level, f(x: X, y: Y))`
/// with the arguments as variables and their types. The function must be `#[inline(always)]`, and so must all that it calls
/// with its lanes.
macro_rules! at_level {
    ($level:expr, $function:ident ( $($arg:ident : $ty:ty),* )) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn on_avx2($($arg: $ty),*) {
            // SAFETY: the caller's promise.
            unsafe { $function::<$crate::lanes::Avx2>($($arg),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
        unsafe fn on_avx512($($arg: $ty),*) {
            // SAFETY: the caller's promise.
            unsafe { $function::<$crate::lanes::Avx512>($($arg),*) }
        }
        match $level {
            $crate::lanes::Level::Portable => $function::<$crate::lanes::Portable>($($arg),*),
            #[cfg(target_arch = "x86_64")]
            $crate::lanes::Level::Avx2 => on_avx2($($arg),*),
            #[cfg(target_arch = "x86_64")]
            $crate::lanes::Level::Avx512 => on_avx512($($arg),*),
        }
    }};
}
pub(crate) use at_level;

/// Sixteen lanes. All functions need the processor that they are for, and pointers to as much as they read or write.
#[allow(clippy::missing_safety_doc, reason = "what all of them need is said once, above")]
pub(crate) trait Lanes {
    /// Four unsigned bytes in each lane: codes of four columns.
    type Codes: Copy;
    /// A sum of products of codes of at most six bits, which may be too narrow for many.
    type Sum: Copy;
    /// Integers of 32 bits.
    type Integers: Copy;
    /// Float32 numbers.
    type Floats: Copy;

    /// Whether a [`Lanes::Sum`] holds only as much as 16 bits do.
    const NARROW: bool;
    /// What [`Lanes::multiply_wide`] takes from codes before it multiplies them.
    const BIAS: i32;
    /// Tokens whose sums fill the registers: of integer products, of products of float32 numbers, and of those that pick
    /// their activations.
    const TOKENS: (usize, usize, usize);

    /// 64 bytes.
    unsafe fn codes(at: *const u8) -> Self::Codes;
    /// The bits that a mask for all bytes has.
    unsafe fn and(codes: Self::Codes, mask: u8) -> Self::Codes;
    /// The bits of both.
    unsafe fn or(a: Self::Codes, b: Self::Codes) -> Self::Codes;
    /// Bits moved down; those of a byte's neighbour come in from above.
    unsafe fn down(codes: Self::Codes, by: u32) -> Self::Codes;
    /// Bits moved up; those of a byte's neighbour come in from below.
    unsafe fn up(codes: Self::Codes, by: u32) -> Self::Codes;
    /// The bytes of a table that codes of four bits stand for.
    unsafe fn look_up(codes: Self::Codes, table: &[u8; 16]) -> Self::Codes;

    /// No products.
    unsafe fn sum() -> Self::Sum;
    /// Adds each lane's codes times the four signed bytes `x`.
    unsafe fn multiply(sum: Self::Sum, codes: Self::Codes, x: i32) -> Self::Sum;
    /// Adds a sum to a total.
    unsafe fn settle(total: Self::Integers, sum: Self::Sum) -> Self::Integers;
    /// The same integer in all lanes.
    unsafe fn integers(x: i32) -> Self::Integers;
    /// Each lane times a number.
    unsafe fn scaled(x: Self::Integers, by: i32) -> Self::Integers;
    /// Adds each lane's codes, less [`Lanes::BIAS`], times the four signed bytes `x`; codes of any number of bits where
    /// there is no bias.
    unsafe fn multiply_wide(total: Self::Integers, codes: Self::Codes, x: i32) -> Self::Integers;

    /// The same number in all lanes.
    unsafe fn splat(x: f32) -> Self::Floats;
    /// Integers as numbers.
    unsafe fn float(x: Self::Integers) -> Self::Floats;
    /// Sixteen unsigned bytes as numbers.
    unsafe fn unsigned(at: *const u8) -> Self::Floats;
    /// Sixteen signed bytes as numbers.
    unsafe fn signed(at: *const u8) -> Self::Floats;
    /// Lower and upper four bits of sixteen bytes as numbers.
    unsafe fn nibbles(at: *const u8) -> [Self::Floats; 2];
    /// Sixteen float32 numbers.
    unsafe fn singles(at: *const f32) -> Self::Floats;
    /// Sixteen float16 numbers.
    unsafe fn halves(at: *const u8) -> Self::Floats;
    /// Sixteen bfloat16 numbers.
    unsafe fn bfloats(at: *const u8) -> Self::Floats;
    /// a + b.
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a - b.
    unsafe fn subtract(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a * b.
    unsafe fn times(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a * b + c.
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// Sixteen numbers of two bits each, as indices for [`Lanes::pick`].
    unsafe fn indices(bits: u32) -> Self::Integers;
    /// One of the four numbers at `x` in each lane.
    unsafe fn pick(x: *const f32, indices: Self::Integers) -> Self::Floats;
    /// Writes the first `count` lanes.
    unsafe fn store(x: Self::Floats, to: *mut f32, count: usize);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_tile_multiplies_every_token_once(
            tiles in 0usize..4, tokens in 0usize..60, near in 1usize..30, many in prop_oneof![Just(1usize), Just(4), Just(6), Just(12)],
        ) {
            let mut times = vec![0; (3 + tiles) * tokens];
            for Portion { tile, first, count } in portions(3..3 + tiles, tokens, near, many) {
                prop_assert!(count <= many);
                (first..first + count).for_each(|token| times[tile * tokens + token] += 1);
            }
            let (outside, inside) = times.split_at(3 * tokens);
            prop_assert!(outside.iter().all(|n| *n == 0) && inside.iter().all(|n| *n == 1));
        }
    }
}

//! The product of packed matrices. One tile of sixteen rows takes a few tokens at a time, which share the unpacking of its
//! codes; sums of integers go on as long as a register holds them, those of blocks are float32.

#![allow(clippy::needless_range_loop, reason = "loops over a constant number of registers are unrolled by their index")]

use super::layout::{self, Small};
use super::{BLOCK, Packed, Rounded};
use crate::lanes::{LANES, Lanes, Portion, QUAD, portions};
use std::ops::Range;

/// Bytes of activations that stay in the first-level cache, beside a tile.
const NEAR_BYTES: usize = 16 << 10;
/// Bytes of four columns of a tile.
const STEP: usize = LANES * QUAD;

/// The tiles' columns of y = x W'.
///
/// # Safety
/// The machine must have the lanes' instructions; `x` must fit the matrix; `out` must be `[x.rows, rows]`, and nothing else
/// may use the tiles' columns of it meanwhile.
#[inline(always)]
pub(super) unsafe fn linear<S: Lanes>(w: &Packed, tiles: Range<usize>, x: Rounded, out: *mut f32) {
    let layout = w.layout;
    macro_rules! format {
        ($bits:literal, $minimum:literal, $small:ident, $table:literal) => {
            // SAFETY: the caller's promise; the format is the matrix's.
            unsafe { all_tokens::<S, $bits, $minimum, { Small::$small as u8 }, $table>(w, tiles, x, out) }
        };
    }
    match (layout.bits, layout.minimum, layout.small, layout.table.is_some()) {
        (2, false, Small::None, false) => format!(2, false, None, false),
        (2, true, Small::None, false) => format!(2, true, None, false),
        (2, true, Small::Nibbles, false) => format!(2, true, Nibbles, false),
        (3, false, Small::None, false) => format!(3, false, None, false),
        (3, true, Small::None, false) => format!(3, true, None, false),
        (3, false, Small::Halves, false) => format!(3, false, Halves, false),
        (4, false, Small::None, false) => format!(4, false, None, false),
        (4, true, Small::None, false) => format!(4, true, None, false),
        (4, true, Small::Whole, false) => format!(4, true, Whole, false),
        (4, false, Small::None, true) => format!(4, false, None, true),
        (5, false, Small::None, false) => format!(5, false, None, false),
        (5, true, Small::None, false) => format!(5, true, None, false),
        (5, true, Small::Whole, false) => format!(5, true, Whole, false),
        (6, false, Small::Halves, false) => format!(6, false, Halves, false),
        (8, false, Small::None, false) => format!(8, false, None, false),
        (8, true, Small::None, false) => format!(8, true, None, false),
        _ => unreachable!("no format has the layout {layout:?}"),
    }
}

/// A tile, the tokens that it multiplies, and where the products go.
#[derive(Clone, Copy)]
struct Work<'a> {
    tile: *const u8,
    records: usize,
    table: &'a [u8; 16],
    codes: *const i8,
    /// Codes of a token.
    columns: usize,
    scales: *const f32,
    sums: *const f32,
    counts: *const [i32; 3],
    out: *mut f32,
    /// Elements of a row of the output.
    out_row: usize,
    /// Columns of the output that the tile has: fewer than sixteen at its end.
    lanes: usize,
}

/// Multiplies all tokens, a registerful at a time.
#[inline(always)]
unsafe fn all_tokens<S: Lanes, const BITS: u32, const MINIMUM: bool, const SMALL: u8, const TABLE: bool>(
    w: &Packed,
    tiles: Range<usize>,
    x: Rounded,
    out: *mut f32,
) {
    let (rows, columns) = w.shape();
    let many = S::TOKENS.0;
    let near = (NEAR_BYTES / columns.max(1) / many).max(1) * many;
    let table = w.layout.table.unwrap_or([0; 16]);
    for Portion { tile, first, count } in portions(tiles, x.rows, near, many) {
        // SAFETY: the tokens are there, and the rest is the caller's promise.
        unsafe {
            let work = Work {
                tile: w.tile(tile).as_ptr(),
                records: w.layout.records,
                table: &table,
                codes: x.codes.add(first * columns),
                columns,
                scales: x.scales.add(first * (columns / BLOCK)),
                sums: x.sums.add(first * (2 * columns / BLOCK)),
                counts: x.counts.add(first * (columns / BLOCK)),
                out: out.add(first * rows + tile * LANES),
                out_row: rows,
                lanes: LANES.min(rows - tile * LANES),
            };
            match count {
                12 if many >= 12 => multiply::<S, BITS, MINIMUM, SMALL, TABLE, 12>(work),
                6 if many >= 6 => multiply::<S, BITS, MINIMUM, SMALL, TABLE, 6>(work),
                4 if many >= 4 => multiply::<S, BITS, MINIMUM, SMALL, TABLE, 4>(work),
                2 => multiply::<S, BITS, MINIMUM, SMALL, TABLE, 2>(work),
                _ => multiply::<S, BITS, MINIMUM, SMALL, TABLE, 1>(work),
            }
        }
    }
}

/// A number of rounds that the compiler does not know: it would do all rounds at once, and run out of registers.
#[inline(always)]
fn rolled(rounds: usize) -> usize {
    std::hint::black_box(rounds)
}

/// Four columns of a half of a record.
#[inline(always)]
unsafe fn unpack<S: Lanes, const BITS: u32>(at: *const u8, half: usize, quad: usize) -> S::Codes {
    let low_bits = layout::low_bits(BITS);
    // SAFETY: a record has a tile's codes of 32 columns, as `fold` tells.
    unsafe {
        let two_bits = |plane: *const u8| S::and(S::down(S::codes(plane.add(half * STEP)), 2 * quad as u32), 3);
        let low = match low_bits {
            2 => two_bits(at),
            4 if half == 0 => S::and(S::codes(at.add(quad * STEP)), 15),
            4 => S::and(S::down(S::codes(at.add(quad * STEP)), 4), 15),
            _ => S::codes(at.add((half * 4 + quad) * STEP)),
        };
        let upper = at.add(low_bits as usize * STEP);
        match BITS - low_bits {
            0 => low,
            1 => {
                let bit = S::and(S::down(S::codes(upper), (half * 4 + quad) as u32), 1);
                S::or(low, S::up(bit, low_bits))
            }
            _ => S::or(low, S::up(two_bits(upper), low_bits)),
        }
    }
}

/// The products of a tile with `M` tokens.
#[inline(always)]
unsafe fn multiply<
    S: Lanes,
    const BITS: u32,
    const MINIMUM: bool,
    const SMALL: u8,
    const TABLE: bool,
    const M: usize,
>(
    work: Work<'_>,
) {
    let wide = BITS == 8 || TABLE;
    let direct = wide || !S::NARROW;
    let halves_differ = SMALL == Small::Halves as u8 || SMALL == Small::Nibbles as u8;
    // What the codes lack when they are multiplied: products begin with as many times the sum of the activations. Where
    // registers are few, halves with scales of their own add it as they add minima.
    let offset = if MINIMUM { 0 } else { layout::zero(BITS, TABLE) } + if wide { S::BIAS } else { 0 };
    let begin = offset != 0 && !(halves_differ && S::NARROW);
    // A narrow sum holds eight products of codes of at most four bits, four of five bits, two of six.
    let by_halves = halves_differ || (BITS == 5 && S::NARROW);
    let halves = if by_halves { 2 } else { 1 };
    let parts = if BITS == 6 && S::NARROW { 2 } else { 1 };
    let quads = 4 / parts;
    let roll = BITS == 4 || wide || (M > 1 && by_halves && BITS != 6 && S::NARROW);
    // Both halves at once would need more registers than there are.
    let one_by_one = M > 1 && halves_differ && !S::NARROW;
    let mut at = work.tile;
    let blocks = work.columns / BLOCK;
    // SAFETY: groups lie one after another as `Layout` says; each token has 32 codes, a scale and two sums a block; the
    // output is the caller's promise.
    unsafe {
        let mut sums = [S::splat(0.0); M];
        let (mut scale, mut minimum) = (S::splat(0.0), S::splat(0.0));
        let mut record = 0;
        for b in 0..blocks {
            if record == 0 {
                scale = S::halves(at);
                at = at.add(2 * LANES);
                if MINIMUM {
                    minimum = S::halves(at);
                    at = at.add(2 * LANES);
                }
                if SMALL != Small::None as u8 {
                    // ggml takes away minima that have small scales, and adds others.
                    minimum = S::subtract(S::splat(0.0), minimum);
                }
                record = work.records;
            }
            record -= 1;
            // Scales and minima of the first and of the last 16 columns.
            let (mut scales, mut minima) = ([scale; 2], [minimum; 2]);
            if SMALL == Small::Whole as u8 {
                scales = [S::times(scale, S::unsigned(at)); 2];
                minima = [S::times(minimum, S::unsigned(at.add(LANES))); 2];
            } else if SMALL == Small::Halves as u8 {
                scales = [S::times(scale, S::signed(at)), S::times(scale, S::signed(at.add(LANES)))];
            } else if SMALL == Small::Nibbles as u8 {
                for half in 0..2 {
                    let [s, m] = S::nibbles(at.add(half * LANES));
                    scales[half] = S::times(scale, s);
                    minima[half] = S::times(minimum, m);
                }
            }
            if SMALL != Small::None as u8 {
                at = at.add(2 * LANES);
            }
            let x = work.codes.add(b * BLOCK);
            if offset != 0 && !begin {
                minima = scales.map(|scale| S::times(scale, S::splat(offset as f32)));
            }
            let mut totals = [S::integers(0); M];
            for half in 0..if one_by_one { rolled(halves) } else { halves } {
                if begin && (half == 0 || halves_differ) {
                    for m in 0..M {
                        let counts = *work.counts.add(m * blocks + b);
                        totals[m] = S::scaled(S::integers(counts[if halves_differ { 1 + half } else { 0 }]), -offset);
                    }
                }
                for part in 0..parts {
                    let mut narrow = [S::sum(); M];
                    for quad in part * quads..part * quads + if roll { rolled(quads) } else { quads } {
                        for half in if by_halves { half..half + 1 } else { 0..2 } {
                            let mut codes = unpack::<S, BITS>(at, half, quad);
                            if TABLE {
                                codes = S::look_up(codes, work.table);
                            }
                            for m in 0..M {
                                let x = x.add(m * work.columns + (half * 4 + quad) * QUAD);
                                let x = x.cast::<i32>().read_unaligned();
                                if direct {
                                    totals[m] = S::multiply_wide(totals[m], codes, x);
                                } else {
                                    narrow[m] = S::multiply(narrow[m], codes, x);
                                }
                            }
                        }
                    }
                    if !direct {
                        for m in 0..M {
                            totals[m] = S::settle(totals[m], narrow[m]);
                        }
                    }
                }
                if halves_differ || !by_halves || half == 1 {
                    for m in 0..M {
                        let x_scale = S::splat(*work.scales.add(m * blocks + b));
                        sums[m] = S::multiply_add(S::float(totals[m]), S::times(scales[half], x_scale), sums[m]);
                        totals[m] = S::integers(0);
                    }
                }
            }
            if MINIMUM || (offset != 0 && !begin) {
                for m in 0..M {
                    let x_sums = work.sums.add(2 * (m * blocks + b));
                    sums[m] = S::multiply_add(minima[0], S::splat(*x_sums), sums[m]);
                    if halves_differ {
                        let more = S::subtract(minima[1], minima[0]);
                        sums[m] = S::multiply_add(more, S::splat(*x_sums.add(1)), sums[m]);
                    }
                }
            }
            at = at.add(BITS as usize * STEP);
        }
        for m in 0..M {
            S::store(sums[m], work.out.add(m * work.out_row), work.lanes);
        }
    }
}

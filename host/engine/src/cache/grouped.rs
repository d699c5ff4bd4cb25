//! Keys and values in few bits (KIVI, Liu et al., arXiv:2402.02750): 32 numbers share a scale and a minimum, those of keys in
//! one channel, of 32 tokens; those of values in one token, of 32 channels. What has not settled yet is kept in float16.

use super::rows::BLOCK;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Rows of numbers, the first of them in codes.
#[derive(Debug, Clone)]
pub(super) struct Grouped {
    bits: usize,
    /// Whether a group is 32 rows of a channel, not 32 channels of a row.
    by_channel: bool,
    /// Of 32 channels of a row after another; a byte holds those that lie `4 * bits` apart, the first in its low bits.
    codes: Vec<u8>,
    /// By channel: `[rows / 32, width]`; else `[rows, width / 32]`.
    scales: Vec<f16>,
    minima: Vec<f16>,
    /// Rows that are in codes.
    encoded: usize,
    tail: Vec<f16>,
}

/// The codes of 32 numbers.
fn expand<const BITS: usize>(bytes: &[u8], out: &mut [f32; BLOCK]) {
    let count = 4 * BITS;
    let bytes = &bytes[..count];
    for (part, out) in out.chunks_exact_mut(count).enumerate() {
        for (out, byte) in out.iter_mut().zip(bytes) {
            *out = f32::from((byte >> (part * BITS)) & (u8::MAX >> (8 - BITS)));
        }
    }
}

/// Scale and minimum of numbers, as they are kept.
fn grid(numbers: impl Iterator<Item = f32>, bits: usize) -> (f16, f16) {
    let (least, most) = numbers.fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    let minimum = f16::from_f32(least);
    (f16::from_f32((most - minimum.to_f32()) / ((1 << bits) - 1) as f32), minimum)
}

impl Grouped {
    pub fn new(bits: usize, by_channel: bool) -> Self {
        let (codes, scales, minima, tail) = Default::default();
        Self { bits, by_channel, codes, scales, minima, encoded: 0, tail }
    }

    /// Makes room for so many rows, of which `unsettled` at most are in float16.
    pub fn reserve(&mut self, width: usize, rows: usize, unsettled: usize) {
        self.codes.reserve_exact(rows * width * self.bits / 8);
        self.scales.reserve_exact(rows * width / BLOCK);
        self.minima.reserve_exact(rows * width / BLOCK);
        self.tail.reserve_exact(rows.min(unsettled) * width);
    }

    pub fn append(&mut self, rows: &[f32]) {
        self.tail.extend(rows.iter().map(|x| f16::from_f32(*x)));
    }

    /// Puts all whole blocks of 32 rows in codes.
    pub fn settle(&mut self, width: usize) {
        let settled = self.tail.len() / (BLOCK * width) * BLOCK * width;
        let mut block = vec![0f32; BLOCK * width];
        for tail in std::mem::take(&mut self.tail).chunks(BLOCK * width) {
            if tail.len() < block.len() {
                self.tail.extend_from_slice(tail);
                break;
            }
            tail.convert_to_f32_slice(&mut block);
            self.encode(width, &block);
        }
        self.encoded += settled / width;
    }

    fn encode(&mut self, width: usize, block: &[f32]) {
        let first = self.scales.len();
        let grids: Vec<(f16, f16)> = match self.by_channel {
            true => (0..width).map(|c| grid(block.iter().skip(c).step_by(width).copied(), self.bits)).collect(),
            false => block.chunks_exact(BLOCK).map(|group| grid(group.iter().copied(), self.bits)).collect(),
        };
        self.scales.extend(grids.iter().map(|(scale, _)| *scale));
        self.minima.extend(grids.iter().map(|(_, minimum)| *minimum));
        let most = ((1 << self.bits) - 1) as f32;
        for (index, group) in block.chunks_exact(BLOCK).enumerate() {
            let start = self.codes.len();
            self.codes.resize(start + 4 * self.bits, 0);
            for (i, x) in group.iter().enumerate() {
                let at = first + if self.by_channel { index * BLOCK % width + i } else { index };
                let (scale, minimum) = (self.scales[at].to_f32(), self.minima[at].to_f32());
                let code = if scale > 0.0 { ((x - minimum) / scale).round().clamp(0.0, most) as u8 } else { 0 };
                self.codes[start + i % (4 * self.bits)] |= code << (i / (4 * self.bits) * self.bits);
            }
        }
    }

    /// Columns [from, from + out_width) of the rows from `first` on, as many as `out` has.
    pub fn read(&self, width: usize, from: usize, out_width: usize, first: usize, out: &mut [f32]) {
        let in_codes = self.encoded.saturating_sub(first).min(out.len() / out_width);
        let (coded, plain) = out.split_at_mut(in_codes * out_width);
        match self.bits {
            2 => self.decode::<2>(width, from, out_width, first, coded),
            4 => self.decode::<4>(width, from, out_width, first, coded),
            _ => self.decode::<8>(width, from, out_width, first, coded),
        }
        let rows = self.tail.chunks_exact(width).skip((first + in_codes).saturating_sub(self.encoded));
        for (row, out) in rows.zip(plain.chunks_exact_mut(out_width)) {
            row[from..from + out_width].convert_to_f32_slice(out);
        }
    }

    fn decode<const BITS: usize>(&self, width: usize, from: usize, out_width: usize, first: usize, out: &mut [f32]) {
        let blocks = width / BLOCK;
        for column in (0..out_width).step_by(BLOCK) {
            let (mut scales, mut minima) = ([0f32; BLOCK], [0f32; BLOCK]);
            for (index, out) in out.chunks_exact_mut(out_width).enumerate() {
                let row = first + index;
                let group = row * blocks + (from + column) / BLOCK;
                if !self.by_channel {
                    scales = [self.scales[group].to_f32(); BLOCK];
                    minima = [self.minima[group].to_f32(); BLOCK];
                } else if index == 0 || row.is_multiple_of(BLOCK) {
                    let at = row / BLOCK * width + from + column;
                    self.scales[at..at + BLOCK].convert_to_f32_slice(&mut scales);
                    self.minima[at..at + BLOCK].convert_to_f32_slice(&mut minima);
                }
                let mut codes = [0f32; BLOCK];
                expand::<BITS>(&self.codes[group * 4 * BITS..], &mut codes);
                let out = &mut out[column..column + BLOCK];
                for (out, ((code, scale), minimum)) in out.iter_mut().zip(codes.iter().zip(&scales).zip(&minima)) {
                    *out = code * scale + minimum;
                }
            }
        }
    }

    /// Takes the last rows off, which have not settled.
    pub fn drop_last(&mut self, width: usize, rows: usize) {
        self.tail.truncate(self.tail.len() - rows * width);
    }

    /// Keeps, of `dim` columns after another, the rows that are listed for them; all lists are equally long.
    pub fn gather(&mut self, width: usize, dim: usize, kept: &[Vec<u32>]) {
        let rows = self.encoded + self.tail.len() / width;
        let mut all = vec![0f32; rows * width];
        self.read(width, 0, width, 0, &mut all);
        super::rows::gather(&mut all, width, dim, kept);
        *self = Self::new(self.bits, self.by_channel);
        self.append(&all);
        self.settle(width);
    }

    /// Of these rows, those that share a group with one that is kept are kept too, and all that have not settled: which rows
    /// will share a group must not depend on when others go.
    pub fn whole_groups(&self, keep: &mut [bool]) {
        for block in keep[..self.encoded].chunks_mut(BLOCK) {
            let any = block.contains(&true);
            block.fill(any);
        }
        keep[self.encoded..].fill(true);
    }

    /// Keeps the rows for which `keep` is true: all or none of a group.
    pub fn retain(&mut self, width: usize, keep: &[bool]) {
        let (coded, tail) = keep.split_at(self.encoded);
        let (code_width, grid_width) = (width * self.bits / 8, width / BLOCK);
        super::rows::compact(&mut self.codes, code_width, coded);
        // A block of rows has as many scales either way.
        let blocks: Vec<bool> = coded.chunks(BLOCK).map(|block| block.contains(&true)).collect();
        super::rows::compact(&mut self.scales, grid_width * BLOCK, &blocks);
        super::rows::compact(&mut self.minima, grid_width * BLOCK, &blocks);
        super::rows::compact(&mut self.tail, width, tail);
        self.encoded = coded.iter().filter(|kept| **kept).count();
    }

    pub fn bytes(&self) -> usize {
        self.codes.len() + 2 * (self.scales.len() + self.minima.len() + self.tail.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: every number by itself.
    fn rounded(rows: &[f32], width: usize, bits: usize, by_channel: bool, settled: usize) -> Vec<f32> {
        let at = |row: usize, column: usize| f16::from_f32(rows[row * width + column]).to_f32();
        let of = |row: usize, column: usize| {
            let group: Vec<f32> = match by_channel {
                true => (row / 32 * 32..row / 32 * 32 + 32).map(|r| at(r, column)).collect(),
                false => (column / 32 * 32..column / 32 * 32 + 32).map(|c| at(row, c)).collect(),
            };
            let minimum = f16::from_f32(group.iter().copied().fold(f32::INFINITY, f32::min)).to_f32();
            let most = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let scale = f16::from_f32((most - minimum) / ((1 << bits) - 1) as f32).to_f32();
            let code = if scale > 0.0 { ((at(row, column) - minimum) / scale).round() } else { 0.0 };
            code.clamp(0.0, ((1 << bits) - 1) as f32) * scale + minimum
        };
        (0..rows.len())
            .map(|i| if i / width < settled { of(i / width, i % width) } else { at(i / width, i % width) })
            .collect()
    }

    proptest! {
        #[test]
        fn groups_are_rounded_as_defined(
            bits in prop_oneof![Just(2usize), Just(4), Just(8)], by_channel in any::<bool>(), heads in 1usize..4,
            before in 0usize..100, after in 0usize..40, seed in any::<u32>(), from in 0usize..4,
        ) {
            let width = heads * 32;
            let mut state = seed | 1;
            let mut next = || { state ^= state << 13; state ^= state >> 17; state ^= state << 5; (state >> 8) as f32 / (1 << 22) as f32 - 1.0 };
            let rows: Vec<f32> = (0..(before + after) * width).map(|_| next()).collect();
            let mut grouped = Grouped::new(bits, by_channel);
            grouped.append(&rows[..before * width]);
            grouped.settle(width);
            grouped.append(&rows[before * width..]);
            let settled = before / 32 * 32;
            let wanted = rounded(&rows, width, bits, by_channel, settled);
            let mut found = vec![0f32; rows.len()];
            grouped.read(width, 0, width, 0, &mut found);
            prop_assert_eq!(&found, &wanted);
            // A head's columns of the later rows.
            let (head, first) = (from % heads, (before + after) / 3);
            let mut part = vec![0f32; (before + after - first) * 32];
            grouped.read(width, head * 32, 32, first, &mut part);
            for (row, part) in (first..).zip(part.chunks_exact(32)) {
                prop_assert_eq!(part, &wanted[row * width + head * 32..][..32]);
            }
            let bytes = settled * width * bits / 8 + settled * width / 8 + (before + after - settled) * width * 2;
            prop_assert_eq!(grouped.bytes(), bytes);
            // Every third block of 32 goes, and so do single rows that have not settled.
            let keep: Vec<bool> = (0..before + after).map(|row| if row < settled { row / 32 % 3 != 1 } else { row % 3 != 1 }).collect();
            grouped.retain(width, &keep);
            let left: Vec<f32> = wanted.chunks_exact(width).zip(&keep).filter(|(_, keep)| **keep).flat_map(|(row, _)| row.to_vec()).collect();
            let mut found = vec![0f32; left.len()];
            grouped.read(width, 0, width, 0, &mut found);
            prop_assert_eq!(found, left);
        }
    }
}

//! One block taken apart into scales and codes, and where its parts lie among those of fifteen other rows. Formulas and bit
//! positions of ggml's formats are those of its `ggml-quants.c` (`dequantize_row_*`).

use super::BLOCK;
use super::fold::{Folded, fold, fold_word, unfold};
use super::layout::{Layout, Small};
use crate::Representation;
use crate::codec::{half_at, unpack_codes};
use crate::lanes::{LANES, QUAD};
use aehost_formats::Encoding;

/// The parts of one block of one row, with `R` records of 32 columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block<const R: usize> {
    /// Float16, as bits.
    scale: [u8; 2],
    /// Float16, as bits; zero where the format has none.
    minimum: [u8; 2],
    /// Of each record, as [`Small`] says: scale and minimum, or what both halves have.
    small: [[u8; 2]; R],
    codes: [Folded; R],
}

impl<const R: usize> Block<R> {
    /// Takes a block apart.
    #[inline(always)]
    pub fn split(form: Representation, bytes: &[u8]) -> Self {
        let mut this =
            Self { scale: [bytes[0], bytes[1]], minimum: [0; 2], small: [[0; 2]; R], codes: [[0; BLOCK]; R] };
        let encoding = match form {
            Representation::Affine(affine) => {
                let mut codes = &bytes[2..];
                if !affine.symmetric {
                    this.minimum.copy_from_slice(&bytes[2..4]);
                    codes = &bytes[4..];
                }
                this.unpack(affine.bits, codes);
                return this;
            }
            Representation::Codebook(_) => {
                this.unpack(4, &bytes[2..]);
                return this;
            }
            Representation::Blocked(encoding) => encoding,
            Representation::Dense(_) | Representation::Sparse(_) => unreachable!("{form} has no blocks"),
        };
        match encoding {
            Encoding::Q8_0 => {
                this.codes[0].iter_mut().zip(&bytes[2..34]).for_each(|(code, byte)| *code = byte ^ 128);
            }
            // Codes of columns 16 apart share bytes as they do here.
            Encoding::Q4_0 => this.codes[0][..16].copy_from_slice(&bytes[2..18]),
            Encoding::Q4_1 => {
                this.minimum.copy_from_slice(&bytes[2..4]);
                this.codes[0][..16].copy_from_slice(&bytes[4..20]);
            }
            Encoding::Q5_0 => this.five_bits(&bytes[2..22]),
            Encoding::Q5_1 => {
                this.minimum.copy_from_slice(&bytes[2..4]);
                this.five_bits(&bytes[4..24]);
            }
            Encoding::Q4K | Encoding::Q5K => {
                this.minimum.copy_from_slice(&bytes[2..4]);
                let (packed, rest) = (&bytes[4..16], &bytes[16..]);
                let (high, low) = if encoding == Encoding::Q5K { rest.split_at(32) } else { (&[][..], rest) };
                for r in 0..R {
                    this.small[r] = six_bit_scales(packed, r);
                    let low = &low[r / 2 * BLOCK..][..BLOCK];
                    let nibble = |i: usize| low[i] >> (4 * (r % 2)) & 15;
                    this.codes[r] = match encoding {
                        Encoding::Q4K => fold(4, &std::array::from_fn(nibble)),
                        _ => fold(5, &std::array::from_fn(|i| nibble(i) | (high[i] >> r & 1) << 4)),
                    };
                }
            }
            Encoding::Q6K => {
                // Low nibbles of 128 columns are 64 bytes, their upper two bits 32 bytes; then the scales, and the scale.
                this.scale.copy_from_slice(&bytes[208..210]);
                for r in 0..R {
                    let (part, quarter) = (r / 4, r % 4);
                    this.small[r] = [bytes[192 + 2 * r], bytes[193 + 2 * r]];
                    let low = &bytes[part * 64 + quarter % 2 * BLOCK..][..BLOCK];
                    let high = &bytes[128 + part * BLOCK..][..BLOCK];
                    let code = |i: usize| low[i] >> (4 * (quarter / 2)) & 15 | (high[i] >> (2 * quarter) & 3) << 4;
                    this.codes[r] = fold(6, &std::array::from_fn(code));
                }
            }
            Encoding::Q2K => {
                // A byte for each 16 columns, then codes: four of columns 32 apart share a byte.
                this.scale.copy_from_slice(&bytes[80..82]);
                this.minimum.copy_from_slice(&bytes[82..84]);
                for r in 0..R {
                    this.small[r] = [bytes[2 * r], bytes[2 * r + 1]];
                    let codes = &bytes[16 + r / 4 * BLOCK..][..BLOCK];
                    this.codes[r] = fold(2, &std::array::from_fn(|i| codes[i] >> (2 * (r % 4)) & 3));
                }
            }
            Encoding::Q3K => {
                // Third bits, the lower two as in Q2_K, and scales of six bits.
                this.scale.copy_from_slice(&bytes[108..110]);
                for r in 0..R {
                    this.small[r] = [2 * r, 2 * r + 1].map(|half| signed_six_bits(&bytes[96..108], half));
                    let low = &bytes[32 + r / 4 * BLOCK..][..BLOCK];
                    let code = |i: usize| low[i] >> (2 * (r % 4)) & 3 | (bytes[i] >> r & 1) << 2;
                    this.codes[r] = fold(3, &std::array::from_fn(code));
                }
            }
            other => unreachable!("{} has no packed layout", other.name()),
        }
        this
    }

    /// Fifth bits as a word, and the lower four bits.
    #[inline(always)]
    fn five_bits(&mut self, bytes: &[u8]) {
        self.codes[0][..16].copy_from_slice(&bytes[4..20]);
        self.codes[0][16..20].copy_from_slice(&fold_word(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])));
    }

    /// Codes of a few bits one after another, the first in the lowest bits.
    #[inline(always)]
    fn unpack(&mut self, bits: u8, packed: &[u8]) {
        for (record, packed) in self.codes.iter_mut().zip(packed.chunks_exact(BLOCK * usize::from(bits) / 8)) {
            let mut codes = [0u8; BLOCK];
            codes.iter_mut().zip(unpack_codes(bits, packed)).for_each(|(to, code)| *to = code);
            *record = fold(bits.into(), &codes);
        }
    }

    /// Puts the block among those of other rows.
    #[inline(always)]
    pub fn place(&self, layout: Layout, lane: usize, group: &mut [u8]) {
        let (header, records) = group.split_at_mut(layout.header());
        header[2 * lane..][..2].copy_from_slice(&self.scale);
        if layout.minimum {
            header[2 * LANES + 2 * lane..][..2].copy_from_slice(&self.minimum);
        }
        for (r, record) in records.chunks_exact_mut(layout.record()).enumerate() {
            let (small, codes) = record.split_at_mut(layout.small_scales());
            if !small.is_empty() {
                small[lane] = self.small[r][0];
                small[LANES + lane] = self.small[r][1];
            }
            let fours = self.codes[r].as_chunks::<QUAD>().0;
            for (step, four) in codes.as_chunks_mut::<{ LANES * QUAD }>().0.iter_mut().zip(fours) {
                step[lane * QUAD..][..QUAD].copy_from_slice(four);
            }
        }
    }

    /// Finds the block of a row among those of others.
    pub fn take(layout: Layout, lane: usize, group: &[u8]) -> Self {
        let (header, records) = group.split_at(layout.header());
        let pair = |at: usize| [header[at], header[at + 1]];
        let minimum = if layout.minimum { pair(2 * LANES + 2 * lane) } else { [0; 2] };
        let mut this = Self { scale: pair(2 * lane), minimum, small: [[0; 2]; R], codes: [[0; BLOCK]; R] };
        for (r, record) in records.chunks_exact(layout.record()).enumerate() {
            let (small, codes) = record.split_at(layout.small_scales());
            if !small.is_empty() {
                this.small[r] = [small[lane], small[LANES + lane]];
            }
            let fours = this.codes[r].as_chunks_mut::<QUAD>().0;
            for (step, four) in codes.as_chunks::<{ LANES * QUAD }>().0.iter().zip(fours) {
                four.copy_from_slice(&step[lane * QUAD..][..QUAD]);
            }
        }
        this
    }

    /// The numbers that it stands for.
    pub fn decode(&self, layout: Layout, out: &mut [f32]) {
        let (scale, minimum) = (half_at(&self.scale, 0), half_at(&self.minimum, 0));
        for (r, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            for ((i, out), code) in out.iter_mut().enumerate().zip(unfold(layout.bits, &self.codes[r])) {
                let small = self.small[r][i / (BLOCK / 2)];
                let (scale, minimum) = match layout.small {
                    Small::None => (scale, minimum),
                    Small::Whole => (scale * f32::from(self.small[r][0]), -minimum * f32::from(self.small[r][1])),
                    Small::Halves => (scale * f32::from(small as i8), 0.0),
                    Small::Nibbles => (scale * f32::from(small & 15), -minimum * f32::from(small >> 4)),
                };
                let code = layout.table.map_or(code, |table| table[usize::from(code)]);
                *out = match layout.minimum {
                    true => scale * f32::from(code) + minimum,
                    false => scale * (i32::from(code) + layout.zero()) as f32,
                };
            }
        }
    }
}

/// Scale and minimum of a record of Q4_K and Q5_K, from the 12 bytes that hold all sixteen (ggml's `get_scale_min_k4`).
#[inline(always)]
fn six_bit_scales(packed: &[u8], record: usize) -> [u8; 2] {
    if record < 4 {
        return [packed[record] & 63, packed[record + 4] & 63];
    }
    let low = packed[record + 4];
    [low & 15 | packed[record - 4] >> 6 << 4, low >> 4 | packed[record] >> 6 << 4]
}

/// The signed scale of 16 columns of Q3_K, from the 12 bytes that hold all sixteen: eight bytes of low nibbles, then two bits
/// of each.
#[inline(always)]
fn signed_six_bits(packed: &[u8], half: usize) -> u8 {
    let low = packed[half % 8] >> (4 * (half / 8)) & 15;
    let high = packed[8 + half % 4] >> (2 * (half / 4)) & 3;
    (low | high << 4).wrapping_sub(32)
}

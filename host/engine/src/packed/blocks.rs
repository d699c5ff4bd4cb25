//! One ggml block taken apart into scales and codes, and where its parts lie among those of seven other rows. Formulas and
//! bit positions are those of ggml's `ggml-quants.c` (`dequantize_row_*`).

use super::{BLOCK, LANES, Layout, half};
use aehost_formats::Encoding;

/// The parts of one block of one row, with `R` records: 1, or 8 in blocks of 256 columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block<const R: usize> {
    /// Float16, as bits.
    scale: [u8; 2],
    /// Float16, as bits; zero where the format has none.
    minimum: [u8; 2],
    /// Of each record: scale and minimum of six bits (Q4_K, Q5_K), or the signed scales of both halves (Q6_K).
    small: [[u8; 2]; R],
    codes: [[u8; BLOCK]; R],
}

impl<const R: usize> Block<R> {
    /// Takes a ggml block apart.
    #[inline(always)]
    pub fn split(encoding: Encoding, bytes: &[u8]) -> Self {
        let mut this =
            Self { scale: [bytes[0], bytes[1]], minimum: [0; 2], small: [[0; 2]; R], codes: [[0; BLOCK]; R] };
        match encoding {
            Encoding::Q8_0 => this.codes[0].copy_from_slice(&bytes[2..34]),
            Encoding::Q4_0 => nibbles(&bytes[2..18], &mut this.codes[0]),
            Encoding::Q4_1 => {
                this.minimum.copy_from_slice(&bytes[2..4]);
                nibbles(&bytes[4..20], &mut this.codes[0]);
            }
            Encoding::Q5_0 => {
                nibbles(&bytes[6..22], &mut this.codes[0]);
                fifth_bits(&bytes[2..6], &mut this.codes[0]);
            }
            Encoding::Q5_1 => {
                this.minimum.copy_from_slice(&bytes[2..4]);
                nibbles(&bytes[8..24], &mut this.codes[0]);
                fifth_bits(&bytes[4..8], &mut this.codes[0]);
            }
            Encoding::Q4K | Encoding::Q5K => {
                this.minimum.copy_from_slice(&bytes[2..4]);
                let (packed, rest) = (&bytes[4..16], &bytes[16..]);
                let (high, low) = if encoding == Encoding::Q5K { rest.split_at(32) } else { (&[][..], rest) };
                for r in 0..R {
                    this.small[r] = six_bit_scales(packed, r);
                    for i in 0..BLOCK {
                        let byte = low[r / 2 * BLOCK + i];
                        let fifth = high.get(i).map_or(0, |h| (h >> r & 1) << 4);
                        this.codes[r][i] = if r % 2 == 0 { byte & 15 } else { byte >> 4 } | fifth;
                    }
                }
            }
            Encoding::Q6K => {
                // Low nibbles of 128 columns are 64 bytes, their upper two bits 32 bytes; then the scales, and the scale.
                this.scale.copy_from_slice(&bytes[208..210]);
                for r in 0..R {
                    let (part, quarter) = (r / 4, r % 4);
                    this.small[r] = [bytes[192 + 2 * r], bytes[193 + 2 * r]];
                    for i in 0..BLOCK {
                        let low = bytes[part * 64 + quarter % 2 * BLOCK + i];
                        let low = if quarter < 2 { low & 15 } else { low >> 4 };
                        let high = bytes[128 + part * BLOCK + i] >> (2 * quarter) & 3;
                        this.codes[r][i] = low | high << 4;
                    }
                }
            }
            other => unreachable!("{} has no packed layout", other.name()),
        }
        this
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
            spread(layout.bits, &self.codes[r], lane, codes);
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
            gather(layout.bits, codes, lane, &mut this.codes[r]);
        }
        this
    }

    /// The numbers that it stands for.
    pub fn decode(&self, layout: Layout, out: &mut [f32]) {
        let (scale, minimum) = (half(&self.scale), half(&self.minimum));
        for (r, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            let [a, b] = self.small[r];
            for (i, out) in out.iter_mut().enumerate() {
                let code = self.codes[r][i];
                *out = match (layout.bits, layout.minimum, layout.records > 1) {
                    (8, ..) => scale * f32::from(code as i8),
                    (_, true, false) => scale * f32::from(code) + minimum,
                    (_, true, true) => scale * f32::from(a) * f32::from(code) - minimum * f32::from(b),
                    (_, false, small) => {
                        let half = if i < BLOCK / 2 { a } else { b };
                        let scale = if small { scale * f32::from(half as i8) } else { scale };
                        scale * (i32::from(code) + layout.zero()) as f32
                    }
                };
            }
        }
    }

    /// The ggml block.
    #[cfg(test)]
    pub fn join(&self, encoding: Encoding, out: &mut Vec<u8>) {
        let codes = &self.codes[0];
        let low =
            |codes: &[u8; BLOCK]| -> Vec<u8> { (0..16).map(|i| codes[i] & 15 | (codes[i + 16] & 15) << 4).collect() };
        let high: u32 = (0..BLOCK).map(|i| u32::from(codes[i] >> 4 & 1) << i).sum();
        if encoding != Encoding::Q6K {
            out.extend(self.scale);
        }
        match encoding {
            Encoding::Q8_0 => out.extend(codes),
            Encoding::Q4_0 => out.extend(low(codes)),
            Encoding::Q4_1 => {
                out.extend(self.minimum);
                out.extend(low(codes));
            }
            Encoding::Q5_0 => {
                out.extend(high.to_le_bytes());
                out.extend(low(codes));
            }
            Encoding::Q5_1 => {
                out.extend(self.minimum);
                out.extend(high.to_le_bytes());
                out.extend(low(codes));
            }
            Encoding::Q4K | Encoding::Q5K => {
                out.extend(self.minimum);
                let s = &self.small;
                out.extend((0..4).map(|r| s[r][0] | s[r + 4][0] >> 4 << 6));
                out.extend((0..4).map(|r| s[r][1] | s[r + 4][1] >> 4 << 6));
                out.extend((4..8).map(|r| s[r][0] & 15 | (s[r][1] & 15) << 4));
                if encoding == Encoding::Q5K {
                    out.extend((0..BLOCK).map(|i| (0..R).map(|r| (self.codes[r][i] >> 4) << r).sum::<u8>()));
                }
                for pair in self.codes.chunks_exact(2) {
                    out.extend((0..BLOCK).map(|i| pair[0][i] & 15 | (pair[1][i] & 15) << 4));
                }
            }
            _ => {
                for part in self.codes.chunks_exact(4) {
                    for half in 0..2 {
                        out.extend((0..BLOCK).map(|i| part[half][i] & 15 | (part[half + 2][i] & 15) << 4));
                    }
                }
                for part in self.codes.chunks_exact(4) {
                    out.extend((0..BLOCK).map(|i| (0..4).map(|q| (part[q][i] >> 4) << (2 * q)).sum::<u8>()));
                }
                out.extend(self.small.iter().flatten());
                out.extend(self.scale);
            }
        }
    }
}

/// Columns of a row that stand side by side.
const QUAD: usize = 4;
/// Bytes before the upper bits of codes of five and six bits.
const LOW_BYTES: usize = 4 * BLOCK;

/// Puts a row's codes in their places: four columns of each row at a time. Codes of fewer than 8 bits share a byte with
/// those 16 columns on; the fifth bits of all eight quads share one byte, the upper two of six the byte of their half.
#[inline(always)]
fn spread(bits: u32, codes: &[u8; BLOCK], lane: usize, out: &mut [u8]) {
    let at = |quad: usize| quad * BLOCK + lane * QUAD;
    let mut put = |at: usize, four: [u8; QUAD]| out[at..at + QUAD].copy_from_slice(&four);
    let of = |quad: usize, i: usize| codes[quad * QUAD + i];
    if bits == 8 {
        for quad in 0..BLOCK / QUAD {
            put(at(quad), std::array::from_fn(|i| of(quad, i)));
        }
        return;
    }
    for quad in 0..4 {
        put(at(quad), std::array::from_fn(|i| of(quad, i) & 15 | of(quad + 4, i) << 4));
    }
    if bits == 5 {
        let byte = |i| (0..8).fold(0, |byte, quad| byte | (of(quad, i) >> 4 & 1) << quad);
        put(LOW_BYTES + lane * QUAD, std::array::from_fn(byte));
    }
    if bits == 6 {
        for half in 0..2 {
            let byte = |i| (0..4).fold(0, |byte, quad| byte | (of(4 * half + quad, i) >> 4 & 3) << (2 * quad));
            put(LOW_BYTES + at(half), std::array::from_fn(byte));
        }
    }
}

/// Finds a row's codes again.
#[inline(always)]
fn gather(bits: u32, packed: &[u8], lane: usize, codes: &mut [u8; BLOCK]) {
    let four = |at: usize| &packed[at + lane * QUAD..][..QUAD];
    let (quads, _) = codes.as_chunks_mut::<QUAD>();
    if bits == 8 {
        quads.iter_mut().enumerate().for_each(|(quad, codes)| codes.copy_from_slice(four(quad * BLOCK)));
        return;
    }
    for (quad, codes) in quads.iter_mut().enumerate() {
        let (low, later) = (four(quad % 4 * BLOCK), 4 * (quad / 4));
        let high = match bits {
            5 => four(LOW_BYTES),
            6 => four(LOW_BYTES + quad / 4 * BLOCK),
            _ => &[0; QUAD],
        };
        for ((code, low), high) in codes.iter_mut().zip(low).zip(high) {
            let high = match bits {
                5 => high >> quad & 1,
                6 => high >> (2 * (quad % 4)) & 3,
                _ => 0,
            };
            *code = low >> later & 15 | high << 4;
        }
    }
}

/// 16 bytes as 32 codes: the low nibbles first.
#[inline(always)]
fn nibbles(bytes: &[u8], codes: &mut [u8; BLOCK]) {
    for (i, byte) in bytes.iter().enumerate() {
        codes[i] = byte & 15;
        codes[i + 16] = byte >> 4;
    }
}

#[inline(always)]
fn fifth_bits(bytes: &[u8], codes: &mut [u8; BLOCK]) {
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= (bytes[i / 8] >> (i % 8) & 1) << 4;
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

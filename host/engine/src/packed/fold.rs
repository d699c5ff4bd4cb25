//! The codes of a row's 32 columns in the bytes in which a record keeps them. The lower bits fill two, four or eight bits of
//! bytes, and what a format has beyond them one or two bits of bytes that follow. What shares a byte is: codes of columns 16
//! apart, where they fill four bits; those of the four quads of a half, where they fill two; of all eight quads, where they
//! are one. A *quad* is four columns, whose bytes are neighbours.

use super::BLOCK;
use super::layout::low_bits;
use crate::lanes::QUAD;

/// Of `b` bits the first `4 b` bytes count.
pub(super) type Folded = [u8; BLOCK];

/// Codes to bytes.
#[inline(always)]
pub(super) fn fold(bits: u32, codes: &[u8; BLOCK]) -> Folded {
    match bits {
        2 => fold_bits::<2>(codes),
        3 => fold_bits::<3>(codes),
        4 => fold_bits::<4>(codes),
        5 => fold_bits::<5>(codes),
        6 => fold_bits::<6>(codes),
        _ => *codes,
    }
}

#[inline(always)]
fn fold_bits<const BITS: u32>(codes: &[u8; BLOCK]) -> Folded {
    let mut out = [0u8; BLOCK];
    let low = low_bits(BITS);
    let (first, upper) = out.split_at_mut(low as usize * QUAD);
    // Two bits of a half's quads, from bit `from` of the codes on.
    let two_bits = |out: &mut [u8], from: u32| {
        for (half, out) in out.chunks_exact_mut(QUAD).take(2).enumerate() {
            for (i, out) in out.iter_mut().enumerate() {
                let of = |quad: usize| (codes[(half * 4 + quad) * QUAD + i] >> from & 3) << (2 * quad);
                *out = of(0) | of(1) | of(2) | of(3);
            }
        }
    };
    if low == 2 {
        two_bits(first, 0);
    } else {
        let (near, far) = codes.split_at(BLOCK / 2);
        first.iter_mut().zip(near).zip(far).for_each(|((out, near), far)| *out = near & 15 | far << 4);
    }
    match BITS - low {
        1 => {
            for (i, out) in upper[..QUAD].iter_mut().enumerate() {
                *out = (0..8).fold(0, |byte, quad| byte | (codes[quad * QUAD + i] >> low & 1) << quad);
            }
        }
        2 => two_bits(upper, low),
        _ => {}
    }
    out
}

/// Bytes to codes.
#[inline(always)]
pub(super) fn unfold(bits: u32, folded: &Folded) -> [u8; BLOCK] {
    let low = low_bits(bits);
    let (first, upper) = folded.split_at(low as usize * QUAD);
    std::array::from_fn(|column| {
        let (half, quad, i) = (column / 16, column / QUAD % 4, column % QUAD);
        let two_bits = |bytes: &[u8]| bytes[half * QUAD + i] >> (2 * quad) & 3;
        let code = match low {
            2 => two_bits(first),
            4 => first[column % 16] >> (4 * half) & 15,
            _ => first[column],
        };
        match bits - low {
            1 => code | (upper[i] >> (half * 4 + quad) & 1) << low,
            2 => code | two_bits(upper) << low,
            _ => code,
        }
    })
}

/// The bytes of one bit of each column, the first in the lowest bit of a word.
#[inline(always)]
pub(super) fn fold_word(word: u32) -> [u8; QUAD] {
    std::array::from_fn(|i| {
        // Every fourth bit, moved together.
        let spread = word >> i & 0x1111_1111;
        let pairs = (spread | spread >> 3) & 0x0303_0303;
        let fours = (pairs | pairs >> 6) & 0x000f_000f;
        (fours | fours >> 12) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn folded_codes_unfold(codes in prop::array::uniform32(any::<u8>())) {
            for bits in [2, 3, 4, 5, 6, 8] {
                let codes = codes.map(|code| code & ((1u16 << bits) - 1) as u8);
                let folded = fold(bits, &codes);
                prop_assert_eq!(unfold(bits, &folded), codes);
                prop_assert!(folded[bits as usize * QUAD..].iter().all(|byte| *byte == 0));
            }
        }

        #[test]
        fn a_word_folds_as_its_bits_do(word in any::<u32>()) {
            let codes = std::array::from_fn(|i| ((word >> i & 1) as u8) << 4);
            prop_assert_eq!(&fold_word(word)[..], &fold(5, &codes)[4 * QUAD..5 * QUAD]);
        }
    }
}

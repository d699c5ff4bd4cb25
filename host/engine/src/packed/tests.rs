use super::*;
use crate::codec;
use crate::representation::{Affine, BLOCKED, Codebook};
use aehost_formats::Encoding;
use half::f16;
use proptest::prelude::*;

/// Every representation that is packed.
fn packable() -> Vec<Representation> {
    let mut forms: Vec<Representation> = BLOCKED.into_iter().map(Representation::Blocked).collect();
    for (i, bits) in [2, 3, 4, 8].into_iter().enumerate() {
        let group = [32, 64, 128][i % 3];
        forms.extend([true, false].map(|symmetric| Representation::Affine(Affine { bits, group, symmetric })));
    }
    let table = std::array::from_fn(|i| ((i as i32 - 7) * (i as i32 - 7) * (i as i32 - 7) / 5) as i8);
    forms.push(Representation::Codebook(Codebook { group: 64, table }));
    forms
}

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn random_blocks(form: Representation, rows: usize, columns: usize, seed: u64) -> Vec<u8> {
    codec::encode(form, &numbers(rows * columns, seed), rows, columns, None).unwrap()
}

/// The fast product and the plain one.
fn both(level: Level, packed: &Packed, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (rows, columns) = packed.shape();
    let len = x.len() / columns * rows;
    let (mut fast, mut plain) = (vec![f32::NAN; len], vec![f32::NAN; len]);
    let mut room = Activations::default();
    let rounded = room.round(x, columns);
    // SAFETY: the room lives on, and the output is as large as it must be.
    unsafe { packed.linear_tiles(level, 0..packed.tiles(), rounded, fast.as_mut_ptr()) };
    packed.linear_plain(rounded, &mut plain);
    (fast, plain)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any bytes are a block: what they stand for must survive, be it no number.
    #[test]
    fn packing_loses_nothing_and_decodes_as_the_bytes_do(rows in 1usize..40, groups in 1usize..4, seed in any::<u64>()) {
        for form in packable() {
            let columns = groups * form.block_size();
            let count = form.bytes(&[rows, columns]).unwrap() as usize;
            let bytes: Vec<u8> = numbers(count, seed).iter().map(|v| (v * 127.9) as i8 as u8).collect();
            let packed = Packed::new(form, &bytes, rows, columns).unwrap();
            let mut expected = vec![0f32; rows * columns];
            codec::decode(form, &bytes, columns, &mut expected);
            let mut found = vec![0f32; columns];
            for (row, expected) in expected.chunks_exact(columns).enumerate() {
                packed.decode_row(row, &mut found);
                for (a, b) in found.iter().zip(expected) {
                    let same = if b.is_finite() { (a - b).abs() <= 1e-6 * b.abs() } else { !a.is_finite() };
                    prop_assert!(same, "{form}: {a} is not {b}");
                }
            }
        }
    }

    #[test]
    fn fast_products_equal_their_definition(rows in 1usize..40, groups in 1usize..4, tokens in 1usize..30, seed in any::<u64>()) {
        for form in packable() {
            let columns = groups * form.block_size();
            let packed = Packed::new(form, &random_blocks(form, rows, columns, seed), rows, columns).unwrap();
            let x = numbers(tokens * columns, seed ^ 1);
            for level in Level::available() {
                let (fast, plain) = both(level, &packed, &x);
                for (a, b) in fast.iter().zip(&plain) {
                    prop_assert!((a - b).abs() < 1e-4 * (columns as f32).sqrt(), "{form} {level:?}: {a} is not {b}");
                }
            }
        }
    }

    #[test]
    fn rounding_keeps_what_its_bits_can_hold(blocks in 1usize..5, tokens in 1usize..5, seed in any::<u64>()) {
        let columns = blocks * BLOCK;
        let x: Vec<f32> = numbers(tokens * columns, seed).iter().map(|v| v * 9.0).collect();
        let mut room = Activations::default();
        let rounded = room.round(&x, columns);
        for (i, block) in x.chunks_exact(BLOCK).enumerate() {
            let largest = block.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (j, v) in block.iter().enumerate() {
                let at = i * BLOCK + j;
                let found = rounded.value(at / columns, at % columns);
                prop_assert!((found - f64::from(*v)).abs() <= f64::from(largest) / 127.0 * 0.51);
            }
        }
    }
}

#[test]
fn extreme_codes_do_not_overflow() {
    // All codes and all activations at their largest: the case that narrow sums are cut for.
    for form in packable() {
        for fill in [0xffu8, 0] {
            let columns = 256;
            let bytes = vec![fill; form.bytes(&[16, columns]).unwrap() as usize];
            let mut packed = Packed::new(form, &bytes, 16, columns).unwrap();
            // The scales would be no numbers: set each header's to one.
            let layout = packed.layout;
            for group in packed.data.chunks_exact_mut(layout.group()) {
                for scale in group[..layout.header()].chunks_exact_mut(2) {
                    scale.copy_from_slice(&f16::ONE.to_le_bytes());
                }
            }
            for level in Level::available() {
                for sign in [1.0, -1.0] {
                    let (fast, plain) = both(level, &packed, &vec![sign; 5 * columns]);
                    for (a, b) in fast.iter().zip(&plain) {
                        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{form} {level:?}: {a} is not {b}");
                    }
                }
            }
        }
    }
}

#[test]
fn an_activation_that_is_no_number_is_not_rounded_away() {
    for encoding in [Encoding::Q8_0, Encoding::Q4_0] {
        let form = Representation::Blocked(encoding);
        let packed = Packed::new(form, &random_blocks(form, 8, 64, 1), 8, 64).unwrap();
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = vec![1f32; 64];
            x[40] = bad;
            let mut y = vec![0f32; 8];
            packed.linear(&x, &mut y);
            assert!(y.iter().all(|y| y.is_nan()), "{form}: {y:?}");
        }
    }
}

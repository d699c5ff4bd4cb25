use super::*;
use crate::representation::BLOCKED;
use crate::stored::Stored;
use proptest::prelude::*;

fn packable() -> impl Iterator<Item = Encoding> {
    BLOCKED.into_iter().filter(|e| Layout::of(*e).is_some())
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

/// Any bytes are a block; those of the scales are kept finite.
fn random_blocks(encoding: Encoding, rows: usize, columns: usize, seed: u64) -> Vec<u8> {
    let stored = Stored::from_floats(encoding, &numbers(rows * columns, seed), rows, columns).unwrap();
    stored.raw().to_vec()
}

/// The fast product and the plain one.
fn both(packed: &Packed, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (rows, columns) = packed.shape();
    let len = x.len() / columns * rows;
    let (mut fast, mut plain) = (vec![f32::NAN; len], vec![f32::NAN; len]);
    packed.linear(x, &mut fast);
    let mut room = Activations::default();
    packed.linear_plain(room.round(packed.layout, x, columns), &mut plain);
    (fast, plain)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn packing_loses_nothing_and_decodes_as_ggml_does(rows in 1usize..20, groups in 1usize..4, seed in any::<u64>()) {
        for encoding in packable() {
            let columns = groups * encoding.block_size();
            let bytes = random_blocks(encoding, rows, columns, seed);
            let packed = Packed::new(encoding, &bytes, rows, columns);
            prop_assert!(packed.unpack() == bytes, "{}", encoding.name());
            let mut expected = vec![0f32; rows * columns];
            Stored::from_bytes(encoding, &bytes, rows, columns).unwrap().dequantize(0..rows, &mut expected);
            let mut found = vec![0f32; columns];
            for (row, expected) in expected.chunks_exact(columns).enumerate() {
                packed.decode_row(row, &mut found);
                for (a, b) in found.iter().zip(expected) {
                    prop_assert!((a - b).abs() <= 1e-6 * b.abs(), "{}: {a} is not {b}", encoding.name());
                }
            }
        }
    }

    #[test]
    fn fast_products_equal_their_definition(rows in 1usize..20, groups in 1usize..4, tokens in 1usize..11, seed in any::<u64>()) {
        prop_assume!(available());
        for encoding in packable() {
            let columns = groups * encoding.block_size();
            let packed = Packed::new(encoding, &random_blocks(encoding, rows, columns, seed), rows, columns);
            let x = numbers(tokens * columns, seed ^ 1);
            let (fast, plain) = both(&packed, &x);
            for (a, b) in fast.iter().zip(&plain) {
                prop_assert!((a - b).abs() < 1e-4 * (columns as f32).sqrt(), "{}: {a} is not {b}", encoding.name());
            }
        }
    }

    #[test]
    fn rounding_keeps_what_its_bits_can_hold(blocks in 1usize..5, tokens in 1usize..5, seed in any::<u64>()) {
        let columns = blocks * BLOCK;
        let x: Vec<f32> = numbers(tokens * columns, seed).iter().map(|v| v * 9.0).collect();
        for (encoding, codes) in [(Encoding::Q8_0, 32_767.0), (Encoding::Q4_0, 127.0)] {
            let mut room = Activations::default();
            let rounded = room.round(Layout::of(encoding).unwrap(), &x, columns);
            for (i, block) in x.chunks_exact(BLOCK).enumerate() {
                let largest = block.iter().fold(0f32, |m, v| m.max(v.abs()));
                for (j, v) in block.iter().enumerate() {
                    let at = i * BLOCK + j;
                    let found = rounded.value(at / columns, at % columns);
                    prop_assert!((found - f64::from(*v)).abs() <= f64::from(largest) / codes * 0.51);
                }
            }
        }
    }
}

#[test]
fn extreme_codes_do_not_overflow() {
    // All codes and all activations at their largest: the case that sums in 16 bits are cut for.
    if !available() {
        return;
    }
    for encoding in packable() {
        let columns = 256;
        let bytes = vec![0xffu8; encoding.bytes_of(&[8, columns]).unwrap()];
        let mut packed = Packed::new(encoding, &bytes, 8, columns);
        // The scales would be no numbers: set each header's to one.
        let layout = packed.layout;
        for group in packed.data.chunks_exact_mut(layout.group()) {
            for scale in group[..layout.header()].chunks_exact_mut(2) {
                scale.copy_from_slice(&f16::ONE.to_le_bytes());
            }
        }
        for sign in [1.0, -1.0] {
            let (fast, plain) = both(&packed, &vec![sign; 5 * columns]);
            for (a, b) in fast.iter().zip(&plain) {
                assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{}: {a} is not {b}", encoding.name());
            }
        }
    }
}

#[test]
fn an_activation_that_is_no_number_is_not_rounded_away() {
    if !available() {
        return;
    }
    for encoding in [Encoding::Q8_0, Encoding::Q4_0] {
        let packed = Packed::new(encoding, &random_blocks(encoding, 8, 64, 1), 8, 64);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = vec![1f32; 64];
            x[40] = bad;
            let mut y = vec![0f32; 8];
            packed.linear(&x, &mut y);
            assert!(y.iter().all(|y| y.is_nan()), "{}: {y:?}", encoding.name());
        }
    }
}

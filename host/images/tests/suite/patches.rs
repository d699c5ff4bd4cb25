//! Patches and their numbers are those of transformers' slow image processors.

use crate::{fixtures, picture};
use aehost_images::{Image, ImageError, Normalisation};

#[allow(clippy::excessive_precision, reason = "digits as in the models' files")]
const CLIP: Normalisation =
    Normalisation { mean: [0.48145466, 0.4578275, 0.40821073], deviation: [0.26862954, 0.26130258, 0.27577711] };
const HALF: Normalisation = Normalisation { mean: [0.5; 3], deviation: [0.5; 3] };

fn check(name: &str, source: &Image, patch: u32, block: u32, by: &Normalisation) {
    let bytes = std::fs::read(fixtures("patches").join(format!("{name}.f32"))).unwrap();
    let expected: Vec<f32> = bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
    let found = source.patches(patch, block, by).unwrap();
    assert_eq!(found.len(), source.pixels().len());
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() <= 1e-6, "{name}: {found} at {at}, not {expected}");
    }
}

/// 24 x 16 pixels of noise.
fn noise() -> Image {
    picture(&fixtures("patches/picture.png"))
}

#[test]
fn siglip() {
    check("siglip-4", &noise(), 4, 1, &CLIP);
    check("siglip-8", &noise(), 8, 1, &CLIP);
}

#[test]
fn idefics() {
    check("idefics-2", &noise().cropped(0, 0, 16, 16, [0; 3]), 2, 1, &HALF);
}

#[test]
fn blocks_of_qwen() {
    check("qwen-4-2", &noise(), 4, 2, &CLIP);
    check("qwen-2-4", &noise(), 2, 4, &CLIP);
}

#[test]
fn sides_must_be_multiples() {
    let source = noise();
    // 24 x 16: one side, the other, both, nothing, and more than a number holds.
    for (patch, block) in [(12, 1), (16, 1), (8, 2), (4, 4), (7, 1), (0, 1), (4, 0), (1 << 16, 1 << 16)] {
        let error = source.patches(patch, block, &HALF).unwrap_err();
        assert!(matches!(error, ImageError::Sides { width: 24, height: 16, .. }), "{patch}, {block}: {error}");
    }
    let message = source.patches(8, 2, &HALF).unwrap_err().to_string();
    assert!(message.contains("24 x 16") && message.contains("resize to multiples"), "{message}");
}

#[test]
fn numbers_must_normalise() {
    let source = noise();
    for (mean, deviation) in [(0.5, 0.0), (0.5, -1.0), (0.5, f32::NAN), (f32::INFINITY, 1.0)] {
        let by = Normalisation { mean: [0.5, 0.5, mean], deviation: [1.0, 1.0, deviation] };
        let error = source.patches(4, 1, &by).unwrap_err();
        assert!(matches!(error, ImageError::Normalisation { .. }), "{error}");
    }
}

//! The scales of input channels (AWQ, section 3.2; the normalisation is that of the authors' `auto_scale.py`).

/// Exponents tried: 0, 1/20, ..., 19/20.
const EXPONENTS: u16 = 20;
/// No scale before normalisation is smaller.
const SMALLEST: f32 = 1e-4;

/// The scales to try for channels of these mean sizes: their powers. The first are all 1.
pub fn candidates(sizes: &[f32]) -> Vec<Vec<f32>> {
    (0..EXPONENTS).map(|i| scales(sizes, f32::from(i) / f32::from(EXPONENTS))).collect()
}

/// size ^ exponent, such that the largest scale and the smallest are each other's reciprocals.
pub fn scales(sizes: &[f32], exponent: f32) -> Vec<f32> {
    let powers: Vec<f32> = sizes.iter().map(|size| size.powf(exponent).max(SMALLEST)).collect();
    let (low, high) = powers.iter().fold((f32::INFINITY, 0f32), |(l, h), s| (l.min(*s), h.max(*s)));
    let middle = (low * high).sqrt();
    powers.iter().map(|power| power / middle).collect()
}

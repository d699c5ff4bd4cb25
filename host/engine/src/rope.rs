//! Rotary position embedding (arXiv 2104.09864) and its scalings: linear, llama3 (Llama 3.1's frequency bands), and yarn
//! (arXiv 2309.00071), with the formulas of transformers' `modeling_rope_utils`.

use crate::EngineError;
use aehost_graph::Spec;
use std::f64::consts::PI;

/// Which elements form a rotated pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairing {
    /// i and i + dims / 2 (Hugging Face).
    Half,
    /// 2i and 2i + 1 (GGUF's llama).
    Interleaved,
}

/// A rope op made ready: one angular frequency for each pair.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    pub head_dim: usize,
    pub dims: usize,
    pub pairing: Pairing,
    frequencies: Vec<f64>,
    /// Factor on cosine and sine (yarn's and longrope's attention factor).
    magnitude: f64,
}

/// Cosines and sines `[tokens, dims / 2]` of the positions of a step.
pub(crate) struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    /// From the op's attributes and the optional per-pair divisors.
    pub fn new(spec: &Spec, divisors: Option<&[f32]>) -> Result<Self, EngineError> {
        let head_dim = spec.integer("head-dim").unwrap_or(0) as usize;
        let dims = spec.integer("dims").map_or(head_dim, |d| d as usize);
        let base = spec.real("base").unwrap_or(10_000.0);
        let needed = |name: &str| {
            spec.real(name).filter(|v| *v > 0.0).ok_or_else(|| {
                let scaling = spec.text("scaling").unwrap_or("none");
                EngineError::Invalid(format!(
                    "node `{}`: rope scaling {scaling} needs a positive attribute `{name}`",
                    spec.name
                ))
            })
        };
        let mut frequencies: Vec<f64> = (0..dims / 2).map(|i| base.powf(-2.0 * i as f64 / dims as f64)).collect();
        let mut magnitude = 1.0;
        match spec.text("scaling").unwrap_or("none") {
            "linear" => {
                let factor = needed("factor")?;
                frequencies.iter_mut().for_each(|f| *f /= factor);
            }
            "llama3" => {
                let (factor, original) = (needed("factor")?, needed("original-context")?);
                let (low, high) = (needed("low-frequency-factor")?, needed("high-frequency-factor")?);
                for f in &mut frequencies {
                    let wavelength = 2.0 * PI / *f;
                    *f = if wavelength < original / high {
                        *f
                    } else if wavelength > original / low {
                        *f / factor
                    } else {
                        let smooth = (original / wavelength - low) / (high - low);
                        (1.0 - smooth) * *f / factor + smooth * *f
                    };
                }
            }
            "yarn" => {
                let (factor, original) = (needed("factor")?, needed("original-context")?);
                let fast = spec.real("beta-fast").unwrap_or(32.0);
                let slow = spec.real("beta-slow").unwrap_or(1.0);
                let dimension =
                    |rotations: f64| dims as f64 * (original / (rotations * 2.0 * PI)).ln() / (2.0 * base.ln());
                let low = dimension(fast).floor().max(0.0);
                let high = dimension(slow).ceil().min(dims as f64 - 1.0);
                for (i, f) in frequencies.iter_mut().enumerate() {
                    let ramp = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                    *f = *f / factor * ramp + *f * (1.0 - ramp);
                }
                magnitude = if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
            }
            _ => {}
        }
        if let Some(factor) = spec.real("attention-factor") {
            magnitude = factor;
        }
        if let Some(divisors) = spec.attributes.get("divisors").and_then(aehost_common::Value::as_reals) {
            frequencies.iter_mut().zip(&divisors).for_each(|(f, d)| *f /= d);
        }
        if let Some(divisors) = divisors {
            frequencies.iter_mut().zip(divisors).for_each(|(f, d)| *f /= f64::from(*d));
        }
        let pairing = if spec.text("pairing") == Some("interleaved") { Pairing::Interleaved } else { Pairing::Half };
        Ok(Self { head_dim, dims, pairing, frequencies, magnitude })
    }

    /// The angles of a step, shared by all layers with the same rope.
    pub fn angles(&self, positions: &[u32]) -> Angles {
        let n = positions.len() * self.frequencies.len();
        let (mut cos, mut sin) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for position in positions {
            for f in &self.frequencies {
                let (s, c) = (f64::from(*position) * f).sin_cos();
                cos.push((c * self.magnitude) as f32);
                sin.push((s * self.magnitude) as f32);
            }
        }
        Angles { cos, sin }
    }

    /// Rotates every head of every token in place; `x` is `[tokens, heads * head_dim]`, from token `first` of the step on.
    pub fn rotate(&self, x: &mut [f32], width: usize, angles: &Angles, first: usize) {
        self.turn(x, width, angles, first, 1.0);
    }

    /// The same by the opposite angles: what the gradient of a rotation's result makes that of its input.
    pub fn rotate_back(&self, x: &mut [f32], width: usize, angles: &Angles, first: usize) {
        self.turn(x, width, angles, first, -1.0);
    }

    #[inline(always)]
    fn turn(&self, x: &mut [f32], width: usize, angles: &Angles, first: usize, sign: f32) {
        let pairs = self.dims / 2;
        for (row, token) in x.chunks_exact_mut(width).zip(first..) {
            let cos = &angles.cos[token * pairs..(token + 1) * pairs];
            let sin = &angles.sin[token * pairs..(token + 1) * pairs];
            for head in row.chunks_exact_mut(self.head_dim) {
                match self.pairing {
                    Pairing::Half => {
                        let (first, second) = head[..self.dims].split_at_mut(pairs);
                        for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                            let s = sign * s;
                            (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
                        }
                    }
                    Pairing::Interleaved => {
                        for ((pair, c), s) in head[..self.dims].chunks_exact_mut(2).zip(cos).zip(sin) {
                            let s = sign * s;
                            (pair[0], pair[1]) = (pair[0] * c - pair[1] * s, pair[0] * s + pair[1] * c);
                        }
                    }
                }
            }
        }
    }
}

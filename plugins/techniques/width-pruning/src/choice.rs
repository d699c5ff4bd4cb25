//! Which units go: plain numbers.

/// What is known of a column: the moments of what it multiplies on calibration text, and its own length.
pub struct Columns {
    /// Mean of the activation.
    pub mean: Vec<f32>,
    /// Mean square of the activation.
    pub second: Vec<f32>,
    /// Squared length of the weight's column.
    pub length: Vec<f32>,
}

impl Columns {
    /// The squared error of the output when a column goes; what remains of it, where its mean is made good by a bias.
    pub fn errors(&self, compensated: bool) -> Vec<f64> {
        let error = |((mean, second), length): ((&f32, &f32), &f32)| {
            let (mean, second) = (f64::from(*mean), f64::from(*second));
            let rest = if compensated { second - mean * mean } else { second };
            rest.max(0.0) * f64::from(*length)
        };
        self.mean.iter().zip(&self.second).zip(&self.length).map(error).collect()
    }
}

/// Widths are a multiple of this where they were before, so that groups of a quantiser fit.
fn step(width: usize) -> usize {
    [64, 32].into_iter().find(|step| width.is_multiple_of(*step) && width >= 4 * step).unwrap_or(1)
}

/// The width after a share is removed, to the nearest step; one step at least.
fn reduced(width: usize, share: f64) -> usize {
    let step = step(width);
    let kept = (width as f64 * (1.0 - share) / step as f64).round() as usize;
    (kept.max(1) * step).min(width)
}

/// Widths that layers keep: all the same share.
pub fn uniform(errors: &[Vec<f64>], share: f64) -> Vec<usize> {
    errors.iter().map(|layer| reduced(layer.len(), share)).collect()
}

/// Widths that layers keep when their errors, brought to mean 0 and deviation 1 in each layer, share one threshold.
pub fn adaptive(errors: &[Vec<f64>], share: f64) -> Vec<usize> {
    let standard = |layer: &Vec<f64>| {
        let n = layer.len() as f64;
        let mean = layer.iter().sum::<f64>() / n;
        let deviation = (layer.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / n).sqrt().max(f64::MIN_POSITIVE);
        layer.iter().map(|e| (e - mean) / deviation).collect::<Vec<f64>>()
    };
    let scores: Vec<Vec<f64>> = errors.iter().map(standard).collect();
    let mut all = scores.concat();
    all.sort_by(|a, b| b.total_cmp(a));
    let count = ((all.len() as f64 * (1.0 - share)).round() as usize).max(1);
    // None where there are no layers.
    let Some(threshold) = all.get(count - 1).copied() else { return Vec::new() };
    let removed = |layer: &Vec<f64>| layer.iter().filter(|s| **s < threshold).count() as f64 / layer.len() as f64;
    scores.iter().map(|layer| reduced(layer.len(), removed(layer))).collect()
}

/// Sums of neighbours.
pub fn sums(errors: &[f64], size: usize) -> Vec<f64> {
    errors.chunks(size).map(|unit| unit.iter().sum()).collect()
}

/// The elements of some units of `size`.
pub fn elements(units: &[usize], size: usize) -> Vec<usize> {
    units.iter().flat_map(|unit| unit * size..(unit + 1) * size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::technique::largest;
    use serde_json::Value;

    fn reference() -> (Vec<Columns>, Value) {
        let all: Value = serde_json::from_str(include_str!("reference.json")).unwrap();
        let numbers = |value: &Value| value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        let layer = |layer: &Value| Columns {
            mean: numbers(&layer["mean"]),
            second: numbers(&layer["second"]),
            length: numbers(&layer["length"]),
        };
        (all["layers"].as_array().unwrap().iter().map(layer).collect(), all)
    }

    fn integers(value: &Value) -> Vec<u64> {
        value.as_array().unwrap().iter().map(|x| x.as_u64().unwrap()).collect()
    }

    #[test]
    fn errors_are_those_of_numpys_pruned_outputs() {
        let (layers, reference) = reference();
        for (name, compensated) in [("compensated", true), ("plain", false)] {
            for (layer, expected) in layers.iter().zip(reference[name].as_array().unwrap()) {
                for (found, expected) in layer.errors(compensated).iter().zip(expected.as_array().unwrap()) {
                    let expected = expected.as_f64().unwrap();
                    assert!((found - expected).abs() < 1e-3 * expected.max(0.1), "{found} is not {expected}");
                }
            }
        }
    }

    #[test]
    fn widths_and_kept_neurons_are_numpys() {
        let (layers, reference) = reference();
        let errors: Vec<Vec<f64>> = layers.iter().map(|layer| layer.errors(true)).collect();
        let widths: Vec<u64> = adaptive(&errors, 0.4).into_iter().map(|w| w as u64).collect();
        assert_eq!(widths, integers(&reference["widths"]));
        let kept: Vec<u64> = largest(&errors[0], 10).into_iter().map(|i| i as u64).collect();
        assert_eq!(kept, integers(&reference["kept"]));
    }

    #[test]
    fn widths_stay_multiples_that_quantisers_divide() {
        assert_eq!(uniform(&[vec![1.0; 1536]], 0.2), [1216]);
        assert_eq!(uniform(&[vec![1.0; 160]], 0.2), [128]);
        assert_eq!(uniform(&[vec![1.0; 1536]], 0.0), [1536]);
        assert_eq!(uniform(&[vec![1.0; 30]], 0.5), [15]);
        assert_eq!(adaptive(&[vec![1.0; 30]], 0.0), [30]);
        assert_eq!(adaptive(&[], 0.0), [0; 0], "no network is touched where only heads go");
    }

    #[test]
    fn heads_are_units_of_their_elements() {
        assert_eq!(sums(&[1.0, 2.0, 3.0, 4.0], 2), [3.0, 7.0]);
        assert_eq!(elements(&[0, 2], 2), [0, 1, 4, 5]);
    }
}

//! What a matrix adds to the model's divergence, from what few passes measure. Divergences of matrices that are rounded together
//! add up (HAWQ-V2, arXiv:1911.03852, assumes the same of its traces), so measuring whole layers and whole roles gives the sums
//! of a table of layers by roles, and iterative proportional fitting (Deming and Stephan, 1940) the table. Layers whose roles
//! are unlike those of all others, the first and the last, are measured matrix by matrix.

use std::collections::BTreeMap;

/// Rounds of fitting; a few suffice.
const ROUNDS: usize = 30;
/// The least that a measured divergence counts for, as a share of the mean: a small one is mostly noise.
const FLOOR: f64 = 1e-3;

/// Where a matrix stands: its layer and its role.
pub type Place = (u32, String);

/// What is rounded to be measured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Layer(u32),
    Role(String),
    Matrix(usize),
}

impl Part {
    /// Whether a matrix belongs to it; roles are those of inner layers.
    pub fn holds(&self, index: usize, place: &Place, inner: bool) -> bool {
        match self {
            Part::Layer(layer) => place.0 == *layer,
            Part::Role(role) => place.1 == *role && inner,
            Part::Matrix(one) => *one == index,
        }
    }
}

/// Which matrices are measured with others.
pub fn inner(places: &[Place]) -> Vec<bool> {
    let first = places.iter().map(|place| place.0).min();
    let last = places.iter().map(|place| place.0).max();
    places.iter().map(|place| Some(place.0) != first && Some(place.0) != last).collect()
}

/// What is to be measured, each once.
pub fn parts(places: &[Place]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (index, (place, inner)) in places.iter().zip(inner(places)).enumerate() {
        match inner {
            true => parts.extend([Part::Layer(place.0), Part::Role(place.1.clone())]),
            false => parts.push(Part::Matrix(index)),
        }
    }
    parts.sort();
    parts.dedup();
    parts
}

/// The divergence of each matrix alone; `errors` of each say how a sum is shared at first.
pub fn shares(places: &[Place], errors: &[f64], measured: &BTreeMap<Part, f64>) -> Vec<f64> {
    let floor = FLOOR * measured.values().sum::<f64>() / measured.len().max(1) as f64;
    let target = |part: &Part| measured[part].max(floor);
    let inner = inner(places);
    let mut shares = errors.to_vec();
    let scale = |shares: &mut Vec<f64>, part: &Part| {
        let held = |i: &usize| part.holds(*i, &places[*i], inner[*i]);
        let sum: f64 = (0..places.len()).filter(held).map(|i| shares[i]).sum();
        if sum > 0.0 {
            (0..places.len()).filter(held).for_each(|i| shares[i] *= target(part) / sum);
        }
    };
    // Layers last: their sum is what additivity is about, and a role's is of many layers.
    let (roles, others): (Vec<&Part>, Vec<&Part>) = measured.keys().partition(|part| matches!(part, Part::Role(_)));
    for _ in 0..ROUNDS {
        roles.iter().chain(&others).for_each(|part| scale(&mut shares, part));
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [&str; 3] = ["query", "up", "down"];

    fn places() -> Vec<Place> {
        (0..5).flat_map(|layer| ROLES.map(|role| (layer, role.to_owned()))).collect()
    }

    fn measured(places: &[Place], truth: &[f64]) -> BTreeMap<Part, f64> {
        let inner = inner(places);
        let sum =
            |part: &Part| (0..places.len()).filter(|i| part.holds(*i, &places[*i], inner[*i])).map(|i| truth[i]).sum();
        parts(places).into_iter().map(|part| (part.clone(), sum(&part))).collect()
    }

    #[test]
    fn a_table_of_layers_by_roles_is_found_from_its_sums() {
        let places = places();
        assert_eq!(parts(&places).len(), 3 + 3 + 2 * 3, "three layers, their roles, and the matrices of two others");
        let errors: Vec<f64> = (0..15).map(|i| 0.01 + 0.003 * f64::from(i * 7 % 11)).collect();
        let (layers, roles) = ([9.0, 1.0, 2.0, 0.5, 30.0], [0.1, 1.0, 4.0]);
        let truth: Vec<f64> = (0..15).map(|i| errors[i] * layers[i / 3] * roles[i % 3]).collect();
        let found = shares(&places, &errors, &measured(&places, &truth));
        for (found, truth) in found.iter().zip(&truth) {
            assert!((found / truth - 1.0).abs() < 1e-6, "{found} is not {truth}");
        }
    }

    #[test]
    fn the_first_and_the_last_layer_are_as_measured_whatever_the_others_are_like() {
        let places = places();
        let truth: Vec<f64> = (0..15).map(|i| f64::from(i * 5 % 13) + 1.0).collect();
        let found = shares(&places, &[1.0; 15], &measured(&places, &truth));
        for i in [0, 1, 2, 12, 13, 14] {
            assert!((found[i] / truth[i] - 1.0).abs() < 1e-9);
        }
        let layer = |of: &[f64]| of[3..6].iter().sum::<f64>();
        assert!((layer(&found) / layer(&truth) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn divergences_that_noise_made_negative_leave_positive_shares() {
        let places = places();
        let measured = parts(&places).into_iter().zip((0..).map(|i| if i == 0 { -1e-4 } else { 0.1 })).collect();
        assert!(shares(&places, &[1.0; 15], &measured).iter().all(|share| *share > 0.0));
    }
}

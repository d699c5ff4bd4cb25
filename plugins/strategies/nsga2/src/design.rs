//! The initial design: what everyone would ask first, and then points far from one another.

use aehost_sdk::strategy::{Configuration, Space};

/// Random configurations among which the one furthest from all others is taken.
pub const CANDIDATES: usize = 48;

/// Each technique alone and all of them together, with default settings.
pub fn landmarks(space: &Space) -> Vec<(Configuration, String)> {
    let alone = space.techniques().iter().map(|technique| {
        let why = format!("initial design: {} alone", technique.technique);
        (vec![space.choice(technique, |p| p.default.clone())], why)
    });
    let together: Configuration =
        space.techniques().iter().map(|technique| space.choice(technique, |p| p.default.clone())).collect();
    let together = (together, "initial design: every technique together".to_owned());
    alone.chain(std::iter::once(together)).filter(|(configuration, _)| space.check(configuration).is_ok()).collect()
}

/// The candidate with the largest distance to the nearest of `taken`, the first of equals.
pub fn furthest(space: &Space, taken: &[Configuration], candidates: Vec<Configuration>) -> Option<Configuration> {
    let mut best: Option<(f64, Configuration)> = None;
    for candidate in candidates {
        let nearest = taken.iter().map(|other| space.distance(&candidate, other)).fold(f64::INFINITY, f64::min);
        if best.as_ref().is_none_or(|(distance, _)| nearest > *distance) {
            best = Some((nearest, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

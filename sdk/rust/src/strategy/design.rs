//! The initial design: what everyone would ask first, and then points far from one another.

use super::{Configuration, Space, TechniqueSpace};

/// Each technique alone and, where they do not exclude one another, all of them together, with default settings. Stages take
/// turns, the last one first: where the design ends early, each has had its chance.
pub fn landmarks(space: &Space) -> Vec<(Configuration, String)> {
    let mut alone: Vec<(usize, &TechniqueSpace)> = Vec::new();
    for technique in space.techniques() {
        alone.push((alone.iter().filter(|(_, other)| other.stage == technique.stage).count(), technique));
    }
    alone.sort_by_key(|(turn, technique)| (*turn, std::cmp::Reverse(technique.stage as u8)));
    let alone = alone.into_iter().map(|(_, technique)| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::{Stage, testing::technique};

    #[test]
    fn stages_take_turns_from_the_last() {
        let mut techniques = ["prune", "pool", "slice", "round", "code"].map(|name| technique(name, [])).to_vec();
        techniques[..3].iter_mut().for_each(|t| t.stage = Stage::Architecture);
        techniques[3..].iter_mut().for_each(|t| t.provides.push("quantised-weights".into()));
        let space = Space::new(techniques);
        let on = |(configuration, _): (Configuration, String)| {
            configuration.into_iter().map(|choice| choice.technique).collect::<Vec<_>>().join(" ")
        };
        let design: Vec<String> = landmarks(&space).into_iter().map(on).collect();
        assert_eq!(
            design,
            ["round", "prune", "code", "pool", "slice"],
            "what excludes one another is not tried together"
        );
    }
}

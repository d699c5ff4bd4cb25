//! Configurations as points of a space of numbers: what surrogates and low-discrepancy sequences see.
//!
//! Each technique has a feature that tells whether it is on, and its parameters follow: numbers, flags and ordered choices
//! as their place on the domain's own scale (logarithmic where it is, the rank of an ordered choice), unordered choices as
//! one feature a value. A parameter that is not active has all its features at 0, which is the middle of a scale, and where
//! it depends on others a feature tells whether it is active.

use super::{Choice, Configuration, Space, TechniqueSpace};
use crate::{Domain, Parameter};

/// What a feature tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A technique is on, or a conditional parameter active (1), or not (0).
    Indicator,
    /// An unordered choice has this value (1) or another (0).
    Level,
    /// Place on a scale, from -1/2 to 1/2; 0 also where there is none.
    Scale,
}

/// One number of an encoded configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// What it tells.
    pub kind: Kind,
    /// Index of its technique in the space.
    pub technique: usize,
}

/// A fixed translation of the configurations of one space.
#[derive(Debug, Clone)]
pub struct Encoding {
    techniques: Vec<TechniqueSpace>,
    features: Vec<Feature>,
    /// The first feature of each technique.
    starts: Vec<usize>,
}

impl Encoding {
    /// The encoding of a space; its features are in the order of techniques and parameters.
    pub fn new(space: &Space) -> Self {
        let (mut features, mut starts) = (Vec::new(), Vec::new());
        for (technique, declared) in space.techniques().iter().enumerate() {
            starts.push(features.len());
            features.push(Feature { kind: Kind::Indicator, technique });
            for parameter in &declared.parameters {
                if !parameter.active_when.is_empty() {
                    features.push(Feature { kind: Kind::Indicator, technique });
                }
                let (kind, count) = shape(parameter);
                features.extend((0..count).map(|_| Feature { kind, technique }));
            }
        }
        Self { techniques: space.techniques().to_vec(), features, starts }
    }

    /// What each number tells.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The features that are not 0, in order.
    pub fn encode(&self, configuration: &[Choice]) -> Vec<(usize, f64)> {
        let mut encoded = Vec::new();
        for (technique, start) in self.techniques.iter().zip(&self.starts) {
            let Some(choice) = configuration.iter().find(|c| c.technique == technique.technique) else { continue };
            encoded.push((*start, 1.0));
            let mut at = start + 1;
            // Settings are in the order of parameters, as the space makes them.
            let mut settings = choice.settings.iter().peekable();
            for parameter in &technique.parameters {
                let (kind, count) = shape(parameter);
                let conditional = !parameter.active_when.is_empty();
                if let Some(setting) = settings.next_if(|s| s.name == parameter.name) {
                    if conditional {
                        encoded.push((at, 1.0));
                    }
                    let first = at + usize::from(conditional);
                    match &parameter.domain {
                        Domain::Choice(c) if kind == Kind::Level => {
                            let level = c.values.iter().position(|v| *v == setting.value).unwrap_or(0);
                            encoded.push((first + level, 1.0));
                        }
                        domain => encoded.extend((count > 0).then(|| (first, domain.position(&setting.value) - 0.5))),
                    }
                }
                at += usize::from(conditional) + count;
            }
        }
        encoded
    }

    /// A configuration as all its numbers.
    pub fn dense(&self, configuration: &[Choice]) -> Vec<f64> {
        let mut row = vec![0.0; self.features.len()];
        self.encode(configuration).into_iter().for_each(|(feature, value)| row[feature] = value);
        row
    }

    /// How many coordinates of [`Encoding::decode`] there are: one a technique, one a parameter.
    pub fn coordinates(&self) -> usize {
        self.techniques.iter().map(|t| 1 + t.parameters.len()).sum()
    }

    /// The configuration at a point of the unit cube: a technique is on where its coordinate is below `on`, each parameter is
    /// as far along its domain as its own. It may break conflicts and requirements.
    pub fn decode(&self, space: &Space, point: &[f64], on: f64) -> Configuration {
        let mut configuration = Configuration::new();
        let mut rest = point;
        for technique in &self.techniques {
            let (own, others) = rest.split_at(1 + technique.parameters.len());
            rest = others;
            if own[0] < on {
                let at = |p: &Parameter| technique.parameters.iter().position(|other| other.name == p.name);
                configuration.push(space.choice(technique, |p| p.domain.at(at(p).map_or(0.5, |i| own[1 + i]))));
            }
        }
        configuration
    }
}

/// The kind and number of a parameter's features, the indicator apart; what has one value only needs none.
fn shape(parameter: &Parameter) -> (Kind, usize) {
    match &parameter.domain {
        domain if domain.size().is_some_and(|size| size <= 1) => (Kind::Scale, 0),
        Domain::Choice(c) if !c.ordered && c.values.len() > 2 => (Kind::Level, c.values.len()),
        _ => (Kind::Scale, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::testing::{mixed_problem, technique};
    use crate::{Random, choice, flag, integer, setting};

    fn cache() -> Space {
        Space::new(vec![
            technique(
                "cache",
                [
                    choice("policy", "", ["full", "window", "scored"]).into(),
                    choice("sinks", "", [0i64, 4, 16]).ordered().when("policy", ["window"]).into(),
                    choice("only", "", ["this"]).into(),
                    integer("group", "", 1..=16).log().into(),
                ],
            ),
            technique("eager", [flag("hard", "").into()]),
        ])
    }

    #[test]
    fn what_is_off_or_inactive_is_0_and_the_rest_has_its_place() {
        let encoding = Encoding::new(&cache());
        let on = |settings: Vec<crate::Setting>| vec![Choice { technique: "cache".into(), settings }];
        assert_eq!(encoding.dense(&[]), [0.0; 9]);
        let full = on(vec![setting("policy", "full"), setting("only", "this"), setting("group", 16i64)]);
        assert_eq!(encoding.dense(&full), [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0]);
        let window = on(vec![
            setting("policy", "window"),
            setting("sinks", 0i64),
            setting("only", "this"),
            setting("group", 4i64),
        ]);
        assert_eq!(encoding.dense(&window), [1.0, 0.0, 1.0, 0.0, 1.0, -0.5, 0.0, 0.0, 0.0]);
        let kinds: Vec<Kind> = encoding.features().iter().map(|f| f.kind).collect();
        use Kind::{Indicator, Level, Scale};
        assert_eq!(kinds, [Indicator, Level, Level, Level, Indicator, Scale, Scale, Indicator, Scale]);
    }

    #[test]
    fn different_configurations_have_different_encodings() {
        let space = Space::new(mixed_problem(0).space);
        let encoding = Encoding::new(&space);
        let mut random = Random::new(5);
        let drawn: Vec<Configuration> = (0..200).map(|_| space.sample(&mut random)).collect();
        for a in &drawn {
            for b in &drawn {
                assert_eq!(space.key(a) == space.key(b), encoding.encode(a) == encoding.encode(b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_point_of_the_cube_is_a_configuration() {
        let space = cache();
        let encoding = Encoding::new(&space);
        assert_eq!(encoding.coordinates(), 7);
        assert!(encoding.decode(&space, &[0.9; 7], 0.5).is_empty());
        let decoded = encoding.decode(&space, &[0.1, 0.5, 0.99, 0.3, 0.0, 0.7, 0.5], 0.5);
        assert_eq!(space.key(&decoded), "cache(policy=\"window\";sinks=16;only=\"this\";group=1;)");
    }
}

//! Densities of configurations: how often each technique is on, and where its parameters lie when it is.

use aehost_sdk::strategy::{Choice, Configuration, Parameter, Random, Space, TechniqueSpace};
use aehost_sdk::{Domain, Value};

/// A density estimated from weighted configurations; every estimate counts one uniform configuration besides.
pub struct Parzen<'a> {
    space: &'a Space,
    configurations: Vec<(&'a Configuration, f64)>,
}

impl<'a> Parzen<'a> {
    /// Of these configurations with their weights.
    pub fn new(space: &'a Space, configurations: Vec<(&'a Configuration, f64)>) -> Self {
        Self { space, configurations }
    }

    /// The settings of a technique in those configurations where it is on.
    fn of<'b>(&'b self, technique: &'b str) -> impl Iterator<Item = (&'a Choice, f64)> + 'b {
        let find = move |configuration: &'a Configuration| configuration.iter().find(|c| c.technique == technique);
        self.configurations.iter().filter_map(move |(configuration, weight)| Some((find(configuration)?, *weight)))
    }

    fn on(&self, technique: &str) -> f64 {
        let all: f64 = self.configurations.iter().map(|(_, weight)| weight).sum();
        let on: f64 = self.of(technique).map(|(_, weight)| weight).sum();
        (on + self.space.share_on()) / (all + 1.0)
    }

    /// Where a parameter lies, by weight.
    fn values(&self, technique: &str, parameter: &Parameter) -> Vec<(&'a Value, f64)> {
        let value = |choice: &'a Choice| choice.settings.iter().find(|s| s.name == parameter.name).map(|s| &s.value);
        self.of(technique).filter_map(|(choice, weight)| Some((value(choice)?, weight))).collect()
    }

    /// A configuration drawn from the density, not yet lawful.
    pub fn draw(&self, random: &mut Random) -> Configuration {
        let mut drawn = Configuration::new();
        for technique in self.space.techniques() {
            if random.chance(self.on(&technique.technique)) {
                drawn.push(self.space.choice(technique, |parameter| self.draw_value(technique, parameter, random)));
            }
        }
        drawn
    }

    fn draw_value(&self, technique: &TechniqueSpace, parameter: &Parameter, random: &mut Random) -> Value {
        let values = self.values(&technique.technique, parameter);
        let mut left = random.unit() * (1.0 + values.iter().map(|(_, weight)| weight).sum::<f64>());
        for (value, weight) in &values {
            left -= weight;
            if left < 0.0 {
                return match unordered(&parameter.domain) {
                    true => (*value).clone(),
                    false => {
                        let away = bandwidth(values.len()) * random.normal();
                        parameter.domain.at(middle(&parameter.domain, value) + away)
                    }
                };
            }
        }
        parameter.domain.sample(random)
    }

    /// Logarithm of the density at a configuration.
    pub fn log(&self, configuration: &[Choice]) -> f64 {
        let mut sum = 0.0;
        for technique in self.space.techniques() {
            let on = self.on(&technique.technique).clamp(1e-6, 1.0 - 1e-6);
            let Some(choice) = configuration.iter().find(|c| c.technique == technique.technique) else {
                sum += (1.0 - on).ln();
                continue;
            };
            sum += on.ln();
            for setting in &choice.settings {
                if let Some(parameter) = technique.parameters.iter().find(|p| p.name == setting.name) {
                    sum += self.log_value(technique, parameter, &setting.value);
                }
            }
        }
        sum
    }

    fn log_value(&self, technique: &TechniqueSpace, parameter: &Parameter, value: &Value) -> f64 {
        let values = self.values(&technique.technique, parameter);
        let all: f64 = values.iter().map(|(_, weight)| weight).sum();
        let density = if unordered(&parameter.domain) {
            let alike: f64 = values.iter().filter(|(other, _)| *other == value).map(|(_, weight)| weight).sum();
            alike + 1.0 / parameter.domain.size().unwrap_or(1) as f64
        } else {
            let (at, width) = (middle(&parameter.domain, value), bandwidth(values.len()));
            let kernel = |other: &Value| {
                let away = (at - middle(&parameter.domain, other)) / width;
                (-0.5 * away * away).exp() / (width * std::f64::consts::TAU.sqrt())
            };
            values.iter().map(|(other, weight)| weight * kernel(other)).sum::<f64>() + 1.0
        };
        (density / (all + 1.0)).max(f64::MIN_POSITIVE).ln()
    }
}

fn unordered(domain: &Domain) -> bool {
    matches!(domain, Domain::Choice(c) if !c.ordered) || matches!(domain, Domain::Flag)
}

/// Where a member lies in [0, 1]; members of a closed list or a short range in the middle of their share.
fn middle(domain: &Domain, value: &Value) -> f64 {
    let position = domain.position(value);
    match (domain, domain.size()) {
        (Domain::Integer(range), _) if range.log => position,
        (Domain::Choice(_) | Domain::Integer(_), Some(size)) if size > 0 => {
            (position * (size - 1) as f64 + 0.5) / size as f64
        }
        _ => position,
    }
}

/// Width of a kernel, as a share of the range (Scott's rule on a uniform distribution).
fn bandwidth(count: usize) -> f64 {
    (0.3 * (count.max(1) as f64).powf(-0.2)).max(0.05)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::strategy::testing::mixed_problem;

    #[test]
    fn what_is_like_the_sample_is_denser_and_drawn_more_often() {
        let space = Space::new(mixed_problem(1).space);
        let mut random = Random::new(2);
        let sample: Vec<Configuration> =
            std::iter::repeat_with(|| space.sample(&mut random)).filter(|c| c.len() == 1).take(10).collect();
        let one = sample[0].clone();
        let parzen = Parzen::new(&space, vec![(&one, 20.0)]);
        let other = sample.iter().find(|c| c[0].technique != one[0].technique).unwrap();
        assert!(parzen.log(&one) > parzen.log(other) + 2.0);
        let alike =
            (0..200).filter(|_| parzen.draw(&mut random).iter().any(|c| c.technique == one[0].technique)).count();
        assert!(alike > 150, "{alike} of 200");
    }
}

//! The configurations that a problem allows, as data that a strategy can sample, vary, cross, compare and count. All
//! strategies share this: a configuration that comes out of here lies inside the space, honours conditions and conflicts,
//! and never is the baseline.

use crate::strategy::{Choice, Configuration, TechniqueSpace};
use crate::{Domain, Parameter, Random, Setting, Value};
use std::collections::HashSet;
use std::fmt::Write;

/// A problem's techniques, with what can be done to configurations of them.
#[derive(Debug, Clone)]
pub struct Space {
    techniques: Vec<TechniqueSpace>,
}

impl Parameter {
    /// Whether its conditions hold among the settings chosen before it.
    pub fn active(&self, settings: &[Setting]) -> bool {
        self.active_when.iter().all(|condition| {
            settings.iter().any(|s| s.name == condition.parameter && condition.values.contains(&s.value))
        })
    }
}

impl Domain {
    /// Whether `value` is a member.
    pub fn contains(&self, value: &Value) -> bool {
        match (self, value) {
            (Domain::Flag, Value::Flag(_)) => true,
            (Domain::Integer(r), Value::Integer(v)) => (r.min..=r.max).contains(v) && (v - r.min) % r.step == 0,
            (Domain::Real(r), Value::Real(v)) => (r.min..=r.max).contains(v),
            (Domain::Choice(c), value) => c.values.contains(value),
            _ => false,
        }
    }

    /// How many members there are; none for an interval of reals.
    pub fn size(&self) -> Option<u64> {
        match self {
            Domain::Flag => Some(2),
            Domain::Integer(r) => Some(((r.max - r.min) / r.step) as u64 + 1),
            Domain::Real(r) if r.min == r.max => Some(1),
            Domain::Real(_) => None,
            Domain::Choice(c) => Some(c.values.len() as u64),
        }
    }

    /// The member at a share `at` in [0, 1] of the way from the first to the last, on the domain's own scale; a real one has
    /// four digits.
    pub fn at(&self, at: f64) -> Value {
        let at = at.clamp(0.0, 1.0);
        let slot = |n: u64| ((at * n as f64) as u64).min(n - 1);
        match self {
            Domain::Flag => Value::Flag(at >= 0.5),
            Domain::Integer(r) => {
                let steps = (r.max - r.min) / r.step;
                let step = if r.log {
                    let value = (r.min as f64 * (r.max as f64 / r.min as f64).powf(at)).round() as i64;
                    ((value - r.min) as f64 / r.step as f64).round() as i64
                } else {
                    slot(steps as u64 + 1) as i64
                };
                Value::Integer(r.min + step.clamp(0, steps) * r.step)
            }
            Domain::Real(r) => {
                let value = match r.log {
                    true if (r.max / r.min).is_finite() => r.min * (r.max / r.min).powf(at),
                    true => (r.min.ln() + (r.max.ln() - r.min.ln()) * at).exp(),
                    // Their difference may be more than a number holds.
                    false => r.min * (1.0 - at) + r.max * at,
                };
                Value::Real(readable(value).clamp(r.min, r.max))
            }
            Domain::Choice(c) => c.values[slot(c.values.len() as u64) as usize].clone(),
        }
    }

    /// Where a member lies between the first (0) and the last (1); the reverse of [`Domain::at`].
    pub fn position(&self, value: &Value) -> f64 {
        let scale = |value: f64, min: f64, max: f64, log: bool| match (max > min, log) {
            (false, _) => 0.0,
            // Of ranges as wide as what numbers can hold the ratio is infinite.
            (true, true) => (value.ln() - min.ln()) / (max.ln() - min.ln()),
            (true, false) => (value / 2.0 - min / 2.0) / (max / 2.0 - min / 2.0),
        };
        match (self, value) {
            (Domain::Flag, Value::Flag(v)) => f64::from(u8::from(*v)),
            (Domain::Integer(r), Value::Integer(v)) => scale(*v as f64, r.min as f64, r.max as f64, r.log),
            (Domain::Real(r), Value::Real(v)) => scale(*v, r.min, r.max, r.log),
            (Domain::Choice(c), value) if c.values.len() > 1 => {
                let index = c.values.iter().position(|v| v == value).unwrap_or(0);
                index as f64 / (c.values.len() - 1) as f64
            }
            _ => 0.0,
        }
    }

    /// At most `count` members, at least 2, evenly spread on the domain's scale with both ends among them; all members
    /// where there are no more than that, or where the domain is a closed list.
    pub fn levels(&self, count: usize) -> Vec<Value> {
        let count = count.max(2);
        match self {
            Domain::Flag => vec![Value::Flag(false), Value::Flag(true)],
            Domain::Choice(c) => c.values.clone(),
            Domain::Integer(r) if self.size().is_some_and(|size| size <= count as u64) => {
                (r.min..=r.max).step_by(r.step as usize).map(Value::Integer).collect()
            }
            Domain::Integer(_) | Domain::Real(_) => {
                let mut levels: Vec<Value> = (0..count).map(|i| self.at(i as f64 / (count - 1) as f64)).collect();
                levels.dedup();
                levels
            }
        }
    }

    /// A random member.
    pub fn sample(&self, random: &mut Random) -> Value {
        self.at(random.unit())
    }

    /// The members next to `value`: the steps up and down where neighbours are alike, a tenth of the range away in an interval,
    /// else all others.
    pub fn adjacent(&self, value: &Value) -> Vec<Value> {
        let around = |at: i64, last: i64| [at - 1, at + 1].into_iter().filter(move |i| (0..=last).contains(i));
        let mut near = match self {
            Domain::Flag => vec![Value::Flag(value.as_flag() != Some(true))],
            Domain::Choice(c) if !c.ordered => c.values.clone(),
            Domain::Choice(c) => {
                let at = c.values.iter().position(|v| v == value).unwrap_or(0) as i64;
                around(at, c.values.len() as i64 - 1).map(|i| c.values[i as usize].clone()).collect()
            }
            Domain::Integer(r) => {
                let at = value.as_integer().map_or(0, |v| (v - r.min) / r.step);
                let steps = around(at, (r.max - r.min) / r.step).map(|i| Value::Integer(r.min + i * r.step));
                let far = [-0.1, 0.1].map(|away| self.at(self.position(value) + away));
                steps.chain(if self.size().is_some_and(|size| size > 20) { far.to_vec() } else { vec![] }).collect()
            }
            Domain::Real(_) => [-0.1, 0.1].map(|away| self.at(self.position(value) + away)).to_vec(),
        };
        near.retain(|member| member != value);
        near.dedup();
        near
    }

    /// Another member, near `value` where neighbours are alike; `value` itself when it is the only one.
    pub fn neighbour(&self, value: &Value, random: &mut Random) -> Value {
        match self {
            Domain::Flag => Value::Flag(value.as_flag() != Some(true)),
            Domain::Choice(c) if !c.ordered => {
                let others: Vec<&Value> = c.values.iter().filter(|v| *v != value).collect();
                if others.is_empty() { value.clone() } else { (*random.pick(&others)).clone() }
            }
            Domain::Choice(c) => {
                let last = c.values.len() as i64 - 1;
                let at = c.values.iter().position(|v| v == value).unwrap_or(0) as i64;
                c.values[step_away(at, 0, last, random) as usize].clone()
            }
            Domain::Integer(r) => {
                let far = self.at(self.position(value) + 0.3 * random.normal());
                if r.log && far != *value {
                    return far;
                }
                let at = value.as_integer().map_or(0, |v| (v - r.min) / r.step);
                Value::Integer(r.min + step_away(at, 0, (r.max - r.min) / r.step, random) * r.step)
            }
            Domain::Real(_) => {
                let near = self.at(self.position(value) + 0.3 * random.normal());
                if near == *value { self.sample(random) } else { near }
            }
        }
    }
}

/// Four significant digits: what is between them makes no difference that could be measured, and people read it.
fn readable(value: f64) -> f64 {
    let scale = 10f64.powi(3 - value.abs().log10().floor() as i32);
    let rounded = (value * scale).round() / scale;
    if rounded.is_finite() { rounded } else { value }
}

/// Another index of first..=last, a normal step of 0.3 of the range away, at least 1.
fn step_away(at: i64, first: i64, last: i64, random: &mut Random) -> i64 {
    if first == last {
        return at;
    }
    let spread = 0.3 * (last - first) as f64;
    let away = (spread * random.normal().abs()).round().max(1.0) as i64;
    let signed = if random.chance(0.5) { away } else { -away };
    let next = (at + signed).clamp(first, last);
    if next != at { next } else { (at - signed).clamp(first, last) }
}

/// Techniques that are on in a random configuration of a large space, on average: each costs accuracy.
const TOGETHER: f64 = 3.0;

impl Space {
    /// The space of a problem's techniques; those of one stage stay together, in the order given.
    pub fn new(mut techniques: Vec<TechniqueSpace>) -> Self {
        techniques.sort_by_key(|t| t.stage as u8);
        Self { techniques }
    }

    /// The techniques, by stage.
    pub fn techniques(&self) -> &[TechniqueSpace] {
        &self.techniques
    }

    /// How many configurations there are, the baseline included and conflicts not counted out; infinite where an active
    /// parameter is an interval of reals.
    pub fn size(&self) -> f64 {
        self.techniques.iter().map(|t| 1.0 + settings_count(&t.parameters, &mut Vec::new())).product()
    }

    /// One text for one configuration, whatever the order of its parts.
    pub fn key(&self, configuration: &[Choice]) -> String {
        let mut key = String::new();
        for technique in &self.techniques {
            let Some(choice) = configuration.iter().find(|c| c.technique == technique.technique) else { continue };
            let _ = write!(key, "{}(", technique.technique);
            for parameter in &technique.parameters {
                if let Some(setting) = choice.settings.iter().find(|s| s.name == parameter.name) {
                    // Writing to a text cannot fail.
                    let _ = match &setting.value {
                        Value::Text(text) => write!(key, "{}={text:?};", setting.name),
                        Value::Real(real) => write!(key, "{}={real:?};", setting.name),
                        value => write!(key, "{}={value};", setting.name),
                    };
                }
            }
            key.push(')');
        }
        key
    }

    /// What is wrong with a configuration, if anything.
    pub fn check(&self, configuration: &[Choice]) -> Result<(), String> {
        for (i, choice) in configuration.iter().enumerate() {
            let name = &choice.technique;
            let technique = self.technique(name).ok_or_else(|| format!("unknown technique `{name}`"))?;
            if configuration[..i].iter().any(|c| c.technique == *name) {
                return Err(format!("`{name}` is on twice"));
            }
            if let Some(other) = configuration.iter().find(|c| self.conflict(name, &c.technique)) {
                return Err(format!("`{name}` conflicts with `{}`", other.technique));
            }
            if let Some(tag) = self.missing(technique, configuration) {
                return Err(format!("`{name}` requires `{tag}`, which nothing before it provides"));
            }
            let mut given = choice.settings.iter();
            for (i, parameter) in technique.parameters.iter().enumerate() {
                if parameter.active(&chosen_before(&technique.parameters[..i], &choice.settings)) {
                    let setting = given.next().filter(|s| s.name == parameter.name);
                    let setting = setting.ok_or_else(|| format!("`{name}` lacks a setting of `{}`", parameter.name))?;
                    if !parameter.domain.contains(&setting.value) {
                        return Err(format!("`{name}`: {} = {} is outside its domain", setting.name, setting.value));
                    }
                }
            }
            if let Some(stray) = given.next() {
                return Err(format!("`{name}` has the setting `{}` too many", stray.name));
            }
        }
        Ok(())
    }

    /// A technique alone, its active parameters set by `value`.
    pub fn choice(&self, technique: &TechniqueSpace, mut value: impl FnMut(&Parameter) -> Value) -> Choice {
        let mut settings: Vec<Setting> = Vec::with_capacity(technique.parameters.len());
        for parameter in &technique.parameters {
            if parameter.active(&settings) {
                settings.push(Setting { name: parameter.name.clone(), value: value(parameter) });
            }
        }
        Choice { technique: technique.technique.clone(), settings }
    }

    /// The probability that a technique is on in a random configuration.
    pub fn share_on(&self) -> f64 {
        (TOGETHER / self.techniques.len() as f64).min(0.5)
    }

    /// A random configuration: each technique on with probability 1/2, or less where there are so many that more than a few
    /// would be on at once; at least one on where the space has one.
    pub fn sample(&self, random: &mut Random) -> Configuration {
        let on = self.share_on();
        for _ in 0..64 {
            let mut configuration = Configuration::new();
            for technique in &self.techniques {
                if random.chance(on) {
                    configuration.push(self.choice(technique, |p| p.domain.sample(random)));
                }
            }
            self.repair(&mut configuration, random);
            if !configuration.is_empty() {
                return configuration;
            }
        }
        Configuration::new()
    }

    /// Makes a configuration lawful: by stage, settings completed where conditions now hold and dropped where they no longer
    /// do, of two techniques in conflict a random one dropped, and those whose requirements nobody provides.
    pub fn repair(&self, configuration: &mut Configuration, random: &mut Random) {
        let mut kept: Configuration = Vec::with_capacity(configuration.len());
        for technique in &self.techniques {
            let Some(old) = configuration.iter().find(|c| c.technique == technique.technique) else { continue };
            kept.push(self.choice(technique, |parameter| {
                let old = old.settings.iter().find(|s| s.name == parameter.name).map(|s| &s.value);
                old.filter(|v| parameter.domain.contains(v)).cloned().unwrap_or_else(|| parameter.domain.sample(random))
            }));
        }
        while let Some((a, b)) = self.first_conflict(&kept) {
            kept.remove(if random.chance(0.5) { a } else { b });
        }
        while let Some(lacking) = kept.iter().position(|c| {
            self.technique(&c.technique).is_some_and(|technique| self.missing(technique, &kept).is_some())
        }) {
            kept.remove(lacking);
        }
        *configuration = kept;
    }

    /// A configuration near another: on average one change, of a setting of a technique that is on, or of what is on.
    pub fn mutate(&self, configuration: &[Choice], random: &mut Random) -> Configuration {
        let mut next = configuration.to_vec();
        let settings: usize = next.iter().map(|c| c.settings.len()).sum();
        let places = (settings + self.techniques.len()).max(1);
        // One place changes for certain; each other one with probability 1/places.
        let certain = random.below(places as u64) as usize;
        let mut place = 0;
        let mut due = |random: &mut Random| {
            let due = place == certain || random.chance(1.0 / places as f64);
            place += 1;
            due
        };
        for choice in &mut next {
            let Some(technique) = self.technique(&choice.technique) else { continue };
            for setting in &mut choice.settings {
                if let Some(parameter) = technique.parameters.iter().find(|p| p.name == setting.name)
                    && due(random)
                {
                    setting.value = parameter.domain.neighbour(&setting.value, random);
                }
            }
        }
        for technique in &self.techniques {
            if due(random) {
                match next.iter().position(|c| c.technique == technique.technique) {
                    Some(on) => drop(next.remove(on)),
                    None => next.push(self.choice(technique, |p| p.domain.sample(random))),
                }
            }
        }
        self.repair(&mut next, random);
        next
    }

    /// The configurations one change away: a technique more (with its defaults, in place of what it excludes) or less, a setting
    /// one step along its domain or, where choices have no order, another value. Chance completes what conditions add.
    pub fn neighbours(&self, configuration: &[Choice], random: &mut Random) -> Vec<Configuration> {
        let mut all = Vec::new();
        for technique in &self.techniques {
            let on = configuration.iter().position(|c| c.technique == technique.technique);
            let mut next = configuration.to_vec();
            if let Some(on) = on {
                next.remove(on);
                for (at, setting) in configuration[on].settings.iter().enumerate() {
                    let domain = technique.parameters.iter().find(|p| p.name == setting.name).map(|p| &p.domain);
                    for value in domain.map(|domain| domain.adjacent(&setting.value)).unwrap_or_default() {
                        let mut changed = configuration.to_vec();
                        changed[on].settings[at].value = value;
                        all.push(changed);
                    }
                }
            } else {
                next.retain(|c| !self.conflict(&c.technique, &technique.technique));
                next.push(self.choice(technique, |p| p.default.clone()));
            }
            all.push(next);
        }
        all.iter_mut().for_each(|next| self.repair(next, random));
        let own = self.key(configuration);
        let mut seen = HashSet::from([own, self.key(&[])]);
        all.retain(|next| seen.insert(self.key(next)));
        all
    }

    /// A child of two configurations. Half of the time whole stages are inherited, so that techniques tuned to one another
    /// stay together; otherwise each technique is, and where both parents have it each setting.
    pub fn cross(&self, a: &[Choice], b: &[Choice], random: &mut Random) -> Configuration {
        let by_stage = random.chance(0.5);
        let mut child = Configuration::new();
        let mut from_a = random.chance(0.5);
        let mut stage = None;
        for technique in &self.techniques {
            if !by_stage || stage.is_some_and(|s| s != technique.stage) {
                from_a = random.chance(0.5);
            }
            stage = Some(technique.stage);
            let of = |parent: &[Choice]| parent.iter().find(|c| c.technique == technique.technique).cloned();
            let (first, second) = if from_a { (of(a), of(b)) } else { (of(b), of(a)) };
            let Some(mut choice) = first else { continue };
            if let (false, Some(second)) = (by_stage, second) {
                for setting in &mut choice.settings {
                    if let Some(other) = second.settings.iter().find(|s| s.name == setting.name)
                        && random.chance(0.5)
                    {
                        setting.value = other.value.clone();
                    }
                }
            }
            child.push(choice);
        }
        self.repair(&mut child, random);
        child
    }

    /// How different two configurations are, in [0, 1]: the mean over techniques of 1 where one has it and the other has
    /// not, else of the mean difference of settings (Gower, 1971).
    pub fn distance(&self, a: &[Choice], b: &[Choice]) -> f64 {
        let mut sum = 0.0;
        for technique in &self.techniques {
            let of = |side: &'_ [Choice]| side.iter().position(|c| c.technique == technique.technique);
            sum += match (of(a), of(b)) {
                (None, None) => 0.0,
                (Some(a_at), Some(b_at)) => {
                    settings_distance(&technique.parameters, &a[a_at].settings, &b[b_at].settings)
                }
                _ => 1.0,
            };
        }
        sum / self.techniques.len().max(1) as f64
    }

    fn technique(&self, name: &str) -> Option<&TechniqueSpace> {
        self.techniques.iter().find(|t| t.technique == name)
    }

    /// Whether one names the other, or both provide the same.
    fn conflict(&self, a: &str, b: &str) -> bool {
        let names = |x: &str, y: &str| self.technique(x).is_some_and(|t| t.conflicts.iter().any(|c| c == y));
        let provides = |x: &str| self.technique(x).map_or(&[][..], |t| &t.provides);
        a != b && (names(a, b) || names(b, a) || provides(a).iter().any(|tag| provides(b).contains(tag)))
    }

    fn first_conflict(&self, configuration: &[Choice]) -> Option<(usize, usize)> {
        let pairs = (0..configuration.len()).flat_map(|a| (a + 1..configuration.len()).map(move |b| (a, b)));
        pairs.into_iter().find(|(a, b)| self.conflict(&configuration[*a].technique, &configuration[*b].technique))
    }

    /// A tag that `technique` requires and nothing that is on before it provides.
    fn missing<'a>(&self, technique: &'a TechniqueSpace, configuration: &[Choice]) -> Option<&'a str> {
        let before = self.techniques.iter().take_while(|t| t.technique != technique.technique);
        let on = |t: &&TechniqueSpace| configuration.iter().any(|c| c.technique == t.technique);
        let provided = |tag: &String| before.clone().filter(on).any(|t| t.provides.contains(tag));
        technique.requires.iter().find(|tag| !provided(tag)).map(String::as_str)
    }
}

/// Of the settings given, those of `parameters`.
fn chosen_before(parameters: &[Parameter], settings: &[Setting]) -> Vec<Setting> {
    settings.iter().filter(|s| parameters.iter().any(|p| p.name == s.name)).cloned().collect()
}

/// How many ways there are to set the parameters that follow those already set.
fn settings_count(parameters: &[Parameter], settings: &mut Vec<Setting>) -> f64 {
    let Some((parameter, rest)) = parameters.split_first() else { return 1.0 };
    if !parameter.active(settings) {
        return settings_count(rest, settings);
    }
    let size = parameter.domain.size().map_or(f64::INFINITY, |n| n as f64);
    // Only values that a condition speaks of can change what comes after; the others count alike.
    let conditions = rest.iter().flat_map(|p| &p.active_when).filter(|c| c.parameter == parameter.name);
    let mut distinct: Vec<&Value> = Vec::new();
    for value in conditions.flat_map(|c| &c.values).filter(|v| parameter.domain.contains(v)) {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    let mut count = 0.0;
    for value in &distinct {
        settings.push(Setting { name: parameter.name.clone(), value: (*value).clone() });
        count += settings_count(rest, settings);
        settings.pop();
    }
    let others = size - distinct.len() as f64;
    if others > 0.0 {
        count += others * settings_count(rest, settings);
    }
    count
}

fn settings_distance(parameters: &[Parameter], a: &[Setting], b: &[Setting]) -> f64 {
    let mut sum = 0.0;
    let mut count = 0.0;
    for parameter in parameters {
        let of = |side: &'_ [Setting]| side.iter().position(|s| s.name == parameter.name);
        let difference = match (of(a), of(b)) {
            (None, None) => continue,
            (Some(a_at), Some(b_at)) => {
                let (a, b) = (&a[a_at].value, &b[b_at].value);
                match &parameter.domain {
                    Domain::Choice(c) if !c.ordered => f64::from(u8::from(a != b)),
                    domain => (domain.position(a) - domain.position(b)).abs(),
                }
            }
            _ => 1.0,
        };
        sum += difference;
        count += 1.0;
    }
    if count == 0.0 { 0.0 } else { sum / count }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::testing::{mixed_problem, technique};
    use crate::{choice, flag, integer, real};

    fn domain(parameter: impl Into<Parameter>) -> Domain {
        parameter.into().domain
    }

    #[test]
    fn what_sampling_mutation_and_crossover_make_lies_inside_the_space() {
        let space = Space::new(mixed_problem(0).space);
        let mut random = Random::new(11);
        let mut parents: Vec<Configuration> = (0..20).map(|_| space.sample(&mut random)).collect();
        for _ in 0..2000 {
            let a = random.pick(&parents).clone();
            let b = random.pick(&parents).clone();
            for child in [space.mutate(&a, &mut random), space.cross(&a, &b, &mut random)] {
                assert_eq!(space.check(&child), Ok(()), "{child:?}");
                let at = random.below(20) as usize;
                parents[at] = child;
            }
        }
    }

    #[test]
    fn a_mutation_changes_something_unless_there_is_nothing_else() {
        let space = Space::new(mixed_problem(0).space);
        let mut random = Random::new(3);
        let same = (0..500).filter(|_| {
            let parent = space.sample(&mut random);
            // Requirements and conflicts may undo what a mutation did.
            space.key(&space.mutate(&parent, &mut random)) == space.key(&parent)
        });
        assert!(same.count() < 50);
    }

    #[test]
    fn what_a_configuration_lacks_or_has_too_much_is_said() {
        let mut tuned = technique("tune", []);
        tuned.requires.push("quantised-base".into());
        let cache = technique(
            "cache",
            [choice("window", "", [0i64, 64]).into(), choice("sinks", "", [0i64, 4]).when("window", [64i64]).into()],
        );
        let mut later = technique("round", []);
        later.provides.push("quantised-base".into());
        let space = Space::new(vec![tuned, cache, later]);
        let on = |name: &str, settings: Vec<Setting>| Choice { technique: name.into(), settings };
        let window = |size: i64| crate::setting("window", size);
        let sinks = |count: i64| crate::setting("sinks", count);
        let wrong = |configuration: &[Choice]| space.check(configuration).unwrap_err();
        assert_eq!(wrong(&[on("tune", vec![])]), "`tune` requires `quantised-base`, which nothing before it provides");
        let both = [on("tune", vec![]), on("round", vec![])];
        assert_eq!(wrong(&both), "`tune` requires `quantised-base`, which nothing before it provides");
        assert_eq!(wrong(&[on("cash", vec![])]), "unknown technique `cash`");
        assert_eq!(wrong(&[on("cache", vec![window(64)])]), "`cache` lacks a setting of `sinks`");
        assert_eq!(wrong(&[on("cache", vec![window(0), sinks(4)])]), "`cache` has the setting `sinks` too many");
        assert_eq!(wrong(&[on("cache", vec![window(9)])]), "`cache`: window = 9 is outside its domain");
        assert_eq!(space.check(&[on("cache", vec![window(64), sinks(4)])]), Ok(()));
    }

    #[test]
    fn neighbours_are_one_change_away_and_lawful() {
        let space = Space::new(mixed_problem(0).space);
        let mut random = Random::new(2);
        for _ in 0..200 {
            let from = space.sample(&mut random);
            let neighbours = space.neighbours(&from, &mut random);
            let keys: HashSet<String> = neighbours.iter().map(|n| space.key(n)).collect();
            assert_eq!(keys.len(), neighbours.len());
            assert!(!keys.contains(&space.key(&from)) && !keys.contains(&space.key(&[])));
            assert!(neighbours.iter().all(|n| space.check(n).is_ok()));
        }
        let names = |from: &[Choice]| {
            let next = space.neighbours(from, &mut Random::new(1));
            next.iter()
                .map(|n| n.iter().map(|c| c.technique.as_str()).collect::<Vec<_>>().join("+"))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["prune", "tune", "cache", "quantise", "sparse"]);
        let sparse = vec![Choice { technique: "sparse".into(), settings: vec![] }];
        // What it excludes takes its place.
        assert_eq!(names(&sparse), ["prune+sparse", "tune", "cache+sparse", "quantise+sparse"]);
    }

    #[test]
    fn stages_are_inherited_whole_or_mixed() {
        let space = Space::new(mixed_problem(0).space);
        let (stages, techniques) = (space.techniques(), space.techniques().len());
        assert!(stages.windows(2).all(|pair| pair[0].stage as u8 <= pair[1].stage as u8));
        let mut random = Random::new(1);
        let everything: Configuration = stages.iter().map(|t| space.choice(t, |p| p.default.clone())).collect();
        // With an empty parent a child has a part of the other; conflicts cost at most one more.
        let sizes: Vec<usize> = (0..200).map(|_| space.cross(&everything, &[], &mut random).len()).collect();
        assert!(sizes.contains(&0) && sizes.contains(&(techniques - 1)) && sizes.contains(&2), "{sizes:?}");
    }

    #[test]
    fn distance_is_0_to_itself_and_1_between_all_and_nothing() {
        let space = Space::new(vec![technique("a", [real("x", "", 0.0..=2.0).into()]), technique("b", [])]);
        let at = |x: f64| vec![Choice { technique: "a".into(), settings: vec![crate::setting("x", x)] }];
        assert_eq!(space.distance(&at(1.0), &at(1.0)), 0.0);
        assert_eq!(space.distance(&at(0.5), &at(1.5)), 0.25);
        let both = [at(1.0), vec![Choice { technique: "b".into(), settings: vec![] }]].concat();
        assert_eq!(space.distance(&both, &[]), 1.0);
    }

    #[test]
    fn levels_hold_both_ends_and_every_member_of_a_short_range() {
        let texts = |domain: &Domain, count| domain.levels(count).iter().map(Value::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&domain(integer("n", "", 1..=16).log()), 5), ["1", "2", "4", "8", "16"]);
        assert_eq!(texts(&domain(integer("n", "", 1..=4).log()), 5), ["1", "2", "3", "4"]);
        assert_eq!(texts(&domain(integer("n", "", 10..=50).step(20)), 9), ["10", "30", "50"]);
        assert_eq!(texts(&domain(real("x", "", 0.01..=1.0).log()), 3), ["0.01", "0.1", "1"]);
        assert_eq!(texts(&domain(flag("f", "")), 9), ["off", "on"]);
        assert_eq!(texts(&domain(choice("c", "", ["a", "b", "c"])), 2), ["a", "b", "c"]);
    }

    #[test]
    fn what_provides_the_same_is_not_on_together_and_large_spaces_are_drawn_a_few_at_a_time() {
        let techniques: Vec<TechniqueSpace> = (0..24)
            .map(|i| {
                let mut technique = super::super::strategy::testing::technique(&format!("t{i}"), []);
                technique.provides = if i < 3 { vec!["codes".into()] } else { vec![] };
                technique
            })
            .collect();
        let space = Space::new(techniques);
        let all = space.techniques().iter().map(|t| space.choice(t, |p| p.default.clone())).collect::<Configuration>();
        assert_eq!(space.check(&all), Err("`t0` conflicts with `t1`".to_owned()));
        let mut random = Random::new(3);
        let drawn: Vec<Configuration> = (0..500).map(|_| space.sample(&mut random)).collect();
        assert!(drawn.iter().all(|configuration| space.check(configuration).is_ok()));
        let mean = drawn.iter().map(Vec::len).sum::<usize>() as f64 / drawn.len() as f64;
        assert!((2.0..4.0).contains(&mean), "{mean} techniques at a time");
    }

    #[test]
    fn samples_reach_every_member_and_neighbours_are_other_members() {
        let mut random = Random::new(5);
        for domain in [
            domain(integer("n", "", 1..=6)),
            domain(integer("n", "", 3..=48).step(9).log()),
            domain(choice("c", "", ["a", "b", "c"])),
            domain(choice("c", "", ["a", "b", "c"]).ordered()),
            domain(flag("f", "")),
        ] {
            let all = domain.levels(99);
            let seen: Vec<Value> = (0..500).map(|_| domain.sample(&mut random)).collect();
            assert!(all.iter().all(|member| seen.contains(member)), "{domain:?}");
            for value in &seen {
                let next = domain.neighbour(value, &mut random);
                assert!(
                    domain.contains(value) && domain.contains(&next) && next != *value,
                    "{domain:?}: {value} {next}"
                );
            }
        }
    }

    #[test]
    fn the_size_counts_conditional_settings_only_where_they_exist() {
        let cache = technique(
            "cache",
            [
                choice("window", "", [0i64, 64, 128]).into(),
                choice("sinks", "", [0i64, 4]).when("window", [64i64, 128]).into(),
            ],
        );
        assert_eq!(Space::new(vec![cache.clone()]).size(), 6.0);
        let open = technique("tune", [real("rate", "", 0.0..=1.0).into()]);
        assert_eq!(Space::new(vec![cache, open]).size(), f64::INFINITY);
    }
}

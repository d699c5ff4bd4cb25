//! The search space: which configurations exist, the one canonical form of each, and its key. Two configurations are the
//! same exactly when their canonical forms are, so duplicates are found whatever order a strategy writes things in.

mod narrowing;
#[cfg(test)]
mod tests;

pub use narrowing::narrowed;

use crate::{Choice, Configuration, TechniqueSpace};
use aehost_common::{DomainError, Parameter, Settings, Value};
use sha2::{Digest, Sha256};

/// The techniques of a study in the order in which they apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    techniques: Vec<TechniqueSpace>,
}

/// Why a list of techniques is no search space, or a configuration lies outside it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpaceError {
    /// Two techniques of one id.
    #[error("technique `{technique}` is there twice: remove one of the two plugins")]
    Twice {
        /// The id.
        technique: String,
    },
    /// A parameter's declaration makes no sense.
    #[error("technique `{technique}`: {source}")]
    Parameter {
        /// The technique.
        technique: String,
        /// What is wrong.
        source: DomainError,
    },
    /// `after` cannot be honoured.
    #[error("technique `{technique}` must apply after `{after}`, which {why}")]
    Order {
        /// The technique.
        technique: String,
        /// What it wants to come after.
        after: String,
        /// Why that cannot be.
        why: String,
    },
    /// A technique that is not in the space.
    #[error("unknown technique `{technique}`; known: {known}")]
    Unknown {
        /// The id.
        technique: String,
        /// All there are.
        known: String,
    },
    /// A technique is on twice.
    #[error("technique `{technique}` is chosen twice in one configuration")]
    Repeated {
        /// The id.
        technique: String,
    },
    /// Two techniques exclude one another.
    #[error("techniques `{one}` and `{other}` cannot be on together")]
    Conflict {
        /// One of them.
        one: String,
        /// The other.
        other: String,
    },
    /// Two techniques do the same thing.
    #[error("techniques `{one}` and `{other}` cannot be on together: both provide `{tag}`")]
    Same {
        /// One of them.
        one: String,
        /// The other.
        other: String,
        /// The tag of both.
        tag: String,
    },
    /// A setting in words is not one.
    #[error("`{words}`: {why}")]
    Words {
        /// What was given.
        words: String,
        /// What is wrong with it.
        why: String,
    },
    /// A tag that must hold does not.
    #[error("technique `{technique}` needs `{tag}`, which no technique before it in this configuration provides")]
    Requires {
        /// The technique.
        technique: String,
        /// The tag.
        tag: String,
    },
}

impl Space {
    /// Checks the declarations and fixes the order: by stage, then `after`, then `order`, then id.
    pub fn new(techniques: &[TechniqueSpace]) -> Result<Self, SpaceError> {
        for (i, technique) in techniques.iter().enumerate() {
            let id = id(technique);
            if techniques[..i].iter().any(|t| self::id(t) == id) {
                return Err(SpaceError::Twice { technique: id.to_owned() });
            }
            for (p, parameter) in technique.parameters.iter().enumerate() {
                parameter
                    .check(&technique.parameters[..p])
                    .map_err(|source| SpaceError::Parameter { technique: id.to_owned(), source })?;
            }
        }
        Ok(Self { techniques: ordered(techniques)? })
    }

    /// The techniques in the order in which they apply.
    pub fn techniques(&self) -> &[TechniqueSpace] {
        &self.techniques
    }

    /// The canonical form: techniques in the order in which they apply, every active parameter set, in declaration order.
    /// Errors: everything that makes a configuration invalid, naming technique and parameter.
    pub fn complete(&self, configuration: &Configuration) -> Result<Configuration, SpaceError> {
        let mut chosen: Vec<(usize, Choice)> = Vec::with_capacity(configuration.0.len());
        for choice in &configuration.0 {
            let position = self.position(&choice.technique)?;
            if chosen.iter().any(|(p, _)| *p == position) {
                return Err(SpaceError::Repeated { technique: choice.technique.clone() });
            }
            let settings = Parameter::complete(&self.techniques[position].parameters, &choice.settings)
                .map_err(|source| SpaceError::Parameter { technique: choice.technique.clone(), source })?;
            chosen.push((position, Choice { technique: choice.technique.clone(), settings }));
        }
        chosen.sort_by_key(|(position, _)| *position);
        self.check_combination(&chosen)?;
        Ok(Configuration(chosen.into_iter().map(|(_, choice)| choice).collect()))
    }

    /// One technique in words: `ID`, or `ID:NAME=VALUE,NAME=VALUE`; parameters that are left out take their defaults.
    ///
    /// # Errors
    /// No such technique or parameter, or a value that is not of its domain; the message lists what there is.
    pub fn parse(&self, words: &str) -> Result<Choice, SpaceError> {
        let (technique, rest) = words.split_once(':').unwrap_or((words, ""));
        let parameters = &self.techniques[self.position(technique)?].parameters;
        let wrong = |why: String| SpaceError::Words { words: words.to_owned(), why };
        let mut settings = Settings::default();
        for pair in rest.split(',').filter(|pair| !pair.is_empty()) {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| wrong(format!("`{pair}` is no setting: write NAME=VALUE")))?;
            let parameter = parameters.iter().find(|p| p.name == name).ok_or_else(|| {
                let known: Vec<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
                wrong(format!("`{technique}` has no parameter `{name}`; it has: {}", known.join(", ")))
            })?;
            let value = parameter
                .domain
                .parse(value)
                .ok_or_else(|| wrong(format!("`{name}` must be {}, not `{value}`", parameter.domain)))?;
            settings.set(name, value);
        }
        Ok(Choice { technique: technique.to_owned(), settings })
    }

    /// How many configurations the space holds before conflicts and tags are looked at, the baseline included; none
    /// where a parameter is a real number, or the count exceeds 64 bits.
    pub fn grid_size(&self) -> Option<u64> {
        self.techniques.iter().try_fold(1u64, |size, technique| {
            let settings = combinations(&technique.parameters, &Settings::default())?;
            size.checked_mul(settings.checked_add(1)?)
        })
    }

    fn position(&self, technique: &str) -> Result<usize, SpaceError> {
        self.techniques.iter().position(|t| id(t) == technique).ok_or_else(|| SpaceError::Unknown {
            technique: technique.to_owned(),
            known: match self.techniques.iter().map(id).collect::<Vec<_>>().join(", ") {
                known if known.is_empty() => "none".to_owned(),
                known => known,
            },
        })
    }

    fn check_combination(&self, chosen: &[(usize, Choice)]) -> Result<(), SpaceError> {
        let mut provided: Vec<(&str, &str)> = Vec::new();
        for (i, (position, choice)) in chosen.iter().enumerate() {
            let description = &self.techniques[*position].description;
            for (other_position, other) in &chosen[..i] {
                let other_conflicts = &self.techniques[*other_position].description.conflicts;
                if description.conflicts.contains(&other.technique) || other_conflicts.contains(&choice.technique) {
                    return Err(SpaceError::Conflict { one: other.technique.clone(), other: choice.technique.clone() });
                }
            }
            if let Some(tag) = description.requires.iter().find(|tag| provided.iter().all(|(p, _)| p != tag)) {
                return Err(SpaceError::Requires { technique: choice.technique.clone(), tag: tag.clone() });
            }
            for tag in &description.provides {
                if let Some((_, one)) = provided.iter().find(|(provided, _)| provided == tag) {
                    let (one, other) = ((*one).to_owned(), choice.technique.clone());
                    return Err(SpaceError::Same { one, other, tag: tag.clone() });
                }
                provided.push((tag, &choice.technique));
            }
        }
        Ok(())
    }
}

fn id(technique: &TechniqueSpace) -> &str {
    &technique.description.identity.id
}

/// Repeatedly takes the first technique, by stage, order and id, all of whose predecessors have been taken.
fn ordered(techniques: &[TechniqueSpace]) -> Result<Vec<TechniqueSpace>, SpaceError> {
    let mut waiting: Vec<&TechniqueSpace> = techniques.iter().collect();
    waiting.sort_by_key(|t| (t.description.stage, t.description.order, id(t)));
    let mut taken: Vec<TechniqueSpace> = Vec::with_capacity(waiting.len());
    while let Some(first) = waiting.first() {
        let stage = first.description.stage;
        let blocker = |t: &TechniqueSpace| {
            t.description.after.iter().find(|after| waiting.iter().any(|w| id(w) == after.as_str())).cloned()
        };
        let ready = waiting.iter().position(|t| t.description.stage == stage && blocker(t).is_none());
        let Some(ready) = ready else {
            let after = blocker(first).expect("a technique that is not ready has a predecessor that still waits");
            let later = waiting.iter().any(|t| id(t) == after && t.description.stage != stage);
            let why = if later { "belongs to a later stage" } else { "in turn must apply after it" };
            return Err(SpaceError::Order { technique: id(first).to_owned(), after, why: why.to_owned() });
        };
        taken.push(waiting.remove(ready).clone());
    }
    Ok(taken)
}

/// How many complete settings there are, given those of earlier parameters.
fn combinations(parameters: &[Parameter], settings: &Settings) -> Option<u64> {
    let Some((parameter, rest)) = parameters.split_first() else { return Some(1) };
    if !parameter.active(settings) {
        return combinations(rest, settings);
    }
    let size = parameter.domain.size()?;
    let mut conditions = rest.iter().flat_map(|p| &p.active_when).filter(|c| c.parameter == parameter.name).peekable();
    if conditions.peek().is_none() {
        return size.checked_mul(combinations(rest, settings)?);
    }
    // Only the values that conditions name make a difference; all others are alike.
    let mut named: Vec<&Value> = Vec::new();
    for value in conditions.flat_map(|c| &c.values) {
        if parameter.domain.contains(value) && !named.contains(&value) {
            named.push(value);
        }
    }
    let others = size - named.len() as u64;
    let with_others = if others > 0 { combinations(rest, settings)? } else { 0 };
    named.iter().try_fold(others.checked_mul(with_others)?, |sum, value| {
        let settings = settings.clone().with(&parameter.name, (*value).clone());
        sum.checked_add(combinations(rest, &settings)?)
    })
}

impl Configuration {
    /// SHA-256 of the JSON form, in hexadecimal. Equal for equal configurations when both are canonical.
    pub fn key(&self) -> String {
        let mut canonical = self.clone();
        for setting in canonical.0.iter_mut().flat_map(|c| &mut c.settings.0) {
            if let Value::Real(v) = &mut setting.value {
                *v += 0.0; // -0 and 0 are the same setting
            }
        }
        let json = serde_json::to_vec(&canonical).expect("names and values have a JSON form");
        Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether nothing is on.
    pub fn is_baseline(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all numbers are finite, so that the configuration has a JSON form that reads back.
    pub fn is_finite(&self) -> bool {
        self.0.iter().flat_map(|c| c.settings.iter()).all(|s| match &s.value {
            Value::Real(v) => v.is_finite(),
            Value::Reals(v) => v.iter().all(|v| v.is_finite()),
            _ => true,
        })
    }
}

/// `depth-pruning drop=2 + blocked-quantization format=Q8_0`, or `baseline`.
impl std::fmt::Display for Configuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("baseline");
        }
        for (i, choice) in self.0.iter().enumerate() {
            f.write_str(if i > 0 { " + " } else { "" })?;
            f.write_str(&choice.technique)?;
            for setting in choice.settings.iter() {
                write!(f, " {}={}", setting.name, setting.value)?;
            }
        }
        Ok(())
    }
}

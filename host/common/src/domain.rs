//! What a parameter may be set to, and the check that a setting lies inside.

use crate::{Settings, Value};
use serde::{Deserialize, Serialize};

/// The allowed values of a parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Domain {
    /// On or off.
    Flag,
    /// `min`, `min + step`, ... up to `max`.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value, inclusive.
        max: i64,
        /// Distance of neighbours, at least 1.
        step: i64,
        /// Search on a logarithmic scale.
        log: bool,
    },
    /// An interval.
    Real {
        /// Smallest value.
        min: f64,
        /// Largest value, inclusive.
        max: f64,
        /// Search on a logarithmic scale.
        log: bool,
    },
    /// A closed list.
    Choice {
        /// The values.
        values: Vec<Value>,
        /// Whether neighbours in the list are alike.
        ordered: bool,
    },
}

/// The parameter exists only while another has one of these values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// A parameter declared earlier in the list.
    pub parameter: String,
    /// The values with which this condition holds.
    pub values: Vec<Value>,
}

/// What a plugin lets the search choose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Lower-case, with hyphens.
    pub name: String,
    /// One sentence.
    pub summary: String,
    /// The allowed values.
    pub domain: Domain,
    /// A member of the domain.
    pub default: Value,
    /// All must hold for the parameter to exist.
    pub active_when: Vec<Condition>,
}

/// Why a value or a parameter is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// A value outside its domain.
    #[error("{parameter} = {value} is outside its domain, {domain}")]
    Outside {
        /// The parameter.
        parameter: String,
        /// The value, as text.
        value: String,
        /// The domain, as text.
        domain: String,
    },
    /// A setting that no parameter declares.
    #[error("unknown setting `{name}`; known: {known}")]
    Unknown {
        /// The setting.
        name: String,
        /// The parameters there are.
        known: String,
    },
    /// A setting whose conditions do not hold.
    #[error("`{name}` is set although its conditions do not hold")]
    Inactive {
        /// The setting.
        name: String,
    },
    /// A parameter that is itself malformed.
    #[error("parameter `{name}` is malformed: {why}")]
    Malformed {
        /// The parameter.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Domain {
    /// The value that a person wrote, if it is one of the domain.
    pub fn parse(&self, word: &str) -> Option<Value> {
        let value = match self {
            Domain::Flag => match word {
                "on" | "true" => Value::Flag(true),
                "off" | "false" => Value::Flag(false),
                _ => return None,
            },
            Domain::Integer { .. } => Value::Integer(word.parse().ok()?),
            Domain::Real { .. } => Value::Real(word.parse().ok()?),
            Domain::Choice { values, .. } => return values.iter().find(|value| value.to_string() == word).cloned(),
        };
        self.contains(&value).then_some(value)
    }

    /// Whether `value` is a member.
    pub fn contains(&self, value: &Value) -> bool {
        match self {
            Domain::Flag => matches!(value, Value::Flag(_)),
            Domain::Integer { min, max, step, .. } => {
                matches!(value, Value::Integer(v) if v >= min && v <= max && (v - min) % step == 0)
            }
            Domain::Real { min, max, .. } => value.as_real().is_some_and(|v| v.is_finite() && v >= *min && v <= *max),
            Domain::Choice { values, .. } => values.contains(value),
        }
    }

    /// How many members there are; none for an interval of reals.
    pub fn size(&self) -> Option<u64> {
        match self {
            Domain::Flag => Some(2),
            Domain::Integer { min, max, step, .. } => Some(((max - min) / step) as u64 + 1),
            Domain::Real { .. } => None,
            Domain::Choice { values, .. } => Some(values.len() as u64),
        }
    }
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Domain::Flag => f.write_str("on or off"),
            Domain::Integer { min, max, step: 1, .. } => write!(f, "{min} to {max}"),
            Domain::Integer { min, max, step, .. } => write!(f, "{min} to {max} in steps of {step}"),
            Domain::Real { min, max, .. } => write!(f, "{min} to {max}"),
            Domain::Choice { values, .. } => {
                let words: Vec<String> = values.iter().map(Value::to_string).collect();
                write!(f, "one of {}", words.join(", "))
            }
        }
    }
}

impl Parameter {
    /// Whether all conditions hold among `settings`.
    pub fn active(&self, settings: &Settings) -> bool {
        self.active_when.iter().all(|c| settings.get(&c.parameter).is_some_and(|v| c.values.contains(v)))
    }

    /// Checks that the declaration itself makes sense: a non-empty domain that holds the default, and conditions on
    /// parameters declared in `earlier`.
    pub fn check(&self, earlier: &[Parameter]) -> Result<(), DomainError> {
        let malformed = |why: String| Err(DomainError::Malformed { name: self.name.clone(), why });
        match &self.domain {
            Domain::Integer { min, max, step, log } => {
                if min > max || *step < 1 || (*log && *min < 1) {
                    return malformed(format!("integer range {min} to {max} in steps of {step} is empty"));
                }
                if max.checked_sub(*min).is_none() {
                    return malformed("the integer range is too wide".into());
                }
            }
            Domain::Real { min, max, log }
                if !min.is_finite() || !max.is_finite() || min > max || (*log && *min <= 0.0) =>
            {
                return malformed(format!("real range {min} to {max} is empty or not finite"));
            }
            Domain::Choice { values, .. } if values.is_empty() => {
                return malformed("its list of choices is empty".into());
            }
            _ => {}
        }
        if !self.domain.contains(&self.default) {
            return malformed(format!("its default {} is outside its own domain, {}", self.default, self.domain));
        }
        for condition in &self.active_when {
            if !earlier.iter().any(|p| p.name == condition.parameter) {
                return malformed(format!(
                    "its condition names `{}`, which is not declared before it",
                    condition.parameter
                ));
            }
        }
        if earlier.iter().any(|p| p.name == self.name) {
            return malformed("its name is declared twice".into());
        }
        Ok(())
    }

    /// Fills defaults for active parameters that are not set, and checks every setting, in declaration order.
    pub fn complete(parameters: &[Parameter], given: &Settings) -> Result<Settings, DomainError> {
        let mut settings = Settings::default();
        for parameter in parameters {
            let active = parameter.active(&settings);
            match given.get(&parameter.name) {
                Some(value) if active => {
                    let value = match (&parameter.domain, value) {
                        (Domain::Real { .. }, Value::Integer(v)) => Value::Real(*v as f64),
                        _ => value.clone(),
                    };
                    if !parameter.domain.contains(&value) {
                        return Err(DomainError::Outside {
                            parameter: parameter.name.clone(),
                            value: value.to_string(),
                            domain: parameter.domain.to_string(),
                        });
                    }
                    settings.set(&parameter.name, value);
                }
                Some(_) => return Err(DomainError::Inactive { name: parameter.name.clone() }),
                None if active => settings.set(&parameter.name, parameter.default.clone()),
                None => {}
            }
        }
        if let Some(stray) = given.iter().find(|s| !parameters.iter().any(|p| p.name == s.name)) {
            let known: Vec<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
            return Err(DomainError::Unknown {
                name: stray.name.clone(),
                known: if known.is_empty() { "none".into() } else { known.join(", ") },
            });
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_value_has_the_type_of_its_domain() {
        let range = Domain::Integer { min: 2, max: 8, step: 2, log: false };
        assert_eq!(range.parse("4"), Some(Value::Integer(4)));
        assert_eq!(range.parse("5"), None);
        assert_eq!(Domain::Flag.parse("on"), Some(Value::Flag(true)));
        assert_eq!(Domain::Flag.parse("1"), None);
        assert_eq!(Domain::Real { min: 0.0, max: 1.0, log: false }.parse("0.5"), Some(Value::Real(0.5)));
        let choice = Domain::Choice { values: vec![Value::Integer(32), "keep".into()], ordered: false };
        assert_eq!(choice.parse("32"), Some(Value::Integer(32)));
        assert_eq!(choice.parse("keep"), Some("keep".into()));
        assert_eq!(choice.parse("64"), None);
    }

    fn choice(name: &str, values: &[&str], active_when: Vec<Condition>) -> Parameter {
        Parameter {
            name: name.into(),
            summary: String::new(),
            domain: Domain::Choice { values: values.iter().map(|v| (*v).into()).collect(), ordered: false },
            default: values[0].into(),
            active_when,
        }
    }

    #[test]
    fn completing_fills_active_defaults_only() {
        let when = Condition { parameter: "mode".into(), values: vec!["window".into()] };
        let parameters = [choice("mode", &["full", "window"], vec![]), choice("sinks", &["0", "4"], vec![when])];
        let full = Parameter::complete(&parameters, &Settings::default()).unwrap();
        assert_eq!(full, Settings::default().with("mode", "full"));
        let window = Parameter::complete(&parameters, &Settings::default().with("mode", "window")).unwrap();
        assert_eq!(window.get("sinks"), Some(&"0".into()));
        let inactive = Parameter::complete(&parameters, &Settings::default().with("sinks", "4"));
        assert_eq!(inactive, Err(DomainError::Inactive { name: "sinks".into() }));
    }

    #[test]
    fn a_default_outside_its_domain_is_malformed() {
        let mut parameter = choice("format", &["Q8_0"], vec![]);
        parameter.default = "Q9".into();
        let error = parameter.check(&[]).unwrap_err().to_string();
        assert_eq!(error, "parameter `format` is malformed: its default Q9 is outside its own domain, one of Q8_0");
    }

    #[test]
    fn settings_are_a_table_in_json() {
        let settings = Settings::default().with("format", "Q4_0").with("keep", 3i64).with("importance", true);
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(json, r#"{"format":"Q4_0","keep":3,"importance":true}"#);
        assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
    }
}

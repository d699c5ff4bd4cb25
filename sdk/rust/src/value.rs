//! Values by type: what a plugin reads from settings and facts, and writes into settings and attributes.

use crate::decimal::Decimal;
use crate::{Error, Fact, Setting, Value};

impl Value {
    /// The flag, if it is one.
    pub fn as_flag(&self) -> Option<bool> {
        if let Value::Flag(v) = self { Some(*v) } else { None }
    }

    /// The integer; a real without fraction counts.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Value::Integer(v) => Some(*v),
            Value::Real(v) if v.fract() == 0.0 && v.abs() < 9.0e15 => Some(*v as i64),
            _ => None,
        }
    }

    /// The number, integer or real.
    pub fn as_real(&self) -> Option<f64> {
        match self {
            Value::Integer(v) => Some(*v as f64),
            Value::Real(v) => Some(*v),
            _ => None,
        }
    }

    /// The word.
    pub fn as_text(&self) -> Option<&str> {
        if let Value::Text(v) = self { Some(v) } else { None }
    }

    /// The numbers of a list, integers or reals.
    pub fn as_reals(&self) -> Option<Vec<f64>> {
        match self {
            Value::Integers(v) => Some(v.iter().map(|v| *v as f64).collect()),
            Value::Reals(v) => Some(v.clone()),
            _ => None,
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Flag(v) => f.write_str(if *v { "on" } else { "off" }),
            Value::Integer(v) => write!(f, "{v}"),
            Value::Real(v) => Decimal(*v).fmt(f),
            Value::Text(v) => f.write_str(v),
            Value::Integers(v) => write!(f, "{v:?}"),
            Value::Reals(v) => f.debug_list().entries(v.iter().map(|v| Decimal(*v))).finish(),
            Value::Texts(v) => write!(f, "[{}]", v.join(", ")),
        }
    }
}

impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Value::Flag(v)
    }
}
impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Value::Integer(v)
    }
}
impl From<f64> for Value {
    fn from(v: f64) -> Self {
        Value::Real(v)
    }
}
impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Value::Text(v.into())
    }
}
impl From<String> for Value {
    fn from(v: String) -> Self {
        Value::Text(v)
    }
}

impl From<Vec<f64>> for Value {
    fn from(v: Vec<f64>) -> Self {
        Value::Reals(v)
    }
}

/// A named value.
pub fn setting(name: &str, value: impl Into<Value>) -> Setting {
    Setting { name: name.into(), value: value.into() }
}

/// Named values of one kind, read by name and type; the error names what is missing and what was found instead.
macro_rules! table {
    ($(#[$doc:meta])* $table:ident, $item:ident, $word:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $table(pub Vec<$item>);

        impl $table {
            /// The value under a name.
            pub fn get(&self, name: &str) -> Option<&Value> {
                self.0.iter().find(|item| item.name == name).map(|item| &item.value)
            }

            /// The value under a name, builder style.
            #[must_use]
            pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
                self.0.retain(|item| item.name != name);
                self.0.push($item { name: name.into(), value: value.into() });
                self
            }

            /// A flag. Errors: invalid-input when it is missing or something else.
            pub fn flag(&self, name: &str) -> Result<bool, Error> {
                self.typed(name, "a flag", Value::as_flag)
            }

            /// An integer. Errors: invalid-input when it is missing or something else.
            pub fn integer(&self, name: &str) -> Result<i64, Error> {
                self.typed(name, "an integer", Value::as_integer)
            }

            /// A number. Errors: invalid-input when it is missing or something else.
            pub fn real(&self, name: &str) -> Result<f64, Error> {
                self.typed(name, "a number", Value::as_real)
            }

            /// A word. Errors: invalid-input when it is missing or something else.
            pub fn text(&self, name: &str) -> Result<&str, Error> {
                self.typed(name, "a text", Value::as_text)
            }

            fn typed<'a, T>(
                &'a self,
                name: &str,
                expected: &str,
                read: impl FnOnce(&'a Value) -> Option<T>,
            ) -> Result<T, Error> {
                let value = self
                    .get(name)
                    .ok_or_else(|| Error::invalid(format!(concat!($word, " `{}` is missing; it must be {}"), name, expected)))?;
                read(value).ok_or_else(|| {
                    Error::invalid(format!(concat!($word, " `{}` must be {}, but is {}"), name, expected, value))
                })
            }
        }
    };
}

table!(
    /// What a search (or a user) chose for the parameters of a plugin.
    Settings,
    Setting,
    "setting"
);
table!(
    /// What is known of the model, the scenario and the machine, under dotted names that carry the unit.
    Facts,
    Fact,
    "fact"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_a_setting_names_what_is_missing_or_mistyped() {
        let settings = Settings::default().with("format", "Q4_0").with("keep", 3i64);
        assert_eq!(settings.text("format"), Ok("Q4_0"));
        assert_eq!(settings.real("keep"), Ok(3.0));
        assert_eq!(settings.flag("keep").unwrap_err().message, "setting `keep` must be a flag, but is 3");
        assert_eq!(settings.integer("bits").unwrap_err().message, "setting `bits` is missing; it must be an integer");
    }
}

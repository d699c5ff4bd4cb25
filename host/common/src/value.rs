//! Values of settings, facts and attributes.

use serde::{Deserialize, Serialize};

/// One value. In JSON and TOML it is written plainly: `true`, `3`, `0.5`, `"Q4_0"`, `[1, 2]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// On or off.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Real(f64),
    /// A word.
    Text(String),
    /// Whole numbers.
    Integers(Vec<i64>),
    /// Finite numbers.
    Reals(Vec<f64>),
    /// Words.
    Texts(Vec<String>),
}

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

    /// The whole numbers of a list.
    pub fn as_integers(&self) -> Option<&[i64]> {
        if let Value::Integers(v) = self { Some(v) } else { None }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        fn list<T: std::fmt::Display>(f: &mut std::fmt::Formatter<'_>, items: &[T]) -> std::fmt::Result {
            f.write_str("[")?;
            for (i, item) in items.iter().enumerate() {
                write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
            }
            f.write_str("]")
        }
        match self {
            Value::Flag(v) => f.write_str(if *v { "on" } else { "off" }),
            Value::Integer(v) => write!(f, "{v}"),
            Value::Real(v) => write!(f, "{v}"),
            Value::Text(v) => f.write_str(v),
            Value::Integers(v) => list(f, v),
            Value::Reals(v) => list(f, v),
            Value::Texts(v) => list(f, v),
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
        Value::Text(v.to_owned())
    }
}
impl From<String> for Value {
    fn from(v: String) -> Self {
        Value::Text(v)
    }
}

/// A named value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The parameter or attribute.
    pub name: String,
    /// Its value.
    pub value: Value,
}

impl Setting {
    /// A setting from its parts.
    pub fn new(name: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// Named values in a stable order; in JSON and TOML a table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings(pub Vec<Setting>);

impl Settings {
    /// The value under a name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|s| s.name == name).map(|s| &s.value)
    }

    /// Sets or replaces a value.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.0.iter_mut().find(|s| s.name == name) {
            Some(s) => s.value = value,
            None => self.0.push(Setting { name: name.to_owned(), value }),
        }
    }

    /// Sets a value and returns the settings, for building.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// The settings in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Setting> {
        self.0.iter()
    }
}

impl FromIterator<Setting> for Settings {
    fn from_iter<I: IntoIterator<Item = Setting>>(iter: I) -> Self {
        Settings(iter.into_iter().collect())
    }
}

impl Serialize for Settings {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|s| (&s.name, &s.value)))
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Settings;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a table of settings")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
                let mut settings = Settings::default();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    settings.set(&name, value);
                }
                Ok(settings)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

//! A figure that the machine either gave, or could not give.

use serde::{Deserialize, Serialize};

/// One figure with where it comes from, or the reason why there is none. In JSON:
/// `{"status": "measured", "value": ..., "source": ...}` or `{"status": "unavailable", "reason": ...}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Reading<T> {
    /// The machine gave it.
    Measured {
        /// The figure; its unit is in the name of the field that holds the reading.
        value: T,
        /// The file, counter or method that it was read from.
        source: String,
    },
    /// The machine cannot give it.
    Unavailable {
        /// Why, and what would make it available.
        reason: String,
    },
}

impl<T> Reading<T> {
    /// A figure and its source.
    pub fn measured(value: T, source: impl Into<String>) -> Self {
        Reading::Measured { value, source: source.into() }
    }

    /// No figure, and why.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Reading::Unavailable { reason: reason.into() }
    }

    /// The figure, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Reading::Measured { value, .. } => Some(value),
            Reading::Unavailable { .. } => None,
        }
    }

    /// Why there is no figure.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Reading::Measured { .. } => None,
            Reading::Unavailable { reason } => Some(reason),
        }
    }
}

//! Declaring parameters: `choice("format", "The block format.", ["Q8_0", "Q4_0"]).default("Q8_0").when("mode", ["on"])`.
//!
//! Declarations run once and every plugin has many: what can be is a call, and what is generic only converts values.

use crate::bindings::imports::aehost::plugin::common::{Choices, IntegerRange, RealRange};
use crate::{Condition, Domain, Parameter, Value};
use std::ops::RangeInclusive;

/// A parameter under construction; `.into()` a [`Parameter`]. Without [`Builder::default`] the default is the first value.
#[derive(Debug, Clone)]
pub struct Builder(Parameter);

#[inline(never)]
fn build(name: &str, summary: &str, domain: Domain, default: Value) -> Builder {
    Builder(Parameter { name: name.into(), summary: summary.into(), domain, default, active_when: Vec::new() })
}

/// On or off.
#[inline(never)]
pub fn flag(name: &str, summary: &str) -> Builder {
    build(name, summary, Domain::Flag, Value::Flag(false))
}

/// A whole number of a range; the default is the smallest.
#[inline(never)]
pub fn integer(name: &str, summary: &str, range: RangeInclusive<i64>) -> Builder {
    let (min, max) = range.into_inner();
    build(name, summary, Domain::Integer(IntegerRange { min, max, step: 1, log: false }), min.into())
}

/// A number of an interval; the default is the smallest.
#[inline(never)]
pub fn real(name: &str, summary: &str, range: RangeInclusive<f64>) -> Builder {
    let (min, max) = range.into_inner();
    build(name, summary, Domain::Real(RealRange { min, max, log: false }), min.into())
}

/// One of a closed list, at least one value long; the default is the first.
pub fn choice<V: Into<Value>>(name: &str, summary: &str, values: impl IntoIterator<Item = V>) -> Builder {
    closed_list(name, summary, values.into_iter().map(Into::into).collect())
}

#[inline(never)]
fn closed_list(name: &str, summary: &str, values: Vec<Value>) -> Builder {
    let default = values.first().cloned().unwrap_or(Value::Flag(false));
    build(name, summary, Domain::Choice(Choices { values, ordered: false }), default)
}

impl Builder {
    /// What is used when nobody chooses; must lie in the domain.
    #[must_use]
    pub fn default(self, value: impl Into<Value>) -> Self {
        self.by_default(value.into())
    }

    #[inline(never)]
    fn by_default(mut self, value: Value) -> Self {
        self.0.default = value;
        self
    }

    /// The parameter exists only while `parameter`, declared before it, has one of `values`. Several conditions must all hold.
    #[must_use]
    pub fn when<V: Into<Value>>(self, parameter: &str, values: impl IntoIterator<Item = V>) -> Self {
        self.only_when(parameter, values.into_iter().map(Into::into).collect())
    }

    #[inline(never)]
    fn only_when(mut self, parameter: &str, values: Vec<Value>) -> Self {
        self.0.active_when.push(Condition { parameter: parameter.into(), values });
        self
    }

    /// Neighbours in the list of choices are alike, so a search may step along it.
    #[must_use]
    #[inline(never)]
    pub fn ordered(mut self) -> Self {
        if let Domain::Choice(choices) = &mut self.0.domain {
            choices.ordered = true;
        }
        self
    }

    /// Distance of neighbouring integers.
    #[must_use]
    #[inline(never)]
    pub fn step(mut self, step: i64) -> Self {
        if let Domain::Integer(range) = &mut self.0.domain {
            range.step = step;
        }
        self
    }

    /// Search a range on a logarithmic scale; its smallest value must be positive.
    #[must_use]
    #[inline(never)]
    pub fn log(mut self) -> Self {
        match &mut self.0.domain {
            Domain::Integer(range) => range.log = true,
            Domain::Real(range) => range.log = true,
            Domain::Flag | Domain::Choice(_) => {}
        }
        self
    }
}

impl From<Builder> for Parameter {
    fn from(builder: Builder) -> Self {
        builder.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_defaults_to_its_first_value_and_carries_its_conditions() {
        let parameter: Parameter =
            choice("sinks", "First tokens kept.", [0i64, 4]).ordered().when("mode", ["window"]).into();
        assert_eq!(parameter.default, Value::Integer(0));
        assert_eq!(parameter.active_when, [Condition { parameter: "mode".into(), values: vec!["window".into()] }]);
        assert!(matches!(parameter.domain, Domain::Choice(Choices { ordered: true, .. })));
    }
}

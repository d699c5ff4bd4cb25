//! Between the contract's words and the host's. What comes from a plugin is checked here: numbers are finite, texts are
//! of a sensible length and cannot steer a terminal.

use crate::bindings::shared::common as wit;
use aehost_common::{
    Code, Condition, Direction, Domain, Fact, Fault, Identity, Parameter, Setting, Settings, Stage, Value,
};

/// Longer texts from plugins are cut.
const TEXT_LIMIT: usize = 16 << 10;

/// A text for people: control characters become spaces, and what is too long is cut.
pub(crate) fn text(mut text: String) -> String {
    if text.len() > TEXT_LIMIT {
        let mut end = TEXT_LIMIT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        text = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    }
    text
}

pub(crate) fn fault_out(fault: Fault) -> wit::Error {
    wit::Error { code: fault.code.as_str().into(), message: fault.message, causes: fault.causes }
}

pub(crate) fn fault_in(error: wit::Error) -> Fault {
    Fault {
        code: Code::parse(&error.code),
        message: text(error.message),
        causes: error.causes.into_iter().take(20).map(text).collect(),
    }
}

pub(crate) fn value_out(value: &Value) -> wit::Value {
    match value.clone() {
        Value::Flag(v) => wit::Value::Flag(v),
        Value::Integer(v) => wit::Value::Integer(v),
        Value::Real(v) => wit::Value::Real(v),
        Value::Text(v) => wit::Value::Text(v),
        Value::Integers(v) => wit::Value::Integers(v),
        Value::Reals(v) => wit::Value::Reals(v),
        Value::Texts(v) => wit::Value::Texts(v),
    }
}

fn finite(value: &Value) -> bool {
    match value {
        Value::Real(v) => v.is_finite(),
        Value::Reals(v) => v.iter().all(|v| v.is_finite()),
        _ => true,
    }
}

/// `name` is what the value belongs to, for the error.
pub(crate) fn value_in(name: &str, value: wit::Value) -> Result<Value, Fault> {
    let value = match value {
        wit::Value::Flag(v) => Value::Flag(v),
        wit::Value::Integer(v) => Value::Integer(v),
        wit::Value::Real(v) => Value::Real(v),
        wit::Value::Text(v) => Value::Text(v),
        wit::Value::Integers(v) => Value::Integers(v),
        wit::Value::Reals(v) => Value::Reals(v),
        wit::Value::Texts(v) => Value::Texts(v),
    };
    if finite(&value) { Ok(value) } else { Err(Fault::invalid(format!("`{name}` = {value} is not finite"))) }
}

pub(crate) fn setting_in(setting: wit::Setting) -> Result<Setting, Fault> {
    let value = value_in(&setting.name, setting.value)?;
    Ok(Setting { name: setting.name, value })
}

pub(crate) fn settings_in(settings: Vec<wit::Setting>) -> Result<Settings, Fault> {
    settings.into_iter().map(setting_in).collect()
}

pub(crate) fn settings_out(settings: &Settings) -> Vec<wit::Setting> {
    settings.iter().map(|s| wit::Setting { name: s.name.clone(), value: value_out(&s.value) }).collect()
}

pub(crate) fn fact_out(fact: &Fact) -> wit::Fact {
    wit::Fact { name: fact.name.clone(), value: value_out(&fact.value) }
}

pub(crate) fn facts_out(facts: &Settings) -> Vec<wit::Fact> {
    facts.iter().map(fact_out).collect()
}

pub(crate) fn stage_in(stage: wit::Stage) -> Stage {
    match stage {
        wit::Stage::Architecture => Stage::Architecture,
        wit::Stage::FineTuning => Stage::FineTuning,
        wit::Stage::Inference => Stage::Inference,
    }
}

pub(crate) fn stage_out(stage: Stage) -> wit::Stage {
    match stage {
        Stage::Architecture => wit::Stage::Architecture,
        Stage::FineTuning => wit::Stage::FineTuning,
        Stage::Inference => wit::Stage::Inference,
    }
}

pub(crate) fn direction_in(direction: wit::Direction) -> Direction {
    match direction {
        wit::Direction::Minimize => Direction::Minimize,
        wit::Direction::Maximize => Direction::Maximize,
    }
}

pub(crate) fn direction_out(direction: Direction) -> wit::Direction {
    match direction {
        Direction::Minimize => wit::Direction::Minimize,
        Direction::Maximize => wit::Direction::Maximize,
    }
}

/// Checks what everything else is addressed by.
pub(crate) fn identity_in(identity: wit::Identity) -> Result<Identity, Fault> {
    let id = &identity.id;
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let plain = id.chars().all(|c| edge(c) || c == '-') && id.starts_with(edge) && id.ends_with(edge);
    if !plain || id.len() > 64 {
        return Err(Fault::internal(format!("its id `{}` is not lower-case-with-hyphens", text(id.clone()))));
    }
    let numbers: Vec<&str> = identity.version.split(['-', '+']).next().unwrap_or_default().split('.').collect();
    if numbers.len() != 3 || numbers.iter().any(|n| n.parse::<u32>().is_err()) || identity.version.len() > 64 {
        return Err(Fault::internal(format!(
            "its version `{}` is not of the form major.minor.patch",
            text(identity.version.clone())
        )));
    }
    Ok(Identity {
        id: identity.id,
        version: text(identity.version),
        summary: text(identity.summary),
        reference: text(identity.reference),
    })
}

fn parameter_in(parameter: wit::Parameter) -> Result<Parameter, Fault> {
    let name = parameter.name;
    let values =
        |values: Vec<wit::Value>| values.into_iter().map(|v| value_in(&name, v)).collect::<Result<Vec<_>, _>>();
    let domain = match parameter.domain {
        wit::Domain::Flag => Domain::Flag,
        wit::Domain::Integer(r) => Domain::Integer { min: r.min, max: r.max, step: r.step, log: r.log },
        wit::Domain::Real(r) => Domain::Real { min: r.min, max: r.max, log: r.log },
        wit::Domain::Choice(c) => Domain::Choice { values: values(c.values)?, ordered: c.ordered },
    };
    let default = value_in(&name, parameter.default)?;
    let mut active_when = Vec::with_capacity(parameter.active_when.len());
    for condition in parameter.active_when {
        active_when.push(Condition { parameter: condition.parameter, values: values(condition.values)? });
    }
    Ok(Parameter { name, summary: text(parameter.summary), domain, default, active_when })
}

/// Parameters that make sense, each by itself and in this order.
pub(crate) fn parameters_in(parameters: Vec<wit::Parameter>) -> Result<Vec<Parameter>, Fault> {
    let mut checked: Vec<Parameter> = Vec::with_capacity(parameters.len());
    for parameter in parameters {
        let parameter = parameter_in(parameter)?;
        parameter.check(&checked).map_err(|e| Fault::internal(e.to_string()))?;
        checked.push(parameter);
    }
    Ok(checked)
}

pub(crate) fn parameters_out(parameters: &[Parameter]) -> Vec<wit::Parameter> {
    parameters
        .iter()
        .map(|p| wit::Parameter {
            name: p.name.clone(),
            summary: p.summary.clone(),
            domain: match &p.domain {
                Domain::Flag => wit::Domain::Flag,
                Domain::Integer { min, max, step, log } => {
                    wit::Domain::Integer(wit::IntegerRange { min: *min, max: *max, step: *step, log: *log })
                }
                Domain::Real { min, max, log } => wit::Domain::Real(wit::RealRange { min: *min, max: *max, log: *log }),
                Domain::Choice { values, ordered } => wit::Domain::Choice(wit::Choices {
                    values: values.iter().map(value_out).collect(),
                    ordered: *ordered,
                }),
            },
            default: value_out(&p.default),
            active_when: p
                .active_when
                .iter()
                .map(|c| wit::Condition {
                    parameter: c.parameter.clone(),
                    values: c.values.iter().map(value_out).collect(),
                })
                .collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_steer_a_terminal() {
        assert_eq!(text("red \u{1b}[31m\nnext\u{7}".into()), "red  [31m\nnext ");
        assert!(text("x".repeat(1 << 20)).len() < 20_000);
    }

    #[test]
    fn values_that_are_not_finite_are_refused() {
        let error = value_in("scale", wit::Value::Real(f64::NAN)).unwrap_err();
        assert_eq!(error.message, "`scale` = NaN is not finite");
    }

    #[test]
    fn ids_are_lower_case_with_hyphens() {
        let identity = |id: &str, version: &str| {
            identity_in(wit::Identity {
                id: id.into(),
                version: version.into(),
                summary: String::new(),
                reference: String::new(),
            })
        };
        assert!(identity("kv-cache2", "0.1.0-rc.1").is_ok());
        assert_eq!(identity("../x", "0.1.0").unwrap_err().message, "its id `../x` is not lower-case-with-hyphens");
        assert_eq!(identity("x", "new").unwrap_err().message, "its version `new` is not of the form major.minor.patch");
    }
}

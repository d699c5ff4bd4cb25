//! The part of a search space that a user wants searched: some techniques, some values of their parameters.

use super::{SpaceError, id};
use crate::TechniqueSpace;
use aehost_common::{Domain, Parameter, Stage, Value};

/// The techniques that are named, with their parameters limited; all of them as they are where none is. Each of `words` is the
/// name of a stage, or `ID:NAME=VALUES,NAME=VALUES`, with values `8`, `8|16|32` or `1e-4..1e-3`; parameters that are left out keep
/// their domains.
///
/// # Errors
/// No such technique or parameter, a technique named twice, or values outside the domain; the message lists what there is.
pub fn narrowed(techniques: &[TechniqueSpace], words: &[String]) -> Result<Vec<TechniqueSpace>, SpaceError> {
    if words.is_empty() {
        return Ok(techniques.to_vec());
    }
    let mut made: Vec<TechniqueSpace> = Vec::new();
    for words in words {
        if let Some(stage) = Stage::ALL.into_iter().find(|stage| stage.to_string() == *words) {
            let rest = techniques.iter().filter(|t| t.description.stage == stage);
            let rest: Vec<_> = rest.filter(|t| made.iter().all(|known| id(known) != id(t))).cloned().collect();
            made.extend(rest);
            continue;
        }
        let name = words.split(':').next().unwrap_or_default();
        let Some(technique) = techniques.iter().find(|t| id(t) == name) else {
            let known = techniques.iter().map(id).collect::<Vec<_>>().join(", ");
            return Err(SpaceError::Unknown { technique: name.to_owned(), known });
        };
        if made.iter().any(|known| id(known) == name) {
            return Err(SpaceError::Words { words: words.clone(), why: format!("`{name}` is named before") });
        }
        made.push(limited(technique.clone(), words)?);
    }
    Ok(made)
}

fn limited(mut technique: TechniqueSpace, words: &str) -> Result<TechniqueSpace, SpaceError> {
    let wrong = |why: String| SpaceError::Words { words: words.to_owned(), why };
    let (name, rest) = words.split_once(':').unwrap_or((words, ""));
    for pair in rest.split(',').filter(|pair| !pair.is_empty()) {
        let (parameter, values) =
            pair.split_once('=').ok_or_else(|| wrong(format!("`{pair}` is no limit: write NAME=VALUES")))?;
        let known = || technique.parameters.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
        let Some(at) = technique.parameters.iter().position(|p| p.name == parameter) else {
            return Err(wrong(format!("`{name}` has no parameter `{parameter}`; it has: {}", known())));
        };
        let parameter = &mut technique.parameters[at];
        let domain = within(&parameter.domain, values).ok_or_else(|| {
            wrong(format!(
                "`{}` must be {}: write one value, several as in a|b, or a range as in a..b, not `{values}`",
                parameter.name, parameter.domain
            ))
        })?;
        limit(parameter, domain);
    }
    Ok(technique)
}

fn limit(parameter: &mut Parameter, domain: Domain) {
    parameter.domain = domain;
    if parameter.domain.contains(&parameter.default) {
        return;
    }
    parameter.default = match (&parameter.domain, &parameter.default) {
        (Domain::Integer { min, max, step, .. }, Value::Integer(v)) => {
            Value::Integer(min + (v.clamp(min, max) - min) / step * step)
        }
        (Domain::Real { min, max, .. }, default) => Value::Real(default.as_real().unwrap_or(*min).clamp(*min, *max)),
        (Domain::Choice { values, .. }, default) => values.first().unwrap_or(default).clone(),
        (_, default) => default.clone(),
    };
}

/// The values of a domain that are meant; none where some are not of it.
fn within(domain: &Domain, words: &str) -> Option<Domain> {
    let Some((from, to)) = words.split_once("..") else {
        let values = words.split('|').map(|word| domain.parse(word.trim())).collect::<Option<Vec<_>>>()?;
        let ordered = match domain {
            Domain::Integer { .. } | Domain::Real { .. } => true,
            Domain::Choice { ordered, .. } => *ordered,
            Domain::Flag => false,
        };
        return Some(Domain::Choice { values, ordered });
    };
    let (from, to) = (domain.parse(from.trim())?, domain.parse(to.trim())?);
    match (domain, &from, &to) {
        (Domain::Integer { step, log, .. }, Value::Integer(min), Value::Integer(max)) if min <= max => {
            Some(Domain::Integer { min: *min, max: *max, step: *step, log: *log })
        }
        (Domain::Real { log, .. }, Value::Real(min), Value::Real(max)) if min <= max => {
            Some(Domain::Real { min: *min, max: *max, log: *log })
        }
        (Domain::Choice { values, ordered: true }, ..) => {
            let at = |value: &Value| values.iter().position(|v| v == value);
            let (first, last) = (at(&from)?, at(&to)?);
            (first <= last).then(|| Domain::Choice { values: values[first..=last].to_vec(), ordered: true })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::technique;

    fn parameter(name: &str, domain: Domain, default: Value) -> Parameter {
        Parameter { name: name.into(), summary: String::new(), domain, default, active_when: vec![] }
    }

    fn techniques() -> Vec<TechniqueSpace> {
        let steps = Domain::Integer { min: 10, max: 1000, step: 10, log: true };
        let rate = Domain::Real { min: 1e-6, max: 0.1, log: true };
        let batch = Domain::Choice { values: [1i64, 2, 4, 8].map(Value::from).to_vec(), ordered: true };
        let parameters = vec![
            parameter("steps", steps, 100i64.into()),
            parameter("rate", rate, 1e-3.into()),
            parameter("batch", batch, 4i64.into()),
            parameter("merge", Domain::Flag, true.into()),
        ];
        vec![
            technique("pruning", Stage::Architecture, vec![]),
            technique("lora", Stage::FineTuning, parameters),
            technique("hqq", Stage::Inference, vec![]),
            technique("gptq", Stage::Inference, vec![]),
        ]
    }

    fn narrow(words: &[&str]) -> Result<Vec<TechniqueSpace>, String> {
        let words: Vec<String> = words.iter().map(|words| (*words).to_owned()).collect();
        narrowed(&techniques(), &words).map_err(|error| error.to_string())
    }

    #[test]
    fn only_what_is_named_takes_part() {
        let ids = |words: &[&str]| narrow(words).unwrap().iter().map(|t| id(t).to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(&[]).len(), 4);
        assert_eq!(ids(&["hqq", "lora"]), ["hqq", "lora"]);
        assert_eq!(ids(&["gptq", "inference"]), ["gptq", "hqq"]);
        assert_eq!(narrow(&["hqq", "hqq"]).unwrap_err(), "`hqq`: `hqq` is named before");
        assert_eq!(narrow(&["awq"]).unwrap_err(), "unknown technique `awq`; known: pruning, lora, hqq, gptq");
    }

    #[test]
    fn parameters_are_limited_and_defaults_lie_within() {
        let made = narrow(&["lora:steps=200..455,rate=1e-5..1e-4,batch=1..2,merge=off"]);
        // 455 is no multiple of the step.
        assert!(made.unwrap_err().contains("in steps of 10"));
        let made = narrow(&["lora:steps=200..450,rate=1e-5..1e-4,batch=1..2,merge=off"]).unwrap();
        let found: Vec<(String, String)> =
            made[0].parameters.iter().map(|p| (p.domain.to_string(), p.default.to_string())).collect();
        let expected = [
            ("200 to 450 in steps of 10", "200"),
            ("0.00001 to 0.0001", "0.0001"),
            ("one of 1, 2", "1"),
            ("one of off", "off"),
        ];
        assert_eq!(found, expected.map(|(domain, default)| (domain.to_owned(), default.to_owned())));
        let made = narrow(&["lora:steps=50|100,batch=8|4"]).unwrap();
        assert_eq!(made[0].parameters[0].domain.to_string(), "one of 50, 100");
        assert_eq!(made[0].parameters[2].default, 4i64.into());
        for technique in &made {
            technique.parameters.iter().for_each(|p| p.check(&[]).unwrap());
        }
        for (words, why) in [
            ("lora:step=1", "it has: steps, rate, batch, merge"),
            ("lora:steps", "write NAME=VALUES"),
            ("lora:steps=1|2", "`steps` must be 10 to 1000 in steps of 10"),
            ("lora:steps=100..50", "not `100..50`"),
            ("lora:merge=off..on", "must be on or off"),
        ] {
            let error = narrow(&[words]).unwrap_err();
            assert!(error.contains(why), "{words}: {error}");
        }
    }
}

//! The hardware profile as named facts. The profile is the meter's, and this crate knows only its form: nested objects,
//! figures with a `status`, units at the ends of names.

use crate::units::{Scale, with_unit};
use serde_json::Value;

/// Every known leaf of the profile under its path in words; what is unavailable says why.
pub(crate) fn facts(profile: &Value) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    collect(&mut Vec::new(), profile, &mut facts);
    facts
}

fn collect(path: &mut Vec<String>, value: &Value, facts: &mut Vec<(String, String)>) {
    let Value::Object(fields) = value else {
        let (name, text) = leaf(path, value);
        return facts.push((name, text));
    };
    if let (Some(status), reason) = (fields.get("status").and_then(Value::as_str), fields.get("reason")) {
        match (status, fields.get("value")) {
            (_, Some(inner)) => collect(path, inner, facts),
            (_, None) => {
                let reason = reason.and_then(Value::as_str).unwrap_or("no reason was given");
                facts.push((leaf(path, &Value::Null).0, format!("{status}: {reason}")));
            }
        }
        return;
    }
    for (name, inner) in fields {
        path.push(name.clone());
        collect(path, inner, facts);
        path.pop();
    }
}

/// A name without its unit, and the value with it.
fn leaf(path: &[String], value: &Value) -> (String, String) {
    let joined = path.join(" ");
    let units = [("_bytes_per_s", "GB/s", 1e-9), ("_watts", "W", 1.0), ("_mhz", "MHz", 1.0)];
    for (suffix, unit, factor) in units {
        if let Some(name) = joined.strip_suffix(suffix) {
            let text = value.as_f64().map(|v| with_unit(crate::units::number(v * factor), unit));
            return (words(name), text.unwrap_or_else(|| plain(value)));
        }
    }
    if let Some(name) = joined.strip_suffix("_bytes") {
        let text = value.as_f64().map(|v| Scale::of("bytes").show_with_unit(v));
        return (words(name), text.unwrap_or_else(|| plain(value)));
    }
    (words(&joined), plain(value))
}

fn words(name: &str) -> String {
    name.replace('_', " ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(on) => if *on { "yes" } else { "no" }.into(),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let item = |item| {
                facts(item).into_iter().map(|(name, text)| format!("{name} {text}")).collect::<Vec<_>>().join(", ")
            };
            items.iter().map(item).collect::<Vec<_>>().join("; ")
        }
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_profile_becomes_named_facts_with_units() {
        let measured = |value: Value| json!({"status": "measured", "value": value, "source": "/proc"});
        let profile = json!({
            "cpu": {"model": measured(json!("Example")), "caches": {"l3_bytes": measured(json!(33_554_432))}},
            "bandwidth": measured(json!({"read_bytes_per_s": 43.2e9})),
            "gpus": {"status": "unavailable", "reason": "no driver"},
            "system": {"virtual_machine": measured(json!(true))},
        });
        let expected = [
            ("cpu model", "Example"),
            ("cpu caches l3", "32.0 MiB"),
            ("bandwidth read", "43.2 GB/s"),
            ("gpus", "unavailable: no driver"),
            ("system virtual machine", "yes"),
        ];
        assert_eq!(facts(&profile), expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }
}

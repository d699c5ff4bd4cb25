//! The data that the charts of the report draw, as JSON in shown units.

use super::choices;
use crate::terminal::outcome_message;
use crate::units::{SCORE, clean, duration, label, number, trials};
use crate::view::{Measured, Place, Row, Shown, View, constraint_with_value};
use aehost_common::{Curve, Direction, Domain, Value as Setting};
use aehost_study::metrics;
use serde_json::{Map, Value, json};

/// An axis of the parallel coordinates lists its values up to this many; beyond it is a scale.
const LISTED: usize = 12;

/// All that the scripts draw.
pub(super) fn data(view: &View) -> Value {
    let shown: Vec<Value> = view
        .metrics
        .iter()
        .map(|m| {
            let direction = if m.direction == Direction::Maximize { "maximize" } else { "minimize" };
            json!({"key": m.name, "label": m.label, "unit": m.scale.unit, "direction": direction})
        })
        .collect();
    let objectives = || view.record.objectives.iter().map(|o| o.metric.as_str());
    let (x, y) = axes(view);
    let drawn: Vec<&str> = objectives().chain([SCORE]).collect();
    let quality = view.record.evaluators.iter().filter_map(|e| Some(e.description.metrics.first()?.name.as_str()));
    let compared = objectives().filter(|m| *m != metrics::ACCURACY_DROP).chain(quality).chain([
        "latency.ttft_ms",
        "latency.tpot_ms",
        metrics::END_TO_END,
        metrics::PEAK_MEMORY,
        metrics::WEIGHTS_MEMORY,
        metrics::ENERGY,
    ]);
    json!({
        "metrics": shown,
        "shown_metrics": drawn,
        "compared_metrics": compared.collect::<Vec<_>>(),
        "x": x,
        "y": y,
        "baseline": view.baseline().map(|r| r.trial.id),
        "recommended": view.recommended().map(|r| r.trial.id),
        "parameters": parameters(view),
        "trials": view.rows.iter().map(|row| trial(view, row)).collect::<Vec<_>>(),
        "training": training(view),
        "hypervolume": view.analysis.hypervolume,
        "importance": view.analysis.importance.iter().map(|i| json!({
            "label": if i.metric == "efficiency_score" { label(SCORE) } else { label(&i.metric) },
            "explained": i.explained,
            "shares": i.parameters.iter().map(|p| (clean(&p.parameter), p.share)).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

/// What the front is drawn over at first: two objectives, quality upwards, or what stands for one that is missing.
fn axes<'v>(view: &'v View) -> (&'v str, &'v str) {
    let objectives = || view.record.objectives.iter().map(|o| o.metric.as_str());
    let accuracy = view.record.accuracy_metric.as_str();
    let evaluated = |metric: &str| view.record.evaluators.iter().any(|e| metric.starts_with(&format!("{}.", e.label)));
    let quality = objectives().find(|m| *m == accuracy).or_else(|| objectives().find(|m| evaluated(m)));
    let shown = |metric: &&str| view.metric(metric).is_some();
    let y = quality.or(Some(accuracy)).filter(shown).unwrap_or(metrics::ACCURACY_DROP);
    (objectives().find(|m| *m != y).filter(shown).unwrap_or(SCORE), y)
}

/// How losses fell in the trials that trained; what several share is drawn once.
fn training(view: &View) -> Vec<Value> {
    let mut drawn: Vec<(&Curve, Vec<String>)> = Vec::new();
    for row in &view.rows {
        for curve in row.trial.outcome.measurements().iter().flat_map(|measurements| &measurements.training) {
            match drawn.iter_mut().find(|(known, _)| *known == curve) {
                Some((_, trials)) => trials.push(row.trial.id.to_string()),
                None => drawn.push((curve, vec![row.trial.id.to_string()])),
            }
        }
    }
    let made = drawn.into_iter().map(|(curve, trials)| {
        let held_out = curve.points.iter().filter_map(|point| Some((point.step, point.held_out?)));
        json!({
            "trials": trials.join(", "),
            "points": curve.points.iter().map(|point| (point.step, point.loss)).collect::<Vec<_>>(),
            "held_out": held_out.collect::<Vec<_>>(),
        })
    });
    made.collect()
}

/// The parameters that the measured trials differ in, techniques without parameters among them. Few values are listed in
/// their order; a parameter with many is a scale.
fn parameters(view: &View) -> Vec<Value> {
    let mut made = Vec::new();
    for technique in &view.record.space {
        let id = &technique.description.identity.id;
        if technique.parameters.is_empty() {
            made.push(json!({"key": id, "label": clean(id), "values": ["off", "on"]}));
        }
        for parameter in &technique.parameters {
            let key = format!("{id}.{}", parameter.name);
            let mut used: Vec<&Setting> = view
                .rows
                .iter()
                .flat_map(|row| &row.trial.configuration.0)
                .filter(|choice| choice.technique == *id)
                .filter_map(|choice| choice.settings.get(&parameter.name))
                .collect();
            used.sort_by(|a, b| order(&parameter.domain, a).total_cmp(&order(&parameter.domain, b)));
            used.dedup();
            if used.is_empty() {
                continue;
            }
            let scale = used.len() > LISTED && used.iter().all(|v| v.as_real().is_some());
            let mut values = vec![UNSET.to_owned()];
            values.extend(used.iter().map(|v| clean(&v.to_string())));
            made.push(json!({"key": key, "label": clean(&key), "values": (!scale).then_some(values)}));
        }
    }
    made
}

/// Stands on an axis for trials in which a parameter does not exist. Not `off`, which is a value of flags.
const UNSET: &str = "–";

fn order(domain: &Domain, value: &Setting) -> f64 {
    match (domain, value) {
        (Domain::Choice { values, .. }, value) => values.iter().position(|v| v == value).map_or(-1.0, |i| i as f64),
        (_, Setting::Flag(on)) => f64::from(u8::from(*on)),
        (_, value) => value.as_real().unwrap_or(0.0),
    }
}

fn trial(view: &View, row: &Row) -> Value {
    let figures = |measured: Option<Measured>| {
        let measured = measured?;
        let figure = |m: &Shown| {
            let figure = measured.figure(&m.name)?;
            Some((m.name.clone(), json!([figure.value * m.scale.factor, figure.standard_error * m.scale.factor])))
        };
        Some(view.metrics.iter().filter_map(figure).collect::<Map<_, _>>())
    };
    let mut settings = Map::new();
    for choice in &row.trial.configuration.0 {
        settings.insert(choice.technique.clone(), "on".into());
        for setting in choice.settings.iter() {
            let key = format!("{}.{}", choice.technique, setting.name);
            // Lists are drawn as words; scales need numbers. Scripts take either.
            settings.insert(key, json!({"text": clean(&setting.value.to_string()), "number": setting.value.as_real()}));
        }
    }
    let best = row.best();
    let estimated = |m: &Shown| Some((m.name.clone(), Value::from(best?.estimated_by(&m.name)?)));
    let measurements = best.and_then(|m| m.trial.outcome.measurements());
    let violations = best.iter().flat_map(|m| &m.figures.violations);
    json!({
        "id": row.trial.id,
        "title": format!("Trial {}", row.trial.id),
        "kind": row.place,
        "tags": tags(row),
        "configuration": clean(&row.trial.configuration.to_string()),
        "choices": choices(row.trial),
        "settings": settings,
        "why": clean(&row.trial.why),
        "message": outcome_message(&row.trial.outcome).map(|message| format!("{}: {message}", row.trial.outcome.word())),
        "broken": violations.map(|v| format!("breaks {}", constraint_with_value(view.record, &v.constraint, v.value))).collect::<Vec<_>>(),
        "screening": figures(row.screening),
        "confirmed": figures(row.confirmed),
        "confirmed_in": row.confirmed.map(|m| m.trial.id),
        "feasible": row.feasible,
        "estimated": view.metrics.iter().filter_map(estimated).collect::<Map<_, _>>(),
        "unavailable": measurements.iter().flat_map(|m| &m.unavailable).map(|(m, why)| (label(m), clean(why))).collect::<Vec<_>>(),
    })
}

fn tags(row: &Row) -> Vec<String> {
    let mut tags = vec![row.place.word().to_owned()];
    if row.on_front && row.place != Place::Front {
        tags.push("on the front".into());
    }
    if !row.may_be_dominated_by.is_empty() {
        tags.push(format!("may be dominated, within the noise, by {}", trials(row.may_be_dominated_by)));
    }
    if row.trial.fidelity < 1.0 {
        tags.push(format!("{} % of the data", number(100.0 * row.trial.fidelity)));
    }
    tags.push(duration(row.trial.timings.total()));
    tags
}

//! The figures at the top of the report: the efficiency score, the accuracy drop, and what they are made of.

use super::choices;
use crate::units::{clean, signed};
use crate::view::{Measured, View, score_meaning};
use aehost_common::Direction;
use aehost_study::{Weight, metrics};
use serde_json::{Value, json};

/// The figures at the top; none while there is no recommendation or the baseline was not measured.
pub(super) fn headline(view: &View) -> Option<Value> {
    let recommended = view.recommended()?;
    let (base, own) = view.compared()?;
    let confirmed = recommended.confirmed.is_some_and(|c| c.trial.id == own.trial.id);
    let mut figures = Vec::new();
    let mut figure = |name: &str, value: String, unit: &str, note: String| {
        figures.push(json!({"name": name, "value": value, "unit": unit, "note": note}));
    };
    let score = own.figures.score().map_or_else(|| "unavailable".into(), |s| format!("{s:.2}"));
    let holds = match own.figures.feasible {
        _ if view.record.constraints.is_empty() => "no constraints were set".to_owned(),
        false => "a constraint is broken".to_owned(),
        true => {
            format!("all constraints hold, {:.0} % likely", (100.0 * own.figures.probability_feasible).clamp(1.0, 99.0))
        }
    };
    figure("Efficiency score", score, "×", holds);
    match &own.figures.accuracy_drop {
        Some(drop) => {
            let [low, high] = drop.interval;
            let note = format!("95 % interval {} to {}, {} items", signed(low), signed(high), drop.items);
            figure("Accuracy drop", signed(drop.percent.value), "%", note);
        }
        None => figure("Accuracy drop", "unavailable".into(), "", view.record.accuracy_metric.clone()),
    }
    for metric in [metrics::END_TO_END, metrics::PEAK_MEMORY, metrics::ENERGY] {
        let Some(shown) = view.metric(metric) else { continue };
        let Some((own_figure, base_figure)) = own.figure(metric).zip(base.figure(metric)) else { continue };
        let note = format!("baseline {}", shown.scale.show_with_unit(base_figure.value));
        let estimated = if own.estimated_by(metric).is_some() { ", estimated" } else { "" };
        let name = capitalised(&shown.label) + estimated;
        figure(&name, shown.scale.show(own_figure.value), &shown.scale.unit, note);
    }
    let items = own.figures.accuracy_drop.as_ref().map(|d| format!(" on {} items", d.items)).unwrap_or_default();
    let badge = if confirmed {
        format!("Confirmed: baseline and recommended configuration were measured again{items}")
    } else {
        format!("Screening figures{items}: not confirmed at full fidelity")
    };
    let trial = recommended.trial.id;
    Some(json!({
        "kind": if confirmed { "confirmed" } else { "screening" },
        "badge": badge,
        "figures": figures,
        "score": own.figures.score().map(|score| format!("{score:.2}")),
        "factors": factors(view, &base, &own),
        "root": counted(view, &own).iter().map(|w| w.weight).sum::<f64>().to_string(),
        "meaning": score_meaning(view.record),
        "trial": trial,
        "choices": choices(recommended.trial),
        "command": format!("aehost generate --study {} --trial {trial} \"Hello\"", clean(&view.record.name)),
    }))
}

/// What the efficiency score is the mean of: the values of the baseline and of the recommended trial, the better one below, and
/// the exponent, where it is not 1.
fn factors(view: &View, base: &Measured, own: &Measured) -> Vec<Value> {
    let counted = counted(view, own);
    let factor = |Weight { metric, weight }: Weight| {
        let shown = view.metric(&metric)?;
        let value = |m: &Measured| Some(shown.scale.show(m.figure(&metric)?.value));
        let (mut over, mut under) = (value(base)?, value(own)?);
        if shown.direction == Direction::Maximize {
            std::mem::swap(&mut over, &mut under);
        }
        let power = (weight != 1.0).then(|| weight.to_string());
        Some(json!({"name": shown.label, "over": over, "under": under, "power": power}))
    };
    counted.into_iter().filter_map(factor).collect()
}

/// The weights that count in a trial's score.
fn counted(view: &View, own: &Measured) -> Vec<Weight> {
    let factors = own.figures.efficiency.as_ref().map(|efficiency| &efficiency.factors);
    let counts = |weight: &Weight| factors.is_some_and(|factors| factors.contains_key(&weight.metric));
    view.record.weights().iter().filter(|weight| counts(weight)).cloned().collect()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

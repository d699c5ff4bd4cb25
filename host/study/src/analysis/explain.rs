//! The recommendation in words: what it keeps, what it saves, how sure that is, and why it and nothing else.

use super::{Analysis, Recommendation, measurements};
use crate::{Figures, StudyRecord, Trial, TrialId, metrics};
use aehost_common::Direction;
use std::fmt::Write;

pub(super) fn explain(record: &StudyRecord, trials: &[Trial], analysis: &Analysis) -> String {
    let measured = analysis.trials.iter().filter(|t| t.screening.is_some()).count();
    let feasible = analysis.trials.iter().filter(|t| t.feasible).count();
    let Some(Recommendation { trial, confirmed }) = analysis.recommended else {
        return match analysis.baseline {
            None => "Nothing was measured yet.".to_owned(),
            Some(_) => nothing_feasible(record, analysis, measured),
        };
    };
    if trial == TrialId(0) {
        return format!(
            "Keep the baseline: of {measured} measured trials, none that satisfies the constraints is cheaper than it."
        );
    }
    let figures = analysis.trial(trial).and_then(|a| a.headline());
    let configuration = trials.iter().find(|t| t.id == trial).map(|t| &t.configuration);
    let (Some(figures), Some(configuration)) = (figures, configuration) else { return String::new() };
    let mut text = format!("Trial {trial} ({configuration}) {}", accuracy(record, trials, analysis, figures));
    text.push_str(&savings(record, trials, analysis, figures));
    if let Some(score) = figures.score() {
        let others = feasible.saturating_sub(1);
        let _ = write!(
            text,
            " It is recommended because its efficiency score, {score:.2}, is the best {} trials that satisfy the \
             constraints (of {measured} measured trials, {others} others do).",
            if confirmed { "among the confirmed" } else { "of the" }
        );
    }
    text.push_str(&certainty(record, figures, confirmed));
    if !record.reference.is_empty() {
        let _ = write!(text, " The baseline is {}.", record.reference);
    }
    text
}

fn nothing_feasible(record: &StudyRecord, analysis: &Analysis, measured: usize) -> String {
    let nearest = analysis
        .trials
        .iter()
        .filter_map(|t| Some((t.trial, t.headline()?)))
        .min_by(|a, b| a.1.violation().total_cmp(&b.1.violation()));
    let constraints: Vec<String> = record.constraints.iter().map(|c| format!("\"{c}\"")).collect();
    let mut text = format!("None of {measured} measured trials satisfies the constraints {}.", constraints.join(", "));
    if let Some((trial, figures)) = nearest {
        let broken: Vec<String> = figures
            .violations
            .iter()
            .map(|v| format!("\"{}\" by {:.1} % of the bound", v.constraint, 100.0 * v.amount))
            .collect();
        let _ = write!(text, " Trial {trial} comes nearest: it breaks {}.", broken.join(" and "));
    }
    text
}

/// `keeps 98.9 % of the accuracy (multiple-choice.acc_norm 0.346 against 0.350; ...)`, or `has 1.1 % more perplexity.token (...)`.
fn accuracy(record: &StudyRecord, trials: &[Trial], analysis: &Analysis, figures: &Figures) -> String {
    let Some(drop) = figures.accuracy_drop else {
        return format!("was measured without {}.", record.accuracy_metric);
    };
    let metric = &record.accuracy_metric;
    let measured = |id: Option<TrialId>| measurements(trials, id?)?.metrics.get(metric);
    let own = measured(Some(figures.measured_in));
    let base = measured(baseline_of(analysis, figures));
    let percent = tenths(drop.percent.value);
    let mut text = match own.map(|own| own.direction) {
        Some(Direction::Minimize) => {
            format!("has {:.1} % {} {metric} (", percent.abs(), if percent < 0.0 { "less" } else { "more" })
        }
        _ => format!("keeps {:.1} % of the accuracy (", 100.0 - percent),
    };
    if let (Some(own), Some(base)) = (own, base) {
        let _ = write!(text, "{metric} {:.4} against {:.4}; ", own.value, base.value);
    }
    let [low, high] = drop.interval.map(tenths);
    let how = if drop.paired { "compared item by item" } else { "compared as independent runs" };
    let _ = write!(text, "drop {percent:.1} %, 95 % interval {low:.1} to {high:.1} %, {} items {how})", drop.items);
    text
}

/// Rounded to tenths, without a minus before a zero.
fn tenths(value: f64) -> f64 {
    (10.0 * value).round() / 10.0 + 0.0
}

/// The baseline that the figures were compared with.
fn baseline_of(analysis: &Analysis, figures: &Figures) -> Option<TrialId> {
    let confirmed = analysis.trials.iter().any(|t| t.confirmed.as_ref() == Some(figures));
    if confirmed { analysis.confirmed_baseline } else { analysis.baseline }
}

fn savings(record: &StudyRecord, trials: &[Trial], analysis: &Analysis, figures: &Figures) -> String {
    let Some(efficiency) = &figures.efficiency else { return ".".to_owned() };
    let value = |id: Option<TrialId>, metric: &str| Some(measurements(trials, id?)?.metrics.get(metric)?.value);
    let parts: Vec<String> = efficiency
        .factors
        .iter()
        .map(|(metric, factor)| {
            let own = value(Some(figures.measured_in), metric).unwrap_or(f64::NAN);
            let base = value(baseline_of(analysis, figures), metric).unwrap_or(f64::NAN);
            let scenario = &record.scenario;
            match metric.as_str() {
                metrics::END_TO_END if *factor >= 1.0 => format!(
                    "answers {factor:.2} times as fast ({own:.0} ms instead of {base:.0} ms for {} tokens after a \
                     prompt of {})",
                    scenario.output_tokens, scenario.prompt_tokens
                ),
                metrics::END_TO_END => {
                    format!("takes {:.2} times as long to answer ({own:.0} ms instead of {base:.0} ms)", 1.0 / factor)
                }
                metrics::PEAK_MEMORY => format!(
                    "needs {:.0} % of the memory ({:.0} MiB instead of {:.0} MiB)",
                    100.0 / factor,
                    own / 1_048_576.0,
                    base / 1_048_576.0
                ),
                _ => format!("uses {:.0} % of the energy ({own:.3} J a token instead of {base:.3} J)", 100.0 / factor),
            }
        })
        .collect();
    match parts.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!(", {} and {last}.", rest.join(", ")),
        Some((last, _)) => format!(" and {last}."),
        None => ".".to_owned(),
    }
}

fn certainty(record: &StudyRecord, figures: &Figures, confirmed: bool) -> String {
    let percent = (100.0 * figures.probability_feasible).clamp(1.0, 99.0);
    let on_accuracy = record.constraints.iter().any(|constraint| constraint.metric == metrics::ACCURACY_DROP);
    let luck = if on_accuracy { ", and with gains of accuracy taken for luck," } else { "" };
    let chance = format!("by their spread{luck} the chance that all constraints really hold is about {percent:.0} %");
    let items: Vec<String> = record
        .evaluators
        .iter()
        .map(|e| format!("{} items of {}", if confirmed { e.confirm_items } else { e.items }, e.label))
        .collect();
    if confirmed {
        format!(
            " These figures were confirmed by measuring it and the baseline again (up to {}); {chance}.",
            items.join(", ")
        )
    } else {
        format!(" These are screening figures ({}) and not confirmed: {chance}.", items.join(", "))
    }
}

//! What a study found: the front, the recommended trial and why, how the hypervolume grew, and which parameters matter.
//! Everything follows from the record and the stored trials, and nothing is stored itself.

mod explain;
mod json;
#[cfg(test)]
mod tests;

pub use json::pareto_json;

use crate::confirmation::confirmations;
use crate::doubt::may_dominate;
use crate::importance::{Features, importance};
use crate::points::{on_front, place, scaled};
use crate::{Figures, Importance, Measurements, Objective, Purpose, StudyRecord, TechniqueSpace, Trial, TrialId};
use aehost_common::Stage;
use aehost_search::hypervolume::hypervolume;
use serde::Serialize;
use std::collections::BTreeSet;

/// What a study found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Analysis {
    /// The baseline's trial; none while it was not measured.
    pub baseline: Option<TrialId>,
    /// The trial that confirmed the baseline.
    pub confirmed_baseline: Option<TrialId>,
    /// Every trial but the confirmations, by number.
    pub trials: Vec<TrialAnalysis>,
    /// Feasible trials at full fidelity, the baseline among them, that no other one dominates at screening, by number.
    /// Where a trial was confirmed, the confirmation decides whether it is feasible.
    pub front: Vec<TrialId>,
    /// The trial to use; none when no trial is feasible.
    pub recommended: Option<Recommendation>,
    /// Hypervolume of the feasible trials so far, after each trial that has a place among the objectives: the share that
    /// they dominate of the box from the best to the worst feasible value of each objective, widened by a tenth.
    pub hypervolume: Vec<(TrialId, f64)>,
    /// For each objective, and for `efficiency_score`, which parameters matter; empty for fewer than 8 trials.
    pub importance: Vec<Importance>,
    /// The best feasible trials of simpler kinds, to compare the recommended one with.
    pub contenders: Contenders,
    /// The recommendation in plain language.
    pub explanation: String,
}

/// What is known of one trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrialAnalysis {
    /// Which one.
    pub trial: TrialId,
    /// Judged by its own measurements; none when it was not measured.
    pub screening: Option<Figures>,
    /// Judged by its confirmation against the confirmed baseline.
    pub confirmed: Option<Figures>,
    /// By the confirmation where there is one, otherwise by the screening.
    pub feasible: bool,
    /// Whether it is on the front.
    pub on_front: bool,
    /// Where it is: the feasible trials that may dominate it, because it is significantly better than them (one-sided, 95 %) in
    /// no objective.
    pub may_be_dominated_by: Vec<TrialId>,
}

/// The feasible trials of best efficiency score, by their headline figures, among those that restrict themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Contenders {
    /// With one technique on.
    pub single_technique: Option<TrialId>,
    /// With techniques of one stage on, one or more.
    pub single_stage: Option<TrialId>,
    /// With techniques of several stages on.
    pub several_stages: Option<TrialId>,
}

/// The trial to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Recommendation {
    /// Which one; 0 when nothing feasible is cheaper than the baseline.
    pub trial: TrialId,
    /// Whether its figures were confirmed.
    pub confirmed: bool,
}

impl TrialAnalysis {
    /// The confirmed figures, or else those of the screening.
    pub fn headline(&self) -> Option<&Figures> {
        self.confirmed.as_ref().or(self.screening.as_ref())
    }
}

impl Analysis {
    /// Analyses the stored trials of a study, in any order.
    pub fn of(record: &StudyRecord, trials: &[Trial]) -> Self {
        let mut trials: Vec<Trial> = trials.to_vec();
        trials.sort_by_key(|t| t.id);
        let baseline = trials.iter().find(|t| t.purpose == Purpose::Baseline);
        let confirmations = confirmations(&trials);
        let confirmed_baseline =
            baseline.and_then(|b| confirmations.get(&b.id)).copied().filter(|t| t.outcome.measurements().is_some());
        let mut analysed: Vec<TrialAnalysis> = trials
            .iter()
            .filter(|t| t.purpose != Purpose::Confirmation)
            .map(|trial| {
                let screening = baseline.and_then(|b| Figures::of(record, b, trial));
                let confirmed = confirmed_baseline
                    .zip(confirmations.get(&trial.id))
                    .and_then(|(baseline, confirmation)| Figures::of(record, baseline, confirmation));
                let feasible = confirmed.as_ref().or(screening.as_ref()).is_some_and(|f| f.feasible);
                TrialAnalysis {
                    trial: trial.id,
                    screening,
                    confirmed,
                    feasible,
                    on_front: false,
                    may_be_dominated_by: vec![],
                }
            })
            .collect();
        let verdict = |id: TrialId| {
            let found = analysed.iter().find(|a| a.trial == id)?;
            found.confirmed.as_ref().map(|f| f.feasible)
        };
        let placed = scaled(&place(record, &trials, verdict));
        let front: Vec<TrialId> = on_front(&placed).into_iter().map(|p| p.trial).collect();
        let candidates: Vec<&Trial> =
            placed.iter().filter(|p| p.point.feasible()).filter_map(|p| find(&trials, p.trial)).collect();
        for trial in &mut analysed {
            trial.on_front = front.contains(&trial.trial);
            if trial.on_front
                && let Some(own) = find(&trials, trial.trial)
            {
                trial.may_be_dominated_by = may_dominate(record, own, candidates.iter().copied());
            }
        }
        let reference = vec![1.1; record.objectives.len()];
        let mut seen: Vec<Vec<f64>> = Vec::with_capacity(placed.len());
        let curve = placed.iter().map(|p| {
            if p.point.feasible() {
                seen.push(p.point.costs.clone());
            }
            (p.trial, hypervolume(&seen, &reference) / reference.iter().product::<f64>())
        });
        let mut analysis = Self {
            baseline: baseline.map(|t| t.id),
            confirmed_baseline: confirmed_baseline.map(|t| t.id),
            recommended: recommend(&trials, &analysed),
            hypervolume: curve.collect(),
            importance: importances(record, &trials, &analysed),
            contenders: contenders(record, &trials, &analysed),
            trials: analysed,
            front,
            explanation: String::new(),
        };
        analysis.explanation = explain::explain(record, &trials, &analysis);
        analysis
    }

    /// What is known of a trial; confirmations are found under the trial that they confirm.
    pub fn trial(&self, id: TrialId) -> Option<&TrialAnalysis> {
        self.trials.iter().find(|t| t.trial == id)
    }
}

/// The feasible trial of best efficiency score: among the confirmed ones when any of them is feasible and cheaper than
/// the baseline, otherwise among those that were not confirmed (and so not refuted); the baseline when nothing is cheaper, and
/// where that breaks a constraint the best of what does not, cheaper or not.
fn recommend(trials: &[Trial], analysed: &[TrialAnalysis]) -> Option<Recommendation> {
    let full = |id: TrialId| trials.iter().any(|t| t.id == id && t.purpose == Purpose::Search && t.fidelity >= 1.0);
    let best = |confirmed: bool, least: f64| {
        analysed
            .iter()
            .filter(|a| a.feasible && a.confirmed.is_some() == confirmed && full(a.trial))
            .filter_map(|a| Some((a.trial, a.headline()?.score()?)))
            .filter(|(_, score)| *score > least)
            .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
            .map(|(trial, _)| Recommendation { trial, confirmed })
    };
    let baseline = || {
        let baseline = analysed.iter().find(|a| a.trial == TrialId(0) && a.feasible)?;
        Some(Recommendation { trial: baseline.trial, confirmed: baseline.confirmed.is_some() })
    };
    let cheaper = best(true, 1.0).or_else(|| best(false, 1.0));
    cheaper.or_else(baseline).or_else(|| best(true, 0.0)).or_else(|| best(false, 0.0))
}

fn contenders(record: &StudyRecord, trials: &[Trial], analysed: &[TrialAnalysis]) -> Contenders {
    let stages = |trial: &Trial| -> BTreeSet<Stage> {
        let on = |t: &&TechniqueSpace| trial.configuration.0.iter().any(|c| c.technique == t.description.identity.id);
        record.space.iter().filter(on).map(|t| t.description.stage).collect()
    };
    let best = |fits: &dyn Fn(&Trial) -> bool| {
        trials
            .iter()
            .filter(|t| t.purpose == Purpose::Search && t.fidelity >= 1.0 && fits(t))
            .filter_map(|t| analysed.iter().find(|a| a.trial == t.id && a.feasible))
            .filter_map(|a| Some((a.trial, a.headline()?.score()?)))
            .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
            .map(|(trial, _)| trial)
    };
    Contenders {
        single_technique: best(&|t| t.configuration.0.len() == 1),
        single_stage: best(&|t| stages(t).len() == 1),
        several_stages: best(&|t| stages(t).len() > 1),
    }
}

fn importances(record: &StudyRecord, trials: &[Trial], analysed: &[TrialAnalysis]) -> Vec<Importance> {
    let of = |name: &str, response: &dyn Fn(&Trial) -> Option<f64>| {
        let known: Vec<(&Trial, f64)> = trials
            .iter()
            .filter(|t| t.purpose != Purpose::Confirmation && t.fidelity >= 1.0)
            .filter_map(|t| Some((t, response(t)?)))
            .collect();
        let (trials, response): (Vec<&Trial>, Vec<f64>) = known.into_iter().unzip();
        importance(name, &Features::of(record, &trials), &response, record.seed)
    };
    let figures = |t: &Trial| analysed.iter().find(|a| a.trial == t.id)?.screening.as_ref();
    let value = |objective: &Objective, t: &Trial| match t.outcome.measurements()?.metrics.get(&objective.metric) {
        Some(measurement) => Some(measurement.value),
        None if objective.metric == crate::metrics::ACCURACY_DROP => figures(t)?.accuracy_drop.map(|d| d.percent.value),
        None => None,
    };
    let objectives = record.objectives.iter().filter_map(|o| of(&o.metric, &|t| value(o, t)));
    objectives.chain(of("efficiency_score", &|t| figures(t)?.score())).collect()
}

/// The measurements of a stored trial.
fn measurements(trials: &[Trial], id: TrialId) -> Option<&Measurements> {
    find(trials, id)?.outcome.measurements()
}

fn find(trials: &[Trial], id: TrialId) -> Option<&Trial> {
    trials.iter().find(|t| t.id == id)
}

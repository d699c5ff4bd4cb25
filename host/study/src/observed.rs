//! Trials as strategies see them.

use crate::{Figures, MetricValue, Observation, Observed, Outcome, Purpose, StudyRecord, Trial, metrics};

/// A trial's outcome as a strategy sees it; the accuracy drop is a metric like any other.
pub(crate) fn observed(record: &StudyRecord, baseline: &Trial, trial: &Trial) -> Observed {
    match &trial.outcome {
        Outcome::Ok { measurements } => {
            let value = |(metric, m): (&String, &crate::Measurement)| MetricValue {
                metric: metric.clone(),
                value: m.value,
                standard_error: m.standard_error,
            };
            let mut values: Vec<MetricValue> = measurements.metrics.iter().map(value).collect();
            if let Some(drop) = Figures::of(record, baseline, trial).and_then(|f| f.accuracy_drop) {
                values.push(MetricValue {
                    metric: metrics::ACCURACY_DROP.into(),
                    value: drop.percent.value,
                    standard_error: drop.percent.standard_error,
                });
            }
            Observed::Measured { metrics: values }
        }
        Outcome::Infeasible { reason, amount } => Observed::Infeasible { reason: reason.clone(), amount: *amount },
        outcome => {
            Observed::Failed { message: format!("{}: {}", outcome.word(), outcome.message().unwrap_or_default()) }
        }
    }
}

/// All that was found of a study's configurations, the baseline first, as if its strategy were told it at once.
pub fn history(record: &StudyRecord, trials: &[Trial]) -> Vec<Observation> {
    let Some(baseline) = trials.first() else { return Vec::new() };
    let searched = trials.iter().filter(|trial| trial.purpose != Purpose::Confirmation);
    searched
        .map(|trial| Observation {
            trial: trial.id,
            configuration: trial.configuration.clone(),
            fidelity: trial.fidelity,
            outcome: observed(record, baseline, trial),
        })
        .collect()
}

//! What every view draws: each trial of the search with its place in the study, its figures at screening and, where it was
//! measured again, its confirmed figures; and the metrics in the order in which people want to see them.

use crate::units::{SCORE, Scale, clean, label, number};
use aehost_common::Direction;
use aehost_study::{Analysis, Constraint, Figures, Provenance, StudyRecord, Trial, TrialAnalysis, TrialId, metrics};
use serde::Serialize;

/// A trial's place in the study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Place {
    Baseline,
    Recommended,
    Front,
    Dominated,
    Infeasible,
    /// Without figures.
    Failed,
}

impl Place {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Place::Baseline => "baseline",
            Place::Recommended => "recommended",
            Place::Front => "front",
            Place::Dominated => "beaten",
            Place::Infeasible => "breaks a constraint",
            Place::Failed => "not measured",
        }
    }
}

/// One run of a configuration, and what follows from it next to the baseline at the same fidelity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub trial: &'a Trial,
    pub figures: &'a Figures,
}

/// A trial of the search.
#[derive(Debug, Clone)]
pub(crate) struct Row<'a> {
    pub trial: &'a Trial,
    pub place: Place,
    /// The baseline and the recommended trial may be on the front or not.
    pub on_front: bool,
    /// Where it is on the front: what the noise does not tell it from.
    pub may_be_dominated_by: &'a [TrialId],
    /// By the confirmation where there is one.
    pub feasible: bool,
    pub screening: Option<Measured<'a>>,
    pub confirmed: Option<Measured<'a>>,
}

/// What the efficiency score is.
pub(crate) fn score_meaning(record: &StudyRecord) -> String {
    let weights = record.weights.iter().map(|w| format!("{} ({})", label(&w.metric), w.weight));
    let over = match record.weights.is_empty() {
        true => "latency, memory, and energy where it is measured".to_owned(),
        false => weights.collect::<Vec<_>>().join(", ") + ", by these weights",
    };
    format!("geometric mean of how many times better than the baseline it is in {over}")
}

/// A metric as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub name: String,
    pub label: String,
    pub scale: Scale,
    pub direction: Direction,
}

/// A figure in its metric's stored unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figure {
    pub value: f64,
    pub standard_error: f64,
}

/// A study, ready to be drawn.
pub(crate) struct View<'a> {
    pub record: &'a StudyRecord,
    pub analysis: &'a Analysis,
    pub trials: &'a [Trial],
    pub rows: Vec<Row<'a>>,
    pub metrics: Vec<Shown>,
}

impl<'a> View<'a> {
    pub fn of(record: &'a StudyRecord, trials: &'a [Trial], analysis: &'a Analysis) -> Self {
        let find = |id: TrialId| trials.iter().find(|t| t.id == id);
        let measured = |figures: &'a Figures| Some(Measured { trial: find(figures.measured_in)?, figures });
        let row = |analysed: &'a TrialAnalysis| {
            let place = match analysed {
                _ if analysis.baseline == Some(analysed.trial) => Place::Baseline,
                TrialAnalysis { screening: None, .. } => Place::Failed,
                _ if analysis.recommended.is_some_and(|r| r.trial == analysed.trial) => Place::Recommended,
                TrialAnalysis { on_front: true, .. } => Place::Front,
                TrialAnalysis { feasible: true, .. } => Place::Dominated,
                _ => Place::Infeasible,
            };
            Some(Row {
                trial: find(analysed.trial)?,
                place,
                on_front: analysed.on_front,
                may_be_dominated_by: &analysed.may_be_dominated_by,
                feasible: analysed.feasible,
                screening: analysed.screening.as_ref().and_then(measured),
                confirmed: analysed.confirmed.as_ref().and_then(measured),
            })
        };
        let rows: Vec<Row> = analysis.trials.iter().filter_map(row).collect();
        let metrics = shown_metrics(record, &rows);
        Self { record, analysis, trials, rows, metrics }
    }

    pub fn row(&self, trial: TrialId) -> Option<&Row<'a>> {
        self.rows.iter().find(|row| row.trial.id == trial)
    }

    pub fn baseline(&self) -> Option<&Row<'a>> {
        self.row(self.analysis.baseline?)
    }

    pub fn recommended(&self) -> Option<&Row<'a>> {
        self.row(self.analysis.recommended?.trial)
    }

    pub fn metric(&self, name: &str) -> Option<&Shown> {
        self.metrics.iter().find(|metric| metric.name == name)
    }

    /// The recommended trial and the baseline that its figures stand against: both confirmed, or both at screening.
    pub fn compared(&self) -> Option<(Measured<'a>, Measured<'a>)> {
        let (baseline, recommended) = (self.baseline()?, self.recommended()?);
        baseline.confirmed.zip(recommended.confirmed).or_else(|| baseline.screening.zip(recommended.screening))
    }
}

impl<'a> Row<'a> {
    /// The confirmed figures where there are some, otherwise those of the screening.
    pub fn best(&self) -> Option<Measured<'a>> {
        self.confirmed.or(self.screening)
    }
}

impl Measured<'_> {
    /// A metric's figure, the accuracy drop (in percent) and the efficiency score among them.
    pub fn figure(&self, metric: &str) -> Option<Figure> {
        if metric == SCORE {
            return self.figures.score().map(|value| Figure { value, standard_error: 0.0 });
        }
        if metric == metrics::ACCURACY_DROP {
            let percent = self.figures.accuracy_drop.as_ref()?.percent;
            return Some(Figure { value: percent.value, standard_error: percent.standard_error });
        }
        let measurement = self.trial.outcome.measurements()?.metrics.get(metric)?;
        Some(Figure { value: measurement.value, standard_error: measurement.standard_error })
    }

    /// The formula and its inputs, where a metric was estimated and not measured.
    pub fn estimated_by(&self, metric: &str) -> Option<String> {
        match &self.trial.outcome.measurements()?.metrics.get(metric)?.provenance {
            Provenance::Measured => None,
            Provenance::Estimated { formula, inputs } => {
                let inputs: Vec<String> =
                    inputs.iter().map(|(name, value)| format!("{name} = {}", number(*value))).collect();
                Some(clean(&format!("{formula} with {}", inputs.join(", "))))
            }
        }
    }
}

/// Metrics that some trial has: the objectives, the accuracy drop, the efficiency score, and then the others.
fn shown_metrics(record: &StudyRecord, rows: &[Row<'_>]) -> Vec<Shown> {
    let score = aehost_common::Metric { name: SCORE.into(), unit: "×".into(), direction: Direction::Maximize };
    let known: Vec<_> = record.metrics.iter().chain([&score]).collect();
    let first = record.objectives.iter().map(|o| o.metric.as_str()).chain([metrics::ACCURACY_DROP, SCORE]);
    let mut names: Vec<&str> = Vec::new();
    for name in first.chain(known.iter().map(|m| m.name.as_str())) {
        let measured = rows.iter().flat_map(|r| &r.screening).any(|m| m.figure(name).is_some());
        if measured && !names.contains(&name) {
            names.push(name);
        }
    }
    let shown = |name: &str| {
        let metric = known.iter().find(|m| m.name == name)?;
        Some(Shown {
            name: name.to_owned(),
            label: label(name),
            scale: Scale::of(&metric.unit),
            direction: metric.direction,
        })
    };
    names.into_iter().filter_map(shown).collect()
}

/// `accuracy drop <= 5 %: 7.3 %`: the constraint as it was written, and a value in the unit of its metric.
pub(crate) fn constraint_with_value(record: &StudyRecord, constraint: &Constraint, value: Option<f64>) -> String {
    let unit = record.metrics.iter().find(|m| m.name == constraint.metric).map_or("", |m| m.unit.as_str());
    let shown = value.map_or_else(|| "unavailable".into(), |value| Scale::of(unit).show_with_unit(value));
    format!("{}: {shown}", clean(&constraint.text))
}

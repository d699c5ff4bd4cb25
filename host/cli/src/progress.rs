//! The live view of a study: one line that is redrawn on a terminal, plain lines elsewhere, nothing under `--json`.

use crate::output::Output;
use aehost_meter::noise;
use aehost_study::{Drop, Events, Figures, Job, Outcome, Progress, Purpose, Standing, StudyPhase, StudyRecord, Trial};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// Tells how far a study is.
pub struct Live<'a> {
    record: &'a StudyRecord,
    /// Hidden where nothing is drawn.
    bar: ProgressBar,
    /// Whether there is anybody to read lines.
    lines: bool,
    baseline: Option<Trial>,
    phase: Option<StudyPhase>,
    /// Whether it was said that the machine is busy.
    said_busy: bool,
}

impl<'a> Live<'a> {
    /// `stored`: the trials of earlier runs.
    pub fn new(record: &'a StudyRecord, stored: Vec<Trial>, output: &Output) -> Self {
        let bar = ProgressBar::new(record.budget_trials.into());
        if output.animated() {
            bar.set_style(
                ProgressStyle::with_template("{spinner:.cyan} {bar:20.cyan/dim} {wide_msg}")
                    .expect("the template is valid")
                    .progress_chars("━━─"),
            );
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(150));
        } else {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        // As in `finished`: once the baseline is confirmed, that is what confirmations are compared with.
        let is_baseline = |t: &Trial| t.purpose == Purpose::Baseline || t.confirms.is_some_and(|id| id.0 == 0);
        let baseline = stored.into_iter().rfind(is_baseline);
        Self { record, bar, lines: !output.json, baseline, phase: None, said_busy: false }
    }

    /// Says a line from another thread without tearing the one that is redrawn.
    pub fn speaker(&self) -> impl Fn(&str) + Send + 'static {
        let (bar, lines) = (self.bar.clone(), self.lines);
        move |line: &str| say(&bar, lines, line)
    }

    /// Clears the line that is redrawn.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, line: &str) {
        say(&self.bar, self.lines, line);
    }

    fn draw(&self, job: &Job, standing: &Standing, doing: &str) {
        self.bar.set_length(standing.trials_budget.into());
        self.bar.set_position(standing.trials_done.into());
        self.bar.set_message(message(job, standing, doing));
    }
}

fn say(bar: &ProgressBar, lines: bool, line: &str) {
    if !bar.is_hidden() {
        bar.println(line);
    } else if lines {
        anstream::eprintln!("{line}");
    }
}

/// `trial 4 (5 of 24) · perplexity on 6 items · best 1.42× (trial 3) · 6 minutes left`
fn message(job: &Job, standing: &Standing, doing: &str) -> String {
    let count = format!("{} of {}", standing.trials_done + 1, standing.trials_budget);
    let mut parts = vec![match standing.phase {
        StudyPhase::Baseline => format!("baseline ({count})"),
        StudyPhase::Search => format!("trial {} ({count})", job.trial),
        StudyPhase::Confirmation => format!("trial {}, a confirmation", job.trial),
    }];
    if !doing.is_empty() {
        parts.push(doing.to_owned());
    }
    parts.extend(standing.best.map(|(trial, score)| format!("best {score:.2}× (trial {trial})")));
    parts.extend(standing.seconds_left.map(|s| format!("{} left", HumanDuration(Duration::from_secs_f64(s.max(0.0))))));
    parts.join(" · ")
}

/// `trial 3: 1.42× the baseline's efficiency, accuracy drop +0.80 %, blocked-quantization(...)`
fn line(record: &StudyRecord, baseline: Option<&Trial>, trial: &Trial) -> String {
    let name = match (trial.purpose, trial.confirms) {
        (Purpose::Baseline, _) => "trial 0, the baseline".to_owned(),
        (_, Some(confirmed)) => format!("trial {} confirms trial {confirmed}", trial.id),
        _ => format!("trial {}", trial.id),
    };
    let seconds = trial.timings.total();
    let Outcome::Ok { .. } = &trial.outcome else {
        return format!("{name}: {}, {} ({seconds:.0} s)", trial.outcome.word(), trial.configuration);
    };
    let mut parts = Vec::new();
    let figures = baseline.filter(|b| b.id != trial.id).and_then(|b| Figures::of(record, b, trial));
    if let Some(figures) = &figures {
        parts.extend(figures.score().map(|score| format!("score {score:.2}×")));
        // Adding 0 turns -0 into 0.
        let percent = |drop: &Drop| (drop.percent.value * 100.0).round() / 100.0 + 0.0;
        parts.extend(figures.accuracy_drop.as_ref().map(|drop| format!("accuracy drop {:.2} %", percent(drop))));
        parts.extend(figures.violations.iter().map(|v| format!("breaks {}", v.constraint)));
    } else {
        parts.push("measured".to_owned());
    }
    if !trial.configuration.0.is_empty() {
        parts.push(trial.configuration.to_string());
    }
    format!("{name}: {} ({seconds:.0} s)", parts.join(", "))
}

impl Events for Live<'_> {
    fn started(&mut self, job: &Job, standing: &Standing) {
        if self.phase != Some(standing.phase) {
            self.phase = Some(standing.phase);
            self.say(match standing.phase {
                StudyPhase::Baseline => "Measuring the baseline, trial 0.",
                StudyPhase::Search => "Searching.",
                StudyPhase::Confirmation => "Confirming the best points of the front on more data.",
            });
        }
        self.draw(job, standing, "starting");
    }

    fn progress(&mut self, job: &Job, standing: &Standing, progress: &Progress) {
        let share = progress.done.map(|done| format!(" {:.0} %", 100.0 * done)).unwrap_or_default();
        self.draw(job, standing, &format!("{}{share}", progress.what));
    }

    fn finished(&mut self, trial: &Trial, standing: &Standing) {
        self.bar.set_position(standing.trials_done.into());
        self.bar.set_message("choosing what to measure next");
        // A confirmation is compared with the baseline's own, which comes first.
        let compared = self.baseline.as_ref().filter(|b| trial.confirms.is_none() || b.confirms.is_some());
        self.say(&line(self.record, compared, trial));
        let busy = trial.outcome.measurements().and_then(|m| m.warnings.iter().find(|w| w.starts_with(noise::BUSY)));
        if let (Some(warning), false) = (busy, self.said_busy) {
            self.said_busy = true;
            self.say(&format!("The machine is not quiet: {warning}. `aehost show` lists the warnings of a trial."));
        }
        let confirms_baseline = trial.confirms.is_some_and(|id| id.0 == 0);
        if trial.purpose == Purpose::Baseline || confirms_baseline {
            self.baseline = Some(trial.clone());
        }
    }

    fn note(&mut self, message: &str) {
        self.say(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_study::{Configuration, TrialId};

    #[test]
    fn the_live_line_says_what_is_done_what_is_best_and_how_long_it_takes() {
        let job = Job {
            trial: TrialId(4),
            configuration: Configuration::default(),
            purpose: Purpose::Search,
            fidelity: 1.0,
            items: Vec::new(),
        };
        let mut standing = Standing {
            trials_done: 4,
            trials_budget: 24,
            phase: StudyPhase::Search,
            best: Some((TrialId(3), 1.4159)),
            elapsed_seconds: 60.0,
            seconds_left: Some(365.0),
        };
        let doing = "perplexity on 6 items";
        assert_eq!(
            message(&job, &standing, doing),
            "trial 4 (5 of 24) · perplexity on 6 items · best 1.42× (trial 3) · 6 minutes left"
        );
        (standing.phase, standing.best, standing.seconds_left) = (StudyPhase::Baseline, None, None);
        standing.trials_done = 0;
        assert_eq!(message(&job, &standing, ""), "baseline (1 of 24)");
    }
}

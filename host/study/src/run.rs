//! The loop: ask the strategy, run what it proposes, store, tell. Trial 0 is the baseline; when the search has ended,
//! points of the front are confirmed. Every step is in the store before the next one begins, and a resumed study replays
//! the log into a fresh strategy, so that being killed costs the trial at work and nothing else.

mod budget;
mod clock;
mod convergence;
mod error;
mod search;
#[cfg(test)]
mod tests;

pub use error::RunError;

use crate::confirmation;
use crate::observed::observed;
use crate::{
    Configuration, Event, Events, Figures, Items, Job, Observation, Observed, Outcome, Problem, Progress, Purpose,
    RunLock, Runner, Space, Stop, Store, StrategyFactory, StudyPhase, StudyRecord, Trial, TrialId, metrics, points,
};
use aehost_common::{Fault, PluginKind, Value};
use budget::counts;
use clock::{Clock, unix_time};
use std::collections::HashMap;

/// All that a run of a study needs.
pub struct Session<'a> {
    /// Where the study is kept.
    pub store: &'a mut Store,
    /// Makes the study's strategy.
    pub factory: &'a dyn StrategyFactory,
    /// Measures.
    pub runner: &'a mut dyn Runner,
    /// Watches.
    pub events: &'a mut dyn Events,
    /// Ends the run early.
    pub stop: Stop,
    /// What replaces the study's own budget in this run.
    pub limits: Limits,
}

/// Replaces a study's budget for one run, for going on with a study that has ended. The strategy still sees the original
/// budget: its proposals must not depend on how often a study was interrupted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Trials at most, the baseline included.
    pub trials: Option<u32>,
    /// Seconds at most, earlier runs included; infinite for no limit.
    pub seconds: Option<f64>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// The search and its confirmations are done, for the reason given.
    Complete(String),
    /// The user stopped it; it can be resumed.
    Interrupted,
}

/// Runs or resumes the study of this name until it is complete, stopped, or an error ends it.
pub fn run(study: &str, session: Session<'_>) -> Result<Finished, RunError> {
    let mut run = Run::open(study, session)?;
    if run.baseline()?.is_none() {
        return Ok(Finished::Interrupted);
    }
    let Some(reason) = run.search()? else { return Ok(Finished::Interrupted) };
    if run.record.confirm && !run.confirm()? {
        return Ok(Finished::Interrupted);
    }
    run.session.store.set_ended(study, Some(&reason))?;
    Ok(Finished::Complete(reason))
}

/// All that a strategy is told before its first ask.
pub fn problem(record: &StudyRecord) -> Problem {
    let mut facts = record.model_facts.clone();
    let scenario = &record.scenario;
    for (name, value) in [
        ("scenario.prompt_tokens", scenario.prompt_tokens),
        ("scenario.output_tokens", scenario.output_tokens),
        ("scenario.batch", scenario.batch),
    ] {
        facts.set(name, Value::Integer(value.into()));
    }
    Problem {
        // A space that is not sound is refused before it comes here.
        space: Space::new(&record.space).map_or_else(|_| record.space.clone(), |space| space.techniques().to_vec()),
        objectives: record.objectives.clone(),
        constraints: record.constraints.clone(),
        facts,
        settings: record.strategy_settings.clone(),
        budget: record.budget_trials,
        seed: record.seed,
        earlier: record.earlier.clone(),
    }
}

struct Run<'a> {
    session: Session<'a>,
    record: StudyRecord,
    space: Space,
    trials: Vec<Trial>,
    log: Vec<Event>,
    /// Results by canonical key and bits of the fidelity, to answer duplicates with.
    known: HashMap<(String, u64), Observed>,
    /// Numbers given out, to confirmations and duplicates as well.
    next_id: u64,
    best: Option<(TrialId, f64)>,
    clock: Clock,
    _lock: RunLock,
}

impl<'a> Run<'a> {
    fn open(study: &str, session: Session<'a>) -> Result<Self, RunError> {
        let lock = session.store.lock(study)?;
        let record = session.store.study(study)?;
        let space = Space::new(&record.space)?;
        let (trials, log) = (session.store.trials(study)?, session.store.events(study)?);
        session.store.set_ended(study, None)?;
        let asked = log.iter().flat_map(|event| match event {
            Event::Ask { proposals, .. } => proposals.as_slice(),
            _ => &[],
        });
        let next_id = trials.iter().map(|t| t.id).chain(asked.map(|a| a.id)).map(|id| id.0 + 1).max().unwrap_or(0);
        let clock = Clock::new(trials.iter().map(|t| t.timings.total()).sum());
        let (known, best) = (HashMap::new(), None);
        let mut run =
            Self { session, record, space, trials: Vec::new(), log, known, next_id, best, clock, _lock: lock };
        trials.into_iter().for_each(|trial| run.remember(trial));
        Ok(run)
    }

    /// Measures trial 0 unless it is stored, and checks that the study can be judged by it. None when stopped.
    fn baseline(&mut self) -> Result<Option<()>, RunError> {
        if self.trials.is_empty() {
            let job = self.job(TrialId(0), Configuration::default(), Purpose::Baseline, 1.0);
            let Some((outcome, started_at)) = self.execute(&job, StudyPhase::Baseline) else { return Ok(None) };
            if outcome.measurements().is_none() {
                return Err(RunError::Baseline {
                    word: outcome.word().into(),
                    message: outcome.message().unwrap_or_default(),
                });
            }
            let trial = self.trial(job, String::new(), outcome, started_at);
            let observations = vec![self.observation(TrialId(0), &trial)];
            self.next_id = 1;
            self.commit(Some(trial), vec![Event::Tell { observations }])?;
        }
        self.check_available().map(Some)
    }

    fn check_available(&self) -> Result<(), RunError> {
        let Some(measurements) = self.trials.first().and_then(|t| t.outcome.measurements()) else { return Ok(()) };
        let objectives = self.record.objectives.iter().map(|o| (format!("objective {}", o.metric), &o.metric));
        let constraints = self.record.constraints.iter().map(|c| (format!("constraint \"{c}\""), &c.metric));
        for (needed_for, metric) in objectives.chain(constraints) {
            let measured = if metric == metrics::ACCURACY_DROP { &self.record.accuracy_metric } else { metric };
            if !measurements.metrics.contains_key(measured) {
                let reason = measurements.unavailable.get(measured).cloned();
                let reason = reason.unwrap_or_else(|| "the baseline did not measure it".into());
                return Err(RunError::Unavailable { needed_for, metric: measured.clone(), reason });
            }
        }
        Ok(())
    }

    /// Runs a job; none when the user stopped it before it was done.
    fn execute(&mut self, job: &Job, phase: StudyPhase) -> Option<(Outcome, f64)> {
        let started_at = unix_time();
        let mut standing = self.standing(phase);
        let Session { runner, events, stop, .. } = &mut self.session;
        events.started(job, &standing);
        let begun = std::time::Instant::now();
        let elapsed_before = standing.elapsed_seconds;
        let left_before = standing.seconds_left;
        let mut progress = |progress: Progress| {
            let spent = begun.elapsed().as_secs_f64();
            standing.elapsed_seconds = elapsed_before + spent;
            standing.seconds_left = left_before.map(|left| (left - spent).max(0.0));
            events.progress(job, &standing, &progress);
        };
        let (outcome, timings) = runner.run(job, stop, &mut progress);
        self.clock.add_run(begun.elapsed().as_secs_f64(), &timings);
        let outcome = outcome.finite();
        // A trial that was done when the user stopped is kept; one that was cut off is not a result.
        let cut_off = self.session.stop.is_set() && outcome.measurements().is_none();
        (!cut_off).then_some((outcome, started_at))
    }

    /// Confirms until nothing is left to confirm, or time is up. False when stopped.
    fn confirm(&mut self) -> Result<bool, RunError> {
        loop {
            let placed = points::scaled(&points::place(&self.record, &self.trials, |_| None));
            let Some(next) = confirmation::next(&self.record, &self.trials, &placed) else { return Ok(true) };
            let late = self.seconds_limit().is_some_and(|s| self.clock.elapsed() + self.confirmation_seconds() > s);
            if next.optional && late {
                return Ok(true);
            }
            if self.session.stop.is_set() {
                return Ok(false);
            }
            let confirmed = self.trials.iter().find(|t| t.id == next.trial).expect("candidates are stored trials");
            let configuration = confirmed.configuration.clone();
            let id = TrialId(self.next_id);
            let job = self.job(id, configuration, Purpose::Confirmation, 1.0);
            let Some((outcome, started_at)) = self.execute(&job, StudyPhase::Confirmation) else { return Ok(false) };
            let mut trial = self.trial(job, format!("confirms trial {}", next.trial), outcome, started_at);
            trial.confirms = Some(next.trial);
            self.next_id += 1;
            self.commit(Some(trial), Vec::new())?;
        }
    }

    fn job(&self, trial: TrialId, configuration: Configuration, purpose: Purpose, fidelity: f64) -> Job {
        let items = self.record.evaluators.iter().map(|evaluator| {
            let wanted = match purpose {
                Purpose::Confirmation => evaluator.confirm_items,
                _ => (f64::from(evaluator.items) * fidelity).ceil().max(1.0) as u32,
            };
            Items { evaluator: evaluator.label.clone(), count: wanted, seed: self.record.seed }
        });
        Job { trial, configuration, purpose, fidelity, items: items.collect() }
    }

    fn trial(&mut self, job: Job, why: String, outcome: Outcome, started_at: f64) -> Trial {
        Trial {
            id: job.trial,
            purpose: job.purpose,
            confirms: None,
            configuration: job.configuration,
            fidelity: job.fidelity,
            why,
            outcome,
            timings: self.clock.drain(),
            started_at,
            finished_at: unix_time(),
        }
    }

    /// Stores a trial and log entries together, and only then takes them as happened.
    fn commit(&mut self, trial: Option<Trial>, events: Vec<Event>) -> Result<(), RunError> {
        let Session { store, .. } = &mut self.session;
        self.clock.time("store", || store.append(&self.record.name, trial.as_ref(), &events))?;
        self.log.extend(events);
        if let Some(trial) = trial {
            self.remember(trial);
            let trial = self.trials.last().expect("it was just remembered");
            let standing = self.standing(match trial.purpose {
                Purpose::Baseline => StudyPhase::Baseline,
                Purpose::Search => StudyPhase::Search,
                Purpose::Confirmation => StudyPhase::Confirmation,
            });
            self.session.events.finished(trial, &standing);
        }
        Ok(())
    }

    fn remember(&mut self, trial: Trial) {
        if trial.purpose != Purpose::Confirmation {
            let outcome = self.observed(&trial);
            self.known.insert((trial.configuration.key(), trial.fidelity.to_bits()), outcome);
        }
        let figures = self.trials.first().and_then(|baseline| Figures::of(&self.record, baseline, &trial));
        if let Some(score) = figures.filter(|f| f.feasible).and_then(|f| f.score())
            && trial.purpose == Purpose::Search
            && trial.fidelity >= 1.0
            && self.best.is_none_or(|(_, best)| score > best)
        {
            self.best = Some((trial.id, score));
        }
        self.trials.push(trial);
    }

    fn observation(&self, number: TrialId, trial: &Trial) -> Observation {
        Observation {
            trial: number,
            configuration: trial.configuration.clone(),
            fidelity: trial.fidelity,
            outcome: self.observed(trial),
        }
    }

    /// A trial's outcome as a strategy sees it.
    fn observed(&self, trial: &Trial) -> Observed {
        observed(&self.record, self.trials.first().unwrap_or(trial), trial)
    }

    fn strategy_name(&self) -> String {
        let plugin =
            self.record.plugins.iter().find(|p| p.kind == PluginKind::Strategy && p.id == self.record.strategy);
        plugin.map_or_else(|| self.record.strategy.clone(), |p| format!("{} {}", p.id, p.version))
    }

    fn strategy_fault(&self, function: &'static str, fault: Fault) -> RunError {
        RunError::Strategy { strategy: self.strategy_name(), function, fault }
    }
}

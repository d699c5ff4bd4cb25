//! The loop: ask the strategy, run what it proposes, store, tell. Trial 0 is the baseline; when the search has ended,
//! points of the front are confirmed. Every step is in the store before the next one begins, and a resumed study replays
//! the log into a fresh strategy, so that being killed costs the trial at work and nothing else.

mod clock;
#[cfg(test)]
mod tests;

use crate::confirmation::{self, confirmations};
use crate::{
    Asked, Configuration, Event, Events, Figures, Items, Job, MetricValue, Observation, Observed, Outcome, Problem,
    Progress, Proposal, Purpose, RunLock, Runner, Space, SpaceError, Standing, Stop, Store, StoreError, Strategy,
    StrategyFactory, StudyPhase, StudyRecord, Trial, TrialId, metrics, points,
};
use aehost_common::{Fault, PluginKind, Settings, Value};
use clock::{Clock, unix_time};
use std::collections::{HashMap, HashSet, VecDeque};

/// Duplicate proposals in a row after which the search ends.
const DUPLICATES: u32 = 50;
/// Proposals in a row that were answered without measuring, after which the search ends.
const UNMEASURED: u32 = 500;
/// Confirmations that time is kept for: the baseline, the first candidate and its neighbours.
const PLANNED_CONFIRMATIONS: f64 = 4.0;

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
    /// Seconds at most, earlier runs included.
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

/// Why a run could not go on. What was stored stays, and unless the message says otherwise the study can be resumed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The techniques are no search space.
    #[error("the search space is invalid: {0}")]
    Space(#[from] SpaceError),
    /// Trial 0 was not measured.
    #[error("the baseline could not be measured ({word}): {message}")]
    Baseline {
        /// The outcome's word.
        word: String,
        /// What happened.
        message: String,
    },
    /// A metric that the study needs is not there.
    #[error("{needed_for} needs {metric}, which is unavailable here: {reason}; start a study without it")]
    Unavailable {
        /// The objective or constraint.
        needed_for: String,
        /// The metric.
        metric: String,
        /// Why it is not there.
        reason: String,
    },
    /// The strategy failed.
    #[error("strategy {strategy} failed in `{function}`: {fault}", fault = fault.full())]
    Strategy {
        /// Id and version.
        strategy: String,
        /// start, ask or tell.
        function: &'static str,
        /// What it says.
        fault: Fault,
    },
    /// The strategy broke its contract.
    #[error("strategy {strategy} broke its contract: {what}; report it to its author, and use another strategy")]
    Contract {
        /// Id and version.
        strategy: String,
        /// What it did.
        what: String,
    },
    /// The replayed strategy answered differently.
    #[error(
        "strategy {strategy} does not repeat itself: for trial {trial} it proposed `{logged}` before the interruption and \
         now proposes `{now}`; use the version of the plugin that started the study, or start a new study"
    )]
    Replay {
        /// Id and version.
        strategy: String,
        /// The trial whose proposal differs.
        trial: TrialId,
        /// What it proposed then.
        logged: String,
        /// What it proposes now.
        now: String,
    },
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
    let mut facts = Settings::default();
    let scenario = &record.scenario;
    for (name, value) in [
        ("scenario.prompt_tokens", scenario.prompt_tokens),
        ("scenario.output_tokens", scenario.output_tokens),
        ("scenario.batch", scenario.batch),
    ] {
        facts.set(name, Value::Integer(value.into()));
    }
    facts.0.extend(record.model_facts.iter().cloned());
    Problem {
        space: record.space.clone(),
        objectives: record.objectives.clone(),
        constraints: record.constraints.clone(),
        facts,
        settings: record.strategy_settings.clone(),
        budget: record.budget_trials,
        seed: record.seed,
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

/// What became of a proposal.
enum Settled {
    /// A trial, to be stored.
    Trial(Box<Trial>),
    /// The same configuration was settled before.
    Duplicate(Observed),
    /// The user stopped the study.
    Stopped,
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
                return Err(RunError::Baseline { word: outcome.word().into(), message: describe(&outcome) });
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

    /// The search until it ends, with the reason; none when stopped.
    fn search(&mut self) -> Result<Option<String>, RunError> {
        if let Some(Event::Ended { reason }) = self.log.last()
            && self.session.limits == Limits::default()
        {
            return Ok(Some(reason.clone()));
        }
        let (mut strategy, mut pending, mut numbers) = self.replay()?;
        let (mut duplicates, mut unmeasured) = (0, 0);
        loop {
            if self.session.stop.is_set() {
                return Ok(None);
            }
            if pending.is_empty() {
                let ended = self.exhausted(duplicates, unmeasured);
                if ended.is_none() {
                    let Some(asked) = self.ask(strategy.as_mut(), &mut numbers)? else { return Ok(None) };
                    pending.extend(asked);
                }
                if pending.is_empty() {
                    let reason = ended.unwrap_or_else(|| "the strategy has nothing more to propose".into());
                    self.commit(None, vec![Event::Ended { reason: reason.clone() }])?;
                    return Ok(Some(reason));
                }
            }
            let Some(Asked { id, proposal }) = pending.pop_front() else { continue };
            let settled = self.settle(id, &proposal);
            let (trial, observation) = match settled {
                Settled::Stopped => return Ok(None),
                Settled::Trial(trial) => {
                    duplicates = 0;
                    unmeasured = if counts(&trial) { 0 } else { unmeasured + 1 };
                    let observation = self.observation(proposal.trial, &trial);
                    (Some(*trial), observation)
                }
                Settled::Duplicate(outcome) => {
                    duplicates += 1;
                    unmeasured += 1;
                    let Proposal { trial, configuration, fidelity, .. } = proposal;
                    let configuration = self.space.complete(&configuration).unwrap_or(configuration);
                    (None, Observation { trial, configuration, fidelity, outcome })
                }
            };
            let observations = vec![observation];
            self.commit(trial, vec![Event::Tell { observations: observations.clone() }])?;
            let told = self.clock.time("tell", || strategy.tell(&observations));
            told.map_err(|fault| self.strategy_fault("tell", fault))?;
        }
    }

    /// A fresh strategy that was asked and told everything in the log, what it still waits for, and the numbers it used.
    #[allow(clippy::type_complexity)]
    fn replay(&self) -> Result<(Box<dyn Strategy>, VecDeque<Asked>, HashSet<TrialId>), RunError> {
        let fault = |function| move |fault| self.strategy_fault(function, fault);
        let mut strategy = self.session.factory.start(&problem(&self.record)).map_err(fault("start"))?;
        let mut pending: VecDeque<Asked> = VecDeque::new();
        let mut numbers = HashSet::new();
        for event in &self.log {
            match event {
                Event::Ask { count, proposals } => {
                    let now = strategy.ask(*count).map_err(fault("ask"))?;
                    let same = now.len() == proposals.len() && now.iter().zip(proposals).all(|(n, p)| *n == p.proposal);
                    if !same {
                        return Err(self.replay_differs(proposals, &now));
                    }
                    numbers.extend(proposals.iter().map(|p| p.proposal.trial));
                    pending.extend(proposals.iter().cloned());
                }
                Event::Tell { observations } => {
                    strategy.tell(observations).map_err(fault("tell"))?;
                    pending.retain(|asked| !observations.iter().any(|o| o.trial == asked.proposal.trial));
                }
                Event::Ended { .. } => {}
            }
        }
        Ok((strategy, pending, numbers))
    }

    fn replay_differs(&self, logged: &[Asked], now: &[Proposal]) -> RunError {
        let first = (0..logged.len().max(now.len()))
            .find(|&i| logged.get(i).map(|a| &a.proposal) != now.get(i))
            .unwrap_or_default();
        let words = |p: Option<&Proposal>| {
            p.map_or("nothing".to_owned(), |p| match p.fidelity {
                1.0 => format!("{}: {}", p.trial, p.configuration),
                fidelity => format!("{}: {} at fidelity {fidelity}", p.trial, p.configuration),
            })
        };
        RunError::Replay {
            strategy: self.strategy_name(),
            trial: logged.get(first).map(|a| a.id).unwrap_or(TrialId(self.next_id)),
            logged: words(logged.get(first).map(|a| &a.proposal)),
            now: words(now.get(first)),
        }
    }

    /// One proposal, or no proposal, checked, numbered and logged. None when stopped: what a strategy answered while the
    /// workers that it may have consulted were going down is not what it would answer again.
    fn ask(
        &mut self,
        strategy: &mut dyn Strategy,
        numbers: &mut HashSet<TrialId>,
    ) -> Result<Option<Vec<Asked>>, RunError> {
        let answer = self.clock.time("ask", || strategy.ask(1));
        if self.session.stop.is_set() {
            return Ok(None);
        }
        let proposals = answer.map_err(|fault| self.strategy_fault("ask", fault))?;
        let contract = |what: String| Err(RunError::Contract { strategy: self.strategy_name(), what });
        if proposals.len() > 1 {
            return contract(format!("it was asked for 1 proposal and gave {}", proposals.len()));
        }
        for Proposal { trial, configuration, fidelity, .. } in &proposals {
            if trial.0 == 0 || !numbers.insert(*trial) {
                return contract(format!(
                    "it gave the number {trial} to a proposal, which is the baseline's or was used before"
                ));
            }
            if !(*fidelity > 0.0 && *fidelity <= 1.0) {
                return contract(format!("its proposal {trial} has fidelity {fidelity}, which is not in (0, 1]"));
            }
            if !configuration.is_finite() {
                return contract(format!(
                    "its proposal {trial} has a setting that is NaN or infinite: {configuration}"
                ));
            }
        }
        let asked: Vec<Asked> = proposals
            .into_iter()
            .map(|proposal| {
                self.next_id += 1;
                Asked { id: TrialId(self.next_id - 1), proposal }
            })
            .collect();
        self.commit(None, vec![Event::Ask { count: 1, proposals: asked.clone() }])?;
        Ok(Some(asked))
    }

    /// Finds out what becomes of a proposal, measuring it only where nothing else decides.
    fn settle(&mut self, id: TrialId, proposal: &Proposal) -> Settled {
        let started_at = unix_time();
        let unmeasured = |run: &mut Self, configuration: Configuration, outcome| {
            let job = run.job(id, configuration, Purpose::Search, proposal.fidelity);
            Settled::Trial(Box::new(run.trial(job, proposal.why.clone(), outcome, started_at)))
        };
        let configuration = match self.space.complete(&proposal.configuration) {
            Ok(configuration) => configuration,
            Err(error) => {
                let outcome = self.outside(&error);
                return unmeasured(self, proposal.configuration.clone(), outcome);
            }
        };
        if let Some(observed) = self.known.get(&(configuration.key(), proposal.fidelity.to_bits())) {
            let observed = observed.clone();
            self.session.events.note(&format!("{configuration} was measured before: the strategy is told that result"));
            return Settled::Duplicate(observed);
        }
        if let Some(outcome) = self.reject(&configuration) {
            // A worker that was going down may have given any answer.
            return if self.session.stop.is_set() {
                Settled::Stopped
            } else {
                unmeasured(self, configuration, outcome)
            };
        }
        let job = self.job(id, configuration, Purpose::Search, proposal.fidelity);
        match self.execute(&job, StudyPhase::Search) {
            Some((outcome, _)) => Settled::Trial(Box::new(self.trial(job, proposal.why.clone(), outcome, started_at))),
            None => Settled::Stopped,
        }
    }

    /// A combination that is not allowed is infeasible; anything else outside the space is the strategy's mistake.
    fn outside(&self, error: &SpaceError) -> Outcome {
        match error {
            SpaceError::Conflict { .. } | SpaceError::Requires { .. } => {
                Outcome::Infeasible { reason: error.to_string(), amount: None }
            }
            _ => {
                let who = format!("strategy {} proposed what lies outside the search space", self.strategy_name());
                Outcome::PluginError { fault: Fault::invalid(error.to_string()).within(who) }
            }
        }
    }

    /// The outcome of a configuration that need not be measured, because it is not applicable or breaks a constraint on
    /// memory that follows without running.
    fn reject(&mut self, configuration: &Configuration) -> Option<Outcome> {
        let runner = &mut self.session.runner;
        let mut predicted = match self.clock.time("apply.predict", || runner.predict(configuration)) {
            Ok(predicted) => predicted,
            Err(fault) => return Some(Outcome::from_fault(fault)),
        };
        let known: Vec<f64> = [metrics::WEIGHTS_MEMORY, metrics::CACHE_MEMORY]
            .iter()
            .filter_map(|m| predicted.get(*m))
            .copied()
            .collect();
        // Weights and caches are resident while the model runs, so their sum bounds the peak from below.
        let bound_only = !predicted.contains_key(metrics::PEAK_MEMORY) && !known.is_empty();
        if bound_only {
            predicted.insert(metrics::PEAK_MEMORY.into(), known.iter().sum());
        }
        for constraint in &self.record.constraints {
            let Some(value) = predicted.get(&constraint.metric) else { continue };
            let lower_bound = bound_only && constraint.metric == metrics::PEAK_MEMORY;
            let amount = constraint.violation(*value);
            if amount > 0.0 && (constraint.at_most || !lower_bound) {
                let how = if lower_bound { "at least " } else { "" };
                let reason = format!(
                    "{} would be {how}{value:.0}, which breaks the constraint \"{constraint}\" by {:.1} %",
                    constraint.metric,
                    100.0 * amount
                );
                return Some(Outcome::Infeasible { reason, amount: Some(amount) });
            }
        }
        None
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
            let front: Vec<_> =
                points::on_front(&placed).into_iter().map(|p| (p.trial, p.point.values.clone())).collect();
            let Some(next) = confirmation::next(&self.record, &self.trials, &front) else { return Ok(true) };
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

    /// A trial's outcome as a strategy sees it; the accuracy drop is a metric like any other.
    fn observed(&self, trial: &Trial) -> Observed {
        match &trial.outcome {
            Outcome::Ok { measurements } => {
                let mut values: Vec<MetricValue> = measurements
                    .metrics
                    .iter()
                    .map(|(metric, m)| MetricValue {
                        metric: metric.clone(),
                        value: m.value,
                        standard_error: m.standard_error,
                    })
                    .collect();
                let baseline = self.trials.first().unwrap_or(trial);
                if let Some(drop) = Figures::of(&self.record, baseline, trial).and_then(|f| f.accuracy_drop) {
                    values.push(MetricValue {
                        metric: metrics::ACCURACY_DROP.into(),
                        value: drop.percent.value,
                        standard_error: drop.percent.standard_error,
                    });
                }
                Observed::Measured { metrics: values }
            }
            Outcome::Infeasible { reason, amount } => Observed::Infeasible { reason: reason.clone(), amount: *amount },
            outcome => Observed::Failed { message: format!("{}: {}", outcome.word(), describe(outcome)) },
        }
    }

    fn strategy_name(&self) -> String {
        let plugin =
            self.record.plugins.iter().find(|p| p.kind == PluginKind::Strategy && p.id == self.record.strategy);
        plugin.map_or_else(|| self.record.strategy.clone(), |p| format!("{} {}", p.id, p.version))
    }

    fn strategy_fault(&self, function: &'static str, fault: Fault) -> RunError {
        RunError::Strategy { strategy: self.strategy_name(), function, fault }
    }

    fn trials_limit(&self) -> u32 {
        self.session.limits.trials.unwrap_or(self.record.budget_trials)
    }

    fn seconds_limit(&self) -> Option<f64> {
        self.session.limits.seconds.or(self.record.budget_seconds)
    }

    /// Why the search is over, if it is.
    fn exhausted(&self, duplicates: u32, unmeasured: u32) -> Option<String> {
        let used = self.used();
        if used >= self.trials_limit() {
            return Some(format!("all {used} trials are done"));
        }
        if let Some(limit) = self.seconds_limit()
            && self.clock.elapsed() + self.trial_seconds() + self.reserved_seconds() > limit
        {
            return Some(format!("the {limit:.0} s are used up after {used} trials"));
        }
        if duplicates >= DUPLICATES {
            return Some(format!("the strategy repeated itself {duplicates} times in a row"));
        }
        (unmeasured >= UNMEASURED).then(|| format!("{unmeasured} proposals in a row could not be measured"))
    }

    /// Trials that count toward the budget: the baseline, and what was handed to a worker.
    fn used(&self) -> u32 {
        self.trials.iter().filter(|t| counts(t)).count() as u32
    }

    /// Mean seconds of a trial so far.
    fn trial_seconds(&self) -> f64 {
        let seconds: f64 =
            self.trials.iter().filter(|t| t.purpose != Purpose::Confirmation).map(|t| t.timings.total()).sum();
        seconds / f64::from(self.used().max(1))
    }

    /// Expected seconds of a confirmation: the mean of those that were made, otherwise the baseline's time with its
    /// evaluations scaled to the larger number of items.
    fn confirmation_seconds(&self) -> f64 {
        let made: Vec<f64> = confirmations(&self.trials).values().map(|t| t.timings.total()).collect();
        if !made.is_empty() {
            return made.iter().sum::<f64>() / made.len() as f64;
        }
        let Some(baseline) = self.trials.first() else { return 0.0 };
        let growth = |label: Option<&str>| {
            let of = |e: &crate::EvaluatorUse| f64::from(e.confirm_items) / f64::from(e.items.max(1));
            let evaluators = &self.record.evaluators;
            match label.and_then(|label| evaluators.iter().find(|e| e.label == label)) {
                Some(evaluator) => of(evaluator),
                None => evaluators.iter().map(of).fold(1.0, f64::max),
            }
        };
        let seconds = baseline.timings.0.iter().map(|(phase, seconds)| match phase.split_once('.') {
            Some(("evaluate", label)) => seconds * growth(Some(label)),
            None if phase == "evaluate" => seconds * growth(None),
            _ => *seconds,
        });
        seconds.sum()
    }

    /// Seconds kept for confirmations, half of the limit at most.
    fn reserved_seconds(&self) -> f64 {
        if !self.record.confirm {
            return 0.0;
        }
        let wanted = PLANNED_CONFIRMATIONS * self.confirmation_seconds();
        self.seconds_limit().map_or(wanted, |limit| wanted.min(0.5 * limit))
    }

    fn standing(&self, phase: StudyPhase) -> Standing {
        let (used, elapsed) = (self.used(), self.clock.elapsed());
        let seconds_left = (used > 0).then(|| {
            let made = confirmations(&self.trials).len() as f64;
            let confirming = (PLANNED_CONFIRMATIONS - made).max(1.0) * self.confirmation_seconds();
            let wanted = match phase {
                StudyPhase::Confirmation => confirming,
                _ => {
                    let trials = f64::from(self.trials_limit().saturating_sub(used)) * self.trial_seconds();
                    trials + if self.record.confirm { confirming } else { 0.0 }
                }
            };
            self.seconds_limit().map_or(wanted, |limit| wanted.min((limit - elapsed).max(0.0)))
        });
        Standing {
            trials_done: used,
            trials_budget: self.trials_limit(),
            phase,
            best: self.best,
            elapsed_seconds: elapsed,
            seconds_left,
        }
    }
}

/// Whether a trial was handed to a worker in the search. What a worker found not applicable costs next to nothing, and
/// does not count either.
fn counts(trial: &Trial) -> bool {
    trial.purpose != Purpose::Confirmation && !matches!(trial.outcome, Outcome::Infeasible { .. })
}

/// What happened, for people.
fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok { .. } => String::new(),
        Outcome::Infeasible { reason, .. } => reason.clone(),
        Outcome::PluginError { fault } => fault.full(),
        Outcome::OutOfMemory { message }
        | Outcome::Timeout { message }
        | Outcome::Diverged { message }
        | Outcome::Crashed { message } => message.clone(),
    }
}

//! The search: restore the strategy from the log, then ask, find out what becomes of the answer, store, and tell.

use super::clock::unix_time;
use super::convergence::Convergence;
use super::{Limits, Run, RunError, counts, problem};
use crate::{
    Asked, Configuration, Event, Observation, Observed, Outcome, Proposal, Purpose, SpaceError, Strategy, StudyPhase,
    Trial, TrialId, metrics,
};
use aehost_common::Fault;
use std::collections::{HashSet, VecDeque};

/// What became of a proposal.
enum Settled {
    /// A trial, to be stored.
    Trial(Box<Trial>),
    /// The same configuration was settled before.
    Duplicate(Observed),
    /// The user stopped the study.
    Stopped,
}

impl Run<'_> {
    /// The search until it ends, with the reason; none when stopped.
    pub(super) fn search(&mut self) -> Result<Option<String>, RunError> {
        if let Some(Event::Ended { reason }) = self.log.last()
            && self.session.limits == Limits::default()
        {
            return Ok(Some(reason.clone()));
        }
        let (mut strategy, mut pending, mut numbers) = self.replay()?;
        let (mut duplicates, mut unmeasured) = (0, 0);
        let mut convergence = Convergence::default();
        loop {
            if self.session.stop.is_set() {
                return Ok(None);
            }
            if pending.is_empty() {
                let ended = self.exhausted(duplicates, unmeasured);
                let ended = ended.or_else(|| self.converged(strategy.as_mut(), &mut convergence));
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
        let before = self.session.runner.predicting_seconds();
        let answer = self.clock.time("ask", || strategy.ask(1));
        // A strategy may ask the workers what is allowed; they apply techniques to answer.
        self.clock.shift("ask", "apply.predict", self.session.runner.predicting_seconds() - before);
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
        if let Some(outcome) = self.reject(&configuration, proposal.fidelity) {
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
    fn reject(&mut self, configuration: &Configuration, fidelity: f64) -> Option<Outcome> {
        let runner = &mut self.session.runner;
        let mut predicted = match self.clock.time("apply.predict", || runner.predict(configuration, fidelity)) {
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
}

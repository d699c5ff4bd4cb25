//! What strategies promise.

use super::problems::{self, Case};
use super::{Check, Checks};
use crate::LoadedStrategy;
use aehost_common::{Fault, Parameter, Settings};
use aehost_study::{Configuration, Observation, Proposal, Space, StrategyFactory, TrialId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A round of ask and tell at 200 trials may take this long on average.
const ROUND: Duration = Duration::from_millis(200);

pub(super) fn check(loaded: &LoadedStrategy, checks: &mut Checks) {
    let settings = match Parameter::complete(&loaded.description().parameters, &Settings::default()) {
        Ok(settings) => settings,
        Err(error) => {
            checks.add("has defaults that go together", Err(error.to_string()));
            return;
        }
    };
    checks.0.extend(strategy_promises(loaded, &limited(loaded), &settings, loaded.description().multi_fidelity));
}

/// The strategy with a host that refuses what is too large for the plain problem.
fn limited(loaded: &LoadedStrategy) -> LoadedStrategy {
    loaded.with_feasibility(Arc::new(|configuration: &Configuration| match problems::too_large(configuration) {
        Some(_) => Err(Fault::not_applicable(problems::TOO_LARGE)),
        None => Ok(vec![("memory.weights_bytes".into(), problems::memory(configuration))]),
    }))
}

/// Checks a strategy with these settings; `limited` is the same one with a host that refuses configurations.
pub fn strategy_promises(
    strategy: &dyn StrategyFactory,
    limited: &dyn StrategyFactory,
    settings: &Settings,
    multi_fidelity: bool,
) -> Vec<Check> {
    let mut checks = Checks::default();
    let plain = problems::plain(settings);
    let runs = "runs a study of 200 trials";
    let (proposals, round) = match search(limited, &plain) {
        Ok(done) => done,
        Err(fault) => {
            checks.add(runs, Err(fault.full()));
            return checks.0;
        }
    };
    let some = !proposals.is_empty();
    checks.add(runs, if some { Ok(format!("{} trials", proposals.len())) } else { Err("it proposed nothing".into()) });
    type Promise = fn(&Case, &[Proposal], bool) -> Result<(), String>;
    let lawful: [(&str, Promise); 4] = [
        ("stays inside the search space", inside),
        ("numbers its trials from 1", numbered),
        ("proposes nothing twice, and never the baseline", new),
        ("says why it proposes what it does", explained),
    ];
    let mut sound = true;
    for (promise, holds) in lawful {
        sound &= checks.add(promise, holds(&plain, &proposals, multi_fidelity).map(|()| String::new()));
    }
    let again = search(limited, &plain).map(|(proposals, _)| proposals);
    checks.same("proposes the same when it is replayed", Ok(proposals), again);
    let told = format!("{:.3} ms", round.as_secs_f64() * 1e3);
    let promise = format!("asks and tells in under {} ms at 200 trials", ROUND.as_millis());
    checks.add(&promise, if round <= ROUND { Ok(told) } else { Err(told) });
    if !sound {
        return checks.0;
    }

    let found = |case: &Case| {
        let (proposals, _) = search(strategy, case).map_err(|fault| fault.full())?;
        lawful.iter().try_for_each(|(_, holds)| holds(case, &proposals, multi_fidelity))?;
        // Where there are several fidelities, one configuration is several trials.
        Ok::<_, String>(if multi_fidelity && proposals.len() >= case.most { case.most } else { different(&proposals) })
    };
    let hard = problems::hard(settings).into_iter().try_for_each(|(outcomes, case)| {
        let run = |why| format!("budget {}, {} at once, outcomes {outcomes}: {why}", case.problem.budget, case.at_once);
        let count = found(&case).map_err(run)?;
        // A search of several fidelities ends when all are measured in full that are worth it.
        let enough = if multi_fidelity { count > 0 } else { count >= case.most };
        if enough { Ok(()) } else { Err(run(format!("it gave up after {count} of {} trials", case.most))) }
    });
    let promise = "goes on through failures, empty and extreme outcomes, budgets of 0 and 1, and trials side by side";
    checks.add(promise, hard.map(|()| String::new()));
    for (promise, space, expected, at_once) in [
        ("finds every configuration of a small space, and ends", problems::little(), 5, 1),
        ("proposes nothing in an empty space", vec![], 0, 1),
        ("proposes nothing that lacks what it requires", problems::lonely(), 0, 1),
        ("searches the widest domains", problems::wide(), 40, 1),
        ("searches forty techniques, eight trials at once", problems::many(), 48, 8),
    ] {
        let mut case = Case { at_once, ..problems::awkward(settings, space) };
        case.most = case.most.max(expected);
        let counted = found(&case).and_then(|count| match count == expected {
            true => Ok(format!("{count} configurations")),
            false => Err(format!("{count} configurations, not {expected}")),
        });
        checks.add(promise, counted);
    }
    checks.0
}

/// Equal for equal configurations: the order of techniques and settings is the host's affair.
fn key(configuration: &Configuration) -> String {
    let mut configuration = configuration.clone();
    configuration.0.iter_mut().for_each(|choice| choice.settings.0.sort_by(|a, b| a.name.cmp(&b.name)));
    configuration.0.sort_by(|a, b| a.technique.cmp(&b.technique));
    configuration.key()
}

/// Configurations that differ.
fn different(proposals: &[Proposal]) -> usize {
    proposals.iter().map(|proposal| key(&proposal.configuration)).collect::<BTreeSet<_>>().len()
}

/// Every proposal, and the mean time of a round in the last tenth. Of several trials side by side the last one is told with the
/// next ones, after them.
fn search(factory: &dyn StrategyFactory, case: &Case) -> Result<(Vec<Proposal>, Duration), Fault> {
    let mut strategy = factory.start(&case.problem)?;
    strategy.tell(&[Observation {
        trial: TrialId(0),
        configuration: Configuration::default(),
        fidelity: 1.0,
        outcome: case.baseline.clone(),
    }])?;
    let told = |proposal: &Proposal| Observation {
        trial: proposal.trial,
        configuration: proposal.configuration.clone(),
        fidelity: proposal.fidelity,
        outcome: (case.outcome)(proposal),
    };
    let (mut proposals, mut late, mut rounds, mut pending) = (Vec::new(), Duration::ZERO, 0, None);
    while proposals.len() < case.most {
        let begin = Instant::now();
        let mut asked = strategy.ask(case.at_once)?;
        if asked.is_empty() {
            break;
        }
        proposals.extend(asked.iter().cloned());
        let kept = if case.at_once > 1 { asked.pop() } else { None };
        let observations: Vec<Observation> = asked.iter().chain(&pending).map(told).collect();
        strategy.tell(&observations)?;
        pending = kept;
        if proposals.len() > case.most - case.most / 10 {
            late += begin.elapsed();
            rounds += 1;
        }
    }
    Ok((proposals, late.checked_div(rounds).unwrap_or_default()))
}

fn inside(case: &Case, proposals: &[Proposal], _: bool) -> Result<(), String> {
    let space = Space::new(&case.problem.space).map_err(|e| e.to_string())?;
    proposals.iter().try_for_each(|p| match space.complete(&p.configuration) {
        Ok(complete) if key(&complete) == key(&p.configuration) => Ok(()),
        Ok(complete) => Err(format!("trial {}: `{}` lacks settings of `{complete}`", p.trial, p.configuration)),
        Err(error) => Err(format!("trial {}: {error}", p.trial)),
    })
}

fn numbered(_: &Case, proposals: &[Proposal], _: bool) -> Result<(), String> {
    let wrong = proposals.iter().zip(1..).find(|(proposal, number)| proposal.trial != TrialId(*number));
    wrong.map_or(Ok(()), |(proposal, number)| Err(format!("trial {} where {number} was due", proposal.trial)))
}

fn new(_: &Case, proposals: &[Proposal], several_fidelities: bool) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    proposals.iter().try_for_each(|p| {
        if p.configuration.is_baseline() {
            return Err(format!("trial {} is the baseline", p.trial));
        }
        if !several_fidelities && p.fidelity < 1.0 {
            return Err(format!("trial {} has a fidelity of {}", p.trial, p.fidelity));
        }
        match seen.insert((key(&p.configuration), p.fidelity.to_bits())) {
            true => Ok(()),
            false => Err(format!("trial {} repeats `{}`", p.trial, p.configuration)),
        }
    })
}

fn explained(_: &Case, proposals: &[Proposal], _: bool) -> Result<(), String> {
    let silent = proposals.iter().find(|p| p.why.trim().is_empty());
    silent.map_or(Ok(()), |p| Err(format!("trial {}: its `why` is empty", p.trial)))
}

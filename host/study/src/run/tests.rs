//! The loop with a made-up strategy and runner that answer at once, and can be killed at every step.

use super::*;
use crate::fixtures::{chosen, measured, study};
use crate::{Choice, Constraint, Measurement, Progress, Proposal, Quiet, StoreError, Strategy};
use aehost_common::Direction;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::rc::Rc;

/// Unwinds out of the loop at its n-th step, as if the process had been killed there: nothing catches it on the way, and
/// all that is left is what the store committed.
#[derive(Clone, Default)]
struct Killer(Rc<Cell<Option<u32>>>);

struct Killed;

impl Killer {
    fn step(&self) {
        match self.0.get() {
            Some(0) => {
                self.0.set(None);
                resume_unwind(Box::new(Killed))
            }
            Some(left) => self.0.set(Some(left - 1)),
            None => {}
        }
    }
}

/// Proposes what a hash of all it was told points to, so that any difference in the replay shows.
struct Sweep {
    state: u64,
    number: u64,
    last: u64,
    killer: Killer,
}

impl Sweep {
    fn mix(&mut self, text: &str) {
        for byte in text.bytes() {
            self.state = (self.state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

impl Strategy for Sweep {
    fn ask(&mut self, count: u32) -> Result<Vec<Proposal>, Fault> {
        self.killer.step();
        assert_eq!(count, 1);
        if self.number == self.last {
            return Ok(vec![]);
        }
        self.number += 1;
        let (a, b) = ((self.state >> 20) % 5, (self.state >> 40) % 6);
        let mut choices = vec![chosen("b", &[("level", Value::Integer(b as i64))])];
        if a > 0 {
            choices.push(chosen("a", &[("level", Value::Integer(a as i64))]));
        }
        choices.retain(|c| c.settings.get("level") != Some(&Value::Integer(0)));
        let why = format!("state {:x}", self.state);
        Ok(vec![Proposal { trial: TrialId(self.number), configuration: Configuration(choices), fidelity: 1.0, why }])
    }

    fn tell(&mut self, observations: &[Observation]) -> Result<(), Fault> {
        self.killer.step();
        self.mix(&serde_json::to_string(observations).unwrap());
        Ok(())
    }

    fn outlook(&mut self) -> crate::Outlook {
        crate::Outlook::default()
    }
}

struct Sweeps {
    last: u64,
    salt: u64,
    killer: Killer,
}

impl StrategyFactory for Sweeps {
    fn start(&self, problem: &Problem) -> Result<Box<dyn Strategy>, Fault> {
        let state = 0xcbf2_9ce4_8422_2325 ^ problem.seed ^ self.salt;
        Ok(Box::new(Sweep { state, number: 0, last: self.last, killer: self.killer.clone() }))
    }
}

/// Figures that follow from the configuration; levels 1 to 4 of `a` and `b` make it faster, smaller and worse.
#[derive(Default)]
struct Machine {
    killer: Killer,
    /// Trials that ran to their end, over all sessions.
    ran: Rc<RefCell<Vec<TrialId>>>,
    stop_in: Option<TrialId>,
}

fn level(configuration: &Configuration, technique: &str) -> i64 {
    let choice = configuration.0.iter().find(|c| c.technique == technique);
    choice.and_then(|c| c.settings.get("level")).and_then(Value::as_integer).unwrap_or(0)
}

impl Runner for Machine {
    fn predict(&mut self, configuration: &Configuration, _: f64) -> Result<BTreeMap<String, f64>, Fault> {
        match (level(configuration, "a"), level(configuration, "b")) {
            (4, 4) => Err(Fault::not_applicable("nothing would be left")),
            (_, b) => {
                let weights = (metrics::WEIGHTS_MEMORY.to_owned(), 90.0 - 10.0 * b as f64);
                Ok(BTreeMap::from([weights, (metrics::CACHE_MEMORY.to_owned(), 10.0)]))
            }
        }
    }

    fn run(&mut self, job: &Job, stop: &Stop, progress: &mut dyn FnMut(Progress)) -> (Outcome, crate::Timings) {
        self.killer.step();
        progress(Progress { phase: "measure".into(), what: "tokens".into(), done: Some(0.5) });
        if self.stop_in == Some(job.trial) {
            stop.set();
            return (Outcome::Crashed { message: "signal 2".into() }, crate::Timings::default());
        }
        let (a, b) = (level(&job.configuration, "a"), level(&job.configuration, "b"));
        let mut timings = crate::Timings::default();
        timings.add("measure", 1e-6);
        self.ran.borrow_mut().push(job.trial);
        self.killer.step();
        if (a, b) == (1, 3) {
            return (Outcome::Timeout { message: "it took too long".into() }, timings);
        }
        let cost = 100.0 - 15.0 * a as f64 - 5.0 * b as f64;
        let Outcome::Ok { mut measurements } =
            measured(&[("latency.e2e_ms", cost), ("memory.peak_bytes", 120.0 - 10.0 * b as f64 - a as f64)])
        else {
            unreachable!()
        };
        let wrong = (4 * a + b) as u32;
        let samples = (0..job.items[0].count).map(|i| f64::from(i % 100 >= wrong)).collect();
        let accuracy = Measurement::of_items(samples, vec![], "identity", "share", Direction::Maximize).unwrap();
        measurements.metrics.insert("multiple-choice.acc".into(), accuracy);
        (Outcome::Ok { measurements }, timings)
    }
}

struct Bench {
    folder: tempfile::TempDir,
    killer: Killer,
    ran: Rc<RefCell<Vec<TrialId>>>,
    sweeps: Sweeps,
    record: StudyRecord,
}

impl Bench {
    fn new() -> Self {
        let killer = Killer::default();
        Self {
            folder: tempfile::tempdir().unwrap(),
            sweeps: Sweeps { last: 40, salt: 0, killer: killer.clone() },
            killer,
            ran: Rc::default(),
            record: study("s"),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("s.db")
    }

    fn store(&self) -> Store {
        let mut store = Store::open(&self.path()).unwrap();
        if store.list().unwrap().is_empty() {
            store.create(&self.record).unwrap();
        }
        store.without_fsync();
        let killer = self.killer.clone();
        store.around_commit = Some(Rc::new(move || killer.step()));
        store
    }

    fn machine(&self) -> Machine {
        Machine { killer: self.killer.clone(), ran: self.ran.clone(), stop_in: None }
    }

    fn run(&self) -> Result<Finished, RunError> {
        self.run_with(&self.sweeps, &mut self.machine(), Limits::default())
    }

    fn run_until(
        &self,
        stop: Stop,
        factory: &dyn StrategyFactory,
        runner: &mut dyn Runner,
        limits: Limits,
    ) -> Result<Finished, RunError> {
        let mut store = self.store();
        run("s", Session { store: &mut store, factory, runner, events: &mut Quiet, stop, limits })
    }

    fn run_with(
        &self,
        factory: &dyn StrategyFactory,
        runner: &mut dyn Runner,
        limits: Limits,
    ) -> Result<Finished, RunError> {
        self.run_until(Stop::default(), factory, runner, limits)
    }

    /// Whether it was killed before it was complete.
    fn killed_at(&self, step: u32) -> bool {
        self.killer.0.set(Some(step));
        let result = catch_unwind(AssertUnwindSafe(|| self.run()));
        self.killer.0.set(None);
        match result {
            Ok(result) => {
                assert!(matches!(result, Ok(Finished::Complete(_))), "{result:?}");
                false
            }
            Err(payload) => {
                assert!(payload.is::<Killed>(), "an assertion failed inside the loop");
                true
            }
        }
    }

    fn trials(&self) -> Vec<Trial> {
        Store::open(&self.path()).unwrap().trials("s").unwrap()
    }

    fn log(&self) -> Vec<Event> {
        Store::open(&self.path()).unwrap().events("s").unwrap()
    }
}

/// What must not depend on when it ran.
fn timeless(trials: Vec<Trial>) -> Vec<Trial> {
    let strip = |t: Trial| Trial { timings: crate::Timings::default(), started_at: 0.0, finished_at: 0.0, ..t };
    trials.into_iter().map(strip).collect()
}

#[test]
fn a_study_measures_the_baseline_the_proposals_and_the_confirmations() {
    let bench = Bench::new();
    assert_eq!(bench.run().unwrap(), Finished::Complete("all 12 trials are done".into()));
    let trials = bench.trials();
    assert_eq!((trials[0].purpose, &trials[0].configuration), (Purpose::Baseline, &Configuration::default()));
    assert_eq!(trials.iter().filter(|t| counts(t)).count(), 12);
    let confirmed: Vec<TrialId> = trials.iter().filter_map(|t| t.confirms).collect();
    assert_eq!(confirmed[0], TrialId(0));
    assert!((3..=7).contains(&confirmed.len()), "{confirmed:?}");
    let words: HashSet<&str> = trials.iter().map(|t| t.outcome.word()).collect();
    assert!(words.contains("ok") && words.contains("plugin-error"), "{words:?}");
    // Every canonical configuration was settled at most once in the search; what lies outside the space has no canonical form.
    let inside = trials.iter().filter(|t| t.confirms.is_none() && t.outcome.word() != "plugin-error");
    let keys: Vec<String> = inside.map(|t| t.configuration.key()).collect();
    assert_eq!(keys.len(), keys.iter().collect::<HashSet<_>>().len(), "{keys:?}");
    // Each duplicate was told without a trial of its own.
    let tells = bench.log().iter().filter(|e| matches!(e, Event::Tell { .. })).count();
    let searched = trials.iter().filter(|t| t.confirms.is_none()).count();
    assert!(tells > searched, "{tells} tells, {searched} trials: the strategy never repeated itself");
}

#[test]
fn the_same_seed_gives_the_same_study() {
    let (one, two) = (Bench::new(), Bench::new());
    one.run().unwrap();
    two.run().unwrap();
    assert_eq!(one.log(), two.log());
    assert_eq!(timeless(one.trials()), timeless(two.trials()));
    let mut other = Bench::new();
    other.record.seed = 4;
    other.run().unwrap();
    assert_ne!(one.log(), other.log());
}

#[test]
fn a_study_killed_at_any_step_loses_no_finished_trial_and_repeats_none() {
    let whole = Bench::new();
    whole.run().unwrap();
    let (log, trials) = (whole.log(), timeless(whole.trials()));
    let mut step = 0;
    loop {
        let bench = Bench::new();
        let killed = bench.killed_at(step);
        let stored: Vec<TrialId> = if killed { bench.trials().iter().map(|t| t.id).collect() } else { vec![] };
        let ran_before = bench.ran.borrow().len();
        bench.run().unwrap();
        let ran_again = bench.ran.borrow()[ran_before..].to_vec();
        assert!(!ran_again.iter().any(|id| stored.contains(id)), "killed at step {step}: a stored trial ran again");
        assert_eq!(bench.log(), log, "killed at step {step}");
        assert_eq!(timeless(bench.trials()), trials, "killed at step {step}");
        if !killed {
            break;
        }
        step += 1;
    }
    assert!(step > 100, "only {step} steps");
}

#[test]
fn a_study_killed_again_and_again_ends_as_if_nothing_had_happened() {
    let whole = Bench::new();
    whole.run().unwrap();
    for every in [3, 7, 20, 30] {
        let bench = Bench::new();
        // The replay takes steps too, so the patience grows until there is progress again.
        let mut kills = 0;
        while bench.killed_at(every + kills) {
            kills += 1;
        }
        assert!(kills > 2, "{kills} kills");
        assert_eq!(bench.log(), whole.log());
        assert_eq!(timeless(bench.trials()), timeless(whole.trials()));
    }
}

#[test]
fn a_stopped_study_discards_the_trial_at_work_and_resumes() {
    let whole = Bench::new();
    whole.run().unwrap();
    let bench = Bench::new();
    let mut machine = bench.machine();
    machine.stop_in = Some(TrialId(3));
    let result = bench.run_with(&bench.sweeps, &mut machine, Limits::default()).unwrap();
    assert_eq!(result, Finished::Interrupted);
    assert!(bench.trials().iter().all(|t| t.id < TrialId(3)));
    assert_eq!(bench.store().list().unwrap()[0].ended, None);
    bench.run().unwrap();
    assert_eq!(timeless(bench.trials()), timeless(whole.trials()));
    assert_eq!(bench.store().list().unwrap()[0].ended.as_deref(), Some("all 12 trials are done"));
}

/// A strategy whose second answer is spoiled because the user is stopping the study.
struct Spoiled(Box<dyn Strategy>, u32, Stop);

impl Strategy for Spoiled {
    fn ask(&mut self, count: u32) -> Result<Vec<Proposal>, Fault> {
        self.1 += 1;
        if self.1 == 2 {
            self.2.set();
            return Ok(vec![proposal(77, vec![])]);
        }
        self.0.ask(count)
    }

    fn tell(&mut self, observations: &[Observation]) -> Result<(), Fault> {
        self.0.tell(observations)
    }

    fn outlook(&mut self) -> crate::Outlook {
        self.0.outlook()
    }
}

struct Spoils<'a>(&'a Sweeps, Stop);

impl StrategyFactory for Spoils<'_> {
    fn start(&self, problem: &Problem) -> Result<Box<dyn Strategy>, Fault> {
        Ok(Box::new(Spoiled(self.0.start(problem)?, 0, self.1.clone())))
    }
}

#[test]
fn what_a_strategy_answers_while_being_stopped_is_not_logged() {
    let whole = Bench::new();
    whole.run().unwrap();
    let bench = Bench::new();
    let stop = Stop::default();
    let spoils = Spoils(&bench.sweeps, stop.clone());
    let result = bench.run_until(stop, &spoils, &mut bench.machine(), Limits::default()).unwrap();
    assert_eq!(result, Finished::Interrupted);
    bench.run().unwrap();
    assert_eq!(bench.log(), whole.log());
}

#[test]
fn a_complete_study_is_left_as_it_is_unless_the_budget_grows() {
    let bench = Bench::new();
    bench.run().unwrap();
    let (log, trials) = (bench.log(), bench.trials());
    bench.run().unwrap();
    assert_eq!((bench.log(), bench.trials()), (log, trials.clone()));
    let more = Limits { trials: Some(15), seconds: None };
    let result = bench.run_with(&bench.sweeps, &mut bench.machine(), more).unwrap();
    assert_eq!(result, Finished::Complete("all 15 trials are done".into()));
    let grown = bench.trials();
    assert_eq!(grown[..trials.len()], trials);
    assert_eq!(grown.iter().filter(|t| counts(t)).count(), 15);
    // The loop replays what it logged, numbers given to confirmations in between included.
    bench.run_with(&bench.sweeps, &mut bench.machine(), Limits { trials: Some(16), seconds: None }).unwrap();
}

#[test]
fn a_strategy_that_does_not_repeat_itself_is_named() {
    let bench = Bench::new();
    let mut machine = bench.machine();
    machine.stop_in = Some(TrialId(3));
    bench.run_with(&bench.sweeps, &mut machine, Limits::default()).unwrap();
    let other = Sweeps { last: 40, salt: 1, killer: bench.killer.clone() };
    let error = bench.run_with(&other, &mut bench.machine(), Limits::default()).unwrap_err().to_string();
    let [before, after] = ["strategy sweep does not repeat itself: for trial 1 it proposed `1: ", "start a new study"];
    assert!(error.starts_with(before) && error.ends_with(after), "{error}");
}

/// Proposes the same things over and over.
struct Fixed(Vec<Proposal>, usize);

impl Strategy for Fixed {
    fn ask(&mut self, _count: u32) -> Result<Vec<Proposal>, Fault> {
        self.1 += 1;
        let mut proposal = self.0[(self.1 - 1) % self.0.len()].clone();
        if self.0.len() > 1 || proposal.trial.0 == 1 {
            proposal.trial.0 += self.1 as u64 - 1;
        }
        Ok(vec![proposal])
    }

    fn tell(&mut self, _observations: &[Observation]) -> Result<(), Fault> {
        Ok(())
    }

    fn outlook(&mut self) -> crate::Outlook {
        crate::Outlook::default()
    }
}

struct Fixes(Vec<Proposal>);

impl StrategyFactory for Fixes {
    fn start(&self, _problem: &Problem) -> Result<Box<dyn Strategy>, Fault> {
        Ok(Box::new(Fixed(self.0.clone(), 0)))
    }
}

fn proposal(trial: u64, choices: Vec<Choice>) -> Proposal {
    Proposal { trial: TrialId(trial), configuration: Configuration(choices), fidelity: 1.0, why: String::new() }
}

fn outcome_of(bench: &Bench, choices: Vec<Choice>) -> Outcome {
    bench.run_with(&Fixes(vec![proposal(1, choices)]), &mut bench.machine(), Limits::default()).unwrap();
    bench.trials()[1].outcome.clone()
}

#[test]
fn what_breaks_a_memory_limit_for_sure_is_rejected_unmeasured() {
    let mut bench = Bench::new();
    bench.record.constraints.push(Constraint::parse("memory.peak <= 80 B").unwrap());
    let outcome = outcome_of(&bench, vec![chosen("b", &[("level", Value::Integer(1))])]);
    let reason =
        "memory.peak_bytes would be at least 90, which breaks the constraint \"memory.peak <= 80 B\" by 12.5 %";
    assert_eq!(outcome, Outcome::Infeasible { reason: reason.into(), amount: Some(0.125) });
    assert!(!bench.ran.borrow().contains(&TrialId(1)));
}

#[test]
fn what_is_not_applicable_is_infeasible() {
    let both = ["a", "b"].map(|t| chosen(t, &[("level", Value::Integer(4))])).to_vec();
    let outcome = outcome_of(&Bench::new(), both);
    assert_eq!(outcome, Outcome::Infeasible { reason: "nothing would be left".into(), amount: None });
}

#[test]
fn a_proposal_outside_the_space_names_strategy_technique_and_parameter() {
    let outcome = outcome_of(&Bench::new(), vec![chosen("a", &[("level", Value::Integer(9))])]);
    let Outcome::PluginError { fault } = outcome else { panic!("{outcome:?}") };
    assert_eq!(
        fault.full(),
        "strategy sweep proposed what lies outside the search space: technique `a`: level = 9 is outside its domain, 1 to 4"
    );
}

#[test]
fn a_strategy_that_repeats_itself_is_told_so_and_ends() {
    let bench = Bench::new();
    let one = Fixes(vec![proposal(1, vec![chosen("b", &[("level", Value::Integer(2))])])]);
    let result = bench.run_with(&one, &mut bench.machine(), Limits::default()).unwrap();
    assert_eq!(result, Finished::Complete("the strategy repeated itself 50 times in a row".into()));
    assert_eq!(bench.trials().iter().filter(|t| t.confirms.is_none()).count(), 2);
}

#[test]
fn broken_contracts_end_the_study_with_the_strategys_name() {
    let message = |proposals: Vec<Proposal>| {
        let bench = Bench::new();
        bench.run_with(&Fixes(proposals), &mut bench.machine(), Limits::default()).unwrap_err().to_string()
    };
    let advice = "; report it to its author, and use another strategy";
    assert_eq!(
        message(vec![proposal(2, vec![])]),
        format!(
            "strategy sweep broke its contract: it gave the number 2 to a proposal, which is the baseline's or was used \
             before{advice}"
        )
    );
    let fidelity = Proposal { fidelity: 1.5, ..proposal(1, vec![]) };
    assert_eq!(
        message(vec![fidelity]),
        format!("strategy sweep broke its contract: its proposal 1 has fidelity 1.5, which is not in (0, 1]{advice}")
    );
    assert_eq!(
        message(vec![proposal(1, vec![chosen("a", &[("level", Value::Real(f64::NAN))])])]),
        format!(
            "strategy sweep broke its contract: its proposal 1 has a setting that is NaN or infinite: a level=NaN{advice}"
        )
    );
}

#[test]
fn a_metric_that_this_machine_cannot_measure_ends_the_study_early() {
    let mut bench = Bench::new();
    bench.record.constraints.push(Constraint::parse("energy <= 1 J").unwrap());
    assert_eq!(
        bench.run().unwrap_err().to_string(),
        "constraint \"energy <= 1 J\" needs energy.joules_per_token, which is unavailable here: the baseline did not \
         measure it; start a study without it"
    );
}

#[test]
fn time_ends_the_search_and_leaves_some_for_confirmation() {
    let mut bench = Bench::new();
    bench.record.budget_seconds = Some(1e-9);
    let result = bench.run().unwrap();
    assert_eq!(result, Finished::Complete("the 0 s are used up after 1 trials".into()));
}

/// Expects as much more as `gains` says, one after another.
struct Expecting(Box<dyn Strategy>, std::vec::IntoIter<Option<f64>>);

impl Strategy for Expecting {
    fn ask(&mut self, count: u32) -> Result<Vec<Proposal>, Fault> {
        self.0.ask(count)
    }

    fn tell(&mut self, observations: &[Observation]) -> Result<(), Fault> {
        self.0.tell(observations)
    }

    fn outlook(&mut self) -> crate::Outlook {
        crate::Outlook { remaining_gain: self.1.next().flatten(), notes: vec![] }
    }
}

struct Expects<'a>(&'a Sweeps, Vec<Option<f64>>);

impl StrategyFactory for Expects<'_> {
    fn start(&self, problem: &Problem) -> Result<Box<dyn Strategy>, Fault> {
        Ok(Box::new(Expecting(self.0.start(problem)?, self.1.clone().into_iter())))
    }
}

#[test]
fn a_search_until_converged_ends_when_little_is_expected_three_times_in_a_row() {
    let gains = vec![None, Some(0.5), Some(0.005), Some(0.009), Some(0.2), Some(0.01), Some(0.002), Some(0.004)];
    for (until_converged, ended) in [(true, true), (false, false)] {
        let mut bench = Bench::new();
        bench.record.until_converged = until_converged;
        let result = bench.run_with(&Expects(&bench.sweeps, gains.clone()), &mut bench.machine(), Limits::default());
        let Finished::Complete(reason) = result.unwrap() else { panic!("it was not stopped") };
        assert_eq!(
            reason.ends_with("the strategy expects no more than 0.4 % of hypervolume to be gained"),
            ended,
            "{reason}"
        );
    }
}

#[test]
fn a_full_disk_ends_the_run_and_the_study_goes_on_when_there_is_space() {
    let whole = Bench::new();
    whole.run().unwrap();
    let bench = Bench::new();
    let mut store = bench.store();
    store.limit_pages(14);
    let session = Session {
        store: &mut store,
        factory: &bench.sweeps,
        runner: &mut bench.machine(),
        events: &mut Quiet,
        stop: Stop::default(),
        limits: Limits::default(),
    };
    let error = run("s", session).unwrap_err();
    assert!(matches!(error, RunError::Store(StoreError::Full { .. })), "{error}");
    drop(store);
    let stored = bench.trials().len();
    assert!(stored > 1 && stored < whole.trials().len(), "{stored} trials fitted");
    bench.run().unwrap();
    assert_eq!(bench.log(), whole.log());
    assert_eq!(timeless(bench.trials()), timeless(whole.trials()));
}

#[test]
fn two_runs_of_one_study_at_once_are_refused() {
    let bench = Bench::new();
    let store = bench.store();
    let _lock = store.lock("s").unwrap();
    let error = bench.run().unwrap_err().to_string();
    assert!(error.starts_with("study `s` is being run by another aehost (process "), "{error}");
}

#[test]
fn the_phases_of_all_trials_add_up_to_the_time_that_passed() {
    let bench = Bench::new();
    drop(bench.store());
    let begun = std::time::Instant::now();
    bench.run_with(&bench.sweeps, &mut Slow(bench.machine()), Limits::default()).unwrap();
    let passed = begun.elapsed().as_secs_f64();
    let summary = crate::TimingsSummary::of(&bench.trials());
    assert!(summary.total_seconds <= passed && summary.total_seconds > 0.7 * passed, "{summary:?} of {passed}");
    // The slow runner claims no time for its work, so all of it was waiting.
    assert!(summary.seconds["wait"] > 15e-3 * 12.0 && summary.overhead > 0.99, "{summary:?}");
}

/// The real thing: this test starts itself as a child process that runs a study, and kills it.
#[test]
fn a_process_killed_at_random_moments_loses_nothing() {
    const PLACE: &str = "AEHOST_STUDY_TEST_FOLDER";
    if let Ok(place) = std::env::var(PLACE) {
        let mut store = Store::open(&Path::new(&place).join("s.db")).unwrap();
        let sweeps = Sweeps { last: 40, salt: 0, killer: Killer::default() };
        let (mut runner, mut events) = (Slow(Machine::default()), Quiet);
        let session = Session {
            store: &mut store,
            factory: &sweeps,
            runner: &mut runner,
            events: &mut events,
            stop: Stop::default(),
            limits: Limits::default(),
        };
        run("s", session).unwrap();
        return;
    }
    let whole = Bench::new();
    whole.run().unwrap();
    let bench = Bench::new();
    drop(bench.store());
    let mut kills = 0;
    for round in 0u64.. {
        let name = "run::tests::a_process_killed_at_random_moments_loses_nothing";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--test-threads=1"])
            .env(PLACE, bench.folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let before = timeless(bench.trials());
        std::thread::sleep(std::time::Duration::from_millis(20 + (round * 37) % 90));
        let killed = kills < 20 && child.try_wait().unwrap().is_none();
        if killed {
            child.kill().unwrap();
            kills += 1;
        }
        let status = child.wait().unwrap();
        let after = timeless(bench.trials());
        assert_eq!(after[..before.len()], before, "a stored trial changed");
        if !killed {
            assert!(status.success());
            break;
        }
    }
    assert!(kills > 0);
    assert_eq!(bench.log(), whole.log());
    assert_eq!(timeless(bench.trials()), timeless(whole.trials()));
}

/// Takes a while for each trial, so that most kills hit one.
struct Slow(Machine);

impl Runner for Slow {
    fn predict(&mut self, configuration: &Configuration, fidelity: f64) -> Result<BTreeMap<String, f64>, Fault> {
        self.0.predict(configuration, fidelity)
    }

    fn run(&mut self, job: &Job, stop: &Stop, progress: &mut dyn FnMut(Progress)) -> (Outcome, crate::Timings) {
        std::thread::sleep(std::time::Duration::from_millis(15));
        self.0.run(job, stop, progress)
    }
}

//! A study whose host or one of whose workers is killed, without warning and at any moment, goes on as if nothing had
//! happened: what was finished stays as it is, the strategy goes on where it was, and nothing is left lying about.
//!
//! Random search proposes by its seed alone, so its proposals are compared with those of a study that nobody disturbed.
//! NSGA-II also learns from latencies, which differ from run to run; for it, what was logged before a kill must be the
//! beginning of what is logged after, and the host itself checks that the restored strategy repeats its log.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use aehost_tests::Bed;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use std::process::Child;
use std::time::{Duration, Instant};

const KILLS: u32 = 20;
const TRIALS: usize = 8;

/// Processes that this one started. Panics where the system does not tell.
fn children(parent: u32) -> Vec<u32> {
    let stat = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("stat")).ok();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| stat(entry.unwrap()));
    let of_parent = processes.filter_map(|stat| {
        // pid (name) state parent ...; the name may hold anything.
        let (pid, rest) = (stat.split_once(' ')?.0, stat.rsplit_once(')')?.1);
        (rest.split_whitespace().nth(1)?.parse() == Ok(parent)).then_some(pid.parse().ok()?)
    });
    of_parent.collect()
}

fn kill(process: u32) {
    // SAFETY: kill(2) touches no memory; the process was started by this test and is not reaped yet.
    unsafe { libc::kill(process as libc::pid_t, libc::SIGKILL) };
}

fn gone(process: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{process}/stat")).ok();
    state.is_none_or(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
}

/// Trials and log as they are stored; nothing while the study does not exist.
#[derive(Default)]
struct Stored {
    trials: Vec<Value>,
    events: Vec<Value>,
}

impl Stored {
    fn of(bed: &Bed, study: &str) -> Self {
        if !bed.json(&["list"]).as_array().unwrap().iter().any(|s| s["name"] == study) {
            return Self::default();
        }
        let mut export = bed.json(&["export-json", study]);
        let mut take = |field: &str| export[field].as_array_mut().map(std::mem::take).unwrap();
        Self { trials: take("trials"), events: take("events") }
    }

    /// What the strategy proposed, in order.
    fn proposals(&self) -> Vec<&Value> {
        let asks = self.events.iter().filter(|event| event["kind"] == "ask");
        asks.flat_map(|event| event["proposals"].as_array().unwrap()).collect()
    }

    /// Checks that all of this is the beginning of `later`, to the last sample and time.
    fn is_kept_in(&self, later: &Stored) {
        assert!(
            self.trials.len() <= later.trials.len() && self.events.len() <= later.events.len(),
            "something is lost"
        );
        for (before, after) in self.trials.iter().zip(&later.trials) {
            assert_eq!(before, after, "a finished trial is measured once");
        }
        assert_eq!(self.events, later.events[..self.events.len()]);
    }
}

/// Whom a kill hits.
#[derive(Clone, Copy)]
enum Victim {
    Host,
    /// A worker, with the host and any other worker going on.
    Worker,
    /// The worker that prepares trials or the one that measures one, while both are at it.
    OneOfTwo,
}

/// Kills while it lasts, each sort of victim in turn, and finishes what is left.
struct Tormentor {
    random: StdRng,
    left: u32,
}

impl Tormentor {
    /// Waits for a moment, and from then on for the victim whose turn it is, and kills it. False when the host ended before.
    fn strike(&mut self, host: &mut Child) -> bool {
        let victim = [Victim::Host, Victim::Worker, Victim::OneOfTwo][self.left as usize % 3];
        let moment = Instant::now() + Duration::from_millis(self.random.random_range(20..800));
        let workers = loop {
            if host.try_wait().unwrap().is_some() {
                return false;
            }
            if Instant::now() >= moment {
                let workers = children(host.id());
                assert!(workers.len() <= 2, "one prepares and one measures, but there are {}", workers.len());
                match victim {
                    Victim::Worker if workers.is_empty() => {}
                    Victim::OneOfTwo if workers.len() < 2 => {}
                    Victim::Host | Victim::Worker | Victim::OneOfTwo => break workers,
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        match victim {
            Victim::Worker | Victim::OneOfTwo => kill(*workers.choose(&mut self.random).unwrap()),
            Victim::Host => {
                kill(host.id());
                host.wait().unwrap();
                let deadline = Instant::now() + Duration::from_secs(10);
                while !workers.iter().all(|worker| gone(*worker)) {
                    assert!(Instant::now() < deadline, "a worker outlives its host");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        self.left -= 1;
        true
    }

    /// Runs a study to its end through all kills, and returns what is stored then.
    fn run(&mut self, bed: &Bed, study: &str, strategy: &str) -> Stored {
        let mut stored = Stored::default();
        loop {
            let resumed =
                !stored.trials.is_empty() || bed.json(&["list"]).as_array().unwrap().iter().any(|s| s["name"] == study);
            let words: &[&str] = match resumed {
                true => &["resume", study],
                false => &["run", "study.toml", "--study", study, "--strategy", strategy],
            };
            let mut host = bed.start(words);
            while self.left > 0 && self.strike(&mut host) {}
            let output = host.wait_with_output().unwrap();
            let said = bed.told(&output.stderr);
            let now = Stored::of(bed, study);
            stored.is_kept_in(&now);
            stored = now;
            match output.status.code() {
                Some(0) => return stored,
                None => {}
                // A worker that dies before there is a baseline leaves nothing to go on with.
                Some(code) => {
                    let told = said.contains("the baseline could not be measured (crashed)")
                        || said.contains("the worker died while it was set up");
                    assert!(told && code == 1, "{words:?} ended with {code}:\n{said}");
                }
            }
        }
    }
}

fn numbers(trials: &[Value]) -> Vec<u64> {
    trials.iter().map(|trial| trial["id"].as_u64().unwrap()).collect()
}

#[test]
fn a_study_survives_kills_of_host_and_worker_at_any_moment() {
    let bed = Bed::default();
    // Long enough that most kills meet a trial at work.
    bed.study(&[("trials = 6", "trials = 8"), ("repeats = 2", "repeats = 60")]);
    bed.json(&["run", "study.toml", "--study", "calm"]);
    let calm = Stored::of(&bed, "calm");
    assert_eq!(numbers(&calm.trials), (0..TRIALS as u64).collect::<Vec<_>>());

    let mut tormentor = Tormentor { random: StdRng::seed_from_u64(2), left: KILLS };
    let mut studies = 0;
    while tormentor.left > 0 {
        let strategy = ["random", "nsga2"][studies % 2];
        studies += 1;
        assert!(studies <= KILLS as usize, "no study has two workers at work at once");
        let stored = tormentor.run(&bed, &format!("s{studies}"), strategy);
        let finished = stored.trials.iter().filter(|trial| trial["outcome"]["kind"] == "ok").count();
        let crashed = stored.trials.iter().filter(|trial| trial["outcome"]["kind"] == "crashed").count();
        assert_eq!(finished + crashed, stored.trials.len(), "a kill costs the trial at work and nothing else");
        let mut once = numbers(&stored.trials);
        once.dedup();
        assert_eq!(once.len(), stored.trials.len());
        if strategy == "random" {
            let (proposed, expected) = (stored.proposals(), calm.proposals());
            let common = proposed.len().min(expected.len());
            assert!(common + 1 >= TRIALS, "{common} proposals");
            assert_eq!(proposed[..common], expected[..common]);
        }
    }
    let left = std::fs::read_dir(bed.path("variants")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["guard.lock"], "the weights of studies that ended are gone");
}

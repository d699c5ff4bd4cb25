//! The host's side: a worker process that prepares trials for the whole of a study, and one after another that measures
//! what was prepared and ends. Whatever becomes of them is the outcome of the trial at work.

use crate::folder::OwnFolder;
use crate::process::{NoReply, Wait, Worker};
use crate::protocol::{Prepared, Reply, Request};
use crate::setup::{Description, Setup};
use aehost_common::{Code, Fault};
use aehost_study::{Configuration, Job, Outcome, Progress, Runner, Stop, Timings};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Opening a model, and predicting, may take this long.
const SETUP: Duration = Duration::from_secs(600);

/// The workers of a study and how to start others.
pub struct Supervisor {
    executable: PathBuf,
    setup: Setup,
    description: Description,
    /// Gone once it gave no reply; the next request starts another.
    preparing: Option<Worker>,
    /// What was predicted; a pure function of the configuration and the fidelity.
    predictions: HashMap<(String, u64), Result<BTreeMap<String, f64>, Fault>>,
    predicting: Duration,
    /// Where the weights lie that trials share. Dropped last, after the processes that use it.
    folder: Option<OwnFolder>,
}

impl Supervisor {
    /// Starts a worker of this executable (its subcommand `worker`) and sets it up.
    pub fn start(executable: &Path, setup: Setup) -> Result<Self, Fault> {
        // Without a folder trials cost more; the worker says so in each.
        let folder = setup.variants.as_deref().and_then(|parent| OwnFolder::new(parent).ok());
        let (worker, description) =
            open(executable, &setup, folder.as_ref(), &Stop::default()).map_err(|reply| match reply {
                NoReply::Failed(fault) => fault,
                NoReply::Stopped => Fault::new(Code::Cancelled, "stopped while a worker was being set up"),
                NoReply::Timeout => Fault::internal(format!("the worker was not ready after {} s", SETUP.as_secs())),
                NoReply::Died { message, out_of_memory } => {
                    let code = if out_of_memory { Code::OutOfMemory } else { Code::Internal };
                    Fault::new(code, format!("the worker died while it was set up: {message}"))
                }
            })?;
        Ok(Self {
            executable: executable.to_owned(),
            setup,
            description,
            preparing: Some(worker),
            predictions: HashMap::new(),
            predicting: Duration::ZERO,
            folder,
        })
    }

    /// What the worker found.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Asks the worker that prepares, starting one where there is none. One that died since it was last asked took nothing
    /// with it that would be missed.
    fn ask<T>(
        &mut self,
        request: &Request,
        wait: &mut Wait<'_>,
        pick: impl FnOnce(Reply) -> Option<T>,
    ) -> Result<T, NoReply> {
        let mut worker = match self.preparing.take().and_then(Worker::if_alive) {
            Some(worker) => worker,
            None => open(&self.executable, &self.setup, self.folder.as_ref(), wait.stop)?.0,
        };
        let reply = worker.ask(request, wait, pick);
        if matches!(reply, Ok(_) | Err(NoReply::Failed(_))) {
            self.preparing = Some(worker);
        }
        reply
    }

    fn trial(&mut self, job: &Job, wait: &mut Wait<'_>, timings: &mut Timings) -> Result<Outcome, NoReply> {
        // It opens the model while the other applies techniques: nothing is measured meanwhile.
        let mut measuring = Worker::start(&self.executable)?;
        measuring.send(&Request::OpenRig(Box::new(self.setup.clone())))?;
        let prepare = Request::Prepare { configuration: job.configuration.clone(), fidelity: job.fidelity };
        let (prepared, spent) = self.ask(&prepare, wait, |reply| match reply {
            Reply::Prepared { prepared, timings } => Some((prepared, timings)),
            _ => None,
        })?;
        timings.add_all(&spent);
        let done = |reply| match reply {
            Reply::Done { outcome, timings } => Some((*outcome, timings)),
            _ => None,
        };
        let (outcome, spent) = match prepared {
            Err(fault) => return Ok(Outcome::from_fault(fault)),
            Ok(Prepared::Kept(trial)) => {
                measuring.receive(wait, |reply| matches!(reply, Reply::Ready).then_some(()))?;
                measuring.ask(&Request::Measure { trial, items: job.items.clone() }, wait, done)?
            }
            Ok(Prepared::NotKept(why)) => {
                drop(measuring);
                let (mut outcome, spent) = self.ask(&Request::Run(Box::new(job.clone())), wait, done)?;
                // Its successor starts afresh, as what it leaves behind must not count for the next trial as well.
                self.preparing = None;
                if let Outcome::Ok { measurements } = &mut outcome {
                    measurements.warnings.push(format!(
                        "measured in the process that applied the techniques, whose peak memory may be higher: {why}"
                    ));
                }
                (outcome, spent)
            }
        };
        timings.add_all(&spent);
        Ok(outcome)
    }
}

fn open(
    executable: &Path,
    setup: &Setup,
    folder: Option<&OwnFolder>,
    stop: &Stop,
) -> Result<(Worker, Description), NoReply> {
    let mut worker = Worker::start(executable)?;
    let shelf = folder.map(|folder| folder.path().to_owned());
    let request = Request::Open { setup: Box::new(setup.clone()), shelf };
    let mut wait = Wait { deadline: Instant::now() + SETUP, stop, progress: &mut |_| {} };
    let description = worker.ask(&request, &mut wait, |reply| match reply {
        Reply::Opened(description) => Some(*description),
        _ => None,
    })?;
    Ok((worker, description))
}

impl Runner for Supervisor {
    fn predict(&mut self, configuration: &Configuration, fidelity: f64) -> Result<BTreeMap<String, f64>, Fault> {
        let text = serde_json::to_string(configuration).expect("a configuration has a JSON form");
        let key = (text, fidelity.to_bits());
        if let Some(known) = self.predictions.get(&key) {
            return known.clone();
        }
        let request = Request::Predict { configuration: configuration.clone(), fidelity };
        let start = Instant::now();
        let mut ask = || {
            let stop = Stop::default();
            let mut wait = Wait { deadline: Instant::now() + SETUP, stop: &stop, progress: &mut |_| {} };
            self.ask(&request, &mut wait, |reply| match reply {
                Reply::Predicted(predicted) => Some(predicted),
                _ => None,
            })
        };
        // The strategy hears the answer, and hears it again when the study is resumed: a worker that was killed by chance
        // must not change it.
        let reply = match ask() {
            Err(NoReply::Died { .. }) => ask(),
            reply => reply,
        };
        self.predicting += start.elapsed();
        let predicted = match reply {
            Ok(predicted) => predicted,
            Err(NoReply::Failed(fault)) => Err(fault),
            // What killed the worker now may not do so in the trial itself, which has typed outcomes for it.
            Err(_) => return Ok(BTreeMap::new()),
        };
        self.predictions.insert(key, predicted.clone());
        predicted
    }

    fn predicting_seconds(&self) -> f64 {
        self.predicting.as_secs_f64()
    }

    fn run(&mut self, job: &Job, stop: &Stop, progress: &mut dyn FnMut(Progress)) -> (Outcome, Timings) {
        let start = Instant::now();
        let mut doing = String::from("starting");
        let mut watch = |p: Progress| {
            doing.clone_from(&p.what);
            progress(p);
        };
        let deadline = start + Duration::from_secs_f64(self.setup.trial_seconds);
        let mut timings = Timings::default();
        let outcome = self.trial(job, &mut Wait { deadline, stop, progress: &mut watch }, &mut timings);
        let outcome = outcome.unwrap_or_else(|reply| {
            timings.add("apply.lost", (start.elapsed().as_secs_f64() - timings.total()).max(0.0));
            match reply {
                NoReply::Failed(fault) => Outcome::from_fault(fault),
                NoReply::Stopped => Outcome::Crashed { message: "stopped by the user".into() },
                NoReply::Timeout => {
                    let message = format!("not done after {:.0} s; it was {doing}", self.setup.trial_seconds);
                    Outcome::Timeout { message }
                }
                NoReply::Died { message, out_of_memory: true } => {
                    Outcome::OutOfMemory { message: format!("while {doing}: {message}") }
                }
                NoReply::Died { message, .. } => {
                    Outcome::Crashed { message: format!("the worker died while {doing}: {message}") }
                }
            }
        });
        (outcome, timings)
    }
}

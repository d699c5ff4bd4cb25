//! The host's side: a worker process that is started, spoken to, given up on when it takes too long, and started again
//! when it died or has run its trial.

use crate::frame;
use crate::protocol::{Reply, Request};
use crate::setup::{Description, Setup};
use aehost_common::{Code, Fault};
use aehost_study::{Configuration, Job, Outcome, Progress, Runner, Stop, Timings};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often a waiting host looks whether it was asked to stop.
const POLL: Duration = Duration::from_millis(50);
/// Lines of the worker's own words that are kept for the error message.
const LAST_WORDS: usize = 8;
/// Opening a model, and predicting, may take this long.
const SETUP_SECONDS: f64 = 600.0;

/// A worker process and how to start another.
pub struct Supervisor {
    executable: PathBuf,
    setup: Setup,
    description: Description,
    worker: Option<Worker>,
    /// What was predicted; a pure function of the configuration.
    predictions: HashMap<String, Result<BTreeMap<String, f64>, Fault>>,
    predicting: Duration,
}

struct Worker {
    child: Child,
    requests: ChildStdin,
    replies: Receiver<std::io::Result<Reply>>,
    last_words: Arc<Mutex<VecDeque<String>>>,
    kills_before: Option<u64>,
}

/// Why there was no reply.
enum NoReply {
    Stopped,
    Timeout,
    Died { message: String, out_of_memory: bool },
}

impl Worker {
    fn start(executable: &Path) -> Result<Self, Fault> {
        let mut command = Command::new(executable);
        command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C in the terminal is the host's to handle.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .spawn()
            .map_err(|e| Fault::internal(format!("the worker {} cannot be started: {e}", executable.display())))?;
        let requests = child.stdin.take().expect("standard input is piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let stderr = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let (sender, replies) = channel();
        std::thread::spawn(move || {
            loop {
                let reply = match frame::read::<Reply>(&mut stdout) {
                    Ok(Some(reply)) => Ok(reply),
                    Ok(None) => break,
                    Err(e) => Err(e),
                };
                let failed = reply.is_err();
                if sender.send(reply).is_err() || failed {
                    break;
                }
            }
        });
        let last_words: Arc<Mutex<VecDeque<String>>> = Arc::default();
        let words = last_words.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut words = words.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if words.len() == LAST_WORDS {
                    words.pop_front();
                }
                words.push_back(line);
            }
        });
        Ok(Self { child, requests, replies, last_words, kills_before: out_of_memory_kills() })
    }

    fn ask(
        &mut self,
        request: &Request,
        seconds: f64,
        stop: &Stop,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Reply, NoReply> {
        if frame::write(&mut self.requests, request).is_err() {
            return Err(self.death());
        }
        let deadline = Instant::now() + Duration::from_secs_f64(seconds);
        loop {
            match self.replies.recv_timeout(POLL) {
                Ok(Ok(Reply::Progress(p))) => progress(p),
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(e)) => {
                    self.kill();
                    return Err(NoReply::Died {
                        message: format!("its answer cannot be read: {e}"),
                        out_of_memory: false,
                    });
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.death()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if stop.is_set() {
                self.kill();
                return Err(NoReply::Stopped);
            }
            if Instant::now() >= deadline {
                self.kill();
                return Err(NoReply::Timeout);
            }
        }
    }

    fn kill(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }

    fn death(&mut self) -> NoReply {
        let status = self.child.wait();
        // The reader of its words may be a moment behind.
        std::thread::sleep(Duration::from_millis(20));
        let words = self.last_words.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let allocation = words.iter().any(|w| w.contains("memory allocation of"));
        let killed = out_of_memory_kills().zip(self.kills_before).is_some_and(|(now, before)| now > before);
        let mut message = match &status {
            Ok(status) => told(status),
            Err(e) => format!("its end cannot be learned: {e}"),
        };
        if !words.is_empty() {
            message = format!("{message}; its last words: {}", words.join(" | "));
        }
        NoReply::Died { message, out_of_memory: allocation || killed }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn told(status: &ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(status) {
        return format!("it was ended by signal {signal}");
    }
    match status.code() {
        Some(code) => format!("it ended with code {code}"),
        None => "it ended".to_owned(),
    }
}

/// How many processes the kernel has killed for memory in this control group, where it tells.
fn out_of_memory_kills() -> Option<u64> {
    let events = std::fs::read_to_string("/sys/fs/cgroup/memory.events").ok()?;
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

impl Supervisor {
    /// Starts a worker of this executable (its subcommand `worker`) and sets it up.
    pub fn start(executable: &Path, setup: Setup) -> Result<Self, Fault> {
        let (worker, description) = open(executable, &setup, &Stop::default())?;
        Ok(Self {
            executable: executable.to_owned(),
            setup,
            description,
            worker: Some(worker),
            predictions: HashMap::new(),
            predicting: Duration::ZERO,
        })
    }

    /// What the worker found.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The process at work, if one is alive.
    pub fn worker_id(&self) -> Option<u32> {
        self.worker.as_ref().map(|w| w.child.id())
    }

    /// Asks the worker, starting one where there is none; a worker that gave no reply is gone afterwards.
    fn ask(
        &mut self,
        request: &Request,
        seconds: f64,
        stop: &Stop,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Reply, NoReply> {
        let mut worker = match self.worker.take() {
            Some(worker) => worker,
            None => {
                let (worker, _) = open(&self.executable, &self.setup, stop)
                    .map_err(|f| NoReply::Died { message: f.full(), out_of_memory: f.code == Code::OutOfMemory })?;
                worker
            }
        };
        let reply = worker.ask(request, seconds, stop, progress)?;
        self.worker = Some(worker);
        Ok(reply)
    }
}

fn open(executable: &Path, setup: &Setup, stop: &Stop) -> Result<(Worker, Description), Fault> {
    let mut worker = Worker::start(executable)?;
    match worker.ask(&Request::Open(Box::new(setup.clone())), SETUP_SECONDS, stop, &mut |_| {}) {
        Ok(Reply::Opened(description)) => Ok((worker, *description)),
        Ok(Reply::Failed(fault)) => Err(fault),
        Ok(_) => Err(Fault::internal("the worker gave another answer than it was asked for")),
        Err(NoReply::Stopped) => Err(Fault::new(Code::Cancelled, "stopped while a worker was being set up")),
        Err(NoReply::Timeout) => Err(Fault::internal(format!("the worker was not ready after {SETUP_SECONDS} s"))),
        Err(NoReply::Died { message, out_of_memory }) => {
            let code = if out_of_memory { Code::OutOfMemory } else { Code::Internal };
            Err(Fault::new(code, format!("the worker died while it was set up: {message}")))
        }
    }
}

impl Runner for Supervisor {
    fn predict(&mut self, configuration: &Configuration) -> Result<BTreeMap<String, f64>, Fault> {
        let key = serde_json::to_string(configuration).expect("a configuration has a JSON form");
        if let Some(known) = self.predictions.get(&key) {
            return known.clone();
        }
        let request = Request::Predict(configuration.clone());
        let start = Instant::now();
        let reply = self.ask(&request, SETUP_SECONDS, &Stop::default(), &mut |_| {});
        self.predicting += start.elapsed();
        let predicted = match reply {
            Ok(Reply::Predicted(predicted)) => predicted,
            Ok(Reply::Failed(fault)) => Err(fault),
            Ok(_) => Err(Fault::internal("the worker gave another answer than it was asked for")),
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
        let reply = self.ask(&Request::Run(Box::new(job.clone())), self.setup.trial_seconds, stop, &mut watch);
        let lost = || Timings(BTreeMap::from([("apply.lost".to_owned(), start.elapsed().as_secs_f64())]));
        match reply {
            Ok(Reply::Done { outcome, timings }) => {
                // Evaluating leaves memory behind that the next trial's peak would count: each trial has its own process.
                self.worker = None;
                (*outcome, timings)
            }
            Ok(Reply::Failed(fault)) => (Outcome::from_fault(fault), lost()),
            Ok(_) => {
                (Outcome::Crashed { message: "the worker gave another answer than it was asked for".into() }, lost())
            }
            Err(NoReply::Stopped) => (Outcome::Crashed { message: "stopped by the user".into() }, lost()),
            Err(NoReply::Timeout) => {
                let message = format!("not done after {:.0} s; it was {doing}", self.setup.trial_seconds);
                (Outcome::Timeout { message }, lost())
            }
            Err(NoReply::Died { message, out_of_memory: true }) => {
                (Outcome::OutOfMemory { message: format!("while {doing}: {message}") }, lost())
            }
            Err(NoReply::Died { message, .. }) => {
                (Outcome::Crashed { message: format!("the worker died while {doing}: {message}") }, lost())
            }
        }
    }
}

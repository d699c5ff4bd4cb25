//! The worker's side: one workbench or one rig, one request at a time, on standard input and output.

use crate::frame;
use crate::protocol::{Reply, Request};
use crate::rig::{Found, Rig};
use crate::workbench::Workbench;
use aehost_common::Fault;
use aehost_plugins::{Event, Level};
use aehost_study::{Outcome, Progress, Timings};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Progress of plugins is passed on at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Serves requests until the pipe closes.
pub fn serve() -> ExitCode {
    die_with_parent();
    match answer_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(io::stderr(), "worker: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A worker whose host is gone has nobody to answer, even in the midst of a long trial.
fn die_with_parent() {
    #[cfg(target_os = "linux")]
    // SAFETY: prctl with PR_SET_PDEATHSIG takes a signal number and touches no memory.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

fn answer_all() -> io::Result<()> {
    let mut requests = io::stdin().lock();
    let replies = Arc::new(Mutex::new(io::stdout()));
    let send = {
        let replies = replies.clone();
        move |reply: &Reply| {
            let mut out = replies.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            frame::write(&mut *out, reply)
        }
    };
    let progress = {
        let send = send.clone();
        // A host that is gone is noticed at the next reply.
        move |p: Progress| _ = send(&Reply::Progress(p))
    };
    let mut role = None;
    while let Some(request) = frame::read::<Request>(&mut requests)? {
        send(&answer(&mut role, request, &progress))?;
    }
    Ok(())
}

/// What a worker has become.
enum Role {
    /// It prepares trials.
    Workbench(Box<Workbench>),
    /// It measures one.
    Rig(Box<Rig>),
}

fn answer(
    role: &mut Option<Role>,
    request: Request,
    progress: &(impl Fn(Progress) + Clone + Send + Sync + 'static),
) -> Reply {
    match (request, role) {
        (Request::Open { setup, shelf }, role) => {
            let opened = Workbench::open(&setup, Some(observer(progress.clone())));
            match opened.and_then(|mut bench| bench.describe().map(|d| (bench, d))) {
                Ok((mut bench, description)) => {
                    if let Some(folder) = shelf {
                        bench.keep_in(&folder);
                    }
                    *role = Some(Role::Workbench(Box::new(bench)));
                    Reply::Opened(Box::new(description))
                }
                Err(fault) => Reply::Failed(fault),
            }
        }
        (Request::OpenRig(setup), role) => {
            let found = Found::open(&setup, Some(observer(progress.clone())));
            match found.and_then(|found| Rig::new(&setup, found)) {
                Ok(rig) => {
                    *role = Some(Role::Rig(Box::new(rig)));
                    Reply::Ready
                }
                Err(fault) => Reply::Failed(fault),
            }
        }
        (Request::Predict { configuration, fidelity }, Some(Role::Workbench(bench))) => {
            Reply::Predicted(bench.predict(&configuration, fidelity))
        }
        (Request::Prepare { configuration, fidelity }, Some(Role::Workbench(bench))) => {
            let (prepared, timings) = bench.prepare(&configuration, fidelity, progress);
            Reply::Prepared { prepared, timings }
        }
        (Request::Run(job), Some(Role::Workbench(bench))) => done(bench.run(&job, progress)),
        (Request::Measure { trial, items }, Some(Role::Rig(rig))) => done(rig.run_saved(&trial, &items, progress)),
        _ => Reply::Failed(Fault::internal("the worker was asked for what it was not set up for")),
    }
}

fn done((outcome, timings): (Outcome, Timings)) -> Reply {
    Reply::Done { outcome: Box::new(outcome), timings }
}

fn observer(progress: impl Fn(Progress) + Send + Sync + 'static) -> aehost_plugins::Observer {
    let last = Mutex::new(None::<Instant>);
    Arc::new(move |name, event| match event {
        Event::Progress { done, what } => {
            let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if last.is_none_or(|t| t.elapsed() >= PROGRESS_EVERY) {
                *last = Some(Instant::now());
                progress(Progress { phase: String::new(), what: format!("{}: {what}", name.id), done: Some(done) });
            }
        }
        Event::Log { level: Level::Warn, message } => {
            progress(Progress { phase: String::new(), what: format!("{name}: {message}"), done: None });
        }
        Event::Log { .. } => {}
    })
}

//! The worker's side: one workbench, one request at a time, on standard input and output.

use crate::frame;
use crate::protocol::{Reply, Request};
use crate::workbench::Workbench;
use aehost_common::Fault;
use aehost_plugins::{Event, Level};
use aehost_study::Progress;
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
    let mut workbench: Option<Workbench> = None;
    while let Some(request) = frame::read::<Request>(&mut requests)? {
        let reply = match (request, &mut workbench) {
            (Request::Open(setup), slot) => {
                let opened = Workbench::open(&setup, Some(observer(progress.clone())));
                match opened.and_then(|bench| bench.describe().map(|d| (bench, d))) {
                    Ok((bench, description)) => {
                        *slot = Some(bench);
                        Reply::Opened(Box::new(description))
                    }
                    Err(fault) => Reply::Failed(fault),
                }
            }
            (_, None) => Reply::Failed(Fault::internal("the worker was asked to work before it was set up")),
            (Request::Predict(configuration), Some(bench)) => Reply::Predicted(bench.predict(&configuration)),
            (Request::Run(job), Some(bench)) => {
                let (outcome, timings) = bench.run(&job.configuration, &job.items, &progress);
                Reply::Done { outcome: Box::new(outcome), timings }
            }
        };
        send(&reply)?;
    }
    Ok(())
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

//! One worker process as the host sees it: started, spoken to in frames, and given up on when it takes too long.

use crate::frame;
use crate::protocol::{Reply, Request};
use aehost_common::Fault;
use aehost_study::{Progress, Stop};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often a waiting host looks whether it was asked to stop.
const POLL: Duration = Duration::from_millis(50);
/// Lines of the worker's own words that are kept for the error message.
const LAST_WORDS: usize = 8;

/// How long to wait for a reply, and what to do meanwhile.
pub(crate) struct Wait<'a> {
    pub deadline: Instant,
    pub stop: &'a Stop,
    pub progress: &'a mut dyn FnMut(Progress),
}

/// A child process; it ends with this.
pub(crate) struct Worker {
    child: Child,
    requests: ChildStdin,
    replies: Receiver<std::io::Result<Reply>>,
    last_words: Arc<Mutex<VecDeque<String>>>,
    kills_before: Option<u64>,
}

/// Why there was no reply.
#[derive(Debug, Clone)]
pub(crate) enum NoReply {
    /// The worker is well, and says why it cannot.
    Failed(Fault),
    Stopped,
    Timeout,
    Died {
        message: String,
        out_of_memory: bool,
    },
}

impl Worker {
    /// Starts the executable's subcommand `worker`.
    pub fn start(executable: &Path) -> Result<Self, NoReply> {
        let mut command = Command::new(executable);
        command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C in the terminal is the host's to handle.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|e| {
            NoReply::Failed(Fault::internal(format!("the worker {} cannot be started: {e}", executable.display())))
        })?;
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

    /// Sends a request and waits for what `pick` takes of the reply. A worker that gave none is gone afterwards.
    pub fn ask<T>(
        &mut self,
        request: &Request,
        wait: &mut Wait<'_>,
        pick: impl FnOnce(Reply) -> Option<T>,
    ) -> Result<T, NoReply> {
        self.send(request)?;
        self.receive(wait, pick)
    }

    /// Sends a request whose reply is received later.
    pub fn send(&mut self, request: &Request) -> Result<(), NoReply> {
        frame::write(&mut self.requests, request).map_err(|_| self.death())
    }

    /// Waits for the reply to a request that was sent.
    pub fn receive<T>(&mut self, wait: &mut Wait<'_>, pick: impl FnOnce(Reply) -> Option<T>) -> Result<T, NoReply> {
        loop {
            match self.replies.recv_timeout(POLL) {
                Ok(Ok(Reply::Progress(p))) => (wait.progress)(p),
                Ok(Ok(Reply::Failed(fault))) => return Err(NoReply::Failed(fault)),
                Ok(Ok(reply)) => {
                    return pick(reply).ok_or_else(|| self.misspoke("it gave another answer than it was asked for"));
                }
                Ok(Err(e)) => return Err(self.misspoke(&format!("its answer cannot be read: {e}"))),
                Err(RecvTimeoutError::Disconnected) => return Err(self.death()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if wait.stop.is_set() {
                self.kill();
                return Err(NoReply::Stopped);
            }
            if Instant::now() >= wait.deadline {
                self.kill();
                return Err(NoReply::Timeout);
            }
        }
    }

    /// The worker, while its process runs.
    pub fn if_alive(mut self) -> Option<Self> {
        matches!(self.child.try_wait(), Ok(None)).then_some(self)
    }

    fn misspoke(&mut self, how: &str) -> NoReply {
        self.kill();
        NoReply::Died { message: how.to_owned(), out_of_memory: false }
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

//! The messages between supervisor and worker. One request is answered by any number of notices and one reply.

use crate::{Description, Setup};
use aehost_common::Fault;
use aehost_study::{Configuration, Job, Outcome, Progress, Timings};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Serialize, Deserialize)]
pub(crate) enum Request {
    /// The first; the reply is `Opened` or `Failed`.
    Open(Box<Setup>),
    /// The reply is `Predicted`.
    Predict(Configuration),
    /// The reply is `Done`.
    Run(Box<Job>),
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Reply {
    Opened(Box<Description>),
    Failed(Fault),
    Predicted(Result<BTreeMap<String, f64>, Fault>),
    Done {
        outcome: Box<Outcome>,
        timings: Timings,
    },
    /// Not a reply yet: how far the request is.
    Progress(Progress),
}

//! The messages between supervisor and worker. One request is answered by any number of notices and one reply. A worker
//! either prepares trials, for the whole of a study, or measures one and is gone.

use crate::{Description, Setup};
use aehost_common::{Curve, Fault};
use aehost_engine::SavedVariant;
use aehost_study::{Configuration, Items, Job, Outcome, Progress, Timings};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Serialize, Deserialize)]
pub(crate) enum Request {
    /// The first of a worker that prepares; the reply is `Opened`.
    Open {
        setup: Box<Setup>,
        /// Where it keeps what it prepares; nowhere when none.
        shelf: Option<PathBuf>,
    },
    /// The reply is `Predicted`.
    Predict { configuration: Configuration, fidelity: f64 },
    /// The reply is `Prepared`.
    Prepare { configuration: Configuration, fidelity: f64 },
    /// All of a trial in the process that prepares, where nothing can be kept for another; the reply is `Done`.
    Run(Box<Job>),
    /// The first of a worker that measures; the reply is `Ready`.
    OpenRig(Box<Setup>),
    /// The reply is `Done`.
    Measure { trial: Box<SavedTrial>, items: Vec<Items> },
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Reply {
    Opened(Box<Description>),
    Ready,
    /// Instead of what was asked for.
    Failed(Fault),
    Predicted(Result<BTreeMap<String, f64>, Fault>),
    Prepared {
        prepared: Result<Prepared, Fault>,
        timings: Timings,
    },
    Done {
        outcome: Box<Outcome>,
        timings: Timings,
    },
    /// Not a reply yet: how far the request is.
    Progress(Progress),
}

/// What came of preparing a trial.
#[derive(Serialize, Deserialize)]
pub(crate) enum Prepared {
    /// Another process can measure it.
    Kept(Box<SavedTrial>),
    /// There is no room for it, for this reason.
    NotKept(String),
}

/// What a process needs to measure a variant that it did not make.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedTrial {
    /// The study's base model, which evaluators may compare with.
    pub base: SavedVariant,
    pub variant: SavedVariant,
    /// The folder of their weights.
    pub shelf: PathBuf,
    /// What the prompts of the scenario are made of.
    pub text: Vec<u32>,
    /// How losses fell in what was trained.
    pub training: Vec<Curve>,
}

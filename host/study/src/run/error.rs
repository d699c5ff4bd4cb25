//! Why a run ends early.

use crate::{SpaceError, StoreError, TrialId};
use aehost_common::Fault;

/// Why a run could not go on. What was stored stays, and unless the message says otherwise the study can be resumed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The techniques are no search space.
    #[error("the search space is invalid: {0}")]
    Space(#[from] SpaceError),
    /// Trial 0 was not measured.
    #[error("the baseline could not be measured ({word}): {message}")]
    Baseline {
        /// The outcome's word.
        word: String,
        /// What happened.
        message: String,
    },
    /// A metric that the study needs is not there.
    #[error("{needed_for} needs {metric}, which is unavailable here: {reason}; start a study without it")]
    Unavailable {
        /// The objective or constraint.
        needed_for: String,
        /// The metric.
        metric: String,
        /// Why it is not there.
        reason: String,
    },
    /// The strategy failed.
    #[error("strategy {strategy} failed in `{function}`: {fault}", fault = fault.full())]
    Strategy {
        /// Id and version.
        strategy: String,
        /// start, ask or tell.
        function: &'static str,
        /// What it says.
        fault: Fault,
    },
    /// The strategy broke its contract.
    #[error("strategy {strategy} broke its contract: {what}; report it to its author, and use another strategy")]
    Contract {
        /// Id and version.
        strategy: String,
        /// What it did.
        what: String,
    },
    /// The replayed strategy answered differently.
    #[error(
        "strategy {strategy} does not repeat itself: for trial {trial} it proposed `{logged}` before the interruption and \
         now proposes `{now}`; use the version of the plugin that started the study, or start a new study"
    )]
    Replay {
        /// Id and version.
        strategy: String,
        /// The trial whose proposal differs.
        trial: TrialId,
        /// What it proposed then.
        logged: String,
        /// What it proposes now.
        now: String,
    },
}

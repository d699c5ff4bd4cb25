//! The log of a study: what the strategy was asked and told, in order. A strategy is a pure function of it, so replaying
//! the log into a fresh one restores its state.

use crate::{Observation, Proposal, TrialId};
use serde::{Deserialize, Serialize};

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Event {
    /// The strategy was asked, and answered.
    Ask {
        /// How many proposals were asked for.
        count: u32,
        /// What it answered.
        proposals: Vec<Asked>,
    },
    /// The strategy was told.
    Tell {
        /// What it was told.
        observations: Vec<Observation>,
    },
    /// The search ended; confirmations may follow.
    Ended {
        /// Why.
        reason: String,
    },
}

/// A proposal with the number that it got in the study. The strategy's own numbers usually are the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The number in the study.
    pub id: TrialId,
    /// What the strategy proposed.
    pub proposal: Proposal,
}

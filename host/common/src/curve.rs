//! How the loss falls while a model is trained.

use serde::{Deserialize, Serialize};

/// Mean losses a token, after an update; in nats, but for distances of hidden states.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Updates that were made.
    pub step: usize,
    /// On the examples of the update, before it.
    pub loss: f64,
    /// On held-out examples, where they were looked at.
    pub held_out: Option<f64>,
}

/// One training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// One for each update.
    pub points: Vec<Point>,
    /// Tokens that were gone through.
    pub tokens: u64,
    /// Seconds of all updates.
    pub seconds: f64,
}

impl Curve {
    /// In a few words; none where nothing was updated.
    pub fn summary(&self) -> Option<String> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        let held_out = last.held_out.map(|loss| format!(", {loss:.3} on held-out examples")).unwrap_or_default();
        let speed = self.tokens as f64 / self.seconds.max(f64::MIN_POSITIVE);
        Some(format!(
            "loss {:.3} to {:.3} a token in {} updates{held_out}; {speed:.0} tokens/s",
            first.loss, last.loss, last.step
        ))
    }
}

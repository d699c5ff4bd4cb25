//! Making errors a person can act on.

use crate::Error;

impl Error {
    /// An error with one of the contract's codes.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), causes: Vec::new() }
    }

    /// The input is wrong: a setting, a row of data, a checkpoint.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new("invalid-input", message)
    }

    /// This host or device cannot do it.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new("unsupported", message)
    }

    /// It makes no sense for this model, or after what earlier techniques did; makes a configuration infeasible.
    pub fn not_applicable(message: impl Into<String>) -> Self {
        Self::new("not-applicable", message)
    }

    /// The same error seen from further out: `what` becomes the message, and the message the nearest cause.
    #[must_use]
    pub fn within(mut self, what: impl Into<String>) -> Self {
        let inner = std::mem::replace(&mut self.message, what.into());
        self.causes.insert(0, inner);
        self
    }
}

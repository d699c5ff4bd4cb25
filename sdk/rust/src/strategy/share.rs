//! Settings that are a share of the budget, where the user does not say otherwise.

use super::{Error, Parameter, Settings, integer};

/// A number of trials that 0 leaves to the budget.
#[derive(Debug, Clone, Copy)]
pub struct ShareOfBudget {
    /// The setting.
    pub name: &'static str,
    /// What it counts, for its summary.
    pub what: &'static str,
    /// It is one trial in so many of the budget, ...
    pub part: u32,
    /// ... at least this, ...
    pub least: u32,
    /// ... and at most this.
    pub most: u32,
}

impl ShareOfBudget {
    /// How many trials the initial design has: one in `part`, 4 to `most`.
    pub const fn initial(part: u32, most: u32) -> Self {
        Self { name: "initial", what: "Trials of the initial design", part, least: 4, most }
    }

    /// The parameter, for the description.
    pub fn parameter(self) -> Parameter {
        let Self { name, what, part, least, most } = self;
        let summary = format!("{what}; 0 takes 1/{part} of the budget, {least} to {most}.");
        integer(name, &summary, 0..=1000).into()
    }

    /// What is set, or the share of a budget of so many trials.
    ///
    /// # Errors
    /// invalid-input, where the setting is no integer.
    pub fn of(self, settings: &Settings, budget: u32) -> Result<usize, Error> {
        let set = settings.integer(self.name)?;
        let share = (budget / self.part).clamp(self.least, self.most);
        Ok(usize::try_from(set).ok().filter(|set| *set > 0).unwrap_or(share as usize))
    }
}

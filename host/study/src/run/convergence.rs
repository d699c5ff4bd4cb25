//! When a strategy expects so little more that the search may end.

use super::{Limits, Run};
use crate::Strategy;

/// Share of the hypervolume that is little.
const LITTLE: f64 = 0.01;
/// How often in a row the strategy must expect no more than that: one estimate may be wrong.
const ROUNDS: u32 = 3;
/// Trials after which a strategy should have said something.
const SILENT: u32 = 10;

/// What a strategy expected lately.
#[derive(Default)]
pub(super) struct Convergence {
    little: u32,
    noted: bool,
}

impl Run<'_> {
    /// Why the search may end, if the study is to end so and the strategy expects little. Whoever gives a finished study a
    /// larger budget wants more than that.
    pub(super) fn converged(&mut self, strategy: &mut dyn Strategy, so_far: &mut Convergence) -> Option<String> {
        if !self.record.until_converged || self.session.limits != Limits::default() {
            return None;
        }
        let Some(gain) = self.clock.time("outlook", || strategy.outlook()).remaining_gain else {
            if self.used() >= SILENT && !std::mem::replace(&mut so_far.noted, true) {
                self.session.events.note(&format!(
                    "{} does not say what is still to be gained: the study ends with its budget",
                    self.strategy_name()
                ));
            }
            so_far.little = 0;
            return None;
        };
        so_far.little = if gain <= LITTLE { so_far.little + 1 } else { 0 };
        let share = 100.0 * gain;
        (so_far.little >= ROUNDS).then(|| {
            format!(
                "after {} trials the strategy expects no more than {share:.1} % of hypervolume to be gained",
                self.used()
            )
        })
    }
}

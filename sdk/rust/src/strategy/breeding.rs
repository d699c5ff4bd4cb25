//! How genetic searches make configurations of what was measured.

use super::search::pareto::Ranked;
use super::{Configuration, Random, Space, TrialId};

/// Share of children that have two parents.
const CROSSOVER: f64 = 0.9;

/// A trial that may become a parent.
#[derive(Debug, Clone)]
pub struct Parent {
    /// Its number.
    pub trial: TrialId,
    /// What it is.
    pub configuration: Configuration,
    /// How good it is among the others.
    pub ranked: Ranked,
}

/// The better of two at random: lower rank, then less crowded.
fn tournament<'a>(parents: &'a [Parent], random: &mut Random) -> &'a Parent {
    let (a, b) = (random.pick(parents), random.pick(parents));
    let (first, second) = (a.ranked, b.ranked);
    let second_wins = second.rank < first.rank || (second.rank == first.rank && second.crowding > first.crowding);
    if second_wins { b } else { a }
}

/// A child of one or two parents chosen by tournament; none while nothing was measured.
pub fn breed(space: &Space, parents: &[Parent], random: &mut Random) -> Option<(Configuration, String)> {
    if parents.is_empty() {
        return None;
    }
    let (first, second) = (tournament(parents, random), tournament(parents, random));
    let (a, b) = (first.trial, second.trial);
    let crossed = a != b && random.chance(CROSSOVER);
    let child = match crossed {
        true => space.cross(&first.configuration, &second.configuration, random),
        false => first.configuration.clone(),
    };
    // A child that is a copy of a parent gains from mutation only; others are mutated half of the time.
    let copy = child == first.configuration || child == second.configuration;
    let mutated = copy || random.chance(0.5);
    let child = if mutated { space.mutate(&child, random) } else { child };
    let why = match (crossed, mutated) {
        (true, false) => format!("child of trials {a} and {b}"),
        (true, true) => format!("mutated child of trials {a} and {b}"),
        (false, _) => format!("mutation of trial {a}"),
    };
    Some((child, why))
}

//! All combinations of a space in order of their depth. The values of a parameter are ranked: default, first, last, and
//! then always the middle of the widest gap; a technique that is off has rank 0, on rank 1. Depth is the sum of the ranks.

use aehost_sdk::strategy::{Choice, Configuration, Setting, Space, TechniqueSpace, Value};
use std::collections::VecDeque;

/// Iterates over all combinations but the baseline.
pub struct Combinations {
    space: Space,
    /// For each technique, the ranked values of each parameter.
    ranked: Vec<Vec<Vec<Value>>>,
    depth: usize,
    deepest: usize,
    /// What is left of the current depth.
    ready: VecDeque<Configuration>,
}

impl Combinations {
    /// The grid of a space, ranges cut into at most `levels` values.
    pub fn new(space: Space, levels: usize) -> Self {
        let ranks = |technique: &TechniqueSpace| -> Vec<Vec<Value>> {
            technique.parameters.iter().map(|p| ranked(p.domain.levels(levels), &p.default)).collect()
        };
        let ranked: Vec<Vec<Vec<Value>>> = space.techniques().iter().map(ranks).collect();
        let deepest = ranked.iter().map(|values| 1 + values.iter().map(|v| v.len() - 1).sum::<usize>()).sum();
        Self { space, ranked, depth: 0, deepest, ready: VecDeque::new() }
    }

    /// Adds the settings of a technique, from parameter `at` on, that spend at most `left`; calls `done` with what remains.
    fn settings(
        &self,
        technique: usize,
        at: usize,
        left: usize,
        settings: &mut Vec<Setting>,
        done: &mut dyn FnMut(&[Setting], usize),
    ) {
        let Some(parameter) = self.space.techniques()[technique].parameters.get(at) else {
            return done(settings, left);
        };
        if !parameter.active(settings) {
            return self.settings(technique, at + 1, left, settings, done);
        }
        for (rank, value) in self.ranked[technique][at].iter().enumerate().take(left + 1) {
            settings.push(Setting { name: parameter.name.clone(), value: value.clone() });
            self.settings(technique, at + 1, left - rank, settings, done);
            settings.pop();
        }
    }

    /// Collects configurations, from technique `at` on, that spend exactly `left`.
    fn combine(&self, at: usize, left: usize, configuration: &mut Configuration, found: &mut VecDeque<Configuration>) {
        let Some(technique) = self.space.techniques().get(at) else {
            if left == 0 && self.space.check(configuration).is_ok() {
                found.push_back(configuration.clone());
            }
            return;
        };
        if left > 0 {
            let mut on: Vec<(Vec<Setting>, usize)> = Vec::new();
            self.settings(at, 0, left - 1, &mut Vec::new(), &mut |settings, left| on.push((settings.to_vec(), left)));
            for (settings, left) in on {
                configuration.push(Choice { technique: technique.technique.clone(), settings });
                self.combine(at + 1, left, configuration, found);
                configuration.pop();
            }
        }
        self.combine(at + 1, left, configuration, found);
    }
}

impl Iterator for Combinations {
    type Item = Configuration;

    fn next(&mut self) -> Option<Configuration> {
        while self.ready.is_empty() && self.depth < self.deepest {
            self.depth += 1;
            let mut found = VecDeque::new();
            self.combine(0, self.depth, &mut Vec::new(), &mut found);
            self.ready = found;
        }
        self.ready.pop_front()
    }
}

/// The values in the order in which they are tried; the default is a level of its own where it is not among them.
fn ranked(levels: Vec<Value>, default: &Value) -> Vec<Value> {
    let mut order: Vec<usize> = levels.iter().position(|value| value == default).into_iter().collect();
    while order.len() < levels.len() {
        let next = [0, levels.len() - 1].into_iter().find(|end| !order.contains(end)).unwrap_or_else(|| {
            // The index furthest from any taken one, the smaller of equals.
            let distance = |i: &usize| order.iter().map(|taken| taken.abs_diff(*i)).min().unwrap_or(0);
            (0..levels.len()).max_by_key(|i| (distance(i), levels.len() - i)).unwrap_or(0)
        });
        order.push(next);
    }
    let missing = (!levels.contains(default)).then(|| default.clone());
    missing.into_iter().chain(order.into_iter().map(|i| levels[i].clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::strategy::{choice, flag, integer, real, testing};
    use std::collections::HashSet;

    fn all(space: &Space, levels: usize) -> Vec<Configuration> {
        Combinations::new(space.clone(), levels).collect()
    }

    #[test]
    fn every_combination_comes_exactly_once() {
        let space = Space::new(vec![
            testing::technique("prune", [integer("drop", "", 1..=4).into()]),
            testing::technique(
                "cache",
                [
                    choice("window", "", [0i64, 64, 128]).into(),
                    choice("sinks", "", [0i64, 4]).when("window", [64i64, 128]).into(),
                    flag("scale", "").into(),
                ],
            ),
        ]);
        let configurations = all(&space, 5);
        let keys: HashSet<String> = configurations.iter().map(|c| space.key(c)).collect();
        // Cache: (1 + 2 * 2) * 2 ways, or off; prune: 4 ways, or off; the baseline does not count.
        assert_eq!(keys.len(), 11 * 5 - 1);
        assert_eq!(configurations.len(), keys.len());
        assert!(configurations.iter().all(|c| space.check(c).is_ok()));
        assert_eq!(space.size() as usize, keys.len() + 1);
    }

    #[test]
    fn techniques_alone_come_first_and_extremes_before_the_middle() {
        let drop = integer("drop", "", 1..=9).default(3i64).into();
        let space = Space::new(vec![testing::technique("a", [drop]), testing::technique("b", [])]);
        let shown: Vec<String> = all(&space, 5).iter().map(|c| space.key(c)).take(6).collect();
        assert_eq!(shown, ["a(drop=3;)", "b()", "a(drop=3;)b()", "a(drop=1;)", "a(drop=1;)b()", "a(drop=9;)"]);
    }

    #[test]
    fn ranges_of_reals_become_levels_with_both_ends() {
        let space = Space::new(vec![testing::technique("a", [real("rate", "", 0.0..=1.0).into()])]);
        let keys: Vec<String> = all(&space, 3).iter().map(|c| space.key(c)).collect();
        assert_eq!(keys, ["a(rate=0.0;)", "a(rate=1.0;)", "a(rate=0.5;)"]);
    }

    #[test]
    fn techniques_in_conflict_are_never_together() {
        let mut a = testing::technique("a", []);
        a.conflicts.push("b".into());
        let space = Space::new(vec![a, testing::technique("b", [])]);
        assert_eq!(all(&space, 5).len(), 2);
    }
}

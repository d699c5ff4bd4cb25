//! Where to look: NSGA-II on the surrogates, from the best trials, what is one change away from the front, and random
//! configurations.

use crate::model::{Model, Outlooks};
use aehost_sdk::strategy::encoding::Encoding;
use aehost_sdk::strategy::search::pareto::{self, Point};
use aehost_sdk::strategy::{Configuration, Search};
use std::collections::HashSet;

/// Random configurations to begin with.
const DRAWN: usize = 80;
/// Most one-change neighbours to begin with.
const NEAR: usize = 160;
/// Candidates that may become parents.
const PARENTS: usize = 40;
/// Children of a generation.
const CHILDREN: usize = 48;
/// Generations.
const GENERATIONS: usize = 8;

/// A configuration that could be measured next.
pub struct Candidate {
    /// What it is.
    pub configuration: Configuration,
    /// What is believed of it.
    pub outlooks: Outlooks,
    /// A trial that it is one change away from.
    pub near: Option<u64>,
}

/// Candidates that were found, none twice and none that was proposed before.
pub struct Pool<'a> {
    encoding: &'a Encoding,
    model: &'a Model,
    /// In the order in which they were found.
    pub candidates: Vec<Candidate>,
    keys: HashSet<String>,
}

impl<'a> Pool<'a> {
    /// Nothing yet.
    pub fn new(encoding: &'a Encoding, model: &'a Model) -> Self {
        Self { encoding, model, candidates: Vec::new(), keys: HashSet::new() }
    }

    /// Judges a configuration, if it is news.
    pub fn add(&mut self, search: &Search, configuration: Configuration, near: Option<u64>) {
        let key = search.space.key(&configuration);
        if search.seen(&key) || !self.keys.insert(key) {
            return;
        }
        let row = self.encoding.encode(&configuration);
        let outlooks = self.model.judge(&row, &search.history);
        self.candidates.push(Candidate { configuration, outlooks, near });
    }

    /// Fills the pool.
    pub fn search(&mut self, search: &mut Search) {
        let front: Vec<(u64, Configuration)> =
            search.history.front().into_iter().map(|trial| (trial.trial, trial.configuration.clone())).collect();
        let mut near = Vec::new();
        for (trial, configuration) in &front {
            let neighbours = search.space.neighbours(configuration, &mut search.random);
            near.extend(neighbours.into_iter().map(|neighbour| (*trial, neighbour)));
        }
        search.random.shuffle(&mut near);
        near.into_iter().take(NEAR).for_each(|(trial, neighbour)| self.add(search, neighbour, Some(trial)));
        for _ in 0..DRAWN {
            let drawn = search.space.sample(&mut search.random);
            self.add(search, drawn, None);
        }
        // Trials are parents too, at their measured costs.
        let (told, points): (Vec<Configuration>, Vec<Point>) =
            search.history.measured().map(|(trial, point)| (trial.configuration.clone(), point.clone())).unzip();
        for _ in 0..GENERATIONS {
            let all: Vec<Point> = points.iter().cloned().chain(self.candidates.iter().map(expected)).collect();
            let parents = pareto::best(&all, PARENTS);
            let parent = |search: &mut Search| {
                let (a, b) = (*search.random.pick(&parents), *search.random.pick(&parents));
                let better = b.rank < a.rank || (b.rank == a.rank && b.crowding > a.crowding);
                let index = if better { b.index } else { a.index };
                match told.get(index) {
                    Some(configuration) => configuration.clone(),
                    None => self.candidates[index - told.len()].configuration.clone(),
                }
            };
            let mut children = Vec::with_capacity(CHILDREN);
            for _ in 0..CHILDREN {
                let (a, b) = (parent(search), parent(search));
                let child = search.space.cross(&a, &b, &mut search.random);
                let copy = child == a || child == b;
                let mutated = copy || search.random.chance(0.5);
                children.push(if mutated { search.space.mutate(&child, &mut search.random) } else { child });
            }
            children.into_iter().for_each(|child| self.add(search, child, None));
        }
    }
}

/// A candidate as NSGA-II compares it: somewhat hopeful, and the less feasible the further from the constraints.
fn expected(candidate: &Candidate) -> Point {
    let feasible = candidate.outlooks.feasible;
    Point {
        costs: candidate.outlooks.costs.iter().map(|belief| belief.at(-0.5)).collect(),
        violation: if feasible >= 0.5 { 0.0 } else { 1.0 - feasible },
    }
}

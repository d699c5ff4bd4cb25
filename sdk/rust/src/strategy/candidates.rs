//! Where to look: NSGA-II on the surrogates, from the best trials, what is one change away from the front, and random
//! configurations.

use super::encoding::Encoding;
use super::history::History;
use super::search::pareto::{self, Point};
use super::surrogate::{Expectation, Surrogate};
use super::{Configuration, Search};
use std::collections::HashSet;

/// Random configurations to begin with.
const DRAWN: usize = 80;
/// Trials of the front whose neighbours are looked at.
const AROUND: usize = 8;
/// Most one-change neighbours to begin with.
const NEAR: usize = 160;
/// Candidates that may become parents.
const PARENTS: usize = 40;
/// Children of a generation.
const CHILDREN: usize = 48;
/// Generations.
const GENERATIONS: usize = 8;

/// Techniques that a candidate may have more than trials of the front have: what is certain of few says little of many.
const MORE: usize = 2;
/// Techniques that candidates may always have.
const FEW: usize = 4;

/// From so many measured trials on all of this is halved: judging a candidate takes the longer the more trials there are.
const MANY: usize = 100;

/// A configuration that could be measured next.
pub struct Candidate {
    /// What it is.
    pub configuration: Configuration,
    /// What is believed of it.
    pub expected: Expectation,
    /// A trial that it is one change away from.
    pub near: Option<u64>,
}

/// Candidates that were found, none twice and none that was proposed before.
pub struct Pool<'a> {
    encoding: &'a Encoding,
    model: &'a dyn Surrogate,
    /// Techniques of a candidate at most.
    most: usize,
    /// In the order in which they were found.
    pub candidates: Vec<Candidate>,
    keys: HashSet<String>,
}

impl<'a> Pool<'a> {
    /// Nothing yet.
    pub fn new(encoding: &'a Encoding, model: &'a dyn Surrogate, history: &History) -> Self {
        let front = history.front().iter().map(|trial| trial.configuration.len()).max().unwrap_or(0);
        Self { encoding, model, most: FEW.max(front + MORE), candidates: Vec::new(), keys: HashSet::new() }
    }

    /// Judges a configuration, if it is news and has not too many techniques.
    pub fn add(&mut self, search: &Search, configuration: Configuration, near: Option<u64>) {
        if configuration.len() > self.most {
            return;
        }
        let key = search.space.key(&configuration);
        if search.seen(&key) || !self.keys.insert(key) {
            return;
        }
        let row = self.encoding.encode(&configuration);
        let expected = self.model.expect(&row, &search.history);
        self.candidates.push(Candidate { configuration, expected, near });
    }

    /// Fills the pool.
    pub fn search(&mut self, search: &mut Search) {
        let part = if search.history.measured().count() < MANY { 1 } else { 2 };
        let mut front: Vec<(u64, Configuration)> =
            search.history.front().into_iter().map(|trial| (trial.trial, trial.configuration.clone())).collect();
        search.random.shuffle(&mut front);
        let mut near = Vec::new();
        for (trial, configuration) in front.iter().take(AROUND) {
            let neighbours = search.space.neighbours(configuration, &mut search.random);
            near.extend(neighbours.into_iter().map(|neighbour| (*trial, neighbour)));
        }
        search.random.shuffle(&mut near);
        near.into_iter().take(NEAR / part).for_each(|(trial, neighbour)| self.add(search, neighbour, Some(trial)));
        for _ in 0..DRAWN / part {
            let drawn = search.space.sample(&mut search.random);
            self.add(search, drawn, None);
        }
        // Trials are parents too, at their measured costs.
        let told = search.history.measured().map(|(trial, point)| (trial.configuration.clone(), point.clone()));
        let mut population: Vec<(Configuration, Point)> = told.collect();
        let mut born = 0;
        for _ in 0..GENERATIONS / part {
            let children = self.candidates[born..].iter();
            population.extend(children.map(|child| (child.configuration.clone(), hopeful(child))));
            born = self.candidates.len();
            let points: Vec<Point> = population.iter().map(|(_, point)| point.clone()).collect();
            let parents = pareto::best(&points, PARENTS);
            population = parents.iter().map(|parent| population[parent.index].clone()).collect();
            for _ in 0..CHILDREN {
                let mut parent = || {
                    let [a, b] = [0; 2].map(|_| search.random.below(parents.len() as u64) as usize);
                    let (first, second) = (parents[a], parents[b]);
                    let lonelier = second.rank == first.rank && second.crowding > first.crowding;
                    &population[if second.rank < first.rank || lonelier { b } else { a }].0
                };
                let (a, b) = (parent(), parent());
                let child = search.space.cross(a, b, &mut search.random);
                let copy = child == *a || child == *b;
                let mutated = copy || search.random.chance(0.5);
                let child = if mutated { search.space.mutate(&child, &mut search.random) } else { child };
                self.add(search, child, None);
            }
        }
    }
}

/// A candidate as NSGA-II compares it: somewhat hopeful, and the less feasible the further from the constraints.
fn hopeful(candidate: &Candidate) -> Point {
    let feasible = candidate.expected.feasible;
    Point {
        costs: candidate.expected.costs.iter().map(|belief| belief.at(-0.5)).collect(),
        violation: if feasible >= 0.5 { 0.0 } else { 1.0 - feasible },
    }
}

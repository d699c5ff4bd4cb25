//! All that was measured, ranked by constrained domination and crowding; the best of it may become parents.

use aehost_sdk::strategy::{Configuration, Constraint, Direction, Objective, Observation, Outcome, Random, TrialId};

/// One measured trial.
#[derive(Debug, Clone)]
struct Individual {
    trial: TrialId,
    configuration: Configuration,
    /// Objectives, all to be minimised; infinite where unavailable.
    costs: Vec<f64>,
    /// Sum of the shares by which constraints are broken.
    violation: f64,
}

/// What was measured, and how good each trial is among the others.
pub struct Population {
    objectives: Vec<Objective>,
    constraints: Vec<Constraint>,
    limit: usize,
    all: Vec<Individual>,
    /// The best, at most `limit`, with their ranks and crowding; found again after something was told.
    parents: Option<Vec<(usize, usize, f64)>>,
}

impl Population {
    /// Nothing yet; at most `limit` become parents.
    pub fn new(objectives: Vec<Objective>, constraints: Vec<Constraint>, limit: usize) -> Self {
        Self { objectives, constraints, limit, all: Vec::new(), parents: None }
    }

    /// Takes in a result. What was not measured teaches nothing here: it is not proposed again anyway.
    pub fn tell(&mut self, observation: Observation) {
        let Outcome::Measured(values) = observation.outcome else { return };
        let value = |metric: &str| values.iter().find(|v| v.metric == metric).map(|v| v.value).filter(|v| !v.is_nan());
        let cost = |objective: &Objective| match (value(&objective.metric), objective.direction) {
            (Some(value), Direction::Minimize) => value,
            (Some(value), Direction::Maximize) => -value,
            (None, _) => f64::INFINITY,
        };
        let violation = |c: &Constraint| value(&c.metric).map_or(1.0, |value| c.violation(value));
        self.all.push(Individual {
            trial: observation.trial,
            costs: self.objectives.iter().map(cost).collect(),
            violation: self.constraints.iter().map(violation).sum(),
            configuration: observation.configuration,
        });
        self.parents = None;
    }

    /// Two parents, each the better of two at random: lower rank, then less crowded. None while nothing was measured.
    pub fn parents(&mut self, random: &mut Random) -> Option<[(TrialId, &Configuration); 2]> {
        let parents = self.parents.get_or_insert_with(|| best(&self.all, self.limit));
        if parents.is_empty() {
            return None;
        }
        let mut tournament = || {
            let (a, b) = (random.pick(parents), random.pick(parents));
            let winner = if b.1 < a.1 || (b.1 == a.1 && b.2 > a.2) { b } else { a };
            let individual = &self.all[winner.0];
            (individual.trial, &individual.configuration)
        };
        Some([tournament(), tournament()])
    }

    /// How many feasible trials are on the front, and how many there are.
    pub fn counts(&self) -> (usize, usize) {
        let feasible: Vec<&Individual> = self.all.iter().filter(|i| i.violation == 0.0).collect();
        let on_front = |i: &&&Individual| !feasible.iter().any(|other| dominates(other, i));
        (feasible.iter().filter(on_front).count(), feasible.len())
    }
}

/// Constrained domination: feasible before infeasible, less violation before more, and among feasible ones nowhere worse
/// and somewhere better.
fn dominates(a: &Individual, b: &Individual) -> bool {
    if a.violation != b.violation {
        return a.violation < b.violation;
    }
    let pairs = || a.costs.iter().zip(&b.costs);
    pairs().all(|(a, b)| a <= b) && pairs().any(|(a, b)| a < b)
}

/// The best individuals with their ranks and crowding distances.
fn best(all: &[Individual], limit: usize) -> Vec<(usize, usize, f64)> {
    let mut kept: Vec<(usize, usize, f64)> = Vec::new();
    for (rank, front) in fronts(all).into_iter().enumerate() {
        let crowding = crowding(all, &front);
        let mut members: Vec<(usize, usize, f64)> =
            front.into_iter().zip(crowding).map(|(individual, distance)| (individual, rank, distance)).collect();
        members.sort_by(|a, b| b.2.total_cmp(&a.2));
        kept.extend(members);
        if kept.len() >= limit {
            break;
        }
    }
    kept.truncate(limit);
    kept
}

/// Fast non-dominated sorting: the first front is dominated by nobody, the next only by the first, and so on.
fn fronts(all: &[Individual]) -> Vec<Vec<usize>> {
    let mut worse: Vec<Vec<usize>> = vec![Vec::new(); all.len()];
    let mut better = vec![0usize; all.len()];
    for a in 0..all.len() {
        for b in 0..all.len() {
            if dominates(&all[a], &all[b]) {
                worse[a].push(b);
                better[b] += 1;
            }
        }
    }
    let mut fronts = Vec::new();
    let mut front: Vec<usize> = (0..all.len()).filter(|i| better[*i] == 0).collect();
    while !front.is_empty() {
        let mut next = Vec::new();
        for b in front.iter().flat_map(|a| &worse[*a]) {
            better[*b] -= 1;
            if better[*b] == 0 {
                next.push(*b);
            }
        }
        next.sort_unstable();
        fronts.push(std::mem::replace(&mut front, next));
    }
    fronts
}

/// For each member of a front the distance between its neighbours, summed over objectives, each relative to the front's
/// range; infinite at the ends.
fn crowding(all: &[Individual], front: &[usize]) -> Vec<f64> {
    let mut distances = vec![0.0; front.len()];
    let objectives = front.first().map_or(0, |i| all[*i].costs.len());
    for objective in 0..objectives {
        let cost = |member: usize| all[front[member]].costs[objective];
        let mut order: Vec<usize> = (0..front.len()).collect();
        order.sort_by(|a, b| cost(*a).total_cmp(&cost(*b)));
        let (first, last) = (order[0], order[order.len() - 1]);
        let range = cost(last) - cost(first);
        if range.is_nan() || range <= 0.0 {
            continue;
        }
        distances[first] = f64::INFINITY;
        distances[last] = f64::INFINITY;
        for window in order.windows(3) {
            let gap = (cost(window[2]) - cost(window[0])) / range;
            // An unavailable objective makes the range infinite: it tells nothing about crowding.
            distances[window[1]] += if gap.is_nan() { 0.0 } else { gap };
        }
    }
    distances
}

#[cfg(test)]
mod tests {
    use super::*;

    fn individual(costs: &[f64], violation: f64) -> Individual {
        Individual { trial: 0, configuration: vec![], costs: costs.to_vec(), violation }
    }

    #[test]
    fn feasible_comes_before_infeasible_and_less_violation_before_more() {
        let good = individual(&[9.0, 9.0], 0.0);
        let close = individual(&[1.0, 1.0], 0.1);
        let far = individual(&[0.0, 0.0], 0.5);
        assert!(dominates(&good, &close) && dominates(&close, &far) && !dominates(&far, &good));
        assert_eq!(fronts(&[far, close, good]), [vec![2], vec![1], vec![0]]);
    }

    #[test]
    fn fronts_peel_off_one_after_the_other() {
        let all = [[1.0, 4.0], [2.0, 2.0], [4.0, 1.0], [3.0, 3.0], [5.0, 5.0], [2.0, 2.0]].map(|c| individual(&c, 0.0));
        assert_eq!(fronts(&all), [vec![0, 1, 2, 5], vec![3], vec![4]]);
    }

    #[test]
    fn the_ends_of_a_front_are_kept_and_crowded_ones_go_first() {
        let all = [[0.0, 10.0], [5.0, 5.0], [5.5, 4.5], [6.0, 4.0], [10.0, 0.0]].map(|c| individual(&c, 0.0));
        let kept: Vec<usize> = best(&all, 4).into_iter().map(|(i, ..)| i).collect();
        assert!(kept.contains(&0) && kept.contains(&4) && !kept.contains(&2), "{kept:?}");
    }

    #[test]
    fn an_unavailable_objective_is_the_worst_there_is() {
        assert!(dominates(&individual(&[1.0, 2.0], 0.0), &individual(&[1.0, f64::INFINITY], 0.0)));
        let all = [individual(&[1.0, f64::INFINITY], 0.0), individual(&[0.5, f64::INFINITY], 0.0)];
        assert_eq!(fronts(&all), [vec![1], vec![0]]);
    }
}

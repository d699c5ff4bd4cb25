//! What a strategy was told and what it still waits for, as numbers: costs to be minimised, violations and metrics.

use super::denoising::{MISSING, Told, of_quality, told};
use super::search::pareto::{self, Point};
use super::{Configuration, Constraint, Direction, Objective, Observation, Outcome, Problem, TrialId};

/// One told trial.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Its number; 0 is the baseline.
    pub trial: TrialId,
    /// What was measured.
    pub configuration: Configuration,
    /// The columns of [`History::metrics`], objectives first, where they are known, with their standard errors. Empty where
    /// nothing was measured.
    pub metrics: Vec<Option<Told>>,
    /// The columns of [`History::companions`]; not a number where a value is missing.
    pub companions: Vec<Told>,
    /// Costs and violation of what was measured; none where the configuration was infeasible or failed.
    pub point: Option<Point>,
}

/// All that was told, in order, and what was asked and not told yet.
#[derive(Debug, Clone)]
pub struct History {
    objectives: Vec<Objective>,
    constraints: Vec<Constraint>,
    metrics: Vec<String>,
    companions: Vec<String>,
    trials: Vec<Trial>,
    pending: Vec<(TrialId, Configuration)>,
}

impl History {
    /// Nothing yet.
    pub fn new(problem: &Problem) -> Self {
        let mut metrics: Vec<String> = problem.objectives.iter().map(|o| o.metric.clone()).collect();
        for constraint in &problem.constraints {
            // A constraint on an objective needs no column of its own.
            if !metrics.contains(&constraint.metric) {
                metrics.push(constraint.metric.clone());
            }
        }
        Self {
            objectives: problem.objectives.clone(),
            constraints: problem.constraints.clone(),
            metrics,
            companions: Vec::new(),
            trials: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// Notes that a configuration was proposed.
    pub fn propose(&mut self, trial: TrialId, configuration: Configuration) {
        self.pending.push((trial, configuration));
    }

    /// Takes in a result.
    pub fn tell(&mut self, observation: Observation) {
        self.pending.retain(|(trial, _)| *trial != observation.trial);
        let Observation { trial, configuration, outcome, .. } = observation;
        let trial = match outcome {
            Outcome::Measured(values) => {
                if self.measured().next().is_none() {
                    let others = values.iter().map(|v| &v.metric).filter(|metric| !self.metrics.contains(metric));
                    self.companions = others.filter(|metric| of_quality(metric)).cloned().collect();
                }
                let metrics: Vec<Option<Told>> = self.metrics.iter().map(|metric| told(&values, metric)).collect();
                let companions =
                    self.companions.iter().map(|metric| told(&values, metric).unwrap_or(MISSING)).collect();
                let point = Some(self.point(&metrics));
                Trial { trial, configuration, metrics, companions, point }
            }
            Outcome::Infeasible(_) | Outcome::Failed(_) => {
                Trial { trial, configuration, metrics: Vec::new(), companions: Vec::new(), point: None }
            }
        };
        self.trials.push(trial);
    }

    fn point(&self, metrics: &[Option<Told>]) -> Point {
        let cost = |(column, objective): (usize, &Objective)| match (metrics[column], objective.direction) {
            (Some((value, _)), Direction::Minimize) => value,
            (Some((value, _)), Direction::Maximize) => -value,
            (None, _) => f64::INFINITY,
        };
        let violation = |c: &Constraint| self.column(&c.metric).and_then(|column| metrics[column]);
        Point {
            costs: self.objectives.iter().enumerate().map(cost).collect(),
            violation: self.constraints.iter().map(|c| violation(c).map_or(1.0, |(value, _)| c.violation(value))).sum(),
        }
    }

    /// Names of the metrics that matter: the objectives in order, then those that only constraints speak of.
    pub fn metrics(&self) -> &[String] {
        &self.metrics
    }

    /// Names of what else evaluators say of measured trials.
    pub fn companions(&self) -> &[String] {
        &self.companions
    }

    /// The column of a metric.
    pub fn column(&self, metric: &str) -> Option<usize> {
        self.metrics.iter().position(|m| m == metric)
    }

    /// What is to be improved.
    pub fn objectives(&self) -> &[Objective] {
        &self.objectives
    }

    /// What must hold.
    pub fn constraints(&self) -> &[Constraint] {
        &self.constraints
    }

    /// Everything told, in order.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// What was proposed and not told yet, in order.
    pub fn pending(&self) -> &[(TrialId, Configuration)] {
        &self.pending
    }

    /// The measured trials with their points.
    pub fn measured(&self) -> impl Iterator<Item = (&Trial, &Point)> {
        self.trials.iter().filter_map(|trial| trial.point.as_ref().map(|point| (trial, point)))
    }

    /// The feasible trials that no feasible trial dominates.
    pub fn front(&self) -> Vec<&Trial> {
        let (trials, points): (Vec<&Trial>, Vec<Point>) =
            self.measured().map(|(trial, point)| (trial, point.clone())).unzip();
        pareto::front(&points).into_iter().map(|i| trials[i]).collect()
    }

    /// How many are on the front, in words.
    pub fn summary(&self) -> String {
        let feasible = self.measured().filter(|(_, point)| point.feasible()).count();
        format!("{} of {feasible} feasible trials are on the front", self.front().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::testing::{mixed_problem, observe};
    use crate::strategy::{Proposal, Violation};

    fn proposal(trial: TrialId) -> Proposal {
        Proposal { trial, configuration: vec![], fidelity: 1.0, why: String::new() }
    }

    #[test]
    fn costs_are_minimised_and_what_is_missing_is_the_worst() {
        let mut problem = mixed_problem(0);
        problem.objectives[1].direction = Direction::Maximize;
        problem.constraints = vec![
            Constraint { metric: "cost".into(), at_most: true, bound: 2.0 },
            Constraint { metric: "size".into(), at_most: false, bound: 4.0 },
        ];
        let mut history = History::new(&problem);
        assert_eq!(history.metrics(), ["cost", "loss", "size"]);
        history.tell(observe(&proposal(0), &[("loss", 0.25), ("size", 3.0), ("cost", 3.0)]));
        history.tell(observe(&proposal(1), &[("cost", f64::NAN), ("size", 8.0)]));
        let points: Vec<&Point> = history.measured().map(|(_, point)| point).collect();
        assert_eq!(*points[0], Point { costs: vec![3.0, -0.25], violation: 0.75 });
        assert_eq!(*points[1], Point { costs: vec![f64::INFINITY, f64::INFINITY], violation: 1.0 });
        assert!(history.front().is_empty());
    }

    #[test]
    fn what_was_told_is_no_longer_pending_whatever_came_of_it() {
        let mut history = History::new(&mixed_problem(0));
        (1..=3).for_each(|trial| history.propose(trial, vec![]));
        let outcome = |trial, outcome| Observation { outcome, ..observe(&proposal(trial), &[]) };
        history.tell(outcome(2, Outcome::Failed("no".into())));
        history.tell(outcome(1, Outcome::Infeasible(Violation { reason: "no".into(), amount: None })));
        assert_eq!(history.pending(), [(3, vec![])]);
        assert_eq!((history.trials().len(), history.measured().count()), (2, 0));
    }
}

//! The search itself.

use crate::candidates::{Candidate, Pool};
use crate::model::{LEAST, Model, words};
use aehost_sdk::strategy::search::hypervolume::{Scale, hypervolume, minimal};
use aehost_sdk::strategy::search::improvement::Improvement;
use aehost_sdk::strategy::{encoding::Encoding, state::or_automatic, *};

/// How far beyond the worst of the front hypervolumes reach, as a share of its range and of that of all trials.
const BEYOND: f64 = 0.1;
/// Most points of the front that boxes are made of, by the number of objectives.
const POINTS: [usize; 6] = [64, 64, 64, 48, 24, 12];
/// Candidates whose neighbours are looked at.
const REFINED: usize = 4;
/// How many of the best candidates may turn out not to be allowed.
const TRIES: usize = 24;

/// The search.
pub struct AeLlm {
    search: Search,
    encoding: Encoding,
    /// Share of hypervolume that the surrogates think is still to be gained, and how well they predict, at the last ask.
    outlook: Option<(f64, Vec<f64>)>,
}

impl Strategy for AeLlm {
    fn describe() -> Description {
        let reference = "AE-LLM, arXiv:2603.20492";
        let summary =
            "Learns what techniques do from the trials, and measures what is expected to add most to the front.";
        Description::new(identity!("ae-llm", summary, reference)).parameter(integer(
            "initial",
            "Trials of the initial design; 0 takes a sixth of the budget, 4 to 8.",
            0..=1000,
        ))
    }

    fn start(mut problem: Problem) -> Result<Self, Error> {
        let settings = Settings(std::mem::take(&mut problem.settings));
        let budget = i64::from(problem.budget);
        let initial = or_automatic(settings.integer("initial")?, (budget / 6).clamp(4, 8));
        let search = Search::new(problem, initial)?;
        Ok(Self { encoding: Encoding::new(&search.space), search, outlook: None })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let Self { search, encoding, outlook } = self;
        Ok(search.ask(count, allowed, |search, allowed| propose(search, encoding, outlook, allowed)))
    }

    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error> {
        self.search.tell(observations);
        Ok(())
    }

    fn outlook(&self) -> Outlook {
        let mut notes = vec![self.search.history.summary()];
        if let Some((_, errors)) = &self.outlook {
            let metrics = self.search.history.metrics().iter().zip(errors);
            let errors = metrics.map(|(metric, error)| format!("{metric} {:.0} %", 100.0 * error));
            notes.push(format!(
                "surrogates err on trials they have not seen, in shares of the spread: {}",
                errors.collect::<Vec<_>>().join(", ")
            ));
        }
        Outlook { remaining_gain: self.outlook.as_ref().map(|(gain, _)| *gain), notes }
    }
}

fn propose(
    search: &mut Search,
    encoding: &Encoding,
    outlook: &mut Option<(f64, Vec<f64>)>,
    allowed: &impl Feasibility,
) -> Option<(Configuration, String)> {
    if search.history.measured().count() < LEAST {
        return search.unlike(allowed).map(|found| (found, "unlike anything tried: too little is known".into()));
    }
    let refused = search.refused().to_vec();
    let mut model = Model::fit(encoding, &search.history, &refused, &[], &mut search.random)?;
    let errors = model.errors();
    // Kriging believer (Ginsbourger, Le Riche, Carraro 2010): what is out counts as measured, with what is expected of it.
    let mut believed = Vec::new();
    if !search.history.pending().is_empty() {
        let mut fantasies = Vec::new();
        for (_, configuration) in search.history.pending() {
            let row = encoding.encode(configuration);
            let outlooks = model.judge(&row, &search.history);
            fantasies.push((row, outlooks.metrics.iter().map(|belief| belief.median()).collect()));
            if outlooks.feasible >= 0.5 {
                believed.push(outlooks.costs.iter().map(|belief| belief.median()).collect());
            }
        }
        model = Model::fit(encoding, &search.history, &refused, &fantasies, &mut search.random)?;
    }
    let mut worth = Worth::new(search, believed);
    let mut pool = Pool::new(encoding, &model);
    pool.search(search);
    for _ in 0..2 {
        let best: Vec<Configuration> = worth
            .order(&pool.candidates)
            .into_iter()
            .take(REFINED)
            .map(|i| pool.candidates[i].configuration.clone())
            .collect();
        for configuration in best {
            let neighbours = search.space.neighbours(&configuration, &mut search.random);
            neighbours.into_iter().for_each(|neighbour| pool.add(search, neighbour, None));
        }
    }
    *outlook = Some((worth.remaining(&pool.candidates), errors));
    for index in worth.order(&pool.candidates).into_iter().take(TRIES) {
        let candidate = &pool.candidates[index];
        if search.news(&candidate.configuration, allowed) {
            let why = worth.why(search, candidate);
            return Some((candidate.configuration.clone(), why));
        }
    }
    None
}

/// What candidates are worth.
struct Worth {
    front: Vec<Vec<f64>>,
    reference: Vec<f64>,
    /// None while nothing feasible was measured.
    improvement: Option<Improvement>,
    /// Volume of the front, or 0.
    volume: f64,
}

impl Worth {
    fn new(search: &Search, believed: Vec<Vec<f64>>) -> Self {
        let history = &search.history;
        let finite = |costs: &Vec<f64>| costs.iter().all(|cost| cost.is_finite());
        let feasible: Vec<Vec<f64>> = history
            .measured()
            .filter(|(_, point)| point.feasible())
            .map(|(_, p)| p.costs.clone())
            .filter(finite)
            .collect();
        let mut front = minimal(feasible.clone());
        // What beats the baseline in nothing is worth nothing, and where the front is short all feasible trials tell the scale.
        let baseline = history.measured().filter(|(trial, _)| trial.trial == 0).map(|(_, point)| &point.costs);
        let apart: Vec<f64> = (0..history.objectives().len())
            .map(|objective| {
                let costs = || feasible.iter().map(|costs| costs[objective]);
                costs().fold(f64::NEG_INFINITY, f64::max) - costs().fold(f64::INFINITY, f64::min)
            })
            .collect();
        let scale = Scale::of(front.iter().chain(baseline), &apart).map(|mut scale| {
            scale.nadir.iter_mut().zip(&apart).for_each(|(nadir, apart)| *nadir += BEYOND * apart);
            scale
        });
        let Some(scale) = scale.filter(|_| !front.is_empty()) else {
            return Self { front, reference: Vec::new(), improvement: None, volume: 0.0 };
        };
        let reference = scale.reference(BEYOND);
        let volume = hypervolume(&front, &reference);
        front.extend(believed);
        let limit = POINTS[reference.len().min(POINTS.len() - 1)];
        let mut kept = minimal(front.clone());
        kept.truncate(limit);
        Self { improvement: Some(Improvement::new(&kept, &reference)), front, reference, volume }
    }

    /// Candidates, the most worthwhile first.
    fn order(&mut self, candidates: &[Candidate]) -> Vec<usize> {
        let values: Vec<f64> = candidates.iter().map(|candidate| self.value(candidate)).collect();
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
        order
    }

    /// Expected gain times the probability that it counts; the probability alone while nothing feasible is known.
    fn value(&mut self, candidate: &Candidate) -> f64 {
        let feasible = candidate.outlooks.feasible;
        match &mut self.improvement {
            Some(improvement) => feasible * improvement.expected(&candidate.outlooks.costs),
            None => feasible,
        }
    }

    /// The share of the hypervolume that the surrogates see beyond the front.
    fn remaining(&self, candidates: &[Candidate]) -> f64 {
        if self.improvement.is_none() {
            return 1.0;
        }
        let likely = candidates.iter().filter(|candidate| candidate.outlooks.feasible >= 0.5);
        let expected = likely.map(|c| c.outlooks.costs.iter().map(|belief| belief.median()).collect());
        let mut reached = minimal(self.front.iter().cloned().chain(expected).collect());
        reached.truncate(POINTS[self.reference.len().min(POINTS.len() - 1)]);
        let volume = hypervolume(&reached, &self.reference);
        if volume > 0.0 { (1.0 - self.volume / volume).clamp(0.0, 1.0) } else { 1.0 }
    }

    fn why(&mut self, search: &Search, candidate: &Candidate) -> String {
        let value = self.value(candidate);
        let expected = words(&search.history, &candidate.outlooks);
        let near = candidate.near.map_or(String::new(), |trial| format!("one change from trial {trial}; "));
        let gain = match &self.improvement {
            Some(_) if self.volume > 0.0 => {
                format!("expected to add {:.1} % of hypervolume", 100.0 * value / self.volume)
            }
            Some(_) => "expected to add most to the front".into(),
            None => "most likely to be feasible".into(),
        };
        format!("{near}{gain}: {expected}; feasible with {:.0} %", 100.0 * candidate.outlooks.feasible)
    }
}

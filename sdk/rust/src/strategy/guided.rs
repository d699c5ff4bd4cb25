//! Search guided by a surrogate: what is measured next is what is expected to add most to the front.

use super::candidates::Pool;
use super::encoding::Encoding;
use super::history::Trial;
use super::search::pareto::Point;
use super::surrogate::{Fantasy, Surrogate};
use super::worth::Worth;
use super::{Configuration, Error, Feasibility, Outlook, Problem, Proposal, Search};

/// Measured trials before surrogates are trained.
const LEAST: usize = 3;
/// Candidates whose neighbours are looked at.
const REFINED: usize = 4;
/// How many of the best candidates may turn out not to be allowed.
const TRIES: usize = 24;

/// A search and what its surrogates thought of it.
#[derive(Debug, Clone)]
pub struct Guided {
    /// The search.
    pub search: Search,
    /// How surrogates see its configurations.
    pub encoding: Encoding,
    outlook: Option<State>,
}

/// What the surrogates said at the last ask.
#[derive(Debug, Clone)]
struct State {
    /// Share of hypervolume that is still to be gained.
    remaining: f64,
    /// Of each metric the error, in shares of its spread, and what predicts it.
    quality: Vec<(f64, &'static str)>,
}

impl Guided {
    /// A search whose first `initial` proposals are the initial design. Errors: invalid-input, without an objective.
    pub fn new(problem: Problem, initial: usize) -> Result<Self, Error> {
        let search = Search::new(problem, initial)?;
        Ok(Self { encoding: Encoding::new(&search.space), search, outlook: None })
    }

    /// Up to `count` proposals. `fit` trains a surrogate on what was told and, as if it had been measured, on fantasies.
    pub fn ask<S: Surrogate, F: Feasibility>(
        &mut self,
        count: u32,
        allowed: &F,
        mut fit: impl FnMut(&Encoding, &mut Search, &[Fantasy]) -> Option<S>,
    ) -> Vec<Proposal> {
        let Self { search, encoding, outlook } = self;
        search.ask(count, allowed, |search, allowed| propose(search, encoding, outlook, allowed, &mut fit))
    }

    /// What is still to be gained, and how well the surrogates predict.
    pub fn outlook(&self) -> Outlook {
        let mut notes = vec![self.search.history.summary()];
        if let Some(State { quality, .. }) = &self.outlook {
            let metrics = self.search.history.metrics().iter().zip(quality);
            let errors = metrics.map(|(metric, (error, by))| format!("{metric} {:.0} % ({by})", 100.0 * error));
            notes.push(format!(
                "surrogates err on trials left out, in shares of the spread: {}",
                errors.collect::<Vec<_>>().join(", ")
            ));
        }
        Outlook { remaining_gain: self.outlook.as_ref().map(|state| state.remaining), notes }
    }
}

fn propose<S: Surrogate>(
    search: &mut Search,
    encoding: &Encoding,
    outlook: &mut Option<State>,
    allowed: &impl Feasibility,
    fit: &mut impl FnMut(&Encoding, &mut Search, &[Fantasy]) -> Option<S>,
) -> Option<(Configuration, String)> {
    if search.history.measured().count() < LEAST {
        return search.unlike(allowed).map(|found| (found, "unlike anything tried: too little is known".into()));
    }
    let mut model = fit(encoding, search, &[])?;
    let quality = model.quality();
    // Kriging believer (Ginsbourger, Le Riche, Carraro 2010): what is out counts as measured, with what is expected of it.
    let mut believed = Vec::new();
    if !search.history.pending().is_empty() {
        let mut fantasies = Vec::new();
        for (_, configuration) in search.history.pending() {
            let row = encoding.encode(configuration);
            let expected = model.expect(&row, &search.history);
            fantasies.push((row, expected.metrics.iter().map(|belief| belief.median()).collect()));
            if expected.feasible >= 0.5 {
                believed.push(expected.costs.iter().map(|belief| belief.median()).collect());
            }
        }
        model = fit(encoding, search, &fantasies)?;
    }
    // Where measurements are noisy, one that was lucky is no point of the front.
    let point = |trial: &Trial, point: &Point| {
        let finite = point.costs.iter().all(|cost| cost.is_finite());
        if !model.smooths() || !finite {
            return point.clone();
        }
        let expected = model.expect(&encoding.encode(&trial.configuration), &search.history);
        Point { costs: expected.costs.iter().map(|belief| belief.median()).collect(), ..*point }
    };
    let mut worth = Worth::new(&search.history, point, believed);
    let mut pool = Pool::new(encoding, &model, &search.history);
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
    *outlook = Some(State { remaining: worth.remaining(&pool.candidates), quality });
    for index in worth.order(&pool.candidates).into_iter().take(TRIES) {
        let candidate = &pool.candidates[index];
        if search.news(&candidate.configuration, allowed) {
            let why = worth.why(&search.history, candidate);
            return Some((candidate.configuration.clone(), why));
        }
    }
    None
}

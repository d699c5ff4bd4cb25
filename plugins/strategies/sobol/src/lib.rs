//! A scrambled Sobol sequence over the search space: random search that leaves no gaps. Each technique has a coordinate that
//! tells whether it is on, each parameter one that tells how far along its domain it is.

use aehost_sdk::strategy::search::sobol::Sobol;
use aehost_sdk::strategy::{encoding::Encoding, *};

/// How many points in a row may be repeats or not allowed before random ones are tried.
const POINTS: usize = 1000;

struct Sequence {
    search: Search,
    encoding: Encoding,
    points: Sobol,
}

impl Strategy for Sequence {
    fn describe() -> Description {
        let reference = "Sobol: On the Distribution of Points in a Cube, 1967";
        Description::new(identity!("sobol", "Spreads configurations evenly over the search space.", reference))
    }

    fn start(problem: Problem) -> Result<Self, Error> {
        let mut search = Search::new(problem, 0)?;
        let encoding = Encoding::new(&search.space);
        let points = Sobol::new(encoding.coordinates(), &mut search.random);
        Ok(Self { search, encoding, points })
    }

    fn ask(&mut self, count: u32, allowed: &impl Feasibility) -> Result<Vec<Proposal>, Error> {
        let Self { search, encoding, points } = self;
        Ok(search.ask(count, allowed, |search, allowed| {
            let on = search.space.share_on();
            for point in points.by_ref().take(POINTS) {
                let mut next = encoding.decode(&search.space, &point, on);
                search.space.repair(&mut next, &mut search.random);
                if search.news(&next, allowed) {
                    return Some((next, "next of a sequence that fills the space evenly".into()));
                }
            }
            None
        }))
    }

    fn tell(&mut self, observations: Vec<Observation>) -> Result<(), Error> {
        self.search.tell(observations);
        Ok(())
    }

    fn outlook(&self) -> Outlook {
        Outlook { remaining_gain: None, notes: vec![self.search.history.summary()] }
    }
}

aehost_sdk::strategy!(Sequence);

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::strategy::testing::everything;

    aehost_sdk::strategy_tests!(Sequence, &[]);

    #[test]
    fn values_of_a_parameter_are_tried_equally_often() {
        let space = vec![testing::technique("one", [real("x", "", 0.0..=1.0).into(), real("y", "", 0.0..=1.0).into()])];
        let problem = Problem { space, ..testing::mixed_problem(3) };
        let asked = Sequence::start(problem).unwrap().ask(64, &everything).unwrap();
        for setting in 0..2 {
            let of = |p: &Proposal| p.configuration[0].settings[setting].value.as_real().unwrap();
            let low = asked.iter().filter(|p| of(p) < 0.25).count();
            assert!((12..=20).contains(&low), "{low} of 64 in the first quarter");
        }
    }
}

//! A complete technique: it lets the search choose how many threads the engine uses. More are not always better: on a
//! machine with other work, or few tokens at a time, threads wait for one another.

use aehost_sdk::technique::*;

struct Threads;

impl Technique for Threads {
    fn describe() -> Description {
        Description::new(identity!("threads", "Chooses the number of threads."), Stage::Inference)
    }

    fn parameters(_: &Model, facts: &Facts) -> Result<Vec<Parameter>, Error> {
        let cores = facts.integer("hardware.cpu_logical_cores")?;
        if cores < 2 {
            return Err(Error::not_applicable("the machine has a single core"));
        }
        Ok(vec![integer("threads", "Threads of the engine.", 1..=cores).default(cores).into()])
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        runtime_policy::set(model, &[setting("threads", settings.integer("threads")?)])
    }
}

aehost_sdk::technique!(Threads);

//! A technique that panics in `apply`.

use aehost_sdk::technique::*;

struct Trap;

impl Technique for Trap {
    fn describe() -> Description {
        Description::new(identity!("trap", "Panics when it is applied."), Stage::Inference)
    }

    fn parameters(_: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        Ok(vec![integer("level", "How much.", 1..=8).into()])
    }

    fn apply(_: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        panic!("level {} is more than this plugin can bear", settings.integer("level")?)
    }
}

aehost_sdk::technique!(Trap);

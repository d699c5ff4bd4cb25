//! A technique that takes memory without end in `apply`.

use aehost_sdk::technique::*;

struct Allocate;

impl Technique for Allocate {
    fn describe() -> Description {
        Description::new(identity!("allocate", "Takes all memory when it is applied."), Stage::Inference)
    }

    fn parameters(_: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        Ok(vec![integer("level", "How much.", 1..=8).into()])
    }

    fn apply(_: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let mut taken = vec![settings.integer("level")?];
        loop {
            taken.resize(taken.len() * 2, 1);
            std::hint::black_box(&taken);
        }
    }
}

aehost_sdk::technique!(Allocate);

//! A technique whose `apply` never returns.

use aehost_sdk::technique::*;

struct Loop;

impl Technique for Loop {
    fn describe() -> Description {
        Description::new(identity!("loop", "Never returns when it is applied."), Stage::Inference)
    }

    fn parameters(_: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        Ok(vec![integer("level", "How much.", 1..=8).into()])
    }

    fn apply(_: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let mut turns = settings.integer("level")? as u64;
        loop {
            // Work that the compiler cannot do away with.
            turns = std::hint::black_box(turns.wrapping_mul(3));
        }
    }
}

aehost_sdk::technique!(Loop);

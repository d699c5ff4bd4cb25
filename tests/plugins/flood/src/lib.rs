//! A technique that logs without end in `apply`.

use aehost_sdk::technique::*;

struct Flood;

impl Technique for Flood {
    fn describe() -> Description {
        Description::new(identity!("flood", "Logs without end when it is applied."), Stage::Inference)
    }

    fn parameters(_: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        Ok(vec![integer("level", "How much.", 1..=8).into()])
    }

    fn apply(_: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let line = "x".repeat(1024 * settings.integer("level")? as usize);
        loop {
            aehost_sdk::info!("{line}");
        }
    }
}

aehost_sdk::technique!(Flood);

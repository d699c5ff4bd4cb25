//! A technique with a parameter whose default lies outside its own domain.

use aehost_sdk::technique::*;

struct BadDefault;

impl Technique for BadDefault {
    fn describe() -> Description {
        Description::new(identity!("bad-default", "Declares a default outside its domain."), Stage::Inference)
    }

    fn parameters(_: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        Ok(vec![choice("format", "A format.", ["Q8_0", "Q4_0"]).default("Q9_0").into()])
    }

    fn apply(_: &Editor, _: &Facts, _: &Settings) -> Result<(), Error> {
        Ok(())
    }
}

aehost_sdk::technique!(BadDefault);

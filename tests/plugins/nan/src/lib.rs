//! An evaluator whose metric is not a number.

use aehost_sdk::evaluator::*;

struct NotANumber;

impl Evaluator for NotANumber {
    fn describe() -> Description {
        Description::new(identity!("nan", "Measures what is not a number.")).maximize("quality", "share")
    }

    fn evaluate(_: &Session, _: &Dataset, subset: &[u32], _: &Settings) -> Result<Vec<Measurement>, Error> {
        Ok(vec![Measurement::mean("quality", vec![f64::NAN; subset.len()])])
    }
}

aehost_sdk::evaluator!(NotANumber);

//! The interface `calibration`: statistics of the variant as edited so far.

use super::graph::Editor;
use crate::bindings::shared::calibration as wit;
use crate::convert;
use crate::state::{Answer, HostCall, State};
use crate::technique::Fidelity;
use aehost_common::Fault;
use aehost_engine::{Calibration, Wanted, numeric};
use aehost_graph::ValueId;
use std::sync::Arc;
use wasmtime::component::Resource;

/// On fewer tokens statistics tell nothing; no fidelity goes below.
const LEAST_TOKENS: usize = 512;

fn calibration(state: &State) -> Result<Arc<Calibration>, Fault> {
    let none =
        || Fault::unsupported("the study has no calibration text: name one under `calibration` in the study file");
    state.services.calibration.clone().ok_or_else(none)
}

/// How many of the tokens asked for are used at this fidelity.
fn granted(tokens: u32, Fidelity(share): Fidelity) -> usize {
    let least = LEAST_TOKENS.min(tokens as usize);
    ((f64::from(tokens) * share).ceil() as usize).max(least)
}

impl wit::Host for HostCall<'_> {
    fn collect(&mut self, model: Resource<Editor>, wanted: Vec<wit::Wanted>, tokens: u32) -> Answer<wit::Statistics> {
        let (calibration, tokens) = (calibration(self)?, granted(tokens, self.services.fidelity));
        let wanted = wanted
            .into_iter()
            .map(|w| {
                Ok(Wanted {
                    statistic: w.statistic,
                    at: ValueId(w.at),
                    against: w.against.map(ValueId),
                    settings: convert::settings_in(w.settings)?,
                })
            })
            .collect::<Result<Vec<_>, Fault>>()?;
        let variant = self.editor(&model)?;
        variant.check()?;
        let found = calibration.collect(variant, &wanted, tokens)?;
        let mut values = Vec::with_capacity(found.values.len());
        for numbers in &found.values {
            let numbers = numeric::to_device(numbers, &self.device)?;
            values.push(self.give_tensor(numbers)?);
        }
        Ok(wit::Statistics { tokens: found.tokens, values })
    }

    fn divergence(&mut self, model: Resource<Editor>, tokens: u32) -> Answer<f64> {
        let (calibration, tokens) = (calibration(self)?, granted(tokens, self.services.fidelity));
        let variant = self.editor(&model)?;
        variant.check()?;
        Ok(calibration.divergence(variant, tokens)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fidelity, granted};

    #[test]
    fn lower_fidelity_takes_its_share_of_the_tokens_but_never_too_few() {
        let all = [(2048, Fidelity::default()), (2048, Fidelity(0.5)), (2048, Fidelity(0.01)), (100, Fidelity(0.1))];
        assert_eq!(all.map(|(tokens, fidelity)| granted(tokens, fidelity)), [2048, 1024, 512, 100]);
    }
}

//! The interface `calibration`: statistics of the variant as edited so far.

use super::graph::Editor;
use crate::bindings::shared::calibration as wit;
use crate::convert;
use crate::state::{Answer, HostCall, State};
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

/// How many of the tokens asked for are used in this trial.
fn granted(state: &State, tokens: u32) -> usize {
    let share = state.services.fidelity.unwrap_or(1.0);
    let least = LEAST_TOKENS.min(tokens as usize);
    ((f64::from(tokens) * share).ceil() as usize).max(least)
}

impl wit::Host for HostCall<'_> {
    fn collect(&mut self, model: Resource<Editor>, wanted: Vec<wit::Wanted>, tokens: u32) -> Answer<wit::Statistics> {
        let (calibration, tokens) = (calibration(self)?, granted(self, tokens));
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
        let (calibration, tokens) = (calibration(self)?, granted(self, tokens));
        let variant = self.editor(&model)?;
        variant.check()?;
        Ok(calibration.divergence(variant, tokens)?)
    }
}

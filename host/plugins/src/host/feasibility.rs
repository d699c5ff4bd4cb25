//! The interface `feasibility`: the one question that a strategy may ask.

use crate::bindings::shared::feasibility as wit;
use crate::convert;
use crate::state::{Answer, HostCall};
use aehost_common::{Code, Fault};
use aehost_study::{Choice, Configuration};

/// Predicts the metrics of a configuration that follow without running, or says why it is not allowed.
pub type Feasibility = dyn Fn(&Configuration) -> Result<Vec<(String, f64)>, Fault> + Send + Sync;

/// A configuration as a strategy wrote it.
pub(crate) fn configuration_in(choices: Vec<wit::Choice>) -> Result<Configuration, Fault> {
    let choice = |c: wit::Choice| Ok(Choice { technique: c.technique, settings: convert::settings_in(c.settings)? });
    Ok(Configuration(choices.into_iter().map(choice).collect::<Result<_, Fault>>()?))
}

/// A configuration as the host writes it.
pub(crate) fn configuration_out(configuration: &Configuration) -> Vec<wit::Choice> {
    configuration
        .0
        .iter()
        .map(|c| wit::Choice { technique: c.technique.clone(), settings: convert::settings_out(&c.settings) })
        .collect()
}

impl wit::Host for HostCall<'_> {
    fn check(&mut self, configuration: Vec<wit::Choice>) -> Answer<Vec<(String, f64)>> {
        let Some(check) = self.services.feasibility.clone() else { return Ok(Vec::new()) };
        let configuration = configuration_in(configuration)?;
        Ok(check(&configuration).map_err(|mut fault| {
            fault.code = Code::NotApplicable;
            fault
        })?)
    }
}

//! `aehost hardware`: the machine as studies record it.

use crate::ending::Ending;
use crate::hardware;
use crate::output::Output;
use aehost_meter::HardwareProfile;
use aehost_meter::hardware::FactValue;
use anyhow::Result;

/// The flags.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Runs it.
pub fn run(output: &Output) -> Result<Ending> {
    let profile = HardwareProfile::probe();
    output.result(&profile, || {
        let mut text = hardware::line(&profile) + "\n\n";
        for fact in profile.facts() {
            let value = match fact.value {
                FactValue::Number(number) => number.to_string(),
                FactValue::Text(words) => words,
            };
            text += &format!("{:<42} {value}\n", fact.name);
        }
        text
    })?;
    Ok(Ending::Done)
}

//! How the engine runs a model: settings of the contract's `runtime-policy`.

use crate::EngineError;
use aehost_common::Setting;
use serde::{Deserialize, Serialize};

/// Threads and step sizes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Threads of the engine; none leaves the study's choice.
    pub threads: Option<usize>,
    /// Tokens of a prompt that are computed in one step.
    pub prefill_chunk: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self { threads: None, prefill_chunk: 256 }
    }
}

impl Policy {
    /// Applies one setting.
    pub fn set(&mut self, setting: &Setting) -> Result<(), EngineError> {
        let count = |limit: i64| match setting.value.as_integer() {
            Some(v) if (1..=limit).contains(&v) => Ok(v as usize),
            _ => Err(EngineError::Invalid(format!(
                "policy `{}` = {} must be a whole number from 1 to {limit}",
                setting.name, setting.value
            ))),
        };
        match setting.name.as_str() {
            "threads" => self.threads = Some(count(1024)?),
            "prefill-chunk" => self.prefill_chunk = count(1 << 20)?,
            other => {
                return Err(EngineError::Unsupported(format!(
                    "policy `{other}` is unknown; known: threads, prefill-chunk"
                )));
            }
        }
        Ok(())
    }
}

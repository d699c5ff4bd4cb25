//! How the engine runs a model: settings of the contract's `runtime-policy`.

use crate::EngineError;
use crate::decoding::PromptLookup;
use aehost_common::Setting;
use serde::{Deserialize, Serialize};

/// Threads, step sizes, and whether tokens are drafted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Threads of the engine; none leaves the study's choice.
    pub threads: Option<usize>,
    /// Tokens of a prompt that are computed in one step.
    pub prefill_chunk: usize,
    /// How tokens are drafted while decoding; none computes them one by one.
    pub speculation: Option<PromptLookup>,
}

/// Drafts before anything is said about them.
const LOOKUP: PromptLookup = PromptLookup { draft: 4, ending: 3 };

impl Default for Policy {
    fn default() -> Self {
        Self { threads: None, prefill_chunk: 256, speculation: None }
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
            "speculation" => {
                self.speculation = match setting.value.as_text() {
                    Some("none") => None,
                    Some("prompt-lookup") => Some(self.speculation.unwrap_or(LOOKUP)),
                    _ => {
                        let (name, value) = (&setting.name, &setting.value);
                        let message = format!("policy `{name}` = {value} must be none or prompt-lookup");
                        return Err(EngineError::Invalid(message));
                    }
                }
            }
            "draft-tokens" => self.lookup(setting)?.draft = count(64)?,
            "lookup-tokens" => self.lookup(setting)?.ending = count(8)?,
            other => {
                return Err(EngineError::Unsupported(format!(
                    "policy `{other}` is unknown; known: threads, prefill-chunk, speculation, draft-tokens, lookup-tokens"
                )));
            }
        }
        Ok(())
    }

    /// How tokens are drafted; settings of that make no sense before.
    fn lookup(&mut self, setting: &Setting) -> Result<&mut PromptLookup, EngineError> {
        self.speculation.as_mut().ok_or_else(|| {
            EngineError::Invalid(format!("policy `{}` needs `speculation` = prompt-lookup before it", setting.name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_are_described_once_there_are_any() {
        let mut policy = Policy::default();
        let draft = Setting::new("draft-tokens", 8i64);
        let refused = policy.set(&draft).unwrap_err().to_string();
        assert!(refused.contains("policy `draft-tokens` needs `speculation` = prompt-lookup before it"), "{refused}");
        policy.set(&Setting::new("speculation", "prompt-lookup")).unwrap();
        policy.set(&draft).unwrap();
        assert_eq!(policy.speculation, Some(PromptLookup { draft: 8, ..LOOKUP }));
        assert!(policy.set(&Setting::new("draft-tokens", 65i64)).is_err());
        policy.set(&Setting::new("speculation", "none")).unwrap();
        assert_eq!(policy, Policy::default());
    }
}

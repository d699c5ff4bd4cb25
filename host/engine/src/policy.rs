//! How the engine runs a model: settings of the contract's `runtime-policy`.

use crate::EngineError;
use crate::decoding::Speculation;
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
    pub speculation: Option<Speculation>,
}

/// Tokens that may be drafted for one step.
pub(crate) const MOST_DRAFTED: usize = 64;
/// Drafts before anything is said about them.
const LOOKUP: Speculation = Speculation::PromptLookup { draft: 4, ending: 3 };
const MODEL: Speculation = Speculation::DraftModel { draft: 4 };

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
                    Some("prompt-lookup") => Some(LOOKUP),
                    Some("draft-model") => Some(MODEL),
                    _ => {
                        let (name, value) = (&setting.name, &setting.value);
                        let message = format!("policy `{name}` = {value} must be none, prompt-lookup or draft-model");
                        return Err(EngineError::Invalid(message));
                    }
                }
            }
            "draft-tokens" => match &mut self.speculation {
                Some(Speculation::PromptLookup { draft, .. } | Speculation::DraftModel { draft }) => {
                    *draft = count(MOST_DRAFTED as i64)?;
                }
                None => return Err(needs(setting, "prompt-lookup or draft-model")),
            },
            "lookup-tokens" => match &mut self.speculation {
                Some(Speculation::PromptLookup { ending, .. }) => *ending = count(8)?,
                _ => return Err(needs(setting, "prompt-lookup")),
            },
            other => {
                return Err(EngineError::Unsupported(format!(
                    "policy `{other}` is unknown; known: threads, prefill-chunk, speculation, draft-tokens, lookup-tokens"
                )));
            }
        }
        Ok(())
    }
}

/// Settings of how tokens are drafted make no sense before it is said that they are.
fn needs(setting: &Setting, how: &str) -> EngineError {
    EngineError::Invalid(format!("policy `{}` needs `speculation` = {how} before it", setting.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_are_described_once_there_are_any() {
        let mut policy = Policy::default();
        let draft = Setting::new("draft-tokens", 8i64);
        let refused = policy.set(&draft).unwrap_err().to_string();
        assert!(
            refused.contains("policy `draft-tokens` needs `speculation` = prompt-lookup or draft-model before it"),
            "{refused}"
        );
        policy.set(&Setting::new("speculation", "prompt-lookup")).unwrap();
        policy.set(&draft).unwrap();
        assert_eq!(policy.speculation, Some(Speculation::PromptLookup { draft: 8, ending: 3 }));
        assert!(policy.set(&Setting::new("draft-tokens", 65i64)).is_err());
        policy.set(&Setting::new("speculation", "draft-model")).unwrap();
        policy.set(&draft).unwrap();
        assert_eq!(policy.speculation, Some(Speculation::DraftModel { draft: 8 }));
        assert!(policy.set(&Setting::new("lookup-tokens", 2i64)).is_err(), "a draft model looks nothing up");
        policy.set(&Setting::new("speculation", "none")).unwrap();
        assert_eq!(policy, Policy::default());
    }
}

//! The tokenizer of a Hugging Face folder: tokenizer.json, with special tokens and chat template from its companions.

use super::{Adds, Tokenizer};
use crate::safetensors::read_json;
use crate::{ChatTemplate, FormatError};
use serde_json::Value as Json;
use std::path::Path;

impl Tokenizer {
    pub(crate) fn from_folder(folder: &Path) -> Result<Self, FormatError> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            let remedy = "it belongs beside the weights: download it from where they came from";
            return Err(FormatError::missing(folder, "tokenizer.json", remedy));
        }
        let inner = tokenizers::Tokenizer::from_file(&path)
            .map_err(|e| FormatError::malformed(&path, "tokenizer", e.to_string()))?;

        let config_path = folder.join("tokenizer_config.json");
        let config = read_json(&config_path)?.unwrap_or_default();
        // A special token is its text, or an object that holds it.
        let special = |key: &str| {
            let value = &config[key];
            value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
        };
        let (bos_token, eos_token) = (special("bos_token"), special("eos_token"));
        let id_of = |token: &Option<String>| token.as_ref().and_then(|t| inner.token_to_id(t));
        let (bos, eos) = (id_of(&bos_token), id_of(&eos_token));

        // The model's own idea of where generation ends may list more than the tokenizer's.
        let mut ends: Vec<u32> = eos.into_iter().collect();
        for name in ["generation_config.json", "config.json"] {
            match read_json(&folder.join(name))?.unwrap_or_default().get("eos_token_id") {
                Some(Json::Array(ids)) => ends.extend(ids.iter().filter_map(token_id)),
                Some(id) => ends.extend(token_id(id)),
                None => {}
            }
        }

        let jinja = folder.join("chat_template.jinja");
        let source = match std::fs::read_to_string(&jinja) {
            Ok(text) => Some((jinja, text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => named_template(&config).map(|t| (config_path, t)),
            Err(e) => return Err(FormatError::io(&jinja, e)),
        };
        let template = source
            .map(|(from, text)| {
                ChatTemplate::new(&from.display().to_string(), &text, bos_token.clone(), eos_token.clone())
            })
            .transpose()?;

        let probe =
            inner.encode_fast("", true).map_err(|e| FormatError::malformed(&path, "tokenizer", e.to_string()))?;
        let adds = Adds::Inner { bos: bos.is_some() && probe.get_ids().first().copied() == bos };
        let ends = Self::collect_ends(&inner, ends);
        Ok(Self { path: path.display().to_string(), inner, bos, eos, ends, adds, template })
    }
}

fn token_id(json: &Json) -> Option<u32> {
    json.as_u64().and_then(|id| id.try_into().ok())
}

/// `chat_template` is one template, or a list of named ones of which `default` is meant.
fn named_template(config: &Json) -> Option<String> {
    let template = &config["chat_template"];
    let default = || template.as_array()?.iter().find(|t| t["name"] == "default")?["template"].as_str();
    template.as_str().or_else(default).map(str::to_owned)
}

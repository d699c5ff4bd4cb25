//! Greedy decoding that checks several drafted tokens in one step and keeps those that the model itself would have chosen, so
//! that the text is the same as without it (Leviathan et al., arXiv:2211.17192). Drafts are what followed the last tokens where
//! they stood before, in prompt or answer (prompt lookup: it pays where answers repeat their prompts, and costs little elsewhere),
//! or what a smaller model says: this one without some of its layers, or a companion.

mod draft;

use aehost_sdk::technique::*;

struct SpeculativeDecoding;

/// The models that may draft.
fn companions(facts: &Facts) -> &[String] {
    match facts.get("companions") {
        Some(Value::Texts(names)) => names,
        _ => &[],
    }
}

impl Technique for SpeculativeDecoding {
    fn describe() -> Description {
        let summary = "Checks drafted tokens several at a time; the text stays the same.";
        Description::new(identity!("speculative-decoding", summary, "arXiv:2211.17192"), Stage::Inference).order(30)
    }

    fn parameters(model: &Model, facts: &Facts) -> Result<Vec<Parameter>, Error> {
        if facts.integer("scenario.output_tokens") == Ok(1) {
            return Err(Error::not_applicable("the scenario generates one token: there is nothing to draft"));
        }
        // A model whose layers cannot be told apart is not skipped through.
        let layers = layers(model).map_or(0, |layers| layers.len() as i64);
        let companions = companions(facts);
        let known = [("prompt-lookup", true), ("layer-skip", layers >= 3), ("draft-model", !companions.is_empty())];
        let methods = known.into_iter().filter(|(_, possible)| *possible).map(|(method, _)| method);
        let method = choice("method", "What followed earlier, what fewer layers say, or a companion.", methods);
        let tokens = choice("draft-tokens", "Tokens of a draft at most.", [2i64, 4, 6, 8]).ordered().default(4i64);
        let ending = integer("lookup-tokens", "Last tokens that must have stood together before, at most.", 1..=4);
        let mut parameters: Vec<Parameter> =
            vec![method.into(), tokens.into(), ending.default(3i64).when("method", ["prompt-lookup"]).into()];
        if layers >= 3 {
            let skip = integer("skip", "Layers that drafts go without.", 1..=layers * 2 / 3);
            parameters.push(skip.default(layers / 3).when("method", ["layer-skip"]).into());
        }
        if !companions.is_empty() {
            let draft = choice("draft", "The companion that drafts.", companions.iter().map(String::as_str));
            parameters.push(draft.when("method", ["draft-model"]).into());
        }
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let tokens = setting("draft-tokens", settings.integer("draft-tokens")?);
        match settings.text("method")? {
            "layer-skip" => {
                let layers = layers(&model.model())?;
                draft::add(model, &least_influential(model, &layers, settings.integer("skip")? as usize)?)?;
            }
            "draft-model" => model.import_function(settings.text("draft")?, "decode", "draft")?,
            _ => {
                let ending = setting("lookup-tokens", settings.integer("lookup-tokens")?);
                return runtime_policy::set(model, &[setting("speculation", "prompt-lookup"), tokens, ending]);
            }
        }
        runtime_policy::set(model, &[setting("speculation", "draft-model"), tokens])
    }
}

aehost_sdk::technique!(SpeculativeDecoding);

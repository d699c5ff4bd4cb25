//! Greedy decoding that checks several drafted tokens in one step and keeps those that the model itself would have chosen, so
//! that the text is the same as without it (Leviathan et al., arXiv 2211.17192). Drafts are what followed the last tokens where
//! they stood before, in prompt or answer (prompt lookup): it pays where answers repeat their prompts, and costs little elsewhere.

use aehost_sdk::technique::*;

struct SpeculativeDecoding;

impl Technique for SpeculativeDecoding {
    fn describe() -> Description {
        let summary = "Checks drafted tokens several at a time; the text stays the same.";
        Description::new(identity!("speculative-decoding", summary, "arXiv:2211.17192"), Stage::Inference).order(30)
    }

    fn parameters(_: &Model, facts: &Facts) -> Result<Vec<Parameter>, Error> {
        if facts.integer("scenario.output_tokens") == Ok(1) {
            return Err(Error::not_applicable("the scenario generates one token: there is nothing to draft"));
        }
        let draft = choice("draft-tokens", "Tokens of a draft at most.", [2i64, 4, 6, 8]).ordered().default(4i64);
        let ending = integer("lookup-tokens", "Last tokens that must have stood together before, at most.", 1..=4);
        Ok(vec![draft.into(), ending.default(3i64).into()])
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let policy = [
            setting("speculation", "prompt-lookup"),
            setting("draft-tokens", settings.integer("draft-tokens")?),
            setting("lookup-tokens", settings.integer("lookup-tokens")?),
        ];
        runtime_policy::set(model, &policy)
    }
}

aehost_sdk::technique!(SpeculativeDecoding);

//! Attention on chosen pages of the cache alone: a query sees the keys of its own page and of those in which the bounds of the
//! keys, channel by channel, promise the largest products (Quest: Tang et al., arXiv:2406.10774, section 3). All tokens stay in
//! the cache, and a step reads few of them. An edit of the graph's attention nodes.

use aehost_sdk::technique::*;

struct SparseAttention;

impl Technique for SparseAttention {
    fn describe() -> Description {
        let summary = "Attends to the pages of the cache that promise the most, for each query anew.";
        Description::new(identity!("sparse-attention", summary, "arXiv:2406.10774"), Stage::Inference)
            .order(20)
            .provides("attention-on-some-tokens")
    }

    fn parameters(model: &Model, facts: &Facts) -> Result<Vec<Parameter>, Error> {
        attentions(model)?;
        let sizes = budgets(model, facts)?;
        let dense = "First layers that see all tokens: their attention is spread out.";
        Ok(vec![
            integer("dense-layers", dense, 0..=4).default(2i64).into(),
            choice("tokens", "Tokens that a query sees at most.", sizes).ordered().into(),
            choice("page", "Neighbouring tokens that are seen together.", [8i64, 16, 32])
                .ordered()
                .default(16i64)
                .into(),
        ])
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let page = settings.integer("page")?;
        let wanted = [setting("page", page), setting("top-pages", settings.integer("tokens")? / page)];
        let first = settings.integer("dense-layers")?;
        let sparse = |node: &Node| node.spec.layer.is_none_or(|layer| i64::from(layer) >= first);
        for node in attentions(&model.model())?.into_iter().filter(sparse) {
            model.set_attributes(&node, &wanted)?;
        }
        Ok(())
    }
}

/// The attention nodes that see all tokens.
fn attentions(model: &Model) -> Result<Vec<Node>, Error> {
    let mut attentions = model.language_nodes(&Filter::op("attention"));
    attentions.retain(|attention| {
        let cache = attention.spec.inputs.get(1).and_then(|keys| model.producer(*keys));
        !attention.has_window() && cache.and_then(|id| model.node(id).ok()).is_some_and(|cache| !cache.has_window())
    });
    match attentions.is_empty() {
        true => Err(Error::not_applicable("the model has no attention, or windows of its own on all of them")),
        false => Ok(attentions),
    }
}

aehost_sdk::technique!(SparseAttention);

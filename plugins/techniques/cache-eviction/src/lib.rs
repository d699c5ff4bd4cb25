//! Keeps only some of the earlier tokens' keys and values: the first few and a window of the latest (attention sinks: Xiao et
//! al., arXiv:2309.17453), or the newest and, for each head, those that got the most attention, from all queries so far (H2O:
//! Zhang et al., arXiv:2306.14048) or from the latest, with their neighbours (SnapKV: Li et al., arXiv:2404.14469; here it is done
//! again and again, so that the cache stays small). An edit of the graph's cache nodes.

use aehost_sdk::technique::*;

struct CacheEviction;

impl Technique for CacheEviction {
    fn describe() -> Description {
        let summary = "Keeps the keys and values of some of the earlier tokens only.";
        Description::new(identity!("cache-eviction", summary, "arXiv:2306.14048"), Stage::Inference)
            .order(20)
            .provides("attention-on-some-tokens")
    }

    fn parameters(model: &Model, facts: &Facts) -> Result<Vec<Parameter>, Error> {
        caches(model)?;
        let sizes = budgets(model, facts)?;
        let policy = "Which stay: a window of the latest, or what all queries or the latest ones look at most.";
        let policy = choice("policy", policy, ["window", "accumulated", "latest"]).default("accumulated");
        let sinks = choice("sinks", "First tokens that are always kept.", [0i64, 4, 16]).ordered().default(4i64);
        let by_attention = || ["accumulated", "latest"];
        let newest = "Share of the kept tokens that are the newest.";
        let interval = "Tokens that come before others go; steps are no longer.";
        Ok(vec![
            policy.into(),
            choice("tokens", "Tokens that are kept.", sizes).ordered().into(),
            sinks.when("policy", ["window"]).into(),
            choice("newest", newest, [0.25, 0.5, 0.75]).ordered().default(0.5).when("policy", by_attention()).into(),
            choice("interval", interval, [32i64, 64, 128])
                .ordered()
                .default(64i64)
                .when("policy", by_attention())
                .into(),
        ])
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let tokens = settings.integer("tokens")?;
        let wanted = match settings.text("policy")? {
            "window" => vec![setting("window", tokens), setting("sinks", settings.integer("sinks")?)],
            score => vec![
                setting("keep", tokens),
                setting("newest", (tokens as f64 * settings.real("newest")?) as i64),
                setting("score", score),
                setting("interval", settings.integer("interval")?),
            ],
        };
        for node in caches(&model.model())? {
            model.set_attributes(&node, &wanted)?;
        }
        Ok(())
    }
}

/// The caches from which something may go: an attention with a window of its own leaves tokens out anyway.
fn caches(model: &Model) -> Result<Vec<Node>, Error> {
    let mut caches = model.nodes(&Filter::op("cache"));
    caches.retain(|cache| {
        let readers = cache.outputs.iter().flat_map(|value| model.consumers(*value));
        let mut attentions = readers.filter_map(|id| model.node(id).ok()).filter(|node| node.spec.op == "attention");
        !cache.has_window() && attentions.all(|attention| !attention.has_window())
    });
    match caches.is_empty() {
        true => Err(Error::not_applicable("the model has no cache, or windows of its own on all of them")),
        false => Ok(caches),
    }
}

aehost_sdk::technique!(CacheEviction);

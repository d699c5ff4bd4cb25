//! How keys and values of earlier tokens are kept: in plain numbers, in blocks of 8 bits, or in groups of few bits, keys by
//! channel and values by token, behind a stretch of the newest tokens in float16 (KIVI: Liu et al., arXiv:2402.02750, section
//! 3). An edit of the graph's cache nodes.

use aehost_sdk::technique::*;

/// Dtypes from the largest to the smallest; the last are those of groups.
const DTYPES: [&str; 6] = ["float32", "float16", "q8_0", "affine8", "affine4", "affine2"];

struct KvCache;

impl Technique for KvCache {
    fn describe() -> Description {
        let summary = "Keeps the cache of keys and values in fewer bits.";
        Description::new(identity!("kv-cache", summary, "arXiv:2402.02750"), Stage::Inference).order(21)
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let caches = model.nodes(&Filter::op("cache"));
        if caches.is_empty() {
            return Err(Error::not_applicable("the model has no cache"));
        }
        let with = |node: &Node, dtype: &str| Settings(node.spec.attributes.clone()).with("dtype", dtype).0;
        // Heads that are no whole groups stay in plain numbers.
        let whole = |node: &Node| matches!(node.attribute("head-dim"), Some(Value::Integer(dim)) if dim % 32 == 0);
        let runs = |dtype: &&str| {
            caches
                .iter()
                .all(|node| (dtype.starts_with("float") || whole(node)) && model.supports("cache", &with(node, dtype)))
        };
        let dtypes: Vec<&str> = DTYPES.into_iter().filter(runs).collect();
        let default = dtypes.iter().rfind(|dtype| !dtype.starts_with("affine"));
        let default = default.ok_or_else(|| Error::not_applicable("no cache dtype is supported"))?;
        let dtype = choice("dtype", "How cached numbers are stored.", dtypes.clone()).ordered().default(*default);
        let interval = "Tokens that wait in float16 until they are rounded together; steps are no longer.";
        let interval = choice("interval", interval, [32i64, 64, 128]).ordered().default(128i64);
        let grouped: Vec<&str> = dtypes.into_iter().filter(|dtype| dtype.starts_with("affine")).collect();
        Ok(match grouped.is_empty() {
            true => vec![dtype.into()],
            false => vec![dtype.into(), interval.when("dtype", grouped).into()],
        })
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let mut wanted = vec![setting("dtype", settings.text("dtype")?)];
        if settings.get("interval").is_some() {
            wanted.push(setting("interval", settings.integer("interval")?));
        }
        let mut changed = false;
        for node in model.model().nodes(&Filter::op("cache")) {
            // A cache that evicts has its interval already.
            let evicts = node.attribute("keep").is_some();
            let wanted = if evicts { &wanted[..1] } else { &wanted };
            changed |= model.set_attributes(&node, wanted)?;
        }
        if changed { Ok(()) } else { Err(Error::not_applicable("the cache is already kept in this way")) }
    }
}

aehost_sdk::technique!(KvCache);

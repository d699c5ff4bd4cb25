//! How keys and values of earlier tokens are kept: in which dtype, and whether all of them or the first few and a window
//! of the latest (attention sinks: Xiao et al., arXiv 2309.17453). An edit of the graph's cache nodes.

use aehost_sdk::technique::*;

struct KvCache;

impl Technique for KvCache {
    fn describe() -> Description {
        let summary = "Keeps the cache of keys and values in fewer bits, or only a window of it.";
        Description::new(identity!("kv-cache", summary, "arXiv:2309.17453"), Stage::Inference).order(20)
    }

    fn parameters(model: &Model, facts: &Facts) -> Result<Vec<Parameter>, Error> {
        let caches = model.nodes(&Filter::op("cache"));
        if caches.is_empty() {
            return Err(Error::not_applicable("the model has no cache"));
        }
        let runs = |dtype: &&str| caches.iter().all(|node| model.supports("cache", &with(node, "dtype", dtype)));
        let dtypes: Vec<&str> = ["float32", "float16", "q8_0"].into_iter().filter(runs).collect();
        let smallest = dtypes.last().copied().ok_or_else(|| Error::not_applicable("no cache dtype is supported"))?;
        let mut parameters: Vec<Parameter> =
            vec![choice("dtype", "How cached numbers are stored.", dtypes.clone()).ordered().default(smallest).into()];

        let sizes = windows(longest_sequence(model.integer("context")?, facts));
        if !sizes.is_empty() {
            let all = std::iter::once(0).chain(sizes.iter().copied());
            let window = "Latest tokens kept besides the sinks; 0 keeps all.";
            parameters.push(choice("window", window, all).ordered().into());
            let sinks = choice("sinks", "First tokens that are always kept.", [0i64, 4, 16]).ordered();
            parameters.push(sinks.default(4i64).when("window", sizes).into());
        }
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let mut wanted = vec![setting("dtype", settings.text("dtype")?)];
        if settings.get("window").is_some() {
            wanted.push(setting("window", settings.integer("window")?));
        }
        if settings.get("sinks").is_some() {
            wanted.push(setting("sinks", settings.integer("sinks")?));
        }
        let mut changed = false;
        for node in model.model().nodes(&Filter::op("cache")) {
            for attribute in wanted.iter().filter(|attribute| !holds(&node, attribute)) {
                model.set_attribute(node.id, attribute)?;
                changed = true;
            }
        }
        if changed { Ok(()) } else { Err(Error::not_applicable("the cache is already kept in this way")) }
    }
}

/// The attributes of a node, one of them changed.
fn with(node: &Node, name: &str, value: &str) -> Vec<Setting> {
    Settings(node.spec.attributes.clone()).with(name, value).0
}

/// Whether a node behaves as if it had this attribute; a window or sinks of 0 may be left out.
fn holds(node: &Node, attribute: &Setting) -> bool {
    match node.attribute(&attribute.name) {
        Some(value) => *value == attribute.value,
        None => attribute.value == Value::Integer(0),
    }
}

/// Tokens of the longest sequence that the scenario makes; without one, what the model was made for.
fn longest_sequence(context: i64, facts: &Facts) -> i64 {
    let scenario = facts.integer("scenario.prompt_tokens").ok().zip(facts.integer("scenario.output_tokens").ok());
    scenario.map_or(context, |(prompt, output)| (prompt + output).min(context))
}

/// Up to four window sizes, the largest first, that drop something of `tokens`: powers of two from 64 on.
fn windows(tokens: i64) -> Vec<i64> {
    let powers = (6..31).map(|power| 1i64 << power).take_while(|size| *size < tokens);
    let mut sizes: Vec<i64> = powers.collect();
    sizes.reverse();
    sizes.truncate(4);
    sizes
}

aehost_sdk::technique!(KvCache);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_smaller_than_the_longest_sequence() {
        assert_eq!(windows(288), [256, 128, 64]);
        assert_eq!(windows(8192), [4096, 2048, 1024, 512]);
        assert!(windows(64).is_empty());
    }

    #[test]
    fn the_scenario_bounds_the_sequence_and_the_model_bounds_the_scenario() {
        let scenario = Facts::default().with("scenario.prompt_tokens", 256i64).with("scenario.output_tokens", 32i64);
        assert_eq!(longest_sequence(8192, &scenario), 288);
        assert_eq!(longest_sequence(128, &scenario), 128);
        assert_eq!(longest_sequence(8192, &Facts::default()), 8192);
    }

    #[test]
    fn a_missing_window_is_a_window_of_0() {
        let spec = Spec {
            function: "decode".into(),
            name: "layers.0.attention.cache".into(),
            role: "cache".into(),
            layer: Some(0),
            op: "cache".into(),
            attributes: vec![setting("dtype", "float16")],
            inputs: vec![],
            weights: vec![],
        };
        let node = Node { id: 0, spec, outputs: vec![] };
        assert!(holds(&node, &setting("window", 0i64)) && holds(&node, &setting("dtype", "float16")));
        assert!(!holds(&node, &setting("window", 64i64)) && !holds(&node, &setting("dtype", "q8_0")));
    }
}

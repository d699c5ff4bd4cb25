use super::*;
use crate::fixtures::{chosen, flag, integer, real, technique, text_choice};
use aehost_common::{Condition, Stage};
use std::collections::HashSet;

fn space() -> Space {
    let mut window = integer("window", 1, 3);
    window.active_when = vec![Condition { parameter: "mode".into(), values: vec!["window".into()] }];
    let mut prune = technique("depth-pruning", Stage::Architecture, vec![integer("drop", 1, 4)]);
    prune.description.conflicts = vec!["slicing".into()];
    let mut cache = technique("kv-cache", Stage::Inference, vec![text_choice("mode", &["full", "window"]), window]);
    cache.description.order = 5;
    let mut tune = technique("lora", Stage::FineTuning, vec![]);
    tune.description.requires = vec!["quantised-base".into()];
    Space::new(&[
        cache,
        technique("quant", Stage::Inference, vec![text_choice("format", &["Q8_0", "Q4_0"]), flag("importance")]),
        tune,
        technique("slicing", Stage::Architecture, vec![]),
        prune,
    ])
    .unwrap()
}

#[test]
fn the_canonical_form_orders_techniques_and_fills_defaults() {
    let written = Configuration(vec![
        chosen("kv-cache", &[("mode", "window".into())]),
        chosen("quant", &[("importance", true.into()), ("format", "Q4_0".into())]),
        chosen("depth-pruning", &[("drop", 2i64.into())]),
    ]);
    let canonical = space().complete(&written).unwrap();
    assert_eq!(
        canonical.to_string(),
        "depth-pruning drop=2 + quant format=Q4_0 importance=on + kv-cache mode=window window=1"
    );
    assert_eq!(space().complete(&canonical).unwrap(), canonical);
    let mut reversed = canonical.clone();
    reversed.0.reverse();
    assert_eq!(space().complete(&reversed).unwrap().key(), canonical.key());
    assert_eq!(Configuration::default().to_string(), "baseline");
}

#[test]
fn keys_do_not_change_between_versions() {
    let configuration = Configuration(vec![chosen("quant", &[("format", "Q4_0".into())])]);
    let json = r#"[{"technique":"quant","settings":{"format":"Q4_0"}}]"#;
    assert_eq!(serde_json::to_string(&configuration).unwrap(), json);
    assert_eq!(configuration.key(), "f521ae23ea5958bd93976c9cf7d5f1a0e35a03c48e165693061d9bc807523dc8");
    let zero = |v: f64| Configuration(vec![chosen("t", &[("x", v.into())])]).key();
    assert_eq!(zero(-0.0), zero(0.0));
}

#[test]
fn invalid_configurations_are_explained() {
    let message = |choices: Vec<Choice>| space().complete(&Configuration(choices)).unwrap_err().to_string();
    assert_eq!(
        message(vec![chosen("quant", &[("format", "Q9".into())])]),
        "technique `quant`: format = Q9 is outside its domain, one of Q8_0, Q4_0"
    );
    assert_eq!(
        message(vec![chosen("kv-cache", &[("window", 2i64.into())])]),
        "technique `kv-cache`: `window` is set although its conditions do not hold"
    );
    assert_eq!(
        message(vec![chosen("magic", &[])]),
        "unknown technique `magic`; known: depth-pruning, slicing, lora, quant, kv-cache"
    );
    assert_eq!(
        message(vec![chosen("slicing", &[]), chosen("depth-pruning", &[])]),
        "techniques `depth-pruning` and `slicing` cannot be on together"
    );
    assert_eq!(
        message(vec![chosen("lora", &[]), chosen("quant", &[])]),
        "technique `lora` needs `quantised-base`, which no technique before it in this configuration provides"
    );
    assert_eq!(
        message(vec![chosen("quant", &[]), chosen("quant", &[])]),
        "technique `quant` is chosen twice in one configuration"
    );
}

#[test]
fn after_comes_before_order() {
    let order = |after: &[(&str, &str)]| {
        let mut list = vec![
            technique("a", Stage::Inference, vec![]),
            technique("b", Stage::Inference, vec![]),
            technique("c", Stage::Architecture, vec![]),
        ];
        list[0].description.order = -1;
        for technique in &mut list {
            let id = technique.description.identity.id.clone();
            technique.description.after = after.iter().filter(|a| a.0 == id).map(|a| a.1.to_owned()).collect();
        }
        Space::new(&list).map(|s| s.techniques().iter().map(|t| id(t).to_owned()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(order(&[]).unwrap(), "c a b");
    assert_eq!(order(&[("a", "b")]).unwrap(), "c b a");
    assert_eq!(order(&[("a", "not-loaded")]).unwrap(), "c a b");
    assert_eq!(
        order(&[("a", "b"), ("b", "a")]).unwrap_err().to_string(),
        "technique `a` must apply after `b`, which in turn must apply after it"
    );
    assert_eq!(
        order(&[("c", "a")]).unwrap_err().to_string(),
        "technique `c` must apply after `a`, which belongs to a later stage"
    );
}

#[test]
fn declarations_that_make_no_sense_are_refused() {
    let mut parameter = text_choice("format", &["Q8_0"]);
    parameter.default = "Q9".into();
    assert_eq!(
        Space::new(&[technique("quant", Stage::Inference, vec![parameter])]).unwrap_err().to_string(),
        "technique `quant`: parameter `format` is malformed: its default Q9 is outside its own domain, one of Q8_0"
    );
    let twice = [technique("quant", Stage::Inference, vec![]), technique("quant", Stage::Inference, vec![])];
    assert_eq!(
        Space::new(&twice).unwrap_err().to_string(),
        "technique `quant` is there twice: remove one of the two plugins"
    );
}

#[test]
fn the_grid_counts_every_complete_configuration() {
    // (4 drops + off)(slicing on, off)(lora on, off)(2 x 2 + off)(full, 3 windows, off)
    assert_eq!(space().grid_size(), Some(5 * 2 * 2 * 5 * 5));
    let keys: HashSet<String> = (1..=3)
        .map(|w| vec![("mode", "window".into()), ("window", Value::Integer(w))])
        .chain([vec![("mode", "full".into())]])
        .map(|settings| space().complete(&Configuration(vec![chosen("kv-cache", &settings)])).unwrap().key())
        .collect();
    assert_eq!(keys.len(), 4);
    let continuous = Space::new(&[technique("t", Stage::Inference, vec![real("x", 0.0, 1.0)])]).unwrap();
    assert_eq!(continuous.grid_size(), None);
}

#[test]
fn techniques_are_written_with_the_settings_that_differ_from_their_defaults() {
    let space = space();
    let written = |words: &str| space.parse(words).map_err(|e| e.to_string());
    assert_eq!(written("quant"), Ok(chosen("quant", &[])));
    assert_eq!(
        written("quant:format=Q4_0,importance=on"),
        Ok(chosen("quant", &[("format", "Q4_0".into()), ("importance", true.into())]))
    );
    assert_eq!(
        written("quant:format=Q9"),
        Err("`quant:format=Q9`: `format` must be one of Q8_0, Q4_0, not `Q9`".to_owned())
    );
    assert_eq!(
        written("quant:bits=4"),
        Err("`quant:bits=4`: `quant` has no parameter `bits`; it has: format, importance".to_owned())
    );
    assert_eq!(written("quant:format"), Err("`quant:format`: `format` is no setting: write NAME=VALUE".to_owned()));
    assert!(written("gptq").unwrap_err().starts_with("unknown technique `gptq`; known: "));
}

#[test]
fn two_techniques_that_provide_the_same_exclude_one_another() {
    let quantiser = |id: &str, tag: &str| {
        let mut technique = technique(id, Stage::Inference, vec![]);
        technique.description.provides = vec![tag.into()];
        technique
    };
    let space =
        Space::new(&[quantiser("gptq", "codes"), quantiser("awq", "codes"), quantiser("spin", "rotated")]).unwrap();
    let complete = |ids: [&str; 2]| space.complete(&Configuration(ids.map(|id| chosen(id, &[])).into()));
    let refused = complete(["gptq", "awq"]).unwrap_err().to_string();
    assert_eq!(refused, "techniques `awq` and `gptq` cannot be on together: both provide `codes`");
    assert!(complete(["gptq", "spin"]).is_ok());
}

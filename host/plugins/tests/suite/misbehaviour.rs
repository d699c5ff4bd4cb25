//! Plugins that trap, loop, take all memory, flood the log or answer nonsense: each costs one call, and is named.

use crate::support::{LLAMA, Llama, built_in, checkpoint_of, fault, model, single};
use aehost_common::{Code, Fault, Settings};
use aehost_engine::{Device, FloatType, LanguageModel, Model, Variant};
use aehost_formats::Dataset;
use aehost_plugins::{Baseline, Surroundings};
use aehost_study::{Observation, Observed, Problem, Strategy, StrategyFactory, TechniqueSpace, TrialId};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Applies a technique at level 3, and checks that the model stayed as it was.
fn apply(id: &str) -> Fault {
    let catalog = single(&fault(&format!("technique-{id}")));
    let mut variant = model();
    let before = variant.key();
    let settings = Settings::default().with("level", 3i64);
    let technique = catalog.technique(id).unwrap();
    let fault = technique.apply(&mut variant, &Surroundings::default(), &settings).unwrap_err();
    assert_eq!(variant.key(), before);
    assert_eq!(fault.code, Code::Internal);
    // A trap costs one call: the next one has a fresh instance.
    assert_eq!(technique.parameters(&variant, &Settings::default()).unwrap().len(), 1);
    fault
}

#[test]
fn a_trap_is_reported_with_the_panic_that_led_to_it() {
    let message = apply("trap").message;
    let (begin, rest) = message.split_once("src/lib.rs:").unwrap();
    assert!(begin.starts_with("technique `trap` 0.1.0 trapped in apply: panicked at "), "{message}");
    assert!(rest.ends_with("level 3 is more than this plugin can bear"), "{message}");
}

#[test]
fn an_endless_loop_ends_at_its_deadline() {
    let begin = Instant::now();
    assert_eq!(apply("loop").message, "technique `loop` 0.1.0 did not return from apply within 0.5 s of its own time");
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn endless_allocation_ends_at_the_memory_cap() {
    assert_eq!(apply("allocate").message, "technique `allocate` 0.1.0 needed more than 64 MiB of memory in apply");
}

#[test]
fn a_flood_of_messages_is_stopped() {
    assert_eq!(
        apply("flood").message,
        "technique `flood` 0.1.0 logged without end in apply: more than 10000 messages or 4 MiB"
    );
}

#[test]
fn a_family_that_builds_an_invalid_graph_is_told_the_node_and_what_was_expected() {
    let catalog = single(&fault("family-bad-graph"));
    for (architecture, expected) in [
        ("bad-weight", "node `lost` (linear): its slot `weight` names weight `nowhere.weight`, which does not exist"),
        ("bad-shape", "node `narrow` (linear): input `x` has width 128, expected 256"),
        ("bad-value", "node `early` (add): it reads value 4096, which does not exist"),
        ("bad-size", "node `vast` (attention): heads x head-dim is absurdly large"),
        ("bad-op", "node `strange` (convolution): op `convolution` is unknown; known: embedding, linear, "),
        ("bad-end", "the model has no output `logits`: its family did not finish it"),
    ] {
        let checkpoint = checkpoint_of(Llama { architecture, ..LLAMA });
        let mut variant = Variant::new(checkpoint.clone(), Some(FloatType::F32));
        let built = catalog.family_for(architecture).unwrap().build(&checkpoint, &mut variant);
        let message = match built {
            Err(fault) => fault.message,
            Ok(()) => Model::new(&variant, &Device::Cpu, 1).err().unwrap().to_string(),
        };
        assert!(message.contains(expected), "{architecture}: {message}");
    }
}

#[test]
fn a_default_outside_its_own_domain_breaks_the_contract() {
    let catalog = single(&fault("technique-bad-default"));
    let fault = catalog.technique("bad-default").unwrap().parameters(&model(), &Settings::default()).unwrap_err();
    assert_eq!(
        fault.full(),
        "technique `bad-default` 0.1.0 broke its contract in parameters: parameter `format` is malformed: its default Q9_0 \
         is outside its own domain, one of Q8_0, Q4_0"
    );
}

#[test]
fn a_metric_that_is_not_a_number_breaks_the_contract() {
    let variant = model();
    let tokenizer = Arc::new(variant.checkpoint().tokenizer().unwrap());
    let language = Arc::new(LanguageModel::new(&variant, tokenizer, &Device::Cpu, 1).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("two.jsonl");
    std::fs::write(&path, "{\"text\": \"one\"}\n{\"text\": \"two\"}\n").unwrap();
    let data = Arc::new(Dataset::open(&path).unwrap());
    let baseline: Baseline = {
        let language = language.clone();
        Arc::new(move || Ok(language.clone()))
    };

    let nan = single(&fault("evaluator-nan"));
    let fault = nan.evaluator("nan").unwrap().evaluate(&language, &baseline, &data, &[0, 1], &Settings::default());
    assert_eq!(
        fault.unwrap_err().message,
        "evaluator `nan` 0.1.0 broke its contract in evaluate: `quality` = NaN is not finite"
    );

    let perplexity = single(&built_in("evaluator-perplexity"));
    let evaluator = perplexity.evaluator("perplexity").unwrap();
    let settings =
        aehost_common::Parameter::complete(&evaluator.description().parameters, &Settings::default()).unwrap();
    let measured = evaluator.evaluate(&language, &baseline, &data, &[1, 0], &settings).unwrap();
    assert!(measured.iter().all(|m| m.value.is_finite() && m.samples.len() == 2), "{measured:?}");
}

fn problem(space: Vec<TechniqueSpace>) -> Problem {
    Problem {
        space,
        objectives: vec![],
        constraints: vec![],
        facts: Settings::default(),
        settings: Settings::default(),
        budget: 4,
        seed: 1,
        earlier: vec![],
    }
}

#[test]
fn a_strategy_that_trapped_is_never_entered_again() {
    let catalog = single(&fault("strategy-trap-in-tell"));
    let mut strategy = catalog.strategy("trap-in-tell").unwrap().start(&problem(vec![])).unwrap();
    let tell = |strategy: &mut dyn Strategy, trial| {
        let outcome = Observed::Failed { message: "none".into() };
        let configuration = aehost_study::Configuration::default();
        strategy.tell(&[Observation { trial: TrialId(trial), configuration, fidelity: 1.0, outcome }])
    };
    assert_eq!(strategy.ask(1).unwrap()[0].trial, TrialId(1));
    tell(strategy.as_mut(), 0).unwrap();
    let fault = tell(strategy.as_mut(), 1).unwrap_err();
    assert!(fault.message.starts_with("strategy `trap-in-tell` 0.1.0 trapped in tell: panicked at "), "{fault}");
    assert!(fault.message.ends_with("trial 1 is more than this plugin can bear"), "{fault}");
    assert_eq!(strategy.ask(1).unwrap_err(), fault);
}

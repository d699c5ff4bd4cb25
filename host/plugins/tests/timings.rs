//! How long plugins take, printed as JSON by `cargo test --release -p aehost-plugins --test timings -- --nocapture`. A
//! test binary of its own, so that nothing of this crate runs beside it; each figure is the best of a few, so that other
//! work on the machine does not count.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "suite/support/mod.rs"]
#[allow(dead_code, reason = "of what the suite shares, little is used here")]
mod support;

use aehost_plugins::{Catalog, Options, conformance};
use std::time::{Duration, Instant};
use support::{built_in, built_ins, options};

fn load(options: &Options) -> Duration {
    let begin = Instant::now();
    let catalog = Catalog::load(&[built_ins()], options).unwrap();
    let elapsed = begin.elapsed();
    assert!(catalog.refused().is_empty(), "{:?}", catalog.refused());
    assert!(catalog.plugins().count() >= 10);
    elapsed
}

/// Mean of the last 20 rounds of ask and tell out of 200, in milliseconds.
fn round(strategy: &str) -> f64 {
    let done = conformance(&built_in(strategy), &options(), None).unwrap();
    let round = done.checks.iter().find(|c| c.promise.starts_with("asks and tells")).unwrap();
    round.detail.trim_end_matches(" ms").parse().unwrap()
}

#[test]
fn plugins_load_and_strategies_answer_in_time() {
    let fresh = || {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { cache: Some(folder.path().join("compiled")), ..Options::default() };
        let cold = load(&options);
        (cold, (0..3).map(|_| load(&options)).min().unwrap())
    };
    let (mut cold, mut cached) = fresh();
    for _ in 0..2 {
        let (again, again_cached) = fresh();
        (cold, cached) = (cold.min(again), cached.min(again_cached));
    }
    let rounds: Vec<(&str, f64)> = ["strategy-random", "strategy-nsga2"]
        .map(|strategy| (strategy, (0..3).map(|_| round(strategy)).fold(f64::INFINITY, f64::min)))
        .to_vec();
    let mut figures = serde_json::Map::new();
    figures.insert("load_cold_ms".into(), (cold.as_secs_f64() * 1e3).into());
    figures.insert("load_cached_ms".into(), (cached.as_secs_f64() * 1e3).into());
    for (strategy, milliseconds) in &rounds {
        figures.insert(format!("{strategy}_ask_tell_ms"), (*milliseconds).into());
    }
    println!("{}", serde_json::Value::from(figures));
    let plugins = std::fs::read_dir(built_ins()).unwrap().count() as u32;
    assert!(cold < plugins * Duration::from_millis(150), "cold: {cold:?} for {plugins} plugins");
    assert!(cached < Duration::from_millis(50), "cached: {cached:?}");
    assert!(rounds.iter().all(|(_, milliseconds)| *milliseconds < 1.0), "{rounds:?}");
}

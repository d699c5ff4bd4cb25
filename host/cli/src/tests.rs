//! Flags over study file over defaults, and the examples that are handed out.

use crate::arguments::{Cli, Command};
use crate::commands::run::Arguments;
use aehost_study::{StudyFile, TimeLimit};
use clap::{CommandFactory, Parser};
use std::path::Path;

fn run(words: &[&str]) -> Arguments {
    match Cli::try_parse_from(["aehost", "run"].iter().chain(words)).unwrap().command {
        Command::Run(arguments) => *arguments,
        other => panic!("{other:?}"),
    }
}

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name).display().to_string()
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_full_example_is_the_default_study() {
    let full = run(&[&example("full.toml")]).study_file().unwrap();
    assert_eq!(full.study, StudyFile::default().study);
    let mut default = run(&[]).study_file().unwrap();
    for evaluator in default.evaluator.iter_mut() {
        // The example writes out what plugins and the command line fill in.
        let named = full.evaluator.iter().find(|e| e.id == evaluator.id).unwrap();
        assert_eq!((named.items, named.confirm_items), (evaluator.items, evaluator.confirm_items));
        evaluator.data.clone_from(&named.data);
        evaluator.settings.clone_from(&named.settings);
    }
    default.calibration.clone_from(&full.calibration);
    assert_eq!(full, default);
}

#[test]
fn every_example_is_a_valid_study() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            run(&[path.to_str().unwrap()]).study_file().unwrap();
            seen += 1;
        }
    }
    assert!(seen >= 3);
}

#[test]
fn flags_lie_over_the_study_file() {
    let words = [
        "--model",
        "m.gguf",
        "--evaluator",
        "perplexity:book.txt",
        "--trials",
        "7",
        "--time",
        "2m",
        "--seed",
        "9",
        "--constraint",
        "memory.peak <= 150MiB",
        "--strategy",
        "grid",
        "--threads",
        "3",
        "--no-confirm",
        "--study",
        "s",
    ];
    let example = example("chat-latency.toml");
    let file = run(&[&[example.as_str()], &words[..]].concat()).study_file().unwrap();
    assert_eq!((file.study.model.as_str(), file.study.seed, file.study.confirm), ("m.gguf", 9, false));
    assert_eq!((file.study.threads, file.study.name.as_deref()), (Some(3), Some("s")));
    assert_eq!((file.budget.trials(), file.budget.time()), (7, TimeLimit(Some(120.0))));
    assert_eq!(file.strategy.id, "grid");
    let evaluators: Vec<_> = file.evaluator.iter().map(|e| (e.id.as_str(), e.data.as_deref())).collect();
    assert_eq!(evaluators, [("perplexity", Some("book.txt"))]);
    let constraints: Vec<_> = file.study.constraints.iter().map(|c| c.text.as_str()).collect();
    assert_eq!(constraints, ["memory.peak <= 150MiB"]);
    assert_eq!(file.scenario.output_tokens, 96, "what no flag names stays as in the file");
    assert!(run(&["--no-confirm", "--confirm"]).study_file().unwrap().study.confirm, "the last one counts");
}

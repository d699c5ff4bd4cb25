//! What the program says of bad input, of plugins that misbehave, and of being interrupted, word for word.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use aehost_formats::gguf::Writer;
use aehost_tests::{Bed, built_in, fault, model};
use serde_json::{Value, json};
use std::process::{Child, Output};
use std::time::{Duration, Instant};

/// Runs the bed's study with more words; it must be refused before or at its baseline, and leave no study behind.
fn refused(bed: &Bed, words: &[&str]) -> (i32, String) {
    let (code, said) = bed.refused(&[&["run", "study.toml", "--study", "s"], words].concat());
    assert_eq!(bed.json(&["list"]), json!([]), "{said}");
    let error = said.split_once("error: ").unwrap_or_else(|| panic!("no error in: {said}")).1;
    (code, error.to_owned())
}

fn refused_model(make: impl FnOnce() -> Writer<'static>) -> (i32, String) {
    let bed = Bed::default();
    make().save(&bed.path("model.gguf")).unwrap();
    refused(&bed, &[])
}

#[test]
fn a_truncated_model_is_refused_with_the_tensor_that_is_cut() {
    let bed = Bed::default();
    let mut bytes = std::fs::read(bed.path("model.gguf")).unwrap();
    bytes.truncate(bytes.len() - 50_000);
    bed.write("model.gguf", &bytes);
    let (code, said) = refused(&bed, &[]);
    let (begin, end) = said.split_once(" needs 8192 bytes at offset ").unwrap_or_else(|| panic!("{said}"));
    assert_eq!((code, begin), (1, "HOME/model.gguf: truncated: tensor `blk.3.attn_output.weight`"));
    assert!(end.ends_with(&format!(", but the file has {}; fetch it again\n", bytes.len())), "{said}");
}

#[test]
fn a_file_with_the_wrong_magic_is_refused() {
    let bed = Bed::default();
    bed.write("model.gguf", "PK\x03\x04 is a zip file");
    let expected = "HOME/model.gguf: magic: starts with \"PK\\x03\\x04\" instead of \"GGUF\"; the file is damaged or not \
                    what its name says: fetch or convert it again\n";
    assert_eq!(refused(&bed, &[]), (1, expected.into()));
}

#[test]
fn an_architecture_that_no_family_builds_is_refused_with_those_that_are_known() {
    let made = refused_model(|| {
        let mut writer = model::llama(model::TINY);
        writer.set("general.architecture", "mamba");
        writer
    });
    let known = "deepseek2, deepseek_v2, gemma2, gemma3, gemma3_text, granite, idefics3, smolvlm, llama, mistral, \
                 mixtral, olmo2, phi3, qwen2, qwen2moe, qwen2_moe, qwen3, qwen3moe, qwen3_moe, starcoder2";
    assert_eq!(made, (1, format!("no family builds architecture `mamba`; known: {known}\n")));
}

#[test]
fn a_model_without_tokenizer_is_refused() {
    let expected = "HOME/model.gguf: no `tokenizer.ggml.model`; the file has no usable tokenizer: convert the model \
                    again, with its tokenizer files beside it\n";
    assert_eq!(refused_model(|| model::without_tokenizer(model::TINY)), (1, expected.into()));
}

#[test]
fn training_data_that_evaluation_uses_is_refused_before_anything_is_measured() {
    let bed = Bed::default();
    let rows = std::fs::read_to_string(bed.path("questions.jsonl")).unwrap();
    let own = "{\"prompt\": \"What is \", \"answer\": \"that?\"}\n";
    bed.write("rows.jsonl", format!("{own}{}\n{own}", rows.lines().nth(3).unwrap()));
    let expected = "1 of 3 rows of the training data `rows` are rows of the evaluation data `questions` (row 1): train on other \
                    data, named under `training` in the study file\n";
    assert_eq!(refused(&bed, &["--training", "rows.jsonl"]), (1, expected.into()));
    let said = "there is no training data\n  cause: `none.jsonl` is neither a file nor a known data set: check the path, or \
         choose a name from `aehost data list`\n";
    assert_eq!(refused(&bed, &["--training", "none.jsonl"]), (2, said.into()));
}

#[test]
fn a_companion_with_another_vocabulary_is_refused() {
    let bed = Bed::default();
    let mut other = model::llama(model::TINY);
    let tokens = (0..288).map(|n| if n < 288 - 1 { format!("<{n}>") } else { "last".into() }).collect();
    other.set("tokenizer.ggml.tokens", aehost_formats::gguf::Value::Strings(tokens));
    other.save(&bed.path("other.gguf")).unwrap();
    let expected = "companion HOME/other.gguf: it needs the vocabulary of the model beside which it is used, but token 0 is \
                    \"<0>\" there, and \"\u{100}\" here\n";
    assert_eq!(refused(&bed, &["--companion", "other.gguf"]), (1, expected.into()));
    let said =
        "`none.gguf` is neither a file nor a known model: check the path, or choose a name from `aehost model list`\n";
    assert_eq!(refused(&bed, &["--companion", "none.gguf"]), (2, said.into()));
}

#[test]
fn a_model_that_lacks_metadata_is_refused_with_the_key() {
    let made = refused_model(|| {
        let mut writer = Writer::new();
        writer.set("general.architecture", "llama");
        writer
    });
    let expected = "family `llama` 0.1.0: the checkpoint's metadata lacks `llama.embedding_length` (an integer)\n";
    assert_eq!(made, (1, expected.into()));
}

#[test]
fn an_unknown_key_of_the_study_file_is_shown_in_its_line() {
    let bed = Bed::default();
    bed.study(&[("confirm-items = 12", "itemz = 8")]);
    let (code, said) = refused(&bed, &[]);
    assert_eq!(code, 2);
    let expected = "study file study.toml: TOML parse error at line 14, column 1\n   |\n14 | itemz = 8\n   | ^^^^^\n\
                    unknown field `itemz`, expected one of `id`, `data`, `items`, `confirm-items`, `settings`\n";
    assert_eq!(said, expected);
}

#[test]
fn a_constraint_on_an_unknown_metric_is_refused_with_those_that_are_measured() {
    let bed = Bed::default();
    let (code, said) = refused(&bed, &["--constraint", "multiple-choice.f1 >= 30 %"]);
    let expected = "constraint \"multiple-choice.f1 >= 30 %\": unknown metric `multiple-choice.f1`; this study measures: \
                    latency.ttft_ms, latency.tpot_ms, latency.e2e_ms, ";
    assert!(code == 2 && said.starts_with(expected), "{code}: {said}");
    assert!(said.contains(", multiple-choice.acc_norm, "), "{said}");
}

#[test]
fn data_without_answers_is_refused_with_the_row() {
    let bed = Bed::default();
    bed.write("questions.jsonl", "{\"context\": \"one\", \"choices\": [\"a\", \"b\"]}\n");
    let expected = "the baseline could not be measured (plugin-error): evaluator `multiple-choice` 0.1.0: \
                    row 1 of `questions`: `answer` is missing; use data with the right answers in it\n";
    assert_eq!(refused(&bed, &[]), (1, expected.into()));
}

#[test]
fn empty_data_is_refused() {
    for name in ["questions.jsonl", "text.txt"] {
        let bed = Bed::default();
        bed.write(name, "");
        let expected =
            format!("HOME/{name}: no rows; an evaluation needs at least one: check that the file is whole\n");
        assert_eq!(refused(&bed, &[]), (1, expected));
    }
}

/// A bed whose folder `plugins` holds what a study needs, one small technique, and one plugin that misbehaves.
fn bed_with(name: &str) -> Bed {
    let bed = Bed::default();
    std::fs::create_dir(bed.path("plugins")).unwrap();
    let needed = ["family-llama", "evaluator-multiple-choice", "evaluator-perplexity", "strategy-grid"];
    for plugin in needed.into_iter().chain(["technique-depth-pruning"]) {
        std::fs::copy(built_in().join(format!("{plugin}.wasm")), bed.path(&format!("plugins/{plugin}.wasm"))).unwrap();
    }
    std::fs::copy(fault(name), bed.path(&format!("plugins/{name}.wasm"))).unwrap();
    bed
}

fn run_with(bed: &Bed, words: &[&str]) -> Output {
    bed.run(&[&["run", "study.toml", "--study", "s", "--plugins", "plugins", "--strategy", "grid"], words].concat())
}

/// Outcomes of the trials after the baseline, with what was on.
fn outcomes(bed: &Bed) -> Vec<(String, Value)> {
    let show = bed.json(&["show", "s"]);
    let trials = show["trials"].as_array().unwrap()[1..].iter();
    let techniques = |trial: &Value| {
        let choices = trial["configuration"].as_array().unwrap().iter();
        choices.map(|choice| choice["technique"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    trials.map(|trial| (techniques(trial), trial["outcome"].clone())).collect()
}

/// Runs a study with a technique that fails when it is applied, and returns what its trials say of it. A trial without it
/// is measured all the same.
fn told_of_technique(id: &str, words: &[&str]) -> Vec<String> {
    let bed = bed_with(&format!("technique-{id}"));
    let output = run_with(&bed, words);
    assert_eq!(output.status.code(), Some(0), "{}", bed.told(&output.stderr));
    let outcomes = outcomes(&bed);
    let (with, without): (Vec<_>, Vec<_>) = outcomes.iter().partition(|(on, _)| on.split(' ').any(|t| t == id));
    assert!(without.iter().all(|(_, outcome)| outcome["kind"] == "ok"), "{without:?}");
    let told = with.iter().map(|(_, outcome)| {
        assert_eq!(outcome["kind"], "plugin-error");
        outcome["fault"]["message"].as_str().unwrap().to_owned()
    });
    told.collect()
}

#[test]
fn a_technique_that_traps_costs_its_trials_and_is_named() {
    let told = told_of_technique("trap", &[]);
    assert!(!told.is_empty());
    for message in told {
        assert!(message.starts_with("technique `trap` 0.1.0 trapped in apply: panicked at "), "{message}");
        assert!(message.ends_with(" is more than this plugin can bear"), "{message}");
    }
}

#[test]
fn a_technique_that_never_returns_costs_its_trial_and_is_named() {
    // The time is up after the first such trial.
    let told = told_of_technique("loop", &["--time", "8s"]);
    assert!(!told.is_empty());
    for message in told {
        assert_eq!(message, "technique `loop` 0.1.0 did not return from apply within 10 s of its own time");
    }
}

#[test]
fn a_technique_that_allocates_without_end_costs_its_trials_and_is_named() {
    let told = told_of_technique("allocate", &[]);
    assert!(!told.is_empty());
    for message in told {
        assert_eq!(message, "technique `allocate` 0.1.0 needed more than 256 MiB of memory in apply");
    }
}

#[test]
fn a_technique_with_a_default_outside_its_own_domain_is_refused() {
    let bed = bed_with("technique-bad-default");
    let output = run_with(&bed, &[]);
    assert_eq!(
        (output.status.code(), bed.told(&output.stderr).as_str()),
        (
            Some(1),
            "error: technique `bad-default` 0.1.0 broke its contract in parameters: parameter `format` is malformed: its \
             default Q9_0 is outside its own domain, one of Q8_0, Q4_0\n"
        )
    );
}

#[test]
fn settings_outside_their_domain_cost_a_trial_and_the_strategy_is_named() {
    let bed = bed_with("strategy-bad-domain");
    let words =
        ["run", "study.toml", "--study", "s", "--plugins", "plugins", "--strategy", "bad-domain", "--trials", "3"];
    let output = bed.run(&words);
    assert_eq!(output.status.code(), Some(0), "{}", bed.told(&output.stderr));
    let outcomes = outcomes(&bed);
    assert_eq!(outcomes.len(), 2);
    for (_, outcome) in outcomes {
        let fault = json!({
            "code": "invalid-input",
            "message": "strategy bad-domain 0.1.0 proposed what lies outside the search space",
            "causes": ["technique `depth-pruning`: drop = nonsense is outside its domain, 1 to 1"],
        });
        assert_eq!(outcome, json!({"kind": "plugin-error", "fault": fault}));
    }
}

#[test]
fn a_metric_that_is_not_a_number_is_refused_at_the_baseline() {
    let bed = bed_with("evaluator-nan");
    let words = ["--plugins", "plugins", "--strategy", "grid", "--evaluator", "nan:text.txt"];
    let expected = "the baseline could not be measured (plugin-error): evaluator `nan` 0.1.0 broke its contract in \
                    evaluate: `quality` = NaN is not finite\n";
    assert_eq!(refused(&bed, &words), (1, expected.into()));
}

#[test]
fn a_strategy_that_traps_ends_the_study_and_is_named() {
    let bed = bed_with("strategy-trap-in-tell");
    let output = bed.run(&["run", "study.toml", "--study", "s", "--plugins", "plugins", "--strategy", "trap-in-tell"]);
    let said = bed.told(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected =
        "error: strategy trap-in-tell 0.1.0 failed in `tell`: strategy `trap-in-tell` 0.1.0 trapped in tell: ";
    assert!(said.contains(expected) && said.ends_with("trial 1 is more than this plugin can bear\n"), "{said}");
    assert_eq!(outcomes(&bed).len(), 1, "what was measured is kept");
}

#[test]
fn plugins_that_cannot_be_loaded_are_named_and_the_study_goes_on_without_them() {
    for (name, expected) in [
        (
            "technique-future",
            "warning: not loaded: plugin `technique-future` needs aehost:plugin@0.9.0, this host offers 0.1: upgrade aehost\n",
        ),
        (
            "technique-unknown-import",
            "warning: not loaded: plugin `technique-unknown-import` imports `aehost:plugin/telepathy@0.1.0`, which was not granted: this host does not offer it; upgrade aehost\n",
        ),
        ("not-a-plugin", "warning: not loaded: `HOME/plugins/not-a-plugin.wasm` is a component, but no plugin: "),
    ] {
        let bed = bed_with(name);
        let output = run_with(&bed, &["--trials", "2"]);
        let said = bed.told(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains(expected), "`{expected}` is missing from:\n{said}");
    }
}

#[test]
fn a_database_of_a_newer_program_is_left_alone() {
    let bed = Bed::default();
    assert_eq!(bed.json(&["list"]), json!([]));
    let database = rusqlite::Connection::open(bed.path("aehost.db")).unwrap();
    let known: i32 = database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    database.pragma_update(None, "user_version", known + 1).unwrap();
    drop(database);
    let before = std::fs::read(bed.path("aehost.db")).unwrap();
    let newer = known + 1;
    let expected = format!(
        "error: the store HOME/aehost.db was written by a newer aehost (schema {newer}; this one knows up to {known}): \
         upgrade aehost\n"
    );
    for words in [&["list"][..], &["run", "study.toml"], &["resume", "s"]] {
        assert_eq!(bed.refused(words), (1, expected.clone()), "{words:?}");
    }
    assert_eq!(std::fs::read(bed.path("aehost.db")).unwrap(), before);
}

/// Starts a study that takes a while, and returns when its first trial after the baseline is stored: what is left takes
/// many times longer than a test needs to step in, on a slow machine as on a fast one.
fn begin(bed: &Bed, words: &[&str]) -> Child {
    bed.study(&[("trials = 6", "trials = 8"), ("repeats = 2", "repeats = 100")]);
    let mut host = bed.start(&[&["run", "study.toml", "--study", "s"], words].concat());
    // Only a study that hangs gets so far; one that fails is noticed at once.
    let deadline = Instant::now() + Duration::from_secs(900);
    let store = words.iter().position(|word| *word == "--store").map_or(&[][..], |at| &words[at..at + 2]);
    while bed.json(&[&["list"], store].concat())[0]["trials"].as_u64().is_none_or(|trials| trials < 2) {
        if let Some(status) = host.try_wait().unwrap() {
            let said = host.wait_with_output().unwrap().stderr;
            panic!("the study ended with {status}: {}", bed.told(&said));
        }
        assert!(Instant::now() < deadline, "the study does not get on");
        std::thread::sleep(Duration::from_millis(10));
    }
    host
}

fn interrupt(host: &Child) {
    // SAFETY: kill(2) touches no memory; the process was started by this test and is not reaped yet.
    unsafe { libc::kill(host.id() as libc::pid_t, libc::SIGINT) };
}

#[test]
fn ctrl_c_leaves_a_study_that_can_be_resumed_and_says_how() {
    let bed = Bed::default();
    let host = begin(&bed, &[]);
    interrupt(&host);
    let output = host.wait_with_output().unwrap();
    let said = bed.told(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0), "{said}");
    assert!(said.contains("stopping; press Ctrl-C again to end at once (nothing that was stored is lost)\n"), "{said}");
    assert!(said.ends_with("Stopped; every finished trial is stored. Go on with: aehost resume s\n"), "{said}");

    let stopped = bed.json(&["show", "s"]);
    let before = stopped["trials"].as_array().unwrap();
    assert!((2..8).contains(&before.len()));
    assert_eq!(bed.json(&["list"])[0]["ended"], Value::Null);
    bed.json(&["resume", "s"]);
    let resumed = bed.json(&["show", "s"]);
    let after = resumed["trials"].as_array().unwrap();
    assert_eq!((after.len(), &after[..before.len()]), (8, &before[..]));
}

#[test]
fn under_json_an_interruption_is_one_line_that_a_program_can_read() {
    let bed = Bed::default();
    let host = begin(&bed, &["--store", "other.db", "--json"]);
    interrupt(&host);
    let output = host.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0));
    let said: Value = serde_json::from_slice(&output.stderr).unwrap();
    let expected = json!({
        "error": {"code": "interrupted", "message": "the study was stopped", "causes": []},
        "resume": "aehost resume s --store other.db",
    });
    assert_eq!(said, expected);
}

#[test]
fn a_study_is_run_by_one_process_at_a_time() {
    let bed = Bed::default();
    let host = begin(&bed, &[]);
    let expected = format!(
        "error: study `s` is being run by another aehost (process {}): wait until it ends, or stop it first\n",
        host.id()
    );
    assert_eq!(bed.refused(&["resume", "s"]), (1, expected));
    let exists = "error: study `s` exists already in HOME/aehost.db: continue it with `aehost resume s`, or choose another \
                  name with --study\n";
    assert_eq!(bed.refused(&["run", "study.toml", "--study", "s"]), (2, exists.into()));
    let output = host.wait_with_output().unwrap();
    assert!(output.status.success(), "the first one is not disturbed: {}", bed.told(&output.stderr));
}

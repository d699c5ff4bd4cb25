//! The program as its users and their scripts meet it, without a model: help, exit codes, and what it says of bad input.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `aehost` in an empty folder of its own, which is its home, too.
fn aehost(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aehost"))
        .args(words)
        .current_dir(folder)
        .env("AEHOST_HOME", folder)
        .env("COLUMNS", "100")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Exit code and standard error, with the folder called `HOME`.
fn refused(folder: &Path, words: &[&str]) -> (i32, String) {
    let output = aehost(folder, words);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{words:?}");
    let said = String::from_utf8(output.stderr).unwrap().replace(&*folder.to_string_lossy(), "HOME");
    (output.status.code().unwrap(), said)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn help_of_every_command_is_as_committed() {
    let folder = folder();
    let mut text = String::new();
    for words in [
        "",
        "run",
        "resume",
        "list",
        "show",
        "pareto",
        "report",
        "export-json",
        "delete",
        "generate",
        "evaluate",
        "bench",
        "plugins",
        "plugins list",
        "plugins inspect",
        "plugins install",
        "plugins remove",
        "plugins test",
        "model",
        "model pull",
        "data",
        "hardware",
    ] {
        let mut words: Vec<&str> = words.split_whitespace().collect();
        words.push("--help");
        let output = aehost(folder.path(), &words);
        assert!(output.status.success());
        text += &format!("$ aehost {}\n{}\n", words.join(" "), String::from_utf8(output.stdout).unwrap());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
    if std::env::var_os("AEHOST_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(
        text == committed,
        "the help has changed: look at it, and run this test with AEHOST_UPDATE_SNAPSHOTS=1\n{text}"
    );
}

#[test]
fn bad_flags_end_with_code_2_and_say_what_to_write() {
    let folder = folder();
    let (code, said) = refused(folder.path(), &["run", "--constraint", "memory.peak < 150 MiB"]);
    assert_eq!(code, 2);
    let expected = "error: invalid value 'memory.peak < 150 MiB' for '--constraint <METRIC <= BOUND>': constraint \
                    \"memory.peak < 150 MiB\" has no operator: write METRIC <= BOUND or METRIC >= BOUND";
    assert_eq!(said.lines().next().unwrap(), expected);
    let (code, said) = refused(folder.path(), &["run", "--time", "soon"]);
    assert_eq!(code, 2);
    let expected =
        "error: invalid value 'soon' for '--time <TIME>': `soon` is no time: write it like 90s, 30m, 1h30m, or none";
    assert_eq!(said.lines().next().unwrap(), expected);
    let (code, said) = refused(folder.path(), &["generate", "--trial", "3", "hello"]);
    assert_eq!(code, 2);
    assert!(said.contains("--study <NAME>"), "{said}");
    assert_eq!(
        refused(folder.path(), &["run", "--resume"]),
        (
            2,
            "error: --resume needs the name of the study: give it with --study NAME, or use `aehost resume NAME`\n"
                .into()
        )
    );
}

#[test]
fn bad_study_files_are_named_with_the_line() {
    let folder = folder();
    let file = folder.path().join("study.toml");
    let said = |text: &str| {
        std::fs::write(&file, text).unwrap();
        refused(folder.path(), &["run", "study.toml"])
    };
    let (code, message) = said("[study]\nmodle = \"x\"\n");
    assert_eq!(code, 2);
    assert!(message.starts_with("error: study file study.toml: TOML parse error at line 2, column 1"), "{message}");
    assert!(
        message.contains("unknown field `modle`, expected one of `name`, `model`, `companions`, `reference`"),
        "{message}"
    );
    assert_eq!(
        said("[budget]\ntrials = 0\n"),
        (2, "error: budget.trials is 0: the baseline is the first trial, so write at least 1\n".into())
    );
    assert_eq!(
        refused(folder.path(), &["run", "absent.toml"]),
        (2, "error: cannot read the study file absent.toml: No such file or directory (os error 2)\n".into())
    );
}

#[test]
fn plugins_that_are_not_there_are_told_from_plugins_that_are_not_built() {
    let folder = folder();
    let none = "error: no plugins are installed in HOME/plugins: give a folder with --plugins DIR, or install some with \
                `aehost plugins install FILE`\n";
    assert_eq!(refused(folder.path(), &["run"]), (2, none.into()));
    assert_eq!(refused(folder.path(), &["plugins", "list"]), (2, none.into()));
    assert_eq!(
        refused(folder.path(), &["run", "--plugins", "absent"]),
        (2, "error: the plugin folder absent does not exist: check --plugins\n".into())
    );
    let source = folder.path().join("sources/techniques/mine");
    std::fs::create_dir_all(&source).unwrap();
    assert_eq!(
        refused(folder.path(), &["run", "--plugins", "sources"]),
        (2, "error: sources holds no plugin: a plugin is a WebAssembly component, a file *.wasm\n".into())
    );
    std::fs::write(source.join("Cargo.toml"), "").unwrap();
    let unbuilt =
        "error: sources holds sources of plugins, but no built ones: run `cargo xtask plugins`, then this again\n";
    assert_eq!(refused(folder.path(), &["run", "--plugins", "sources"]), (2, unbuilt.into()));
}

#[test]
fn studies_that_are_not_there_are_named_with_those_that_are() {
    let folder = folder();
    for words in [&["show", "x"][..], &["resume", "x"], &["pareto", "x"], &["export-json", "x"], &["delete", "x"]] {
        assert_eq!(
            refused(folder.path(), words),
            (2, "error: there is no study `x` in HOME/aehost.db; there are: none\n".into()),
            "{words:?}"
        );
    }
}

#[test]
fn files_that_are_no_store_are_left_alone() {
    let folder = folder();
    let path = folder.path().join("notes.db");
    std::fs::write(
        &path,
        "these are my notes, and no database; they are longer than a header of SQLite, which has 100 bytes",
    )
    .unwrap();
    let before = std::fs::read(&path).unwrap();
    let (code, said) = refused(folder.path(), &["list", "--store", "notes.db"]);
    assert_eq!(
        (code, said.as_str()),
        (1, "error: notes.db is not a store of aehost: choose another file with --store\n")
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn under_json_only_json_is_written_and_errors_are_one_line_of_it() {
    let folder = folder();
    let list = aehost(folder.path(), &["list", "--json"]);
    assert_eq!((list.status.code(), String::from_utf8(list.stdout).unwrap().as_str()), (Some(0), "[]\n"));
    let models = aehost(folder.path(), &["model", "list", "--json"]);
    let models: serde_json::Value = serde_json::from_slice(&models.stdout).unwrap();
    assert_eq!(models[0]["name"], "smollm2-135m-instruct");
    for (words, code) in [(&["show", "x", "--json"][..], 2), (&["--json", "run", "--trials", "none"], 2)] {
        let output = aehost(folder.path(), words);
        assert_eq!(output.status.code(), Some(code));
        assert!(output.stdout.is_empty());
        let told: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(told["error"]["code"], "usage");
        assert!(told["error"]["message"].as_str().unwrap().len() > 10 && told["error"]["causes"].is_array());
    }
}

#[test]
fn names_that_nobody_knows_are_refused_with_where_to_look() {
    let folder = folder();
    assert_eq!(
        refused(folder.path(), &["model", "pull", "gpt-9"]),
        (2, "error: there is no `gpt-9` to fetch; there are: smollm2-135m-instruct, gemma-3-270m\n".into())
    );
    assert_eq!(
        refused(folder.path(), &["plugins", "remove", "mine"]),
        (2, "error: no plugin `mine` is installed; installed: none\n".into())
    );
}

#[test]
fn a_model_that_is_neither_file_nor_name_is_refused_as_it_was_written() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("some")).unwrap();
    std::fs::write(folder.path().join("some/plugin.wasm"), "not wasm").unwrap();
    let words = ["generate", "--plugins", "some", "--model", "nope.gguf", "hello"];
    let (code, said) = refused(folder.path(), &words);
    assert_eq!(code, 2);
    assert_eq!(
        said,
        "error: `nope.gguf` is neither a file nor a known model: check the path, or choose a name from `aehost model list`\n"
    );
}

#[test]
fn a_pipe_that_closes_early_is_no_error() {
    let folder = folder();
    let mut child = Command::new(env!("CARGO_BIN_EXE_aehost"))
        .args(["hardware", "--json"])
        .env("AEHOST_HOME", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

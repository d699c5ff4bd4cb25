//! What the end-to-end tests share: a folder of their own with a tiny model, data and a study file, and the built program
//! at work in it. The tests themselves stand beside this folder, a file a subject.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod model;

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// The folder of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace")
}

/// The program that cargo built beside this test. Panics when it is not there.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    let program = folder.join("aehost");
    assert!(program.is_file(), "{} is missing: run `cargo build --release -p aehost` first", program.display());
    program
}

/// The built-in plugins. Panics when they were not built.
pub fn built_in() -> PathBuf {
    let folder = root().join("plugins/dist");
    assert!(folder.is_dir(), "{} is missing: run `cargo xtask plugins` first", folder.display());
    folder
}

/// A plugin that misbehaves, as `technique-trap`. Panics when they were not built.
pub fn fault(name: &str) -> PathBuf {
    let path = target().join(format!("fault-plugins/{name}.wasm"));
    assert!(path.is_file(), "{} is missing: run `cargo xtask plugins --set faults` first", path.display());
    path
}

fn target() -> PathBuf {
    program().ancestors().nth(2).expect("the program lies in target/PROFILE").to_owned()
}

/// A folder with `model.gguf`, `questions.jsonl`, `text.txt` and `study.toml`, which is the home of the program, too.
pub struct Bed {
    folder: TempDir,
}

/// The study file of most tests: proposals do not depend on what was measured, and a trial takes a moment.
const STUDY: &str = r#"
[study]
model = "model.gguf"
threads = 1
plugins = ["PLUGINS"]
objectives = ["accuracy", "latency.e2e", "memory.peak"]
constraints = ["memory.peak <= 100 GiB"]
confirm = false

[[evaluator]]
id = "multiple-choice"
data = "questions.jsonl"
items = 8
confirm-items = 12

[[evaluator]]
id = "perplexity"
data = "text.txt"
items = 1

[scenario]
prompt-tokens = 80
output-tokens = 4
repeats = 2

[strategy]
id = "random"

[budget]
trials = 6

[calibration]
data = "text.txt"
tokens = 256
"#;

impl Default for Bed {
    fn default() -> Self {
        Self::of(model::TINY)
    }
}

impl Bed {
    /// A bed with a model of these sizes.
    pub fn of(sizes: model::Sizes) -> Self {
        let bed = Self { folder: tempfile::tempdir().unwrap() };
        model::llama(sizes).save(&bed.path("model.gguf")).unwrap();
        let question = |n: usize| {
            format!(
                "{{\"context\": \"Question {n}: what comes?\", \"choices\": [\"one\", \"another\", \"none\"], \"answer\": {}}}\n",
                n % 3
            )
        };
        bed.write("questions.jsonl", (0..12).map(question).collect::<String>());
        let sentence = |n: usize| format!("Sentence {n} of a story in which little happens, and slowly.\n\n");
        bed.write("text.txt", (0..40).map(sentence).collect::<String>());
        few(&bed.path("few"));
        bed.study(&[]);
        std::fs::create_dir(bed.path("run")).unwrap();
        copy_new(&compiled(), &bed.path("compiled"));
        bed
    }

    /// Writes `study.toml` with some of its words replaced.
    pub fn study(&self, changes: &[(&str, &str)]) {
        let mut text = STUDY.replace("PLUGINS", &self.path("few").display().to_string());
        for (from, to) in changes {
            assert!(text.contains(from), "the study file has no `{from}`");
            text = text.replace(from, to);
        }
        self.write("study.toml", &text);
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// The program with these words, not yet started.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(words).current_dir(self.folder.path()).env("AEHOST_HOME", self.folder.path());
        // A lease of its own: tests run side by side, and the lease is not handed round in turn, so that the studies of
        // others could keep this one waiting for as long as they last.
        command.env("XDG_RUNTIME_DIR", self.path("run"));
        command.env_remove("RUST_BACKTRACE").env("COLUMNS", "100").stdin(Stdio::null());
        command
    }

    /// Starts the program and leaves it at work.
    pub fn start(&self, words: &[&str]) -> Child {
        self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs the program to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What the program writes when it is fed this.
    pub fn fed(&self, words: &[&str], input: &str) -> String {
        let mut child = self.command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    /// The JSON that a command writes; standard output holds nothing else, and standard error nothing.
    pub fn json(&self, words: &[&str]) -> Value {
        let output = self.run(&[words, &["--json"]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words:?}: {}\n{said}", output.status);
        assert_eq!(said, "", "{words:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    /// Exit code and standard error of a command that refuses its input, with this folder called `HOME`.
    pub fn refused(&self, words: &[&str]) -> (i32, String) {
        let output = self.run(words);
        let said = self.told(&output.stderr);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{words:?}: {said}");
        (output.status.code().expect("it was not ended by a signal"), said)
    }

    /// What was said, with this folder called `HOME`.
    pub fn told(&self, said: &[u8]) -> String {
        String::from_utf8(said.to_owned()).unwrap().replace(&*self.folder.path().to_string_lossy(), "HOME")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        copy_new(&self.path("compiled"), &compiled());
    }
}

/// A folder of the built-in plugins, of techniques only those of which few trials show all combinations.
fn few(folder: &Path) {
    const TECHNIQUES: [&str; 3] = ["blocked-quantization", "depth-pruning", "kv-cache"];
    std::fs::create_dir(folder).unwrap();
    for entry in std::fs::read_dir(built_in()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if name.strip_prefix("technique-").is_none_or(|id| TECHNIQUES.contains(&id)) {
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// Compiled plugins, kept from one test to the next: compiling them takes longer than most tests.
fn compiled() -> PathBuf {
    target().join("tmp/aehost-tests-compiled")
}

/// Copies files that are not there yet. Whatever cannot be copied is compiled again.
fn copy_new(from: &Path, to: &Path) {
    let _ = std::fs::create_dir_all(to);
    for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
        let (source, path) = (entry.path(), to.join(entry.file_name()));
        // Tests run side by side: nobody may find half a file.
        let partial = tempfile::Builder::new().tempfile_in(to);
        if let (false, Ok(partial)) = (path.exists(), partial)
            && std::fs::copy(source, partial.path()).is_ok()
        {
            let _ = partial.persist(path);
        }
    }
}

/// The names of an object's fields. Panics on anything else.
pub fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object")).keys().map(String::as_str).collect()
}

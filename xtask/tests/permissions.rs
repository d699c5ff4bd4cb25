//! A component's imports are its permissions, so what each built-in plugin imports is part of its interface.

use std::collections::BTreeMap;
use std::process::Command;

/// Builds a set into a folder of this test; what each component imports, as the build step reports it.
fn imports(set: &str) -> BTreeMap<String, String> {
    let out = format!("{}/{set}", env!("CARGO_TARGET_TMPDIR"));
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["plugins", "--set", set, "--out", &out])
        .output()
        .expect("the build step runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = String::from_utf8(output.stdout).expect("the report is text");
    let line = |line: &str| {
        let (file, rest) = line.split_once(".wasm").expect("a file in each line");
        let (_, imports) = rest.split_once("KB").expect("a size in each line");
        (file.to_owned(), imports.trim().to_owned())
    };
    report.lines().map(line).collect()
}

#[test]
fn built_in_plugins_import_only_what_they_use_and_no_system_interface() {
    let expected = [
        ("evaluator-divergence", "log common session dataset"),
        ("evaluator-exact-match", "log common session dataset"),
        ("evaluator-likelihood", "log common session dataset"),
        ("evaluator-multiple-choice", "log common session dataset"),
        ("evaluator-perplexity", "log common session dataset"),
        ("family-deepseek2", "log common graph checkpoint"),
        ("family-gemma", "log common graph checkpoint"),
        ("family-granite", "log common graph checkpoint"),
        ("family-idefics3", "log common graph checkpoint"),
        ("family-llama", "log common graph checkpoint"),
        ("family-olmo2", "log common graph checkpoint"),
        ("family-phi3", "log common graph checkpoint"),
        ("family-qwen", "log common graph checkpoint"),
        ("family-starcoder2", "log common graph checkpoint"),
        ("strategy-ae-llm", "log common feasibility"),
        ("strategy-gp-ehvi", "log common feasibility"),
        ("strategy-grid", "log common feasibility"),
        ("strategy-local", "log common feasibility"),
        ("strategy-mo-asha", "log common feasibility"),
        ("strategy-motpe", "log common feasibility"),
        ("strategy-nsga2", "log common feasibility"),
        ("strategy-nsga3", "log common feasibility"),
        ("strategy-parego", "log common feasibility"),
        ("strategy-random", "log common feasibility"),
        ("strategy-sobol", "log common feasibility"),
        ("technique-awq", "log common tensor graph weights calibration"),
        ("technique-blocked-quantization", "log common tensor graph weights calibration"),
        ("technique-cache-eviction", "log common graph"),
        ("technique-codebook", "log common tensor graph weights calibration"),
        ("technique-depth-pruning", "log common tensor graph calibration"),
        ("technique-expert-reduction", "log common tensor graph weights calibration"),
        ("technique-full-tuning", "log common tensor graph weights training"),
        ("technique-gptq", "log common tensor graph weights calibration"),
        ("technique-grouped-query", "log common tensor graph weights calibration"),
        ("technique-hqq", "log common tensor graph weights"),
        ("technique-ia3", "log common tensor graph weights training"),
        ("technique-kv-cache", "log common graph"),
        ("technique-latent-attention", "log common tensor graph weights calibration"),
        ("technique-lora", "log common tensor graph weights training"),
        ("technique-low-rank", "log common tensor graph weights calibration"),
        ("technique-mixture-of-experts", "log common tensor graph weights calibration"),
        ("technique-mixed-precision", "log common tensor graph weights calibration"),
        ("technique-qlora", "log common tensor graph weights training"),
        ("technique-rotation", "log common tensor graph weights"),
        ("technique-round-to-nearest", "log common tensor graph weights calibration"),
        ("technique-slicing", "log common tensor graph weights calibration"),
        ("technique-smoothquant", "log common tensor graph weights calibration"),
        ("technique-sparsegpt", "log common tensor graph weights calibration"),
        ("technique-sparse-attention", "log common graph"),
        ("technique-speculative-decoding", "log common tensor graph calibration runtime-policy"),
        ("technique-width-pruning", "log common tensor graph weights calibration"),
    ];
    let expected: BTreeMap<String, String> = expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    assert_eq!(imports("built-in"), expected);
}

#[test]
fn an_interface_that_no_host_offers_shows_among_the_imports() {
    let imports = imports("faults");
    assert_eq!(imports["technique-unknown-import"], "telepathy");
    assert_eq!(imports["not-a-plugin"], "");
}

//! The main job from a study file to a model that answers, and the shapes that scripts count on. Every command runs with
//! `--json`; that standard output holds one JSON document and standard error nothing is checked for each.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use aehost_tests::{Bed, built_in, fields};
use serde_json::{Value, json};

/// Metrics that every measured trial of the study has.
const METRICS: [&str; 16] = [
    "latency.e2e_ms",
    "latency.tpot_ms",
    "latency.ttft_ms",
    "memory.cache_bytes",
    "memory.peak_bytes",
    "memory.weights_bytes",
    "multiple-choice.acc",
    "multiple-choice.acc_norm",
    "multiple-choice.margin",
    "perplexity.bits_per_byte",
    "perplexity.byte_perplexity",
    "perplexity.token_perplexity",
    "perplexity.word_perplexity",
    "throughput.decode_tokens_per_s",
    "throughput.prefill_tokens_per_s",
    "throughput.tokens_per_step",
];

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().unwrap_or_else(|| panic!("{field} is no list: {value}"))
}

/// An entry of the front: what was on, what it measured, and how it is judged.
fn check_entry(entry: &Value) {
    for field in ["trial", "efficiency_score", "accuracy_drop"] {
        assert!(entry[field].is_number(), "{field}: {entry}");
    }
    assert!(entry["configuration"].is_array() && entry["feasible"] == true, "{entry}");
    for choice in list(entry, "configuration") {
        assert_eq!(fields(choice), ["technique", "settings"]);
    }
    assert_eq!(fields(&entry["metrics"]), METRICS);
    assert!(entry["metrics"].as_object().unwrap().values().all(|value| value.as_f64().is_some_and(f64::is_finite)));
}

fn check_front(front: &Value) {
    assert_eq!(front["study"], "main");
    assert_eq!(front["baseline"]["trial"], 0);
    assert_eq!(front["baseline"]["efficiency_score"], 1.0);
    check_entry(&front["baseline"]);
    assert!(!list(front, "front").is_empty());
    list(front, "front").iter().for_each(check_entry);
    check_entry(&front["recommended"]);
    // A confirmation overrules the screening that the front is made of, so the recommended trial need not be on it.
    assert_eq!(front["recommended"]["feasible"], true, "{}", front["recommended"]);
    assert!(!front["recommended"]["explanation"].as_str().unwrap().is_empty());
    assert!(front["hardware"]["cpu"].is_object());
}

#[test]
fn a_study_is_run_and_its_results_are_used_by_every_command() {
    let bed = Bed::default();
    let run = bed.json(&["run", "study.toml", "--study", "main", "--confirm"]);
    check_front(&run);
    assert_eq!(bed.told(run["report_html"].as_str().unwrap().as_bytes()), "HOME/aehost.reports/main.html");
    let html = std::fs::read_to_string(run["report_html"].as_str().unwrap()).unwrap();
    assert!(html.starts_with("<!doctype html>") || html.starts_with("<!DOCTYPE html>"));
    assert!(html.trim_end().ends_with("</html>"));
    assert!(std::fs::read_to_string(run["report_svg"].as_str().unwrap()).unwrap().starts_with("<svg"));

    let pareto = bed.json(&["pareto", "main"]);
    check_front(&pareto);
    for field in ["front", "baseline", "recommended"] {
        assert_eq!(pareto[field], run[field], "`run` prints what `pareto` prints");
    }

    let studies = bed.json(&["list"]);
    assert_eq!(fields(&studies[0]), ["name", "model", "strategy", "created_at", "trials", "budget_trials", "ended"]);
    assert_eq!((&studies[0]["name"], &studies[0]["budget_trials"]), (&json!("main"), &json!(6)));
    assert_eq!(studies[0]["ended"], "all 6 trials are done");

    let show = bed.json(&["show", "main"]);
    assert_eq!(fields(&show), ["study", "trials", "analysis"]);
    let searched: Vec<&Value> = list(&show, "trials").iter().filter(|t| t["purpose"] != "confirmation").collect();
    let numbers: Vec<&Value> = searched.iter().map(|trial| &trial["id"]).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    assert!(searched.iter().all(|trial| trial["outcome"]["kind"] == "ok"), "{searched:?}");
    assert!(list(&show, "trials").iter().any(|t| t["purpose"] == "confirmation" && t["confirms"] == 0));
    let first = &searched[1]["outcome"]["measurements"]["metrics"]["latency.e2e_ms"];
    assert_eq!(first["samples"].as_array().unwrap().len(), 2, "a sample of each repeat is kept");

    let one = bed.json(&["show", "main", "--trial", "1"]);
    assert_eq!(fields(&one), ["trial", "analysis"]);
    assert_eq!(&one["trial"], searched[1]);
    let timings = bed.json(&["show", "main", "--timings"]);
    assert_eq!(fields(&timings), ["seconds", "total_seconds", "overhead"]);
    let sum: f64 = timings["seconds"].as_object().unwrap().values().map(|s| s.as_f64().unwrap()).sum();
    assert!((sum - timings["total_seconds"].as_f64().unwrap()).abs() < 1e-6);

    let export = bed.json(&["export-json", "main"]);
    assert_eq!(fields(&export), ["format", "version", "study", "trials", "events"]);
    assert_eq!((&export["format"], &export["trials"]), (&json!("aehost-study"), &show["trials"]));

    let page = bed.path("elsewhere.html");
    bed.json(&["report", "main", "--html", "elsewhere.html"]);
    assert_eq!(std::fs::read_to_string(page).unwrap(), html);

    // What the search chose can be used at once, as can the model it began with.
    for trial in ["0", "1"] {
        let subject = ["--study", "main", "--trial", trial];
        let configuration = &show["trials"][trial.parse::<usize>().unwrap()]["configuration"];

        let words = [&["generate", "hello", "--max-tokens", "5"][..], &subject].concat();
        let generated = bed.json(&words);
        assert_eq!(fields(&generated), ["model", "study", "trial", "configuration", "text", "tokens", "finish"]);
        assert_eq!(&generated["configuration"], configuration);
        assert!(generated["tokens"].as_u64().is_some_and(|n| (1..=5).contains(&n)), "{generated}");
        assert_eq!(bed.json(&words), generated, "greedy answers repeat themselves");

        let evaluated = bed.json(&[&["evaluate", "--items", "8"][..], &subject].concat());
        assert_eq!(fields(&evaluated), ["model", "study", "trial", "configuration", "metrics"]);
        let accuracy = &evaluated["metrics"]["multiple-choice.acc_norm"];
        assert_eq!(fields(accuracy), ["value", "standard_error", "unit", "direction", "items", "samples"]);
        assert_eq!(accuracy["samples"].as_array().unwrap().len(), 8);
        let measured = &show["trials"][trial.parse::<usize>().unwrap()]["outcome"]["measurements"]["metrics"];
        assert_eq!(accuracy["value"], measured["multiple-choice.acc_norm"]["value"], "the same 8 items were drawn");

        let words = ["bench", "--prompt-tokens", "16", "--output-tokens", "4", "--repeat", "2"];
        let mut bench = bed.json(&[&words[..], &subject].concat());
        let roofline = bench.as_object_mut().unwrap().shift_remove("roofline").unwrap();
        let [per_step, apply] =
            ["tokens_per_step", "apply_ms"].map(|f| bench.as_object_mut().unwrap().shift_remove(f).unwrap());
        assert!(per_step == 1.0 && apply.as_f64().is_some_and(|ms| ms >= 0.0), "{per_step} {apply}");
        // Without AVX2 there is none.
        if !roofline.is_null() {
            for share in ["decode_share", "prefill_share"] {
                assert!(roofline[share].as_f64().is_some_and(|share| share > 0.0 && share < 2.0), "{roofline}");
            }
        }
        assert_eq!(
            fields(&bench),
            [
                "prefill_tokens_per_second",
                "decode_tokens_per_second",
                "ttft_ms",
                "tpot_ms",
                "load_ms",
                "peak_memory_bytes"
            ]
        );
        for (name, figure) in bench.as_object().unwrap() {
            assert!(figure["median"].as_f64().unwrap() > 0.0 && !list(figure, "samples").is_empty(), "{name}");
        }
    }
}

#[test]
fn a_model_is_fine_tuned_and_what_was_trained_is_used_again() {
    let bed = Bed::default();
    let row = |n: usize| format!("{{\"prompt\": \"What comes after {n}?\", \"answer\": \" {}.\"}}\n", n + 1);
    bed.write("rows.jsonl", (0..40).map(row).collect::<String>());
    let lora = built_in().join("technique-lora.wasm").display().to_string();
    let plugins = ["--plugins", "few", "--plugins", &lora, "--training", "rows.jsonl"];
    let tune = || {
        let technique = "lora:steps=6,batch=4,sequence-tokens=64,rank=2,learning-rate=0.02";
        let words = ["finetune", "--model", "model.gguf", "--threads", "1", "--apply", technique];
        bed.json(&[&words[..], &plugins].concat())
    };
    let trained = tune();
    let points = list(&trained["curves"][0], "points");
    let loss = |at: usize| points[at]["loss"].as_f64().unwrap();
    assert!(points.len() == 6 && loss(5) < loss(0), "{points:?}");
    assert!(points[5]["held_out"].as_f64().is_some() && points[4]["held_out"].is_null());
    assert!(trained["tokens_per_second"].as_f64().unwrap() > 0.0);
    // Seconds would differ if it trained again.
    assert_eq!(tune()["curves"], trained["curves"]);

    // The grid begins with each technique alone.
    let words = ["run", "study.toml", "--study", "tuned", "--strategy", "grid", "--trials", "5"];
    bed.json(&[&words[..], &plugins].concat());
    let export = bed.json(&["export-json", "tuned"]);
    let uses = |trial: &&Value, id: &str| list(trial, "configuration").iter().any(|choice| choice["technique"] == id);
    let trials = list(&export, "trials");
    let tuned = trials.iter().find(|trial| uses(trial, "lora")).unwrap_or_else(|| panic!("{trials:?}"));
    let curve = &tuned["outcome"]["measurements"]["training"][0];
    assert_eq!(list(curve, "points").len(), 100, "{tuned}");
    assert!(trials.iter().filter(|t| !uses(t, "lora")).all(|t| t["outcome"]["measurements"]["training"].is_null()));
    let id = tuned["id"].to_string();
    let shown = bed.run(&["show", "tuned", "--trial", &id]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("training\n") && shown.contains("in 100 updates"), "{shown}");
}

#[test]
fn a_search_can_be_limited_and_its_trials_answer_other_questions() {
    let bed = Bed::default();
    let limit = "blocked-quantization:attention=Q8_0|Q4_0";
    bed.json(&["run", "study.toml", "--study", "limited", "--technique", limit]);
    let show = bed.json(&["show", "limited"]);
    let trials = list(&show, "trials");
    for choice in trials.iter().flat_map(|trial| list(trial, "configuration")) {
        let format = &choice["settings"]["attention"];
        assert!(choice["technique"] == "blocked-quantization" && ["Q8_0", "Q4_0"].contains(&format.as_str().unwrap()));
    }
    // A limit that only the smallest trial satisfies.
    let weights = |trial: &Value| {
        trial["outcome"]["measurements"]["metrics"]["memory.weights_bytes"]["value"].as_f64().unwrap() as u64
    };
    let smallest = trials.iter().map(weights).min().unwrap();
    assert!(trials.iter().any(|trial| weights(trial) > smallest));
    let limit = format!("memory.weights <= {smallest} B");
    let resolved = bed.json(&["resolve", "limited", "--constraint", &limit, "--predictions", "2"]);
    let recommended = resolved["recommended"]["trial"].as_u64().unwrap() as usize;
    assert_eq!(weights(&trials[recommended]), smallest);
    assert!(list(&resolved, "predicted").len() <= 2);
    assert_eq!(list(&bed.json(&["show", "limited"]), "trials").len(), trials.len(), "nothing is measured");
    let impossible = ["resolve", "limited", "--constraint", "memory.weights <= 1 B", "--json"];
    assert_eq!(bed.run(&impossible).status.code(), Some(3));
}

#[test]
fn another_program_searches_by_a_strategy() {
    let bed = Bed::default();
    let identity = json!({"id": "t", "version": "1.0.0", "summary": "", "reference": ""});
    let description = json!({
        "identity": identity, "stage": "inference", "order": 0, "after": [], "conflicts": [], "provides": [], "requires": [],
        "more": {},
    });
    let domain = json!({"kind": "integer", "min": 0, "max": 9, "step": 1, "log": false});
    let parameter = json!({"name": "p", "summary": "", "domain": domain, "default": 3, "active_when": []});
    let problem = json!({
        "space": [{"description": description, "parameters": [parameter]}],
        "objectives": [{"metric": "m", "direction": "minimize"}], "constraints": ["m <= 5"], "facts": {}, "settings": {},
        "budget": 5, "seed": 1,
    });
    let measured = json!({"kind": "measured", "metrics": [{"metric": "m", "value": 4.0, "standard_error": 0.0}]});
    let told = json!({"trial": 0, "configuration": [], "fidelity": 1.0, "outcome": measured});
    let lines =
        [json!({"ask": 1}), json!({"start": problem}), json!({"tell": [told]}), json!({"ask": 1}), json!("outlook")];
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let strategy = built_in().join("strategy-random.wasm").display().to_string();
    let answers = bed.fed(&["plugins", "drive", &strategy], &input);
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(answers[0]["error"].as_str().unwrap().contains("`start`"), "{answers:?}");
    assert_eq!((&answers[1]["started"], &answers[2]["told"]), (&json!(true), &json!(1)));
    let proposal = &list(&answers[3], "proposals")[0];
    assert_eq!((&proposal["trial"], &proposal["configuration"][0]["technique"]), (&json!(1), &json!("t")));
    assert!(answers[4]["outlook"].is_object());
}

#[test]
fn the_same_seed_proposes_the_same_and_another_seed_does_not() {
    let bed = Bed::default();
    let proposals = |study: &str, seed: &str| -> Vec<Value> {
        bed.json(&["run", "study.toml", "--study", study, "--seed", seed]);
        let show = bed.json(&["show", study]);
        list(&show, "trials").iter().map(|trial| trial["configuration"].clone()).collect()
    };
    let first = proposals("first", "5");
    assert_eq!(proposals("second", "5"), first);
    assert_ne!(proposals("third", "6"), first);
}

#[test]
fn people_are_told_the_front_why_a_point_is_recommended_and_how_to_use_it() {
    let bed = Bed::default();
    let output = bed.run(&["run", "study.toml", "--study", "main"]);
    assert!(output.status.success(), "{}", bed.told(&output.stderr));
    // Lines break where figures of different lengths make them.
    let text = bed.told(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    for part in
        ["trials are on the front", "★ recommended", "It is recommended because", "aehost generate --study main"]
    {
        assert!(text.contains(part), "`{part}` is missing from:\n{text}");
    }
    assert!(text.contains("Report: HOME/aehost.reports/main.html "), "{text}");
}

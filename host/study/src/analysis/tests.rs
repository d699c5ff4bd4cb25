use super::*;
use crate::fixtures::{measured, study, trial};
use crate::{Constraint, Outcome};

/// Latency, memory and accuracy of a trial.
fn figures(latency: f64, memory: f64, accuracy: f64) -> Outcome {
    let mebibytes = memory * 1_048_576.0;
    measured(&[("latency.e2e_ms", latency), ("memory.peak_bytes", mebibytes), ("multiple-choice.acc", accuracy)])
}

fn confirmation(id: u64, confirms: u64, outcome: Outcome) -> Trial {
    Trial { purpose: Purpose::Confirmation, confirms: Some(TrialId(confirms)), ..trial(id, &[], outcome) }
}

/// Baseline 0; 1 is cheap and good; 2 cheaper but breaks the accuracy limit of 5 %; 3 is beaten by 1; 4 failed; 5 is the
/// cheapest that is feasible.
fn searched() -> Vec<Trial> {
    vec![
        trial(0, &[], figures(100.0, 200.0, 0.50)),
        trial(1, &[("a", 1)], figures(50.0, 150.0, 0.49)),
        trial(2, &[("a", 2)], figures(30.0, 100.0, 0.30)),
        trial(3, &[("b", 1)], figures(60.0, 150.0, 0.49)),
        trial(4, &[("b", 2)], Outcome::Timeout { message: "slow".into() }),
        trial(5, &[("a", 1), ("b", 1)], figures(40.0, 120.0, 0.48)),
    ]
}

fn ids(list: &[u64]) -> Vec<TrialId> {
    list.iter().map(|id| TrialId(*id)).collect()
}

#[test]
fn the_front_holds_feasible_trials_that_nothing_beats() {
    let analysis = Analysis::of(&study("s"), &searched());
    assert_eq!(analysis.front, ids(&[0, 1, 5]));
    assert_eq!(analysis.recommended, Some(Recommendation { trial: TrialId(5), confirmed: false }));
    let feasible: Vec<bool> = analysis.trials.iter().map(|t| t.feasible).collect();
    assert_eq!(feasible, [true, true, false, true, false, true]);
    assert!((analysis.trial(TrialId(2)).unwrap().screening.as_ref().unwrap().violations[0].amount - 7.0).abs() < 1e-9);
    assert!(analysis.trial(TrialId(4)).unwrap().screening.is_none());
}

#[test]
fn simpler_trials_are_there_to_compare_with() {
    let mut trials = searched();
    trials.push(trial(6, &[("b", 3)], figures(70.0, 170.0, 0.5)));
    let contenders = Analysis::of(&study("s"), &trials).contenders;
    // Of 1, 3 and 6 with one technique, 1 is the cheapest; 5 combines both stages.
    let expected = Contenders {
        single_technique: Some(TrialId(1)),
        single_stage: Some(TrialId(1)),
        several_stages: Some(TrialId(5)),
    };
    assert_eq!(contenders, expected);
    assert_eq!(Analysis::of(&study("s"), &[]).contenders, Contenders::default());
}

#[test]
fn the_hypervolume_never_falls_and_grows_when_the_front_moves() {
    let curve = Analysis::of(&study("s"), &searched()).hypervolume;
    assert_eq!(curve.iter().map(|c| c.0).collect::<Vec<_>>(), ids(&[0, 1, 2, 3, 5]));
    assert!(curve.windows(2).all(|w| w[0].1 <= w[1].1));
    let at = |id: u64| curve.iter().find(|c| c.0 == TrialId(id)).unwrap().1;
    assert!(at(1) > at(0) && at(2) == at(1) && at(3) == at(1) && at(5) > at(3) && at(5) < 1.0);
}

#[test]
fn a_confirmation_overrules_the_screening() {
    let mut trials = searched();
    trials.push(confirmation(6, 0, figures(100.0, 200.0, 0.50)));
    trials.push(confirmation(7, 5, figures(40.0, 120.0, 0.40)));
    trials.push(confirmation(8, 1, figures(52.0, 150.0, 0.50)));
    let analysis = Analysis::of(&study("s"), &trials);
    assert_eq!(analysis.recommended, Some(Recommendation { trial: TrialId(1), confirmed: true }));
    assert_eq!(analysis.front, ids(&[0, 1]));
    assert!(!analysis.trial(TrialId(5)).unwrap().feasible);
    assert_eq!(analysis.trial(TrialId(1)).unwrap().headline().unwrap().measured_in, TrialId(8));
    assert_eq!(
        analysis.explanation,
        "Trial 1 (a level=1) keeps 100.0 % of the accuracy (multiple-choice.acc 0.5000 against 0.5000; drop 0.0 %, 95 % \
         interval 0.0 to 0.0 %, 0 items compared as independent runs), answers 1.92 times as fast (52 ms instead of 100 ms \
         for 32 tokens after a prompt of 256) and needs 75 % of the memory (150 MiB instead of 200 MiB). It is recommended \
         because its efficiency score, 1.60, is the best among the confirmed trials that satisfy the constraints (of 5 \
         measured trials, 2 others do). These figures were confirmed by measuring it and the baseline again (up to 500 items of \
         multiple-choice); by their spread, and with gains of accuracy taken for luck, the chance that all constraints \
         really hold is about 99 %."
    );
}

#[test]
fn without_a_feasible_trial_the_nearest_one_is_named() {
    let mut record = study("s");
    record.constraints = vec![Constraint::parse("latency.e2e <= 20 ms").unwrap()];
    let analysis = Analysis::of(&record, &searched());
    assert_eq!((analysis.recommended, analysis.front.len()), (None, 0));
    assert_eq!(
        analysis.explanation,
        "None of 5 measured trials satisfies the constraints \"latency.e2e <= 20 ms\". Trial 2 comes nearest: it breaks \
         \"latency.e2e <= 20 ms\" by 50.0 % of the bound."
    );
    assert_eq!(Analysis::of(&record, &[]).explanation, "Nothing was measured yet.");
}

#[test]
fn when_nothing_is_cheaper_the_baseline_stays() {
    let trials = [trial(0, &[], figures(100.0, 200.0, 0.5)), trial(1, &[("a", 1)], figures(110.0, 210.0, 0.5))];
    let analysis = Analysis::of(&study("s"), &trials);
    assert_eq!(analysis.recommended, Some(Recommendation { trial: TrialId(0), confirmed: false }));
    assert_eq!(
        analysis.explanation,
        "Keep the baseline: of 2 measured trials, none that satisfies the constraints is cheaper than it."
    );
}

#[test]
fn what_satisfies_a_limit_that_the_baseline_breaks_is_recommended_though_it_is_slower() {
    let mut record = study("s");
    record.constraints.push(Constraint::parse("memory.peak <= 180 MiB").unwrap());
    // As small as asked for, but with a score below 1.
    let trials = vec![
        trial(0, &[], figures(100.0, 200.0, 0.50)),
        trial(1, &[("a", 1)], figures(150.0, 170.0, 0.50)),
        trial(2, &[("a", 2)], figures(130.0, 190.0, 0.50)),
    ];
    let analysis = Analysis::of(&record, &trials);
    assert_eq!(analysis.recommended, Some(Recommendation { trial: TrialId(1), confirmed: false }));
    assert!(analysis.explanation.contains("Trial 1"), "{}", analysis.explanation);
}

#[test]
fn trials_on_less_data_are_not_compared_with_full_ones() {
    let mut trials = searched();
    trials.push(Trial { fidelity: 0.25, ..trial(6, &[("b", 4)], figures(10.0, 10.0, 0.5)) });
    let analysis = Analysis::of(&study("s"), &trials);
    assert_eq!(analysis.front, ids(&[0, 1, 5]));
    assert_eq!(analysis.recommended.unwrap().trial, TrialId(5));
}

#[test]
fn the_json_has_the_documented_shape() {
    let mut trials = searched();
    trials.push(confirmation(6, 0, figures(90.0, 200.0, 0.50)));
    trials.push(confirmation(7, 5, figures(45.0, 120.0, 0.50)));
    let record = study("s");
    let json = pareto_json(&record, &trials, &Analysis::of(&record, &trials));
    assert_eq!(json["study"], "s");
    assert_eq!(json["hardware"]["cpu"], "test");
    let entries = json["front"].as_array().unwrap();
    assert_eq!(entries.iter().map(|e| e["trial"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 5]);
    let last = &entries[2];
    assert_eq!(last["metrics"]["latency.e2e_ms"], 40.0);
    assert_eq!(last["measured_at"], "screening");
    assert_eq!(last["confirmed"]["metrics"]["latency.e2e_ms"], 45.0);
    assert_eq!(last["configuration"][0]["settings"]["level"], 1);
    assert!((last["accuracy_drop"].as_f64().unwrap() - 4.0).abs() < 1e-9);
    assert_eq!(last["feasible"], true);
    assert_eq!(entries[1]["confirmed"], serde_json::Value::Null);
    assert_eq!(json["recommended"]["trial"], 5);
    assert_eq!(json["recommended"]["measured_at"], "confirmation");
    assert_eq!(json["recommended"]["accuracy_drop"], 0.0);
    assert_eq!(json["baseline"]["metrics"]["latency.e2e_ms"], 90.0);
    assert_eq!(json["baseline"]["efficiency_score"], 1.0);
}

#[test]
fn importance_is_given_for_objectives_and_score_once_there_are_enough_trials() {
    assert!(Analysis::of(&study("s"), &searched()).importance.is_empty());
    let mut trials = vec![trial(0, &[], figures(100.0, 200.0, 0.5))];
    for a in 1..=4i64 {
        for b in 1..=4i64 {
            let outcome = figures(100.0 - 20.0 * a as f64, 200.0 - b as f64, 0.5 - 0.001 * (a + b) as f64);
            trials.push(trial(trials.len() as u64, &[("a", a), ("b", b)], outcome));
        }
    }
    let importance = Analysis::of(&study("s"), &trials).importance;
    let names: Vec<&str> = importance.iter().map(|i| i.metric.as_str()).collect();
    assert_eq!(names, ["multiple-choice.acc", "latency.e2e_ms", "memory.peak_bytes", "efficiency_score"]);
    assert_eq!(importance[1].parameters[0].parameter, "a.level");
    assert_eq!(importance[2].parameters[0].parameter, "b.level");
}

//! What the terminal views say, at the widths of ordinary terminals.

use crate::study;
use aehost_report::{Terminal, front_table, list_table, timings_table, trial_view};
use aehost_study::{Analysis, Outcome, Provenance, StudySummary, TrialId, metrics};
use insta::assert_snapshot;

const NARROW: Terminal = Terminal { width: 80, color: false };

fn front_with(terminal: Terminal, energy: bool, confirmed: bool) -> String {
    let record = study::record();
    let trials = if confirmed { study::confirmed(energy) } else { study::search(energy) };
    front_table(&record, &trials, &Analysis::of(&record, &trials), terminal)
}

fn front(width: u16) -> String {
    front_with(Terminal { width, color: false }, false, true)
}

/// The explanation is the analysis's own text, and tested there.
fn table_of(front: &str) -> &str {
    front.rsplit_once("\n\n").unwrap().0
}

fn view(id: u64) -> Option<String> {
    let (record, trials) = (study::record(), study::confirmed(false));
    trial_view(&record, &trials, &Analysis::of(&record, &trials), TrialId(id), NARROW)
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[test]
fn a_narrow_front_lists_configurations_below_the_table() {
    assert_snapshot!("front_80", table_of(&front(80)));
}

#[test]
fn a_wide_front_has_configurations_and_intervals_in_the_table() {
    assert_snapshot!("front_160", table_of(&front(160)));
}

#[test]
fn a_front_that_was_not_confirmed_says_so() {
    assert_snapshot!("front_screening", table_of(&front_with(NARROW, true, false)));
}

#[test]
fn the_explanation_follows_the_front() {
    let (record, trials) = (study::record(), study::confirmed(false));
    let front = front(80);
    let explanation = Analysis::of(&record, &trials).explanation;
    assert_eq!(words(front.rsplit_once("\n\n").unwrap().1), words(&explanation));
}

#[test]
fn an_estimate_is_called_one_and_does_not_count() {
    let (record, mut trials) = (study::record(), study::search(true));
    for trial in &mut trials {
        let Outcome::Ok { measurements } = &mut trial.outcome else { continue };
        let inputs = [("watts-busy".to_owned(), 35.0)].into();
        measurements.metrics.get_mut(metrics::ENERGY).unwrap().provenance =
            Provenance::Estimated { formula: "joules = watts_busy * seconds".into(), inputs };
    }
    let shown = front_table(&record, &trials, &Analysis::of(&record, &trials), NARROW);
    assert!(shown.contains(" 0.421 est. "), "{shown}");
    let note = "est.: estimated, joules = watts_busy * seconds with watts-busy = 35.0; it does not count in the score.";
    assert!(words(&shown).join(" ").contains(note), "{shown}");
}

#[test]
fn every_line_fits_the_terminal() {
    for width in [80, 92, 100, 150, 220] {
        let text = front(width);
        let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= usize::from(width), "{longest} > {width}");
    }
}

#[test]
fn colour_changes_nothing_but_the_colour() {
    let coloured = front_with(Terminal { width: 100, color: true }, false, true);
    assert!(coloured.contains('\u{1b}'));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    let trimmed = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(trimmed(&plain), trimmed(&front(100)));
}

#[test]
fn a_study_without_results_has_a_front_to_show() {
    let record = study::record();
    let front = front_table(&record, &[], &Analysis::of(&record, &[]), NARROW);
    assert!(front.ends_with("Nothing has been measured yet.\n"), "{front}");
}

#[test]
fn a_trial_is_shown_in_full() {
    assert_snapshot!("trial_11", view(11).unwrap());
}

#[test]
fn a_trial_that_failed_says_why() {
    assert_snapshot!("trial_9", view(9).unwrap());
}

#[test]
fn a_confirmation_is_shown_with_the_trial_that_it_confirms() {
    let shown = view(24).unwrap();
    assert!(shown.starts_with("Trial 0 of study smollm2-cpu: baseline, confirmed by trial 24\n"), "{shown}");
    assert!(shown.contains("Trial 24 is its confirmation."));
    assert_eq!(view(99), None);
}

#[test]
fn timings_name_the_share_that_serves_no_measurement() {
    assert_snapshot!("timings", timings_table(&study::confirmed(false), NARROW));
}

#[test]
fn the_list_tells_how_to_go_on() {
    let summary = |name: &str, trials, ended: Option<&str>| StudySummary {
        name: name.into(),
        model: "smollm2-135m-instruct".into(),
        strategy: "nsga2".into(),
        created_at: 1_795_414_200.0,
        trials,
        budget_trials: 24,
        ended: ended.map(str::to_owned),
    };
    let studies = [summary("first", 7, None), summary("second", 28, Some("24 trials were measured"))];
    assert_snapshot!("list", list_table(&studies, Terminal { width: 120, color: false }));
    assert_eq!(list_table(&[], NARROW), "No studies yet: start one with `aehost run`.\n");
}

#[test]
fn names_cannot_move_the_cursor() {
    let mut record = study::record();
    record.name = "\u{1b}[2Jgone\nnext".into();
    let mut trials = study::confirmed(false);
    trials[11].why = "\u{1b}]0;title\u{7}".into();
    trials[11].configuration.0[0].technique = "a\u{1b}[1A".into();
    let analysis = Analysis::of(&record, &trials);
    let front = front_table(&record, &trials, &analysis, NARROW);
    let trial = trial_view(&record, &trials, &analysis, TrialId(11), NARROW).unwrap();
    assert!(!front.contains('\u{1b}') && !trial.contains(['\u{1b}', '\u{7}']));
    assert!(trial.contains("Trial 11 of study [2Jgone next:"));
}

//! One trial in full.

use super::{Terminal, Tone, align_right, finish, tone};
use crate::units::{clean, date, duration, number, with_unit};
use crate::view::{Measured, Place, Row, View, constraint_with_value};
use aehost_common::Curve;
use aehost_study::{Analysis, Outcome, Purpose, StudyRecord, Trial, TrialId};
use comfy_table::Cell;
use std::fmt::Write;

/// Configuration, figures next to the baseline's, constraints, remarks and timings of one trial. A confirmation is shown
/// with the trial that it confirms. None for a number that the study does not have.
pub fn trial_view(
    record: &StudyRecord,
    trials: &[Trial],
    analysis: &Analysis,
    id: TrialId,
    terminal: Terminal,
) -> Option<String> {
    let asked = trials.iter().find(|t| t.id == id)?;
    let view = View::of(record, trials, analysis);
    let row = view.row(asked.confirms.unwrap_or(id))?;
    let mut text = heading(&view, row, asked, terminal);
    text += &configuration(&view, row, terminal);
    if let Some(message) = outcome_message(&row.trial.outcome) {
        text += &section("outcome", terminal);
        text += &terminal.wrap(&format!("{}: {message}", row.trial.outcome.word()), 2);
    }
    if row.screening.is_some() {
        text += "\n";
        text += &figures(&view, row, terminal);
    }
    text += &remarks(&view, row, terminal);
    text += &timings(row, terminal);
    Some(text)
}

/// What an outcome without figures says; none for one with figures.
pub(crate) fn outcome_message(outcome: &Outcome) -> Option<String> {
    outcome.message().map(|message| clean(&message))
}

fn heading(view: &View, row: &Row, asked: &Trial, terminal: Terminal) -> String {
    let mut words = vec![row.place.word().to_owned()];
    if row.on_front && row.place != Place::Front {
        words.push("on the front".into());
    }
    if let Some(confirmed) = &row.confirmed {
        words.push(format!("confirmed by trial {}", confirmed.trial.id));
    }
    let title = format!("Trial {} of study {}", row.trial.id, clean(&view.record.name));
    let mut text = format!("{}: {}\n", terminal.paint(&title, Tone::Bold), words.join(", "));
    if asked.purpose == Purpose::Confirmation {
        text += &terminal.wrap(&format!("Trial {} is its confirmation.", asked.id), 0);
    }
    let run = format!("started {}, took {}", date(row.trial.started_at), duration(row.trial.timings.total()));
    text + &terminal.paint(&run, Tone::Dim) + "\n"
}

fn section(name: &str, terminal: Terminal) -> String {
    format!("\n{}\n", terminal.paint(name, Tone::Bold))
}

fn configuration(view: &View, row: &Row, terminal: Terminal) -> String {
    let mut text = section("configuration", terminal);
    for choice in &row.trial.configuration.0 {
        let space = view.record.space.iter().find(|s| s.description.identity.id == choice.technique);
        let stage = space.map(|s| format!(" ({})", s.description.stage)).unwrap_or_default();
        let _ = writeln!(text, "  {}{stage}", clean(&choice.technique));
        for setting in choice.settings.iter() {
            let _ = writeln!(text, "    {} = {}", clean(&setting.name), clean(&setting.value.to_string()));
        }
    }
    if row.trial.configuration.0.is_empty() {
        text += "  no technique is on\n";
    }
    if !row.trial.why.is_empty() {
        text += &terminal.paint(terminal.wrap(&format!("why: {}", clean(&row.trial.why)), 2).trim_end(), Tone::Dim);
        text += "\n";
    }
    text
}

fn figures(view: &View, row: &Row, terminal: Terminal) -> String {
    let columns = [("screening", row.screening), ("confirmed", row.confirmed)];
    let columns: Vec<(&str, Measured)> = columns.into_iter().filter_map(|(name, m)| Some((name, m?))).collect();
    let mut headings = vec!["metric"];
    headings.extend(columns.iter().map(|(name, _)| *name));
    let baseline = view.baseline().filter(|b| b.trial.id != row.trial.id);
    if baseline.is_some() {
        headings.push("× baseline");
    }
    let mut table = terminal.table(&headings);
    for metric in &view.metrics {
        let mut cells = vec![Cell::new(&metric.label)];
        for (_, measured) in &columns {
            let shown = measured.figure(&metric.name).map(|figure| {
                let shown = metric.scale.show_with_error(figure.value, figure.standard_error);
                let mark = if measured.estimated_by(&metric.name).is_some() { " est." } else { "" };
                with_unit(shown, &metric.scale.unit) + mark
            });
            cells.push(Cell::new(shown.unwrap_or_else(|| "unavailable".into())));
        }
        if let Some(baseline) = baseline {
            let (own, base) = if row.confirmed.is_some() && baseline.confirmed.is_some() {
                (row.confirmed, baseline.confirmed)
            } else {
                (row.screening, baseline.screening)
            };
            let value = |m: Option<Measured>| Some(m?.figure(&metric.name)?.value);
            let ratio =
                value(own).zip(value(base)).filter(|(_, base)| *base > 0.0).map(|(own, base)| number(own / base));
            cells.push(tone(Cell::new(ratio.unwrap_or_default()), Tone::Dim));
        }
        table.add_row(cells);
    }
    align_right(&mut table, 1..headings.len());
    finish(&table)
}

fn remarks(view: &View, row: &Row, terminal: Terminal) -> String {
    let mut text = String::new();
    let Some(best) = row.best() else { return text };
    if !view.record.constraints.is_empty() {
        text += &section("constraints", terminal);
    }
    for constraint in &view.record.constraints {
        let value = best.figure(&constraint.metric).map(|f| f.value);
        let broken = best.figures.violations.iter().any(|v| v.constraint == *constraint);
        let (verdict, kind) = if broken { ("✗ broken:", Tone::Bad) } else { ("✓ holds:", Tone::Good) };
        let line = terminal.wrap(&format!("{verdict} {}", constraint_with_value(view.record, constraint, value)), 2);
        text += &format!("{}\n", terminal.paint(line.trim_end(), kind));
    }
    if let Some(measurements) = best.trial.outcome.measurements() {
        for (heading, lines) in [
            ("unavailable", measurements.unavailable.iter().map(|(m, why)| format!("{m}: {why}")).collect::<Vec<_>>()),
            ("training", measurements.training.iter().filter_map(Curve::summary).collect()),
            ("warnings", measurements.warnings.clone()),
        ] {
            if !lines.is_empty() {
                text += &section(heading, terminal);
            }
            text.extend(lines.iter().map(|line| terminal.wrap(&clean(line), 2)));
        }
        for metric in measurements.metrics.keys() {
            if let Some(formula) = best.estimated_by(metric) {
                text += &terminal.wrap(&format!("est.: {} is estimated: {formula}", clean(metric)), 2);
            }
        }
    }
    text
}

fn timings(row: &Row, terminal: Terminal) -> String {
    let phases = row.trial.timings.0.iter().map(|(phase, seconds)| format!("{} {}", clean(phase), duration(*seconds)));
    let phases: Vec<String> = phases.collect();
    if phases.is_empty() { String::new() } else { section("time", terminal) + &terminal.wrap(&phases.join(", "), 2) }
}

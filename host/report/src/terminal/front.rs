//! The front of a study, with the explanation of the recommended point.

use super::{Terminal, Tone, align_right, finish, tone};
use crate::units::{self, Scale, clean, label, number, signed};
use crate::view::{Measured, Place, Row, View, constraint_with_value, score_meaning};
use aehost_study::{Analysis, StudyRecord, Trial, metrics};
use comfy_table::Cell;

/// From this width on, configurations have a column of their own; below it they are listed under the table.
const WIDE: u16 = 150;
/// From this width on, drops show their confidence interval.
const ROOMY: u16 = 92;

/// The baseline and the trials of the front, confirmed figures where there are some, and what they mean in plain words.
pub fn front_table(record: &StudyRecord, trials: &[Trial], analysis: &Analysis, terminal: Terminal) -> String {
    let view = View::of(record, trials, analysis);
    let objectives: Vec<String> = record.objectives.iter().map(|o| label(&o.metric)).collect();
    let heading = format!(
        "Study {}: {} of {} trials are on the front; no trial is as good in all of {} and better in one.",
        clean(&record.name),
        analysis.front.len(),
        view.rows.len(),
        objectives.join(", ")
    );
    let mut text = terminal.wrap(&heading, 0);
    let rows = shown_rows(&view);
    if rows.is_empty() {
        return text + "Nothing has been measured yet.\n";
    }
    text += &finish(&table(&view, &rows, terminal));
    text += &notes(&view, &rows, terminal);
    text + "\n" + &terminal.wrap(&clean(&analysis.explanation), 0)
}

/// The baseline, the recommended trial, and the rest of the front by falling efficiency score.
fn shown_rows<'v, 'a>(view: &'v View<'a>) -> Vec<&'v Row<'a>> {
    let wanted = |row: &&Row| row.on_front || matches!(row.place, Place::Baseline | Place::Recommended);
    let mut rows: Vec<&Row> = view.rows.iter().filter(wanted).filter(|row| row.screening.is_some()).collect();
    let score = |row: &Row| row.best().and_then(|m| m.figures.score()).unwrap_or(0.0);
    let rank = |row: &Row| match row.place {
        Place::Baseline => 0,
        Place::Recommended => 1,
        _ => 2,
    };
    rows.sort_by(|a, b| rank(a).cmp(&rank(b)).then(score(b).total_cmp(&score(a))));
    rows
}

fn table(view: &View, rows: &[&Row], terminal: Terminal) -> comfy_table::Table {
    let wide = terminal.width >= WIDE;
    let accuracy = view.metric(&view.record.accuracy_metric).map_or_else(|| Scale::of(""), |m| m.scale.clone());
    let mut headings = vec!["trial".to_owned()];
    headings.extend(wide.then(|| "configuration".to_owned()));
    let first = headings.len();
    headings.push(if accuracy.unit.is_empty() {
        clean(&view.record.accuracy_metric)
    } else {
        format!("accuracy\n{}", accuracy.unit)
    });
    headings.extend(["drop\n%", "e2e\nms", "token\nms", "peak\nMiB", "energy\nJ/token", "score\n×"].map(String::from));
    let mut table = terminal.table(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        let Some(measured) = row.best() else { continue };
        let kind = match row.place {
            Place::Recommended => Tone::Good,
            Place::Baseline => Tone::Bold,
            _ => Tone::Plain,
        };
        let mut cells = vec![name(row)];
        cells.extend(wide.then(|| clean(&row.trial.configuration.to_string())));
        cells.push(measured.figure(&view.record.accuracy_metric).map_or_else(
            || "unavailable".into(),
            |figure| accuracy.show_with_error(figure.value, figure.standard_error),
        ));
        cells.push(drop(&measured, terminal.width >= ROOMY));
        for (metric, unit) in [
            (metrics::END_TO_END, "ms"),
            ("latency.tpot_ms", "ms"),
            (metrics::PEAK_MEMORY, "bytes"),
            (metrics::ENERGY, "J"),
        ] {
            let shown = measured.figure(metric).map(|figure| Scale::of(unit).show(figure.value));
            cells.push(shown.map_or_else(|| "unavailable".into(), |text| text + estimated(&measured, metric)));
        }
        cells.push(measured.figures.score().map_or_else(|| "unavailable".into(), number));
        table.add_row(cells.into_iter().map(|text| tone(Cell::new(text), kind)));
    }
    align_right(&mut table, first..first + 7);
    table
}

fn name(row: &Row) -> String {
    let place = match row.place {
        Place::Baseline => " ○",
        Place::Recommended => " ★",
        _ => "",
    };
    let confirmed = if row.confirmed.is_some() { " ✓" } else { "" };
    format!("{}{place}{confirmed}{}", row.trial.id, if row.may_be_dominated_by.is_empty() { "" } else { " ≈" })
}

fn drop(measured: &Measured, interval: bool) -> String {
    let Some(drop) = &measured.figures.accuracy_drop else { return "unavailable".into() };
    let [low, high] = drop.interval;
    let value = signed(drop.percent.value);
    if interval && low < high { format!("{value} [{}, {}]", signed(low), signed(high)) } else { value }
}

fn estimated(measured: &Measured, metric: &str) -> &'static str {
    if measured.estimated_by(metric).is_some() { " est." } else { "" }
}

/// What the signs mean, the configurations where the table has no room for them, and why a figure is not there.
fn notes(view: &View, rows: &[&Row], terminal: Terminal) -> String {
    let mut text = String::new();
    if terminal.width < WIDE {
        for row in rows.iter().filter(|row| row.place != Place::Baseline) {
            text += &terminal.wrap(&clean(&format!("{}: {}", row.trial.id, row.trial.configuration)), 2);
        }
    }
    let confirmed = rows.iter().any(|row| row.confirmed.is_some());
    text += if confirmed {
        "○ baseline   ★ recommended   ✓ confirmed: measured again on more data\n"
    } else {
        "○ baseline   ★ recommended   Nothing was confirmed: these are screening figures.\n"
    };
    let interval = if terminal.width >= ROOMY { " (95 % confidence interval)" } else { "" };
    let legend = format!(
        "± is the standard error. drop: loss of accuracy in percent of the baseline's{interval}. token: time per output \
         token. score: {}.",
        score_meaning(view.record)
    );
    let mut notes = vec![legend];
    let doubtful: Vec<String> = rows
        .iter()
        .filter(|row| !row.may_be_dominated_by.is_empty())
        .map(|row| format!("{} by {}", row.trial.id, units::trials(row.may_be_dominated_by)))
        .collect();
    if !doubtful.is_empty() {
        let meaning = "≈ may be dominated: the noise does not show it to be better in any objective than another trial";
        notes.push(format!("{meaning} ({}).", doubtful.join("; ")));
    }
    let measured = || rows.iter().filter_map(|row| row.best());
    let reason = measured().find_map(|m| m.trial.outcome.measurements()?.unavailable.get(metrics::ENERGY));
    notes.extend(reason.map(|reason| format!("Energy is unavailable: {}.", clean(reason).trim_end_matches('.'))));
    let formula = measured().find_map(|m| m.estimated_by(metrics::ENERGY));
    notes.extend(formula.map(|formula| format!("est.: estimated, {formula}; it does not count in the score.")));
    let baseline = view.baseline().and_then(Row::best);
    for violation in baseline.iter().flat_map(|m| &m.figures.violations) {
        let broken = constraint_with_value(view.record, &violation.constraint, violation.value);
        notes.push(format!("The baseline itself breaks a constraint: {broken}."));
    }
    for note in notes {
        for line in terminal.wrap(&note, 0).lines() {
            text += &terminal.paint(line, Tone::Dim);
            text += "\n";
        }
    }
    text
}

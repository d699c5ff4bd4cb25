//! What a study found, as every command shows it: the front with its explanation, and the files of the report.

use crate::ending::Ending;
use crate::home;
use crate::output::Output;
use aehost_report::{Fidelity, SvgError, Terminal};
use aehost_study::{ACCURACY, Analysis, Store, StudyRecord, Trial, metrics, pareto_json};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// A study with all that follows from it.
pub struct Results {
    /// What it was run on and with.
    pub record: StudyRecord,
    /// Its trials.
    pub trials: Vec<Trial>,
    /// What they mean.
    pub analysis: Analysis,
}

impl Results {
    /// Reads a study from the store.
    pub fn read(store: &Store, name: &str) -> Result<Self> {
        let record = store.study(name)?;
        let trials = store.trials(name)?;
        let analysis = Analysis::of(&record, &trials);
        Ok(Self { record, trials, analysis })
    }

    /// The front as text.
    pub fn front(&self) -> String {
        aehost_report::front_table(&self.record, &self.trials, &self.analysis, terminal())
    }

    /// The front as JSON.
    pub fn json(&self) -> serde_json::Value {
        pareto_json(&self.record, &self.trials, &self.analysis)
    }

    /// Whether there is anything to recommend.
    pub fn ending(&self) -> Ending {
        if self.analysis.recommended.is_some() { Ending::Done } else { Ending::NothingFeasible }
    }

    /// The report as one HTML page.
    pub fn html(&self) -> String {
        aehost_report::html(&self.record, &self.trials, &self.analysis)
    }

    /// A picture of the front for two metrics; the first two objectives where none are named.
    pub fn svg(&self, x: Option<&str>, y: Option<&str>, fidelity: Fidelity) -> Result<String, SvgError> {
        let objective = |i: usize| self.record.objectives.get(i).map(|o| o.metric.as_str());
        let y = y.or(objective(0)).unwrap_or(ACCURACY);
        let x = x.or(objective(1)).unwrap_or(metrics::END_TO_END);
        aehost_report::front_svg(&self.record, &self.trials, &self.analysis, x, y, fidelity)
    }
}

/// The terminal that text is laid out for. Colours are taken away on the way out where they are not wanted.
pub fn terminal() -> Terminal {
    Terminal { width: comfy_table::Table::new().width().unwrap_or(100), color: true }
}

/// The end of a run: front, explanation, report files, and how to use the recommended trial.
pub fn finish(store: &Store, name: &str, store_flag: &str, output: &Output) -> Result<Ending> {
    let results = Results::read(store, name)?;
    let [html, svg] = ["html", "svg"].map(|extension| home::report(store.path(), name, extension));
    write(&html, &results.html())?;
    write(&svg, &results.svg(None, None, Fidelity::Screening)?)?;
    let mut json = results.json();
    json["report_html"] = html.display().to_string().into();
    json["report_svg"] = svg.display().to_string().into();
    output.result(&json, || results.front() + &closing(&results, &html, &svg, store_flag))?;
    Ok(results.ending())
}

fn closing(results: &Results, html: &Path, svg: &Path, store_flag: &str) -> String {
    let mut lines = vec![String::new(), format!("Report:  {}", html.display()), format!("Picture: {}", svg.display())];
    let name = &results.record.name;
    lines.push(match &results.analysis.recommended {
        Some(recommended) => format!(
            "Use it:  aehost generate --study {name} --trial {}{store_flag} \"What is a neural network?\"",
            recommended.trial
        ),
        None => {
            "No trial satisfies all constraints: loosen one with --constraint, or search longer with --trials.".into()
        }
    });
    lines.push(String::new());
    lines.join("\n")
}

/// Writes a file and the folder it lies in.
pub fn write(path: &PathBuf, text: &str) -> Result<()> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty());
    folder.map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, text)).with_context(|| {
        format!("cannot write {}: check that the folder may be written and the disk has room", path.display())
    })
}

//! `aehost finetune`: techniques that train, on their own.

use crate::ending::{Ending, fault, usage};
use crate::output::Output;
use crate::subject::{Subject, SubjectArguments};
use aehost_common::Curve;
use aehost_meter::memory::PeakMemory;
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

const AFTER: &str = "\
Examples:
  aehost finetune --training grimm
  aehost finetune --training grimm --apply lora:merge=off --save adapter
  aehost finetune --apply depth-pruning:drop=4 --apply lora:rank=16,steps=300 --training rows.jsonl

Rows of the data have a `text`, a `prompt` and an `answer`, or `context`, `choices`
and the index of the right one as `answer`. What was trained is kept: the same
techniques with the same data are not trained again by evaluate, generate or run.
Interrupted training goes on where it was.

Under --json: {model, configuration, curves: [{points: [{step, loss, held_out}],
tokens, seconds}], tokens_per_second, peak_bytes}.";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Arguments {
    /// Write the adapters, where they stay apart (lora:merge=off), into this folder, as peft loads them
    #[arg(long, value_name = "FOLDER")]
    pub save: Option<PathBuf>,
    #[command(flatten)]
    pub subject: SubjectArguments,
}

/// Runs it.
pub fn run(arguments: &Arguments, output: &Output) -> Result<Ending> {
    let mut subject = arguments.subject.clone();
    if subject.training.is_none() && subject.study.is_none() {
        return Err(usage("--training: name what is to be learned from, as in --training grimm".to_owned()));
    }
    if subject.apply.is_empty() && subject.study.is_none() {
        subject.apply.push("lora".into());
    }
    let mut subject = Subject::of(&subject)?;
    let memory = PeakMemory::start();
    let bar = output.spinner(String::new());
    let mut workbench = subject.open(&bar, output)?;
    output.say(&format!("Training {}", subject.words()));
    let (variant, curves) = workbench.trained(&subject.configuration, 1.0).map_err(fault)?;
    bar.finish_and_clear();
    if curves.is_empty() {
        return Err(usage(format!("nothing is trained by {}", subject.configuration)));
    }
    if let Some(folder) = &arguments.save {
        let count = variant.save_adapters(folder).map_err(|e| fault(e.into()))?;
        output.say(&format!("{count} adapters are in {}", folder.display()));
    }
    let seconds: f64 = curves.iter().map(|curve| curve.seconds).sum();
    let speed = curves.iter().map(|curve| curve.tokens).sum::<u64>() as f64 / seconds.max(1e-9);
    let peak = memory.finish().value().map(|peak| peak.peak_bytes);
    let json = json!({
        "model": subject.plan.model, "configuration": subject.configuration, "curves": curves,
        "tokens_per_second": speed, "peak_bytes": peak,
    });
    output.result(&json, || {
        let mut text: String = curves.iter().map(table).collect();
        text += &format!("{speed:.0} tokens/s, {seconds:.0} s");
        if let Some(peak) = peak {
            text += &format!(", {} MiB at most", peak >> 20);
        }
        text + &format!("; weights of {} MiB\n", variant.weight_bytes() >> 20)
    })?;
    Ok(Ending::Done)
}

/// A few points of a curve.
fn table(curve: &Curve) -> String {
    const LINES: usize = 12;
    let mut text = format!("{:>8}{:>12}{:>12}\n", "update", "loss", "held out");
    let every = curve.points.len().div_ceil(LINES).max(1);
    let last = curve.points.len().saturating_sub(1);
    let shown = curve.points.iter().enumerate().filter(|(i, p)| i % every == 0 || *i == last || p.held_out.is_some());
    for (_, point) in shown {
        let held_out = point.held_out.map(|loss| format!("{loss:.4}")).unwrap_or_default();
        text += &format!("{:>8}{:>12.4}{held_out:>12}\n", point.step, point.loss);
    }
    text
}

//! What models are trained on: rows of a data set as examples, none of which evaluation uses.

use crate::rig::unreadable;
use crate::setup::TrainingSetup;
use aehost_common::Fault;
use aehost_engine::{EngineError, Example, Trainer, TrainingData, Variant};
use aehost_formats::{Dataset, Tokenizer};
use aehost_meter::HardwareProfile;
use serde_json::Value as Json;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Rows that an error names.
const NAMED: usize = 5;

/// What trains variants of a model; data is read, and compared with that of the evaluators, when something is first trained.
pub(crate) fn trainer(
    setup: &TrainingSetup,
    base: &Variant,
    threads: usize,
    tokenizer: Arc<Tokenizer>,
    evaluated: Vec<Arc<Dataset>>,
) -> Trainer {
    let TrainingSetup { data, held_out, results } = setup.clone();
    let source = move || {
        let read = opened(&data, &evaluated).and_then(|data| examples(&data, &tokenizer, held_out));
        read.map_err(|fault| EngineError::Invalid(fault.full()))
    };
    let trainer = Trainer::new(base.clone(), threads, available, Box::new(source));
    match results {
        Some(folder) => trainer.keeping_in(folder),
        None => trainer,
    }
}

/// Opens training data.
///
/// # Errors
/// invalid-input where it cannot be read, or has rows that evaluation uses.
pub(crate) fn opened(data: &Path, evaluated: &[Arc<Dataset>]) -> Result<Dataset, Fault> {
    let data = Dataset::open(data).map_err(unreadable)?;
    evaluated.iter().try_for_each(|other| apart(&data, other))?;
    Ok(data)
}

/// Bytes that training may take; all that there are where the system does not say.
fn available() -> u64 {
    HardwareProfile::read().memory.available_bytes.value().copied().unwrap_or(u64::MAX)
}

/// Refuses training data that evaluation uses.
fn apart(training: &Dataset, evaluated: &Dataset) -> Result<(), Fault> {
    let rows = |data: &Dataset| -> Vec<Option<Json>> {
        (0..data.len()).map(|i| serde_json::from_str(data.row(i)).ok()).collect()
    };
    // Objects are equal whatever the order of their fields.
    let known: HashSet<Json> = rows(evaluated).into_iter().flatten().collect();
    let both = |(i, row): (usize, Option<Json>)| row.filter(|row| known.contains(row)).map(|_| i);
    let shared: Vec<usize> = rows(training).into_iter().enumerate().filter_map(both).collect();
    if shared.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = shared.iter().take(NAMED).map(ToString::to_string).collect();
    let more = if shared.len() > NAMED { ", ..." } else { "" };
    Err(Fault::invalid(format!(
        "{} of {} rows of the training data `{}` are rows of the evaluation data `{}` (row {}{more}): train on other data, named under `training` in the study file",
        shared.len(),
        training.len(),
        training.name(),
        evaluated.name(),
        named.join(", ")
    )))
}

/// Rows as text, or as prompts with answers.
fn examples(data: &Dataset, tokenizer: &Tokenizer, held_out: usize) -> Result<TrainingData, Fault> {
    let mut made = TrainingData { held_out, ..TrainingData::default() };
    for i in 0..data.len() {
        let wrong = |what: &str| {
            Fault::invalid(format!(
                "data set `{}`, row {i}: {what}; training takes rows with `text`, with `prompt` and `answer`, or with `context`, `choices` and `answer`",
                data.name()
            ))
        };
        let row: Json = serde_json::from_str(data.row(i)).map_err(|e| wrong(&e.to_string()))?;
        let text = |name: &str| row.get(name).and_then(Json::as_str);
        if let Some(text) = text("text") {
            if text.trim().is_empty() {
                return Err(wrong("its text is empty"));
            }
            made.text.extend(tokenizer.encode(text, false).map_err(unreadable)?);
            continue;
        }
        let (prompt, answer) = match (text("prompt"), text("answer"), text("context")) {
            (Some(prompt), Some(answer), _) => (prompt, answer.to_owned()),
            (_, _, Some(context)) => {
                let right = row.get("answer").and_then(Json::as_u64).and_then(|gold| usize::try_from(gold).ok());
                let choice = right.and_then(|gold| row.get("choices")?.get(gold)?.as_str());
                // As the evaluator of multiple choice joins them.
                (context, format!(" {}", choice.ok_or_else(|| wrong("`answer` is no index of `choices`"))?))
            }
            _ => return Err(wrong("it has nothing to train on")),
        };
        let whole = tokenizer.encode(&format!("{prompt}{answer}"), true).map_err(unreadable)?;
        let before = tokenizer.encode(prompt, true).map_err(unreadable)?;
        // Where the last token of the prompt merges with the answer, it counts with the answer.
        let alike = whole.iter().zip(&before).take_while(|(a, b)| a == b).count();
        if whole.len() < 2 || alike >= whole.len() {
            return Err(wrong("its answer is empty"));
        }
        made.pairs.push(Example { tokens: whole, answer: alike.max(1) });
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(rows: &str) -> Dataset {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, rows).unwrap();
        Dataset::open(&path).unwrap()
    }

    #[test]
    fn rows_that_evaluation_uses_are_named() {
        let training = data("{\"text\":\"a\"}\n{\"context\":\"b\",\"answer\":1}\n");
        let evaluated = data("{\"text\":\"c\"}\n{\"answer\":1,\"context\":\"b\"}\n");
        let message = apart(&training, &evaluated).unwrap_err().message;
        assert!(message.contains("1 of 2 rows") && message.contains("(row 1)"), "{message}");
        assert!(apart(&training, &data("{\"text\":\"d\"}\n")).is_ok());
    }
}

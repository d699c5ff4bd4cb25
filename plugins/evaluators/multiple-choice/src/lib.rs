//! Multiple choice by log-likelihood, as lm-evaluation-harness measures it: each choice is scored as the continuation of
//! the context. `acc` takes the most likely choice, `acc_norm` the most likely by character, and the first of equals.

mod item;

use aehost_sdk::evaluator::*;
use item::Item;

/// Rows sent at once: enough for the host to batch, few enough to show progress.
const ROWS: usize = 64;

struct MultipleChoice;

impl Evaluator for MultipleChoice {
    fn describe() -> Description {
        let reference = "https://github.com/EleutherAI/lm-evaluation-harness (lm_eval/api/task.py)";
        Description::new(identity!("multiple-choice", "Picks the right answer out of several.", reference))
            .maximize("acc_norm", "share")
            .maximize("acc", "share")
            .maximize("margin", "nats/character")
            .parameter(flag("chat", "Put the context through the checkpoint's chat template."))
    }

    fn evaluate(
        session: &Session,
        data: &Dataset,
        subset: &[u32],
        settings: &Settings,
    ) -> Result<Vec<Measurement>, Error> {
        let chat = settings.flag("chat")?;
        let items = rows(data, subset)?.iter().map(Item::read).collect::<Result<Vec<_>, _>>()?;
        if items.is_empty() {
            return Err(Error::invalid(format!("`{}` has no rows to measure", data.name())));
        }
        let mut answers = Vec::with_capacity(items.len());
        for (at, items) in items.chunks(ROWS).enumerate() {
            log::progress((at * ROWS) as f64 / subset.len() as f64, "answering questions");
            let requests: Vec<Request> = items.iter().flat_map(|item| item.requests(chat)).collect();
            let scores = session.score(&requests)?;
            let mut scores = scores.iter().map(|score| score.log_likelihood);
            for item in items {
                answers.push(item.answer(&scores.by_ref().take(item.choices.len()).collect::<Vec<_>>()));
            }
        }
        let share = |right: bool| f64::from(u8::from(right));
        Ok(vec![
            Measurement::mean("acc_norm", answers.iter().map(|a| share(a.right_by_character)).collect()),
            Measurement::mean("acc", answers.iter().map(|a| share(a.right)).collect()),
            Measurement::mean("margin", answers.iter().map(|a| a.margin).collect()),
        ])
    }
}

aehost_sdk::evaluator!(MultipleChoice);

//! Questions that the model answers in its own words, of which those count that say what is expected: exact match after
//! normalisation, as SQuAD defines it (Rajpurkar et al., arXiv 1606.05250). With pictures: visual question answering.

mod answer;

use aehost_sdk::evaluator::*;
use answer::Question;

/// Rows sent at once: enough for the host to batch, few enough to show progress.
const ROWS: usize = 32;

struct ExactMatch;

impl Evaluator for ExactMatch {
    fn describe() -> Description {
        Description::new(identity!("exact-match", "Answers questions in its own words.", "arXiv:1606.05250"))
            .maximize("exact_match", "share")
            .parameter(flag("chat", "Put the context through the checkpoint's chat template."))
            .parameter(integer("max-tokens", "Tokens of an answer at most.", 1..=1024).default(24i64))
    }

    fn evaluate(
        session: &Session,
        data: &Dataset,
        subset: &[u32],
        settings: &Settings,
    ) -> Result<Vec<Measurement>, Error> {
        let (chat, tokens) = (settings.flag("chat")?, settings.integer("max-tokens")?);
        let questions = rows(data, subset)?.iter().map(Question::read).collect::<Result<Vec<_>, _>>()?;
        if questions.is_empty() {
            return Err(Error::invalid(format!("`{}` has no rows to measure", data.name())));
        }
        let mut matches = Vec::with_capacity(questions.len());
        for (at, questions) in questions.chunks(ROWS).enumerate() {
            log::progress((at * ROWS) as f64 / subset.len() as f64, "answering questions");
            let requests: Vec<Generation> = questions.iter().map(|q| q.generation(chat, tokens)).collect();
            for (question, given) in questions.iter().zip(session.generate(&requests)?) {
                matches.push(f64::from(u8::from(question.is_answered_by(&given.text))));
            }
        }
        Ok(vec![Measurement::mean("exact_match", matches)])
    }
}

aehost_sdk::evaluator!(ExactMatch);

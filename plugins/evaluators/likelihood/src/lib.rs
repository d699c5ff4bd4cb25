//! How likely the model finds given continuations: answers to prompts or, with pictures, captions. Perplexity by token is what
//! captioning models report; bits by byte compare models with different tokenizers.

use aehost_sdk::evaluator::*;

/// Rows sent at once: enough for the host to batch, few enough to show progress.
const ROWS: usize = 64;

struct Likelihood;

/// From `{"context": text, "continuation": text}`, and `"image": path` or `"images": [paths]`.
fn request(row: &Row, chat: bool) -> Result<Request, Error> {
    let context = row.text("context")?;
    let prompt = if chat { Prompt::chat(context) } else { Prompt::text(context) };
    match row.text("continuation")? {
        "" => Err(row.wrong("`continuation` is empty")),
        text => Ok(Request { prompt: prompt.with_images(&row.images()?), continuation: text.to_owned() }),
    }
}

impl Evaluator for Likelihood {
    fn describe() -> Description {
        let reference = "https://github.com/EleutherAI/lm-evaluation-harness (lm_eval/api/metrics.py)";
        Description::new(identity!("likelihood", "How well the model expects given continuations.", reference))
            .minimize("token_perplexity", "perplexity/token")
            .minimize("bits_per_byte", "bits/byte")
            .maximize("greedy", "share")
            .parameter(flag("chat", "Put the context through the checkpoint's chat template."))
    }

    fn evaluate(
        session: &Session,
        data: &Dataset,
        subset: &[u32],
        settings: &Settings,
    ) -> Result<Vec<Measurement>, Error> {
        let chat = settings.flag("chat")?;
        let requests = rows(data, subset)?.iter().map(|row| request(row, chat)).collect::<Result<Vec<_>, _>>()?;
        if requests.is_empty() {
            return Err(Error::invalid(format!("`{}` has no rows to measure", data.name())));
        }
        let mut scores = Vec::with_capacity(requests.len());
        for (at, requests) in requests.chunks(ROWS).enumerate() {
            log::progress((at * ROWS) as f64 / subset.len() as f64, "scoring continuations");
            scores.extend(session.score(requests)?);
        }
        Ok(measure(&scores))
    }
}

/// A sample for each continuation, weighted by its tokens or bytes.
fn measure(scores: &[Score]) -> Vec<Measurement> {
    let per = |units: fn(&Score) -> u32| -> (Vec<f64>, Vec<f64>) {
        let rate = |s: &Score| -s.log_likelihood / f64::from(units(s).max(1));
        (scores.iter().map(rate).collect(), scores.iter().map(|s| f64::from(units(s))).collect())
    };
    let (tokens, bytes) = (per(|s| s.tokens), per(|s| s.bytes));
    let bits = bytes.0.iter().map(|nats| nats / std::f64::consts::LN_2).collect();
    vec![
        Measurement::exp("token_perplexity", tokens.0, tokens.1),
        Measurement::ratio("bits_per_byte", bits, bytes.1),
        Measurement::mean("greedy", scores.iter().map(|s| f64::from(u8::from(s.greedy))).collect()),
    ]
}

aehost_sdk::evaluator!(Likelihood);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_and_byte_counts_the_same_whatever_its_row() {
        let score = |log_likelihood, greedy, tokens, bytes| Score { log_likelihood, greedy, tokens, bytes };
        let measured = measure(&[score(-20.0, false, 10, 40), score(-10.0, true, 2, 10)]);
        for (measured, expected) in measured.iter().zip([2.5f64.exp(), 0.6 / 2f64.ln(), 0.5]) {
            assert!((measured.value - expected).abs() < 1e-12, "{} instead of {expected}", measured.value);
        }
    }

    #[test]
    fn rows_that_cannot_be_measured_are_named() {
        let row = Row::parse("captions", 1, r#"{"context": "Q", "continuation": ""}"#).unwrap();
        assert_eq!(request(&row, false).unwrap_err().message, "row 2 of `captions`: `continuation` is empty");
    }
}

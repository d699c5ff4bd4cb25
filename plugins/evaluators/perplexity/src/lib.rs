//! Perplexity of running text. Words and bytes are counted in the original text, so that models with different tokenizers
//! compare; the definitions are lm-evaluation-harness's (word_perplexity, byte_perplexity, bits_per_byte).

use aehost_sdk::evaluator::*;

struct Perplexity;

impl Evaluator for Perplexity {
    fn describe() -> Description {
        let reference = "https://github.com/EleutherAI/lm-evaluation-harness (lm_eval/api/metrics.py)";
        Description::new(identity!("perplexity", "How well the model predicts text.", reference))
            .minimize("token_perplexity", "perplexity/token")
            .minimize("word_perplexity", "perplexity/word")
            .minimize("byte_perplexity", "perplexity/byte")
            .minimize("bits_per_byte", "bits/byte")
            .parameter(integer("window", "Tokens of context; 0 is the model's limit.", 0..=1 << 20).default(1024i64))
            .parameter(integer("stride", "Tokens scored a window; 0 is the whole window.", 0..=1 << 20))
    }

    fn evaluate(
        session: &Session,
        data: &Dataset,
        subset: &[u32],
        settings: &Settings,
    ) -> Result<Vec<Measurement>, Error> {
        let rows = rows(data, subset)?;
        let texts = rows.iter().map(|row| row.text("text").map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
        let (window, stride) = (settings.integer("window")? as u32, settings.integer("stride")? as u32);
        measure(&session.rolling(&texts, window, stride)?)
            .ok_or_else(|| Error::invalid(format!("the texts of `{}` have no token to predict", data.name())))
    }
}

/// All metrics; none where no token was predicted.
fn measure(rolled: &[Rolling]) -> Option<Vec<Measurement>> {
    // Nats of each text for each of `units`, weighted by their number; a text without any has no weight.
    let per = |units: fn(&Rolling) -> u32| -> (Vec<f64>, Vec<f64>) {
        let rate = |r: &Rolling| if units(r) == 0 { 0.0 } else { -r.log_likelihood / f64::from(units(r)) };
        (rolled.iter().map(rate).collect(), rolled.iter().map(|r| f64::from(units(r))).collect())
    };
    let (tokens, words, bytes) = (per(|r| r.tokens), per(|r| r.words), per(|r| r.bytes));
    let any = |weights: &[f64]| weights.iter().any(|weight| *weight > 0.0);
    if !(any(&tokens.1) && any(&words.1) && any(&bytes.1)) {
        return None;
    }
    let bits = bytes.0.iter().map(|nats| nats / std::f64::consts::LN_2).collect();
    Some(vec![
        Measurement::exp("token_perplexity", tokens.0, tokens.1),
        Measurement::exp("word_perplexity", words.0, words.1),
        Measurement::exp("byte_perplexity", bytes.0, bytes.1.clone()),
        Measurement::ratio("bits_per_byte", bits, bytes.1),
    ])
}

aehost_sdk::evaluator!(Perplexity);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perplexities_are_of_all_texts_together() {
        let texts = [
            Rolling { log_likelihood: -20.0, tokens: 10, bytes: 40, words: 8 },
            Rolling { log_likelihood: -10.0, tokens: 2, bytes: 10, words: 2 },
        ];
        let values: Vec<f64> = measure(&texts).unwrap().iter().map(|m| m.value).collect();
        let expected = [2.5f64.exp(), 3f64.exp(), 0.6f64.exp(), 0.6 / 2f64.ln()];
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-12, "{value} instead of {expected}");
        }
    }

    #[test]
    fn an_empty_text_has_no_weight_and_empty_data_no_value() {
        let empty = Rolling { log_likelihood: 0.0, tokens: 0, bytes: 0, words: 0 };
        let text = Rolling { log_likelihood: -6.0, tokens: 3, bytes: 12, words: 2 };
        let measured = measure(&[empty, text]).unwrap();
        assert_eq!((measured[0].samples.clone(), measured[0].weights.clone()), (vec![0.0, 2.0], vec![0.0, 3.0]));
        assert_eq!(measured[0].value, 2f64.exp());
        assert_eq!(measure(&[empty]), None);
    }
}

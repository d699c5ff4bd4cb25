//! How far the variant's predictions are from the baseline's: mean Kullback-Leibler divergence of next-token
//! distributions, and how often both find the same token most likely. Both see changes long before accuracy does.

use aehost_sdk::evaluator::*;

struct Divergence;

impl Evaluator for Divergence {
    fn describe() -> Description {
        let summary = "How far the variant's predictions are from the baseline's.";
        Description::new(identity!("divergence", summary, "Kullback, Leibler: On Information and Sufficiency, 1951"))
            .minimize("mean_kl", "nats/token")
            .maximize("top1_agreement", "share")
            .parameter(integer("window", "Tokens of each text; 0 is the model's limit.", 0..=1 << 20).default(512i64))
    }

    fn evaluate(
        session: &Session,
        data: &Dataset,
        subset: &[u32],
        settings: &Settings,
    ) -> Result<Vec<Measurement>, Error> {
        let rows = rows(data, subset)?;
        let texts = rows.iter().map(|row| row.text("text").map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
        measure(&session.distance(&texts, settings.integer("window")? as u32)?)
            .ok_or_else(|| Error::invalid(format!("the texts of `{}` have no token to compare", data.name())))
    }
}

/// Both metrics, a sample for each text weighted by its tokens; none where there is no token.
fn measure(distances: &[Distance]) -> Option<Vec<Measurement>> {
    let per_token = |sum: fn(&Distance) -> f64| -> Vec<f64> {
        distances.iter().map(|d| if d.tokens == 0 { 0.0 } else { sum(d) / f64::from(d.tokens) }).collect()
    };
    let tokens: Vec<f64> = distances.iter().map(|d| f64::from(d.tokens)).collect();
    tokens.iter().any(|tokens| *tokens > 0.0).then(|| {
        vec![
            Measurement::ratio("mean_kl", per_token(|d| d.kl), tokens.clone()),
            Measurement::ratio("top1_agreement", per_token(|d| f64::from(d.agreeing)), tokens),
        ]
    })
}

aehost_sdk::evaluator!(Divergence);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_counts_the_same_whatever_its_text() {
        let texts = [Distance { kl: 1.0, agreeing: 6, tokens: 8 }, Distance { kl: 3.0, agreeing: 2, tokens: 2 }];
        let measured = measure(&texts).unwrap();
        assert!((measured[0].value - 0.4).abs() < 1e-12 && (measured[1].value - 0.8).abs() < 1e-12);
        assert_eq!(measured[0].samples, [0.125, 1.5]);
        assert_eq!(measure(&[Distance { kl: 0.0, agreeing: 0, tokens: 0 }]), None);
    }
}

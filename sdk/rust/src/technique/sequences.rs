//! How long sequences get, and how much of them a cache or an attention may be limited to.

use super::{Error, Facts, Model, Node, Value};

/// Up to four numbers of tokens, the largest first, that leave something of the longest sequence out.
///
/// # Errors
/// not-applicable where the model does not say its context, or sequences are too short.
pub fn budgets(model: &Model, facts: &Facts) -> Result<Vec<i64>, Error> {
    let longest = longest(model.integer("context")?, facts);
    let sizes = powers_below(longest);
    match sizes.is_empty() {
        true => Err(Error::not_applicable(format!("sequences of {longest} tokens are too short to leave any out"))),
        false => Ok(sizes),
    }
}

/// Tokens of the longest sequence that the scenario makes; without one, what the model was made for.
fn longest(context: i64, facts: &Facts) -> i64 {
    let scenario = facts.integer("scenario.prompt_tokens").ok().zip(facts.integer("scenario.output_tokens").ok());
    scenario.map_or(context, |(prompt, output)| (prompt + output).min(context))
}

/// The four largest powers of two from 64 on that are smaller, the largest first.
fn powers_below(tokens: i64) -> Vec<i64> {
    let powers = (6..31).map(|power| 1i64 << power).take_while(|size| *size < tokens);
    let mut sizes: Vec<i64> = powers.collect();
    sizes.reverse();
    sizes.truncate(4);
    sizes
}

impl Node {
    /// Whether it is a cache or an attention with a window, outside of which no token is seen.
    pub fn has_window(&self) -> bool {
        matches!(self.attribute("window"), Some(Value::Integer(window)) if *window > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_smaller_than_the_longest_sequence() {
        assert_eq!(powers_below(288), [256, 128, 64]);
        assert_eq!(powers_below(8192), [4096, 2048, 1024, 512]);
        assert!(powers_below(64).is_empty());
    }

    #[test]
    fn the_scenario_bounds_the_sequence_and_the_model_bounds_the_scenario() {
        let scenario = Facts::default().with("scenario.prompt_tokens", 256i64).with("scenario.output_tokens", 32i64);
        assert_eq!(longest(8192, &scenario), 288);
        assert_eq!(longest(128, &scenario), 128);
        assert_eq!(longest(8192, &Facts::default()), 8192);
    }
}

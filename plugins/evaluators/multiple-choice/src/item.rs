//! One question: what is asked of the model, and what its scores say.

use aehost_sdk::evaluator::{Error, Prompt, Request, Row};

/// A question with its choices, of which `gold` is right.
#[derive(Debug, PartialEq)]
pub struct Item {
    pub context: String,
    /// Paths of pictures.
    pub images: Vec<String>,
    pub choices: Vec<String>,
    pub gold: usize,
}

/// How the model did on one question.
#[derive(Debug, PartialEq)]
pub struct Answer {
    /// The right choice has the highest log-likelihood.
    pub right: bool,
    /// The right choice has the highest log-likelihood for each character.
    pub right_by_character: bool,
    /// Nats for each character by which the right choice leads the best wrong one.
    pub margin: f64,
}

impl Item {
    /// From `{"context": text, "choices": [texts], "answer": index}`, and `"image": path` or `"images": [paths]`.
    pub fn read(row: &Row) -> Result<Self, Error> {
        let choices: Vec<String> = row.texts("choices")?.into_iter().map(str::to_owned).collect();
        if choices.len() < 2 {
            return Err(row.wrong(format!("{} choices are too few; at least 2 are needed", choices.len())));
        }
        if let Some(empty) = choices.iter().position(String::is_empty) {
            return Err(row.wrong(format!("choice {empty} is empty")));
        }
        let gold = row.index("answer", choices.len()).map_err(|error| Error {
            message: format!("{}; use data with the right answers in it", error.message),
            ..error
        })?;
        Ok(Self { context: row.text("context")?.to_owned(), images: row.images()?, choices, gold })
    }

    /// One request for each choice. A space separates context and choice, except after a chat template.
    pub fn requests(&self, chat: bool) -> impl Iterator<Item = Request> + '_ {
        self.choices.iter().map(move |choice| {
            let (prompt, continuation) = match chat {
                true => (Prompt::chat(&self.context), choice.clone()),
                false => (Prompt::text(&self.context), format!(" {choice}")),
            };
            Request { prompt: prompt.with_images(&self.images), continuation }
        })
    }

    /// The answer that the choices' log-likelihoods give. Lengths are in characters of the choice itself.
    pub fn answer(&self, log_likelihoods: &[f64]) -> Answer {
        let lengths = self.choices.iter().map(|choice| choice.chars().count() as f64);
        let by_character: Vec<f64> = log_likelihoods.iter().zip(lengths).map(|(ll, length)| ll / length).collect();
        let others = by_character.iter().enumerate().filter(|(i, _)| *i != self.gold).map(|(_, score)| *score);
        Answer {
            right: first_best(log_likelihoods) == self.gold,
            right_by_character: first_best(&by_character) == self.gold,
            margin: by_character[self.gold] - others.fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// The index of the largest, the first of equals, as numpy's argmax.
fn first_best(scores: &[f64]) -> usize {
    let mut best = 0;
    for (i, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(choices: &[&str], gold: usize) -> Item {
        Item { context: "Q".into(), images: vec![], choices: choices.iter().map(|c| (*c).to_owned()).collect(), gold }
    }

    fn read(json: &str) -> Result<Item, String> {
        Item::read(&Row::parse("piqa", 2, json).unwrap()).map_err(|error| error.message)
    }

    #[test]
    fn length_normalisation_divides_by_the_choices_characters() {
        // By hand: "ice" -6/3 = -2, "a warm day" -10/10 = -1, "sun" -7.5/3 = -2.5.
        let scores = [-6.0, -10.0, -7.5];
        let choices = ["ice", "a warm day", "sun"];
        assert_eq!(item(&choices, 0).answer(&scores), Answer { right: true, right_by_character: false, margin: -1.0 });
        assert_eq!(item(&choices, 1).answer(&scores), Answer { right: false, right_by_character: true, margin: 1.0 });
        assert_eq!(item(&choices, 2).answer(&scores), Answer { right: false, right_by_character: false, margin: -1.5 });
    }

    #[test]
    fn characters_are_not_bytes() {
        // "été" has 3 characters and 5 bytes: -4.5/3 loses against -5/4, although -4.5/5 would win.
        assert!(item(&["été", "snow"], 1).answer(&[-4.5, -5.0]).right_by_character);
    }

    #[test]
    fn the_first_of_equals_is_taken() {
        assert!(item(&["ab", "cd"], 0).answer(&[-3.0, -3.0]).right);
        assert!(!item(&["ab", "cd"], 1).answer(&[-3.0, -3.0]).right);
    }

    #[test]
    fn a_space_separates_context_and_choice_outside_of_chats() {
        let requests: Vec<Request> = item(&["yes", "no"], 0).requests(false).collect();
        assert_eq!(requests[1].continuation, " no");
        assert!(!requests[1].prompt.chat && requests[1].prompt.messages[0].content == "Q");
        let requests: Vec<Request> = item(&["yes", "no"], 0).requests(true).collect();
        assert!(requests[1].continuation == "no" && requests[1].prompt.chat);
    }

    #[test]
    fn rows_that_cannot_be_measured_are_named() {
        assert_eq!(
            read(r#"{"context": "Q", "choices": ["a", "b"]}"#),
            Err("row 3 of `piqa`: `answer` is missing; use data with the right answers in it".into())
        );
        assert_eq!(
            read(r#"{"context": "Q", "choices": ["a", "b"], "answer": 2}"#),
            Err("row 3 of `piqa`: `answer` must be a whole number from 0 to 1; use data with the right answers in it"
                .into())
        );
        assert_eq!(
            read(r#"{"context": "Q", "choices": ["a"], "answer": 0}"#),
            Err("row 3 of `piqa`: 1 choices are too few; at least 2 are needed".into())
        );
        assert_eq!(
            read(r#"{"context": "Q", "choices": ["a", ""], "answer": 0}"#),
            Err("row 3 of `piqa`: choice 1 is empty".into())
        );
    }
}

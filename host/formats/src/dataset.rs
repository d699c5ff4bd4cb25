//! Data sets on disk, seen as rows of JSON: JSONL, a JSON array, CSV with a header, or plain text in passages.

use crate::FormatError;
use crate::checkpoint::hex;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Passages of plain text are joined until a row has at least this many characters.
const PASSAGE_CHARACTERS: usize = 2000;

/// A data set, in memory.
#[derive(Debug, Clone)]
pub struct Dataset {
    name: String,
    folder: PathBuf,
    rows: Vec<String>,
    digest: String,
}

impl Dataset {
    /// Reads a file by its extension: `.jsonl` (an object a line), `.json` (an array of objects), `.csv` (a header, then
    /// rows whose values become texts), `.txt` (passages: split at blank lines and joined to at least 2000 characters,
    /// as `{"text": ...}`).
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let bytes = std::fs::read(path).map_err(|e| FormatError::io(path, e))?;
        let digest = hex(&Sha256::digest(&bytes));
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        if !["jsonl", "json", "csv", "txt"].contains(&extension.as_str()) {
            let remedy = "name it by its format: .jsonl, .json, .csv or .txt";
            return Err(FormatError::unsupported(path, format!("a data set with the extension `{extension}`"), remedy));
        }
        let text = String::from_utf8(bytes).map_err(|e| {
            let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
            FormatError::malformed(path, format!("line {line}"), "is not UTF-8")
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let rows = match extension.as_str() {
            "jsonl" => json_lines(path, text)?,
            "json" => json_array(path, text)?,
            "csv" => csv_rows(path, text)?,
            _ => passages(text),
        };
        if rows.is_empty() {
            return Err(FormatError::missing(
                path,
                "rows",
                "an evaluation needs at least one: check that the file is whole",
            ));
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { name, folder, rows, digest })
    }

    /// The file's name without its extension.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder that the file lies in, and files that its rows name.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Number of rows, at least 1.
    #[allow(clippy::len_without_is_empty, reason = "a data set without rows cannot be made")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// A row as a JSON object. Panics when `index` is not below [`Dataset::len`].
    pub fn row(&self, index: usize) -> &str {
        &self.rows[index]
    }

    /// SHA-256 of the file, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

fn json_lines(path: &Path, text: &str) -> Result<Vec<String>, FormatError> {
    let mut rows = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let fail = |problem: String| FormatError::malformed(path, format!("line {}", i + 1), problem);
        match serde_json::from_str::<Json>(line) {
            Ok(Json::Object(_)) => rows.push(line.to_owned()),
            Ok(_) => return Err(fail("is not a JSON object".into())),
            // The line number that serde_json knows is always 1 here.
            Err(e) => return Err(fail(e.to_string().replace(" at line 1 column", " at column"))),
        }
    }
    Ok(rows)
}

fn json_array(path: &Path, text: &str) -> Result<Vec<String>, FormatError> {
    let json: Json = serde_json::from_str(text).map_err(|e| FormatError::malformed(path, "JSON", e.to_string()))?;
    let Json::Array(rows) = json else {
        return Err(FormatError::malformed(path, "JSON", "is not an array of objects"));
    };
    match rows.iter().position(|row| !row.is_object()) {
        Some(i) => Err(FormatError::malformed(path, format!("row {}", i + 1), "is not a JSON object")),
        None => Ok(rows.iter().map(Json::to_string).collect()),
    }
}

fn csv_rows(path: &Path, text: &str) -> Result<Vec<String>, FormatError> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let fail = |e: csv::Error| FormatError::malformed(path, "CSV", e.to_string());
    let header = reader.headers().map_err(fail)?.clone();
    let object = |record: csv::StringRecord| {
        let cells = header.iter().zip(record.iter());
        Json::Object(cells.map(|(key, cell)| (key.to_owned(), Json::String(cell.to_owned()))).collect()).to_string()
    };
    reader.records().map(|record| record.map(object).map_err(fail)).collect()
}

fn passages(text: &str) -> Vec<String> {
    let text = text.replace("\r\n", "\n");
    let row = |passage: &str| serde_json::json!({ "text": passage }).to_string();
    let (mut rows, mut passage, mut characters) = (Vec::new(), String::new(), 0);
    let mut lines = text.lines().peekable();
    while lines.peek().is_some() {
        let paragraph: Vec<&str> = lines.by_ref().map(str::trim_end).take_while(|line| !line.is_empty()).collect();
        if paragraph.is_empty() {
            continue;
        }
        if !passage.is_empty() {
            passage.push_str("\n\n");
        }
        let paragraph = paragraph.join("\n");
        characters += paragraph.chars().count();
        passage.push_str(&paragraph);
        if characters >= PASSAGE_CHARACTERS {
            rows.push(row(&passage));
            passage.clear();
            characters = 0;
        }
    }
    if !passage.is_empty() {
        rows.push(row(&passage));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(name: &str, content: &str) -> Result<Dataset, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        Dataset::open(&path).map_err(|e| e.to_string().replace(&*path.to_string_lossy(), name))
    }

    #[test]
    fn the_three_tabular_formats_give_the_same_rows() {
        let expected = r#"{"question":"2+2?","answer":"4"}"#;
        for (name, content) in [
            ("math.jsonl", "\n{\"question\":\"2+2?\",\"answer\":\"4\"}\r\n\n"),
            ("math.json", "[{\"question\": \"2+2?\", \"answer\": \"4\"}]"),
            ("math.csv", "question,answer\n2+2?,4\n"),
        ] {
            let data = open(name, content).unwrap();
            assert_eq!((data.name(), data.len(), data.row(0)), ("math", 1, expected));
        }
    }

    #[test]
    fn text_is_joined_from_paragraphs_to_passages() {
        let paragraph = format!("{}\n{}", "a".repeat(700), "é".repeat(500));
        let data = open("book.txt", &format!("\n\n{paragraph}\r\n  \r\n\n{paragraph}\n\nend")).unwrap();
        assert_eq!(data.len(), 2);
        let first: Json = serde_json::from_str(data.row(0)).unwrap();
        assert_eq!(first["text"], format!("{paragraph}\n\n{paragraph}"));
        assert_eq!(data.row(1), r#"{"text":"end"}"#);
    }

    #[test]
    fn bad_data_is_refused_with_its_place() {
        let cases = [
            ("a.jsonl", "", "a.jsonl: no rows; an evaluation needs at least one: check that the file is whole"),
            ("a.txt", " \n\n", "a.txt: no rows; an evaluation needs at least one: check that the file is whole"),
            (
                "a.jsonl",
                "{\"a\": 1}\n{\"a\": }\n",
                "a.jsonl: line 2: expected value at column 7; the file is damaged or not what its name says: fetch or convert it again",
            ),
            (
                "a.jsonl",
                "{}\n\n[1]\n",
                "a.jsonl: line 3: is not a JSON object; the file is damaged or not what its name says: fetch or convert it again",
            ),
            (
                "a.json",
                "[{}, 3]",
                "a.json: row 2: is not a JSON object; the file is damaged or not what its name says: fetch or convert it again",
            ),
            (
                "a.csv",
                "x,y\n1\n",
                "a.csv: CSV: CSV error: record 1 (line: 2, byte: 4): found record with 1 fields, but the previous record has 2 fields; the file is damaged or not what its name says: fetch or convert it again",
            ),
            (
                "a.parquet",
                "PAR1",
                "a.parquet: a data set with the extension `parquet` is not supported; name it by its format: .jsonl, .json, .csv or .txt",
            ),
        ];
        for (name, content, expected) in cases {
            assert_eq!(open(name, content).unwrap_err(), expected);
        }
    }
}

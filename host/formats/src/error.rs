//! What can be wrong with a file, told with the file, the field and what to do next.

use std::path::Path;

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The operating system refused.
    #[error("{path}: {source}; check that it exists and may be read (or, for an output, written)")]
    Io {
        /// The file or folder.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file ends before something that it announces.
    #[error(
        "{path}: truncated: {field} needs {needed} bytes at offset {offset}, but the file has {length}; fetch it again"
    )]
    Truncated {
        /// The file.
        path: String,
        /// What was being read.
        field: String,
        /// Bytes that it needs.
        needed: u64,
        /// Where it starts.
        offset: u64,
        /// Bytes that the file has.
        length: u64,
    },
    /// A field holds something that the format does not allow.
    #[error("{path}: {field}: {problem}; the file is damaged or not what its name says: fetch or convert it again")]
    Malformed {
        /// The file, with the line for line-based formats.
        path: String,
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something that is needed is not there.
    #[error("{path}: no {what}; {remedy}")]
    Missing {
        /// The file or folder.
        path: String,
        /// What is missing.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// The format allows it, but this program does not read it.
    #[error("{path}: {what} is not supported; {remedy}")]
    Unsupported {
        /// The file.
        path: String,
        /// What is not supported.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// Text could not be tokenised, decoded, or put through the chat template.
    #[error("{path}: {what}: {problem}")]
    Text {
        /// Where the tokenizer came from.
        path: String,
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        problem: String,
    },
}

impl FormatError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.display().to_string(), source }
    }

    pub(crate) fn malformed(path: &Path, field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.display().to_string(), field: field.into(), problem: problem.into() }
    }

    pub(crate) fn missing(path: &Path, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Missing { path: path.display().to_string(), what: what.into(), remedy: remedy.into() }
    }

    pub(crate) fn unsupported(path: &Path, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unsupported { path: path.display().to_string(), what: what.into(), remedy: remedy.into() }
    }
}

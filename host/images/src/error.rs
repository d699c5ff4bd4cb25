//! What can be wrong with an image, told with what to do next.

/// Why an image could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The operating system refused.
    #[error("{path}: {source}; check that it is a file that exists and may be read")]
    Unreadable {
        /// The file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// What is wrong with the content of a file.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: Box<ImageError>,
    },
    /// Neither PNG nor JPEG, by the first bytes.
    #[error("{found}, but images are read from PNG or JPEG; convert it to PNG")]
    Format {
        /// What it seems to be, with an article.
        found: &'static str,
    },
    /// The file ends early or contradicts itself.
    #[error("the {format} is damaged: {problem}; fetch it again or save it anew")]
    Damaged {
        /// `PNG`, `JPEG` or `file`.
        format: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The format allows it, but this program does not read it.
    #[error("a {format} of a kind that is not read: {problem}; save it anew as an 8-bit PNG")]
    Unsupported {
        /// `PNG` or `JPEG`.
        format: &'static str,
        /// What is not supported.
        problem: String,
    },
    /// More than is read.
    #[error("the image has {found} {what}, at most {allowed} are read; make it smaller")]
    TooLarge {
        /// What there is too much of: `bytes`, `pixels`, `pixels a row` or `pixels a column`.
        what: &'static str,
        /// How many the file has or announces.
        found: u64,
        /// How many are allowed.
        allowed: u64,
    },
    /// The pixels given do not fill the size given, or there are none.
    #[error("{found} bytes are no image of {width} x {height} pixels; give 3 a pixel, and at least one pixel")]
    Pixels {
        /// Pixels in a row.
        width: u32,
        /// Pixels in a column.
        height: u32,
        /// Bytes given.
        found: usize,
    },
    /// The picture cannot be cut into whole blocks of patches.
    #[error(
        "{width} x {height} pixels are not whole blocks of {block} x {block} patches of {patch} x {patch} pixels; resize \
         to multiples of the product, at least 1"
    )]
    Sides {
        /// Pixels in a row.
        width: u32,
        /// Pixels in a column.
        height: u32,
        /// Pixels on a side of a patch.
        patch: u32,
        /// Patches on a side of a block.
        block: u32,
    },
    /// Pixels cannot be normalised by these numbers.
    #[error(
        "a mean of {mean} and a deviation of {deviation} cannot normalise pixels; give finite numbers, and a deviation \
         above 0"
    )]
    Normalisation {
        /// The mean of a channel.
        mean: f32,
        /// Its deviation.
        deviation: f32,
    },
}

impl ImageError {
    pub(crate) fn damaged(format: &'static str, problem: impl Into<String>) -> Self {
        Self::Damaged { format, problem: problem.into() }
    }
}

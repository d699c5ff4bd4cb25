//! Images as vision-language models take them: read from PNG or JPEG, resized as Pillow does, cut into the normalised
//! patches that a vision encoder starts from. What comes out equals what the models saw in training, in transformers'
//! slow image processors. Sizes in a file are checked before any pixel is decoded.

mod decode;
mod error;
mod header;
mod patches;
mod resize;

pub use error::ImageError;
pub use patches::Normalisation;
pub use resize::Filter;

use std::io::Read;
use std::path::Path;

/// The longest side that is read, in pixels.
pub const MAX_SIDE: u32 = 16384;
/// The most pixels that are read.
pub const MAX_PIXELS: u64 = 64_000_000;
/// The largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 64 << 20;

/// A picture of 8-bit RGB pixels, at least one.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Image {
    /// A picture of the given pixels: red, green and blue of each, left to right, then top to bottom. An error
    /// where a side is zero or `pixels` does not have `3 * width * height` bytes.
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self, ImageError> {
        let needed = u128::from(width) * u128::from(height) * 3;
        if needed == 0 || needed != pixels.len() as u128 {
            return Err(ImageError::Pixels { width, height, found: pixels.len() });
        }
        Ok(Self { width, height, pixels })
    }

    /// Reads a PNG or JPEG file, as [`Image::decode`] does. What is wrong with it is told with its path.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let unreadable = |source| ImageError::Unreadable { path: path.display().to_string(), source };
        let about = |problem| ImageError::File { path: path.display().to_string(), problem: Box::new(problem) };
        let data = std::fs::metadata(path).map_err(unreadable)?;
        if data.is_dir() {
            return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
        }
        // A pipe or a device could block or never end.
        if !data.is_file() {
            return Err(unreadable(std::io::Error::other("not a regular file")));
        }
        if data.len() > MAX_BYTES {
            return Err(about(ImageError::TooLarge { what: "bytes", found: data.len(), allowed: MAX_BYTES }));
        }
        let mut bytes = Vec::new();
        // It may grow meanwhile: `decode` refuses the byte too many.
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Self::decode(&bytes).map_err(about)
    }

    /// Pixels in a row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels in a column.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Red, green and blue of each pixel, left to right, then top to bottom: `3 * width * height` bytes.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The `width` x `height` pixels whose top left one is at `x`, `y`. What lies outside the picture becomes `fill`,
    /// so that this pads, too.
    ///
    /// # Panics
    ///
    /// If `width` or `height` is zero.
    pub fn cropped(&self, x: i64, y: i64, width: u32, height: u32, fill: [u8; 3]) -> Self {
        assert!(width > 0 && height > 0, "no picture of {width} x {height} pixels");
        let mut pixels = fill.repeat(width as usize * height as usize);
        let columns = overlap(x, width, self.width);
        let rows = overlap(y, height, self.height);
        if let (Some((from_x, to_x, wide)), Some((from_y, to_y, high))) = (columns, rows) {
            let source = self.pixels.chunks_exact(3 * self.width as usize).skip(from_y).take(high);
            let target = pixels.chunks_exact_mut(3 * width as usize).skip(to_y);
            for (source, target) in source.zip(target) {
                target[3 * to_x..3 * (to_x + wide)].copy_from_slice(&source[3 * from_x..3 * (from_x + wide)]);
            }
        }
        Self { width, height, pixels }
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({} x {})", self.width, self.height)
    }
}

/// Where the `length` places from `start` on meet those from 0 to `size`: the first one counted from 0, the first one
/// counted from `start`, and how many they are.
fn overlap(start: i64, length: u32, size: u32) -> Option<(usize, usize, usize)> {
    let first = start.max(0);
    let end = start.saturating_add(length.into()).min(size.into());
    (first < end).then(|| (first as usize, (first - start) as usize, (end - first) as usize))
}

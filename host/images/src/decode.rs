//! From the bytes of a file to 8-bit RGB, the way Pillow gets there.

use crate::header::Header;
use crate::{Image, ImageError, MAX_BYTES};
use image::codecs::{jpeg::JpegDecoder, png::PngDecoder};
use image::{DynamicImage, ImageDecoder, Limits, RgbImage};
use std::io::Cursor;
use std::panic::{UnwindSafe, catch_unwind};

/// Bytes that the PNG decoder may take beside the pixels, such as for a colour profile.
const ASIDE: u64 = 64 << 20;

/// What is behind transparent pixels.
const WHITE: u8 = 255;

impl Image {
    /// Reads a PNG or JPEG of at most [`MAX_BYTES`], [`MAX_SIDE`](crate::MAX_SIDE) and
    /// [`MAX_PIXELS`](crate::MAX_PIXELS).
    ///
    /// What is transparent becomes white, and the EXIF orientation is applied. Of 16-bit samples the upper byte is
    /// taken, but 16-bit grey without alpha is cut off at 255, as Pillow's `convert("RGB")` does. Colour profiles are
    /// ignored. JPEG pixels differ from Pillow's by a few units at most, since decoders round differently.
    ///
    /// A file that ends early is an error. A JPEG damaged inside may still give a picture, as in other programs.
    pub fn decode(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(ImageError::TooLarge { what: "bytes", found: bytes.len() as u64, allowed: MAX_BYTES });
        }
        match Header::read(bytes)? {
            Header::Png { color, bits } => {
                let grey = color == 0 && bits == 16;
                let mut limits = Limits::no_limits();
                limits.max_alloc = Some(ASIDE);
                guarded("PNG", || finish("PNG", PngDecoder::with_limits(Cursor::new(bytes), limits), grey))
            }
            Header::Jpeg => guarded("JPEG", || finish("JPEG", JpegDecoder::new(Cursor::new(bytes)), false)),
        }
    }
}

/// Makes an error of a panic: the decoders' authors warn that damaged files can still cause one.
fn guarded(
    format: &'static str,
    decode: impl FnOnce() -> Result<Image, ImageError> + UnwindSafe,
) -> Result<Image, ImageError> {
    catch_unwind(decode).unwrap_or_else(|_| Err(ImageError::damaged(format, "the decoder gave up on it")))
}

/// Decodes the pixels, makes RGB of them and turns them upright. `clip`: 16-bit grey is cut off at 255.
fn finish(
    format: &'static str,
    decoder: Result<impl ImageDecoder, image::ImageError>,
    clip: bool,
) -> Result<Image, ImageError> {
    let refused = |error| refused(format, error);
    let mut decoder = decoder.map_err(refused)?;
    let orientation = decoder.orientation().map_err(refused)?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(refused)?;
    let (width, height) = (decoded.width(), decoded.height());
    let upper = |sample: u16| (sample >> 8) as u8;
    let grey = |sample: u16| if clip { sample.min(255) as u8 } else { upper(sample) };
    let pixels: Vec<u8> = match decoded {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageLuma8(image) => image.iter().flat_map(|l| [*l; 3]).collect(),
        DynamicImage::ImageLumaA8(image) => image.pixels().flat_map(|p| over_white([p.0[0]; 3], p.0[1])).collect(),
        DynamicImage::ImageRgba8(image) => {
            image.pixels().flat_map(|&image::Rgba([r, g, b, a])| over_white([r, g, b], a)).collect()
        }
        DynamicImage::ImageRgb16(image) => image.iter().map(|v| upper(*v)).collect(),
        DynamicImage::ImageLuma16(image) => image.iter().flat_map(|l| [grey(*l); 3]).collect(),
        DynamicImage::ImageLumaA16(image) => {
            image.pixels().flat_map(|p| over_white([grey(p.0[0]); 3], upper(p.0[1]))).collect()
        }
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|p| over_white([p.0[0], p.0[1], p.0[2]].map(upper), upper(p.0[3]))).collect()
        }
        other => {
            return Err(ImageError::Unsupported { format, problem: format!("pixels of {:?}", other.color()) });
        }
    };
    let missing = || ImageError::damaged(format, "it has too few pixels");
    let mut upright = DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, pixels).ok_or_else(missing)?);
    upright.apply_orientation(orientation);
    Image::new(upright.width(), upright.height(), upright.into_rgb8().into_raw())
}

/// A pixel over white, in the fixed point of Pillow's `alpha_composite`.
fn over_white(pixel: [u8; 3], alpha: u8) -> [u8; 3] {
    const BITS: u32 = 7;
    let own = u32::from(alpha) << BITS;
    let behind = (255 << BITS) - own;
    pixel.map(|value| {
        let sum = u32::from(value) * own + u32::from(WHITE) * behind + (0x80 << BITS);
        // Divided by 255, rounded.
        ((((sum >> 8) + sum) >> 8) >> BITS) as u8
    })
}

fn refused(format: &'static str, error: image::ImageError) -> ImageError {
    match error {
        image::ImageError::Unsupported(error) => ImageError::Unsupported { format, problem: error.to_string() },
        error => ImageError::damaged(format, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_panics_is_an_error() {
        let error = guarded("PNG", || panic!("on purpose")).unwrap_err();
        assert!(matches!(error, ImageError::Damaged { format: "PNG", .. }), "{error}");
    }
}

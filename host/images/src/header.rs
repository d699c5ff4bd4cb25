//! What a file announces, read without decoding: its format and size, and whether it is whole. Decoders salvage what
//! they can of a file that ends early; a model would then be shown half a picture.

use crate::{ImageError, MAX_PIXELS, MAX_SIDE};

const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// What kind of file it is, once it is known to be whole and of an allowed size.
pub(crate) enum Header {
    /// With the colour type and the bits of a sample in the header.
    Png {
        color: u8,
        bits: u8,
    },
    Jpeg,
}

impl Header {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.is_empty() {
            return Err(ImageError::damaged("file", "it is empty"));
        }
        if bytes.starts_with(&PNG_SIGNATURE[..4]) {
            png(bytes)
        } else if bytes.starts_with(b"\xff\xd8") {
            jpeg(bytes)
        } else {
            Err(ImageError::Format { found: foreign(bytes) })
        }
    }
}

fn check_size(format: &'static str, width: u32, height: u32) -> Result<(), ImageError> {
    if width == 0 || height == 0 {
        return Err(ImageError::damaged(format, format!("it announces {width} x {height} pixels")));
    }
    for (what, found) in [("pixels a row", width), ("pixels a column", height)] {
        if found > MAX_SIDE {
            return Err(ImageError::TooLarge { what, found: found.into(), allowed: MAX_SIDE.into() });
        }
    }
    let found = u64::from(width) * u64::from(height);
    if found > MAX_PIXELS {
        return Err(ImageError::TooLarge { what: "pixels", found, allowed: MAX_PIXELS });
    }
    Ok(())
}

/// Goes from chunk to chunk up to the last one, IEND. Checksums are the decoder's.
fn png(bytes: &[u8]) -> Result<Header, ImageError> {
    let damaged = |problem: &str| ImageError::damaged("PNG", problem);
    let cut = || damaged("it ends early");
    let signature = bytes.get(..PNG_SIGNATURE.len()).ok_or_else(cut)?;
    if signature != PNG_SIGNATURE {
        return Err(damaged("its line ends were changed, as by a transfer in text mode"));
    }
    let mut rest = &bytes[PNG_SIGNATURE.len()..];
    let mut header = None;
    loop {
        let (length, after) = rest.split_first_chunk().ok_or_else(cut)?;
        let (kind, after) = after.split_first_chunk::<4>().ok_or_else(cut)?;
        // The checksum is behind the content.
        let length = u32::from_be_bytes(*length) as usize;
        let content = after.get(..length);
        if header.is_none() {
            // The size is judged even if nothing follows.
            let [a, b, c, d, e, f, g, h, bits, color, ..] = content.ok_or_else(cut)? else {
                return Err(damaged("its header is too short"));
            };
            if kind != b"IHDR" {
                return Err(damaged("it does not start with a header"));
            }
            check_size("PNG", u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes([*e, *f, *g, *h]))?;
            header = Some(Header::Png { color: *color, bits: *bits });
        }
        // The decoder trusts this one.
        if kind == b"PLTE" && !(length.is_multiple_of(3) && (3..=768).contains(&length)) {
            return Err(damaged("its palette is not of 1 to 256 colours"));
        }
        rest = length.checked_add(4).and_then(|end| after.get(end..)).ok_or_else(cut)?;
        if kind == b"IEND" {
            return header.ok_or_else(cut);
        }
    }
}

/// Goes from marker to marker up to the end of the image. Thumbnails have such marks, too, but lie inside a segment.
fn jpeg(bytes: &[u8]) -> Result<Header, ImageError> {
    const END: u8 = 0xd9;
    const SCAN: u8 = 0xda;
    let damaged = |problem: &str| ImageError::damaged("JPEG", problem);
    let cut = || damaged("it ends early");
    let mut rest = &bytes[2..];
    let (mut sized, mut scanned) = (false, false);
    loop {
        // Between segments there may be data of a scan, in which FF 00 stands for FF, and marks D0 to D7 to restart at.
        let at = rest.windows(2).position(|two| two[0] == 0xff && !matches!(two[1], 0 | 0x01 | 0xd0..=0xd8 | 0xff));
        let at = at.ok_or_else(cut)?;
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        if marker == END {
            break;
        }
        let (length, _) = rest.split_first_chunk().ok_or_else(cut)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let segment = rest.get(..length).ok_or_else(cut)?;
        match marker {
            // Start of a frame. C4, C8 and CC are other things.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                let [_, _, _, high, low, wide, narrow, ..] = segment else {
                    return Err(damaged("its header is too short"));
                };
                let [height, width] = [[*high, *low], [*wide, *narrow]].map(|two| u16::from_be_bytes(two).into());
                check_size("JPEG", width, height)?;
                sized = true;
            }
            SCAN => scanned = true,
            _ => {}
        }
        rest = &rest[length..];
    }
    if !sized || !scanned {
        return Err(damaged("it has no picture"));
    }
    Ok(Header::Jpeg)
}

/// Names what a file seems to be by its first bytes.
fn foreign(bytes: &[u8]) -> &'static str {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if starts(b"GIF8") {
        return "a GIF image";
    }
    if starts(b"RIFF") && at(8, b"WEBP") {
        return "a WebP image";
    }
    if starts(b"BM") {
        return "a BMP image";
    }
    if starts(b"II*\0") || starts(b"MM\0*") {
        return "a TIFF image";
    }
    if starts(b"\0\0\0\x0cJXL ") || starts(b"\xff\x0a") {
        return "a JPEG XL image";
    }
    if starts(b"%PDF") {
        return "a PDF document";
    }
    if at(4, b"ftyp") {
        // AVIF may name itself among the brands behind the first.
        let brands = &bytes[8..bytes.len().min(64)];
        let named = |brand: &[u8; 4]| brands.chunks_exact(4).any(|four| four == brand);
        if named(b"avif") || named(b"avis") {
            return "an AVIF image";
        }
        if [b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"].into_iter().any(named) {
            return "a HEIC image";
        }
    }
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).to_ascii_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    // A page may have drawings in it.
    if text.starts_with("<!doctype html") || text.starts_with("<html") {
        return "an HTML page";
    }
    if text.starts_with('<') && text.contains("<svg") {
        return "an SVG drawing";
    }
    "a file of an unknown format"
}

//! What is no image, or not a whole one, is refused with a word on what to do, and never brings the program down.

use crate::{files, fixtures, stem};
use aehost_images::{Image, ImageError, MAX_BYTES, MAX_PIXELS, MAX_SIDE};
use std::path::PathBuf;

fn sources() -> Vec<PathBuf> {
    let mut sources = files(&fixtures("decode"), &["png", "jpg"]);
    sources.retain(|path| !stem(path).ends_with(".expected"));
    assert!(sources.len() > 40);
    sources
}

/// A PNG that is no more than its header.
fn header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.extend([8, 2, 0, 0, 0]);
    bytes
}

/// A JPEG that is no more than its header.
fn frame(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = b"\xff\xd8\xff\xc0\0\x11\x08".to_vec();
    bytes.extend(height.to_be_bytes());
    bytes.extend(width.to_be_bytes());
    bytes.extend(b"\x03\x01\x11\0\x02\x11\0\x03\x11\0");
    bytes
}

#[test]
fn a_file_that_ends_early() {
    for path in sources() {
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            let result = Image::decode(&bytes[..length]);
            assert!(result.is_err(), "{}: {length} of {} bytes gave a picture", path.display(), bytes.len());
            if length > 3 {
                let error = result.unwrap_err();
                assert!(matches!(error, ImageError::Damaged { .. }), "{}: {length} bytes: {error}", path.display());
                assert!(error.to_string().contains("fetch it again"), "{error}");
            }
        }
    }
}

/// A small generator of numbers, so that a failure comes again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % limit
    }
}

#[test]
fn changed_bytes_bring_nothing_down() {
    let mut numbers = Numbers(1);
    let (mut read, mut refused) = (0, 0);
    for path in sources() {
        let bytes = std::fs::read(&path).unwrap();
        for _ in 0..200 {
            let mut changed = bytes.clone();
            for _ in 0..=numbers.below(4) {
                let at = numbers.below(changed.len());
                changed[at] = numbers.below(256) as u8;
            }
            match Image::decode(&changed) {
                Ok(image) => {
                    assert_eq!(image.pixels().len() as u64, 3 * u64::from(image.width()) * u64::from(image.height()));
                    read += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(read > 0 && refused > 0, "{read} read, {refused} refused");
}

#[test]
fn a_changed_png_is_noticed() {
    let path = fixtures("decode/png-rgb.png");
    let bytes = std::fs::read(path).unwrap();
    // Length and kind of the data come before it, the checksum and the last chunk after it.
    let start = bytes.windows(4).position(|four| four == b"IDAT").unwrap() + 4;
    for at in start..bytes.len() - 12 {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let error = Image::decode(&changed).unwrap_err();
        assert!(matches!(error, ImageError::Damaged { format: "PNG", .. }), "byte {at}: {error}");
    }
}

#[test]
fn more_pixels_than_are_read() {
    for (bytes, name) in [
        (header(100_000, 100_000), "pixels a row"),
        (header(MAX_SIDE + 1, 1), "pixels a row"),
        (header(1, MAX_SIDE + 1), "pixels a column"),
        (header(1, u32::MAX), "pixels a column"),
        (header(MAX_SIDE, 3907), "pixels"),
        (frame(MAX_SIDE as u16 + 1, 1), "pixels a row"),
        (frame(1, u16::MAX), "pixels a column"),
        (frame(8001, 8000), "pixels"),
    ] {
        let error = Image::decode(&bytes).unwrap_err();
        let ImageError::TooLarge { what, found, allowed } = error else { panic!("{error}") };
        assert_eq!(what, name);
        assert!(found > allowed, "{found}, {allowed}");
        assert!(allowed == MAX_PIXELS || allowed == u64::from(MAX_SIDE));
    }
    // The largest that are read get to the point where something is missing.
    for bytes in [header(MAX_SIDE, 3906), header(1, MAX_SIDE), frame(8000, 8000), frame(MAX_SIDE as u16, 1)] {
        let error = Image::decode(&bytes).unwrap_err();
        assert!(matches!(&error, ImageError::Damaged { problem, .. } if problem.contains("ends early")), "{error}");
    }
    let message = Image::decode(&header(100_000, 100_000)).unwrap_err().to_string();
    assert!(message.contains("100000") && message.contains("16384") && message.contains("smaller"), "{message}");
}

#[test]
fn a_picture_without_pixels() {
    for bytes in [header(0, 5), header(5, 0), frame(0, 5), frame(5, 0)] {
        let error = Image::decode(&bytes).unwrap_err();
        assert!(matches!(&error, ImageError::Damaged { problem, .. } if problem.contains("announces")), "{error}");
    }
}

#[test]
fn an_end_without_a_picture() {
    let mut png = header(5, 5);
    png.extend(b"\0\0\0\0\0\0\0\0IEND\0\0\0\0");
    let error = Image::decode(&png).unwrap_err();
    assert!(matches!(error, ImageError::Damaged { format: "PNG", .. }), "{error}");
    let mut jpeg = frame(5, 5);
    for bytes in [b"\xff\xd8\xff\xd9".to_vec(), {
        jpeg.extend(b"\xff\xd9");
        jpeg
    }] {
        let error = Image::decode(&bytes).unwrap_err();
        assert!(matches!(&error, ImageError::Damaged { problem, .. } if problem.contains("no picture")), "{error}");
    }
}

#[test]
fn a_palette_of_no_whole_colours() {
    for length in [0, 1, 2, 4, 769, 771] {
        let mut bytes = header(5, 5);
        // Colour type 3, and a checksum that is not looked at before.
        bytes[25] = 3;
        bytes.extend([0; 4]);
        bytes.extend(u32::to_be_bytes(length));
        bytes.extend(b"PLTE");
        bytes.resize(bytes.len() + length as usize + 4, 0);
        let error = Image::decode(&bytes).unwrap_err();
        assert!(matches!(&error, ImageError::Damaged { problem, .. } if problem.contains("palette")), "{error}");
    }
}

#[test]
fn a_file_with_more_behind_its_end() {
    for name in ["png-rgb.png", "jpg-color.jpg"] {
        let mut bytes = std::fs::read(fixtures("decode").join(name)).unwrap();
        let whole = Image::decode(&bytes).unwrap();
        bytes.extend(b"\xff\xd8 more");
        assert!(Image::decode(&bytes).unwrap() == whole, "{name}");
    }
}

#[test]
fn other_formats_by_name() {
    for (bytes, name) in [
        (b"GIF89a\x01\0\x01\0".as_slice(), "a GIF image"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "a WebP image"),
        (b"BM\x36\0\0\0\0\0", "a BMP image"),
        (b"II*\0\x08\0\0\0", "a TIFF image"),
        (b"MM\0*\0\0\0\x08", "a TIFF image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC image"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "an AVIF image"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1miaf", "an AVIF image"),
        (b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a", "a JPEG XL image"),
        (b"%PDF-1.7", "a PDF document"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<SVG/>", "an SVG drawing"),
        (b"\n<!DOCTYPE html><html><svg/></html>", "an HTML page"),
        (b"<html><body>Not found</body></html>", "an HTML page"),
        (b"some text about <svg>", "a file of an unknown format"),
        (b"\0\0\0\x18ftypisom", "a file of an unknown format"),
        (b"\0\0\0\x18ftyp", "a file of an unknown format"),
        (b"\x89", "a file of an unknown format"),
    ] {
        let error = Image::decode(bytes).unwrap_err();
        assert!(matches!(error, ImageError::Format { found } if found == name), "{name}: {error}");
        assert!(error.to_string().contains("convert it to PNG"), "{error}");
    }
}

#[test]
fn a_png_sent_as_text() {
    let error = Image::decode(b"\x89PNG\n\x1a\n\0\0\0\x0dIHDR").unwrap_err();
    assert!(error.to_string().contains("text mode"), "{error}");
}

#[test]
fn files_that_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.png");
    for path in [folder.path(), missing.as_path(), "/dev/null".as_ref()] {
        let error = Image::open(path).unwrap_err();
        assert!(matches!(error, ImageError::Unreadable { .. }), "{error}");
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.png");
    std::fs::write(&path, "").unwrap();
    let message = Image::open(&path).unwrap_err().to_string();
    assert_eq!(
        message,
        format!("{}: the file is damaged: it is empty; fetch it again or save it anew", path.display())
    );
    // As large as is said, without taking room.
    std::fs::File::create(&path).unwrap().set_len(MAX_BYTES + 5).unwrap();
    let message = Image::open(&path).unwrap_err().to_string();
    assert!(message.starts_with(&path.display().to_string()) && message.contains("67108869 bytes"), "{message}");
}

#[test]
fn more_bytes_than_are_read() {
    let mut bytes = std::fs::read(fixtures("decode/png-rgb.png")).unwrap();
    bytes.resize(MAX_BYTES as usize, 0);
    Image::decode(&bytes).unwrap();
    bytes.push(0);
    let error = Image::decode(&bytes).unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { what: "bytes", allowed: MAX_BYTES, .. }), "{error}");
}

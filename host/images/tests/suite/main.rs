//! Images through the whole crate, against what Pillow and transformers make of them. A file a subject.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crop;
mod decode;
mod malformed;
mod patches;
mod resize;

use aehost_images::Image;
use std::path::{Path, PathBuf};

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/images").join(folder)
}

/// An 8-bit RGB PNG, read without the code that is tested.
fn picture(path: &Path) -> Image {
    let pixels = image::load_from_memory(&std::fs::read(path).unwrap()).unwrap();
    let image::DynamicImage::ImageRgb8(pixels) = pixels else { panic!("{}: not 8-bit RGB", path.display()) };
    Image::new(pixels.width(), pixels.height(), pixels.into_raw()).unwrap()
}

/// Files of a folder with one of the extensions, in order.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| extensions.iter().any(|end| path.extension().is_some_and(|found| found == *end));
    let mut files: Vec<PathBuf> = entries.filter(named).collect();
    files.sort();
    files
}

fn stem(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

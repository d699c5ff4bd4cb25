//! Every resize is the one of Pillow, bit for bit.

use crate::{files, fixtures, picture, stem};
use aehost_images::{Filter, Image};

const FILTERS: [(&str, Filter); 4] = [
    ("nearest", Filter::Nearest),
    ("bilinear", Filter::Bilinear),
    ("bicubic", Filter::Bicubic),
    ("lanczos", Filter::Lanczos),
];

/// Compares every fixture made of a picture; there are `sizes` of each filter.
fn check(name: &str, sizes: usize) {
    let folder = fixtures("resize");
    let source = picture(&folder.join(format!("{name}.png")));
    let mut counts = [0; 4];
    for path in files(&folder.join(name), &["png"]) {
        let (size, filter) = stem(&path).split_once('-').unwrap();
        let (width, height) = size.split_once('x').unwrap();
        let filter = FILTERS.iter().position(|(name, _)| *name == filter).unwrap();
        let expected = picture(&path);
        let found = source.resized(width.parse().unwrap(), height.parse().unwrap(), FILTERS[filter].1);
        assert_eq!((found.width(), found.height()), (expected.width(), expected.height()), "{}", path.display());
        let differ = found.pixels().iter().zip(expected.pixels()).filter(|(a, b)| a != b).count();
        assert_eq!(differ, 0, "{}: values that differ", path.display());
        counts[filter] += 1;
    }
    assert_eq!(counts, [sizes; 4], "fixtures of {name}");
}

#[test]
fn noise() {
    check("noise", 10);
}

#[test]
fn smooth_picture() {
    check("smooth", 5);
}

#[test]
fn overshoot_is_cut_off() {
    check("checks", 2);
}

#[test]
fn lines_and_a_single_pixel() {
    check("column", 2);
    check("row", 2);
    check("dot", 1);
}

#[test]
fn rows_longer_than_what_is_summed_together() {
    check("wide", 1);
}

#[test]
fn filters_differ_where_pixels_do() {
    let source = picture(&fixtures("resize/noise.png"));
    let made: Vec<Image> = FILTERS.iter().map(|(_, filter)| source.resized(31, 17, *filter)).collect();
    for (at, one) in made.iter().enumerate() {
        assert!(made[..at].iter().all(|other| one != other), "{:?}", FILTERS[at].1);
    }
}

#[test]
#[should_panic(expected = "no picture of 0 x 3 pixels")]
fn no_empty_picture() {
    picture(&fixtures("resize/dot.png")).resized(0, 3, Filter::Bicubic);
}

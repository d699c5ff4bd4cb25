//! Crops, within the picture and beyond it.

use aehost_images::{Image, ImageError};

const FILL: [u8; 3] = [7, 8, 9];

fn numbered() -> Image {
    Image::new(5, 4, (0..60).collect()).unwrap()
}

/// Compares with taking pixels one by one.
fn check(x: i64, y: i64, width: u32, height: u32) {
    let source = numbered();
    let pixel = |x: i64, y: i64| -> [u8; 3] {
        if !(0..5).contains(&x) || !(0..4).contains(&y) {
            return FILL;
        }
        let at = 3 * (y * 5 + x) as usize;
        source.pixels()[at..at + 3].try_into().unwrap()
    };
    let places = (0..i64::from(height)).flat_map(|row| (0..i64::from(width)).map(move |column| (column, row)));
    let expected: Vec<u8> =
        places.flat_map(|(column, row)| pixel(x.saturating_add(column), y.saturating_add(row))).collect();
    let found = source.cropped(x, y, width, height, FILL);
    assert_eq!((found.width(), found.height()), (width, height));
    assert_eq!(found.pixels(), expected, "{width} x {height} at {x}, {y}");
}

#[test]
fn every_place_around_the_picture() {
    for x in -4..7 {
        for y in -4..6 {
            for (width, height) in [(1, 1), (3, 2), (5, 4), (9, 9)] {
                check(x, y, width, height);
            }
        }
    }
}

#[test]
fn places_at_the_end_of_numbers() {
    for place in [i64::MIN, i64::MAX] {
        check(place, 0, 2, 2);
        check(0, place, 2, 2);
    }
}

#[test]
fn pixels_must_fill_the_size() {
    for (width, height, bytes) in [(2, 2, 11), (2, 2, 13), (0, 2, 0), (2, 0, 0), (u32::MAX, u32::MAX, 3)] {
        let error = Image::new(width, height, vec![0; bytes]).unwrap_err();
        assert!(matches!(error, ImageError::Pixels { found, .. } if found == bytes), "{error}");
    }
}

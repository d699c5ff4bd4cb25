//! What becomes of an image: tiles of the tower's size and a view of the whole, as transformers' image processor cuts them
//! (Idefics3ImageProcessor), and the text around their rows (its processor).

use aehost_sdk::family::*;

/// An image is never larger, whatever the checkpoint says.
const MOST: u32 = 4096;

/// A side in proportion to one that was given, as Python's `int(float)` has it.
fn in_proportion(side: u32, ratio: f64) -> u32 {
    (f64::from(side) / ratio) as u32
}

/// Width and height with this longest edge.
fn scaled(width: u32, height: u32, longest: u32) -> (u32, u32) {
    let ratio = f64::from(width) / f64::from(height);
    let even = |side: u32| (side + side % 2).max(1);
    match width >= height {
        true => (longest, even(in_proportion(longest, ratio))),
        false => (even((f64::from(longest) * ratio) as u32), longest),
    }
}

/// At most [`MOST`] a side.
fn bounded(width: u32, height: u32) -> (u32, u32) {
    let ratio = f64::from(width) / f64::from(height);
    match width >= height {
        true if width > MOST => (MOST, in_proportion(MOST, ratio).max(1)),
        false if height > MOST => (((f64::from(MOST) * ratio) as u32).max(1), MOST),
        _ => (width, height),
    }
}

/// Whole tiles, the longer side first.
fn tiled(width: u32, height: u32, side: u32) -> (u32, u32) {
    let ratio = f64::from(width) / f64::from(height);
    let whole = |length: u32| length.div_ceil(side).max(1) * side;
    match width >= height {
        true => {
            let width = whole(width);
            (width, whole(in_proportion(width, ratio)))
        }
        false => {
            let height = whole(height);
            (whole((f64::from(height) * ratio) as u32), height)
        }
    }
}

fn resize((width, height): (u32, u32)) -> Setting {
    setting("resize", Value::Integers(vec![i64::from(width), i64::from(height)]))
}

fn crop(x: u32, y: u32, side: u32) -> Setting {
    setting("crop", Value::Integers([x, y, side, side].map(i64::from).to_vec()))
}

pub fn layout(facts: &dyn Facts, width: u32, height: u32) -> Result<Layout, Error> {
    let (side, longest) = (facts.size("image.side")?, facts.size("image.longest-edge")?);
    let rows = side / (facts.size("image.patch")? * facts.size("image.block")?);
    let token = "<image>".repeat((rows * rows) as usize);
    let whole = format!("<fake_token_around_image><global-img>{token}<fake_token_around_image>");
    let (width, height) = scaled(width, height, longest);
    let first = bounded(width, height);
    if !facts.flag("image.tiles") {
        let views = vec![View { steps: vec![resize(first), resize((side, side))] }];
        return Ok(Layout { views, text: whole });
    }
    let all = tiled(first.0, first.1, side);
    let before = vec![resize(first), resize(all)];
    if all == (side, side) {
        return Ok(Layout { views: vec![View { steps: before }], text: whole });
    }
    let (mut views, mut text) = (Vec::new(), String::new());
    for row in 0..all.1 / side {
        for column in 0..all.0 / side {
            let steps = before.iter().cloned().chain([crop(column * side, row * side, side)]).collect();
            views.push(View { steps });
            text.push_str(&format!("<fake_token_around_image><row_{}_col_{}>{token}", row + 1, column + 1));
        }
        text.push('\n');
    }
    views.push(View { steps: before.into_iter().chain([resize((side, side))]).collect() });
    text.push('\n');
    text.push_str(&whole);
    Ok(Layout { views, text })
}

//! Resizing as Pillow does it, bit for bit: models are trained on its pixels, and a resize that is merely as good gives
//! other logits. Follows the arithmetic of `Resample.c` and of the scaling in `Geometry.c` of Pillow 12.

use crate::Image;
use std::borrow::Cow;
use std::f64::consts::PI;

/// Bits behind the point of a weight. Sums of 8-bit values times weights keep 2 bits to spare in 32, since weights
/// may be below 0 and above 1.
const BITS: u32 = 32 - 8 - 2;

/// How pixels of a resized picture are made from those near them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filter {
    /// The one pixel at the place, Pillow's resample 0.
    Nearest,
    /// A triangle of 1 pixel to each side, Pillow's resample 2.
    Bilinear,
    /// A cubic with a = -0.5 of 2 pixels to each side, Pillow's resample 3.
    Bicubic,
    /// A windowed sinc of 3 pixels to each side, Pillow's resample 1.
    Lanczos,
}

/// What a pixel counts at a distance, before the weights of all are made to sum to 1, and the distance up to which it
/// may count, in pixels.
#[derive(Clone, Copy)]
struct Kernel {
    reach: f64,
    weight: fn(f64) -> f64,
}

impl Filter {
    /// Nothing for the one that takes single pixels.
    fn kernel(self) -> Option<Kernel> {
        let (reach, weight): (f64, fn(f64) -> f64) = match self {
            Self::Nearest => return None,
            Self::Bilinear => (1.0, |x| (1.0 - x.abs()).max(0.0)),
            Self::Bicubic => (2.0, |x| match x.abs() {
                near if near < 1.0 => (1.5 * near - 2.5) * near * near + 1.0,
                near if near < 2.0 => (((near - 5.0) * near + 8.0) * near - 4.0) * -0.5,
                _ => 0.0,
            }),
            Self::Lanczos => (3.0, |x| if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }),
        };
        Some(Kernel { reach, weight })
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

impl Image {
    /// The picture in `width` x `height` pixels, equal to Pillow's `Image.resize((width, height), filter)` of an RGB
    /// image. When shrinking, filters other than [`Filter::Nearest`] reach as much further, against aliasing.
    ///
    /// # Panics
    ///
    /// If `width` or `height` is zero.
    pub fn resized(&self, width: u32, height: u32, filter: Filter) -> Image {
        assert!(width > 0 && height > 0, "no picture of {width} x {height} pixels");
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let [from_width, from_height, to_width, to_height] =
            [self.width, self.height, width, height].map(|side| side as usize);
        let pixels = match filter.kernel() {
            None => nearest(&self.pixels, [from_width, from_height], [to_width, to_height]),
            // All rows of the picture count, so the first pass goes over all of them.
            Some(kernel) => {
                let mut pixels = Cow::from(&self.pixels);
                if to_width != from_width {
                    pixels = horizontal(&pixels, from_width, &Taps::new(from_width, to_width, kernel)).into();
                }
                if to_height != from_height {
                    pixels = vertical(&pixels, 3 * to_width, &Taps::new(from_height, to_height, kernel)).into();
                }
                pixels.into_owned()
            }
        };
        Image { width, height, pixels }
    }
}

/// Which places of a line make each place of a resized line, and how much each counts.
struct Taps {
    /// First place and number of places, for each of the resized line.
    spans: Vec<(usize, usize)>,
    /// Room for weights of each place of the resized line.
    room: usize,
    /// In units of 2^-BITS.
    weights: Vec<i32>,
}

impl Taps {
    fn new(from: usize, to: usize, kernel: Kernel) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let reach = kernel.reach * stretch;
        let room = reach.ceil() as usize * 2 + 1;
        let mut spans = Vec::with_capacity(to);
        let mut weights = vec![0; to * room];
        let mut exact = Vec::with_capacity(room);
        for (place, weights) in weights.chunks_exact_mut(room).enumerate() {
            let center = (place as f64 + 0.5) * scale;
            // Casts cut off towards zero, and below it at zero.
            let first = (center - reach + 0.5) as usize;
            let end = ((center + reach + 0.5) as usize).min(from);
            let distance = |tap: usize| (tap as f64 - center + 0.5) * (1.0 / stretch);
            exact.clear();
            exact.extend((first..end).map(|tap| (kernel.weight)(distance(tap))));
            let sum: f64 = exact.iter().sum();
            for (weight, exact) in weights.iter_mut().zip(&exact) {
                let scaled = if sum == 0.0 { *exact } else { exact / sum } * f64::from(1 << BITS);
                *weight = (scaled + if scaled < 0.0 { -0.5 } else { 0.5 }) as i32;
            }
            spans.push((first, end - first));
        }
        Self { spans, room, weights }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let rooms = self.weights.chunks_exact(self.room);
        self.spans.iter().zip(rooms).map(|((first, count), weights)| (*first, &weights[..*count]))
    }
}

/// What sums start from, so that cutting off rounds.
const HALF: i32 = 1 << (BITS - 1);

fn cut(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Resizes rows of `width` pixels.
fn horizontal(source: &[u8], width: usize, taps: &Taps) -> Vec<u8> {
    let rows = source.len() / (3 * width);
    let mut pixels = vec![0; rows * 3 * taps.spans.len()];
    let targets = pixels.chunks_exact_mut(3 * taps.spans.len());
    for (row, target) in source.chunks_exact(3 * width).zip(targets) {
        let (row, _) = row.as_chunks::<3>();
        let (target, _) = target.as_chunks_mut::<3>();
        for (target, (first, weights)) in target.iter_mut().zip(taps.iter()) {
            let mut sums = [HALF; 3];
            for (pixel, weight) in row[first..first + weights.len()].iter().zip(weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            *target = sums.map(cut);
        }
    }
    pixels
}

/// Resizes columns of a picture with `stride` bytes a row.
fn vertical(source: &[u8], stride: usize, taps: &Taps) -> Vec<u8> {
    /// Values whose sums are made together: they stay in the nearest cache.
    const WIDE: usize = 2048;
    let mut pixels = vec![0; stride * taps.spans.len()];
    let mut sums = vec![0; WIDE.min(stride)];
    for (target, (start, weights)) in pixels.chunks_exact_mut(stride).zip(taps.iter()) {
        let rows = &source[stride * start..];
        for (part, target) in target.chunks_mut(WIDE).enumerate() {
            let sums = &mut sums[..target.len()];
            sums.fill(HALF);
            for (row, weight) in rows.chunks_exact(stride).zip(weights) {
                let row = &row[part * WIDE..][..sums.len()];
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += i32::from(*value) * weight;
                }
            }
            for (target, sum) in target.iter_mut().zip(sums) {
                *target = cut(*sum);
            }
        }
    }
    pixels
}

/// Takes for each pixel the one at its centre. Sides are `[width, height]`.
fn nearest(source: &[u8], from: [usize; 2], to: [usize; 2]) -> Vec<u8> {
    // Pillow adds up the places, so that they carry its rounding.
    let places = |axis: usize| {
        let step = from[axis] as f64 / to[axis] as f64;
        std::iter::successors(Some(step * 0.5), move |place| Some(place + step))
            .map(move |place| (place as usize).min(from[axis] - 1))
            .take(to[axis])
    };
    let columns: Vec<usize> = places(0).collect();
    let (source, _) = source.as_chunks::<3>();
    let mut pixels = Vec::with_capacity(3 * to[0] * to[1]);
    for y in places(1) {
        let row = &source[y * from[0]..][..from[0]];
        pixels.extend(columns.iter().flat_map(|x| row[*x]));
    }
    pixels
}

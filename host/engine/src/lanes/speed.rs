//! How fast products are, by representation and level; one thread. To see it:
//!
//! `cargo test --release -p aehost-engine speed_of_products -- --ignored --nocapture`

use super::Level;
use crate::codec;
use crate::dense::Dense;
use crate::packed::{Activations, Packed};
use crate::representation::{Affine, Codebook};
use crate::{FloatType, Representation};
use aehost_formats::Encoding;
use std::time::Instant;

const ROWS: usize = 1536;
const COLUMNS: usize = 768;

#[test]
#[ignore = "it measures, and proves nothing"]
fn speed_of_products() {
    let affine = |bits, group, symmetric| Representation::Affine(Affine { bits, group, symmetric });
    let mut forms: Vec<Representation> =
        crate::representation::BLOCKED.into_iter().map(Representation::Blocked).collect();
    assert!(forms.contains(&Representation::Blocked(Encoding::Q4_0)));
    forms.extend([2, 3, 4, 8].map(|bits| affine(bits, 64, false)));
    forms.push(affine(4, 128, true));
    forms.push(Representation::Codebook(Codebook { group: 64, table: std::array::from_fn(|i| 16 * i as i8 - 120) }));
    forms.extend([FloatType::F32, FloatType::F16, FloatType::BF16].map(Representation::Dense));
    forms.push(Representation::Sparse(FloatType::F16));
    let values: Vec<f32> = (0..ROWS * COLUMNS).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    println!("{:28} {:8} {:>12} {:>12} {:>12}", "", "", "512 tokens", "1 token", "1 token");
    println!("{:28} {:8} {:>12} {:>12} {:>12}", "", "level", "GMAC/s", "GMAC/s", "GB/s");
    for form in forms {
        let bytes = codec::encode(form, &values, ROWS, COLUMNS, None).unwrap();
        let packed = Packed::new(form, &bytes, ROWS, COLUMNS);
        let dense = Dense::new(form, &bytes, ROWS, COLUMNS);
        for level in Level::available() {
            let rate = |tokens: usize| {
                let x = &values[..tokens * COLUMNS];
                let mut y = vec![0f32; tokens * ROWS];
                let mut room = Activations::default();
                let rounded = room.round(x, COLUMNS);
                let mut best = f64::INFINITY;
                for _ in 0..if tokens == 1 { 200 } else { 8 } {
                    let start = Instant::now();
                    // SAFETY: the output is as large as it must be, and the room lives on.
                    unsafe {
                        for first in (0..ROWS / 16).step_by(6) {
                            match (&packed, &dense) {
                                (Some(packed), _) => {
                                    packed.linear_tiles(level, first..first + 6, rounded, y.as_mut_ptr())
                                }
                                (_, Some(dense)) => dense.linear_tiles(level, first..first + 6, x, y.as_mut_ptr()),
                                _ => unreachable!("every representation is one or the other"),
                            }
                        }
                    }
                    best = best.min(start.elapsed().as_secs_f64());
                }
                (tokens * ROWS * COLUMNS) as f64 / best / 1e9
            };
            let (many, one) = (rate(512), rate(1));
            let gigabytes = one * bytes.len() as f64 / (ROWS * COLUMNS) as f64;
            println!("{:28} {:8} {many:12.1} {one:12.1} {gigabytes:12.1}", form.to_string(), format!("{level:?}"));
        }
    }
}

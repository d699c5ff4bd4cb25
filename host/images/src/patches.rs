//! Pixels as a vision encoder takes them: normalised, in rows of one patch each.

use crate::{Image, ImageError};

/// How pixel values become the numbers a model takes: `(value / 255 - mean) / deviation`, for red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalisation {
    /// What to take off, of values from 0 to 1.
    pub mean: [f32; 3],
    /// What to divide by then, above 0.
    pub deviation: [f32; 3],
}

impl Normalisation {
    /// The number for each value of each channel. As numpy does in transformers' slow image processors: scaled in
    /// 64 bits, normalised in 32.
    fn table(&self) -> Result<[[f32; 256]; 3], ImageError> {
        let mut table = [[0.0; 256]; 3];
        for (table, (mean, deviation)) in table.iter_mut().zip(self.mean.into_iter().zip(self.deviation)) {
            if !(mean.is_finite() && deviation.is_finite() && deviation > 0.0) {
                return Err(ImageError::Normalisation { mean, deviation });
            }
            for (value, number) in table.iter_mut().enumerate() {
                *number = ((value as f64 * (1.0 / 255.0)) as f32 - mean) / deviation;
            }
        }
        Ok(table)
    }
}

impl Image {
    /// Cuts the picture into patches of `patch` x `patch` pixels: rows `[patches, 3 * patch * patch]`, each of them by
    /// channel, then y, then x, like the flattened weight of a convolution whose kernel and stride are a patch.
    ///
    /// Patches come in blocks of `block` x `block`, as models want them that merge neighbours: blocks left to right,
    /// then top to bottom, and so the patches in each. With a `block` of 1 patches simply come left to right, then top to
    /// bottom. An error where a side is no multiple of `patch * block`.
    pub fn patches(&self, patch: u32, block: u32, by: &Normalisation) -> Result<Vec<f32>, ImageError> {
        let sides = || ImageError::Sides { width: self.width, height: self.height, patch, block };
        let step = patch.checked_mul(block).filter(|step| *step > 0).ok_or_else(sides)?;
        if !self.width.is_multiple_of(step) || !self.height.is_multiple_of(step) {
            return Err(sides());
        }
        let table = by.table()?;
        let (patch, step, width) = (patch as usize, step as usize, self.width as usize);
        let (pixels, _) = self.pixels.as_chunks::<3>();
        let corners = |start: usize, end: usize, step: usize| (start..end).step_by(step);
        let mut values = Vec::with_capacity(self.pixels.len());
        for block_y in corners(0, self.height as usize, step) {
            for block_x in corners(0, width, step) {
                for top in corners(block_y, block_y + step, patch) {
                    for left in corners(block_x, block_x + step, patch) {
                        for (channel, table) in table.iter().enumerate() {
                            for y in top..top + patch {
                                let row = &pixels[y * width + left..][..patch];
                                values.extend(row.iter().map(|pixel| table[usize::from(pixel[channel])]));
                            }
                        }
                    }
                }
            }
        }
        Ok(values)
    }
}

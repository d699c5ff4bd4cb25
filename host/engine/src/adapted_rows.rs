//! The norms of a matrix's rows with an adapter added to it (DoRA, Liu et al., arXiv 2402.09353, section 4.1). The sum itself is never
//! made: |w + s u D|² = |w|² + 2 s u (D w) + s² u (D D') u', where D w is a product with as many rows as the adapter's rank.

use crate::matrix::Matrix;
use crate::{EngineError, Variant};
use aehost_graph::Node;
use candle_core::Device;
use rayon::prelude::*;
use std::sync::Arc;

/// A matrix `[rows, columns]`, and the adapter as it stands: `down` `[rank, columns]` and `up` `[rows, rank]`.
pub(crate) struct AdaptedRows {
    matrix: Arc<Vec<Matrix>>,
    /// |w|² of each row.
    squares: Vec<f32>,
    scale: f64,
    down: Vec<f32>,
    up: Vec<f32>,
}

impl AdaptedRows {
    /// What a node `inverse-norms` is about.
    pub fn of(variant: &Variant, node: &Node) -> Result<Self, EngineError> {
        let weight = |slot: &str| {
            let name =
                node.spec.weight(slot).ok_or_else(|| EngineError::NoWeight(format!("{}.{slot}", node.spec.name)));
            variant.weight(name?)
        };
        let matrix = variant.pool.get(weight("weight")?, &Device::Cpu)?;
        let (rows, columns) = matrix[0].shape();
        let square = |row: &mut Vec<f32>, number: usize| {
            matrix[0].row(number, row);
            row.iter().map(|w| w * w).sum()
        };
        let squares = (0..rows).into_par_iter().map_init(|| vec![0f32; columns], square).collect();
        let (down, up) = (weight("down")?.floats()?, weight("up")?.floats()?);
        Ok(Self { matrix, squares, scale: node.spec.real("scale").unwrap_or(1.0), down, up })
    }

    /// Puts other numbers in the adapter.
    pub fn set(&mut self, down: Option<&[f32]>, up: Option<&[f32]>) {
        for (to, from) in [(&mut self.down, down), (&mut self.up, up)] {
            if let Some(from) = from {
                to.copy_from_slice(from);
            }
        }
    }

    /// 1 over the norm of each row.
    pub fn inverse_norms(&self) -> Vec<f32> {
        let (rows, columns) = self.matrix[0].shape();
        let rank = self.down.len() / columns.max(1);
        let mut crossed = vec![0f32; rank * rows];
        self.matrix[0].linear(&self.down, &mut crossed);
        let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum() };
        let line = |k: usize| &self.down[k * columns..][..columns];
        let gram: Vec<f64> = (0..rank * rank).map(|i| dot(line(i / rank), line(i % rank))).collect();
        let norm = |row: usize| {
            let up = &self.up[row * rank..][..rank];
            let (mut linear, mut square) = (0f64, 0f64);
            for (i, u) in up.iter().enumerate() {
                linear += f64::from(*u) * f64::from(crossed[i * rows + row]);
                let weighted: f64 = up.iter().zip(&gram[i * rank..]).map(|(u, g)| f64::from(*u) * g).sum();
                square += f64::from(*u) * weighted;
            }
            let square = f64::from(self.squares[row]) + 2.0 * self.scale * linear + self.scale.powi(2) * square;
            (1.0 / square.max(f64::from(f32::MIN_POSITIVE)).sqrt()) as f32
        };
        (0..rows).into_par_iter().map(norm).collect()
    }
}

//! Sorting along the last axis. Elements become integers that order as they do, with NaN after everything else, so that
//! one stable, total order serves every dtype; ties keep the order of their indices.

use super::{Result, describe, elements, fault};
use aehost_common::Fault;
use candle_core::{D, DType, Device, Tensor};
use rayon::prelude::*;

/// An integer that orders as the number does.
fn key(value: f64) -> i64 {
    if value.is_nan() {
        return i64::MAX;
    }
    let bits = (value + 0.0).to_bits() as i64;
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

fn keys(tensor: &Tensor) -> Result<Vec<i64>> {
    if tensor.dtype().is_float() {
        Ok(elements::<f64>(tensor, DType::F64)?.into_iter().map(key).collect())
    } else {
        elements(tensor, DType::I64)
    }
}

/// The first `k` of each row in order: values and uint32 indices.
fn ordered(op: &str, tensor: &Tensor, k: usize, descending: bool) -> Result<(Tensor, Tensor)> {
    let Some(width) = tensor.dims().last().copied() else {
        return Err(Fault::invalid(format!("{op}: {} has no axis", describe(tensor))));
    };
    if k == 0 || k > width {
        return Err(Fault::invalid(format!("{op}: {k} of the last axis of {}", describe(tensor))));
    }
    let keys = keys(tensor)?;
    let rows: Vec<Vec<u32>> = keys
        .par_chunks(width)
        .map(|row| {
            let mut indices: Vec<u32> = (0..width as u32).collect();
            let compare = |a: &u32, b: &u32| {
                let (x, y) = (row[*a as usize], row[*b as usize]);
                if descending { y.cmp(&x) } else { x.cmp(&y) }.then(a.cmp(b))
            };
            if k < width {
                indices.select_nth_unstable_by(k - 1, compare);
                indices.truncate(k);
            }
            indices.sort_unstable_by(compare);
            indices
        })
        .collect();
    let mut shape = tensor.dims().to_vec();
    shape[tensor.rank() - 1] = k;
    let build = || {
        let indices = Tensor::from_vec(rows.concat(), shape, &Device::Cpu)?.to_device(tensor.device())?;
        Ok((tensor.contiguous()?.gather(&indices, D::Minus1)?, indices))
    };
    build().map_err(fault)
}

/// Values and indices of the k largest (or smallest) along the last axis, in order.
pub fn top_k(tensor: &Tensor, k: u32, largest: bool) -> Result<(Tensor, Tensor)> {
    ordered("top-k", tensor, k as usize, largest)
}

/// Values and indices along the last axis.
pub fn sort(tensor: &Tensor, descending: bool) -> Result<(Tensor, Tensor)> {
    ordered("sort", tensor, tensor.dims().last().copied().unwrap_or(0), descending)
}

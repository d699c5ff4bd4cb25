//! A weight matrix on the device where it runs, in the form in which it runs fastest there, and the two things that are
//! done with it: products and looking up rows.

use crate::dense::Dense;
use crate::packed::{self, Layout, Packed};
use crate::stored::Stored;
use crate::weight::Weight;
use crate::{EngineError, FloatType};
use aehost_formats::{Checkpoint, Encoding};
use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{DType, Device, Module, Tensor};
use std::sync::Arc;

/// A matrix `[rows, columns]`.
pub(crate) enum Matrix {
    /// Blocks in the order of the CPU's kernels.
    Packed(Packed),
    /// Numbers in the order of the CPU's kernels.
    Dense(Dense),
    /// On the CPU as the file has it: formats without a kernel, and all where the kernels do not run.
    Stored(Stored),
    /// Dense, on another device.
    Device(Tensor),
    /// Blocked, on another device.
    DeviceBlocked(QMatMul, Arc<QTensor>),
}

impl Matrix {
    /// Makes a weight ready to run on a device: the matrices of a stack `[n, rows, columns]`, else one.
    pub fn stack(weight: &Weight, checkpoint: &Checkpoint, device: &Device) -> Result<Vec<Self>, EngineError> {
        let encoding = weight.form.encoding();
        let (all_rows, columns) = weight.matrix_shape();
        let count = weight.shape.iter().rev().skip(2).product::<usize>().max(1);
        let rows = all_rows / count;
        let on_cpu = matches!(device, Device::Cpu);
        let kernels = on_cpu && packed::available() && (!encoding.is_blocked() || Layout::of(encoding).is_some());
        if on_cpu && !kernels && count == 1 {
            return Ok(vec![Self::Stored(weight.stored(checkpoint)?)]);
        }
        let one = |bytes: &[u8]| {
            Ok(match on_cpu {
                true if kernels => match Dense::new(encoding, bytes, rows, columns) {
                    Some(dense) => Self::Dense(dense),
                    None => Self::Packed(Packed::new(encoding, bytes, rows, columns)),
                },
                true => Self::Stored(Stored::from_bytes(encoding, bytes, rows, columns)?),
                false => on_device(encoding, bytes, rows, columns, device)?,
            })
        };
        weight.with_bytes(checkpoint, |bytes| bytes.chunks_exact((bytes.len() / count).max(1)).map(one).collect())?
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Packed(packed) => packed.shape(),
            Self::Dense(dense) => dense.shape(),
            Self::Stored(stored) => stored.shape(),
            Self::Device(tensor) => (tensor.dim(0).unwrap_or(0), tensor.dim(1).unwrap_or(0)),
            Self::DeviceBlocked(_, tensor) => tensor.shape().dims2().unwrap_or((0, 0)),
        }
    }

    /// Rows of an embedding, as float32 `[tokens, columns]`.
    pub fn rows(&self, ids: &Tensor, tokens: &[u32]) -> Result<Tensor, EngineError> {
        let (rows, columns) = self.shape();
        if let Some(token) = tokens.iter().find(|t| **t as usize >= rows) {
            return Err(EngineError::Invalid(format!("token {token} lies outside the embedding of {rows} rows")));
        }
        match self {
            Self::Device(weight) => return Ok(weight.index_select(ids, 0)?.to_dtype(DType::F32)?),
            Self::DeviceBlocked(_, weight) => return Ok(weight.embedding(ids)?.to_dtype(DType::F32)?),
            Self::Packed(_) | Self::Dense(_) | Self::Stored(_) => {}
        }
        let mut out = vec![0f32; tokens.len() * columns];
        for (token, out) in tokens.iter().zip(out.chunks_exact_mut(columns)) {
            self.row(*token as usize, out);
        }
        Ok(Tensor::from_vec(out, (tokens.len(), columns), &Device::Cpu)?)
    }

    /// One row, as float32; of a matrix on the CPU.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::Packed(packed) => packed.decode_row(row, out),
            Self::Dense(dense) => dense.decode_row(row, out),
            Self::Stored(stored) => stored.dequantize(row..row + 1, out),
            Self::Device(_) | Self::DeviceBlocked(..) => unreachable!("rows of other devices are looked up there"),
        }
    }

    /// x W', with x `[m, columns]`.
    pub fn product(&self, x: &Tensor) -> Result<Tensor, EngineError> {
        let (rows, columns) = self.shape();
        let on_cpu = |linear: &dyn Fn(&[f32], &mut [f32])| -> Result<Tensor, EngineError> {
            let m = x.elem_count() / columns.max(1);
            let mut y = vec![0f32; m * rows];
            crate::tensors::floats(x, |x| linear(x, &mut y))?;
            Ok(Tensor::from_vec(y, (m, rows), &Device::Cpu)?)
        };
        match self {
            Self::Packed(packed) => on_cpu(&|x, y| packed.linear(x, y)),
            Self::Dense(dense) => on_cpu(&|x, y| dense.linear(x, y)),
            Self::Stored(stored) => on_cpu(&|x, y| stored.linear(x, y)),
            Self::Device(weight) => Ok(x.to_dtype(weight.dtype())?.matmul(&weight.t()?)?.to_dtype(DType::F32)?),
            Self::DeviceBlocked(weight, _) => Ok(weight.forward(x)?),
        }
    }
}

fn on_device(
    encoding: Encoding,
    bytes: &[u8],
    rows: usize,
    columns: usize,
    device: &Device,
) -> Result<Matrix, EngineError> {
    let float = [FloatType::F32, FloatType::F16, FloatType::BF16].into_iter().find(|t| t.encoding() == encoding);
    if let Some(ty) = float {
        return Ok(Matrix::Device(Tensor::from_raw_buffer(bytes, ty.dtype(), &[rows, columns], device)?));
    }
    let dtype = match encoding {
        Encoding::Q4_0 => GgmlDType::Q4_0,
        Encoding::Q4_1 => GgmlDType::Q4_1,
        Encoding::Q5_0 => GgmlDType::Q5_0,
        Encoding::Q5_1 => GgmlDType::Q5_1,
        Encoding::Q8_0 => GgmlDType::Q8_0,
        Encoding::Q2K => GgmlDType::Q2K,
        Encoding::Q3K => GgmlDType::Q3K,
        Encoding::Q4K => GgmlDType::Q4K,
        Encoding::Q5K => GgmlDType::Q5K,
        Encoding::Q6K => GgmlDType::Q6K,
        other => return Err(EngineError::Unsupported(format!("{} does not run on this device", other.name()))),
    };
    let storage = QStorage::from_data(bytes.into(), device, dtype)?;
    let tensor = Arc::new(QTensor::new(storage, (rows, columns))?);
    Ok(Matrix::DeviceBlocked(QMatMul::from_arc(tensor.clone())?, tensor))
}

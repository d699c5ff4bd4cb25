//! A weight matrix on the device where it runs, in the form in which it runs fastest there, and the two things that are
//! done with it: products and looking up rows.

use crate::dense::Dense;
use crate::lanes::LANES;
use crate::packed::Packed;
use crate::weight::Weight;
use crate::{EngineError, FloatType, Representation, codec};
use aehost_formats::Encoding;
use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{DType, Device, Module, Tensor};
use rayon::prelude::*;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A matrix `[rows, columns]`.
pub(crate) enum Matrix {
    /// Blocks in the order of the CPU's kernels.
    Packed(Packed),
    /// Numbers in the order of the CPU's kernels.
    Dense(Dense),
    /// Dense, on another device.
    Device(Tensor),
    /// Blocked, on another device.
    DeviceBlocked(QMatMul, Arc<QTensor>),
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a matrix of {:?}", self.shape())
    }
}

impl Matrix {
    /// Makes a weight ready to run on a device: the matrices of a stack `[n, rows, columns]`, else one.
    pub fn stack(weight: &Weight, device: &Device) -> Result<Vec<Self>, EngineError> {
        let (all_rows, columns) = weight.matrix_shape();
        let count = weight.shape.iter().rev().skip(2).product::<usize>().max(1);
        let (form, rows) = (weight.form, all_rows / count);
        let one = |bytes: &[u8]| {
            if !matches!(device, Device::Cpu) {
                return on_device(form, bytes, rows, columns, device);
            }
            let packed = || Packed::new(form, bytes, rows, columns).map(Self::Packed);
            let made = Dense::new(form, bytes, rows, columns).map(Self::Dense).or_else(packed);
            Ok(made.expect("every representation is one of plain numbers or of blocks"))
        };
        if let Some(mut dense) = Dense::zeros(form, rows, columns).filter(|_| count == 1 && device.is_cpu()) {
            let mut filled = 0;
            weight.each_stretch(LANES, |bytes| filled += dense.fill(filled, bytes))?;
            return Ok(vec![Self::Dense(dense)]);
        }
        weight.with_bytes(|bytes| bytes.chunks_exact((bytes.len() / count).max(1)).map(one).collect())?
    }

    /// The rows as they are stored, of plain numbers on the CPU.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Dense(dense) => dense.bytes(),
            _ => unreachable!("only plain numbers are kept as the CPU reads them"),
        }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Packed(packed) => packed.shape(),
            Self::Dense(dense) => dense.shape(),
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
            Self::Packed(_) | Self::Dense(_) => {}
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
            Self::Device(_) | Self::DeviceBlocked(..) => unreachable!("rows of other devices are looked up there"),
        }
    }

    /// Some rows with the columns exchanged, `numbers` as [`Dense::exchanged`] takes them; of a matrix on the CPU.
    pub fn exchanged(&self, rows: Range<usize>, numbers: Vec<f32>) -> Dense {
        let numbers = match self {
            Self::Dense(dense) => match dense.exchanged(rows.clone(), numbers) {
                Ok(made) => return made,
                Err(numbers) => numbers,
            },
            _ => numbers,
        };
        let columns = self.shape().1;
        let mut decoded = vec![0f32; rows.len() * columns];
        decoded.par_chunks_mut(columns).zip(rows).for_each(|(to, row)| self.row(row, to));
        Dense::exchanged_of(&decoded, columns, numbers)
    }

    /// y = x W', with x `[m, columns]` and y `[m, rows]`, of a matrix on the CPU, on the threads of the current pool.
    pub fn linear(&self, x: &[f32], y: &mut [f32]) {
        match self {
            Self::Packed(packed) => packed.linear(x, y),
            Self::Dense(dense) => dense.linear(x, y),
            Self::Device(_) | Self::DeviceBlocked(..) => unreachable!("products of other devices are made there"),
        }
    }

    /// x W', with x `[m, columns]`.
    pub fn product(&self, x: &Tensor) -> Result<Tensor, EngineError> {
        let (rows, columns) = self.shape();
        match self {
            Self::Packed(_) | Self::Dense(_) => {
                let m = x.elem_count() / columns.max(1);
                let mut y = vec![0f32; m * rows];
                crate::tensors::floats(x, |x| self.linear(x, &mut y))?;
                Ok(Tensor::from_vec(y, (m, rows), &Device::Cpu)?)
            }
            Self::Device(weight) => Ok(x.to_dtype(weight.dtype())?.matmul(&weight.t()?)?.to_dtype(DType::F32)?),
            Self::DeviceBlocked(weight, _) => Ok(weight.forward(x)?),
        }
    }
}

/// A matrix on another device; where candle has no kernels for its representation, as float16 numbers.
fn on_device(
    form: Representation,
    bytes: &[u8],
    rows: usize,
    columns: usize,
    device: &Device,
) -> Result<Matrix, EngineError> {
    let dtype = match form {
        Representation::Dense(ty) => {
            return Ok(Matrix::Device(Tensor::from_raw_buffer(bytes, ty.dtype(), &[rows, columns], device)?));
        }
        Representation::Blocked(Encoding::Q4_0) => GgmlDType::Q4_0,
        Representation::Blocked(Encoding::Q4_1) => GgmlDType::Q4_1,
        Representation::Blocked(Encoding::Q5_0) => GgmlDType::Q5_0,
        Representation::Blocked(Encoding::Q5_1) => GgmlDType::Q5_1,
        Representation::Blocked(Encoding::Q8_0) => GgmlDType::Q8_0,
        Representation::Blocked(Encoding::Q2K) => GgmlDType::Q2K,
        Representation::Blocked(Encoding::Q3K) => GgmlDType::Q3K,
        Representation::Blocked(Encoding::Q4K) => GgmlDType::Q4K,
        Representation::Blocked(Encoding::Q5K) => GgmlDType::Q5K,
        Representation::Blocked(Encoding::Q6K) => GgmlDType::Q6K,
        other => {
            static TOLD: std::sync::Once = std::sync::Once::new();
            TOLD.call_once(|| {
                eprintln!("warning: this device has no kernels for {other}: such weights run there as float16, and take as much memory");
            });
            let mut values = vec![0f32; rows * columns];
            codec::decode(other, bytes, columns, &mut values);
            let tensor = Tensor::from_vec(values, (rows, columns), &Device::Cpu)?.to_dtype(FloatType::F16.dtype())?;
            return Ok(Matrix::Device(tensor.to_device(device)?));
        }
    };
    let storage = QStorage::from_data(bytes.into(), device, dtype)?;
    let tensor = Arc::new(QTensor::new(storage, (rows, columns))?);
    Ok(Matrix::DeviceBlocked(QMatMul::from_arc(tensor.clone())?, tensor))
}

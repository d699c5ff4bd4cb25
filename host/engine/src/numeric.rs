//! The host's side of the contract's `tensor` interface: every operation that a plugin may ask for, over candle's
//! tensors on any device. Whatever a plugin passes ends in a tensor or in a [`Fault`] that gives the shapes; nothing here
//! panics, and no result has more than [`MAX_ELEMENTS`] elements.

mod factor;
mod order;

pub use factor::{cholesky, eigh, inverse, svd, triangular_solve};
pub use order::{sort, top_k};

use crate::EngineError;
use aehost_common::Fault;
use candle_core::{D, DType, Device, Tensor};

/// Results of more elements are refused.
pub const MAX_ELEMENTS: usize = 1 << 31;
/// Tensors of more dimensions are refused.
pub const MAX_RANK: usize = 8;

type Result<T> = std::result::Result<T, Fault>;

const DTYPES: [(DType, &str); 7] = [
    (DType::F64, "float64"),
    (DType::F32, "float32"),
    (DType::F16, "float16"),
    (DType::BF16, "bfloat16"),
    (DType::U8, "uint8"),
    (DType::U32, "uint32"),
    (DType::I64, "int64"),
];

/// An error of candle that the checks here did not foresee.
fn fault(error: candle_core::Error) -> Fault {
    EngineError::from(error).into()
}

/// `float32 [2, 3]`.
fn describe(tensor: &Tensor) -> String {
    format!("{} {:?}", dtype_name(tensor.dtype()), tensor.dims())
}

/// The contract's word for a dtype.
pub fn dtype_name(dtype: DType) -> &'static str {
    DTYPES.iter().find(|(d, _)| *d == dtype).map_or("unknown", |(_, name)| name)
}

pub(crate) fn dtype(name: &str) -> Result<DType> {
    DTYPES.iter().find(|(_, n)| *n == name).map(|(d, _)| *d).ok_or_else(|| {
        let known: Vec<&str> = DTYPES.iter().map(|(_, n)| *n).collect();
        Fault::unsupported(format!("dtype `{name}` is unknown; known: {}", known.join(", ")))
    })
}

/// Refuses what is too large to be meant.
fn check_size(op: &str, dims: &[usize]) -> Result<usize> {
    let count = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= MAX_ELEMENTS);
    match count {
        Some(_) if dims.len() > MAX_RANK => {
            Err(Fault::invalid(format!("{op}: shape {dims:?} has more than {MAX_RANK} dimensions")))
        }
        Some(0) => Err(Fault::invalid(format!("{op}: shape {dims:?} has no elements"))),
        Some(count) => Ok(count),
        None => Err(Fault::invalid(format!("{op}: shape {dims:?} has more than {MAX_ELEMENTS} elements"))),
    }
}

fn dims(op: &str, shape: &[u32]) -> Result<Vec<usize>> {
    let dims: Vec<usize> = shape.iter().map(|d| *d as usize).collect();
    check_size(op, &dims)?;
    Ok(dims)
}

fn axis(op: &str, tensor: &Tensor, axis: u32) -> Result<usize> {
    let index = axis as usize;
    if index < tensor.rank() {
        return Ok(index);
    }
    Err(Fault::invalid(format!("{op}: {} has no axis {axis}", describe(tensor))))
}

fn same_dtype(op: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dtype() == b.dtype() {
        return Ok(());
    }
    Err(Fault::invalid(format!("{op}: {} and {} differ in dtype; cast one of them", describe(a), describe(b))))
}

/// The shape that two shapes broadcast to, as NumPy does.
fn broadcast(op: &str, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| if i + dims.len() < rank { 1 } else { dims[i + dims.len() - rank] };
    let mut shape = Vec::with_capacity(rank);
    for i in 0..rank {
        shape.push(match (at(a, i), at(b, i)) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => return Err(Fault::invalid(format!("{op}: shapes {a:?} and {b:?} do not broadcast"))),
        });
    }
    check_size(op, &shape)?;
    Ok(shape)
}

/// The tensor on another device; itself where it is there already.
pub fn to_device(tensor: &Tensor, device: &Device) -> Result<Tensor> {
    tensor.to_device(device).map_err(fault)
}

/// All elements in row-major order, as float32.
pub fn to_reals(tensor: &Tensor) -> Result<Vec<f32>> {
    elements(tensor, DType::F32)
}

/// All elements in row-major order, as `dtype`, which is `T`'s.
fn elements<T: candle_core::WithDType>(tensor: &Tensor, dtype: DType) -> Result<Vec<T>> {
    let read = || tensor.to_device(&Device::Cpu)?.flatten_all()?.to_dtype(dtype)?.to_vec1::<T>();
    read().map_err(fault)
}

/// Row-major little-endian bytes as a tensor.
pub fn from_bytes(shape: &[u32], name: &str, bytes: &[u8], device: &Device) -> Result<Tensor> {
    let (dtype, dims) = (dtype(name)?, dims("from-bytes", shape)?);
    let expected = dims.iter().product::<usize>() * dtype.size_in_bytes();
    if bytes.len() != expected {
        return Err(Fault::invalid(format!("from-bytes: {name} {dims:?} takes {expected} bytes, not {}", bytes.len())));
    }
    Tensor::from_raw_buffer(bytes, dtype, &dims, device).map_err(fault)
}

/// Every element `value`.
pub fn full(shape: &[u32], name: &str, value: f64, device: &Device) -> Result<Tensor> {
    let (dtype, dims) = (dtype(name)?, dims("full", shape)?);
    let scalar = Tensor::new(value, &Device::Cpu).map_err(fault)?;
    let scalar = convert(&scalar, dtype)?;
    scalar.to_device(device).and_then(|s| s.broadcast_as(dims)?.contiguous()).map_err(fault)
}

/// Standard normal numbers by Marsaglia's polar method over SplitMix64. Only operations whose result IEEE 754 fixes are
/// used, so that the same seed gives the same tensor everywhere.
pub fn random_normal(shape: &[u32], name: &str, seed: u64, device: &Device) -> Result<Tensor> {
    let (dtype, dims) = (dtype(name)?, dims("random-normal", shape)?);
    if !dtype.is_float() {
        return Err(Fault::unsupported(format!("random-normal: {name} holds no real numbers")));
    }
    let count = dims.iter().product::<usize>();
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    let mut numbers = Vec::with_capacity(count + 1);
    while numbers.len() < count {
        let (x, y) = (uniform(), uniform());
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            let scale = (-2.0 * logarithm(square) / square).sqrt();
            numbers.push((x * scale) as f32);
            numbers.push((y * scale) as f32);
        }
    }
    numbers.truncate(count);
    Tensor::from_vec(numbers, dims, &Device::Cpu).and_then(|t| t.to_dtype(dtype)?.to_device(device)).map_err(fault)
}

/// The natural logarithm of a positive normal number, by the series of atanh on the mantissa in [1/sqrt 2, sqrt 2).
fn logarithm(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let series = (0..14).rev().fold(0.0, |sum, k| sum * square + 1.0 / (2 * k + 1) as f64);
    2.0 * ratio * series + exponent as f64 * std::f64::consts::LN_2
}

/// Joined along an axis; all other dimensions and the dtypes are equal.
pub fn concat(along: u32, parts: &[Tensor]) -> Result<Tensor> {
    let Some(first) = parts.first() else { return Err(Fault::invalid("concat: no parts are given")) };
    let axis = axis("concat", first, along)?;
    let mut dims = first.dims().to_vec();
    dims[axis] = 0;
    for part in parts {
        same_dtype("concat", first, part)?;
        let fits = part.rank() == dims.len() && (0..dims.len()).all(|i| i == axis || part.dims()[i] == dims[i]);
        if !fits {
            return Err(Fault::invalid(format!(
                "concat along axis {axis}: {} and {} differ in another dimension",
                describe(first),
                describe(part)
            )));
        }
        dims[axis] += part.dims()[axis];
    }
    check_size("concat", &dims)?;
    Tensor::cat(parts, axis).map_err(fault)
}

/// The dimensions.
pub fn shape(tensor: &Tensor) -> Vec<u32> {
    tensor.dims().iter().map(|d| *d as u32).collect()
}

/// Elements [offset, offset + count) of the flattened tensor, little-endian.
pub fn read(tensor: &Tensor, offset: u64, count: u64) -> Result<Vec<u8>> {
    let total = tensor.elem_count() as u64;
    if offset.checked_add(count).is_none_or(|end| end > total) {
        return Err(Fault::invalid(format!(
            "read: elements {offset} and {count} more are outside {}, which has {total}",
            describe(tensor)
        )));
    }
    if count == 0 {
        return Ok(Vec::new());
    }
    fn bytes<T: candle_core::WithDType, const N: usize>(part: &Tensor, write: fn(T) -> [u8; N]) -> Result<Vec<u8>> {
        Ok(part.to_vec1::<T>().map_err(fault)?.into_iter().flat_map(write).collect())
    }
    let part = || tensor.flatten_all()?.narrow(0, offset as usize, count as usize)?.to_device(&Device::Cpu);
    let part = part().map_err(fault)?;
    match tensor.dtype() {
        DType::F64 => bytes(&part, f64::to_le_bytes),
        DType::F32 => bytes(&part, f32::to_le_bytes),
        DType::F16 => bytes(&part, half::f16::to_le_bytes),
        DType::BF16 => bytes(&part, half::bf16::to_le_bytes),
        DType::U32 => bytes(&part, u32::to_le_bytes),
        DType::I64 => bytes(&part, i64::to_le_bytes),
        DType::U8 => part.to_vec1::<u8>().map_err(fault),
        other => Err(Fault::unsupported(format!("read: {other:?} has no place in the contract"))),
    }
}

/// Another dtype, rounding to nearest; what an integer type cannot hold becomes its nearest value.
pub fn cast(tensor: &Tensor, name: &str) -> Result<Tensor> {
    convert(tensor, dtype(name)?)
}

fn convert(tensor: &Tensor, to: DType) -> Result<Tensor> {
    if tensor.dtype() == to {
        return Ok(tensor.clone());
    }
    let rounds = tensor.dtype().is_float() && !to.is_float();
    let rounded = if rounds { tensor.round().map_err(fault)? } else { tensor.clone() };
    rounded.to_dtype(to).map_err(fault)
}

/// One function of each element: neg, abs, sqrt, rsqrt, square, exp, ln, sin, cos, tanh, sigmoid, silu, gelu (by erf),
/// relu, sign, floor, round (half away from zero), reciprocal.
pub fn unary(tensor: &Tensor, op: &str) -> Result<Tensor> {
    if !tensor.dtype().is_float() {
        return unary_integer(tensor, op);
    }
    let apply = || {
        Some(match op {
            "neg" => tensor.neg(),
            "abs" => tensor.abs(),
            "sqrt" => tensor.sqrt(),
            "rsqrt" => tensor.sqrt().and_then(|t| t.recip()),
            "square" => tensor.sqr(),
            "exp" => tensor.exp(),
            "ln" => tensor.log(),
            "sin" => tensor.sin(),
            "cos" => tensor.cos(),
            "tanh" => tensor.tanh(),
            "sigmoid" => tensor.neg().and_then(|t| (t.exp()? + 1.0)?.recip()),
            "silu" => tensor.silu(),
            "gelu" => tensor.gelu_erf(),
            "relu" => tensor.relu(),
            "sign" => tensor.sign(),
            "floor" => tensor.floor(),
            "round" => tensor.round(),
            "reciprocal" => tensor.recip(),
            _ => return None,
        })
    };
    apply().ok_or_else(|| Fault::unsupported(format!("unary: op `{op}` is unknown")))?.map_err(fault)
}

fn unary_integer(tensor: &Tensor, op: &str) -> Result<Tensor> {
    let name = dtype_name(tensor.dtype());
    let function: fn(i64) -> i64 = match op {
        "neg" if tensor.dtype() == DType::I64 => i64::wrapping_neg,
        "abs" => i64::wrapping_abs,
        "square" => |v| v.wrapping_mul(v),
        "sign" => i64::signum,
        "relu" => |v| v.max(0),
        "floor" | "round" => return Ok(tensor.clone()),
        _ => return Err(Fault::unsupported(format!("unary: op `{op}` is not defined on {name}; cast it to a float"))),
    };
    let values: Vec<i64> = elements::<i64>(tensor, DType::I64)?.into_iter().map(function).collect();
    integers(values, tensor.dims(), tensor)
}

/// Integers with the dtype and on the device of `like`.
fn integers(values: Vec<i64>, dims: &[usize], like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, dims, &Device::Cpu)
        .and_then(|t| t.to_dtype(like.dtype())?.to_device(like.device()))
        .map_err(fault)
}

/// Elementwise on broadcast shapes: add, sub, mul, div, minimum, maximum, pow, eq, ne, lt, le, gt, ge. Comparisons give
/// 0 or 1 in the inputs' dtype.
pub fn binary(a: &Tensor, op: &str, b: &Tensor) -> Result<Tensor> {
    same_dtype(op, a, b)?;
    let shape = broadcast(op, a.dims(), b.dims())?;
    let apply = || {
        Some(match op {
            "add" => a.broadcast_add(b),
            "sub" => a.broadcast_sub(b),
            "mul" => a.broadcast_mul(b),
            "div" if a.dtype().is_float() => a.broadcast_div(b),
            "minimum" => a.broadcast_minimum(b),
            "maximum" => a.broadcast_maximum(b),
            "eq" => a.broadcast_eq(b),
            "ne" => a.broadcast_ne(b),
            "lt" => a.broadcast_lt(b),
            "le" => a.broadcast_le(b),
            "gt" => a.broadcast_gt(b),
            "ge" => a.broadcast_ge(b),
            _ => return None,
        })
    };
    match op {
        "pow" => return power(a, b, &shape),
        "div" if !a.dtype().is_float() => return divide_integers(a, b, &shape),
        _ => {}
    }
    let result = apply().ok_or_else(|| Fault::unsupported(format!("binary: op `{op}` is unknown")))?;
    result.and_then(|t| t.to_dtype(a.dtype())).map_err(fault)
}

fn pairs<T: candle_core::WithDType>(a: &Tensor, b: &Tensor, shape: &[usize], dtype: DType) -> Result<Vec<(T, T)>> {
    let spread = |t: &Tensor| elements::<T>(&t.broadcast_as(shape).map_err(fault)?, dtype);
    Ok(spread(a)?.into_iter().zip(spread(b)?).collect())
}

fn power(a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let values: Vec<f64> = pairs::<f64>(a, b, shape, DType::F64)?.into_iter().map(|(x, y)| x.powf(y)).collect();
    let values = Tensor::from_vec(values, shape, &Device::Cpu).map_err(fault)?;
    to_device(&convert(&values, a.dtype())?, a.device())
}

/// Rounds towards zero.
fn divide_integers(a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let divided: Option<Vec<i64>> = pairs::<i64>(a, b, shape, DType::I64)?
        .into_iter()
        .map(|(x, y)| if y == 0 { None } else { Some(x.wrapping_div(y)) })
        .collect();
    let values = divided.ok_or_else(|| Fault::invalid(format!("div: {} holds a zero", describe(b))))?;
    integers(values, shape, a)
}

/// scale * x + offset.
pub fn affine(tensor: &Tensor, scale: f64, offset: f64) -> Result<Tensor> {
    if tensor.dtype().is_float() {
        return tensor.affine(scale, offset).map_err(fault);
    }
    let reals = tensor.to_dtype(DType::F64).and_then(|t| t.affine(scale, offset)).map_err(fault)?;
    convert(&reals, tensor.dtype())
}

/// Each element limited to [min, max].
pub fn clamp(tensor: &Tensor, min: f64, max: f64) -> Result<Tensor> {
    if min.is_nan() || max.is_nan() || min > max {
        return Err(Fault::invalid(format!("clamp: [{min}, {max}] is empty")));
    }
    if tensor.dtype().is_float() {
        return tensor.clamp(min, max).map_err(fault);
    }
    let reals = tensor.to_dtype(DType::F64).and_then(|t| t.clamp(min, max)).map_err(fault)?;
    convert(&reals, tensor.dtype())
}

/// sum, mean, minimum, maximum, norm (Euclidean) over some axes, all where none are given; argmin, argmax over one axis,
/// or over the flattened tensor. Half precision is summed in float32; integers that overflow their dtype become its
/// nearest value.
pub fn reduce(tensor: &Tensor, op: &str, axes: &[i32], keep_dims: bool) -> Result<Tensor> {
    let rank = tensor.rank() as i64;
    let mut over = Vec::with_capacity(axes.len());
    for given in axes {
        let index = if *given < 0 { rank + i64::from(*given) } else { i64::from(*given) };
        if index < 0 || index >= rank || over.contains(&(index as usize)) {
            return Err(Fault::invalid(format!("{op}: axes {axes:?} are not distinct axes of {}", describe(tensor))));
        }
        over.push(index as usize);
    }
    if over.is_empty() {
        over = (0..tensor.rank()).collect();
    }
    over.sort_unstable();
    let result = match op {
        "sum" | "mean" | "norm" => total(tensor, op, &over)?,
        "minimum" | "maximum" => extreme(tensor, op == "minimum", &over)?,
        "argmin" | "argmax" => return position(tensor, op, axes, &over, keep_dims),
        _ => return Err(Fault::unsupported(format!("reduce: op `{op}` is unknown"))),
    };
    if keep_dims { Ok(result) } else { squeeze(&result, &over) }
}

fn squeeze(tensor: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let kept: Vec<usize> = (0..tensor.rank()).filter(|i| !axes.contains(i)).map(|i| tensor.dims()[i]).collect();
    tensor.reshape(kept).map_err(fault)
}

fn total(tensor: &Tensor, op: &str, over: &[usize]) -> Result<Tensor> {
    let dtype = tensor.dtype();
    let inside = match dtype {
        DType::F64 | DType::F32 => dtype,
        DType::F16 | DType::BF16 => DType::F32,
        _ if op == "norm" => {
            return Err(Fault::unsupported(format!("norm: not defined on {}; cast it to a float", describe(tensor))));
        }
        _ if op == "sum" => DType::I64,
        _ => DType::F64,
    };
    if over.is_empty() {
        return if op == "norm" { tensor.abs().map_err(fault) } else { Ok(tensor.clone()) };
    }
    let reduced = || {
        let wide = tensor.to_dtype(inside)?;
        match op {
            "sum" => wide.sum_keepdim(over),
            "mean" => wide.mean_keepdim(over),
            _ => wide.sqr()?.sum_keepdim(over)?.sqrt(),
        }
    };
    let reduced = reduced().map_err(fault)?;
    match dtype {
        DType::U8 => clamp(&reduced, 0.0, 255.0).and_then(|t| convert(&t, dtype)),
        DType::U32 => clamp(&reduced, 0.0, f64::from(u32::MAX)).and_then(|t| convert(&t, dtype)),
        _ => convert(&reduced, dtype),
    }
}

fn extreme(tensor: &Tensor, least: bool, over: &[usize]) -> Result<Tensor> {
    let mut result = tensor.clone();
    for axis in over {
        result = if least { result.min_keepdim(*axis) } else { result.max_keepdim(*axis) }.map_err(fault)?;
    }
    Ok(result)
}

fn position(tensor: &Tensor, op: &str, axes: &[i32], over: &[usize], keep_dims: bool) -> Result<Tensor> {
    if axes.len() > 1 {
        return Err(Fault::invalid(format!("{op}: takes one axis, or none for the flattened tensor, not {axes:?}")));
    }
    let flat = axes.is_empty();
    let source = if flat { tensor.flatten_all().map_err(fault)? } else { tensor.clone() };
    let axis = if flat { 0 } else { over[0] };
    let found = if op == "argmin" { source.argmin_keepdim(axis) } else { source.argmax_keepdim(axis) };
    let found = found.map_err(fault)?;
    match (flat, keep_dims) {
        (true, true) => found.reshape(vec![1; tensor.rank()]).map_err(fault),
        (true, false) => found.reshape(()).map_err(fault),
        (false, true) => Ok(found),
        (false, false) => squeeze(&found, &[axis]),
    }
}

/// Where `mask` is not 0, `tensor`; elsewhere `otherwise`.
pub fn select(tensor: &Tensor, otherwise: &Tensor, mask: &Tensor) -> Result<Tensor> {
    same_dtype("select", tensor, otherwise)?;
    let shape = broadcast("select", &broadcast("select", tensor.dims(), otherwise.dims())?, mask.dims())?;
    let choose = || {
        let spread = |t: &Tensor| t.broadcast_as(shape.as_slice())?.contiguous();
        let mask = mask.ne(&mask.zeros_like()?)?;
        spread(&mask)?.where_cond(&spread(tensor)?, &spread(otherwise)?)
    };
    choose().map_err(fault)
}

/// `[..., m, k] x [..., k, n] -> [..., m, n]`; the leading dimensions broadcast.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_dtype("matmul", a, b)?;
    if !a.dtype().is_float() {
        return Err(Fault::unsupported(format!("matmul: not defined on {}; cast it to a float", describe(a))));
    }
    let mismatch = || Fault::invalid(format!("matmul: shapes {:?} and {:?} do not fit", a.dims(), b.dims()));
    let (Some((a_batch, [m, inner])), Some((b_batch, [k, n]))) =
        (a.dims().split_last_chunk::<2>(), b.dims().split_last_chunk::<2>())
    else {
        return Err(mismatch());
    };
    if inner != k {
        return Err(mismatch());
    }
    let mut shape = broadcast("matmul", a_batch, b_batch).map_err(|_| mismatch())?;
    shape.extend([*m, *n]);
    check_size("matmul", &shape)?;
    a.broadcast_matmul(b).or_else(|_| a.contiguous()?.broadcast_matmul(&b.contiguous()?)).map_err(fault)
}

/// The axes in a new order; empty swaps the last two.
pub fn transpose(tensor: &Tensor, axes: &[u32]) -> Result<Tensor> {
    let rank = tensor.rank();
    if axes.is_empty() {
        if rank < 2 {
            return Err(Fault::invalid(format!("transpose: {} has no two axes to swap", describe(tensor))));
        }
        return tensor.transpose(D::Minus2, D::Minus1).and_then(|t| t.contiguous()).map_err(fault);
    }
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if sorted.len() != rank || sorted.iter().enumerate().any(|(i, a)| i != *a as usize) {
        return Err(Fault::invalid(format!("transpose: {axes:?} is no order of the axes of {}", describe(tensor))));
    }
    let order: Vec<usize> = axes.iter().map(|a| *a as usize).collect();
    tensor.permute(order).and_then(|t| t.contiguous()).map_err(fault)
}

/// The same elements, row-major, in another shape.
pub fn reshape(tensor: &Tensor, shape: &[u32]) -> Result<Tensor> {
    let dims = dims("reshape", shape)?;
    if dims.iter().product::<usize>() != tensor.elem_count() {
        return Err(Fault::invalid(format!(
            "reshape: {} has {} elements, shape {dims:?} has {}",
            describe(tensor),
            tensor.elem_count(),
            dims.iter().product::<usize>()
        )));
    }
    tensor.reshape(dims).map_err(fault)
}

/// Indices [start, start + length) of one axis; a copy, so that a small part does not keep the whole alive.
pub fn slice(tensor: &Tensor, along: u32, start: u32, length: u32) -> Result<Tensor> {
    let axis = axis("slice", tensor, along)?;
    let (start, length) = (start as usize, length as usize);
    if length == 0 || start + length > tensor.dims()[axis] {
        return Err(Fault::invalid(format!(
            "slice: {length} indices from {start} are outside axis {axis} of {}",
            describe(tensor)
        )));
    }
    tensor.narrow(axis, start, length).and_then(|t| t.force_contiguous()).map_err(fault)
}

/// A copy with `part` written at `starts`.
pub fn write(tensor: &Tensor, starts: &[u32], part: &Tensor) -> Result<Tensor> {
    same_dtype("write", tensor, part)?;
    let starts: Vec<usize> = starts.iter().map(|s| *s as usize).collect();
    let fits = starts.len() == tensor.rank()
        && part.rank() == tensor.rank()
        && (0..tensor.rank()).all(|i| starts[i] + part.dims()[i] <= tensor.dims()[i]);
    if !fits {
        return Err(Fault::invalid(format!("write: {} at {starts:?} is outside {}", describe(part), describe(tensor))));
    }
    place(tensor, &starts, part).map_err(fault)
}

/// Writes along the first axis that differs; what lies inside that axis's range is written first.
fn place(tensor: &Tensor, starts: &[usize], part: &Tensor) -> candle_core::Result<Tensor> {
    let differs = |i: &usize| tensor.dims()[*i] != part.dims()[*i];
    let Some(axis) = (0..tensor.rank()).find(differs) else { return Ok(part.clone()) };
    let inner =
        place(&tensor.narrow(axis, starts[axis], part.dims()[axis])?, starts_of(starts, axis).as_slice(), part)?;
    let copy = tensor.force_contiguous()?;
    copy.slice_set(&inner.force_contiguous()?, axis, starts[axis])?;
    Ok(copy)
}

fn starts_of(starts: &[usize], done: usize) -> Vec<usize> {
    starts.iter().enumerate().map(|(i, s)| if i == done { 0 } else { *s }).collect()
}

/// Indices are uint32, below the length of the axis, and of the given shape on all other axes.
fn check_indices(op: &str, tensor: &Tensor, axis: usize, indices: &Tensor) -> Result<()> {
    let fits = indices.dtype() == DType::U32
        && indices.rank() == tensor.rank()
        && (0..tensor.rank()).all(|i| i == axis || indices.dims()[i] == tensor.dims()[i]);
    if !fits {
        return Err(Fault::invalid(format!(
            "{op} along axis {axis}: indices {} do not fit {}; they are uint32, and equal in every other dimension",
            describe(indices),
            describe(tensor)
        )));
    }
    let largest = indices.flatten_all().and_then(|t| t.max(0)?.to_scalar::<u32>()).map_err(fault)?;
    if largest as usize >= tensor.dims()[axis] {
        return Err(Fault::invalid(format!("{op}: index {largest} is outside axis {axis} of {}", describe(tensor))));
    }
    Ok(())
}

/// Element by element along an axis (torch.gather); all other dimensions are equal.
pub fn gather(tensor: &Tensor, along: u32, indices: &Tensor) -> Result<Tensor> {
    let axis = axis("gather", tensor, along)?;
    check_indices("gather", tensor, axis, indices)?;
    tensor.contiguous().and_then(|t| t.gather(&indices.contiguous()?, axis)).map_err(fault)
}

/// A copy to which `source` is added at `indices` along an axis (torch.scatter_add).
pub fn scatter_add(tensor: &Tensor, along: u32, indices: &Tensor, source: &Tensor) -> Result<Tensor> {
    let axis = axis("scatter-add", tensor, along)?;
    same_dtype("scatter-add", tensor, source)?;
    check_indices("scatter-add", tensor, axis, indices)?;
    if indices.dims() != source.dims() {
        return Err(Fault::invalid(format!(
            "scatter-add: indices {:?} and source {:?} differ",
            indices.dims(),
            source.dims()
        )));
    }
    let add = || tensor.contiguous()?.scatter_add(&indices.contiguous()?, &source.contiguous()?, axis);
    add().map_err(fault)
}

/// Of a square matrix `[n, n] -> [n]`.
pub fn diagonal(tensor: &Tensor) -> Result<Tensor> {
    let n = match *tensor.dims() {
        [rows, columns] if rows == columns => rows,
        _ => return Err(Fault::invalid(format!("diagonal: {} is not a square matrix", describe(tensor)))),
    };
    let take = || {
        let indices: Vec<u32> = (0..n).map(|i| i as u32).collect();
        let indices = Tensor::from_vec(indices, (n, 1), tensor.device())?;
        tensor.contiguous()?.gather(&indices, 1)?.reshape(n)
    };
    take().map_err(fault)
}

/// Running sums along an axis, in float64 inside (int64 for integers, wrapping).
pub fn cumulative_sum(tensor: &Tensor, along: u32) -> Result<Tensor> {
    let axis = axis("cumulative-sum", tensor, along)?;
    let last = tensor.rank() - 1;
    let turned = tensor.transpose(axis, last).map_err(fault)?;
    let row = turned.dims()[last];
    let summed = if tensor.dtype().is_float() {
        let mut values = elements::<f64>(&turned, DType::F64)?;
        for row in values.chunks_mut(row) {
            running(row, |sum, v| sum + v);
        }
        Tensor::from_vec(values, turned.dims(), &Device::Cpu).and_then(|t| t.to_dtype(tensor.dtype()))
    } else {
        let mut values = elements::<i64>(&turned, DType::I64)?;
        for row in values.chunks_mut(row) {
            running(row, i64::wrapping_add);
        }
        Tensor::from_vec(values, turned.dims(), &Device::Cpu).and_then(|t| t.to_dtype(tensor.dtype()))
    };
    summed.and_then(|t| t.to_device(tensor.device())?.transpose(axis, last)?.contiguous()).map_err(fault)
}

fn running<T: Copy>(row: &mut [T], add: impl Fn(T, T) -> T) {
    for i in 1..row.len() {
        row[i] = add(row[i - 1], row[i]);
    }
}

#[cfg(test)]
mod tests;

//! Numbers to bytes and back, for every representation: the bytes of a weight as a checkpoint or a plugin has them, rows one
//! after another. ggml's formats are read by candle, and written by it where importance does not matter.

use crate::representation::{Affine, Codebook, SPARSE_BLOCK};
use crate::{EngineError, FloatType, Representation, importance};
use aehost_formats::Encoding;
use candle_core::quantized::GgmlType;
use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
};
use candle_core::{DType, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

/// Rows that a thread takes at once.
const ROWS: usize = 64;
/// Numbers that are recoded at once.
const STRETCH: usize = 1 << 20;

/// Evaluates an expression with `$t` as candle's type of a dense or block format.
macro_rules! with_type {
    ($encoding:expr, $t:ident => $body:expr) => {
        with_type!(@each $encoding, $t, $body, F32: f32, F16: f16, BF16: bf16, Q4_0: BlockQ4_0, Q4_1: BlockQ4_1,
            Q5_0: BlockQ5_0, Q5_1: BlockQ5_1, Q8_0: BlockQ8_0, Q2K: BlockQ2K, Q3K: BlockQ3K, Q4K: BlockQ4K, Q5K: BlockQ5K,
            Q6K: BlockQ6K)
    };
    (@each $encoding:expr, $t:ident, $body:expr, $($name:ident: $type:ty),*) => {
        match $encoding {
            $(Encoding::$name => {
                type $t = $type;
                $body
            })*
            other => unreachable!("no representation is stored as {}", other.name()),
        }
    };
}

/// Rows of float32 numbers as bytes, in parallel. With `importance` the squared error of a column counts so much; without
/// it every column counts alike.
///
/// # Errors
/// `Unsupported` where the rows are no multiple of the block; `Invalid` where the importance is not the columns'.
pub(crate) fn encode(
    form: Representation,
    values: &[f32],
    rows: usize,
    columns: usize,
    importance: Option<&[f32]>,
) -> Result<Vec<u8>, EngineError> {
    assert_eq!(values.len(), rows * columns, "a matrix must have rows x columns elements");
    let bytes = form.bytes(&[rows, columns]).ok_or_else(|| partial_blocks(form, columns))?;
    if let Some(found) = importance.map(<[f32]>::len).filter(|len| *len != columns) {
        return Err(EngineError::Invalid(format!(
            "importance has {found} elements, expected one for each of the {columns} columns"
        )));
    }
    let mut out = vec![0u8; bytes as usize];
    let row_bytes = columns / form.block_size() * form.block_bytes();
    let parts = out.par_chunks_mut((row_bytes * ROWS).max(1)).zip(values.par_chunks((columns * ROWS).max(1)));
    parts.for_each(|(out, values)| match (form, importance) {
        (Representation::Blocked(encoding), Some(importance)) if candle_weighs(encoding) => {
            with_type!(encoding, T => typed::<T>(out, |blocks| {
                let rows = blocks.chunks_exact_mut(columns / T::BLCK_SIZE).zip(values.chunks_exact(columns));
                rows.for_each(|(blocks, row)| T::from_float_imatrix(row, blocks, importance, columns));
            }));
        }
        // Codes of eight bits are so near that no scale is better than the plain one.
        (Representation::Blocked(encoding), _) if importance.is_none() || !importance::encodes(form) => {
            with_type!(encoding, T => typed::<T>(out, |blocks| T::from_float(values, blocks)));
        }
        (Representation::Dense(ty), _) => {
            with_type!(ty.encoding(), T => typed::<T>(out, |numbers| T::from_float(values, numbers)));
        }
        (Representation::Sparse(ty), _) => {
            let blocks = out.chunks_exact_mut(form.block_bytes()).zip(values.chunks_exact(SPARSE_BLOCK));
            for (i, (block, values)) in blocks.enumerate() {
                let from = i * SPARSE_BLOCK % columns;
                prune(ty, values, importance.map(|w| &w[from..from + SPARSE_BLOCK]), block);
            }
        }
        _ => {
            let rows = out.chunks_exact_mut(row_bytes).zip(values.chunks_exact(columns));
            rows.for_each(|(out, row)| importance::encode(form, row, importance, out));
        }
    });
    Ok(out)
}

/// Rows of bytes as float32 numbers; panics unless they are of one size.
pub(crate) fn decode(form: Representation, bytes: &[u8], columns: usize, out: &mut [f32]) {
    let row_bytes = columns / form.block_size() * form.block_bytes();
    assert_eq!(bytes.len() * columns, out.len() * row_bytes, "bytes and numbers must be the same rows");
    let parts = bytes.par_chunks((row_bytes * ROWS).max(1)).zip(out.par_chunks_mut((columns * ROWS).max(1)));
    parts.for_each(|(bytes, out)| match form {
        Representation::Dense(_) | Representation::Blocked(_) => {
            let encoding = form.encoding().expect("these are encodings of checkpoints");
            with_type!(encoding, T => T::to_float(&from_bytes::<T>(bytes), out));
        }
        Representation::Sparse(ty) => {
            let blocks = bytes.chunks_exact(form.block_bytes()).zip(out.chunks_exact_mut(SPARSE_BLOCK));
            blocks.for_each(|(block, out)| unprune(ty, block, out));
        }
        Representation::Affine(Affine { bits, group, symmetric }) => {
            let blocks = bytes.chunks_exact(form.block_bytes()).zip(out.chunks_exact_mut(group));
            for (block, out) in blocks {
                let scale = half_at(block, 0);
                let (zero, minimum, codes) =
                    if symmetric { (1 << (bits - 1), 0.0, &block[2..]) } else { (0, half_at(block, 1), &block[4..]) };
                let value = |code: u8| scale * (i32::from(code) - zero) as f32 + minimum;
                out.iter_mut().zip(unpack_codes(bits, codes)).for_each(|(o, code)| *o = value(code));
            }
        }
        Representation::Codebook(Codebook { group, table }) => {
            let blocks = bytes.chunks_exact(form.block_bytes()).zip(out.chunks_exact_mut(group));
            for (block, out) in blocks {
                let scale = half_at(block, 0);
                let codes = unpack_codes(4, &block[2..]);
                out.iter_mut().zip(codes).for_each(|(o, code)| *o = scale * f32::from(table[usize::from(code)]));
            }
        }
    });
}

/// Rows of so many numbers that are worked on at once.
pub(crate) fn stretch(columns: usize) -> usize {
    (STRETCH / columns.max(1)).max(1)
}

/// Makes numbers what a representation keeps of them.
///
/// # Errors
/// As [`encode`].
pub(crate) fn round(
    form: Representation,
    values: &mut [f32],
    columns: usize,
    importance: Option<&[f32]>,
) -> Result<(), EngineError> {
    for part in values.chunks_mut((stretch(columns) * columns).max(1)) {
        let bytes = encode(form, part, part.len() / columns.max(1), columns, importance)?;
        decode(form, &bytes, columns, part);
    }
    Ok(())
}

/// Rows of bytes in another representation, some at a time: all of them as float32 numbers would take twice the room of a
/// float16 matrix.
///
/// # Errors
/// As [`encode`].
pub(crate) fn recode(
    from: Representation,
    bytes: &[u8],
    to: Representation,
    columns: usize,
    importance: Option<&[f32]>,
) -> Result<Vec<u8>, EngineError> {
    let row_bytes = (columns / from.block_size() * from.block_bytes()).max(1);
    let rows = bytes.len() / row_bytes;
    let stretch = stretch(columns);
    let mut numbers = vec![0f32; rows.min(stretch) * columns];
    let mut out = Vec::with_capacity(to.bytes(&[rows, columns]).unwrap_or(0) as usize);
    for bytes in bytes.chunks(stretch * row_bytes) {
        let rows = bytes.len() / row_bytes;
        let numbers = &mut numbers[..rows * columns];
        decode(from, bytes, columns, numbers);
        out.extend_from_slice(&encode(to, numbers, rows, columns, importance)?);
    }
    Ok(out)
}

/// What a plugin encoded itself, as bytes. Parts by representation: `values` (dense, of its dtype); `blocks` (blocked,
/// uint8); `codes` (affine and codebook, uint8 `[out, in]`), `scales` (any float, `[out, in / group]`), `minima` (affine
/// that is not symmetric, like scales); `values` (sparse, of its dtype, `[out, in / 2]`) and `positions` (sparse, uint8 of 0
/// to 3 within each four columns, like values).
///
/// # Errors
/// `Invalid` where parts are missing, too many, or not as large as the shape says.
pub(crate) fn assemble(
    form: Representation,
    shape: &[usize],
    parts: &[(String, Tensor)],
) -> Result<Vec<u8>, EngineError> {
    let size = form.bytes(shape).ok_or_else(|| partial_blocks(form, shape.last().copied().unwrap_or(1)))? as usize;
    let wanted: &[&str] = match form {
        Representation::Dense(_) => &["values"],
        Representation::Blocked(_) => &["blocks"],
        Representation::Affine(Affine { symmetric: false, .. }) => &["codes", "scales", "minima"],
        Representation::Affine(_) | Representation::Codebook(_) => &["codes", "scales"],
        Representation::Sparse(_) => &["values", "positions"],
    };
    if parts.len() != wanted.len() || wanted.iter().any(|name| parts.iter().all(|(given, _)| given != name)) {
        let given: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
        return Err(EngineError::Invalid(format!(
            "{} is stored in the parts {}, not {}",
            form.kind(),
            wanted.join(", "),
            given.join(", ")
        )));
    }
    let part = |name: &str, dtype: Option<DType>, count: usize| {
        let tensor = &parts.iter().find(|(given, _)| given == name).expect("the names were compared").1;
        let fits = match dtype {
            Some(dtype) => tensor.dtype() == dtype,
            None => tensor.dtype().is_float(),
        };
        if !fits || tensor.elem_count() != count {
            let dtype = dtype.map_or("floats", crate::numeric::dtype_name);
            return Err(EngineError::Invalid(format!(
                "`{name}` is {} numbers of {}, not {count} of {dtype}",
                tensor.elem_count(),
                crate::numeric::dtype_name(tensor.dtype())
            )));
        }
        Ok(tensor.flatten_all()?)
    };
    let bytes = |tensor: Tensor| {
        let read = crate::numeric::read(&tensor, 0, tensor.elem_count() as u64);
        read.map_err(|e| EngineError::Invalid(e.to_string()))
    };
    let codes_below = |name: &str, count: usize, limit: u32| {
        let codes = part(name, Some(DType::U8), count)?.to_vec1::<u8>()?;
        match codes.iter().find(|code| u32::from(**code) >= limit) {
            Some(code) => Err(EngineError::Invalid(format!("`{name}` has {code}, which is not below {limit}"))),
            None => Ok(codes),
        }
    };
    let halves = |name: &str, count: usize| -> Result<Vec<[u8; 2]>, EngineError> {
        let numbers = part(name, None, count)?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let halves = numbers.iter().map(|v| f16::from_f32(*v)).collect::<Vec<f16>>();
        match halves.iter().zip(&numbers).find(|(half, _)| !half.is_finite()) {
            Some((_, number)) => {
                Err(EngineError::Invalid(format!("`{name}` has {number}, which is no float16 number")))
            }
            None => Ok(halves.into_iter().map(f16::to_le_bytes).collect()),
        }
    };
    let elements: usize = shape.iter().product();
    let blocks = elements / form.block_size();
    let mut out = Vec::with_capacity(size);
    match form {
        Representation::Dense(ty) => out = bytes(part("values", Some(ty.dtype()), elements)?)?,
        Representation::Blocked(_) => out = bytes(part("blocks", Some(DType::U8), size)?)?,
        Representation::Affine(Affine { bits, group, symmetric }) => {
            let codes = codes_below("codes", elements, 1 << bits)?;
            let scales = halves("scales", blocks)?;
            let minima = if symmetric { vec![] } else { halves("minima", blocks)? };
            for (i, codes) in codes.chunks_exact(group).enumerate() {
                out.extend(scales[i]);
                out.extend(minima.get(i).into_iter().flatten());
                pack_codes(bits, codes, &mut out);
            }
        }
        Representation::Codebook(Codebook { group, .. }) => {
            let codes = codes_below("codes", elements, 16)?;
            for (scale, codes) in halves("scales", blocks)?.into_iter().zip(codes.chunks_exact(group)) {
                out.extend(scale);
                pack_codes(4, codes, &mut out);
            }
        }
        Representation::Sparse(ty) => {
            let values = bytes(part("values", Some(ty.dtype()), elements / 2)?)?;
            let positions = codes_below("positions", elements / 2, 4)?;
            let four = SPARSE_BLOCK / 2;
            for (values, at) in
                values.chunks_exact(four * ty.encoding().block_bytes()).zip(positions.chunks_exact(four))
            {
                if at[0] == at[1] || at[2] == at[3] {
                    return Err(EngineError::Invalid("`positions` has one place twice among four columns".into()));
                }
                pack_codes(2, at, &mut out);
                out.extend(values);
            }
        }
    }
    debug_assert_eq!(out.len(), size);
    Ok(out)
}

/// Whether candle's encoder of a format takes importance: those of its 256-wide formats do.
fn candle_weighs(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::Q2K | Encoding::Q3K | Encoding::Q4K | Encoding::Q5K | Encoding::Q6K)
}

pub(crate) fn partial_blocks(form: Representation, columns: usize) -> EngineError {
    EngineError::Unsupported(format!(
        "{form} needs rows that are a multiple of {} long; these have {columns} elements",
        form.block_size()
    ))
}

/// Bytes as blocks of candle's type, which may want them at other addresses.
fn from_bytes<T: GgmlType>(bytes: &[u8]) -> Vec<T> {
    let mut blocks = vec![T::zeros(); bytes.len() / size_of::<T>()];
    assert_eq!(size_of_val(blocks.as_slice()), bytes.len(), "block layout differs from ggml's");
    // SAFETY: the sizes were just compared, and any bytes are valid block types (plain old data).
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), blocks.as_mut_ptr().cast::<u8>(), bytes.len()) };
    blocks
}

/// Fills bytes with blocks of candle's type.
fn typed<T: GgmlType>(out: &mut [u8], fill: impl FnOnce(&mut [T])) {
    let mut blocks = vec![T::zeros(); out.len() / size_of::<T>()];
    fill(&mut blocks);
    assert_eq!(size_of_val(blocks.as_slice()), out.len(), "block layout differs from ggml's");
    // SAFETY: the sizes were just compared, and block types are plain old data without padding, as ggml defines them.
    unsafe { std::ptr::copy_nonoverlapping(blocks.as_ptr().cast::<u8>(), out.as_mut_ptr(), out.len()) };
}

/// One of the float16 numbers of a block.
#[inline(always)]
pub(crate) fn half_at(block: &[u8], index: usize) -> f32 {
    f16::from_le_bytes([block[2 * index], block[2 * index + 1]]).to_f32()
}

/// Codes one after another, the first in the lowest bits; eight at a time, which are whole bytes, or four of two bits.
pub(crate) fn pack_codes(bits: u8, codes: &[u8], out: &mut Vec<u8>) {
    for codes in codes.chunks(8) {
        let word = codes.iter().rev().fold(0u64, |word, code| word << bits | u64::from(*code));
        out.extend(&word.to_le_bytes()[..codes.len() * usize::from(bits) / 8]);
    }
}

/// What [`pack_codes`] packed, eight codes from as many bytes as they have bits.
#[inline(always)]
pub(crate) fn unpack_codes(bits: u8, packed: &[u8]) -> impl Iterator<Item = u8> {
    let bits = usize::from(bits);
    packed.chunks_exact(bits).flat_map(move |bytes| {
        let word = bytes.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        (0..8).map(move |i| (word >> (i * bits) & ((1 << bits) - 1)) as u8)
    })
}

/// Keeps the two of every four numbers whose loss would cost most.
fn prune(ty: FloatType, values: &[f32], importance: Option<&[f32]>, block: &mut [u8]) {
    let (positions, mut numbers) = block.split_at_mut(1);
    positions[0] = 0;
    for (half, values) in values.chunks_exact(4).enumerate() {
        let cost = |i: usize| values[i] * values[i] * importance.map_or(1.0, |w| w[half * 4 + i]);
        let mut order = [0, 1, 2, 3];
        order.sort_by(|a, b| cost(*b).total_cmp(&cost(*a)));
        let mut kept = [order[0], order[1]];
        kept.sort_unstable();
        for (slot, at) in kept.into_iter().enumerate() {
            positions[0] |= (at as u8) << (2 * (half * 2 + slot));
            let size = ty.encoding().block_bytes();
            let (number, rest) = numbers.split_at_mut(size);
            with_type!(ty.encoding(), T => typed::<T>(number, |to| T::from_float(&values[at..=at], to)));
            numbers = rest;
        }
    }
}

fn unprune(ty: FloatType, block: &[u8], out: &mut [f32]) {
    out.fill(0.0);
    let mut numbers = [0f32; SPARSE_BLOCK / 2];
    with_type!(ty.encoding(), T => T::to_float(&from_bytes::<T>(&block[1..]), &mut numbers));
    for (i, number) in numbers.into_iter().enumerate() {
        out[i / 2 * 4 + usize::from(block[0] >> (2 * i) & 3)] += number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::representation::BLOCKED;
    use candle_core::Device;
    use proptest::prelude::*;

    /// Every representation but the sparse, which keeps only half of the numbers.
    fn forms() -> Vec<Representation> {
        let mut forms: Vec<Representation> = BLOCKED.into_iter().map(Representation::Blocked).collect();
        forms.extend([FloatType::F32, FloatType::F16, FloatType::BF16].map(Representation::Dense));
        for bits in [2, 3, 4, 8] {
            for group in [32, 64, 128] {
                forms.extend([true, false].map(|symmetric| Representation::Affine(Affine { bits, group, symmetric })));
            }
        }
        let normal = aehost_common::Settings(vec![aehost_common::Setting::new("group", 64i64)]);
        forms.push(Representation::parse("codebook", &normal).unwrap());
        forms
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn codes_survive_packing(bits in prop_oneof![Just(2u8), Just(3u8), Just(4u8), Just(8u8)], codes in prop::collection::vec(any::<u8>(), 64)) {
            let codes: Vec<u8> = codes.into_iter().map(|c| c & ((1u16 << bits) - 1) as u8).collect();
            let mut packed = Vec::new();
            pack_codes(bits, &codes, &mut packed);
            prop_assert_eq!(packed.len(), 64 * usize::from(bits) / 8);
            prop_assert_eq!(unpack_codes(bits, &packed).collect::<Vec<_>>(), codes);
        }

        #[test]
        fn decoding_comes_as_near_as_the_bits_allow(values in prop::collection::vec(-1f32..1.0, 256)) {
            let alike = [1f32; 256];
            for (form, importance) in forms().into_iter().flat_map(|form| [(form, None), (form, Some(&alike[..]))]) {
                let bytes = encode(form, &values, 1, 256, importance).unwrap();
                let mut back = vec![f32::NAN; 256];
                decode(form, &bytes, 256, &mut back);
                let bits = form.block_bytes() as f32 * 8.0 / form.block_size() as f32;
                // Half a step of the widest range that a group can have, and what rounds scales.
                let step = 2.0 / (2f32.powf(bits.floor()) - 2.0).max(1.0);
                // A scale that is good for all may cut off the largest.
                let slack = if importance.is_some() { 2.6 } else { 1.3 };
                for (a, b) in values.iter().zip(&back) {
                    prop_assert!((a - b).abs() <= step.max(3e-3) * slack, "{form}: {a} became {b}");
                }
            }
        }
    }

    #[test]
    fn parts_of_a_plugin_stand_for_what_it_meant() {
        let cpu = &Device::Cpu;
        let tensor = |values: &[f32], columns: usize| {
            Tensor::from_slice(values, (values.len() / columns, columns), cpu).unwrap()
        };
        let bytes = |values: Vec<u8>, columns: usize| {
            let rows = values.len() / columns;
            Tensor::from_vec(values, (rows, columns), cpu).unwrap()
        };
        let part = |name: &str, tensor: Tensor| (name.to_owned(), tensor);
        let numbers = |form: Representation, parts: &[(String, Tensor)]| {
            let assembled = assemble(form, &[2, 64], parts).unwrap();
            let mut out = vec![f32::NAN; 128];
            decode(form, &assembled, 64, &mut out);
            out
        };
        let codes: Vec<u8> = (0..128).map(|i| (i * 7 % 8) as u8).collect();
        let affine = Representation::Affine(Affine { bits: 3, group: 32, symmetric: false });
        let (scales, minima) = ([0.5, 0.25, 1.0, 2.0], [-1.0, 0.0, 1.0, -2.0]);
        let parts = [
            part("codes", bytes(codes.clone(), 64)),
            part("scales", tensor(&scales, 2)),
            part("minima", tensor(&minima, 2)),
        ];
        for (i, value) in numbers(affine, &parts).into_iter().enumerate() {
            assert_eq!(value, scales[i / 32] * f32::from(codes[i]) + minima[i / 32]);
        }
        let symmetric = Representation::Affine(Affine { bits: 3, group: 64, symmetric: true });
        let parts = [part("codes", bytes(codes.clone(), 64)), part("scales", tensor(&[0.5, 0.25], 1))];
        for (i, value) in numbers(symmetric, &parts).into_iter().enumerate() {
            assert_eq!(value, [0.5, 0.25][i / 64] * (f32::from(codes[i]) - 4.0));
        }
        let table: [i8; 16] = std::array::from_fn(|i| (i * i) as i8 / 2 - 50);
        let codebook = Representation::Codebook(Codebook { group: 64, table });
        for (i, value) in numbers(codebook, &parts).into_iter().enumerate() {
            assert_eq!(value, [0.5, 0.25][i / 64] * f32::from(table[usize::from(codes[i])]));
        }
        let sparse = Representation::Sparse(FloatType::F32);
        let kept: Vec<f32> = (0..64).map(|i| i as f32 + 1.0).collect();
        let places: Vec<u8> = (0..64).map(|i| if i % 2 == 0 { i / 2 % 3 } else { 3 }).collect();
        let parts = [part("values", tensor(&kept, 32)), part("positions", bytes(places.clone(), 32))];
        let dense = numbers(sparse, &parts);
        for (i, value) in kept.iter().enumerate() {
            assert_eq!(dense[i / 2 * 4 + usize::from(places[i])], *value);
        }
        assert_eq!(dense.iter().filter(|v| **v == 0.0).count(), 64);

        let told = |form, parts: &[(String, Tensor)]| assemble(form, &[2, 64], parts).unwrap_err().to_string();
        assert!(told(affine, &parts).contains("parts codes, scales, minima, not values, positions"));
        let twice = [part("values", tensor(&kept, 32)), part("positions", bytes(vec![1; 64], 32))];
        assert!(told(sparse, &twice).contains("one place twice"));
        let large = [part("codes", bytes(vec![9; 128], 64)), part("scales", tensor(&[0.5, 0.25], 1))];
        assert!(told(symmetric, &large).contains("`codes` has 9, which is not below 8"));
        let infinite = [part("codes", bytes(codes, 64)), part("scales", tensor(&[1e9, 0.25], 1))];
        assert!(told(symmetric, &infinite).contains("no float16 number"));
    }
}

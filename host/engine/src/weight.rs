//! Weights of a variant: what they are made of and how they are to be stored. Binding, encoding and copying only describe;
//! numbers are computed when a model is made ready, and models that are alive at once share what they have in common.

use crate::matrix::Matrix;
use crate::{EngineError, FloatType, Representation, codec, tensors};
use aehost_common::{Setting, Value};
use aehost_formats::Checkpoint;
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

/// A tensor of the checkpoint and steps on it, in order: rows (integers: start, count), transpose (flag), reshape
/// (integers), permute (integers: axes).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BoundTensor {
    /// Its name in the checkpoint.
    pub tensor: String,
    /// What is done to it.
    pub steps: Vec<Setting>,
}

#[derive(Debug)]
enum Content {
    Checkpoint {
        checkpoint: Arc<Checkpoint>,
        sources: Vec<BoundTensor>,
        join: String,
    },
    Bytes(Vec<u8>),
    /// Plain numbers in the order in which the CPU reads them, so that a model that runs has no copy of them.
    Packed(Arc<Vec<Matrix>>),
    /// Another weight, to be stored in another form.
    Recoded {
        from: Weight,
        importance: Option<Vec<f32>>,
    },
    /// Bytes in a file, which is read each time: a model that runs keeps them in memory once.
    OnShelf(PathBuf),
}

/// One weight of a variant.
#[derive(Debug, Clone)]
pub(crate) struct Weight {
    /// Row-major.
    pub shape: Vec<usize>,
    /// How it is stored when it runs.
    pub form: Representation,
    /// Equal keys, equal numbers in equal form.
    pub key: String,
    content: Arc<Content>,
}

fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// Float32 numbers as bytes, for hashing.
fn float_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Rows and columns; a vector is one row.
fn matrix(shape: &[usize]) -> (usize, usize) {
    let columns = shape.last().copied().unwrap_or(1);
    (shape.iter().rev().skip(1).product(), columns)
}

impl Weight {
    /// Binds tensors of the checkpoint. Matrices take the reference type (none: as stored in the file), vectors float32.
    pub fn bind(
        checkpoint: &Arc<Checkpoint>,
        sources: Vec<BoundTensor>,
        join: &str,
        reference: Option<FloatType>,
    ) -> Result<Self, EngineError> {
        if !["single", "concat", "stack"].contains(&join)
            || sources.is_empty()
            || (join == "single" && sources.len() > 1)
        {
            return Err(EngineError::Invalid(format!(
                "{} sources cannot be joined by `{join}`: use single (one source), concat or stack",
                sources.len()
            )));
        }
        let mut shapes = Vec::with_capacity(sources.len());
        for source in &sources {
            let info = checkpoint.tensor(&source.tensor)?;
            shapes.push(source.steps.iter().try_fold(info.shape.clone(), |shape, step| shape_after(&shape, step))?);
        }
        let mut shape = shapes[0].clone();
        if join == "concat" {
            if shapes.iter().any(|s| s.len() != shape.len() || s[1..] != shape[1..]) || shape.is_empty() {
                return Err(EngineError::Invalid(format!("tensors of shapes {shapes:?} cannot be concatenated")));
            }
            shape[0] = shapes.iter().map(|s| s[0]).sum();
        } else if join == "stack" {
            if shapes.iter().any(|s| *s != shape) {
                return Err(EngineError::Invalid(format!("tensors of shapes {shapes:?} cannot be stacked")));
            }
            shape.insert(0, shapes.len());
        }
        let form = match (shape.len(), reference) {
            (0 | 1, _) => Representation::Dense(FloatType::F32),
            (_, Some(ty)) => Representation::Dense(ty),
            (_, None) => as_stored(checkpoint, &sources)?,
        };
        let described = format!("{}|{sources:?}|{join}|{form:?}", checkpoint.path().display());
        Ok(Self {
            shape,
            form,
            key: digest(&[described.as_bytes()]),
            content: Arc::new(Content::Checkpoint { checkpoint: checkpoint.clone(), sources, join: join.into() }),
        })
    }

    /// Numbers of a plugin, kept in their type.
    ///
    /// # Errors
    /// `Diverged` where one of them is not finite.
    pub fn values(values: &Tensor, ty: FloatType) -> Result<Self, EngineError> {
        let (form, shape) = (Representation::Dense(ty), values.dims().to_vec());
        let (rows, columns) = matrix(&shape);
        let values = values.reshape((rows, columns))?;
        let mut bytes = Vec::with_capacity(form.bytes(&shape).unwrap_or(0) as usize);
        let stretch = codec::stretch(columns);
        for first in (0..rows).step_by(stretch) {
            let part = values.narrow(0, first, stretch.min(rows - first))?;
            let part = part.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
            bytes.extend(tensors::floats(&part, |numbers| match numbers.iter().find(|v| !v.is_finite()) {
                Some(bad) => Err(EngineError::Diverged(format!("it would hold {bad}"))),
                None => codec::encode(form, numbers, numbers.len() / columns.max(1), columns, None),
            })??);
        }
        Self::encoded(bytes, shape, form).packed()
    }

    /// The same, its plain numbers in the order in which the CPU reads them.
    fn packed(self) -> Result<Self, EngineError> {
        match self.form {
            Representation::Dense(_) | Representation::Sparse(_) if self.shape.len() > 1 => {
                let content = Content::Packed(Arc::new(Matrix::stack(&self, &Device::Cpu)?));
                Ok(Self { content: Arc::new(content), ..self })
            }
            _ => Ok(self),
        }
    }

    /// Its matrices, where they are kept as the device reads them.
    fn matrices(&self, device: &Device) -> Option<&Arc<Vec<Matrix>>> {
        match self.content.as_ref() {
            Content::Packed(matrices) if device.is_cpu() => Some(matrices),
            _ => None,
        }
    }

    fn encoded(bytes: Vec<u8>, shape: Vec<usize>, form: Representation) -> Self {
        let key = digest(&[b"bytes", format!("{form:?} {shape:?}").as_bytes(), &bytes]);
        Self { shape, form, key, content: Arc::new(Content::Bytes(bytes)) }
    }

    /// Parts that a plugin encoded (see [`codec::assemble`]).
    pub fn parts(parts: &[(String, Tensor)], shape: Vec<usize>, form: Representation) -> Result<Self, EngineError> {
        Ok(Self::encoded(codec::assemble(form, &shape, parts)?, shape, form))
    }

    /// The same weight in another form.
    pub fn recoded(&self, form: Representation, importance: Option<Vec<f32>>) -> Result<Self, EngineError> {
        if form.bytes(&self.shape).is_none() {
            return Err(codec::partial_blocks(form, matrix(&self.shape).1));
        }
        if let Some(found) = importance.as_ref().map(Vec::len).filter(|n| *n != matrix(&self.shape).1) {
            return Err(EngineError::Invalid(format!(
                "importance has {found} elements, expected one for each of the {} columns",
                matrix(&self.shape).1
            )));
        }
        if form == self.form {
            return Ok(self.clone());
        }
        let weights = importance.as_deref().map(float_bytes).unwrap_or_default();
        let key = digest(&[self.key.as_bytes(), format!("{form:?}").as_bytes(), &weights]);
        let recoded = |content| Self { shape: self.shape.clone(), form, key, content: Arc::new(content) };
        match self.content.as_ref() {
            // What a technique put is not kept beside what becomes of it.
            Content::Packed(_) => recoded(Content::Bytes(self.bytes_in(form, importance.as_deref())?)).packed(),
            _ => Ok(recoded(Content::Recoded { from: self.clone(), importance })),
        }
    }

    /// Tensors of the checkpoint, as [`Weight::sources`] told of another weight with this key.
    pub fn of_checkpoint(
        checkpoint: &Arc<Checkpoint>,
        shape: Vec<usize>,
        form: Representation,
        key: String,
        (sources, join): (Vec<BoundTensor>, String),
    ) -> Self {
        let content = Content::Checkpoint { checkpoint: checkpoint.clone(), sources, join };
        Self { shape, form, key, content: Arc::new(content) }
    }

    /// Encoded bytes in a file.
    pub fn on_shelf(shape: Vec<usize>, form: Representation, file: PathBuf, key: String) -> Self {
        Self { shape, form, key, content: Arc::new(Content::OnShelf(file)) }
    }

    /// The tensors of this checkpoint that it is bound to, and how they are joined; none where it is more than that.
    pub fn sources(&self, of: &Arc<Checkpoint>) -> Option<(&[BoundTensor], &str)> {
        match self.content.as_ref() {
            Content::Checkpoint { checkpoint, sources, join } if Arc::ptr_eq(checkpoint, of) => Some((sources, join)),
            _ => None,
        }
    }

    /// Adds what its numbers take while no model runs, by address: weights may share it.
    pub fn held(&self, bytes: &mut HashMap<usize, usize>) {
        let own = match self.content.as_ref() {
            Content::Bytes(content) => content.len(),
            Content::Packed(_) => self.size() as usize,
            Content::Recoded { from, importance } => {
                from.held(bytes);
                importance.as_ref().map_or(0, |numbers| size_of_val(numbers.as_slice()))
            }
            Content::Checkpoint { .. } | Content::OnShelf(_) => 0,
        };
        bytes.insert(Arc::as_ptr(&self.content).addr(), own);
    }

    /// Whether the file that it is read from, if it is, is still there.
    pub fn at_hand(&self) -> bool {
        match self.content.as_ref() {
            Content::OnShelf(file) => file.is_file(),
            Content::Recoded { from, .. } => from.at_hand(),
            _ => true,
        }
    }

    /// Bytes in memory.
    pub fn size(&self) -> u64 {
        self.form.bytes(&self.shape).unwrap_or(0)
    }

    /// The numbers, as the stored form represents them.
    pub fn floats(&self) -> Result<Vec<f32>, EngineError> {
        self.rows(0..self.matrix_shape().0)
    }

    /// The numbers of some rows, those of a stack's matrices counted on.
    pub fn rows(&self, rows: Range<usize>) -> Result<Vec<f32>, EngineError> {
        let columns = self.matrix_shape().1;
        let decoded = |form: Representation, bytes: &[u8]| {
            let row = columns / form.block_size() * form.block_bytes();
            let mut values = vec![0f32; rows.len() * columns];
            codec::decode(form, &bytes[rows.start * row..rows.end * row], columns, &mut values);
            values
        };
        match self.content.as_ref() {
            Content::Packed(matrices) => {
                let each = matrices[0].shape().0.max(1);
                let mut values = vec![0f32; rows.len() * columns];
                let lines = values.par_chunks_exact_mut(columns.max(1)).zip(rows);
                lines.for_each(|(line, row)| matrices[row / each].row(row % each, line));
                Ok(values)
            }
            Content::Recoded { from, importance } => {
                let mut values = from.rows(rows)?;
                codec::round(self.form, &mut values, columns, importance.as_deref())?;
                Ok(values)
            }
            Content::Checkpoint { checkpoint, sources, .. } => match whole(checkpoint, sources)? {
                Some((form, bytes)) if form != self.form => {
                    let mut values = decoded(form, bytes);
                    checkpoint.release_pages();
                    codec::round(self.form, &mut values, columns, None)?;
                    Ok(values)
                }
                _ => self.with_bytes(|bytes| decoded(self.form, bytes)),
            },
            _ => self.with_bytes(|bytes| decoded(self.form, bytes)),
        }
    }

    /// Rows and columns; a vector is one row.
    pub fn matrix_shape(&self) -> (usize, usize) {
        matrix(&self.shape)
    }

    /// The weight's bytes in another form.
    fn bytes_in(&self, form: Representation, importance: Option<&[f32]>) -> Result<Vec<u8>, EngineError> {
        self.with_bytes(|bytes| codec::recode(self.form, bytes, form, matrix(&self.shape).1, importance))?
    }

    /// Shows the weight's bytes in its form, rows in order: where they have to be made, some at a time, in whole multiples of
    /// `of` rows but for the last.
    pub fn each_stretch(&self, of: usize, mut see: impl FnMut(&[u8])) -> Result<(), EngineError> {
        let (rows, columns) = matrix(&self.shape);
        match self.content.as_ref() {
            Content::Checkpoint { checkpoint, sources, .. }
                if let Some((form, bytes)) = whole(checkpoint, sources)?.filter(|(form, _)| *form != self.form) =>
            {
                let stretch = codec::stretch(columns).next_multiple_of(of);
                for bytes in bytes.chunks((bytes.len() / rows.max(1) * stretch).max(1)) {
                    see(&codec::recode(form, bytes, self.form, columns, None)?);
                    checkpoint.release_pages();
                }
                Ok(())
            }
            _ => self.with_bytes(see),
        }
    }

    /// The weight's bytes in its form, without a copy where they exist already.
    pub fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<R, EngineError> {
        let (rows, columns) = matrix(&self.shape);
        let bytes: Cow<'_, [u8]> = match self.content.as_ref() {
            Content::Bytes(bytes) => Cow::Borrowed(bytes),
            Content::Packed(matrices) => Cow::Owned(match matrices.as_slice() {
                [one] => one.bytes(),
                many => many.iter().map(Matrix::bytes).collect::<Vec<_>>().concat(),
            }),
            Content::OnShelf(file) => return Ok(f(&crate::shelf::read(file)?)),
            Content::Recoded { from, importance } => Cow::Owned(from.bytes_in(self.form, importance.as_deref())?),
            Content::Checkpoint { checkpoint, sources, join } => match whole(checkpoint, sources)? {
                Some((form, bytes)) if form == self.form => Cow::Borrowed(bytes),
                Some((form, bytes)) => Cow::Owned(codec::recode(form, bytes, self.form, columns, None)?),
                None => {
                    let values = read_sources(checkpoint, sources, join)?;
                    Cow::Owned(codec::encode(self.form, &values, rows, columns, None)?)
                }
            },
        };
        let result = f(&bytes);
        if let Content::Checkpoint { checkpoint, .. } = self.content.as_ref() {
            // What was read is not needed again: it must not add up beside what is made of it.
            checkpoint.release_pages();
        }
        Ok(result)
    }
}

/// A tensor as the checkpoint has it, where the sources are all of one, and the engine runs its form.
fn whole<'a>(
    checkpoint: &'a Checkpoint,
    sources: &[BoundTensor],
) -> Result<Option<(Representation, &'a [u8])>, EngineError> {
    match sources {
        [source] if source.steps.is_empty() => {
            let info = checkpoint.tensor(&source.tensor)?;
            Ok(Representation::of(info.encoding).map(|form| (form, checkpoint.bytes(info))))
        }
        _ => Ok(None),
    }
}

/// The form in which a checkpoint keeps the weight, where the engine runs it; float16 otherwise.
fn as_stored(checkpoint: &Checkpoint, sources: &[BoundTensor]) -> Result<Representation, EngineError> {
    let encoding = checkpoint.tensor(&sources[0].tensor)?.encoding;
    let plain = sources.len() == 1 && sources[0].steps.is_empty();
    let float = [FloatType::F32, FloatType::F16, FloatType::BF16].into_iter().find(|t| t.encoding() == encoding);
    Ok(match float {
        Some(ty) => Representation::Dense(ty),
        None if plain && crate::representation::BLOCKED.contains(&encoding) => Representation::Blocked(encoding),
        None => Representation::Dense(FloatType::F16),
    })
}

fn usizes(step: &Setting, count: Option<usize>) -> Result<Vec<usize>, EngineError> {
    let numbers: Option<Vec<usize>> =
        step.value.as_integers().and_then(|v| v.iter().map(|n| usize::try_from(*n).ok()).collect());
    numbers.filter(|n| count.is_none_or(|c| c == n.len())).ok_or_else(|| {
        EngineError::Invalid(format!("step `{}` = {} needs whole numbers of at least 0", step.name, step.value))
    })
}

fn shape_after(shape: &[usize], step: &Setting) -> Result<Vec<usize>, EngineError> {
    let wrong = || EngineError::Invalid(format!("step `{}` = {} does not fit shape {shape:?}", step.name, step.value));
    match step.name.as_str() {
        "rows" => {
            let n = usizes(step, Some(2))?;
            let rows = *shape.first().ok_or_else(wrong)?;
            if n[0].checked_add(n[1]).is_none_or(|end| end > rows) {
                return Err(wrong());
            }
            Ok(std::iter::once(n[1]).chain(shape[1..].iter().copied()).collect())
        }
        "transpose" if shape.len() == 2 => Ok(vec![shape[1], shape[0]]),
        "reshape" => {
            let new = usizes(step, None)?;
            let product = new.iter().try_fold(1usize, |p, d| p.checked_mul(*d));
            if product == Some(shape.iter().product()) { Ok(new) } else { Err(wrong()) }
        }
        "permute" => {
            let axes = usizes(step, Some(shape.len()))?;
            let mut sorted = axes.clone();
            sorted.sort_unstable();
            if sorted.iter().enumerate().any(|(i, a)| i != *a) {
                return Err(wrong());
            }
            Ok(axes.iter().map(|a| shape[*a]).collect())
        }
        _ => Err(EngineError::Invalid(format!(
            "step `{}` is unknown or does not fit shape {shape:?}; known: rows, transpose, reshape, permute",
            step.name
        ))),
    }
}

fn read_sources(checkpoint: &Checkpoint, sources: &[BoundTensor], join: &str) -> Result<Vec<f32>, EngineError> {
    let mut parts = Vec::with_capacity(sources.len());
    for source in sources {
        let info = checkpoint.tensor(&source.tensor)?;
        let (rows, columns) = matrix(&info.shape);
        let form = Representation::of(info.encoding).ok_or_else(|| {
            EngineError::Unsupported(format!(
                "tensor `{}`: the engine does not run {} weights",
                source.tensor,
                info.encoding.name()
            ))
        })?;
        let mut values = vec![0f32; rows * columns];
        codec::decode(form, checkpoint.bytes(info), columns, &mut values);
        let mut tensor = Tensor::from_vec(values, info.shape.clone(), &Device::Cpu)?;
        for step in &source.steps {
            let shape = shape_after(tensor.dims(), step)?;
            tensor = match (step.name.as_str(), &step.value) {
                ("rows", _) => {
                    let n = usizes(step, Some(2))?;
                    tensor.narrow(0, n[0], n[1])?
                }
                ("transpose", Value::Flag(false)) => tensor,
                ("transpose", _) => tensor.t()?,
                ("permute", _) => tensor.permute(usizes(step, None)?)?,
                _ => tensor.reshape(shape)?,
            };
        }
        parts.push(tensor.contiguous()?);
    }
    let joined = match join {
        "stack" => Tensor::stack(&parts, 0)?,
        _ => Tensor::cat(&parts, 0)?,
    };
    Ok(joined.flatten_all()?.to_vec1()?)
}

/// Weights in memory by key and device, so that models alive at the same time share them; it keeps nothing alive itself.
#[derive(Default)]
pub(crate) struct Pool(Mutex<HashMap<String, Weak<Vec<Matrix>>>>);

impl Pool {
    /// The weight as it runs on the device, a matrix or the matrices of a stack: shared if another model has it, else made.
    pub fn get(&self, weight: &Weight, device: &Device) -> Result<Arc<Vec<Matrix>>, EngineError> {
        if let Some(matrices) = weight.matrices(device) {
            return Ok(matrices.clone());
        }
        let key = format!("{} {:?}", weight.key, device.location());
        let lock = || self.0.lock().expect("no panic happens while the pool is locked");
        if let Some(shared) = lock().get(&key).and_then(Weak::upgrade) {
            return Ok(shared);
        }
        let made = Arc::new(Matrix::stack(weight, device)?);
        let mut map = lock();
        map.retain(|_, weak| weak.strong_count() > 0);
        map.insert(key, Arc::downgrade(&made));
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_formats::{Encoding, gguf};

    /// More numbers than are worked on at once, and no whole number of tiles in what is left over.
    const ROWS: usize = 1101;
    const COLUMNS: usize = 1024;

    fn numbers() -> Vec<f32> {
        (0..ROWS * COLUMNS).map(|i| ((i * 31 + i / 977) % 97) as f32 / 97.0 - 0.5).collect()
    }

    /// Weights of every content, and the folder of their checkpoint.
    fn weights() -> (Vec<Weight>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let blocked = Representation::Blocked(Encoding::Q8_0);
        let mut writer = gguf::Writer::new();
        writer.set("general.architecture", "none");
        let bytes = codec::encode(blocked, &numbers(), ROWS, COLUMNS, None).unwrap();
        writer.tensor("a", &[ROWS, COLUMNS], Encoding::Q8_0, bytes).unwrap();
        writer.save(&path).unwrap();
        let checkpoint = Arc::new(Checkpoint::open(&path).unwrap());
        let source = || vec![BoundTensor { tensor: "a".into(), steps: vec![] }];
        let bound = Weight::bind(&checkpoint, source(), "single", Some(FloatType::F16)).unwrap();
        let stored = Weight::bind(&checkpoint, source(), "single", None).unwrap();
        let recoded = bound.recoded(Representation::Blocked(Encoding::Q4_1), None).unwrap();
        let tensor = Tensor::from_vec(numbers(), (3, ROWS / 3, COLUMNS), &Device::Cpu).unwrap();
        let put = Weight::values(&tensor, FloatType::BF16).unwrap();
        let importance = Some((0..COLUMNS).map(|column| 1.0 + column as f32).collect());
        let sparse = put.recoded(Representation::Sparse(FloatType::F16), importance).unwrap();
        let blocks = put.recoded(Representation::Blocked(Encoding::Q4_0), None).unwrap();
        (vec![bound, stored, recoded, put, sparse, blocks], folder)
    }

    #[test]
    fn rows_are_those_of_the_whole_however_they_are_kept_and_run() {
        let (weights, _folder) = weights();
        for weight in weights {
            let whole = weight.with_bytes(|bytes| {
                let mut values = vec![f32::NAN; ROWS * COLUMNS];
                codec::decode(weight.form, bytes, COLUMNS, &mut values);
                values
            });
            let whole = whole.unwrap();
            for rows in [0..ROWS, 0..1, 360..370, 1020..1101, 5..5] {
                let expected = &whole[rows.start * COLUMNS..rows.end * COLUMNS];
                assert_eq!(weight.rows(rows.clone()).unwrap(), expected, "{:?} {rows:?}", weight.form);
            }
            let matrices = Matrix::stack(&weight, &Device::Cpu).unwrap();
            let each = ROWS / matrices.len();
            let mut line = vec![f32::NAN; COLUMNS];
            for row in 0..ROWS {
                matrices[row / each].row(row % each, &mut line);
                assert_eq!(line, whole[row * COLUMNS..][..COLUMNS], "{:?}, row {row}", weight.form);
            }
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused_wherever_they_stand() {
        let mut values = numbers();
        *values.last_mut().unwrap() = f32::INFINITY;
        let tensor = Tensor::from_vec(values, (ROWS, COLUMNS), &Device::Cpu).unwrap();
        let told = Weight::values(&tensor, FloatType::F16).unwrap_err();
        assert!(matches!(told, EngineError::Diverged(_)), "{told}");
    }
}

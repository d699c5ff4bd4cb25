//! The functions of a model that images go through.

use super::View;
use crate::batch::{Batch, Known, Rows, Sequence};
use crate::cache::Cache;
use crate::tensors::floats;
use crate::{EngineError, Model};
use candle_core::{Device, Tensor};

/// Patches of a step at most, if there is more than one view: more were no faster when measured, and take more memory.
const PATCHES: usize = 256;

/// The functions that make rows of the stream from images.
pub(crate) struct Vision {
    tower: Model,
    projector: Option<Model>,
    /// Neighbouring patches that become one row.
    fold: usize,
}

impl Vision {
    /// Puts both together; `fold` is the model's fact `image.fold`, `hidden` the width of its stream.
    pub fn new(tower: Model, projector: Option<Model>, fold: usize, hidden: usize) -> Result<Self, EngineError> {
        let mut width = tower.vocabulary() * fold;
        if let Some(projector) = &projector {
            let takes = projector.given().unwrap_or(0);
            if takes != width {
                return Err(EngineError::Invalid(format!(
                    "`encode-image` makes {} numbers of a patch, {width} of the {fold} that become one row, but `project-image` takes {takes}",
                    tower.vocabulary()
                )));
            }
            width = projector.vocabulary();
        }
        match width == hidden {
            true => Ok(Self { tower, projector, fold }),
            false => Err(EngineError::Invalid(format!(
                "images become rows of {width} numbers, but the stream of `decode` has {hidden}"
            ))),
        }
    }

    /// Neighbouring patches that become one row.
    pub fn fold(&self) -> usize {
        self.fold
    }

    /// Rows `[patches / fold, hidden]` of each view.
    pub fn rows(&self, views: &[View]) -> Result<Vec<Vec<f32>>, EngineError> {
        let width = self.tower.given().unwrap_or(0);
        for view in views {
            let patches = view.places.len();
            if patches == 0 || view.pixels.len() != patches * width || !patches.is_multiple_of(self.fold) {
                return Err(EngineError::Invalid(format!(
                    "a view has {patches} patches with {} numbers in all; the model takes {width} a patch, and patches by {}",
                    view.pixels.len(),
                    self.fold
                )));
            }
        }
        let known = self.tower.ids();
        let last = views.iter().flat_map(|view| &view.places).max();
        if let Some(place) = last.filter(|place| **place as usize >= known) {
            return Err(EngineError::Invalid(format!(
                "a view is too large: a patch stands at place {place}, and the model knows {known} places from 0 on"
            )));
        }
        let mut rows = Vec::with_capacity(views.len());
        let mut start = 0;
        while start < views.len() {
            let mut patches = views[start].places.len();
            let mut end = start + 1;
            while end < views.len() && patches + views[end].places.len() <= PATCHES {
                patches += views[end].places.len();
                end += 1;
            }
            rows.extend(self.rows_of_step(&views[start..end], patches)?);
            start = end;
        }
        Ok(rows)
    }

    /// The same of views that go through together, with so many patches in all.
    fn rows_of_step(&self, views: &[View], patches: usize) -> Result<Vec<Vec<f32>>, EngineError> {
        let lengths: Vec<usize> = views.iter().map(|view| view.places.len()).collect();
        let places: Vec<u32> = views.iter().flat_map(|view| &view.places).copied().collect();
        let pixels: Vec<f32> = views.iter().flat_map(|view| &view.pixels).copied().collect();
        let lengths_of_rows: Vec<usize> = lengths.iter().map(|patches| patches / self.fold).collect();
        let mut made = self.tower.transform(&lengths, &places, pixels)?;
        if let Some(projector) = &self.projector {
            let features = floats(&made.to_device(&Device::Cpu)?, <[f32]>::to_vec)?;
            made = projector.transform(&lengths_of_rows, &vec![0; patches / self.fold], features)?;
        }
        let width = made.elem_count() / (patches / self.fold);
        floats(&made.to_device(&Device::Cpu)?, |made| {
            let mut rest = made;
            let of_view = |rows: &usize| {
                let (own, others) = rest.split_at(rows * width);
                rest = others;
                own.to_vec()
            };
            lengths_of_rows.iter().map(of_view).collect()
        })
    }
}

impl Model {
    /// One step of a function whose tokens do not go on, over packed sequences of these lengths, all of whose tokens see all
    /// of their own: its output, a row for each token.
    fn transform(&self, lengths: &[usize], ids: &[u32], given: Vec<f32>) -> Result<Tensor, EngineError> {
        let zeros = vec![0; lengths.iter().copied().max().unwrap_or(0)];
        let mut caches: Vec<Cache> = lengths.iter().map(|_| self.cache()).collect();
        let mut at = 0;
        let mut sequences: Vec<Sequence<'_>> = Vec::with_capacity(lengths.len());
        for (cache, length) in caches.iter_mut().zip(lengths) {
            let tokens = &ids[at..at + length];
            at += length;
            cache.reserve(*length);
            let together = Some((&zeros[..*length], &zeros[..*length]));
            sequences.push(Sequence { tokens, branches: together, cache, rows: Rows::All });
        }
        let known = Known { ids: self.ids(), images: &self.images };
        let batch = Batch { given, ..Batch::of(&sequences, None, &known)? };
        let output = self.execute(&batch, &mut sequences, None)?;
        output.ok_or_else(|| EngineError::Invalid("this model only shows values to observers".into()))
    }
}

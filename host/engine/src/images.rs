//! Images as tokens. A model's function `encode-image` makes features of an image's patches, and `project-image`, where
//! there is one, rows of the stream from features of neighbouring patches. Each row stands under a token id of its own,
//! beyond the vocabulary's, for as long as somebody needs it: whatever compares, shares or caches tokens then takes images as
//! it takes text.

mod prompt;
mod vision;

use crate::{EngineError, Model};
pub use prompt::{EncodedPrompt, ImageLayout, ImageStep, Layouts, MARK};
pub(crate) use prompt::{ImageTaker, PreparedImages};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};
pub(crate) use vision::Vision;

/// A picture that an image, or a part of it, was made into: patches `[patches, numbers of a patch]`, and the place of each
/// in the grid that the model knows.
#[derive(Debug, Clone)]
pub struct View {
    /// `[patches, numbers of a patch]`.
    pub pixels: Vec<f32>,
    /// Of each patch.
    pub places: Vec<u32>,
}

/// Rows of the stream that stand for images.
pub(crate) struct ImageRows {
    /// Their ids begin here, where those of the vocabulary end.
    first: usize,
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    /// Those of views by their first id.
    views: BTreeMap<u32, Arc<Vec<f32>>>,
    width: usize,
    /// Ids that were given out.
    given: u32,
}

/// A token that stands for a part of an image.
pub(crate) struct Placed {
    /// Its number in the step.
    pub token: usize,
    rows: Arc<Vec<f32>>,
    row: usize,
}

impl Placed {
    /// What stands there.
    pub fn row(&self, width: usize) -> &[f32] {
        &self.rows[self.row * width..][..width]
    }
}

impl ImageRows {
    /// None yet, beyond a vocabulary of so many ids.
    pub fn new(first: usize) -> Self {
        Self { first, table: RwLock::default() }
    }

    /// What an id stands for, if it does.
    pub fn find(&self, id: u32, token: usize) -> Option<Placed> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let (first, rows) = table.views.range(..=id).next_back()?;
        let row = (id - first) as usize;
        ((row + 1) * table.width <= rows.len()).then(|| Placed { token, rows: rows.clone(), row })
    }

    /// Takes rows up, and gives their ids.
    fn take(&self, rows: Vec<f32>, width: usize) -> Result<Range<u32>, EngineError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.views.is_empty() {
            (table.given, table.width) = (0, width);
        }
        let count = rows.len() / width.max(1);
        let start = self.first + table.given as usize;
        let full = || EngineError::Invalid("too many images at once: there are no more ids for their parts".into());
        let end = u32::try_from(start + count).map_err(|_| full())?;
        table.given += count as u32;
        let ids = start as u32..end;
        table.views.insert(ids.start, Arc::new(rows));
        Ok(ids)
    }

    fn forget(&self, ids: &Range<u32>) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).views.remove(&ids.start);
    }
}

/// Views whose rows the model holds; it lets go of them when this is dropped.
pub struct EncodedViews<'m> {
    rows: &'m ImageRows,
    ids: Vec<Range<u32>>,
}

impl EncodedViews<'_> {
    /// The token ids of each view.
    pub fn ids(&self) -> &[Range<u32>] {
        &self.ids
    }
}

impl Drop for EncodedViews<'_> {
    fn drop(&mut self) {
        self.ids.iter().for_each(|ids| self.rows.forget(ids));
    }
}

impl Model {
    /// Whether it takes images.
    pub fn takes_images(&self) -> bool {
        self.vision.is_some()
    }

    /// Makes rows of the stream from views of images; their token ids go into sequences as others do.
    ///
    /// # Errors
    /// `Unsupported` where the model takes no images, `Invalid` where a view is not as it takes them.
    pub fn encode_views(&self, views: &[View]) -> Result<EncodedViews<'_>, EngineError> {
        let none = || EngineError::Unsupported("this model takes no images".into());
        let vision = self.vision.as_ref().ok_or_else(none)?;
        let mut encoded = EncodedViews { rows: &self.images, ids: Vec::with_capacity(views.len()) };
        for (view, rows) in views.iter().zip(vision.rows(views)?) {
            let width = rows.len() / (view.places.len() / vision.fold());
            encoded.ids.push(self.images.take(rows, width)?);
        }
        Ok(encoded)
    }
}

//! Images in prompts: what views an image becomes, and where their rows stand among the tokens.

use super::{EncodedViews, View};
use crate::{EngineError, LanguageModel, Prompt, Variant};
use aehost_common::{Fault, Value};
use aehost_graph::Graph;
use aehost_images::{Filter, Image, MAX_PIXELS, Normalisation};
use std::collections::HashMap;
use std::sync::Arc;

/// Marks in a message where an image stands.
pub const MARK: &str = "<image>";

/// Views that an image may become.
const MOST_VIEWS: usize = 256;

/// A step from an image to a view of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageStep {
    /// To another size, in pixels.
    Resize {
        /// New.
        width: u32,
        /// New.
        height: u32,
    },
    /// To a part of it, in pixels.
    Crop {
        /// From the left.
        x: u32,
        /// From above.
        y: u32,
        /// Of the part.
        width: u32,
        /// Of the part.
        height: u32,
    },
}

/// What an image is to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLayout {
    /// The views that are made of it, each by steps.
    pub views: Vec<Vec<ImageStep>>,
    /// What takes its place in the prompt; in it the model's image token stands for each row of the views, in order.
    pub text: String,
}

/// The layout of an image of some width and height.
pub type Layouts = Arc<dyn Fn(u32, u32) -> Result<ImageLayout, Fault> + Send + Sync>;

/// How a model takes images.
pub(crate) struct ImageTaker {
    layouts: Layouts,
    /// Side of a patch, in pixels.
    patch: u32,
    /// Patches of a side of a block, which becomes one row.
    block: u32,
    filter: Filter,
    normalisation: Normalisation,
    /// The text of its image token.
    token: String,
}

/// The model's fact `image.{name}`.
fn fact<'g, T>(graph: &'g Graph, name: &str, read: impl Fn(&'g Value) -> Option<T>) -> Result<T, EngineError> {
    let name = format!("image.{name}");
    let wrong = || EngineError::Invalid(format!("the model takes images, but its fact `{name}` is missing or wrong"));
    graph.fact(&name).and_then(read).ok_or_else(wrong)
}

impl ImageTaker {
    /// By the facts of a model, as docs/ops.md lists them.
    pub fn new(variant: &Variant, layouts: Layouts) -> Result<Self, EngineError> {
        let graph = variant.graph();
        let side = |value: &Value| value.as_integer().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        let channels = |value: &Value| {
            let numbers: Vec<f32> = value.as_reals()?.iter().map(|n| *n as f32).collect();
            <[f32; 3]>::try_from(numbers).ok()
        };
        let filter = |value: &Value| match value.as_text()? {
            "nearest" => Some(Filter::Nearest),
            "bilinear" => Some(Filter::Bilinear),
            "bicubic" => Some(Filter::Bicubic),
            "lanczos" => Some(Filter::Lanczos),
            _ => None,
        };
        let taker = Self {
            layouts,
            patch: fact(graph, "patch", side)?,
            block: fact(graph, "block", side)?,
            filter: fact(graph, "filter", filter)?,
            normalisation: Normalisation {
                mean: fact(graph, "mean", channels)?,
                deviation: fact(graph, "deviation", channels)?,
            },
            token: fact(graph, "token", Value::as_text)?.to_owned(),
        };
        let fold = fact(graph, "fold", side)?;
        match taker.block.checked_mul(taker.block) == Some(fold) {
            true => Ok(taker),
            false => Err(EngineError::Invalid(format!(
                "the model's facts `image.block` = {} and `image.fold` = {fold} do not go together: a row is made of a square block",
                taker.block
            ))),
        }
    }

    /// Its image token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The views of an image, by its layout's steps.
    fn views(&self, image: &Image, steps: &[Vec<ImageStep>]) -> Result<Vec<View>, EngineError> {
        if steps.len() > MOST_VIEWS {
            let found = steps.len();
            return Err(EngineError::Invalid(format!(
                "the model's family makes {found} views of an image; at most {MOST_VIEWS} are made"
            )));
        }
        // Views often begin with the same steps.
        let mut made: HashMap<&[ImageStep], Image> = HashMap::new();
        let mut views = Vec::with_capacity(steps.len());
        for steps in steps {
            for (at, step) in steps.iter().enumerate() {
                if made.contains_key(&steps[..=at]) {
                    continue;
                }
                let before = if at == 0 { image } else { &made[&steps[..at]] };
                let after = self.step(before, *step)?;
                made.insert(&steps[..=at], after);
            }
            let view = made.get(&steps[..]).unwrap_or(image);
            let invalid = |e: aehost_images::ImageError| EngineError::Invalid(e.to_string());
            let pixels = view.patches(self.patch, self.block, &self.normalisation).map_err(invalid)?;
            let (columns, block) = (view.width() / self.patch, self.block);
            let blocks = (view.height() / self.patch / block, columns / block);
            let mut places = Vec::with_capacity((blocks.0 * blocks.1 * block * block) as usize);
            for (y, x) in (0..blocks.0).flat_map(|y| (0..blocks.1).map(move |x| (y, x))) {
                let of_row = |row: u32| (0..block).map(move |column| row * columns + x * block + column);
                places.extend((0..block).flat_map(|row| of_row(y * block + row)));
            }
            views.push(View { pixels, places });
        }
        Ok(views)
    }

    /// One step, of what a plugin may ask for.
    fn step(&self, image: &Image, step: ImageStep) -> Result<Image, EngineError> {
        let (width, height) = (image.width(), image.height());
        let fits = |width: u32, height: u32| u64::from(width) * u64::from(height) <= MAX_PIXELS;
        match step {
            ImageStep::Resize { width, height } if width > 0 && height > 0 && fits(width, height) => {
                Ok(image.resized(width, height, self.filter))
            }
            ImageStep::Crop { x, y, width: w, height: h }
                if w > 0
                    && h > 0
                    && x.checked_add(w).is_some_and(|end| end <= width)
                    && y.checked_add(h).is_some_and(|end| end <= height) =>
            {
                Ok(image.cropped(i64::from(x), i64::from(y), w, h, [0; 3]))
            }
            _ => Err(EngineError::Invalid(format!(
                "the model's family asks for {step:?} of an image of {width} x {height} pixels, which cannot be done"
            ))),
        }
    }
}

/// Images of prompts that the model holds rows of.
pub(crate) struct PreparedImages<'m> {
    images: HashMap<*const Image, (ImageLayout, EncodedViews<'m>)>,
    /// The image token, as text and id.
    token: (String, Option<u32>),
    /// Ids of the vocabulary are smaller.
    ids: usize,
}

impl PreparedImages<'_> {
    /// A prompt's text with the text of its images where they are marked.
    pub fn expand(&self, text: String, prompt: &Prompt) -> Result<String, EngineError> {
        if prompt.images.is_empty() {
            return Ok(text);
        }
        let parts: Vec<&str> = text.split(&self.token.0).collect();
        if parts.len() != prompt.images.len() + 1 {
            return Err(EngineError::Invalid(format!(
                "the prompt marks {} places for images by {MARK}, and has {} images",
                parts.len() - 1,
                prompt.images.len()
            )));
        }
        let mut expanded = parts[0].to_owned();
        for (image, part) in prompt.images.iter().zip(&parts[1..]) {
            expanded.push_str(&self.images[&Arc::as_ptr(image)].0.text);
            expanded.push_str(part);
        }
        Ok(expanded)
    }

    /// Puts the ids of the images' rows where the image token stands among a prompt's tokens.
    pub fn place(&self, tokens: &mut [u32], prompt: &Prompt) -> Result<(), EngineError> {
        // Beyond the vocabulary are images' ids, which no text may name.
        if let Some(token) = tokens.iter().find(|token| **token as usize >= self.ids) {
            let known = self.ids;
            return Err(EngineError::Invalid(format!("token {token} lies outside the vocabulary of {known}")));
        }
        if prompt.images.is_empty() {
            return Ok(());
        }
        let of_image = |image: &Arc<Image>| self.images[&Arc::as_ptr(image)].1.ids().to_vec();
        let mut ids = prompt.images.iter().flat_map(of_image).flatten();
        let mut places = tokens.iter_mut().filter(|token| Some(**token) == self.token.1);
        loop {
            match (places.next(), ids.next()) {
                (Some(place), Some(id)) => *place = id,
                (None, None) => return Ok(()),
                (place, _) => {
                    let what = if place.is_some() { "fewer" } else { "more" };
                    return Err(EngineError::Invalid(format!(
                        "the prompt's images became {what} rows than the model's image token stands in it: text of the prompt must not hold that token"
                    )));
                }
            }
        }
    }
}

/// A prompt's tokens; the rows of its images are held as long.
pub struct EncodedPrompt<'m> {
    tokens: Vec<u32>,
    _images: PreparedImages<'m>,
}

impl EncodedPrompt<'_> {
    /// They stand for text, or for rows of images.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

impl LanguageModel {
    /// What an image is to the model, and the views that are made of it.
    ///
    /// # Errors
    /// `Unsupported` where the model takes no images, `Invalid` where it does not take this one.
    pub fn views(&self, image: &Image) -> Result<(ImageLayout, Vec<View>), EngineError> {
        let none = || EngineError::Unsupported("this model takes no images".into());
        let taker = self.images.as_ref().ok_or_else(none)?;
        let layout = (taker.layouts)(image.width(), image.height()).map_err(|f| EngineError::Invalid(f.full()))?;
        let views = taker.views(image, &layout.views)?;
        Ok((layout, views))
    }

    /// The tokens of a prompt and its images.
    pub fn encode_prompt<'m>(&'m self, prompt: &'m Prompt) -> Result<EncodedPrompt<'m>, EngineError> {
        let images = self.prepare_images(std::iter::once(prompt))?;
        let (text, special) = self.render(prompt)?;
        let mut tokens = self.tokenizer.encode(&images.expand(text, prompt)?, special)?;
        images.place(&mut tokens, prompt)?;
        Ok(EncodedPrompt { tokens, _images: images })
    }

    /// Makes the model's rows of all images of the prompts, each once.
    pub(crate) fn prepare_images<'m>(
        &'m self,
        prompts: impl Iterator<Item = &'m Prompt>,
    ) -> Result<PreparedImages<'m>, EngineError> {
        let mut prepared =
            PreparedImages { images: HashMap::new(), token: (String::new(), None), ids: self.model.ids() };
        for image in prompts.flat_map(|prompt| &prompt.images) {
            if prepared.images.contains_key(&Arc::as_ptr(image)) {
                continue;
            }
            let (layout, views) = self.views(image)?;
            let encoded = self.model.encode_views(&views)?;
            prepared.images.insert(Arc::as_ptr(image), (layout, encoded));
            let Some(taker) = &self.images else { continue };
            if prepared.token.1.is_none() {
                let id = self.tokenizer.id(&taker.token).ok_or_else(|| {
                    let token = &taker.token;
                    EngineError::Invalid(format!("the tokenizer does not know the model's image token `{token}`"))
                })?;
                prepared.token = (taker.token.clone(), Some(id));
            }
        }
        Ok(prepared)
    }
}

//! The interface `session`: scoring and generating with the variant under test.

use crate::bindings::shared::session as wit;
use crate::bindings::shared::session::{Host, HostSession};
use crate::convert;
use crate::evaluator::Baseline;
use crate::state::{Answer, HostCall};
use aehost_common::Fault;
use aehost_engine::{GenerationRequest, Image, LanguageModel, Message, Prompt, ScoreRequest};
use aehost_formats::Dataset;
use std::collections::HashMap;
use std::path::{Component, Path};
use std::sync::Arc;
use wasmtime::component::Resource;

/// The variant under test and, made when it is asked for, the baseline.
pub struct Session {
    /// Under test.
    pub model: Arc<LanguageModel>,
    /// The study's baseline.
    pub baseline: Baseline,
    /// What is evaluated on; pictures lie in its folder.
    pub data: Arc<Dataset>,
}

/// The pictures of one call, each read once.
struct Pictures {
    data: Arc<Dataset>,
    read: HashMap<String, Arc<Image>>,
}

impl Pictures {
    fn of(session: &Session) -> Self {
        Self { data: session.data.clone(), read: HashMap::new() }
    }

    fn get(&mut self, name: String) -> Result<Arc<Image>, Fault> {
        if let Some(image) = self.read.get(&name) {
            return Ok(image.clone());
        }
        let fail = |why: String| Fault::invalid(format!("picture `{name}` of data set `{}`: {why}", self.data.name()));
        let outside = || fail("its path must lead to a file in the data set's folder".into());
        let relative = Path::new(&name);
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(outside());
        }
        // Links may lead outside, too.
        let folder = match self.data.folder() {
            folder if folder == Path::new("") => Path::new("."),
            folder => folder,
        };
        let real = |path: &Path| path.canonicalize().map_err(|e| fail(format!("{}: {e}", path.display())));
        let path = real(&folder.join(relative))?;
        if !path.starts_with(real(folder)?) {
            return Err(outside());
        }
        let image = Arc::new(Image::open(&path).map_err(|e| fail(e.to_string()))?);
        self.read.insert(name, image.clone());
        Ok(image)
    }

    fn prompt(&mut self, prompt: wit::Prompt) -> Result<Prompt, Fault> {
        let message = |m: wit::Message| Message { role: m.role, content: m.content };
        let images = prompt.images.into_iter().map(|name| self.get(name)).collect::<Result<_, _>>()?;
        Ok(Prompt { messages: prompt.messages.into_iter().map(message).collect(), chat: prompt.chat, images })
    }
}

impl Host for HostCall<'_> {}

impl HostSession for HostCall<'_> {
    fn score(&mut self, this: Resource<Session>, requests: Vec<wit::Request>) -> Answer<Vec<wit::Score>> {
        let session = self.table.get(&this)?;
        let (model, mut pictures) = (session.model.clone(), Pictures::of(session));
        let request =
            |r: wit::Request| Ok(ScoreRequest { prompt: pictures.prompt(r.prompt)?, continuation: r.continuation });
        let requests = requests.into_iter().map(request).collect::<Result<Vec<_>, Fault>>()?;
        let scores = model.score(&requests)?;
        Ok(scores
            .into_iter()
            .map(|s| wit::Score {
                log_likelihood: s.log_likelihood,
                greedy: s.greedy,
                tokens: s.tokens,
                bytes: s.bytes,
            })
            .collect())
    }

    fn rolling(
        &mut self,
        this: Resource<Session>,
        texts: Vec<String>,
        window: u32,
        stride: u32,
    ) -> Answer<Vec<wit::Rolling>> {
        let model = self.table.get(&this)?.model.clone();
        let rolled = model.rolling(&texts, window as usize, stride as usize)?;
        Ok(rolled
            .into_iter()
            .map(|r| wit::Rolling {
                log_likelihood: r.log_likelihood,
                tokens: r.tokens,
                bytes: r.bytes,
                words: r.words,
            })
            .collect())
    }

    fn generate(&mut self, this: Resource<Session>, requests: Vec<wit::Generation>) -> Answer<Vec<wit::Generated>> {
        let session = self.table.get(&this)?;
        let (model, mut pictures) = (session.model.clone(), Pictures::of(session));
        let request = |r: wit::Generation| {
            Ok(GenerationRequest { prompt: pictures.prompt(r.prompt)?, settings: convert::settings_in(r.settings)? })
        };
        let requests = requests.into_iter().map(request).collect::<Result<Vec<_>, Fault>>()?;
        let generated = model.generate(&requests)?;
        Ok(generated.into_iter().map(|g| wit::Generated { text: g.text, tokens: g.tokens, finish: g.finish }).collect())
    }

    fn distance(&mut self, this: Resource<Session>, texts: Vec<String>, window: u32) -> Answer<Vec<wit::Distance>> {
        let session = self.table.get(&this)?;
        let (model, baseline) = (session.model.clone(), session.baseline.clone());
        let baseline = baseline()?;
        let distances = model.distance(&baseline, &texts, window as usize)?;
        Ok(distances.into_iter().map(|d| wit::Distance { kl: d.kl, agreeing: d.agreeing, tokens: d.tokens }).collect())
    }

    fn drop(&mut self, this: Resource<Session>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

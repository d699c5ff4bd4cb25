//! Models that the user named beside the one that is studied, for techniques to take functions from.

use crate::rig::{Rig, built, unreadable};
use aehost_common::Fault;
use aehost_formats::{Checkpoint, Tokenizer};
use aehost_plugins::Companions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a companion is called: its file's name, without the ending.
pub(crate) fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Opens companions, which stay as their files have them.
pub(crate) fn opened(rig: &Rig, paths: &[PathBuf]) -> Result<Companions, Fault> {
    let mut companions = Companions::new();
    if paths.is_empty() {
        return Ok(companions);
    }
    let tokenizer = rig.tokenizer()?;
    for path in paths {
        let wrong = |why: String| Fault::invalid(format!("companion {}: {why}", path.display()));
        let checkpoint = Arc::new(Checkpoint::open(path).map_err(unreadable)?);
        if let Some(why) = difference(&tokenizer, &checkpoint.tokenizer().map_err(unreadable)?) {
            return Err(wrong(format!("it needs the vocabulary of the model beside which it is used, but {why}")));
        }
        if companions.insert(name(path), built(&rig.catalog, &checkpoint, None)?).is_some() {
            return Err(wrong(format!("another is called `{}` too: rename one of the files", name(path))));
        }
    }
    Ok(companions)
}

/// The first token that two vocabularies do not share.
fn difference(model: &Tokenizer, companion: &Tokenizer) -> Option<String> {
    let spelled = |token: Option<String>| token.map_or("nothing".to_owned(), |token| format!("{token:?}"));
    let ids = 0..model.vocabulary().max(companion.vocabulary()) as u32;
    let mut pairs = ids.map(|id| (id, model.token(id), companion.token(id)));
    let (id, ours, theirs) = pairs.find(|(_, ours, theirs)| ours != theirs)?;
    Some(format!("token {id} is {} there, and {} here", spelled(theirs), spelled(ours)))
}

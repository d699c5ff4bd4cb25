//! A checkpoint: memory-mapped files, the facts and tensors they announce, and their tokenizer. What a tensor means is
//! the business of a family; here it is a name, a shape and bytes.

use crate::gguf::{Header, Kind};
use crate::{Encoding, FormatError, Tokenizer, safetensors};
use aehost_common::{Setting, Value};
use memmap2::Mmap;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The two kinds of checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One .gguf file.
    Gguf,
    /// A folder as Hugging Face lays it out: config.json, *.safetensors, tokenizer.json.
    Safetensors,
}

impl Format {
    /// The word of the plugin contract: `gguf` or `safetensors`.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Gguf => "gguf",
            Format::Safetensors => "safetensors",
        }
    }
}

/// A tensor as stored.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// The checkpoint's own name.
    pub name: String,
    /// Row-major; for a linear weight [out, in].
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub encoding: Encoding,
    pub(crate) file: usize,
    pub(crate) range: Range<usize>,
}

impl TensorInfo {
    /// Bytes in the file.
    pub fn size_bytes(&self) -> usize {
        self.range.len()
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A file that is mapped into memory.
#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) path: PathBuf,
    pub(crate) map: Mmap,
}

impl Mapped {
    pub(crate) fn open(path: &Path) -> Result<Self, FormatError> {
        let file = File::open(path).map_err(|e| FormatError::io(path, e))?;
        // SAFETY: the mapping is read-only and private to this process. Another process that truncates the file meanwhile
        // would fault us, as with every program that maps its models; checkpoints are not edited in place.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| FormatError::io(path, e))?;
        Ok(Self { path: path.to_owned(), map })
    }
}

#[derive(Debug)]
enum Source {
    Gguf(Header),
    Safetensors,
}

/// An opened checkpoint. Tensor bytes are borrowed from the mapped files.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    files: Vec<Mapped>,
    facts: Vec<Setting>,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
    source: Source,
    digest: OnceLock<String>,
}

impl Checkpoint {
    /// Opens a .gguf file, or a folder with config.json and *.safetensors (in shards when there is a
    /// model.safetensors.index.json). Only headers are read; all sizes in them are checked.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let metadata = std::fs::metadata(path).map_err(|e| FormatError::io(path, e))?;
        let (files, facts, tensors, source) = if metadata.is_dir() {
            let folder = safetensors::Folder::open(path)?;
            (folder.files, folder.facts, folder.tensors, Source::Safetensors)
        } else {
            let file = Mapped::open(path)?;
            let mut header = Header::read(path, &file.map)?;
            let tensors = std::mem::take(&mut header.tensors);
            let facts = header.facts(&file.map);
            (vec![file], facts, tensors, Source::Gguf(header))
        };
        let index = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Ok(Self { path: path.to_owned(), files, facts, tensors, index, source, digest: OnceLock::new() })
    }

    /// Which kind it is.
    pub fn format(&self) -> Format {
        match self.source {
            Source::Gguf(_) => Format::Gguf,
            Source::Safetensors => Format::Safetensors,
        }
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// GGUF metadata under its own keys, or config.json flattened to dotted names, with preprocessor_config.json below
    /// `preprocessor`. Long lists (vocabulary, merges, scores), nulls and numbers that are not finite are left out.
    pub fn facts(&self) -> &[Setting] {
        &self.facts
    }

    /// The fact with this name.
    pub fn fact(&self, name: &str) -> Option<&Value> {
        self.facts.iter().find(|f| f.name == name).map(|f| &f.value)
    }

    /// GGUF's `general.architecture`, config.json's `model_type`.
    pub fn architecture(&self) -> Result<&str, FormatError> {
        let (key, path) = match self.source {
            Source::Gguf(_) => ("general.architecture", self.path.clone()),
            Source::Safetensors => ("model_type", self.path.join("config.json")),
        };
        self.fact(key).and_then(Value::as_text).ok_or_else(|| {
            let remedy = "it says which family builds the model: convert or download the checkpoint again";
            FormatError::missing(&path, format!("text `{key}`"), remedy)
        })
    }

    /// All tensors, in the order of the files.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, FormatError> {
        self.index.get(name).map(|i| &self.tensors[*i]).ok_or_else(|| {
            let remedy = "the checkpoint is incomplete, or of another family than its architecture says";
            FormatError::missing(&self.path, format!("tensor `{name}`"), remedy)
        })
    }

    /// The bytes of one of this checkpoint's own tensors, as stored.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        &self.files[tensor.file].map[tensor.range.clone()]
    }

    /// Gives mapped pages back to the system, so that they stop counting as resident; they are read again when touched.
    pub fn release_pages(&self) {
        #[cfg(unix)]
        for file in &self.files {
            // SAFETY: the mapping is a read-only view of a file, so dropped pages come back with the same content.
            // Advice may be refused; then pages merely stay.
            let _ = unsafe { file.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }

    /// SHA-256 of the content, in hexadecimal: of a GGUF file, its own; of a folder, of the digests of config.json,
    /// tokenizer files and shards with their names. Computed once, by reading all of it.
    pub fn digest(&self) -> Result<String, FormatError> {
        if let Some(digest) = self.digest.get() {
            return Ok(digest.clone());
        }
        let digest = match self.source {
            Source::Gguf(_) => hex(&hash_file(&self.path)?),
            Source::Safetensors => {
                let mut all = Sha256::new();
                let others = safetensors::OTHER_FILES.iter().map(|name| self.path.join(name)).filter(|p| p.is_file());
                for path in others.chain(self.files.iter().map(|f| f.path.clone())) {
                    all.update(path.file_name().unwrap_or_default().as_encoded_bytes());
                    all.update([0]);
                    all.update(hash_file(&path)?);
                }
                hex(&all.finalize())
            }
        };
        Ok(self.digest.get_or_init(|| digest).clone())
    }

    /// The tokenizer: from GGUF metadata, or from tokenizer.json and its companions beside the weights.
    pub fn tokenizer(&self) -> Result<Tokenizer, FormatError> {
        match &self.source {
            Source::Gguf(header) => Tokenizer::from_gguf(&self.path, header, &self.files[0].map),
            Source::Safetensors => Tokenizer::from_folder(&self.path),
        }
    }

    /// Keys, kinds and raw bytes of a GGUF's metadata.
    pub(crate) fn gguf_metadata(&self) -> impl Iterator<Item = (&str, Kind, &[u8])> {
        let header = if let Source::Gguf(header) = &self.source { Some(header) } else { None };
        header.into_iter().flat_map(|h| h.raw(&self.files[0].map))
    }
}

fn hash_file(path: &Path) -> Result<[u8; 32], FormatError> {
    let fail = |e| FormatError::io(path, e);
    let mut file = File::open(path).map_err(fail)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(fail)? {
            0 => return Ok(hasher.finalize().into()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

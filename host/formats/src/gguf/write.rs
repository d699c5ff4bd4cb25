//! The writer: metadata and tensors in the order given, version 3, tensor data aligned.

use super::value::{Value, put_string};
use super::{DEFAULT_ALIGNMENT, Kind, MAGIC};
use crate::{Checkpoint, Encoding, FormatError};
use std::borrow::Cow;
use std::io::Write;
use std::path::Path;

/// A GGUF file in the making. Tensor bytes are borrowed where the caller can lend them.
#[derive(Default)]
pub struct Writer<'a> {
    metadata: Vec<(String, Kind, Vec<u8>)>,
    tensors: Vec<Tensor<'a>>,
}

struct Tensor<'a> {
    name: String,
    /// Row-major.
    shape: Vec<usize>,
    /// ggml's number of the encoding.
    encoding: u32,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Writer<'a> {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a metadata value, or replaces it where it stands.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        let (kind, bytes) = value.into().encode();
        self.set_raw(key, kind, bytes);
        self
    }

    fn set_raw(&mut self, key: &str, kind: Kind, bytes: Vec<u8>) {
        match self.metadata.iter_mut().find(|(k, ..)| k == key) {
            Some(entry) => *entry = (key.to_owned(), kind, bytes),
            None => self.metadata.push((key.to_owned(), kind, bytes)),
        }
    }

    /// Takes over all metadata of a GGUF checkpoint, tokenizer included, except its alignment; nothing when the
    /// checkpoint is of another format.
    pub fn copy_metadata(&mut self, from: &Checkpoint) -> &mut Self {
        for (key, kind, bytes) in from.gguf_metadata() {
            if key != "general.alignment" {
                self.set_raw(key, kind, bytes.to_vec());
            }
        }
        self
    }

    /// Appends a tensor: row-major shape, and its bytes in that encoding. Errors when the bytes do not fit the shape, or
    /// GGUF has no such encoding.
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        encoding: Encoding,
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> Result<&mut Self, FormatError> {
        let bytes = bytes.into();
        let refuse = |what: String, remedy: &str| Err(FormatError::unsupported(Path::new("GGUF"), what, remedy));
        let Some(id) = encoding.ggml_id() else {
            return refuse(format!("tensor `{name}` in {encoding}"), "convert it to F32 or F16 first");
        };
        if encoding.bytes_of(shape) != Some(bytes.len()) {
            let what = format!("tensor `{name}` of shape {shape:?} in {} bytes of {encoding}", bytes.len());
            return refuse(what, "give whole rows of whole blocks");
        }
        self.tensors.push(Tensor { name: name.to_owned(), shape: shape.to_vec(), encoding: id, bytes });
        Ok(self)
    }

    /// Writes the file.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let padding = |at: u64| vec![0u8; (at.next_multiple_of(DEFAULT_ALIGNMENT) - at) as usize];
        let mut head = Vec::new();
        head.extend(MAGIC);
        head.extend(3u32.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, kind, bytes) in &self.metadata {
            put_string(&mut head, key);
            head.extend((*kind as u32).to_le_bytes());
            head.extend(bytes);
        }
        let mut offset = 0u64;
        for Tensor { name, shape, encoding, bytes } in &self.tensors {
            put_string(&mut head, name);
            head.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|d| head.extend((*d as u64).to_le_bytes()));
            head.extend(encoding.to_le_bytes());
            head.extend(offset.to_le_bytes());
            offset = (offset + bytes.len() as u64).next_multiple_of(DEFAULT_ALIGNMENT);
        }
        head.extend(padding(head.len() as u64));
        out.write_all(&head)?;
        for Tensor { bytes, .. } in &self.tensors {
            out.write_all(bytes)?;
            out.write_all(&padding(bytes.len() as u64))?;
        }
        out.flush()
    }

    /// Writes the file beside its final name and renames it when complete.
    pub fn save(&self, path: &Path) -> Result<(), FormatError> {
        let partial = path.with_extension("gguf.partial");
        let fail = |source| FormatError::io(path, source);
        let file = std::fs::File::create(&partial).map_err(fail)?;
        let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
        let written = self.write(&mut out).and_then(|()| out.get_ref().sync_all());
        if let Err(source) = written.and_then(|()| std::fs::rename(&partial, path)) {
            let _ = std::fs::remove_file(&partial);
            return Err(fail(source));
        }
        Ok(())
    }
}

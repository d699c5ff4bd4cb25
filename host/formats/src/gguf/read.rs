//! The reader: walks the header once over the mapped bytes, and keeps offsets instead of copies. No count or length of
//! the file is believed before it is held against the bytes that are left.

use super::{DEFAULT_ALIGNMENT, Kind, MAGIC, MAX_DIMENSIONS};
use crate::{Encoding, FormatError, TensorInfo};
use aehost_common::Value as Fact;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

/// Lists longer than this are data (vocabularies, merges), not facts.
const LONGEST_FACT: u64 = 1024;

/// Where a metadata value lies: the bytes after its kind.
#[derive(Debug, Clone)]
struct Entry {
    key: String,
    kind: Kind,
    range: Range<usize>,
}

/// The header of a GGUF file, by reference into its bytes.
#[derive(Debug)]
pub(crate) struct Header {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
    pub(crate) tensors: Vec<TensorInfo>,
}

struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: u64, field: &str) -> Result<&'a [u8], FormatError> {
        let left = (self.bytes.len() - self.at) as u64;
        if count > left {
            return Err(FormatError::Truncated {
                path: self.path.display().to_string(),
                field: field.to_owned(),
                needed: count,
                offset: self.at as u64,
                length: self.bytes.len() as u64,
            });
        }
        let slice = &self.bytes[self.at..self.at + count as usize];
        self.at += count as usize;
        Ok(slice)
    }

    fn u32(&mut self, field: &str) -> Result<u32, FormatError> {
        let bytes = self.take(4, field)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes were taken")))
    }

    fn u64(&mut self, field: &str) -> Result<u64, FormatError> {
        let bytes = self.take(8, field)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
    }

    fn string(&mut self, field: &str) -> Result<&'a str, FormatError> {
        let length = self.u64(field)?;
        let bytes = self.take(length, field)?;
        std::str::from_utf8(bytes).map_err(|_| FormatError::malformed(self.path, field, "is not UTF-8"))
    }

    /// Refuses a number of things to come that take at least `least` bytes each, when so many cannot come.
    fn expect(&self, count: u64, field: &str, least: u64) -> Result<(), FormatError> {
        let left = (self.bytes.len() - self.at) as u64;
        if count > left / least {
            let problem = format!("{count} items cannot fit into the {left} bytes that follow");
            return Err(FormatError::malformed(self.path, field, problem));
        }
        Ok(())
    }

    fn kind(&mut self, field: &str) -> Result<Kind, FormatError> {
        let id = self.u32(field)?;
        Kind::from_id(id)
            .ok_or_else(|| FormatError::malformed(self.path, field, format!("value type {id} does not exist")))
    }

    fn skip_value(&mut self, kind: Kind, field: &str) -> Result<(), FormatError> {
        match kind {
            // Strings of a vocabulary need not be UTF-8 on their own; they are checked when they are used.
            Kind::String => {
                let length = self.u64(field)?;
                self.take(length, field)?;
            }
            Kind::Array => {
                let element = self.kind(field)?;
                if element == Kind::Array {
                    return Err(FormatError::unsupported(
                        self.path,
                        format!("{field}, an array of arrays,"),
                        "convert the model again with a current llama.cpp",
                    ));
                }
                let count = self.u64(field)?;
                self.expect(count, field, element.size().unwrap_or(8) as u64)?;
                match element.size() {
                    Some(size) => {
                        self.take(count * size as u64, field)?;
                    }
                    None => (0..count).try_for_each(|_| self.skip_value(element, field))?,
                }
            }
            kind => {
                let size = kind.size().expect("strings and arrays are handled above");
                self.take(size as u64, field)?;
            }
        }
        Ok(())
    }
}

impl Header {
    pub(crate) fn read(path: &Path, bytes: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor { path, bytes, at: 0 };
        let magic = cursor.take(4, "magic")?;
        if magic != MAGIC {
            let problem = format!("starts with \"{}\" instead of \"GGUF\"", magic.escape_ascii());
            return Err(FormatError::malformed(path, "magic", problem));
        }
        let version = cursor.u32("version")?;
        if !(2..=3).contains(&version) {
            let what = match version.swap_bytes() {
                1..=3 => "a big-endian GGUF".to_owned(),
                _ => format!("GGUF version {version}"),
            };
            return Err(FormatError::unsupported(path, what, "convert the model to a little-endian GGUF of version 3"));
        }
        let tensor_count = cursor.u64("tensor count")?;
        let entry_count = cursor.u64("metadata count")?;
        // A tensor takes at least: name length, dimensions, one dimension, type, offset. A value: key length, type, byte.
        cursor.expect(tensor_count, "tensor count", 32)?;
        cursor.expect(entry_count, "metadata count", 13)?;
        let mut header = Header {
            entries: Vec::with_capacity(entry_count as usize),
            index: HashMap::with_capacity(entry_count as usize),
            tensors: Vec::with_capacity(tensor_count as usize),
        };
        for i in 0..entry_count {
            let key = cursor.string(&format!("key of metadata value {i}"))?;
            let field = format!("metadata `{key}`");
            let kind = cursor.kind(&field)?;
            let start = cursor.at;
            cursor.skip_value(kind, &field)?;
            if header.index.insert(key.to_owned(), header.entries.len()).is_some() {
                return Err(FormatError::malformed(path, field, "appears twice"));
            }
            header.entries.push(Entry { key: key.to_owned(), kind, range: start..cursor.at });
        }
        if header.integer(bytes, "split.count").is_some_and(|count| count > 1) {
            let remedy = "join its parts with `llama-gguf-split --merge` and open the result";
            return Err(FormatError::unsupported(path, "one part of a split model", remedy));
        }
        header.read_tensors(&mut cursor, tensor_count)?;
        Ok(header)
    }

    fn read_tensors(&mut self, cursor: &mut Cursor<'_>, count: u64) -> Result<(), FormatError> {
        let path = cursor.path;
        let alignment = match self.integer(cursor.bytes, "general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(v) if (1..=1 << 30).contains(&v) && (v as u64).is_power_of_two() => v as u64,
            Some(v) => {
                let problem = format!("{v} is not a power of two");
                return Err(FormatError::malformed(path, "metadata `general.alignment`", problem));
            }
        };
        let mut names = HashSet::with_capacity(count as usize);
        let mut offsets = Vec::with_capacity(count as usize);
        for i in 0..count {
            let name = cursor.string(&format!("name of tensor {i}"))?;
            let field = format!("tensor `{name}`");
            let malformed = |problem: String| Err(FormatError::malformed(path, field.clone(), problem));
            if !names.insert(name) {
                return malformed("appears twice".into());
            }
            let dimensions = cursor.u32(&field)?;
            if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
                return malformed(format!("has {dimensions} dimensions, GGUF allows 1 to {MAX_DIMENSIONS}"));
            }
            let mut shape = Vec::with_capacity(dimensions as usize);
            for _ in 0..dimensions {
                shape.push(cursor.u64(&field)? as usize);
            }
            shape.reverse();
            let id = cursor.u32(&field)?;
            let Some(encoding) = Encoding::from_ggml_id(id) else {
                let remedy = "requantise the model to one of Q8_0, Q6_K, Q5_K, Q4_K, Q4_0 or F16 with `llama-quantize`";
                return Err(FormatError::unsupported(path, format!("{field} of ggml type {id}"), remedy));
            };
            let Some(bytes) = encoding.bytes_of(&shape).filter(|_| !shape.contains(&0)) else {
                return malformed(format!(
                    "shape {shape:?} is not possible in {encoding}, whose blocks have {} elements",
                    encoding.block_size()
                ));
            };
            let offset = cursor.u64(&field)?;
            if offset % alignment != 0 {
                return malformed(format!("its offset {offset} is not aligned to {alignment} bytes"));
            }
            offsets.push(offset);
            self.tensors.push(TensorInfo { name: name.to_owned(), shape, encoding, file: 0, range: 0..bytes });
        }
        let data = (cursor.at as u64).next_multiple_of(alignment);
        let length = cursor.bytes.len() as u64;
        for (tensor, offset) in self.tensors.iter_mut().zip(offsets) {
            let size = tensor.range.len() as u64;
            let start = data.checked_add(offset);
            let Some(start) = start.filter(|s| s.checked_add(size).is_some_and(|end| end <= length)) else {
                return Err(FormatError::Truncated {
                    path: path.display().to_string(),
                    field: format!("tensor `{}`", tensor.name),
                    needed: size,
                    offset: start.unwrap_or(u64::MAX),
                    length,
                });
            };
            tensor.range = start as usize..(start + size) as usize;
        }
        Ok(())
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.index.get(key).map(|i| &self.entries[*i])
    }

    /// Scalars and short lists as facts; the rest is left out.
    pub(crate) fn facts(&self, bytes: &[u8]) -> Vec<aehost_common::Setting> {
        let fact = |e: &Entry| Some(aehost_common::Setting { name: e.key.clone(), value: entry_fact(e, bytes)? });
        self.entries.iter().filter_map(fact).collect()
    }

    fn fact(&self, bytes: &[u8], key: &str) -> Option<Fact> {
        entry_fact(self.entry(key)?, bytes)
    }

    pub(crate) fn integer(&self, bytes: &[u8], key: &str) -> Option<i64> {
        self.fact(bytes, key)?.as_integer()
    }

    pub(crate) fn flag(&self, bytes: &[u8], key: &str) -> Option<bool> {
        self.fact(bytes, key)?.as_flag()
    }

    pub(crate) fn text<'a>(&self, bytes: &'a [u8], key: &str) -> Option<&'a str> {
        let entry = self.entry(key).filter(|e| e.kind == Kind::String)?;
        std::str::from_utf8(&bytes[entry.range.start + 8..entry.range.end]).ok()
    }

    fn elements<'a>(&self, bytes: &'a [u8], key: &str) -> Option<(Kind, &'a [u8])> {
        let entry = self.entry(key).filter(|e| e.kind == Kind::Array)?;
        let list = &bytes[entry.range.clone()];
        Some((Kind::from_id(le_u32(list)).expect("checked when the header was read"), &list[12..]))
    }

    /// The elements of a list of strings; elements that are not UTF-8 are replaced as `String::from_utf8_lossy` does.
    pub(crate) fn strings<'a>(&self, bytes: &'a [u8], key: &str) -> Option<Vec<std::borrow::Cow<'a, str>>> {
        let (_, list) = self.elements(bytes, key).filter(|(kind, _)| *kind == Kind::String)?;
        Some(split_strings(list).map(String::from_utf8_lossy).collect())
    }

    /// The elements of a list of numbers.
    pub(crate) fn reals(&self, bytes: &[u8], key: &str) -> Option<Vec<f64>> {
        let (kind, list) = self.elements(bytes, key)?;
        list.chunks_exact(kind.size()?).map(|e| kind.fact(e)?.as_real()).collect()
    }

    /// Keys, kinds and raw bytes of all values, to be written again.
    pub(crate) fn raw<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (&'a str, Kind, &'a [u8])> {
        self.entries.iter().map(|e| (e.key.as_str(), e.kind, &bytes[e.range.clone()]))
    }
}

fn le_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().expect("the header was checked to hold it"))
}

fn le_u64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("the header was checked to hold it"))
}

fn split_strings(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if list.is_empty() {
            return None;
        }
        let (text, rest) = list[8..].split_at(le_u64(list) as usize);
        list = rest;
        Some(text)
    })
}

fn entry_fact(entry: &Entry, bytes: &[u8]) -> Option<Fact> {
    let bytes = &bytes[entry.range.clone()];
    match entry.kind {
        Kind::String => String::from_utf8(bytes[8..].to_vec()).ok().map(Fact::Text),
        Kind::Array => {
            let kind = Kind::from_id(le_u32(bytes))?;
            if le_u64(&bytes[4..]) > LONGEST_FACT {
                return None;
            }
            let list = &bytes[12..];
            let Some(size) = kind.size() else {
                let texts = split_strings(list).map(|s| String::from_utf8(s.to_vec()).ok());
                return texts.collect::<Option<_>>().map(Fact::Texts);
            };
            let items = list.chunks_exact(size).map(|e| kind.fact(e));
            match kind {
                Kind::F32 | Kind::F64 => items.map(|v| v?.as_real()).collect::<Option<_>>().map(Fact::Reals),
                Kind::Bool => items.map(|v| Some(v?.as_flag()?.into())).collect::<Option<_>>().map(Fact::Integers),
                _ => items.map(|v| v?.as_integer()).collect::<Option<_>>().map(Fact::Integers),
            }
        }
        kind => kind.fact(bytes),
    }
}

//! Checkpoints as Hugging Face lays them out: config.json as facts, and one or several .safetensors files.

use crate::checkpoint::Mapped;
use crate::{Encoding, FormatError, TensorInfo};
use aehost_common::{Setting, Value};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const INDEX: &str = "model.safetensors.index.json";

/// How images are made ready; its facts begin with `preprocessor.`.
const PREPROCESSOR: &str = "preprocessor_config.json";

/// Files beside the weights that are part of what the checkpoint is.
pub(crate) const OTHER_FILES: [&str; 7] = [
    "config.json",
    PREPROCESSOR,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

/// What was found in a folder.
pub(crate) struct Folder {
    pub(crate) files: Vec<Mapped>,
    pub(crate) facts: Vec<Setting>,
    pub(crate) tensors: Vec<TensorInfo>,
}

impl Folder {
    pub(crate) fn open(folder: &Path) -> Result<Self, FormatError> {
        let path = folder.join("config.json");
        let Some(config) = read_json(&path)? else {
            let remedy = "pass a .gguf file, or a folder with config.json and *.safetensors";
            return Err(FormatError::missing(folder, "config.json", remedy));
        };
        let mut facts = Vec::new();
        flatten("", &config, &mut facts);
        if let Some(preprocessor) = read_json(&folder.join(PREPROCESSOR))? {
            flatten("preprocessor", &preprocessor, &mut facts);
        }

        let (mut files, mut tensors) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        let (shards, promised) = shards(folder)?;
        for path in shards {
            let file = Mapped::open(&path)?;
            for tensor in read_header(&file, files.len())? {
                if !seen.insert(tensor.name.clone()) {
                    return Err(FormatError::malformed(&path, format!("tensor `{}`", tensor.name), "appears twice"));
                }
                tensors.push(tensor);
            }
            files.push(file);
        }
        if let Some((name, shard)) = promised.into_iter().find(|(name, _)| !seen.contains(name)) {
            let problem = format!("promised in {shard}, which does not hold it");
            return Err(FormatError::malformed(&folder.join(INDEX), format!("tensor `{name}`"), problem));
        }
        Ok(Self { files, facts, tensors })
    }
}

/// A JSON file; none when it does not exist.
pub(crate) fn read_json(path: &Path) -> Result<Option<Json>, FormatError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(FormatError::io(path, e)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| FormatError::malformed(path, "JSON", e.to_string()))
}

/// The weight files in a stable order, and which tensors the index promises in which of them.
fn shards(folder: &Path) -> Result<(Vec<PathBuf>, BTreeMap<String, String>), FormatError> {
    let index_path = folder.join(INDEX);
    if let Some(index) = read_json(&index_path)? {
        let Some(map) = index.get("weight_map").and_then(Json::as_object) else {
            return Err(FormatError::malformed(&index_path, "weight_map", "is not an object"));
        };
        let mut promised = BTreeMap::new();
        for (name, shard) in map {
            let shard = shard.as_str().filter(|s| Path::new(s).file_name() == Some(s.as_ref())).ok_or_else(|| {
                let problem = format!("{shard} is not the name of a file in the folder");
                FormatError::malformed(&index_path, format!("weight_map.{name}"), problem)
            })?;
            promised.insert(name.clone(), shard.to_owned());
        }
        let names: BTreeSet<&String> = promised.values().collect();
        let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
        if let Some(missing) = names.iter().find(|name| !folder.join(name).is_file()) {
            let remedy = format!("{INDEX} names it: download this shard too");
            return Err(FormatError::missing(folder, format!("shard {missing}"), remedy));
        }
        return Ok((paths, promised));
    }
    let fail = |e| FormatError::io(folder, e);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        let remedy = "put the model's weights there (files in PyTorch's own format are not read)";
        return Err(FormatError::missing(folder, "*.safetensors", remedy));
    }
    paths.sort();
    Ok((paths, BTreeMap::new()))
}

fn read_header(file: &Mapped, number: usize) -> Result<Vec<TensorInfo>, FormatError> {
    let malformed = |problem: String| FormatError::malformed(&file.path, "header", problem);
    let (length, metadata) = SafeTensors::read_metadata(&file.map).map_err(|e| malformed(e.to_string()))?;
    // The header is a length in eight bytes, JSON, and then the data.
    let data = 8 + length;
    let mut tensors = Vec::new();
    for (name, info) in metadata.tensors() {
        let Some(encoding) = encoding(info.dtype) else {
            let what = format!("tensor `{name}` of type {:?}", info.dtype);
            return Err(FormatError::unsupported(&file.path, what, "convert it to float32, float16 or bfloat16"));
        };
        let (start, end) = info.data_offsets;
        let size = encoding.bytes_of(&info.shape);
        if end < start || data + end > file.map.len() || size != Some(end - start) {
            let problem = format!("tensor `{name}` of shape {:?} in {encoding} does not fit its bytes", info.shape);
            return Err(malformed(problem));
        }
        let range = data + start..data + end;
        tensors.push(TensorInfo { name, shape: info.shape.clone(), encoding, file: number, range });
    }
    tensors.sort_by_key(|t| t.range.start);
    Ok(tensors)
}

fn encoding(dtype: Dtype) -> Option<Encoding> {
    Some(match dtype {
        Dtype::F32 => Encoding::F32,
        Dtype::F16 => Encoding::F16,
        Dtype::BF16 => Encoding::BF16,
        Dtype::F64 => Encoding::F64,
        Dtype::I8 => Encoding::I8,
        Dtype::I16 => Encoding::I16,
        Dtype::I32 => Encoding::I32,
        Dtype::I64 => Encoding::I64,
        Dtype::U8 | Dtype::BOOL => Encoding::U8,
        _ => return None,
    })
}

/// Objects become dotted names; lists of one kind of scalar become lists; the rest has no place among facts.
fn flatten(name: &str, json: &Json, facts: &mut Vec<Setting>) {
    let value = match json {
        Json::Object(map) => {
            for (key, value) in map {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&name, value, facts);
            }
            return;
        }
        Json::Array(items) => {
            let all = || items.iter();
            let integers: Option<Vec<i64>> = all().map(Json::as_i64).collect();
            let reals = || all().map(Json::as_f64).collect::<Option<Vec<f64>>>();
            let texts = || all().map(|v| v.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>();
            integers.map(Value::Integers).or_else(|| reals().map(Value::Reals)).or_else(|| texts().map(Value::Texts))
        }
        Json::Bool(v) => Some(Value::Flag(*v)),
        Json::Number(v) => v.as_i64().map(Value::Integer).or_else(|| v.as_f64().map(Value::Real)),
        Json::String(v) => Some(Value::Text(v.clone())),
        Json::Null => None,
    };
    facts.extend(value.map(|value| Setting { name: name.to_owned(), value }));
}

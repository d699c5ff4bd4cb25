//! What training came to, and how far it is, in files: a safetensors file of its numbers with one tensor of bytes, the JSON of
//! all else. A file is whole or not there.

use crate::EngineError;
use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::path::Path;

/// The tensor that holds what is not a tensor.
const REST: &str = "aehost.json";

/// Writes tensors and a value.
pub(super) fn write(
    path: &Path,
    mut tensors: HashMap<String, Tensor>,
    rest: &impl Serialize,
) -> Result<(), EngineError> {
    let failed =
        |e: &dyn std::fmt::Display| EngineError::Disk(format!("training cannot be kept in {}: {e}", path.display()));
    let json = serde_json::to_vec(rest).map_err(|e| failed(&e))?;
    let length = json.len();
    tensors.insert(REST.into(), Tensor::from_vec(json, length, &Device::Cpu)?);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| failed(&e))?;
    }
    let partial = path.with_extension("partial");
    let written = candle_core::safetensors::save(&tensors, &partial).map_err(|e| failed(&e));
    let written = written.and_then(|()| std::fs::rename(&partial, path).map_err(|e| failed(&e)));
    if written.is_err() {
        // It may be what fills the disk.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// Reads them; none where the file is not there, or is not what it should be.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Option<(HashMap<String, Tensor>, T)> {
    let mut tensors = candle_core::safetensors::load(path, &Device::Cpu).ok()?;
    let json = tensors.remove(REST)?.to_dtype(DType::U8).ok()?.to_vec1::<u8>().ok()?;
    Some((tensors, serde_json::from_slice(&json).ok()?))
}

/// Removes what was written longest ago until the folder holds no more than `limit` bytes, but never `keep`.
pub(super) fn prune(folder: &Path, limit: u64, keep: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let of = |entry: std::fs::DirEntry| {
        let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((meta.modified().ok()?, meta.len(), entry.path()))
    };
    let mut files: Vec<_> = entries.flatten().filter_map(of).collect();
    files.sort();
    let mut bytes: u64 = files.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in files {
        if bytes > limit && path != keep && std::fs::remove_file(&path).is_ok() {
            bytes -= length;
        }
    }
}

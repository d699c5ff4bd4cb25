//! A variant as data that one process hands to another: its graph and policy as they are, and its weights either as
//! tensors of the checkpoint or as encoded bytes on a [`Shelf`]. Nothing of how it came about is in it, whichever
//! techniques made it, so that the process that loads it does the same work for all.

use crate::weight::{BoundTensor, Weight};
use crate::{EngineError, Policy, Representation, Shelf, Variant};
use aehost_common::Settings;
use aehost_graph::Graph;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// A variant without its numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedVariant {
    graph: Graph,
    policy: Policy,
    weights: BTreeMap<String, SavedWeight>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct SavedWeight {
    shape: Vec<usize>,
    /// How it is stored: the contract's kind and settings.
    kind: String,
    settings: Settings,
    key: String,
    /// Where its numbers come from; none when they lie on the shelf, under its key.
    checkpoint: Option<(Vec<BoundTensor>, String)>,
}

impl SavedWeight {
    fn form(&self) -> Result<Representation, EngineError> {
        Representation::parse(&self.kind, &self.settings).map_err(|e| EngineError::Invalid(e.to_string()))
    }
}

impl Variant {
    /// Writes the weights in use that are more than tensors of the checkpoint to the shelf, unless they lie there already,
    /// and describes the rest. Encoding takes `threads`.
    ///
    /// # Errors
    /// `Disk` where the shelf cannot keep a weight; what encoding meets.
    pub fn save(&self, shelf: &mut Shelf, threads: usize) -> Result<SavedVariant, EngineError> {
        let mut used = self.clone();
        used.check()?;
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .build()
            .map_err(|e| EngineError::Unsupported(format!("the encoder's threads cannot be started: {e}")))?;
        let mut weights = BTreeMap::new();
        for name in used.graph().used_weights() {
            let weight = used.weight(name)?;
            let checkpoint =
                weight.sources(used.checkpoint()).map(|(sources, join)| (sources.to_vec(), join.to_owned()));
            if checkpoint.is_none() && !shelf.holds(&weight.key) {
                threads.install(|| weight.with_bytes(|bytes| shelf.put(&weight.key, bytes)))??;
            }
            let saved = SavedWeight {
                shape: weight.shape.clone(),
                kind: weight.form.kind().to_owned(),
                settings: weight.form.settings(),
                key: weight.key.clone(),
                checkpoint,
            };
            weights.insert(name.to_owned(), saved);
        }
        Ok(SavedVariant { graph: used.graph().clone(), policy: used.policy().clone(), weights })
    }

    /// A saved variant of the same checkpoint, its weights read from the shelf's folder when they are needed.
    pub fn restored(&self, saved: &SavedVariant, shelf: &Path) -> Result<Variant, EngineError> {
        let mut weights = BTreeMap::new();
        for (name, saved) in &saved.weights {
            let (shape, form, key) = (saved.shape.clone(), saved.form()?, saved.key.clone());
            let weight = match &saved.checkpoint {
                Some(bound) => Weight::of_checkpoint(self.checkpoint(), shape, form, key, bound.clone()),
                None => Weight::on_shelf(shape, form, shelf.join(&key), key),
            };
            weights.insert(name.clone(), weight);
        }
        Ok(self.with(saved.graph.clone(), saved.policy.clone(), weights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FloatType;
    use aehost_common::{Setting, Settings};
    use aehost_formats::{Checkpoint, Encoding, gguf};
    use aehost_graph::{Slot, Spec};
    use candle_core::{Device, Tensor};
    use std::sync::Arc;

    /// A variant with a weight of each kind, and the folder of its checkpoint.
    fn variant() -> (Variant, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let bytes = |seed: u32| -> Vec<u8> {
            (0..64u32 * 64).flat_map(|i| (((i * 31 + seed) % 97) as f32 / 97.0 - 0.5).to_le_bytes()).collect()
        };
        let mut writer = gguf::Writer::new();
        writer.set("general.architecture", "none");
        for (name, seed) in [("a", 1), ("b", 2)] {
            writer.tensor(name, &[64, 64], Encoding::F32, bytes(seed)).unwrap();
        }
        writer.save(&path).unwrap();
        let mut variant = Variant::new(Arc::new(Checkpoint::open(&path).unwrap()), Some(FloatType::F16));
        let source = |tensor: &str| BoundTensor { tensor: tensor.into(), steps: vec![] };
        let rows = Setting::new("rows", aehost_common::Value::Integers(vec![8, 16]));
        let part = BoundTensor { tensor: "a".into(), steps: vec![rows] };
        variant.bind("bound", vec![source("a")], "single").unwrap();
        variant.bind("joined", vec![part, source("b")], "concat").unwrap();
        for name in ["plain", "weighed", "twice"] {
            variant.copy_weight("bound", name).unwrap();
        }
        variant.encode_weight("plain", Representation::Blocked(Encoding::Q8_0), None).unwrap();
        let importance = (0..64).map(|i| 1.0 + i as f32).collect();
        variant.encode_weight("weighed", Representation::Blocked(Encoding::Q4_0), Some(importance)).unwrap();
        variant.encode_weight("twice", Representation::Blocked(Encoding::Q5_0), None).unwrap();
        variant.encode_weight("twice", Representation::Blocked(Encoding::Q4_1), None).unwrap();
        let values = Tensor::arange(0f32, 64.0, &Device::Cpu).unwrap().reshape((2, 32)).unwrap();
        variant.put_weight("made", &values, FloatType::BF16).unwrap();
        let blocks = Tensor::from_vec(vec![7u8; 18], 18, &Device::Cpu).unwrap();
        let parts = [("blocks".to_owned(), blocks)];
        variant.store_weight("given", &[1, 32], Representation::Blocked(Encoding::Q4_0), &parts).unwrap();
        variant.set_policy(&[Setting::new("prefill-chunk", 128i64)]).unwrap();
        use_all(&mut variant, &["bound", "joined", "plain", "weighed", "twice", "made", "given"]);
        (variant, folder)
    }

    /// Makes every weight an output, so that none is forgotten.
    fn use_all(variant: &mut Variant, names: &[&str]) {
        variant.graph_mut().add_function("decode").unwrap();
        for name in names {
            let spec = Spec {
                function: "decode".into(),
                name: format!("{name}-parameter"),
                role: "other".into(),
                layer: None,
                op: "parameter".into(),
                attributes: Settings::default(),
                inputs: vec![],
                weights: vec![Slot { name: "weight".into(), weight: (*name).into() }],
            };
            let value = variant.graph_mut().insert(spec).unwrap().outputs[0];
            variant.graph_mut().set_output("decode", name, value).unwrap();
        }
    }

    #[test]
    fn a_variant_comes_back_as_it_was_and_reads_no_recipe_but_that_of_the_checkpoint() {
        let (variant, home) = variant();
        let mut shelf = Shelf::open(&home.path().join("shelf"), u64::MAX).unwrap();
        let saved = variant.save(&mut shelf, 2).unwrap();
        let kept = std::fs::read_dir(shelf.folder()).unwrap().count();
        assert_eq!(kept, 5, "all but what the checkpoint has");
        let json = serde_json::to_string(&saved).unwrap();
        let base = Variant::new(variant.checkpoint().clone(), Some(FloatType::F16));
        let restored = base.restored(&serde_json::from_str(&json).unwrap(), shelf.folder()).unwrap();
        assert_eq!(restored.key(), variant.key());
        assert_eq!(restored.weight_bytes(), variant.weight_bytes());
        for name in variant.graph().used_weights() {
            assert_eq!(restored.describe_weight(name).unwrap(), variant.describe_weight(name).unwrap());
            let numbers = |v: &Variant| v.read_weight(name, None).unwrap().flatten_all().unwrap().to_vec1::<f32>();
            assert_eq!(numbers(&restored).unwrap(), numbers(&variant).unwrap(), "{name}");
        }
    }

    #[test]
    fn what_lies_on_the_shelf_is_not_made_again() {
        let (variant, home) = variant();
        let mut shelf = Shelf::open(&home.path().join("shelf"), u64::MAX).unwrap();
        variant.save(&mut shelf, 1).unwrap();
        let files = || {
            let entries = std::fs::read_dir(home.path().join("shelf")).unwrap().map(|e| e.unwrap());
            let mut files: Vec<_> =
                entries.map(|e| (e.file_name(), e.metadata().unwrap().modified().unwrap())).collect();
            files.sort();
            files
        };
        let before = files();
        shelf.turn();
        variant.save(&mut shelf, 1).unwrap();
        assert_eq!(files(), before);
    }

    #[test]
    fn a_weight_that_is_gone_is_an_error_that_names_its_file() {
        let (variant, home) = variant();
        let mut shelf = Shelf::open(&home.path().join("shelf"), u64::MAX).unwrap();
        let restored = variant.restored(&variant.save(&mut shelf, 1).unwrap(), shelf.folder()).unwrap();
        std::fs::remove_dir_all(shelf.folder()).unwrap();
        assert!(restored.read_weight("bound", None).is_ok());
        let told = restored.read_weight("plain", None).unwrap_err().to_string();
        assert!(told.starts_with(&format!("the weight kept in {}", shelf.folder().display())), "{told}");
    }
}

//! Variants that were made, so that configurations with a common beginning share its work.

use aehost_common::Curve;
use aehost_engine::Variant;
use aehost_study::Choice;
use std::collections::{HashMap, VecDeque};

/// Variants kept at most.
const COUNT: usize = 256;

/// Choices in order, the share of calibration and training with which they are applied, as bits.
type Key = (String, u64);

/// A variant, and how losses fell in what was trained on the way to it.
pub(crate) type Trained = (Variant, Vec<Curve>);

/// Variants by the configuration that made them, the latest last. Those that were made first make room, where numbers that
/// are nowhere else take more than a limit.
pub(crate) struct Made {
    variants: VecDeque<(Key, Trained)>,
    /// Bytes.
    limit: usize,
}

fn key(choices: &[Choice], fidelity: f64) -> Key {
    (serde_json::to_string(choices).expect("a configuration has a JSON form"), fidelity.to_bits())
}

impl Made {
    /// None yet.
    pub fn new(limit: usize) -> Self {
        Self { variants: VecDeque::new(), limit }
    }

    /// The variant of the longest beginning of the choices that was made, and how many they are.
    pub fn beginning(&self, choices: &[Choice], fidelity: f64) -> Option<(usize, Trained)> {
        (1..=choices.len()).rev().find_map(|count| {
            let key = key(&choices[..count], fidelity);
            let (_, made) = self.variants.iter().find(|(known, (variant, _))| *known == key && variant.at_hand())?;
            Some((count, made.clone()))
        })
    }

    /// Keeps a variant, in the place of an earlier one of the same choices.
    pub fn keep(&mut self, choices: &[Choice], fidelity: f64, made: Trained) {
        let key = key(choices, fidelity);
        self.variants.retain(|(known, _)| *known != key);
        self.variants.push_back((key, made));
        while self.variants.len() > COUNT || (self.variants.len() > 1 && self.held() > self.limit) {
            self.variants.pop_front();
        }
    }

    fn held(&self) -> usize {
        let mut bytes = HashMap::new();
        self.variants.iter().for_each(|(_, (variant, _))| variant.held(&mut bytes));
        bytes.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_common::Settings;
    use aehost_engine::{FloatType, Representation, Shelf};
    use aehost_formats::{Checkpoint, Encoding, gguf};
    use aehost_graph::{Slot, Spec};
    use std::sync::Arc;

    /// A base with one weight of the checkpoint, which its output is.
    fn base(folder: &std::path::Path) -> Variant {
        let path = folder.join("model.gguf");
        let mut writer = gguf::Writer::new();
        writer.set("general.architecture", "none");
        writer.tensor("a", &[64, 64], Encoding::F32, vec![0; 64 * 64 * 4]).unwrap();
        writer.save(&path).unwrap();
        let mut base = Variant::new(Arc::new(Checkpoint::open(&path).unwrap()), Some(FloatType::F16));
        let source = aehost_engine::BoundTensor { tensor: "a".into(), steps: vec![] };
        base.bind("a", vec![source], "single").unwrap();
        let graph = base.graph_mut();
        graph.add_function("decode").unwrap();
        let spec = Spec {
            function: "decode".into(),
            name: "parameter".into(),
            role: "other".into(),
            layer: None,
            op: "parameter".into(),
            attributes: Settings::default(),
            inputs: vec![],
            weights: vec![Slot { name: "weight".into(), weight: "a".into() }],
        };
        let value = graph.insert(spec).unwrap().outputs[0];
        graph.set_output("decode", "a", value).unwrap();
        base
    }

    /// With numbers of its own: 8 KiB.
    fn changed(base: &Variant) -> Variant {
        let mut variant = base.clone();
        let numbers = variant.read_weight("a", None).unwrap();
        variant.put_weight("a", &numbers, FloatType::F16).unwrap();
        variant
    }

    fn choices(words: &[&str]) -> Vec<Choice> {
        words.iter().map(|id| Choice { technique: (*id).into(), settings: Settings::default() }).collect()
    }

    #[test]
    fn the_longest_beginning_is_found_and_what_takes_too_much_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let base = base(folder.path());
        let mut made = Made::new(20 << 10);
        made.keep(&choices(&["prune"]), 1.0, (changed(&base), vec![]));
        made.keep(&choices(&["prune", "round"]), 1.0, (changed(&base), vec![]));
        let (count, _) = made.beginning(&choices(&["prune", "round", "draft"]), 1.0).unwrap();
        assert_eq!(count, 2);
        assert!(made.beginning(&choices(&["prune"]), 0.5).is_none(), "made with more");
        assert!(made.beginning(&choices(&["round"]), 1.0).is_none());
        made.keep(&choices(&["slice"]), 1.0, (changed(&base), vec![]));
        assert!(made.beginning(&choices(&["prune"]), 1.0).is_none(), "the first made room");
        assert!(made.beginning(&choices(&["slice"]), 1.0).is_some());
    }

    #[test]
    fn what_lies_on_the_shelf_takes_no_memory_and_is_made_again_where_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let base = base(folder.path());
        let mut variant = base.clone();
        variant.encode_weight("a", Representation::Blocked(Encoding::Q8_0), None).unwrap();
        let mut shelf = Shelf::open(&folder.path().join("shelf"), u64::MAX).unwrap();
        let saved = variant.save(&mut shelf, 1).unwrap();
        let mut made = Made::new(1 << 10);
        made.keep(&choices(&["round"]), 1.0, (base.restored(&saved, shelf.folder()).unwrap(), vec![]));
        assert_eq!(made.held(), 0);
        assert!(made.beginning(&choices(&["round"]), 1.0).is_some());
        std::fs::remove_dir_all(shelf.folder()).unwrap();
        assert!(made.beginning(&choices(&["round"]), 1.0).is_none());
    }
}

//! Variants that were made, so that configurations with a common beginning share its work.

use aehost_engine::Variant;
use aehost_study::Choice;
use std::collections::{HashMap, VecDeque};

/// Variants kept at most.
const COUNT: usize = 256;

/// Variants by the configuration that made them, the latest last. Those that were made first make room, where numbers that
/// are nowhere else take more than a limit.
pub(crate) struct Made {
    variants: VecDeque<(String, Variant)>,
    /// Bytes.
    limit: usize,
}

fn key(choices: &[Choice]) -> String {
    serde_json::to_string(choices).expect("a configuration has a JSON form")
}

impl Made {
    /// None yet.
    pub fn new(limit: usize) -> Self {
        Self { variants: VecDeque::new(), limit }
    }

    /// The variant of the longest beginning of the choices that was made, and how many they are.
    pub fn beginning(&self, choices: &[Choice]) -> Option<(usize, Variant)> {
        (1..=choices.len()).rev().find_map(|count| {
            let key = key(&choices[..count]);
            let (_, variant) = self.variants.iter().find(|(known, variant)| *known == key && variant.at_hand())?;
            Some((count, variant.clone()))
        })
    }

    /// Keeps a variant, in the place of an earlier one of the same choices.
    pub fn keep(&mut self, choices: &[Choice], variant: Variant) {
        let key = key(choices);
        self.variants.retain(|(known, _)| *known != key);
        self.variants.push_back((key, variant));
        while self.variants.len() > COUNT || (self.variants.len() > 1 && self.held() > self.limit) {
            self.variants.pop_front();
        }
    }

    fn held(&self) -> usize {
        let mut bytes = HashMap::new();
        self.variants.iter().for_each(|(_, variant)| variant.held(&mut bytes));
        bytes.values().sum()
    }
}

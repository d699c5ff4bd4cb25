//! What the linear layers do for one token: the basis of a roofline.

use crate::{Representation, Variant};

/// The work of one token in all products with weights.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TokenWork {
    /// Bytes of the weights that a single token is multiplied with: what decoding must read.
    pub weight_bytes: f64,
    /// Products of a weight and an activation, each with its addition.
    pub multiply_adds: f64,
    /// Those of them whose weights are integers in blocks.
    pub integer_multiply_adds: f64,
}

impl Variant {
    /// The work of one token; of a layer's experts those that it goes through count. The head counts for tokens whose logits
    /// are wanted.
    pub fn token_work(&self, logits: bool) -> TokenWork {
        let mut work = TokenWork::default();
        for node in self.graph().all_nodes().filter(|node| node.spec.function == "decode") {
            let (slots, chosen): (&[&str], _) = match node.spec.op.as_str() {
                "linear" | "grouped-linear" => (&["weight"], None),
                "experts" => (&["gate", "up", "down"], node.spec.integer("top-k")),
                _ => continue,
            };
            if node.spec.role == "head" && !logits {
                continue;
            }
            let weights = slots.iter().filter_map(|slot| node.spec.weight(slot));
            for info in weights.filter_map(|weight| self.describe_weight(weight).ok()) {
                let share = chosen.map_or(1.0, |chosen| chosen as f64 / info.shape[0].max(1) as f64);
                let elements = info.shape.iter().product::<usize>() as f64 * share;
                work.weight_bytes += info.bytes as f64 * share;
                work.multiply_adds += elements;
                if matches!(info.representation, Representation::Blocked(_)) {
                    work.integer_multiply_adds += elements;
                }
            }
        }
        work
    }
}

//! Topological order of a function's nodes.

use crate::{Graph, NodeId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

impl Graph {
    /// The nodes of a function, each after the makers of its inputs; among equals the older node first. None when the
    /// function has a cycle.
    pub fn order(&self, function: &str) -> Option<Vec<NodeId>> {
        let mut missing: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut readers: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        let mut ready = BinaryHeap::new();
        for node in self.all_nodes().filter(|n| n.spec.function == function) {
            let makers: Vec<NodeId> = node.spec.inputs.iter().filter_map(|v| self.producer(*v)).collect();
            if makers.is_empty() {
                ready.push(Reverse(node.id));
            }
            missing.insert(node.id, makers.len());
            for maker in makers {
                readers.entry(maker).or_default().push(node.id);
            }
        }
        let mut order = Vec::with_capacity(missing.len());
        while let Some(Reverse(id)) = ready.pop() {
            order.push(id);
            for reader in readers.get(&id).into_iter().flatten() {
                let left = missing.get_mut(reader)?;
                *left -= 1;
                if *left == 0 {
                    ready.push(Reverse(*reader));
                }
            }
        }
        (order.len() == missing.len()).then_some(order)
    }
}

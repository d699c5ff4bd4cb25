//! The nodes of a model as plain data: who makes a value, who reads it, who uses a weight. What a technique decides from
//! it needs no host.

use super::{Error, Filter, Model, Node, ValueId, weights};
use std::collections::{BTreeMap, BTreeSet};

/// All nodes, with what they do not say themselves.
#[derive(Debug, Clone, Default)]
pub struct Wiring {
    /// In topological order within each function.
    pub nodes: Vec<Node>,
    /// Values that leave a function.
    pub outputs: BTreeSet<ValueId>,
    /// Columns of the values that nodes make.
    pub widths: BTreeMap<ValueId, usize>,
    /// Row-major shapes of the weights.
    pub shapes: BTreeMap<String, Vec<u32>>,
}

impl Wiring {
    /// A model's.
    ///
    /// # Errors
    /// Those of the host.
    #[inline(never)]
    pub fn of(model: &Model) -> Result<Self, Error> {
        let mut wiring = Self { nodes: model.language_nodes(&Filter::all()), ..Self::default() };
        for function in model.functions() {
            wiring.outputs.extend(model.outputs(&function)?.iter().map(|port| port.value));
        }
        for node in &wiring.nodes {
            for value in &node.outputs {
                let columns = model.shape(*value)?.last().and_then(|columns| columns.parse().ok());
                wiring.widths.extend(columns.map(|columns: usize| (*value, columns)));
            }
            for slot in &node.spec.weights {
                if !wiring.shapes.contains_key(&slot.weight) {
                    wiring.shapes.insert(slot.weight.clone(), weights::describe(model, &slot.weight)?.shape);
                }
            }
        }
        Ok(wiring)
    }

    /// The node that makes a value; none for an input of a function.
    pub fn maker(&self, value: ValueId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.outputs.contains(&value))
    }

    /// The nodes that read a value.
    pub fn readers(&self, value: ValueId) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.spec.inputs.contains(&value))
    }

    /// The nodes that use a weight.
    pub fn users<'a>(&'a self, weight: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.spec.weights.iter().any(|slot| slot.weight == weight))
    }

    /// Columns of a value; 0 where that is not known.
    pub fn width(&self, value: ValueId) -> usize {
        self.widths.get(&value).copied().unwrap_or(0)
    }

    /// Elements of a weight that is a vector; columns of others.
    pub fn columns(&self, weight: &str) -> usize {
        self.shapes.get(weight).and_then(|shape| shape.last()).map_or(0, |columns| *columns as usize)
    }

    /// The weights whose columns multiply a value, each once: of linears, and of experts' gates and up projections.
    ///
    /// # Errors
    /// not-applicable, where anything else reads the value, or a weight has other users; the message names it.
    #[inline(never)]
    pub fn matrices_reading(&self, value: ValueId) -> Result<Vec<String>, Error> {
        let mut found: Vec<String> = Vec::new();
        if self.outputs.contains(&value) {
            return Err(Error::not_applicable(format!("{} is an output of the model", self.named(value))));
        }
        for node in self.readers(value) {
            let slots = reading_slots(node, value);
            if slots.is_empty() {
                let (what, name, op) = (self.named(value), &node.spec.name, &node.spec.op);
                return Err(Error::not_applicable(format!("{what} is read by `{name}`, whose op `{op}` is no matrix")));
            }
            for weight in slots.iter().filter_map(|slot| node.weight(slot)) {
                let alike = |user: &Node| reading_slots(user, value).iter().any(|s| user.weight(s) == Some(weight));
                if let Some(other) = self.users(weight).find(|user| !alike(user)) {
                    return Err(tied(weight, other));
                }
                if !found.iter().any(|known| known == weight) {
                    found.push(weight.to_owned());
                }
            }
        }
        if found.is_empty() {
            return Err(Error::not_applicable(format!("nothing reads {}", self.named(value))));
        }
        Ok(found)
    }

    /// The weight in a slot of a node that nothing else uses.
    ///
    /// # Errors
    /// not-applicable, naming the other user, or the slot that is empty.
    #[inline(never)]
    pub fn own<'a>(&self, node: &'a Node, slot: &str) -> Result<&'a str, Error> {
        let name = &node.spec.name;
        let weight = node
            .weight(slot)
            .ok_or_else(|| Error::not_applicable(format!("`{name}` has no weight in its slot `{slot}`")))?;
        let uses = node.spec.weights.iter().filter(|used| used.weight == weight).count();
        match self.users(weight).find(|user| user.id != node.id || uses > 1) {
            Some(other) => Err(tied(weight, other)),
            None => Ok(weight),
        }
    }

    /// A value in words.
    pub fn named(&self, value: ValueId) -> String {
        match self.maker(value) {
            Some(node) => format!("what `{}` gives", node.spec.name),
            None => format!("the input {value}"),
        }
    }
}

fn tied(weight: &str, other: &Node) -> Error {
    Error::not_applicable(format!("weight `{weight}` is used by `{}` too, which would change", other.spec.name))
}

/// The slots of a node whose columns multiply a value; none where it reads the value in another way too.
fn reading_slots(node: &Node, value: ValueId) -> &'static [&'static str] {
    match (node.spec.op.as_str(), node.spec.inputs.as_slice()) {
        ("linear", [x]) if *x == value => &["weight"],
        ("experts", [x, router]) if *x == value && *router != value => &["gate", "up"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, wiring};
    use super::*;

    #[test]
    fn matrices_that_read_a_value_are_those_of_linears_and_of_experts_gates() {
        let experts = node(2, "experts", &[9, 101], &["gate=g", "up=u", "down=d"], &[]);
        let twice = node(3, "linear", &[9], &["weight=r"], &[]);
        let nodes = vec![node(1, "linear", &[9], &["weight=r", "bias=b"], &[]), experts, twice];
        assert_eq!(wiring(nodes, &[], &[]).matrices_reading(9).unwrap(), ["r", "g", "u"]);
    }

    #[test]
    fn who_else_reads_a_value_or_uses_a_weight_is_named() {
        let linear = node(1, "linear", &[9], &["weight=w"], &[]);
        let refused = |wiring: Wiring| {
            let error = wiring.matrices_reading(9).unwrap_err();
            assert_eq!(error.code, "not-applicable");
            error.message
        };
        let read = wiring(vec![linear.clone(), node(2, "add", &[9, 101], &[], &[])], &[], &[]);
        assert_eq!(refused(read), "the input 9 is read by `add.2`, whose op `add` is no matrix");
        let tied = wiring(vec![node(0, "embedding", &[1], &["weight=w"], &[]), linear.clone()], &[], &[]);
        assert_eq!(refused(tied), "weight `w` is used by `embedding.0` too, which would change");
        let mut output = wiring(vec![linear], &[], &[]);
        output.outputs.insert(9);
        assert_eq!(refused(output), "the input 9 is an output of the model");
        assert_eq!(refused(wiring(vec![], &[], &[])), "nothing reads the input 9");
        let routed = node(2, "experts", &[9, 9], &["gate=g", "up=u", "down=d"], &[]);
        assert!(
            refused(wiring(vec![routed], &[], &[])).contains("`experts.2`"),
            "experts that route by the value itself"
        );
    }
}

//! Edits: each either succeeds or changes nothing.

use crate::graph::ValueInfo;
use crate::{Graph, Node, NodeId, Port, Slot, Spec, ValueId, ValueType, ops};
use aehost_common::{Fact, Setting};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why an edit was refused; it names the node and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// A name or id that does not exist.
    #[error("there is no {what} `{name}`")]
    Missing {
        /// node, value, function or weight.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// A name that is taken.
    #[error("{what} `{name}` exists already")]
    Exists {
        /// node, function, input.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// A node that its op does not allow.
    #[error("node `{node}` ({op}): {why}")]
    Invalid {
        /// The node's name.
        node: String,
        /// Its op.
        op: String,
        /// What is wrong, and what was expected.
        why: String,
    },
    /// A node that cannot be removed.
    #[error("node `{node}` cannot be removed: its output is used by `{user}`")]
    InUse {
        /// The node's name.
        node: String,
        /// A user of its output.
        user: String,
    },
    /// A function whose nodes feed one another in a circle.
    #[error("function `{function}` has a cycle through node `{node}`")]
    Cycle {
        /// The function.
        function: String,
        /// A node on the cycle.
        node: String,
    },
    /// A value replaced by one of another shape.
    #[error("value {old} of shape {expected} cannot become value {new} of shape {found}")]
    Shape {
        /// The value that is replaced.
        old: u32,
        /// Its shape.
        expected: String,
        /// The value that takes its place.
        new: u32,
        /// Its shape.
        found: String,
    },
    /// More of something than a model can sensibly have.
    #[error("the graph is too large: {what}; the limit is {limit}")]
    TooLarge {
        /// What there is too much of.
        what: String,
        /// How much is allowed.
        limit: usize,
    },
}

/// A graph of more nodes is not a model but an attack.
const NODES_LIMIT: usize = 200_000;

impl Graph {
    /// A new function without inputs.
    pub fn add_function(&mut self, name: &str) -> Result<(), EditError> {
        if self.functions.contains_key(name) {
            return Err(EditError::Exists { what: "function", name: name.into() });
        }
        self.functions.insert(name.into(), Default::default());
        Ok(())
    }

    /// A new input of a function.
    pub fn add_input(&mut self, function: &str, name: &str, ty: ValueType) -> Result<ValueId, EditError> {
        let id = ValueId(self.next_value);
        let f = self
            .functions
            .get_mut(function)
            .ok_or_else(|| EditError::Missing { what: "function", name: function.into() })?;
        if f.inputs.iter().any(|p| p.name == name) {
            return Err(EditError::Exists { what: "input", name: name.into() });
        }
        f.inputs.push(Port { name: name.into(), value: id });
        self.values.insert(id, ValueInfo { ty, producer: None });
        self.next_value += 1;
        Ok(id)
    }

    /// Copies a function of another graph: its nodes, all facts as `{to}.{fact}`, and declarations of the weights that it
    /// uses, named by `weight`. A function that reads values of another one is refused. On an error some of it may be there.
    pub fn import_function(
        &mut self,
        other: &Self,
        function: &str,
        to: &str,
        weight: impl Fn(&str) -> String,
    ) -> Result<(), EditError> {
        let missing = || EditError::Missing { what: "function", name: function.into() };
        let source = other.function(function).ok_or_else(missing)?;
        let order = other.order(function).ok_or_else(missing)?;
        self.add_function(to)?;
        let mut values = BTreeMap::new();
        let copied = |values: &BTreeMap<ValueId, ValueId>, value: ValueId| {
            let missing =
                || EditError::Missing { what: "value", name: format!("{} in function `{function}`", value.0) };
            values.get(&value).copied().ok_or_else(missing)
        };
        for port in &source.inputs {
            let ty = other.known_value(port.value)?;
            values.insert(port.value, self.add_input(to, &port.name, ty)?);
        }
        for node in order.iter().filter_map(|id| other.node(*id)) {
            let mut spec = Spec { function: to.into(), ..node.spec.clone() };
            for input in &mut spec.inputs {
                *input = copied(&values, *input)?;
            }
            for slot in &mut spec.weights {
                let name = weight(&slot.weight);
                if let Some(shape) = other.weight_shape(&slot.weight) {
                    self.declare_weight(&name, shape);
                }
                slot.weight = name;
            }
            let made = self.insert(spec)?.outputs.clone();
            values.extend(node.outputs.iter().copied().zip(made));
        }
        for port in &source.outputs {
            self.set_output(to, &port.name, copied(&values, port.value)?)?;
        }
        for fact in other.facts() {
            self.set_fact(Fact { name: format!("{to}.{}", fact.name), value: fact.value.clone() });
        }
        Ok(())
    }

    /// Names a value as an output of a function; an output of that name is rebound.
    pub fn set_output(&mut self, function: &str, name: &str, value: ValueId) -> Result<(), EditError> {
        self.known_value(value)?;
        let f = self
            .functions
            .get_mut(function)
            .ok_or_else(|| EditError::Missing { what: "function", name: function.into() })?;
        match f.outputs.iter_mut().find(|p| p.name == name) {
            Some(port) => port.value = value,
            None => f.outputs.push(Port { name: name.into(), value }),
        }
        Ok(())
    }

    /// Declares a weight, or gives an existing one another shape; [`Graph::check`] verifies its users.
    pub fn declare_weight(&mut self, name: &str, shape: &[usize]) {
        self.weights.insert(name.into(), shape.to_vec());
    }

    /// A new node; its outputs are made here.
    pub fn insert(&mut self, spec: Spec) -> Result<&Node, EditError> {
        if self.nodes.len() >= NODES_LIMIT {
            return Err(EditError::TooLarge { what: format!("{} nodes", self.nodes.len() + 1), limit: NODES_LIMIT });
        }
        if !self.functions.contains_key(&spec.function) {
            return Err(EditError::Missing { what: "function", name: spec.function });
        }
        let key = (spec.function.clone(), spec.name.clone());
        if self.names.contains(&key) {
            return Err(EditError::Exists { what: "node", name: spec.name });
        }
        let types = self.infer(&spec)?;
        self.names.insert(key);
        let id = NodeId(self.next_node);
        self.next_node += 1;
        let mut outputs = Vec::with_capacity(types.len());
        for ty in types {
            let value = ValueId(self.next_value);
            self.next_value += 1;
            self.values.insert(value, ValueInfo { ty, producer: Some(id) });
            outputs.push(value);
        }
        self.nodes.insert(id, Arc::new(Node { id, spec, outputs }));
        Ok(&self.nodes[&id])
    }

    /// Sets or replaces one attribute.
    pub fn set_attribute(&mut self, id: NodeId, attribute: Setting) -> Result<(), EditError> {
        self.change(id, |spec| spec.attributes.set(&attribute.name, attribute.value.clone()))
    }

    /// Binds a slot to a weight.
    pub fn set_weight(&mut self, id: NodeId, slot: Slot) -> Result<(), EditError> {
        self.change(id, |spec| match spec.weights.iter_mut().find(|s| s.name == slot.name) {
            Some(s) => s.weight.clone_from(&slot.weight),
            None => spec.weights.push(slot.clone()),
        })
    }

    /// Every use of `old`, function outputs included, becomes `new`, except in the nodes named.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId, except: &[NodeId]) -> Result<(), EditError> {
        let (from, to) = (self.known_value(old)?, self.known_value(new)?);
        if from != to {
            return Err(EditError::Shape { old: old.0, expected: from.to_string(), new: new.0, found: to.to_string() });
        }
        for node in self.nodes.values_mut() {
            if node.spec.inputs.contains(&old) && !except.contains(&node.id) {
                for input in &mut Arc::make_mut(node).spec.inputs {
                    if *input == old {
                        *input = new;
                    }
                }
            }
        }
        for port in self.functions.values_mut().flat_map(|f| &mut f.outputs) {
            if port.value == old {
                port.value = new;
            }
        }
        Ok(())
    }

    /// Removes a node whose outputs nothing uses.
    pub fn remove(&mut self, id: NodeId) -> Result<(), EditError> {
        let node = self.known_node(id)?;
        let name = node.spec.name.clone();
        for output in node.outputs.clone() {
            if let Some(user) = self.consumers(output).first() {
                let user = self.nodes[user].spec.name.clone();
                return Err(EditError::InUse { node: name, user });
            }
            if self.functions.values().any(|f| f.outputs.iter().any(|p| p.value == output)) {
                return Err(EditError::InUse { node: name, user: "an output of the function".into() });
            }
        }
        self.discard(id);
        Ok(())
    }

    /// Sets or replaces a fact about the model.
    pub fn set_fact(&mut self, fact: Fact) {
        self.facts.set(&fact.name, fact.value);
    }

    /// Infers all shapes anew, refuses cycles and unknown weights, and drops what no output needs.
    pub fn check(&mut self) -> Result<(), EditError> {
        let functions: Vec<String> = self.functions.keys().cloned().collect();
        for function in &functions {
            let order = self.order(function).ok_or_else(|| EditError::Cycle {
                function: function.clone(),
                node: self
                    .all_nodes()
                    .find(|n| n.spec.function == *function)
                    .map_or(String::new(), |n| n.spec.name.clone()),
            })?;
            self.drop_unused(function, &order);
            for id in order {
                let Some(node) = self.nodes.get(&id).cloned() else { continue };
                let types = self.infer(&node.spec)?;
                for (value, ty) in node.outputs.iter().zip(types) {
                    self.values.insert(*value, ValueInfo { ty, producer: Some(id) });
                }
            }
        }
        let used: BTreeSet<String> = self.used_weights().into_iter().map(str::to_owned).collect();
        self.weights.retain(|name, _| used.contains(name));
        Ok(())
    }

    fn drop_unused(&mut self, function: &str, order: &[NodeId]) {
        let mut needed: BTreeSet<ValueId> = self.functions[function].outputs.iter().map(|p| p.value).collect();
        for id in order.iter().rev() {
            let node = self.nodes[id].clone();
            if node.outputs.iter().any(|v| needed.contains(v)) {
                needed.extend(node.spec.inputs.iter().copied());
            } else {
                self.discard(*id);
            }
        }
    }

    fn discard(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.remove(&id) {
            for value in &node.outputs {
                self.values.remove(value);
            }
            self.names.remove(&(node.spec.function.clone(), node.spec.name.clone()));
        }
    }

    /// Applies a change to a copy of the spec, and keeps it only if the op allows it with the same number of outputs.
    fn change(&mut self, id: NodeId, edit: impl FnOnce(&mut Spec)) -> Result<(), EditError> {
        let mut node = self.known_node(id)?.clone();
        edit(&mut node.spec);
        let types = self.infer(&node.spec)?;
        for (value, ty) in node.outputs.iter().zip(types) {
            self.values.insert(*value, ValueInfo { ty, producer: Some(id) });
        }
        self.nodes.insert(id, Arc::new(node));
        Ok(())
    }

    fn infer(&self, spec: &Spec) -> Result<Vec<ValueType>, EditError> {
        let invalid = |why| EditError::Invalid { node: spec.name.clone(), op: spec.op.clone(), why };
        let input = |value: &ValueId| {
            let known = self.value_type(*value).cloned();
            known.ok_or_else(|| invalid(format!("it reads value {}, which does not exist", value.0)))
        };
        let inputs = spec.inputs.iter().map(input).collect::<Result<Vec<_>, _>>()?;
        let mut shapes = Vec::with_capacity(spec.weights.len());
        for slot in &spec.weights {
            let shape = self.weight_shape(&slot.weight).ok_or_else(|| {
                invalid(format!("its slot `{}` names weight `{}`, which does not exist", slot.name, slot.weight))
            })?;
            shapes.push((slot.name.as_str(), shape));
        }
        ops::infer(&spec.op, &spec.attributes, &inputs, &shapes).map_err(invalid)
    }

    fn known_value(&self, value: ValueId) -> Result<ValueType, EditError> {
        self.value_type(value).cloned().ok_or_else(|| EditError::Missing { what: "value", name: value.0.to_string() })
    }

    fn known_node(&self, id: NodeId) -> Result<&Node, EditError> {
        self.node(id).ok_or_else(|| EditError::Missing { what: "node", name: id.0.to_string() })
    }
}

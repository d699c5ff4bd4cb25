//! Inserting nodes beside one that is there.

use super::{Editor, Error, Linear, Node, Setting, Slot, Spec, Tensor, Value, ValueId, setting, weights};

/// A node under construction.
pub struct Insert<'a> {
    model: &'a Editor,
    spec: Spec,
}

impl Editor {
    /// A node of the same function and layer as `beside`.
    #[inline(never)]
    pub fn node_beside(&self, beside: &Node, op: &str, name: &str, role: &str) -> Insert<'_> {
        let spec = Spec {
            function: beside.spec.function.clone(),
            name: name.into(),
            role: role.into(),
            layer: beside.spec.layer,
            op: op.into(),
            attributes: vec![],
            inputs: vec![],
            weights: vec![],
        };
        Insert { model: self, spec }
    }

    /// The same node once more, with `suffix` to its name, and inputs yet to be given.
    pub fn node_again(&self, node: &Node, suffix: &str) -> Insert<'_> {
        let name = format!("{}.{suffix}", node.spec.name);
        Insert { model: self, spec: Spec { name, inputs: vec![], ..node.spec.clone() } }
    }
}

/// Where nodes are put that together take the place of another.
pub struct Site<'a> {
    model: &'a Editor,
    replaced: &'a Node,
    /// The name that those of the nodes begin with.
    prefix: &'a str,
    /// Of their matrices.
    dtype: String,
}

impl<'a> Site<'a> {
    /// In place of this node, named in its block: beside `layers.3.attention.scores`, `layers.3.attention.NAME`. Matrices
    /// get the dtype of that of the node `like`, if it is dense, else float16.
    ///
    /// # Errors
    /// invalid-input where `like` has no matrix.
    pub fn new(model: &'a Editor, replaced: &'a Node, like: &Node) -> Result<Self, Error> {
        let name = &replaced.spec.name;
        let prefix = name.rsplit_once('.').map_or(name.as_str(), |(prefix, _)| prefix);
        Ok(Self { model, replaced, prefix, dtype: model.dtype_of(like.matrix()?)? })
    }

    /// A node.
    pub fn node(&self, op: &str, name: &str, role: &str) -> Insert<'a> {
        self.model.node_beside(self.replaced, op, &format!("{}.{name}", self.prefix), role)
    }

    /// A node with new matrices, by slot.
    ///
    /// # Errors
    /// Those of the host: diverged, where a number is not finite.
    pub fn weighted(&self, op: &str, name: &str, role: &str, slots: &[(&str, &Tensor)]) -> Result<Insert<'a>, Error> {
        let node = self.node(op, name, role);
        slots.iter().try_fold(node, |node, (slot, numbers)| node.new_weight(slot, numbers, &self.dtype))
    }

    /// Inserts a linear map; gives the value that it makes.
    ///
    /// # Errors
    /// Those of the host.
    pub fn linear(&self, name: &str, role: &str, map: &Linear) -> Result<ValueId, Error> {
        self.node("linear", name, role).computes(map, &self.dtype)?.finish()
    }
}

impl Insert<'_> {
    /// The values that it reads.
    #[must_use]
    pub fn inputs(mut self, values: impl IntoIterator<Item = ValueId>) -> Self {
        self.spec.inputs.extend(values);
        self
    }

    /// One attribute, in place of one of that name.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.spec.attributes.retain(|attribute| attribute.name != name);
        self.spec.attributes.push(setting(name, value));
        self
    }

    /// Several attributes.
    #[must_use]
    pub fn attributes(mut self, attributes: &[Setting]) -> Self {
        self.spec.attributes.extend_from_slice(attributes);
        self
    }

    /// Leaves a slot empty.
    #[must_use]
    pub fn without_weight(mut self, slot: &str) -> Self {
        self.spec.weights.retain(|used| used.name != slot);
        self
    }

    /// A weight that exists, in place of one in that slot.
    #[must_use]
    pub fn weight(self, slot: &str, weight: &str) -> Self {
        let mut insert = self.without_weight(slot);
        insert.spec.weights.push(Slot { name: slot.into(), weight: weight.into() });
        insert
    }

    /// A new weight, called after node and slot.
    ///
    /// # Errors
    /// Those of the host: diverged, where a number is not finite.
    pub fn new_weight(self, slot: &str, numbers: &Tensor, dtype: &str) -> Result<Self, Error> {
        let name = format!("{}.{slot}", self.spec.name);
        weights::put(self.model, &name, numbers, dtype)?;
        Ok(self.weight(slot, &name))
    }

    /// A linear map: what it reads, its matrix of this dtype and its bias.
    ///
    /// # Errors
    /// Those of the host: diverged, where a number is not finite.
    pub fn computes(self, map: &Linear, dtype: &str) -> Result<Self, Error> {
        let node = self.inputs([map.input]).new_weight("weight", &map.weight, dtype)?;
        match &map.bias {
            Some(bias) => node.new_weight("bias", bias, "float32"),
            None => Ok(node),
        }
    }

    /// Inserts it.
    ///
    /// # Errors
    /// Those of the host: invalid-input, where an op, attribute, slot or shape does not fit.
    pub fn node(self) -> Result<Node, Error> {
        self.model.insert(&self.spec)
    }

    /// Inserts it; gives the values that it makes.
    ///
    /// # Errors
    /// As [`Insert::node`].
    pub fn outputs(self) -> Result<Vec<ValueId>, Error> {
        Ok(self.node()?.outputs)
    }

    /// Inserts a node that makes one value.
    ///
    /// # Errors
    /// As [`Insert::node`].
    pub fn finish(self) -> Result<ValueId, Error> {
        let name = self.spec.name.clone();
        match self.outputs()?[..] {
            [value] => Ok(value),
            ref all => Err(Error::new("internal", format!("node `{name}` makes {} values, not one", all.len()))),
        }
    }
}

//! Inserting nodes beside one that is there.

use super::{Editor, Error, Node, Setting, Slot, Spec, Tensor, Value, ValueId, setting, weights};

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
}

impl Insert<'_> {
    /// The values that it reads.
    #[must_use]
    pub fn inputs(mut self, values: impl IntoIterator<Item = ValueId>) -> Self {
        self.spec.inputs.extend(values);
        self
    }

    /// One attribute.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.spec.attributes.push(setting(name, value));
        self
    }

    /// Several attributes.
    #[must_use]
    pub fn attributes(mut self, attributes: &[Setting]) -> Self {
        self.spec.attributes.extend_from_slice(attributes);
        self
    }

    /// A weight that exists.
    #[must_use]
    pub fn weight(mut self, slot: &str, weight: &str) -> Self {
        self.spec.weights.push(Slot { name: slot.into(), weight: weight.into() });
        self
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

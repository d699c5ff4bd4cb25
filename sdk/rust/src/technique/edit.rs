//! Edits of weights whose shapes change with them.

use super::{Editor, Error, Fact, Model, Node, Slot, Tensor, Value, weights};

impl Editor {
    /// Gives slots of a node other numbers, of any shape, for this node alone: a weight that other nodes use too is left to
    /// them. Dense weights keep their dtype, others become float16. Shapes that depend on them are those of before until
    /// [`Editor::infer`] or `check`.
    ///
    /// # Errors
    /// invalid-input where a slot is empty; those of the host.
    pub fn replace_weights(&self, node: &Node, slots: &[(&str, Tensor)]) -> Result<(), Error> {
        // All are its own before the first has another shape.
        let names = slots.iter().map(|(slot, _)| self.own_weight(node, slot)).collect::<Result<Vec<_>, _>>()?;
        for (name, (_, numbers)) in names.iter().zip(slots) {
            weights::put(self, name, numbers, &dense_dtype(&self.model(), name)?)?;
        }
        Ok(())
    }

    /// The name of a weight that only this node's slot uses: its own or, where other nodes use that too, a copy of it.
    fn own_weight(&self, node: &Node, slot: &str) -> Result<String, Error> {
        let name = node
            .weight(slot)
            .ok_or_else(|| Error::invalid(format!("node `{}` has no weight in slot `{slot}`", node.spec.name)))?;
        if self.model().users(name).len() < 2 {
            return Ok(name.to_owned());
        }
        let own = format!("{}.{slot}.untied", node.spec.name);
        weights::copy(self, name, &own)?;
        self.set_weight(node.id, &Slot { name: slot.into(), weight: own.clone() })?;
        Ok(own)
    }

    /// Infers the shapes of these nodes' outputs anew, one after another: what reads them may then change.
    ///
    /// # Errors
    /// unsupported for a node with neither weights nor attributes; those of the host, where shapes do not fit.
    pub fn infer(&self, nodes: &[&Node]) -> Result<(), Error> {
        for node in nodes {
            // To set what is set already is how the host is asked for it.
            let node = self.model().node(node.id)?;
            match (node.spec.weights.first(), node.spec.attributes.first()) {
                (Some(slot), _) => self.set_weight(node.id, slot)?,
                (None, Some(attribute)) => self.set_attribute(node.id, attribute)?,
                (None, None) => {
                    let message = format!("node `{}` has nothing to set", node.spec.name);
                    return Err(Error::unsupported(message));
                }
            }
        }
        Ok(())
    }

    /// States a fact about the model.
    ///
    /// # Errors
    /// Those of the host.
    pub fn state(&self, name: &str, value: impl Into<Value>) -> Result<(), Error> {
        self.set_fact(&Fact { name: name.into(), value: value.into() })
    }
}

/// The dtype for numbers that take a weight's place: its own, or float16 where it is not dense, as a form that held its
/// numbers does not hold others as well.
///
/// # Errors
/// invalid-input where there is no such weight.
pub fn dense_dtype(model: &Model, weight: &str) -> Result<String, Error> {
    let form = weights::describe(model, weight)?.representation;
    let dtype = form.settings.iter().find(|s| form.kind == "dense" && s.name == "dtype");
    Ok(dtype.and_then(|s| s.value.as_text()).unwrap_or("float16").to_owned())
}

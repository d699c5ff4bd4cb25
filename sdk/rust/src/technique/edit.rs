//! Edits of weights whose shapes change with them, and of attributes.

use super::numbers::spans;
use super::{Editor, Error, Fact, Node, Setting, Slot, Tensor, Value, weights};

impl Editor {
    /// Gives slots of a node other numbers, of any shape, for this node alone: a weight that other nodes use too is left to
    /// them. Dense weights keep their dtype, others become float16. Shapes that depend on them are those of before until
    /// [`Editor::infer`] or `check`.
    ///
    /// # Errors
    /// invalid-input where a slot is empty; those of the host.
    #[inline(never)]
    pub fn replace_weights(&self, node: &Node, slots: &[(&str, Tensor)]) -> Result<(), Error> {
        // All are its own before the first has another shape.
        let names = slots.iter().map(|(slot, _)| self.own_weight(node, slot)).collect::<Result<Vec<_>, _>>()?;
        for (name, (_, numbers)) in names.iter().zip(slots) {
            weights::put(self, name, numbers, &self.dtype_of(name)?)?;
        }
        Ok(())
    }

    /// The name of a weight that only this node's slot uses: its own or, where other nodes use that too, a copy of it.
    ///
    /// # Errors
    /// invalid-input where the slot is empty; those of the host.
    #[inline(never)]
    pub fn own_weight(&self, node: &Node, slot: &str) -> Result<String, Error> {
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

    /// The type of a weight's numbers when it is edited: its own, if it is dense, else float16.
    ///
    /// # Errors
    /// invalid-input where there is no such weight.
    pub fn dtype_of(&self, weight: &str) -> Result<String, Error> {
        Ok(weights::describe(&self.model(), weight)?.representation.dtype().to_owned())
    }

    /// Infers the shapes of these nodes' outputs anew, one after another: what reads them may then change.
    ///
    /// # Errors
    /// unsupported for a node with neither weights nor attributes; those of the host, where shapes do not fit.
    #[inline(never)]
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

    /// Sets attributes of a node, and says whether that changed any; a number of 0 may be left out.
    ///
    /// # Errors
    /// Those of the host.
    pub fn set_attributes(&self, node: &Node, attributes: &[Setting]) -> Result<bool, Error> {
        let new = attributes.iter().filter(|attribute| !holds(node, attribute));
        new.map(|attribute| self.set_attribute(node.id, attribute)).try_fold(false, |_, set| set.map(|()| true))
    }

    /// States a fact about the model.
    ///
    /// # Errors
    /// Those of the host.
    pub fn state(&self, name: &str, value: impl Into<Value>) -> Result<(), Error> {
        self.set_fact(&Fact { name: name.into(), value: value.into() })
    }
}

/// Whether a node behaves as if it had this attribute.
fn holds(node: &Node, attribute: &Setting) -> bool {
    match node.attribute(&attribute.name) {
        Some(value) => *value == attribute.value,
        None => attribute.value == Value::Integer(0),
    }
}

/// Replaces a weight's numbers by what `edit` makes of them as float32. Dense weights keep their dtype, others become
/// float16.
///
/// # Errors
/// Those of the host and of `edit`.
pub fn change(model: &Editor, weight: &str, edit: impl FnOnce(&Tensor) -> Result<Tensor, Error>) -> Result<(), Error> {
    // What was there is let go of before the host takes what is new.
    let edited = edit(&weights::get(&model.model(), weight, None)?)?;
    weights::put(model, weight, &edited, &model.dtype_of(weight)?)
}

/// The same of a matrix or a stack, where `edit` makes of each row a row of its own: only some are in memory at a time.
///
/// # Errors
/// Those of the host and of `edit`.
pub fn change_rows(model: &Editor, weight: &str, edit: impl Fn(&Tensor) -> Result<Tensor, Error>) -> Result<(), Error> {
    change_rows_at(model, weight, |_, rows| edit(rows))
}

/// The same, with the number of the first row.
///
/// # Errors
/// Those of the host and of `edit`.
pub fn change_rows_at(
    model: &Editor,
    weight: &str,
    edit: impl Fn(u32, &Tensor) -> Result<Tensor, Error>,
) -> Result<(), Error> {
    let dtype = model.dtype_of(weight)?;
    let rows = spans(model, weight)?;
    let edited = rows.map(|rows| edit(rows.start, &weights::get(&model.model(), weight, Some(rows))?)?.cast(&dtype));
    let edited = edited.collect::<Result<Vec<_>, Error>>()?;
    weights::put(model, weight, &Tensor::concat(0, &edited.iter().collect::<Vec<_>>())?, &dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting;
    use crate::technique::Spec;

    #[test]
    fn a_number_that_is_missing_is_0() {
        let spec = Spec {
            function: "decode".into(),
            name: "layers.0.attention.cache".into(),
            role: "cache".into(),
            layer: Some(0),
            op: "cache".into(),
            attributes: vec![setting("dtype", "float16")],
            inputs: vec![],
            weights: vec![],
        };
        let node = Node { id: 0, spec, outputs: vec![] };
        assert!(holds(&node, &setting("window", 0i64)) && holds(&node, &setting("dtype", "float16")));
        assert!(!holds(&node, &setting("window", 64i64)) && !holds(&node, &setting("dtype", "q8_0")));
    }
}

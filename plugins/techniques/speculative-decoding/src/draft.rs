//! The draft model: the model itself without some of its layers, as a function of its own over the same weights (Zhang et al.,
//! Draft & Verify, arXiv:2309.08168).

use aehost_sdk::technique::*;
use std::collections::BTreeMap;

/// Adds the function `draft`: `decode` without these layers.
pub fn add(model: &Editor, skipped: &[Layer]) -> Result<(), Error> {
    let decode = model.model();
    model.add_function("draft")?;
    let mut values: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for port in decode.inputs("decode")? {
        values.insert(port.value, model.add_input("draft", &port.name, &port.dtype, &port.shape)?);
    }
    // What a skipped layer would give is what it would get.
    let source = |mut value: ValueId| {
        while let Some(layer) = skipped.iter().find(|layer| layer.output == value) {
            value = layer.input;
        }
        value
    };
    let made = |values: &BTreeMap<ValueId, ValueId>, value: ValueId| {
        let missing = || Error::not_applicable(format!("value {value} comes from a layer that the draft skips"));
        values.get(&source(value)).copied().ok_or_else(missing)
    };
    let nodes = decode.nodes(&Filter { function: Some("decode".into()), ..Filter::all() });
    for node in nodes {
        if node.spec.layer.is_some_and(|number| skipped.iter().any(|layer| layer.number == number)) {
            continue;
        }
        let inputs = node.spec.inputs.iter().map(|value| made(&values, *value)).collect::<Result<_, _>>()?;
        let copy = model.insert(&Spec { function: "draft".into(), inputs, ..node.spec })?;
        values.extend(node.outputs.into_iter().zip(copy.outputs));
    }
    for port in decode.outputs("decode")? {
        model.set_output("draft", &port.name, made(&values, port.value)?)?;
    }
    Ok(())
}

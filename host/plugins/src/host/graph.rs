//! The interface `graph`: a model is a snapshot of a variant, an editor one that changes. Both are copy on write.

use crate::bindings::shared::common::{Fact, Setting, Value};
use crate::bindings::shared::graph as wit;
use crate::bindings::shared::graph::{Host, HostEditor, HostModel};
use crate::convert;
use crate::state::{Answer, HostCall};
use aehost_common::Fault;
use aehost_engine::Variant;
use aehost_graph::{Filter, Graph, Node, NodeId, Port, Slot, Spec, ValueId, ValueType};
use wasmtime::component::Resource;

/// A variant as it stood when the handle was made.
pub struct Model(pub Variant);

/// A variant that the plugin changes.
pub struct Editor(pub Variant);

fn no_function(name: &str) -> Fault {
    Fault::invalid(format!("there is no function `{name}`"))
}

fn node_out(node: &Node) -> wit::Node {
    let spec = &node.spec;
    wit::Node {
        id: node.id.0,
        outputs: node.outputs.iter().map(|v| v.0).collect(),
        spec: wit::Spec {
            function: spec.function.clone(),
            name: spec.name.clone(),
            role: spec.role.clone(),
            layer: spec.layer,
            op: spec.op.clone(),
            attributes: convert::settings_out(&spec.attributes),
            inputs: spec.inputs.iter().map(|v| v.0).collect(),
            weights: spec
                .weights
                .iter()
                .map(|s| wit::Slot { name: s.name.clone(), weight: s.weight.clone() })
                .collect(),
        },
    }
}

fn spec_in(spec: wit::Spec) -> Result<Spec, Fault> {
    Ok(Spec {
        attributes: convert::settings_in(spec.attributes)?,
        inputs: spec.inputs.into_iter().map(ValueId).collect(),
        weights: spec.weights.into_iter().map(|s| Slot { name: s.name, weight: s.weight }).collect(),
        function: spec.function,
        name: spec.name,
        role: spec.role,
        layer: spec.layer,
        op: spec.op,
    })
}

/// `tokens` may stand first; the other dimensions are integers.
fn type_in(dtype: String, shape: &[String]) -> Result<ValueType, Fault> {
    let tokens = shape.first().is_some_and(|d| d == "tokens");
    let dims = shape[usize::from(tokens)..]
        .iter()
        .map(|d| d.parse::<usize>().ok().filter(|d| (1..=1 << 31).contains(d)))
        .collect::<Option<Vec<_>>>()
        .filter(|dims| dims.len() <= 8)
        .ok_or_else(|| {
            Fault::invalid(format!(
                "shape [{}]: `tokens` may stand first, all other dimensions are integers from 1",
                shape.join(", ")
            ))
        })?;
    if !matches!(dtype.as_str(), "float32" | "uint32") {
        return Err(Fault::invalid(format!("inputs of a function are float32 or uint32, not `{dtype}`")));
    }
    Ok(ValueType { tokens, dims, dtype })
}

fn ports(graph: &Graph, ports: &[Port]) -> Vec<wit::Port> {
    let port = |p: &Port| {
        graph.value_type(p.value).map(|ty| wit::Port {
            name: p.name.clone(),
            value: p.value.0,
            dtype: ty.dtype.clone(),
            shape: ty.symbolic(),
        })
    };
    ports.iter().filter_map(port).collect()
}

impl HostCall<'_> {
    fn graph(&self, handle: &Resource<Model>) -> wasmtime::Result<&Graph> {
        Ok(self.table.get(handle)?.0.graph())
    }

    /// The variant behind an editor.
    pub fn editor(&mut self, handle: &Resource<Editor>) -> wasmtime::Result<&mut Variant> {
        Ok(&mut self.table.get_mut(handle)?.0)
    }
}

impl Host for HostCall<'_> {}

impl HostModel for HostCall<'_> {
    fn fact(&mut self, this: Resource<Model>, name: String) -> wasmtime::Result<Option<Value>> {
        Ok(self.graph(&this)?.fact(&name).map(convert::value_out))
    }

    fn functions(&mut self, this: Resource<Model>) -> wasmtime::Result<Vec<String>> {
        Ok(self.graph(&this)?.functions().map(str::to_owned).collect())
    }

    fn inputs(&mut self, this: Resource<Model>, function: String) -> Answer<Vec<wit::Port>> {
        let graph = self.graph(&this)?;
        let found = graph.function(&function).ok_or_else(|| no_function(&function))?;
        Ok(ports(graph, &found.inputs))
    }

    fn outputs(&mut self, this: Resource<Model>, function: String) -> Answer<Vec<wit::Port>> {
        let graph = self.graph(&this)?;
        let found = graph.function(&function).ok_or_else(|| no_function(&function))?;
        Ok(ports(graph, &found.outputs))
    }

    fn nodes(&mut self, this: Resource<Model>, filter: wit::Filter) -> wasmtime::Result<Vec<wit::Node>> {
        let filter = Filter { function: filter.function, role: filter.role, layer: filter.layer, op: filter.op };
        Ok(self.graph(&this)?.filtered(&filter).into_iter().map(node_out).collect())
    }

    fn node(&mut self, this: Resource<Model>, id: u32) -> Answer<wit::Node> {
        let node = self.graph(&this)?.node(NodeId(id));
        Ok(node_out(node.ok_or_else(|| Fault::invalid(format!("there is no node {id}")))?))
    }

    fn producer(&mut self, this: Resource<Model>, value: u32) -> wasmtime::Result<Option<u32>> {
        Ok(self.graph(&this)?.producer(ValueId(value)).map(|n| n.0))
    }

    fn consumers(&mut self, this: Resource<Model>, value: u32) -> wasmtime::Result<Vec<u32>> {
        Ok(self.graph(&this)?.consumers(ValueId(value)).into_iter().map(|n| n.0).collect())
    }

    fn shape(&mut self, this: Resource<Model>, value: u32) -> Answer<Vec<String>> {
        let ty = self.graph(&this)?.value_type(ValueId(value));
        Ok(ty.ok_or_else(|| Fault::invalid(format!("there is no value {value}")))?.symbolic())
    }

    fn users(&mut self, this: Resource<Model>, weight: String) -> wasmtime::Result<Vec<u32>> {
        Ok(self.graph(&this)?.users(&weight).into_iter().map(|n| n.0).collect())
    }

    fn supports(&mut self, this: Resource<Model>, op: String, attributes: Vec<Setting>) -> wasmtime::Result<bool> {
        self.graph(&this)?;
        Ok(convert::settings_in(attributes).is_ok_and(|a| aehost_graph::check_attributes(&op, &a).is_ok()))
    }

    fn drop(&mut self, this: Resource<Model>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl HostEditor for HostCall<'_> {
    fn model(&mut self, this: Resource<Editor>) -> wasmtime::Result<Resource<Model>> {
        let variant = self.editor(&this)?.clone();
        self.hand_out(Model(variant))
    }

    fn fork(&mut self, this: Resource<Editor>) -> wasmtime::Result<Resource<Editor>> {
        let variant = self.editor(&this)?.clone();
        self.hand_out(Editor(variant))
    }

    fn adopt(&mut self, this: Resource<Editor>, other: Resource<Editor>) -> Answer<()> {
        let variant = self.table.delete(other)?.0;
        *self.editor(&this)? = variant;
        Ok(())
    }

    fn add_function(&mut self, this: Resource<Editor>, name: String) -> Answer<()> {
        Ok(self.editor(&this)?.graph_mut().add_function(&name)?)
    }

    fn import_function(
        &mut self,
        this: Resource<Editor>,
        companion: String,
        function: String,
        name: String,
    ) -> Answer<()> {
        let companions = self.services.companions.clone();
        let other = companions.get(&companion).ok_or_else(|| {
            let known: Vec<&str> = companions.keys().map(String::as_str).collect();
            Fault::invalid(format!("there is no companion `{companion}`; there are: [{}]", known.join(", ")))
        })?;
        Ok(self.editor(&this)?.import_function(other, &function, &name)?)
    }

    fn add_input(
        &mut self,
        this: Resource<Editor>,
        function: String,
        name: String,
        dtype: String,
        shape: Vec<String>,
    ) -> Answer<u32> {
        let ty = type_in(dtype, &shape)?;
        Ok(self.editor(&this)?.graph_mut().add_input(&function, &name, ty)?.0)
    }

    fn set_output(&mut self, this: Resource<Editor>, function: String, name: String, value: u32) -> Answer<()> {
        Ok(self.editor(&this)?.graph_mut().set_output(&function, &name, ValueId(value))?)
    }

    fn insert(&mut self, this: Resource<Editor>, spec: wit::Spec) -> Answer<wit::Node> {
        let spec = spec_in(spec)?;
        Ok(node_out(self.editor(&this)?.graph_mut().insert(spec)?))
    }

    fn set_attribute(&mut self, this: Resource<Editor>, id: u32, attribute: Setting) -> Answer<()> {
        let attribute = convert::setting_in(attribute)?;
        Ok(self.editor(&this)?.graph_mut().set_attribute(NodeId(id), attribute)?)
    }

    fn set_weight(&mut self, this: Resource<Editor>, id: u32, slot: wit::Slot) -> Answer<()> {
        let slot = Slot { name: slot.name, weight: slot.weight };
        Ok(self.editor(&this)?.graph_mut().set_weight(NodeId(id), slot)?)
    }

    fn replace_uses(&mut self, this: Resource<Editor>, old: u32, new: u32, except: Vec<u32>) -> Answer<()> {
        let except: Vec<NodeId> = except.into_iter().map(NodeId).collect();
        Ok(self.editor(&this)?.graph_mut().replace_uses(ValueId(old), ValueId(new), &except)?)
    }

    fn remove(&mut self, this: Resource<Editor>, id: u32) -> Answer<()> {
        Ok(self.editor(&this)?.graph_mut().remove(NodeId(id))?)
    }

    fn set_fact(&mut self, this: Resource<Editor>, fact: Fact) -> Answer<()> {
        let value = convert::value_in(&fact.name, fact.value)?;
        self.editor(&this)?.graph_mut().set_fact(aehost_common::Fact { name: fact.name, value });
        Ok(())
    }

    fn check(&mut self, this: Resource<Editor>) -> Answer<()> {
        Ok(self.editor(&this)?.check()?)
    }

    fn drop(&mut self, this: Resource<Editor>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

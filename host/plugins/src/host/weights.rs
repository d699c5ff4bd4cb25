//! The interface `weights`.

use super::graph::{Editor, Model};
use super::tensor::Tensor;
use crate::bindings::shared::weights as wit;
use crate::convert;
use crate::state::{Answer, HostCall};
use aehost_common::Fault;
use aehost_engine::{FloatType, Representation, numeric};
use wasmtime::component::Resource;

fn float_type(name: &str) -> Result<FloatType, Fault> {
    FloatType::parse(name).ok_or_else(|| {
        Fault::unsupported(format!("dtype `{name}` is unknown for weights; known: float32, float16, bfloat16"))
    })
}

fn representation_in(form: wit::Representation) -> Result<Representation, Fault> {
    Representation::parse(&form.kind, &convert::settings_in(form.settings)?)
}

impl wit::Host for HostCall<'_> {
    fn describe(&mut self, model: Resource<Model>, name: String) -> Answer<wit::Weight> {
        let info = self.table.get(&model)?.0.describe_weight(&name)?;
        Ok(wit::Weight {
            name: info.name,
            shape: info.shape.iter().map(|d| *d as u32).collect(),
            bytes: info.bytes,
            representation: wit::Representation {
                kind: info.representation.kind().into(),
                settings: convert::settings_out(&info.representation.settings()),
            },
        })
    }

    fn get(&mut self, model: Resource<Model>, name: String, part: Option<wit::Span>) -> Answer<Resource<Tensor>> {
        let rows = part.map(|p| p.start as usize..p.start as usize + p.count as usize);
        let numbers = self.table.get(&model)?.0.read_weight(&name, rows)?;
        let numbers = numeric::to_device(&numbers, &self.device)?;
        self.give_tensor(numbers)
    }

    fn put(&mut self, model: Resource<Editor>, name: String, value: Resource<Tensor>, dtype: String) -> Answer<()> {
        let ty = float_type(&dtype)?;
        let numbers = self.numbers(&value)?;
        Ok(self.editor(&model)?.put_weight(&name, &numbers, ty)?)
    }

    fn copy(&mut self, model: Resource<Editor>, name: String, to: String) -> Answer<()> {
        Ok(self.editor(&model)?.copy_weight(&name, &to)?)
    }

    fn encode(
        &mut self,
        model: Resource<Editor>,
        name: String,
        to: wit::Representation,
        importance: Option<Resource<Tensor>>,
    ) -> Answer<()> {
        let to = representation_in(to)?;
        let importance = match importance {
            Some(handle) => Some(numeric::to_reals(&self.numbers(&handle)?)?),
            None => None,
        };
        Ok(self.editor(&model)?.encode_weight(&name, to, importance)?)
    }

    fn store(
        &mut self,
        model: Resource<Editor>,
        name: String,
        shape: Vec<u32>,
        form: wit::Representation,
        parts: Vec<wit::Part>,
    ) -> Answer<()> {
        let form = representation_in(form)?;
        let parts = parts.into_iter().map(|part| Ok((part.name, self.numbers(&part.value)?)));
        let parts = parts.collect::<Answer<Vec<_>>>()?;
        let shape: Vec<usize> = shape.into_iter().map(|d| d as usize).collect();
        Ok(self.editor(&model)?.store_weight(&name, &shape, form, &parts)?)
    }
}

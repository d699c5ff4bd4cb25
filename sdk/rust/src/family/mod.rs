//! Model families: they turn one kind of checkpoint into a graph.

mod blocks;
mod builder;
mod config;
mod images;
mod latent;
mod names;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

use crate::bindings::family::exports::aehost::plugin::family as exports;
use crate::bindings::imports::aehost::plugin::{checkpoint as host, graph};
pub use crate::{Error, Fact, Identity, Setting, Settings, Value, identity, log, setting};
pub use builder::{Attention, Builder, Insert, Norm};
pub use config::{Config, Experts, Metadata, rope};
pub use exports::{Description, Layout, View};
pub use graph::{Slot, Spec, ValueId};
pub use host::Source;
pub use images::{Facts, Tower};
pub use latent::Latent;

/// Turns one kind of checkpoint into a graph.
pub trait Family: 'static {
    /// Who it is and which architectures it builds.
    fn describe() -> Description;

    /// Adds the model's functions. Errors: invalid-input, naming the metadata key or tensor that is missing or wrong;
    /// unsupported, naming what the checkpoint needs and this family does not build.
    fn build(checkpoint: &dyn Checkpoint, model: &mut Builder) -> Result<(), Error>;

    /// What an image of this width and height is to the model. Errors: not-applicable where it takes no images.
    fn layout(_: &dyn Facts, _width: u32, _height: u32) -> Result<Layout, Error> {
        Err(Error::new("not-applicable", "this family takes no images"))
    }
}

/// A checkpoint being turned into a model; in tests [`testing::Checkpoint`].
pub trait Checkpoint {
    /// `gguf` or `safetensors`.
    fn format(&self) -> String;
    /// One key of GGUF's metadata or of config.json.
    fn fact(&self, name: &str) -> Option<Value>;
    /// Names and row-major shapes.
    fn tensors(&self) -> Vec<(String, Vec<u32>)>;
}

/// Where a family's graph goes: the host's editor, in tests [`testing::Recorder`].
pub trait Target {
    /// Adds a function.
    fn add_function(&self, name: &str) -> Result<(), Error>;
    /// Adds an input to a function.
    fn add_input(&self, function: &str, name: &str, dtype: &str, shape: &[String]) -> Result<ValueId, Error>;
    /// Adds a node; gives its outputs.
    fn insert(&self, spec: &Spec) -> Result<Vec<ValueId>, Error>;
    /// Names an output of a function.
    fn set_output(&self, function: &str, name: &str, value: ValueId) -> Result<(), Error>;
    /// States a fact about the model.
    fn set_fact(&self, fact: &Fact) -> Result<(), Error>;
    /// Gives tensors of the checkpoint, joined as said, a weight name.
    fn bind(&self, weight: &str, sources: &[Source], join: &str) -> Result<(), Error>;
}

impl dyn Checkpoint + '_ {
    /// An integer that must be there.
    pub fn integer(&self, key: &str) -> Result<i64, Error> {
        self.required(key, "an integer", self.optional_integer(key)?)
    }

    /// A number that must be there.
    pub fn real(&self, key: &str) -> Result<f64, Error> {
        self.required(key, "a number", self.optional_real(key)?)
    }

    /// An integer that may be absent.
    pub fn optional_integer(&self, key: &str) -> Result<Option<i64>, Error> {
        self.typed(key, "an integer", |value| value.as_integer())
    }

    /// A number that may be absent.
    pub fn optional_real(&self, key: &str) -> Result<Option<f64>, Error> {
        self.typed(key, "a number", |value| value.as_real())
    }

    /// A text that must be there.
    pub fn text(&self, key: &str) -> Result<String, Error> {
        self.required(key, "a text", self.optional_text(key)?)
    }

    /// A list of numbers that may be absent.
    pub fn optional_reals(&self, key: &str) -> Result<Option<Vec<f64>>, Error> {
        self.typed(key, "a list of numbers", Value::as_reals)
    }

    /// A text that may be absent.
    pub fn optional_text(&self, key: &str) -> Result<Option<String>, Error> {
        self.typed(key, "a text", |value| value.as_text().map(str::to_owned))
    }

    /// A flag that may be absent.
    pub fn optional_flag(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "true or false", |value| value.as_flag())
    }

    fn required<T>(&self, key: &str, expected: &str, value: Option<T>) -> Result<T, Error> {
        value.ok_or_else(|| Error::invalid(format!("the checkpoint's metadata lacks `{key}` ({expected})")))
    }

    fn typed<T>(&self, key: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, Error> {
        let Some(value) = self.fact(key) else { return Ok(None) };
        let wrong = || Error::invalid(format!("the checkpoint's metadata `{key}` must be {expected}, but is {value}"));
        read(&value).ok_or_else(wrong).map(Some)
    }
}

impl Description {
    /// A family that builds these values of GGUF's `general.architecture` and config.json's `model_type`.
    pub fn new<'a>(identity: Identity, architectures: impl IntoIterator<Item = &'a str>) -> Self {
        Self { identity, architectures: architectures.into_iter().map(str::to_owned).collect() }
    }
}

impl Checkpoint for host::Checkpoint {
    fn format(&self) -> String {
        host::Checkpoint::format(self)
    }
    fn fact(&self, name: &str) -> Option<Value> {
        host::Checkpoint::fact(self, name)
    }
    fn tensors(&self) -> Vec<(String, Vec<u32>)> {
        host::Checkpoint::tensors(self)
    }
}

impl Target for graph::Editor {
    fn add_function(&self, name: &str) -> Result<(), Error> {
        graph::Editor::add_function(self, name)
    }
    fn add_input(&self, function: &str, name: &str, dtype: &str, shape: &[String]) -> Result<ValueId, Error> {
        graph::Editor::add_input(self, function, name, dtype, shape)
    }
    fn insert(&self, spec: &Spec) -> Result<Vec<ValueId>, Error> {
        Ok(graph::Editor::insert(self, spec)?.outputs)
    }
    fn set_output(&self, function: &str, name: &str, value: ValueId) -> Result<(), Error> {
        graph::Editor::set_output(self, function, name, value)
    }
    fn set_fact(&self, fact: &Fact) -> Result<(), Error> {
        graph::Editor::set_fact(self, fact)
    }
    fn bind(&self, weight: &str, sources: &[Source], join: &str) -> Result<(), Error> {
        host::bind(self, weight, sources, join)
    }
}

impl<T: Family> exports::Guest for crate::Component<T> {
    fn describe() -> Description {
        log::forward_panics();
        T::describe()
    }

    fn build(checkpoint: &host::Checkpoint, model: &graph::Editor) -> Result<(), Error> {
        log::forward_panics();
        T::build(checkpoint, &mut Builder::new(checkpoint, model))
    }

    fn lay_out(model: &graph::Model, width: u32, height: u32) -> Result<Layout, Error> {
        log::forward_panics();
        T::layout(model, width, height)
    }
}

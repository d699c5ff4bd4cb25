//! Images in families: the tower that makes features of patches, and where rows of images come into the decoder.

use super::{Builder, Error, Norm, Value, ValueId, setting};
use crate::bindings::imports::aehost::plugin::graph;

/// What a built model says of itself.
pub trait Facts {
    /// One fact.
    fn fact(&self, name: &str) -> Option<Value>;
}

impl Facts for graph::Model {
    fn fact(&self, name: &str) -> Option<Value> {
        graph::Model::fact(self, name)
    }
}

impl dyn Facts + '_ {
    /// An integer that must be there and at least 1, as sizes in pixels are.
    pub fn size(&self, name: &str) -> Result<u32, Error> {
        let value = self.fact(name).and_then(|value| value.as_integer()).and_then(|n| u32::try_from(n).ok());
        value.filter(|n| *n > 0).ok_or_else(|| Error::invalid(format!("the model's fact `{name}` must be at least 1")))
    }

    /// A flag; false where it is absent.
    pub fn flag(&self, name: &str) -> bool {
        self.fact(name).and_then(|value| value.as_flag()).unwrap_or(false)
    }
}

/// A vision transformer whose patches see one another (Dosovitskiy et al., arXiv 2010.11929), with norms before attention and
/// network.
#[derive(Debug, Clone, PartialEq)]
pub struct Tower {
    /// Layers.
    pub layers: i64,
    /// Width of its stream.
    pub hidden: i64,
    /// Heads of attention.
    pub heads: i64,
    /// Side of a patch, in pixels.
    pub patch: i64,
    /// Of the norms.
    pub epsilon: f64,
}

impl Builder<'_> {
    /// The function `encode-image`: features of patches. The checkpoint's tensors have the names of SigLIP's model. Parts
    /// `patches`, `places` and `norm` need names before.
    pub fn tower(&mut self, tower: &Tower) -> Result<(), Error> {
        self.function("encode-image")?;
        let numbers = 3 * tower.patch * tower.patch;
        let pixels = self.input("pixels", "float32", &["tokens", &numbers.to_string()])?;
        let places = self.input("ids", "uint32", &["tokens"])?;
        let positions = self.input("positions", "uint32", &["tokens"])?;
        for (part, name) in [
            ("attention.norm", "layer_norm1"),
            ("attention.output", "self_attn.out_proj"),
            ("feed-forward.norm", "layer_norm2"),
            ("feed-forward.up", "mlp.fc1"),
            ("feed-forward.down", "mlp.fc2"),
        ] {
            self.name(part, "", name);
        }
        let before = self.norms(Norm { op: "layer-norm", epsilon: tower.epsilon, offset: 0.0 });
        let (weight, bias) = (self.tensor("patches", "weight")?, self.tensor("patches", "bias")?);
        let has_bias = self.has(&bias);
        // A convolution whose kernels do not overlap.
        let flat = [setting("reshape", Value::Integers(vec![tower.hidden, numbers]))];
        let mut node =
            self.node("linear", "patches", "embedding").inputs([pixels]).weight_of("weight", &weight, &flat)?;
        if has_bias {
            node = node.weight("bias", &bias)?;
        }
        let x = node.finish()?;
        let table = self.tensor("places", "weight")?;
        let y = self.node("embedding", "places", "embedding").inputs([places]).weight("weight", &table)?.finish()?;
        let mut x = self.apply("add", "places.sum", "residual", [x, y])?;
        let head_dim = tower.hidden / tower.heads.max(1);
        for layer in 0..tower.layers {
            self.layer(Some(layer as u32));
            let y = self.norm("attention.norm", x)?;
            let [q, k, v] = ["query", "key", "value"].map(|role| self.linear(&format!("attention.{role}"), role, y));
            let y = self
                .node("attention", "attention.attention", "attention")
                .inputs([q?, k?, v?, positions, positions])
                .attribute("heads", tower.heads)
                .attribute("kv-heads", tower.heads)
                .attribute("head-dim", head_dim)
                .attribute("scale", 1.0 / (head_dim as f64).sqrt())
                .finish()?;
            let y = self.linear("attention.output", "output", y)?;
            x = self.apply("add", "attention.residual", "residual", [x, y])?;
            let y = self.norm("feed-forward.norm", x)?;
            let y = self.linear("feed-forward.up", "up", y)?;
            let y = self.activation("feed-forward.activation", "gelu", y)?;
            let y = self.linear("feed-forward.down", "down", y)?;
            x = self.apply("add", "feed-forward.residual", "residual", [x, y])?;
        }
        self.layer(None);
        let x = self.norm("norm", x)?;
        self.norms(before);
        self.output("features", x)
    }

    /// The tokens of `decode` with the rows of images where they stand for some; the stream is `hidden` wide.
    pub fn overlay(&mut self, x: ValueId, hidden: i64) -> Result<ValueId, Error> {
        let images = self.input("images", "float32", &["tokens", &hidden.to_string()])?;
        self.apply("overlay", "images", "embedding", [x, images])
    }
}

//! The parts that decoders have in common, so that a family states what sets its model apart.

use super::{Attention, Builder, Config, Error, Experts, Norm, Source, ValueId};

impl Attention {
    /// Self-attention for [`Builder::pre_norm_decoder`]; `windows` has the tokens that each layer's queries see, 0 for all.
    pub fn with_windows(
        &self,
        windows: &[i64],
    ) -> impl Fn(&mut Builder, usize, ValueId, ValueId) -> Result<ValueId, Error> {
        move |b, layer, x, positions| {
            let window = windows.get(layer).copied().unwrap_or(0);
            b.self_attention(x, positions, &Self { window, ..self.clone() })
        }
    }
}

impl Builder<'_> {
    /// Begins `decode` and states what the model is; gives the token ids and their positions.
    pub fn decoder(&mut self, config: &Config) -> Result<(ValueId, ValueId), Error> {
        let vocabulary = self.shape(&self.tensor("embedding", "weight")?)?.first().copied().unwrap_or_default();
        for (name, value) in [
            ("layers", config.layers),
            ("hidden", config.hidden),
            ("heads", config.heads),
            ("kv-heads", config.kv_heads),
            ("head-dim", config.head_dim),
            ("feed-forward", config.feed_forward),
            ("vocabulary", i64::from(vocabulary)),
            ("context", config.context),
        ] {
            self.fact(name, value)?;
        }
        self.fact("architecture", config.architecture.as_str())?;
        self.function("decode")?;
        Ok((self.input("ids", "uint32", &["tokens"])?, self.input("positions", "uint32", &["tokens"])?))
    }

    /// All of a decoder whose layers norm what attention and the feed-forward network read, and add what they give to the
    /// stream. `attention` adds a layer's, of normed tokens and positions; `feed_forward` its network.
    pub fn pre_norm_decoder(
        &mut self,
        config: &Config,
        attention: impl Fn(&mut Self, usize, ValueId, ValueId) -> Result<ValueId, Error>,
        feed_forward: impl Fn(&mut Self, ValueId) -> Result<ValueId, Error>,
    ) -> Result<(), Error> {
        let (ids, positions) = self.decoder(config)?;
        let x = self.embedding(ids, None)?;
        self.pre_norm_layers(config, x, positions, attention, feed_forward)
    }

    /// All of such a decoder that comes after its embedding `x`.
    pub fn pre_norm_layers(
        &mut self,
        config: &Config,
        mut x: ValueId,
        positions: ValueId,
        attention: impl Fn(&mut Self, usize, ValueId, ValueId) -> Result<ValueId, Error>,
        feed_forward: impl Fn(&mut Self, ValueId) -> Result<ValueId, Error>,
    ) -> Result<(), Error> {
        self.norms(Norm { op: "rms-norm", epsilon: config.epsilon, offset: 0.0 });
        for layer in 0..config.layers as usize {
            self.layer(Some(layer as u32));
            let y = self.norm("attention.norm", x)?;
            let y = attention(self, layer, y, positions)?;
            x = self.apply("add", "attention.residual", "residual", [x, y])?;
            let y = self.norm("feed-forward.norm", x)?;
            let y = feed_forward(self, y)?;
            x = self.apply("add", "feed-forward.residual", "residual", [x, y])?;
        }
        self.layer(None);
        let x = self.norm("norm", x)?;
        let logits = self.head(x, config.tied)?;
        self.output("logits", logits)
    }

    /// Attention of normed tokens, from the projections to the output's. Queries, keys and values are tensors of their own
    /// or the rows of one.
    pub fn self_attention(&mut self, x: ValueId, positions: ValueId, shape: &Attention) -> Result<ValueId, Error> {
        let (q, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        let fused = "attention.query-key-value";
        let mut q_value = self.linear_part("attention.query", "query", x, fused, 0, q)?;
        let mut k_value = self.linear_part("attention.key", "key", x, fused, q, kv)?;
        let v_value = self.linear_part("attention.value", "value", x, fused, q + kv, kv)?;
        if shape.normed {
            q_value = self.norm("attention.query-norm", q_value)?;
            k_value = self.norm("attention.key-norm", k_value)?;
        }
        let q_value = self.rope("attention.rope-query", q_value, positions, &shape.rope)?;
        let k_value = self.rope("attention.rope-key", k_value, positions, &shape.rope)?;
        let kept = self.cache("attention.cache", [k_value, v_value, positions], shape.head_dim)?;
        let y = self.attention("attention.attention", q_value, positions, kept, shape)?;
        self.linear("attention.output", "output", y)
    }

    /// down(activation(gate(x)) * up(x)) of the part `of`, `feed-forward` usually; gate and up are tensors of their own or
    /// the rows of one. `activation` is `silu`, or `gelu` (by tanh).
    pub fn gated_feed_forward(&mut self, of: &str, x: ValueId, activation: &str, width: i64) -> Result<ValueId, Error> {
        let part = |name: &str| format!("{of}.{name}");
        let fused = part("gate-up");
        let gate = self.linear_part(&part("gate"), "gate", x, &fused, 0, width)?;
        let up = self.linear_part(&part("up"), "up", x, &fused, width, width)?;
        let gate = self.activation(&part("activation"), activation, gate)?;
        let product = self.apply("mul", &part("product"), "other", [gate, up])?;
        self.linear(&part("down"), "down", product)
    }

    /// A mixture of gated experts: each token goes through those that the router's logits choose.
    pub fn experts(&mut self, x: ValueId, experts: &Experts) -> Result<ValueId, Error> {
        let router = self.linear("feed-forward.router", "router", x)?;
        let name = "feed-forward.experts";
        let mut stacks = Vec::new();
        for slot in ["gate", "up", "down"] {
            let tensor = self.tensor(&format!("{name}.{slot}"), "weight")?;
            let source = |tensor: String| Source { tensor, steps: Vec::new() };
            stacks.push(match tensor.contains('*') {
                true => (0..experts.count).map(|e| source(tensor.replace('*', &e.to_string()))).collect(),
                false => vec![source(tensor)],
            });
        }
        let mut node = self
            .node("experts", name, "expert")
            .inputs([x, router])
            .attribute("top-k", experts.top_k)
            .attribute("score", experts.score)
            .attribute("normalise", if experts.normalise { "sum" } else { "none" })
            .attribute("activation", "silu");
        if experts.scale != 1.0 {
            node = node.attribute("scale", experts.scale);
        }
        if experts.groups > 1 {
            node = node.attribute("groups", experts.groups).attribute("top-groups", experts.top_groups);
        }
        for (slot, sources) in ["gate", "up", "down"].into_iter().zip(&stacks) {
            node = node.joined(slot, sources, if sources.len() == 1 { "single" } else { "stack" })?;
        }
        node.finish()
    }

    /// Whether the layer has experts; others have a plain network.
    pub fn has_experts(&self) -> Result<bool, Error> {
        Ok(self.has(&self.tensor("feed-forward.router", "weight")?))
    }

    /// An activation by name; gelu is that by tanh.
    pub fn activation(&mut self, name: &str, activation: &str, x: ValueId) -> Result<ValueId, Error> {
        let node = self.node(activation, name, "activation").inputs([x]);
        if activation == "gelu" { node.attribute("approximate", "tanh").finish() } else { node.finish() }
    }

    /// The logits of final states: a head of its own or, where they are tied or the checkpoint has none, the embedding.
    pub fn head(&mut self, x: ValueId, tied: bool) -> Result<ValueId, Error> {
        if tied || !self.has(&self.tensor("head", "weight")?) {
            return self.node("linear", "head", "head").inputs([x]).tied("weight", "embedding.weight").finish();
        }
        self.linear("head", "head", x)
    }

    /// x times a factor.
    pub fn scale(&mut self, name: &str, x: ValueId, factor: f64) -> Result<ValueId, Error> {
        self.node("scale", name, "other").inputs([x]).attribute("factor", factor).finish()
    }

    /// tanh(x / cap) * cap.
    pub fn softcap(&mut self, name: &str, x: ValueId, cap: f64) -> Result<ValueId, Error> {
        let x = self.scale(&format!("{name}.shrink"), x, 1.0 / cap)?;
        let x = self.apply("tanh", &format!("{name}.tanh"), "activation", [x])?;
        self.scale(&format!("{name}.grow"), x, cap)
    }
}

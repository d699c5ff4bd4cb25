//! Latent attention in the place of one whose heads have keys and values of their own (DeepSeek-V2, arXiv 2405.04434,
//! section 2.1, with what makes keys and values of the latent absorbed by queries and outputs).

use super::{AttentionBlock, Editor, Error, Linear, Site, Tensor, ValueId};

/// What takes the place of a block's heads. Keys and queries are those before their rope, `[kv_heads x dim]` and
/// `[heads x dim]`.
pub struct Latent {
    /// Keys, and values, -> their summands of the latent, `[rank, columns]` each.
    pub down: [Tensor; 2],
    /// Keys -> the rotated key that all heads share, `[rope, keys]`; pairs are half its elements apart.
    pub rotated_key: Tensor,
    /// Radians a position by which each pair of it turns, `[rope / 2]`.
    pub frequencies: Vec<f64>,
    /// Each head's query -> the one for the latent, `[heads, rank, dim]`.
    pub query: Tensor,
    /// Each head's query -> the one for the rotated key, `[heads, rope, dim]`.
    pub rotated_query: Tensor,
    /// What attention gives of latents -> each head's of values, `[heads, value_dim, rank]`.
    pub value: Tensor,
}

impl AttentionBlock {
    /// Puts it there; the cache keeps latent and rotated key, one beside the other. New matrices have the dtype of the output
    /// matrix's, if that is dense, else float16.
    ///
    /// # Errors
    /// not-applicable as of [`AttentionBlock::rope`]; those of the host.
    pub fn make_latent(&self, model: &Editor, parts: &Latent) -> Result<(), Error> {
        let [query, key, value] = self.unrotated()?;
        let positions = self.rope()?.spec.inputs[1];
        let (rank, rope_dims) = (i64::from(parts.query.shape()[1]), i64::from(parts.rotated_key.shape()[0]));
        let site = Site::new(model, &self.attention, &self.output)?;
        let grouped = |name: &str, from: ValueId, matrices: &Tensor| {
            site.weighted("grouped-linear", name, "latent", &[("weight", matrices)])?.inputs([from]).finish()
        };
        // At base 1 divisors alone say how fast a pair turns.
        let divisors: Vec<f64> = parts.frequencies.iter().map(|frequency| 1.0 / frequency).collect();
        let rope = |name: &str, from: ValueId| {
            let node = site.node("rope", name, "rope").inputs([from, positions]).attribute("head-dim", rope_dims);
            node.attribute("base", 1.0).attribute("pairing", "half").attribute("divisors", divisors.clone()).finish()
        };
        let concat = |name: &str, parts: [ValueId; 2], groups: u32| {
            site.node("concat", name, "other").inputs(parts).attribute("groups", i64::from(groups)).finish()
        };
        let folded = |from: ValueId, matrix: &Tensor| Linear::folded(model, from, matrix);

        let [of_keys, of_values] = [folded(key, &parts.down[0])?, folded(value, &parts.down[1])?];
        let latent = if of_keys.input == of_values.input && of_keys.bias.is_none() && of_values.bias.is_none() {
            let sum = of_keys.weight.binary("add", &of_values.weight)?;
            site.linear("latent.down", "latent", &Linear::new(of_keys.input, sum))?
        } else {
            let of_keys = site.linear("latent.key-down", "latent", &of_keys)?;
            let of_values = site.linear("latent.value-down", "latent", &of_values)?;
            site.node("add", "latent.down", "other").inputs([of_keys, of_values]).finish()?
        };
        let key = site.linear("latent.key-rotated", "latent", &folded(key, &parts.rotated_key)?)?;
        let kept = concat("latent.joined", [latent, rope("latent.rope-key", key)?], 1)?;
        let own = grouped("latent.key-up", query, &parts.query)?;
        let rotated = rope("latent.rope-query", grouped("latent.query-rotated", query, &parts.rotated_query)?)?;
        let query = concat("latent.query-joined", [own, rotated], self.heads)?;

        let cached = site
            .node("cache", "latent.cache", "cache")
            .inputs([kept, kept, self.cache.spec.inputs[2]])
            .attributes(&self.cache.spec.attributes)
            .attribute("head-dim", rank + rope_dims)
            .outputs()?;
        let given = site
            .node("attention", "latent.attention", "attention")
            .inputs([query, cached[0], cached[1], self.attention.spec.inputs[3], cached[2]])
            .attributes(&self.attention.spec.attributes)
            .attribute("kv-heads", 1i64)
            .attribute("head-dim", rank + rope_dims)
            .attribute("value-dim", rank)
            .finish()?;
        model.replace_uses(self.attention.outputs[0], grouped("latent.value-up", given, &parts.value)?, &[])
    }
}

//! Latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values of all heads come from a latent of few elements. What
//! would make keys of the latent is applied to the queries instead, and what would make values to what attention gives: the
//! cache then keeps the latent and one rotated key a token, and nothing else.

use super::{Builder, Error, Norm, Setting, Value, ValueId, setting};

/// The shape of latent attention.
#[derive(Debug, Clone)]
pub struct Latent {
    /// Query heads.
    pub heads: i64,
    /// Elements of the latent.
    pub rank: i64,
    /// Elements of a head's query and key that position leaves alone.
    pub plain: i64,
    /// Those that it rotates.
    pub rotated: i64,
    /// Elements of a head's values.
    pub value: i64,
    /// Factor on the products of queries and keys.
    pub scale: f64,
    /// Added to the mean square by the norms of the latents.
    pub epsilon: f64,
    /// Attributes of the rope op.
    pub rope: Vec<Setting>,
    /// Whether each head's rows of one tensor make its keys, then its values; else each has a stack of its own, keys' turned.
    pub fused: bool,
}

/// Some rows of each head, of a tensor whose heads have `of` rows each; turned as `axes` say, and flat unless they stay a
/// stack of heads.
fn head_rows(
    heads: i64,
    of: i64,
    columns: i64,
    (first, count): (i64, i64),
    axes: [i64; 3],
    flat: bool,
) -> Vec<Setting> {
    let mut steps = vec![
        ("reshape", vec![heads, of, columns]),
        ("permute", vec![1, 0, 2]),
        ("rows", vec![first, count]),
        ("permute", axes.to_vec()),
    ];
    if flat {
        steps.push(("reshape", vec![heads * count, columns]));
    }
    steps.into_iter().map(|(step, numbers)| setting(step, Value::Integers(numbers))).collect()
}

impl Builder<'_> {
    /// Attention of normed tokens, from the projections to the output's.
    pub fn latent_attention(&mut self, x: ValueId, positions: ValueId, shape: &Latent) -> Result<ValueId, Error> {
        let Latent { heads, rank, plain, rotated, value, fused, .. } = *shape;
        let outer = self.norms(Norm { op: "rms-norm", epsilon: shape.epsilon, offset: 0.0 });
        let down = self.tensor("attention.query-down", "weight")?;
        let (from, tensor) = if self.has(&down) {
            let y = self.linear("attention.query-down", "query", x)?;
            (self.norm("attention.query-down-norm", y)?, self.tensor("attention.query-up", "weight")?)
        } else {
            (x, self.tensor("attention.query", "weight")?)
        };
        let columns = i64::from(self.shape(&tensor)?.get(1).copied().unwrap_or(0));
        // Each head's rows hold what is left alone, then what is rotated.
        let part = |first, count| head_rows(heads, plain + rotated, columns, (first, count), [1, 0, 2], true);
        let node = self.node("linear", "attention.query", "query").inputs([from]);
        let q = node.weight_of("weight", &tensor, &part(0, plain))?.finish()?;
        let node = self.node("linear", "attention.query-rotated", "query").inputs([from]);
        let q_rotated = node.weight_of("weight", &tensor, &part(plain, rotated))?.finish()?;
        let q_rotated = self.rope("attention.rope-query", q_rotated, positions, &shape.rope)?;
        let up = |first, count, axes| match fused {
            true => head_rows(heads, plain + value, rank, (first, count), axes, false),
            false => vec![],
        };
        let q = self.grouped_linear("attention.key-up", "latent", q, &up(0, plain, [1, 2, 0]))?;
        let q = self.concat("attention.query-joined", [q, q_rotated], heads)?;

        let kept = self.linear_part("attention.latent", "latent", x, "attention.latent", 0, rank)?;
        let kept = self.norm("attention.latent-norm", kept)?;
        let key = self.linear_part("attention.key-rotated", "key", x, "attention.latent", rank, rotated)?;
        let key = self.rope("attention.rope-key", key, positions, &shape.rope)?;
        let kept = self.concat("attention.latent-joined", [kept, key], 1)?;
        let [k, v, key_positions] = self.cache("attention.cache", [kept, kept, positions], rank + rotated)?;
        let y = self
            .node("attention", "attention.attention", "attention")
            .inputs([q, k, v, positions, key_positions])
            .attribute("heads", heads)
            .attribute("kv-heads", 1i64)
            .attribute("head-dim", rank + rotated)
            .attribute("value-dim", rank)
            .attribute("scale", shape.scale)
            .finish()?;
        let y = self.grouped_linear("attention.value-up", "latent", y, &up(plain, value, [1, 0, 2]))?;
        self.norms(outer);
        self.linear("attention.output", "output", y)
    }

    /// x -> y, each stretch of x by a matrix of its own, which the part's tensor holds after some steps.
    fn grouped_linear(&mut self, name: &str, role: &str, x: ValueId, steps: &[Setting]) -> Result<ValueId, Error> {
        let tensor = self.tensor(name, "weight")?;
        self.node("grouped-linear", name, role).inputs([x]).weight_of("weight", &tensor, steps)?.finish()
    }

    /// Stretches of both values side by side, in so many groups.
    fn concat(&mut self, name: &str, parts: [ValueId; 2], groups: i64) -> Result<ValueId, Error> {
        self.node("concat", name, "other").inputs(parts).attribute("groups", groups).finish()
    }
}

//! Grouped-query attention becomes latent attention, without training (Meng et al.: TransMLA, arXiv 2502.07864; Ji et al.:
//! MHA2MLA, arXiv 2502.14837). The keys' directions that matter most for position become one rotated key that all heads
//! share; the mean rotation stands for that of the others. They and the values come from a latent, whose basis has the
//! largest part of both on calibration text, weighted by what their errors do to the output. The cache keeps latent and
//! rotated key only.

mod factors;

use aehost_sdk::technique::*;
use factors::Shape;

/// Calibration tokens.
const TOKENS: u32 = 2048;
/// Distance of a query's furthest key, in the mean rotation.
const REACH: u32 = 512;
/// Sizes are multiples of this: kernels go by sixteen, and a cache of q8_0 by 32.
const STEP: i64 = 32;

struct LatentAttention;

impl Technique for LatentAttention {
    fn describe() -> Description {
        let summary = "Caches a latent of few elements instead of all heads' keys and values.";
        // Heads and layers are pruned before.
        Description::new(identity!("latent-attention", summary, "arXiv:2502.07864"), Stage::Architecture).order(30)
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let layers = layers(model)?;
        let least = |of: fn(&Shape) -> usize| layers.iter().map(|(_, shape)| of(shape)).min().unwrap_or(0) as i64;
        let (joint, keys) = (least(Shape::joint), least(Shape::keys));
        if keys < STEP || joint < 2 * STEP {
            let message = format!("{keys} elements of keys and {} of values are too few for a latent", joint - keys);
            return Err(Error::not_applicable(message));
        }
        let whole = |x: i64| (x / STEP * STEP).max(STEP);
        let rank = integer("rank", "Elements of the latent.", STEP..=whole(joint - STEP)).default(whole(joint / 2));
        let rope_dims = integer("rope-dims", "Elements of the rotated key that all heads share.", STEP..=whole(keys));
        Ok(vec![rank.step(STEP).into(), rope_dims.default(whole(keys / 3)).step(STEP).into()])
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let (rank, rope_dims) = (settings.integer("rank")? as usize, settings.integer("rope-dims")? as usize);
        let layers = layers(&model.model())?;
        for (block, shape) in &layers {
            let (joint, keys, name) = (shape.joint(), shape.keys(), &block.attention.spec.name);
            if rank + rope_dims > joint || rope_dims > keys {
                let message = format!("node `{name}` caches {joint} elements, no more than {rank} + {rope_dims}");
                return Err(Error::not_applicable(message));
            }
        }
        log::progress(0.0, "measuring queries, keys and values");
        let mut wanted = Vec::new();
        for (block, _) in &layers {
            let [q, k, v] = block.unrotated()?;
            let cross = Wanted::cross(k, v);
            wanted.extend([Wanted::of("second-moment", q), Wanted::of("gram", k), Wanted::of("gram", v), cross]);
        }
        let statistics = calibration::collect(model, &wanted, TOKENS)?;
        for (i, (layer, statistics)) in layers.iter().zip(statistics.values.chunks_exact(4)).enumerate() {
            log::progress(i as f64 / layers.len() as f64, "making attention latent");
            let within = |e: Error| e.within(format!("node `{}`", layer.0.attention.spec.name));
            let parts = latent(model, layer, statistics, [rank, rope_dims]).map_err(within)?;
            layer.0.make_latent(model, &parts).map_err(within)?;
        }
        model.check()?;
        model.state("kv-heads", 1i64)?;
        model.state("head-dim", (rank + rope_dims) as i64)
    }
}

/// The attention of each layer, which has a rope.
fn layers(model: &Model) -> Result<Vec<(AttentionBlock, Shape)>, Error> {
    let with_shape = |block: AttentionBlock| {
        let [heads, kv_heads, dim, value_dim] =
            [block.heads, block.kv_heads, block.head_dim, block.value_dim].map(|n| n as usize);
        let pairs = rope_pairs(model, block.rope()?, dim)?;
        Ok((block, Shape { heads, kv_heads, dim, value_dim, pairs }))
    };
    attention_blocks(model)?.into_iter().map(with_shape).collect()
}

/// The matrices of latent attention of this rank and so many rotated elements for a layer; `statistics` as they were wanted.
fn latent(
    model: &Editor,
    (block, shape): &(AttentionBlock, Shape),
    statistics: &[Tensor],
    [rank, rope_dims]: [usize; 2],
) -> Result<Latent, Error> {
    let [queries, keys, values, cross] = [0, 1, 2, 3].map(|i: usize| &statistics[i]);
    let lengths = matrix_of(model, &block.output)?.unary("square")?.reduce("sum", &[0], false)?.to_f32()?;
    let scale = block.attention.attribute("scale").and_then(|v| v.as_real()).unwrap_or(1.0);
    let weights = shape.weights(&queries.to_f32()?, &values.diagonal()?.to_f32()?, &lengths, scale, REACH);
    let eigen = |moments: factors::Matrix| {
        let (values, vectors) = Tensor::from_f32(&[shape.kv_heads as u32; 2], &moments)?.principal()?;
        Ok((values, vectors.to_f32()?))
    };
    let moments = shape.pair_moments(&keys.to_f32()?, &weights).into_iter();
    let rotated = shape.rotated(&moments.map(eigen).collect::<Result<Vec<_>, Error>>()?, &weights, rope_dims / 2);

    // The largest part of what the latent is to hold.
    let [joint, all, rank, rope_dims] = [shape.joint(), shape.keys(), rank, rope_dims].map(|n| n as u32);
    let second = Tensor::blocks([[keys, cross], [&cross.transpose(&[])?, values]])?;
    let remainder = Tensor::from_f32(&[joint, joint], &shape.remainder(&weights, &rotated))?;
    let moments = remainder.matmul(&second)?.matmul(&remainder.transpose(&[])?)?;
    let basis = moments.eigh()?.1.slice(1, joint - rank, rank)?.transpose(&[])?;
    let (down, basis) = (basis.matmul(&remainder)?, basis.to_f32()?);
    let turned = shape.query(&weights, &vec![(1.0, 0.0); shape.pairs.len()], &rotated.rows, shape.keys());
    let by_head = |rows, columns, numbers: &[f32]| Tensor::from_f32(&[block.heads, rows, columns], numbers);
    Ok(Latent {
        down: [down.slice(1, 0, all)?, down.slice(1, all, joint - all)?],
        rotated_key: Tensor::from_f32(&[rope_dims, all], &shape.rotated_key(&weights, &rotated))?,
        frequencies: rotated.frequencies,
        query: by_head(rank, block.head_dim, &shape.query(&weights, &weights.rotations, &basis, shape.joint()))?,
        rotated_query: by_head(rope_dims, block.head_dim, &turned)?,
        value: by_head(block.value_dim, rank, &shape.values(&weights, &basis))?,
    })
}

aehost_sdk::technique!(LatentAttention);

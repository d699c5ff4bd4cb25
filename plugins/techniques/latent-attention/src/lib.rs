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
        let rope_dims = "Elements of the rotated key that all heads share.";
        Ok(vec![
            integer("rank", "Elements of the latent.", STEP..=whole(joint - STEP))
                .step(STEP)
                .default(whole(joint / 2))
                .into(),
            integer("rope-dims", rope_dims, STEP..=whole(keys)).step(STEP).default(whole(keys / 3)).into(),
        ])
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let (rank, rope_dims) = (settings.integer("rank")? as usize, settings.integer("rope-dims")? as usize);
        let layers = layers(&model.model())?;
        for (layer, shape) in &layers {
            let (joint, keys, name) = (shape.joint(), shape.keys(), &layer.block.attention.spec.name);
            if rank + rope_dims > joint || rope_dims > keys {
                let message = format!("node `{name}` caches {joint} elements, no more than {rank} + {rope_dims}");
                return Err(Error::not_applicable(message));
            }
        }
        log::progress(0.0, "measuring queries, keys and values");
        let wanted = |(layer, _): &(Layer, Shape)| {
            let [q, k, v] = [layer.query, layer.key, layer.value];
            [Wanted::of("second-moment", q), Wanted::of("gram", k), Wanted::of("gram", v), Wanted::cross(k, v)]
        };
        let statistics = calibration::collect(model, &layers.iter().flat_map(wanted).collect::<Vec<_>>(), TOKENS)?;
        for (i, ((layer, shape), statistics)) in layers.iter().zip(statistics.values.chunks_exact(4)).enumerate() {
            log::progress(i as f64 / layers.len() as f64, "making attention latent");
            let name = &layer.block.attention.spec.name;
            replace(model, layer, shape, statistics, [rank, rope_dims])
                .map_err(|e| e.within(format!("node `{name}`")))?;
        }
        model.check()?;
        model.state("kv-heads", 1i64)?;
        model.state("head-dim", (rank + rope_dims) as i64)
    }
}

/// One layer's attention, and the values that enter its rope and its cache.
struct Layer {
    block: AttentionBlock,
    rope: Node,
    /// Queries before their rope.
    query: ValueId,
    /// Keys before their rope.
    key: ValueId,
    value: ValueId,
}

fn layers(model: &Model) -> Result<Vec<(Layer, Shape)>, Error> {
    let with_shape = |block: AttentionBlock| {
        let rope = block.rope()?.clone();
        let [heads, kv_heads, dim, value_dim] =
            [block.heads, block.kv_heads, block.head_dim, block.value_dim].map(|n| n as usize);
        let pairs = rope_pairs(model, &rope, dim)?;
        // A rope is the last step of queries and keys.
        let before = |of: &Projection| of.steps.last().map_or(of.linear.outputs[0], |rope| rope.spec.inputs[0]);
        let (query, key, value) = (before(&block.query), before(&block.key), block.cache.spec.inputs[1]);
        Ok((Layer { rope, query, key, value, block }, Shape { heads, kv_heads, dim, value_dim, pairs }))
    };
    attention_blocks(model)?.into_iter().map(with_shape).collect()
}

/// Puts latent attention of this rank and so many rotated elements in a layer's place; `statistics` as they were wanted.
fn replace(
    model: &Editor,
    layer: &Layer,
    shape: &Shape,
    statistics: &[Tensor],
    [rank, rope_dims]: [usize; 2],
) -> Result<(), Error> {
    let [queries, keys, values, cross] = statistics else {
        return Err(Error::new("internal", "four statistics were expected"));
    };
    let output = layer.block.output.weight("weight").ok_or_else(|| Error::invalid("its output has no weight"))?;
    let lengths = read(model, output)?.unary("square")?.reduce("sum", &[0], false)?.to_f32()?;
    let scale = layer.block.attention.attribute("scale").and_then(|v| v.as_real()).unwrap_or(1.0);
    let weights = shape.weights(&queries.to_f32()?, &values.diagonal()?.to_f32()?, &lengths, scale, REACH);
    let eigen = |moments: factors::Matrix| {
        let (values, vectors) = Tensor::from_f32(&[shape.kv_heads as u32; 2], &moments)?.eigh()?;
        Ok((values.to_f32()?, vectors.to_f32()?))
    };
    let moments = shape.pair_moments(&keys.to_f32()?, &weights);
    let eigen = moments.into_iter().map(eigen).collect::<Result<Vec<_>, Error>>()?;
    let rotated = shape.rotated(&eigen, &weights, rope_dims / 2);

    // The largest part of what the latent is to hold.
    let [joint, all] = [shape.joint() as u32, shape.keys() as u32];
    let upper = Tensor::concat(1, &[keys, cross])?;
    let lower = Tensor::concat(1, &[&cross.transpose(&[])?, values])?;
    let remainder = Tensor::from_f32(&[joint, joint], &shape.remainder(&weights, &rotated))?;
    let moments = remainder.matmul(&Tensor::concat(0, &[&upper, &lower])?)?.matmul(&remainder.transpose(&[])?)?;
    let basis = moments.eigh()?.1.slice(1, joint - rank as u32, rank as u32)?;
    let latent = basis.transpose(&[])?.matmul(&remainder)?;
    let basis = basis.to_f32()?;

    let attention = &layer.block.attention;
    let prefix = attention.spec.name.rsplit_once('.').map_or("attention", |(prefix, _)| prefix);
    let node = |op: &str, name: &str, role: &str| model.node_beside(attention, op, &format!("{prefix}.{name}"), role);
    let form = weights::describe(&model.model(), output)?.representation;
    let grouped = |name: &str, from: ValueId, size: [usize; 2], numbers: &[f32]| {
        let shape = [shape.heads as u32, size[0] as u32, size[1] as u32];
        let numbers = Tensor::from_f32(&shape, numbers)?;
        node("grouped-linear", name, "latent").inputs([from]).new_weight("weight", &numbers, form.dtype())?.finish()
    };
    let positions = layer.rope.spec.inputs[1];
    let frequencies: Vec<f64> = rotated.iter().map(|c| 1.0 / shape.pairs[c.pair].frequency).collect();
    let rope = |name: &str, from: ValueId| {
        let node = node("rope", name, "rope").inputs([from, positions]).attribute("head-dim", rope_dims as i64);
        // At base 1 divisors alone say how fast a pair turns.
        node.attribute("base", 1.0).attribute("pairing", "half").attribute("divisors", frequencies.clone()).finish()
    };
    let concat = |name: &str, parts: [ValueId; 2], groups: usize| {
        node("concat", name, "other").inputs(parts).attribute("groups", groups as i64).finish()
    };

    let project = |name: &str, (from, matrix, bias): (ValueId, Tensor, Option<Tensor>)| {
        let node = node("linear", name, "latent").inputs([from]).new_weight("weight", &matrix, form.dtype())?;
        match bias {
            Some(bias) => node.new_weight("bias", &bias, "float32")?.finish(),
            None => node.finish(),
        }
    };
    let of_keys = folded(model, layer.key, &latent.slice(1, 0, all)?)?;
    let of_values = folded(model, layer.value, &latent.slice(1, all, joint - all)?)?;
    let kept = match (of_keys, of_values) {
        ((x, a, None), (same, b, None)) if x == same => project("latent.down", (x, a.binary("add", &b)?, None))?,
        (a, b) => {
            let parts = [project("latent.key-down", a)?, project("latent.value-down", b)?];
            node("add", "latent.down", "other").inputs(parts).finish()?
        }
    };
    let key = Tensor::from_f32(&[rope_dims as u32, all], &shape.rotated_key(&weights, &rotated))?;
    let key = rope("latent.rope-key", project("latent.key-rotated", folded(model, layer.key, &key)?)?)?;
    let kept = concat("latent.joined", [kept, key], 1)?;
    let q = grouped("latent.key-up", layer.query, [rank, shape.dim], &shape.latent_query(&weights, &basis, rank))?;
    let turned = shape.rotated_query(&weights, &rotated);
    let turned = grouped("latent.query-rotated", layer.query, [rope_dims, shape.dim], &turned)?;
    let q = concat("latent.query-joined", [q, rope("latent.rope-query", turned)?], shape.heads)?;

    let own = |from: &Node, changed: &[&str]| -> Vec<Setting> {
        from.spec.attributes.iter().filter(|a| !changed.contains(&a.name.as_str())).cloned().collect()
    };
    let size = (rank + rope_dims) as i64;
    let cache = node("cache", "latent.cache", "cache").attributes(&own(&layer.block.cache, &["head-dim"]));
    let cached = cache.attribute("head-dim", size).inputs([kept, kept, layer.block.cache.spec.inputs[2]]).outputs()?;
    let y = node("attention", "latent.attention", "attention")
        .inputs([q, cached[0], cached[1], attention.spec.inputs[3], cached[2]])
        .attributes(&own(attention, &["kv-heads", "head-dim", "value-dim"]))
        .attribute("kv-heads", 1i64)
        .attribute("head-dim", size)
        .attribute("value-dim", rank as i64)
        .finish()?;
    let y = grouped("latent.value-up", y, [shape.value_dim, rank], &shape.latent_values(&weights, &basis, rank))?;
    model.replace_uses(attention.outputs[0], y, &[])
}

/// A value times a matrix, as a matrix, and its bias, on what comes before the linear node that makes the value, if one does.
fn folded(model: &Editor, value: ValueId, matrix: &Tensor) -> Result<(ValueId, Tensor, Option<Tensor>), Error> {
    let now = model.model();
    let maker = now.producer(value).map(|id| now.node(id)).transpose()?.filter(|node| node.spec.op == "linear");
    let Some((node, weight)) = maker.as_ref().and_then(|node| Some((node, node.weight("weight")?))) else {
        return Ok((value, matrix.affine(1.0, 0.0)?, None));
    };
    let bias = node.weight("bias").map(|bias| {
        let [rows, columns] = [matrix.shape()[0], matrix.shape()[1]];
        matrix.matmul(&weights::get(&now, bias, None::<Span>)?.reshape(&[columns, 1])?)?.reshape(&[rows])
    });
    Ok((node.spec.inputs[0], matrix.matmul(&read(model, weight)?)?, bias.transpose()?))
}

aehost_sdk::technique!(LatentAttention);

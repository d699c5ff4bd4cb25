//! Pools key and value heads, so that more queries share each and the cache holds fewer (Ainslie et al.: GQA, arXiv
//! 2305.13245, section 2.1: the mean of the heads). `calibrated` takes instead the heads that, with queries and output
//! matrix adapted to them, give scores and outputs of the least squared error: principal components of keys weighted by
//! the queries' energy, and of values weighted by the output matrix.

mod keys;

use aehost_sdk::technique::*;

/// Calibration tokens behind the moments of keys, values and queries.
const TOKENS: u32 = 4096;

struct GroupedQuery;

impl Technique for GroupedQuery {
    fn describe() -> Description {
        let summary = "Pools key and value heads: a smaller cache and fewer weights.";
        Description::new(identity!("grouped-query", summary, "arXiv:2305.13245"), Stage::Architecture).order(1)
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let blocks = attention_blocks(model)?;
        let groups = divisors(&blocks.iter().map(|block| block.kv_heads).collect::<Vec<_>>());
        let Some(most) = groups.last().copied() else {
            let least = blocks.iter().min_by_key(|block| block.kv_heads);
            let which = least.map_or(String::new(), |b| format!("`{}` has {}", b.attention.spec.name, b.kv_heads));
            let message = format!("{which} key and value heads: no smaller number divides those of every layer");
            return Err(Error::not_applicable(message));
        };
        let summary = "How pooled heads are made: their mean, or the least error on calibration text.";
        Ok(vec![
            choice("groups", "Key and value heads that a layer keeps.", groups).ordered().default(most).into(),
            choice("pooling", summary, ["calibrated", "mean"]).into(),
        ])
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let groups = settings.integer("groups")? as u32;
        let calibrated = settings.text("pooling")? == "calibrated";
        let mut blocks = attention_blocks(&model.model())?;
        if let Some(odd) = blocks.iter().find(|block| groups == 0 || !block.kv_heads.is_multiple_of(groups)) {
            let (name, kv) = (&odd.attention.spec.name, odd.kv_heads);
            return Err(Error::not_applicable(format!(
                "attention `{name}` has {kv} kv-heads, no multiple of {groups}"
            )));
        }
        blocks.retain(|block| block.kv_heads > groups);
        let moments = if calibrated { collect(model, &blocks)? } else { Vec::new() };
        for (i, block) in blocks.iter().enumerate() {
            log::progress(i as f64 / blocks.len() as f64, "pooling heads");
            pool(model, block, groups, moments.get(i))
                .map_err(|e| e.within(format!("attention `{}` cannot be pooled", block.attention.spec.name)))?;
        }
        model.check()?;
        model.state("kv-heads", i64::from(groups))
    }
}

/// Divisors of all of these numbers that are below the smallest, ascending.
fn divisors(heads: &[u32]) -> Vec<i64> {
    let least = heads.iter().copied().min().unwrap_or(0);
    (1..least).filter(|d| heads.iter().all(|h| h % d == 0)).map(i64::from).collect()
}

/// What is known of a block's values: keys and values `[n, n]`, queries `[n]`.
struct Moments {
    keys: Tensor,
    values: Tensor,
    queries: Tensor,
}

fn collect(model: &Editor, blocks: &[AttentionBlock]) -> Result<Vec<Moments>, Error> {
    let wanted = |statistic: &str, of: &Projection| Wanted::of(statistic, of.linear.outputs[0]);
    let of_block =
        |b: &AttentionBlock| [wanted("gram", &b.key), wanted("gram", &b.value), wanted("second-moment", &b.query)];
    log::progress(0.0, "collecting moments of keys and values");
    let wanted: Vec<Wanted> = blocks.iter().flat_map(of_block).collect();
    let mut found = calibration::collect(model, &wanted, TOKENS)?.values.into_iter();
    let next = || Some(Moments { keys: found.next()?, values: found.next()?, queries: found.next()? });
    Ok(std::iter::from_fn(next).collect())
}

/// Some heads as one, and what their readers are multiplied with instead: nothing where it is their mean.
struct Pooling {
    /// `[d, heads x d]`.
    pool: Tensor,
    /// `[d, d]` of each head.
    adapt: Vec<Tensor>,
}

/// Replaces the matrices of one block.
fn pool(model: &Editor, block: &AttentionBlock, groups: u32, moments: Option<&Moments>) -> Result<(), Error> {
    let (size, readers) = (block.kv_heads / groups, block.shared() as usize);
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for group in 0..groups {
        key.push(match moments {
            Some(moments) if !block.key.normed() && !block.query.normed() => pool_keys(block, group, size, moments)?,
            _ => mean(size, block.head_dim)?,
        });
        value.push(match moments {
            Some(moments) if !block.value.normed() => pool_values(model, block, group, size, &moments.values)?,
            _ => mean(size, block.value_dim)?,
        });
    }
    rows(model, &block.key.linear, &key.iter().map(|p| &p.pool).collect::<Vec<_>>())?;
    rows(model, &block.value.linear, &value.iter().map(|p| &p.pool).collect::<Vec<_>>())?;
    rows(model, &block.query.linear, &by_reader(&key, readers))?;
    columns(model, &block.output, &by_reader(&value, readers))?;
    let changed: Vec<&Node> =
        block.key.nodes().into_iter().chain(block.value.nodes()).chain(std::iter::once(&block.cache)).collect();
    model.infer(&changed)?;
    model.set_attribute(block.attention.id, &setting("kv-heads", i64::from(groups)))
}

/// For each head that reads one of those pooled.
fn by_reader(poolings: &[Pooling], readers: usize) -> Vec<&Tensor> {
    poolings.iter().flat_map(|p| &p.adapt).flat_map(|adapt| std::iter::repeat_n(adapt, readers)).collect()
}

fn mean(heads: u32, d: u32) -> Result<Pooling, Error> {
    let pool = Tensor::from_f32(&[d, heads * d], &keys::mean(heads as usize, d as usize))?;
    Ok(Pooling { pool, adapt: Vec::new() })
}

fn pool_keys(block: &AttentionBlock, group: u32, size: u32, moments: &Moments) -> Result<Pooling, Error> {
    let (d, readers) = (block.head_dim, block.shared());
    let n = size * d;
    let gram = moments.keys.slice(0, group * n, n)?.slice(1, group * n, n)?.to_f32()?;
    let queries = moments.queries.slice(0, group * n * readers, n * readers)?;
    let energy = queries.reshape(&[size, readers, d])?.reduce("sum", &[1], false)?.to_f32()?;
    let rope = block.key.steps.iter().find(|node| node.spec.op == "rope");
    let pooled = keys::pool(&gram, &energy, &turned_together(rope, d as usize)?);
    let adapt = pooled.adapt.iter().map(|adapt| Tensor::from_f32(&[d, d], adapt)).collect::<Result<_, _>>()?;
    Ok(Pooling { pool: Tensor::from_f32(&[d, n], &pooled.pool)?, adapt })
}

/// With W_o' W_o of each head on the diagonal, = L L': the first d principal components U of L' v. The pooled head is
/// (L U)' v, and the output matrix reads each head v_j as (L'^-1 U)_j of it.
fn pool_values(model: &Editor, block: &AttentionBlock, group: u32, size: u32, gram: &Tensor) -> Result<Pooling, Error> {
    let (d, readers) = (block.value_dim, block.shared());
    let n = size * d;
    let output = matrix_of(model, &block.output)?;
    let mut weight = Tensor::full(&[n, n], "float32", 0.0)?;
    for head in 0..size {
        // The rows of all of a head's readers, one matrix under another, have the sum of their Gram matrices.
        let first = (group * size + head) * readers;
        let parts = (first..first + readers).map(|h| output.slice(1, h * d, d)).collect::<Result<Vec<_>, _>>()?;
        let stacked = Tensor::concat(0, &parts.iter().collect::<Vec<_>>())?;
        weight = weight.write(&[head * d, head * d], &stacked.transpose(&[])?.matmul(&stacked)?)?;
    }
    let lower = weight.damped_cholesky().map_err(|e| e.within("its output matrix is singular"))?;
    let gram = gram.slice(0, group * n, n)?.slice(1, group * n, n)?;
    let (_, vectors) = lower.transpose(&[])?.matmul(&gram)?.matmul(&lower)?.eigh()?;
    let main = vectors.slice(1, n - d, d)?;
    let bring = lower.triangular_solve(&main, false, true)?;
    let adapt = (0..size).map(|head| bring.slice(0, head * d, d)).collect::<Result<_, _>>()?;
    Ok(Pooling { pool: lower.matmul(&main)?.transpose(&[])?, adapt })
}

/// Multiplies stretches of a matrix's rows, and of its bias, with matrices from the left; nothing where there are none.
fn rows(model: &Editor, node: &Node, parts: &[&Tensor]) -> Result<(), Error> {
    let Some(stretch) = parts.first().map(|part| part.shape()[1]) else { return Ok(()) };
    let mut replaced = Vec::new();
    for slot in &node.spec.weights {
        let numbers = weights::get(&model.model(), &slot.weight, None)?;
        let vector = numbers.shape().len() == 1;
        let matrix = if vector { numbers.reshape(&[numbers.shape()[0], 1])? } else { numbers };
        let product = |(i, part): (u32, &&Tensor)| part.matmul(&matrix.slice(0, i * stretch, stretch)?);
        let products = (0..).zip(parts).map(product).collect::<Result<Vec<_>, _>>()?;
        let joined = Tensor::concat(0, &products.iter().collect::<Vec<_>>())?;
        let joined = if vector { joined.reshape(&joined.shape()[..1])? } else { joined };
        replaced.push((slot.name.as_str(), joined));
    }
    model.replace_weights(node, &replaced)
}

/// Multiplies stretches of a matrix's columns with matrices from the right; nothing where there are none.
fn columns(model: &Editor, node: &Node, parts: &[&Tensor]) -> Result<(), Error> {
    let Some(stretch) = parts.first().map(|part| part.shape()[0]) else { return Ok(()) };
    let matrix = matrix_of(model, node)?;
    let product = |(i, part): (u32, &&Tensor)| matrix.slice(1, i * stretch, stretch)?.matmul(part);
    let products = (0..).zip(parts).map(product).collect::<Result<Vec<_>, _>>()?;
    model.replace_weights(node, &[("weight", Tensor::concat(1, &products.iter().collect::<Vec<_>>())?)])
}

#[cfg(test)]
mod tests {
    use super::divisors;

    #[test]
    fn groups_divide_the_heads_of_every_layer() {
        assert_eq!(divisors(&[8, 8]), [1, 2, 4]);
        assert_eq!(divisors(&[8, 12]), [1, 2, 4]);
        assert_eq!(divisors(&[3]), [1]);
        assert!(divisors(&[1, 8]).is_empty());
    }
}

aehost_sdk::technique!(GroupedQuery);

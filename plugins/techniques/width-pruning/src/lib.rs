//! Removes feed-forward neurons, and attention heads with the keys and values that they share, where the outputs change
//! least: by the square of an activation on calibration text times that of the column that reads it (Ma et al.: LLM-Pruner,
//! arXiv 2305.11627, section 3.2, groups). With `compensate` only the fluctuation counts, as the mean of what is removed
//! becomes a bias (An et al.: FLAP, arXiv 2312.11983, sections 4.1 to 4.3).

mod choice;

use aehost_sdk::technique::*;
use choice::Columns;

/// Calibration tokens behind the moments of activations.
const TOKENS: u32 = 4096;

struct WidthPruning;

impl Technique for WidthPruning {
    fn describe() -> Description {
        let summary = "Removes the feed-forward neurons and attention heads that change outputs least.";
        Description::new(identity!("width-pruning", summary, "arXiv:2312.11983"), Stage::Architecture).order(2)
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let mut parameters: Vec<Parameter> = Vec::new();
        let networks = networks(model);
        if networks.is_ok() {
            let summary = "Share of the feed-forward neurons that is removed.";
            parameters.push(real("neurons", summary, 0.0..=0.5).default(0.1).into());
            let summary = "By the errors, standardised in each layer, or the same share in all.";
            parameters.push(choice("allocation", summary, ["adaptive", "uniform"]).into());
        }
        // As for layers with a single key-value head, there is nothing to remove from what is no plain attention.
        let least = attention_blocks(model).unwrap_or_default().iter().map(|b| b.kv_heads).min().unwrap_or(1);
        if least > 1 {
            let summary = "Key-value heads removed from each layer, with their query heads.";
            parameters.push(integer("heads", summary, 0..=i64::from(least) - 1).into());
        }
        match (parameters.is_empty(), networks) {
            (true, Err(error)) => return Err(error),
            _ => parameters.push(flag("compensate", "Add the mean of what is removed as a bias.").default(true).into()),
        }
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let share = settings.get("neurons").and_then(Value::as_real).unwrap_or(0.0);
        let heads = settings.get("heads").and_then(Value::as_integer).unwrap_or(0) as u32;
        let compensate = settings.flag("compensate")?;
        let networks = if share > 0.0 { networks(&model.model())? } else { Vec::new() };
        let blocks = if heads > 0 { attention_blocks(&model.model())? } else { Vec::new() };
        if let Some(few) = blocks.iter().find(|block| block.kv_heads <= heads) {
            let (name, kv) = (&few.attention.spec.name, few.kv_heads);
            return Err(Error::not_applicable(format!("`{name}` has {kv} kv-heads: {heads} cannot be removed")));
        }
        let readers: Vec<&Node> = networks.iter().map(|n| &n.down).chain(blocks.iter().map(|b| &b.output)).collect();
        let columns = moments(model, &readers)?;
        let (neurons, outputs) = columns.split_at(networks.len());

        let errors: Vec<Vec<f64>> = neurons.iter().map(|c| c.errors(compensate)).collect();
        let widths = match settings.get("allocation").and_then(Value::as_text) {
            Some("adaptive") => choice::adaptive(&errors, share),
            _ => choice::uniform(&errors, share),
        };
        for (i, network) in networks.iter().enumerate() {
            let kept = largest(&errors[i], widths[i]);
            keep_columns(model, &network.down, &kept, compensate.then_some(&neurons[i]))?;
            network.makers.iter().try_for_each(|maker| keep_rows(model, maker, &kept))?;
        }
        model.check()?;
        for (block, columns) in blocks.iter().zip(outputs) {
            remove_heads(model, block, block.kv_heads - heads, columns, compensate)?;
        }
        model.check()?;
        // The widest network's, where widths differ.
        if let Some(width) = widths.iter().max() {
            model.state("feed-forward", *width as i64)?;
        }
        match blocks.first() {
            Some(block) => state_heads(model, block.shared()),
            None => Ok(()),
        }
    }
}

/// What the columns of these matrices multiply, and the columns' lengths.
fn moments(model: &Editor, readers: &[&Node]) -> Result<Vec<Columns>, Error> {
    let wanted = |(node, statistic): (&&Node, &str)| Wanted::of(statistic, node.spec.inputs[0]);
    let wanted: Vec<Wanted> =
        readers.iter().flat_map(|node| [(node, "mean"), (node, "second-moment")]).map(wanted).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    log::progress(0.0, "collecting moments of activations");
    let statistics = calibration::collect(model, &wanted, TOKENS)?.values;
    let columns = |(node, moments): (&&Node, &[Tensor])| {
        let length = matrix_of(model, node)?.unary("square")?.reduce("sum", &[0], false)?;
        let [mean, second] = [0, 1].map(|i: usize| moments[i].to_f32());
        Ok(Columns { mean: mean?, second: second?, length: length.to_f32()? })
    };
    readers.iter().zip(statistics.chunks_exact(2)).map(columns).collect()
}

/// Keeps some rows of a matrix and its bias.
fn keep_rows(model: &Editor, node: &Node, kept: &[usize]) -> Result<(), Error> {
    let mut replaced = Vec::new();
    for slot in &node.spec.weights {
        replaced.push((slot.name.as_str(), weights::get(&model.model(), &slot.weight, None)?.take(0, kept)?));
    }
    model.replace_weights(node, &replaced)
}

/// Keeps some columns of a matrix; the mean of what the others gave goes into its bias, where the means are given.
fn keep_columns(model: &Editor, node: &Node, kept: &[usize], means: Option<&Columns>) -> Result<(), Error> {
    let matrix = matrix_of(model, node)?;
    if let Some(columns) = means {
        let mut gone = columns.mean.clone();
        kept.iter().for_each(|i| gone[*i] = 0.0);
        let gone = Tensor::from_f32(&[gone.len() as u32, 1], &gone)?;
        let rows = matrix.shape()[0];
        let given = matrix.matmul(&gone)?.reshape(&[rows])?;
        match node.weight("bias") {
            Some(bias) => {
                let bias = weights::get(&model.model(), bias, None)?.binary("add", &given)?;
                model.replace_weights(node, &[("bias", bias)])?;
            }
            None => {
                let name = format!("{}.bias", node.spec.name);
                weights::put(model, &name, &given, "float32")?;
                model.set_weight(node.id, &Slot { name: "bias".into(), weight: name })?;
            }
        }
    }
    model.replace_weights(node, &[("weight", matrix.take(1, kept)?)])
}

/// Keeps the key-value heads of a block whose queries' outputs count most.
fn remove_heads(
    model: &Editor,
    block: &AttentionBlock,
    kept: u32,
    columns: &Columns,
    compensate: bool,
) -> Result<(), Error> {
    let shared = block.shared();
    let errors = choice::sums(&columns.errors(compensate), (shared * block.value_dim) as usize);
    let groups = largest(&errors, kept as usize);
    let elements = |of_group: u32| choice::elements(&groups, of_group as usize);
    keep_rows(model, &block.query.linear, &elements(shared * block.head_dim))?;
    keep_rows(model, &block.key.linear, &elements(block.head_dim))?;
    keep_rows(model, &block.value.linear, &elements(block.value_dim))?;
    keep_columns(model, &block.output, &elements(shared * block.value_dim), compensate.then_some(columns))?;
    for projection in [&block.query, &block.key, &block.value] {
        model.infer(&projection.nodes())?;
    }
    model.infer(&[&block.cache])?;
    // Attributes change one by one, but neither count of heads fits without the other.
    let heads = [("heads", kept * shared), ("kv-heads", kept)];
    let again = model.node_again(&block.attention, "pruned").inputs(block.attention.spec.inputs.iter().copied());
    let attention = heads.into_iter().fold(again, |node, (name, count)| node.attribute(name, i64::from(count)));
    let output = model.model().node(block.output.id)?;
    let output = model.node_again(&output, "pruned").inputs([attention.finish()?]).finish()?;
    model.replace_uses(block.output.outputs[0], output, &[])
}

fn state_heads(model: &Editor, shared: u32) -> Result<(), Error> {
    let kv_heads = attention_blocks(&model.model())?.iter().map(|block| block.kv_heads).max().unwrap_or(1);
    model.state("kv-heads", i64::from(kv_heads))?;
    model.state("heads", i64::from(kv_heads * shared))
}

aehost_sdk::technique!(WidthPruning);

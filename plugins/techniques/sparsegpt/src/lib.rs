//! Drops weights one by one: by SparseGPT (Frantar and Alistarh, arXiv:2301.00774, algorithm 1), where the weights left make
//! up for those dropped; by Wanda (Sun et al., arXiv:2306.11695); or by magnitude. Layers are taken in order, each with the
//! inputs that the pruned layers before it give. Two of every four are stored as such; weights dropped anywhere stay in place
//! as zeros.

mod pruning;

use aehost_sdk::technique::*;
use pruning::{Pattern, Pruning};

/// Calibration tokens behind a layer's statistics.
const TOKENS: u32 = 2048;
/// Share of the Gram matrix's mean diagonal that is added to it (the paper's).
const DAMPING: f64 = 0.01;
/// Two of every four columns.
const TWO_OF_FOUR: &str = "2:4";
/// Columns of sparse matrices are a multiple of this.
const BLOCK: u32 = 8;

struct SparseGpt;

impl Technique for SparseGpt {
    fn describe() -> Description {
        let summary = "Drops single weights; those left make up for them on calibration text.";
        // After layers and their parts were dropped, before weights get fewer bits.
        Description::new(identity!("sparsegpt", summary, "arXiv:2301.00774"), Stage::Architecture)
            .order(9)
            .provides("sparse-weights")
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let matrices = matrices(model)?;
        let mut layers = matrices.iter().filter(|matrix| matrix.group.in_layers()).peekable();
        if layers.peek().is_none() {
            return Err(Error::not_applicable("the model has no attention and no feed-forward network"));
        }
        let two_of_four = layers.all(|matrix| matrix.columns() % BLOCK == 0).then_some(TWO_OF_FOUR);
        Ok(vec![
            choice("method", "What decides which weights are dropped.", ["sparsegpt", "wanda", "magnitude"]).into(),
            choice(
                "pattern",
                "Two of every four columns, or anywhere.",
                two_of_four.into_iter().chain(["unstructured"]),
            )
            .into(),
            real("sparsity", "Share of weights dropped.", 0.1..=0.7)
                .default(0.5)
                .when("pattern", ["unstructured"])
                .into(),
        ])
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let method = settings.text("method")?;
        let pattern = match settings.text("pattern")? {
            TWO_OF_FOUR => Pattern::TwoOfFour,
            _ => Pattern::Share(settings.real("sparsity")?),
        };
        let targets = layer_matrices(model)?;
        if let Some(odd) = targets.iter().find(|m| pattern == Pattern::TwoOfFour && m.columns() % BLOCK != 0) {
            let message = format!("weight `{}` has {} columns, no multiple of {BLOCK}", odd.weight, odd.columns());
            return Err(Error::not_applicable(message));
        }
        let mut done = 0;
        for layer in targets.chunk_by(|a, b| a.layer == b.layer) {
            let inputs = layer.iter().filter_map(|matrix| matrix.input);
            let statistics = match method {
                "sparsegpt" => collect_each(model, "gram", inputs, TOKENS)?,
                "wanda" => collect_each(model, "second-moment", inputs, TOKENS)?,
                _ => Default::default(),
            };
            for matrix in layer {
                log::progress(done as f64 / targets.len() as f64, "dropping weights");
                done += 1;
                let statistic = matrix.input.and_then(|input| statistics.get(&input));
                let pruned = prune(model, matrix, pattern, statistic);
                put(model, matrix, pattern, &pruned.map_err(|error| error.within(place(matrix)))?)?;
            }
        }
        Ok(())
    }
}

/// The numbers of a matrix, some of them 0; by magnitude where there is no statistic of its input.
fn prune(model: &Editor, matrix: &Matrix, pattern: Pattern, statistic: Option<&Tensor>) -> Result<Vec<f32>, Error> {
    let tensor = read(model, &matrix.weight)?;
    if let Some(gram) = statistic.filter(|statistic| statistic.shape().len() == 2) {
        let feedback = Feedback::new(gram, DAMPING)?;
        let (rows, columns) = (matrix.rows() as usize, matrix.columns() as usize);
        let mut pruning = Pruning::new(rows, columns, pattern, &feedback.diagonal);
        feedback.run(tensor, &mut pruning)?;
        return Ok(pruning.numbers);
    }
    let mut numbers = tensor.to_f32()?;
    match statistic {
        Some(second_moment) => pruning::by_inputs(&mut numbers, pattern, &second_moment.to_f32()?),
        None => pruning::by_magnitude(&mut numbers, pattern),
    }
    Ok(numbers)
}

fn place(matrix: &Matrix) -> String {
    let layer = matrix.layer.map(|layer| format!(" of layer {layer}")).unwrap_or_default();
    format!("weight `{}`{layer} cannot be pruned; use method magnitude, or other calibration text", matrix.weight)
}

/// Makes them the weight's, in its own float type, or in half precision where it had none.
fn put(model: &Editor, matrix: &Matrix, pattern: Pattern, numbers: &[f32]) -> Result<(), Error> {
    if numbers.iter().any(|number| !number.is_finite()) {
        let message = format!("weight `{}` holds numbers that are not finite", matrix.weight);
        return Err(Error::new("diverged", message));
    }
    let now = weights::describe(&model.model(), &matrix.weight)?.representation;
    let dtype = now.settings.iter().find(|setting| setting.name == "dtype").and_then(|setting| setting.value.as_text());
    let dtype = dtype.unwrap_or("float16");
    weights::put(model, &matrix.weight, &Tensor::from_f32(&matrix.shape, numbers)?, dtype)?;
    match pattern {
        Pattern::TwoOfFour => weights::encode(model, &matrix.weight, &Representation::sparse(dtype), None),
        Pattern::Share(_) => Ok(()),
    }
}

aehost_sdk::technique!(SparseGpt);

//! Learns a factor for each element of keys, of values and of what feed-forward networks multiply last, and takes them into the
//! matrices beside (IA3, Liu et al., arXiv:2205.05638, section 3.3): nothing is left to compute.

use aehost_sdk::technique::*;

struct Ia3;

/// Factors of what a node makes, or of what it reads.
struct Factors {
    matrix: Matrix,
    weight: String,
    /// Whether rows of the matrix, whose products they multiply, else columns.
    rows: bool,
}

impl Technique for Ia3 {
    fn describe() -> Description {
        let summary = "Trains a factor for each key, value and feed-forward activation.";
        Description::new(identity!("ia3", summary, "arXiv:2205.05638"), Stage::FineTuning).order(-5)
    }

    fn parameters(model: &Model, facts: &Facts) -> Result<Vec<Parameter>, Error> {
        let schedule = FineTuning::parameters(model, facts, 3e-3)?;
        if !matrices(model)?.iter().any(is_scaled) {
            return Err(Error::not_applicable(NONE));
        }
        Ok(schedule)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let targets: Vec<Matrix> = matrices(&model.model())?.into_iter().filter(is_scaled).collect();
        if targets.is_empty() {
            return Err(Error::not_applicable(NONE));
        }
        let before = model.fork();
        let factors = targets.into_iter().map(|matrix| insert(model, matrix)).collect::<Result<Vec<_>, _>>()?;
        let trainable: Vec<Trainable> =
            factors.iter().map(|factors| Trainable { weight: factors.weight.clone(), rate: 1.0 }).collect();
        FineTuning::train(model, &trainable, &FineTuning::settings(settings, &[])?)?;
        let learned =
            factors.iter().map(|f| weights::get(&model.model(), &f.weight, None)).collect::<Result<Vec<_>, _>>()?;
        // The graph is as it was; what was learned goes into the matrices.
        model.adopt(before)?;
        for (factors, learned) in factors.iter().zip(learned) {
            take_in(model, factors, &learned)?;
        }
        model.check()
    }
}

const NONE: &str = "no layer has keys, values or a feed-forward network with a matrix of their own";

fn is_scaled(matrix: &Matrix) -> bool {
    matrix.group.in_layers()
        && matrix.shape.len() == 2
        && matrix.input.is_some()
        && ["key", "value", "down"].contains(&matrix.role.as_str())
}

/// Puts factors of 1 after the keys' and values' matrices, and before the last of a feed-forward network.
fn insert(model: &Editor, matrix: Matrix) -> Result<Factors, Error> {
    let rows = matrix.role != "down";
    let weight = format!("{}.factors", matrix.weight);
    let length = if rows { matrix.rows() } else { matrix.columns() };
    weights::put(model, &weight, &Tensor::full(&[length], "float32", 1.0)?, "float32")?;
    for node in users(model, &matrix)? {
        let part =
            |op: &str, part: &str| model.node_beside(&node, op, &format!("{}.{part}", node.spec.name), "adapter");
        let factors = part("parameter", "factors").weight("weight", &weight).finish()?;
        if rows {
            let scaled = part("mul", "scaled").inputs([node.outputs[0], factors]).node()?;
            model.replace_uses(node.outputs[0], scaled.outputs[0], &[scaled.id])?;
        } else {
            let scaled = part("mul", "scaled").inputs([node.spec.inputs[0], factors]).finish()?;
            let again = model.node_again(&node, "of-scaled").inputs([scaled]).finish()?;
            model.replace_uses(node.outputs[0], again, &[])?;
        }
    }
    Ok(Factors { matrix, weight, rows })
}

/// Multiplies rows or columns of a matrix, and the bias of rows.
fn take_in(model: &Editor, factors: &Factors, learned: &Tensor) -> Result<(), Error> {
    if !factors.rows {
        return change_rows(model, &factors.matrix.weight, |w| w.binary("mul", learned));
    }
    let column = learned.reshape(&[factors.matrix.rows(), 1])?;
    change_rows_at(model, &factors.matrix.weight, |first, w| w.binary("mul", &column.slice(0, first, w.shape()[0])?))?;
    for node in users(model, &factors.matrix)? {
        if let Some(bias) = node.weight("bias") {
            change(model, bias, |b| b.binary("mul", learned))?;
        }
    }
    Ok(())
}

aehost_sdk::technique!(Ia3);

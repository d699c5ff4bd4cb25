//! Replaces matrices by the product of two thin ones, with the least squared error of their outputs on calibration text
//! (Wang et al.: SVD-LLM, arXiv 2403.07378, section 3.1). With L L' = X'X, the left singular vectors U of W L give the
//! best rank-k matrix U (U' W); they are the principal directions of the outputs, whose Gram matrix is W X'X W'.

mod ranks;

use aehost_sdk::technique::*;
use ranks::Spectrum;
use std::collections::BTreeMap;

/// Calibration tokens behind the Gram matrices.
const TOKENS: u32 = 4096;

struct LowRank;

impl Technique for LowRank {
    fn describe() -> Description {
        let summary = "Replaces matrices by two thin factors, by the singular values of their outputs.";
        // After what changes the matrices' sides.
        Description::new(identity!("low-rank", summary, "arXiv:2403.07378"), Stage::Architecture).order(4)
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let matrices = matrices(model)?;
        let has = |group: Group| matrices.iter().any(|m| m.group == group && is_factorable(m));
        let targets: Vec<&str> = match (has(Group::FeedForward), has(Group::Attention)) {
            (true, true) => vec!["feed-forward", "attention", "both"],
            (true, false) => vec!["feed-forward"],
            (false, true) => vec!["attention"],
            (false, false) => return Err(Error::not_applicable(NONE)),
        };
        let spread = "Ranks of one share for all matrices, or by the energy that they keep.";
        Ok(vec![
            real("keep", "Share of the matrices' numbers that is kept.", 0.3..=0.9).default(0.8).into(),
            choice("targets", "What is factored.", targets).into(),
            choice("allocation", spread, ["uniform", "energy"]).into(),
            flag("whiten", "Weigh errors by the inputs on calibration text.").default(true).into(),
        ])
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let (keep, whiten) = (settings.real("keep")?, settings.flag("whiten")?);
        let chosen = settings.text("targets")?;
        let targets: Vec<Matrix> = layer_matrices(model)?
            .into_iter()
            .filter(|m| is_factorable(m) && (chosen == "both" || chosen == m.group.name()))
            .collect();
        if targets.is_empty() {
            return Err(Error::not_applicable(NONE));
        }
        log::progress(0.0, "collecting Gram matrices");
        let grams = if whiten { collect(model, &targets)? } else { BTreeMap::new() };
        let progress = |i: usize| log::progress(i as f64 / targets.len() as f64, "factoring matrices");
        let decompose = |i: usize| {
            progress(i);
            let directions = directions(model, &targets[i], &grams);
            directions.map_err(|e| e.within(format!("weight `{}` cannot be factored", targets[i].weight)))
        };
        let mut known: Vec<Option<Tensor>> = targets.iter().map(|_| None).collect();
        let ranks = if settings.text("allocation")? == "uniform" {
            targets.iter().map(|m| ranks::uniform(m.rows(), m.columns(), keep)).collect()
        } else {
            let mut spectra = Vec::new();
            for (i, m) in targets.iter().enumerate() {
                let (vectors, energy) = decompose(i)?;
                known[i] = Some(vectors);
                spectra.push(Spectrum { rows: m.rows(), columns: m.columns(), energy });
            }
            ranks::by_energy(&spectra, keep)
        };
        for (i, rank) in ranks.iter().enumerate() {
            let Some(rank) = rank else { continue };
            let vectors = known[i].take().map_or_else(|| Ok(decompose(i)?.0), Ok)?;
            factor(model, &targets[i], &vectors, *rank)?;
        }
        model.check()?;
        let numbers = |m: &Matrix| f64::from(m.rows()) * f64::from(m.columns());
        let kept = |(m, rank): (&Matrix, &Option<u32>)| match rank {
            Some(rank) => f64::from(*rank) * f64::from(m.rows() + m.columns()),
            None => numbers(m),
        };
        let kept: f64 = targets.iter().zip(&ranks).map(kept).sum();
        let share = kept / targets.iter().map(numbers).sum::<f64>();
        aehost_sdk::info!("{} of the numbers are kept", (share * 1000.0).round() / 1000.0);
        Ok(())
    }
}

const NONE: &str = "no layer has a matrix of its own to factor: experts are kept as they are";

/// Of one matrix, and multiplied with a value.
fn is_factorable(matrix: &Matrix) -> bool {
    matrix.shape.len() == 2 && matrix.input.is_some()
}

/// The value at which a matrix's Gram matrix is taken: its output where that is not wider than its input, and is all its.
fn observed(model: &Editor, matrix: &Matrix) -> Result<Option<ValueId>, Error> {
    let users = users(model, matrix)?;
    let output = users.first().filter(|node| node.weight("bias").is_none()).map(|node| node.outputs[0]);
    Ok(if matrix.rows() <= matrix.columns() { output.or(matrix.input) } else { matrix.input })
}

fn collect(model: &Editor, targets: &[Matrix]) -> Result<BTreeMap<ValueId, Tensor>, Error> {
    let values = targets.iter().map(|m| observed(model, m)).collect::<Result<Vec<_>, _>>()?;
    collect_each(model, "gram", values.into_iter().flatten(), TOKENS)
}

/// The principal directions of a matrix's outputs, in columns by descending energy, and their energies.
fn directions(model: &Editor, matrix: &Matrix, grams: &BTreeMap<ValueId, Tensor>) -> Result<(Tensor, Vec<f32>), Error> {
    let at = observed(model, matrix)?;
    let gram = at.and_then(|value| grams.get(&value));
    let numbers = read(model, &matrix.weight)?;
    if let Some(gram) = gram.filter(|_| at != matrix.input) {
        let (energy, vectors) = gram.principal()?;
        return Ok((vectors, energy));
    }
    let singular = || format!("the inputs of weight `{}` are all 0 on calibration text", matrix.weight);
    let root = gram.map(|gram| gram.damped_cholesky().map_err(|e| e.within(singular()))).transpose()?;
    let weighted = root.map_or_else(|| numbers.affine(1.0, 0.0), |root| numbers.matmul(&root))?;
    // The smaller side decides what the decomposition costs; the larger side's vectors follow from it.
    if matrix.rows() <= matrix.columns() {
        let (energy, vectors) = weighted.matmul(&weighted.transpose(&[])?)?.principal()?;
        return Ok((vectors, energy));
    }
    let (energy, vectors) = weighted.transpose(&[])?.matmul(&weighted)?.principal()?;
    let left = weighted.matmul(&vectors)?;
    let lengths = left.reduce("norm", &[0], true)?.clamp(1e-20, f64::from(f32::MAX))?;
    Ok((left.binary("div", &lengths)?, energy))
}

/// Two linears for one, wherever the matrix is used; both have its role.
fn factor(model: &Editor, matrix: &Matrix, directions: &Tensor, rank: u32) -> Result<(), Error> {
    let numbers = read(model, &matrix.weight)?;
    let up = directions.slice(1, 0, rank)?;
    let down = up.transpose(&[])?.matmul(&numbers)?;
    let name = |part: &str| format!("{}.{part}", matrix.weight);
    let dtype = model.dtype_of(&matrix.weight)?;
    weights::put(model, &name("down"), &down, &dtype)?;
    weights::put(model, &name("up"), &up, &dtype)?;
    for node in users(model, matrix)? {
        let first = model.node_beside(&node, "linear", &format!("{}.down", node.spec.name), &node.spec.role);
        let first = first.inputs([node.spec.inputs[0]]).weight("weight", &name("down")).finish()?;
        // The bias is the second's.
        let second = model.node_again(&node, "up").inputs([first]).weight("weight", &name("up")).finish()?;
        model.replace_uses(node.outputs[0], second, &[])?;
    }
    Ok(())
}

aehost_sdk::technique!(LowRank);

//! Stores weights as codes of 4 bits that a table of 16 integers gives numbers: that of NF4 (Dettmers et al., arXiv:2305.14314,
//! section 3), or one that is learned for each matrix by k-means weighted by how much outputs depend on each column (Kim et al.:
//! SqueezeLLM, arXiv:2306.07629, section 4.1, here with the second moment of inputs for the sensitivity).

mod scales;
mod table;

use aehost_sdk::technique::*;
use std::collections::BTreeMap;
use table::{Histogram, REACH, Table};

/// Calibration tokens behind the importance of columns.
const TOKENS: u32 = 2048;
/// Numbers of a matrix that a table is learned on, at most by this factor more: rows at equal distances.
const SAMPLE: usize = 1 << 18;
/// Times that scales are chosen for the table, and the table for the scales.
const ROUNDS: usize = 3;

struct Codebook;

impl Technique for Codebook {
    fn describe() -> Description {
        let summary = "Stores weights in codes of 4 bits with a table of their numbers, that of NF4 or a learned one.";
        Description::new(identity!("codebook", summary, "arXiv:2306.07629"), Stage::Inference)
            .order(10)
            .provides("quantised-weights")
    }

    fn parameters(model: &Model, _: &Facts) -> Result<Vec<Parameter>, Error> {
        let mut parameters = quantiser::parameters(model, &[4])?;
        // Codes have 4 bits, and tables no minimum.
        parameters.retain(|parameter| !["bits", "symmetric"].contains(&parameter.name.as_str()));
        let summary = "Weigh errors by the input's second moment on calibration text.";
        parameters.extend([
            choice("table", "The numbers of codes: learned for each matrix, or NF4's.", ["learned", "nf4"]).into(),
            flag("importance", summary).default(true).into(),
        ]);
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let form = Affine { bits: 4, group: settings.integer("group")? as usize, symmetric: true };
        let learned = settings.text("table")? == "learned";
        let targets = quantiser::targets(model, &form)?;
        let importances = match settings.flag("importance")? {
            true => collect_each(model, "second-moment", targets.iter().filter_map(|(m, _)| m.input), TOKENS)?,
            false => BTreeMap::new(),
        };
        for (done, (matrix, form)) in targets.iter().enumerate() {
            log::progress(done as f64 / targets.len() as f64, "finding tables and scales");
            let importance = matrix.input.and_then(|input| importances.get(&input));
            if learned {
                let weights = match importance {
                    Some(importance) => importance.to_f32()?,
                    None => vec![1.0; matrix.columns() as usize],
                };
                encode(model, matrix, form.group, &weights)?;
            } else {
                let form = Representation::codebook(form.group as i64, None);
                weights::encode(model, &matrix.weight, &form, importance)?;
            }
        }
        quantiser::round_outer(model, settings)
    }
}

/// Stores a matrix with a table of its own; `weights` of its columns' squared errors.
fn encode(model: &Editor, matrix: &Matrix, group: usize, weights: &[f32]) -> Result<(), Error> {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let step = (rows as usize * columns as usize).div_ceil(SAMPLE) as u32;
    let sampled: Vec<u32> = (0..rows).step_by(step.max(1) as usize).collect();
    let sample = read(model, &matrix.weight)?.take(0, &sampled)?.to_f32()?;
    let table = learn(&sample, weights, group);
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    each_stretch(model, matrix, |numbers| {
        let mut part = Vec::with_capacity(numbers.len() / group);
        let mut coded = Vec::with_capacity(numbers.len());
        for (numbers, weights) in groups(numbers, weights, group) {
            let scale = scales::search(numbers, weights, &table);
            let inverse = scales::inverse(scale);
            coded.extend(numbers.iter().map(|x| table.code(x * inverse)));
            part.push(scale);
        }
        let rows = (numbers.len() / columns as usize) as u32;
        codes.push(Tensor::from_bytes(&[rows, columns], "uint8", &coded)?);
        scales.push(Tensor::from_f32(&[rows, columns / group as u32], &part)?);
        Ok(())
    })?;
    let [codes, scales] = [codes, scales].map(|parts| Tensor::concat(0, &parts.iter().collect::<Vec<_>>()));
    let (codes, scales) = (codes?, scales?);
    let parts = [("codes", &codes), ("scales", &scales)].map(|(name, value)| Part { name: name.into(), value });
    let form = Representation::codebook(group as i64, Some(table.numbers));
    weights::store(model, &matrix.weight, &matrix.shape, &form, &parts)
}

/// Groups of rows of numbers with the weights of their columns.
fn groups<'a>(numbers: &'a [f32], weights: &'a [f32], group: usize) -> impl Iterator<Item = (&'a [f32], &'a [f32])> {
    numbers.chunks_exact(group).zip(weights.chunks_exact(group).cycle())
}

/// Begins with the largest number of each group at the end of the table; then scales and table take turns.
fn learn(numbers: &[f32], weights: &[f32], group: usize) -> Table {
    let mut table: Option<Table> = None;
    for _ in 0..=ROUNDS {
        let mut histogram = Histogram::new();
        for (numbers, weights) in groups(numbers, weights, group) {
            let scale = match &table {
                Some(table) => scales::search(numbers, weights, table),
                None => scales::extreme(numbers) / REACH as f32,
            };
            let inverse = scales::inverse(scale);
            numbers.iter().zip(weights).for_each(|(x, w)| histogram.add(x * inverse, w * scale * scale));
        }
        table = Some(Table::new(histogram.best()));
    }
    table.unwrap_or_else(|| Table::new(Histogram::new().best()))
}

aehost_sdk::technique!(Codebook);

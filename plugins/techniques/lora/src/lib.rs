//! Trains a thin pair of matrices beside each matrix of the layers, and adds it to them (LoRA, Hu et al., arXiv:2106.09685). Its
//! kin are settings: a scale that stays right for large ranks (rsLoRA, arXiv:2312.03732), a faster second matrix (LoRA+,
//! arXiv:2402.12354), and a beginning at the matrix's own largest directions (PiSSA, arXiv:2404.02948).

use aehost_sdk::Random;
use aehost_sdk::technique::*;

struct Lora;

impl Technique for Lora {
    fn describe() -> Description {
        let summary = "Trains low-rank adapters of the layers' matrices on the study's training data.";
        Description::new(identity!("lora", summary, "arXiv:2106.09685"), Stage::FineTuning)
    }

    fn parameters(model: &Model, facts: &Facts) -> Result<Vec<Parameter>, Error> {
        let schedule = FineTuning::parameters(facts, 5e-4)?;
        let has = |group: Group| Ok::<_, Error>(matrices(model)?.iter().any(|m| m.group == group && is_adaptable(m)));
        let targets: Vec<&str> = match (has(Group::FeedForward)?, has(Group::Attention)?) {
            (true, true) => vec!["both", "attention", "feed-forward"],
            (true, false) => vec!["feed-forward"],
            (false, true) => vec!["attention"],
            (false, false) => return Err(Error::not_applicable(NONE)),
        };
        let largest = matrices(model)?.iter().filter(|m| is_adaptable(m)).map(|m| m.rows().min(m.columns())).min();
        let ranks = 1..=i64::from(largest.unwrap_or(1).min(256));
        let rank = (*ranks.end()).min(8);
        let mut parameters: Vec<Parameter> = vec![
            integer("rank", "Rows of the first matrix, columns of the second.", ranks).log().default(rank).into(),
            real("alpha", "Weight of an adapter, before it is divided by the rank.", 1.0..=512.0)
                .log()
                .default(16.0)
                .into(),
            choice("scaling", "By what alpha is divided.", ["rank", "root-of-rank"]).into(),
            choice("targets", "What gets adapters.", targets).into(),
            choice("initial", "Nothing, or the matrix's largest directions.", ["zero", "principal"]).into(),
            real("up-rate", "Learning rate of the second matrix over that of the first.", 1.0..=32.0)
                .log()
                .default(1.0)
                .into(),
            flag("merge", "Add adapters to their matrices in the end, which makes them cost nothing.")
                .default(true)
                .into(),
        ];
        parameters.extend(schedule);
        Ok(parameters)
    }

    fn apply(model: &Editor, _: &Facts, settings: &Settings) -> Result<(), Error> {
        let chosen = settings.text("targets")?;
        let targets: Vec<Matrix> = layer_matrices(model)?
            .into_iter()
            .filter(|m| is_adaptable(m) && (chosen == "both" || chosen == m.group.name()))
            .collect();
        if targets.is_empty() {
            return Err(Error::not_applicable(NONE));
        }
        let rank = settings.integer("rank")? as u32;
        let over = if settings.text("scaling")? == "rank" { f64::from(rank) } else { f64::from(rank).sqrt() };
        let scale = settings.real("alpha")? / over;
        let principal = settings.text("initial")? == "principal";
        let mut random = Random::new(SEED);
        let mut adapters = Vec::new();
        for (i, matrix) in targets.iter().enumerate() {
            log::progress(i as f64 / targets.len() as f64, "inserting adapters");
            let [down, up] = if principal {
                take_principal(model, matrix, rank, scale)?
            } else {
                [spread(&mut random, rank, matrix.columns())?, Tensor::full(&[matrix.rows(), rank], "float32", 0.0)?]
            };
            adapters.push(Adapter::insert(model, matrix, &down, &up, scale)?);
        }
        let rate = settings.real("up-rate")?;
        let both = |adapter: &Adapter| {
            [(&adapter.down, 1.0), (&adapter.up, rate)].map(|(w, rate)| Trainable { weight: w.clone(), rate })
        };
        let trainable: Vec<Trainable> = adapters.iter().flat_map(both).collect();
        FineTuning::train(model, &trainable, &FineTuning::settings(settings, &[])?)?;
        if settings.flag("merge")? {
            log::progress(1.0, "adding adapters to their matrices");
            adapters.into_iter().try_for_each(|adapter| adapter.merge(model))?;
        }
        model.check()
    }
}

const NONE: &str = "no layer has a matrix of its own to adapt: experts are kept as they are";
const SEED: u64 = 0;

/// Of one matrix, and multiplied with a value.
fn is_adaptable(matrix: &Matrix) -> bool {
    matrix.shape.len() == 2 && matrix.input.is_some()
}

/// The first matrix of an adapter that does nothing yet: uniform, of the variance that keeps products' sizes.
fn spread(random: &mut Random, rank: u32, columns: u32) -> Result<Tensor, Error> {
    let bound = 1.0 / f64::from(columns).sqrt();
    let numbers: Vec<f32> = (0..rank * columns).map(|_| ((2.0 * random.unit() - 1.0) * bound) as f32).collect();
    Tensor::from_f32(&[rank, columns], &numbers)
}

/// Takes the largest directions out of a matrix, and gives them as an adapter.
fn take_principal(model: &Editor, matrix: &Matrix, rank: u32, scale: f64) -> Result<[Tensor; 2], Error> {
    let numbers = read(model, &matrix.weight)?;
    let (left, sizes, right) = numbers.svd(Some(rank))?;
    let roots = sizes.affine(1.0 / scale, 0.0)?.unary("sqrt")?;
    let up = left.binary("mul", &roots)?;
    let down = right.binary("mul", &roots.reshape(&[rank, 1])?)?;
    let rest = numbers.binary("sub", &up.matmul(&down)?.affine(scale, 0.0)?)?;
    weights::put(model, &matrix.weight, &rest, &model.dtype_of(&matrix.weight)?)?;
    Ok([down, up])
}

aehost_sdk::technique!(Lora);

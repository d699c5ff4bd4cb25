//! What techniques that train low-rank adapters let a user choose.

use super::adapter::Adapter;
use super::{
    Editor, Error, FineTuning, Group, Matrix, Model, Parameter, Settings, Tensor, Trainable, choice, flag, integer,
    log, matrices, real, weights,
};
use crate::Random;

/// What techniques that train adapters let a user choose, alike for all of them.
pub struct AdapterForm {
    /// Rows of the first matrix, columns of the second.
    pub(super) rank: u32,
    /// What an adapter's output is multiplied by.
    pub(super) scale: f64,
    /// Learning rate of the second matrix over that of the first (LoRA+, arXiv:2402.12354).
    up_rate: f64,
    /// The group of matrices that gets adapters; all where it is `both`.
    targets: String,
    /// Whether each row's norm is trained apart from its direction (DoRA, arXiv:2402.09353).
    pub(super) magnitude: bool,
    /// Share of the numbers that an adapter does not see in an update.
    pub(super) dropout: f64,
}

const NONE: &str = "no layer has a matrix of its own to adapt: experts are kept as they are";

/// Of one matrix, and multiplied with a value.
fn is_adaptable(matrix: &Matrix) -> bool {
    matrix.group.in_layers() && matrix.shape.len() == 2 && matrix.input.is_some()
}

impl AdapterForm {
    /// The parameters.
    ///
    /// # Errors
    /// not-applicable where no matrix can get an adapter.
    pub fn parameters(model: &Model) -> Result<Vec<Parameter>, Error> {
        let adaptable: Vec<Matrix> = matrices(model)?.into_iter().filter(is_adaptable).collect();
        let has = |group: Group| adaptable.iter().any(|matrix| matrix.group == group);
        let targets: &[&str] = match (has(Group::FeedForward), has(Group::Attention)) {
            (true, true) => &["both", "attention", "feed-forward"],
            (true, false) => &["feed-forward"],
            (false, true) => &["attention"],
            (false, false) => return Err(Error::not_applicable(NONE)),
        };
        let smallest = adaptable.iter().map(|matrix| matrix.rows().min(matrix.columns())).min().unwrap_or(1);
        let most = i64::from(smallest.min(256));
        Ok(vec![
            integer("rank", "Rows of an adapter's first matrix.", 1..=most).log().default(most.min(8)).into(),
            real("alpha", "Weight of an adapter, before it is divided.", 1.0..=512.0).log().default(16.0).into(),
            choice("scaling", "What alpha is divided by.", ["rank", "root-of-rank"]).into(),
            choice("targets", "What gets adapters.", targets.iter().copied()).into(),
            real("up-rate", "Learning rate of the second matrix over that of the first.", 1.0..=32.0)
                .log()
                .default(1.0)
                .into(),
            flag("magnitude", "Train the norm of each row apart from its direction (DoRA).").into(),
            real("dropout", "Share of the numbers that an adapter does not see in an update.", 0.0..=0.5)
                .default(0.0)
                .into(),
        ])
    }

    /// What was chosen.
    ///
    /// # Errors
    /// invalid-input where a setting is missing.
    pub fn of(settings: &Settings) -> Result<Self, Error> {
        let rank = settings.integer("rank")? as u32;
        // Divided by the root, it stays right for large ranks (rsLoRA, arXiv:2312.03732).
        let over = if settings.text("scaling")? == "rank" { f64::from(rank) } else { f64::from(rank).sqrt() };
        Ok(Self {
            rank,
            scale: settings.real("alpha")? / over,
            up_rate: settings.real("up-rate")?,
            targets: settings.text("targets")?.to_owned(),
            magnitude: settings.flag("magnitude")?,
            dropout: settings.real("dropout")?,
        })
    }

    /// The matrices that get adapters.
    ///
    /// # Errors
    /// not-applicable where there are none, as an earlier technique left it, or where one has fewer rows or columns than the rank.
    pub fn targets(&self, model: &Editor) -> Result<Vec<Matrix>, Error> {
        let chosen = |m: &Matrix| is_adaptable(m) && (self.targets == "both" || self.targets == m.group.name());
        let targets: Vec<Matrix> = matrices(&model.model())?.into_iter().filter(chosen).collect();
        if let Some(small) = targets.iter().find(|matrix| matrix.rows().min(matrix.columns()) < self.rank) {
            let (weight, rows, columns, rank) = (&small.weight, small.rows(), small.columns(), self.rank);
            let message = format!("weight `{weight}` of {rows} x {columns} has no room for an adapter of rank {rank}");
            return Err(Error::not_applicable(message));
        }
        if targets.is_empty() { Err(Error::not_applicable(NONE)) } else { Ok(targets) }
    }

    /// The two matrices of an adapter that does nothing yet; the first is uniform, of the variance that keeps products' sizes.
    ///
    /// # Errors
    /// Those of the host.
    pub fn blank(&self, matrix: &Matrix, random: &mut Random) -> Result<[Tensor; 2], Error> {
        let (rank, columns) = (self.rank, matrix.columns());
        let bound = 1.0 / f64::from(columns).sqrt();
        let numbers: Vec<f32> = (0..rank * columns).map(|_| ((2.0 * random.unit() - 1.0) * bound) as f32).collect();
        let up = Tensor::full(&[matrix.rows(), rank], "float32", 0.0)?;
        Ok([Tensor::from_f32(&[rank, columns], &numbers)?, up])
    }

    /// The two matrices of an adapter that comes nearest to `numbers`, by its largest directions (PiSSA, arXiv:2404.02948,
    /// section 3).
    ///
    /// # Errors
    /// Those of the host.
    pub fn principal(&self, numbers: &Tensor) -> Result<[Tensor; 2], Error> {
        let (left, sizes, right) = numbers.svd(Some(self.rank))?;
        let roots = sizes.affine(1.0 / self.scale, 0.0)?.unary("sqrt")?;
        let up = left.binary("mul", &roots)?;
        Ok([right.binary("mul", &roots.reshape(&[self.rank, 1])?)?, up])
    }

    /// What such an adapter adds to its matrix.
    ///
    /// # Errors
    /// Those of the host.
    pub fn product(&self, [down, up]: &[Tensor; 2]) -> Result<Tensor, Error> {
        up.matmul(down)?.affine(self.scale, 0.0)
    }

    /// Trains adapters, and adds them to their matrices or leaves them beside these.
    ///
    /// # Errors
    /// Those of the host.
    pub fn train(&self, model: &Editor, adapters: Vec<Adapter>, settings: &Settings, merge: bool) -> Result<(), Error> {
        let before = model.fork();
        let inserted = adapters.iter().map(|adapter| adapter.insert_to_train(model, self));
        let inserted = inserted.collect::<Result<Vec<_>, _>>()?;
        let trainable = inserted.iter().flat_map(|weights| {
            let parts = [(Some(&weights.down), 1.0), (Some(&weights.up), self.up_rate), (weights.rows.as_ref(), 1.0)];
            parts.into_iter().filter_map(|(weight, rate)| Some(Trainable { weight: weight?.clone(), rate }))
        });
        let trainable: Vec<Trainable> = trainable.collect();
        FineTuning::train(model, &trainable, &FineTuning::settings(settings, &[])?)?;
        let trained = model.model();
        // What was there for training alone goes.
        model.adopt(before)?;
        for (i, (adapter, weights)) in adapters.into_iter().zip(&inserted).enumerate() {
            let get = |name: &str| weights::get(&trained, name, None);
            let adapter = Adapter { down: get(&weights.down)?, up: get(&weights.up)?, ..adapter };
            let rows = match &weights.rows {
                Some(magnitude) => Some(get(magnitude)?.binary("div", &adapter.norms(model, self.scale)?)?),
                None => None,
            };
            if merge {
                log::progress(i as f64 / inserted.len() as f64, "adding adapters to their matrices");
                adapter.merge(model, self.scale, rows.as_ref())?;
            } else {
                adapter.insert(model, self.scale, rows.as_ref())?;
            }
        }
        model.check()
    }
}

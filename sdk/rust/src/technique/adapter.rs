//! Low-rank adapters (LoRA, Hu et al., arXiv:2106.09685): beside y = W x stands a thin pair of matrices, y + scale up (down x).

use super::{
    Editor, Error, FineTuning, Group, Matrix, Model, Node, NodeId, Parameter, Settings, Tensor, Trainable, ValueId,
    change_rows_at, choice, integer, matrices, real, weights,
};
use crate::Random;

/// An adapter of one matrix, wherever that is used.
pub struct Adapter {
    /// The matrix.
    pub matrix: Matrix,
    /// The name of the weight `[rank, columns]`.
    pub down: String,
    /// The name of the weight `[rows, rank]`.
    pub up: String,
    scale: f64,
    /// What each user of the matrix makes, and the sum that stands in its place.
    sums: Vec<(ValueId, ValueId, [NodeId; 4])>,
}

impl Adapter {
    /// Puts one beside each linear map that the matrix makes; `down` is `[rank, columns]`, `up` `[rows, rank]`.
    ///
    /// # Errors
    /// Those of the host.
    pub fn insert(model: &Editor, matrix: &Matrix, down: &Tensor, up: &Tensor, scale: f64) -> Result<Self, Error> {
        let name = |part: &str| format!("{}.adapter.{part}", matrix.weight);
        let mut adapter = Self { matrix: matrix.clone(), down: name("down"), up: name("up"), scale, sums: Vec::new() };
        weights::put(model, &adapter.down, down, "float32")?;
        weights::put(model, &adapter.up, up, "float32")?;
        for node in users(model, matrix)? {
            let part = |op: &str, part: &str| {
                model.node_beside(&node, op, &format!("{}.adapter.{part}", node.spec.name), "adapter")
            };
            let made = node.outputs[0];
            let down = part("linear", "down").inputs([node.spec.inputs[0]]).weight("weight", &adapter.down).node()?;
            let scaled = part("scale", "scale").attribute("factor", scale).inputs([down.outputs[0]]).node()?;
            let up = part("linear", "up").inputs([scaled.outputs[0]]).weight("weight", &adapter.up).node()?;
            let sum = part("add", "sum").inputs([made, up.outputs[0]]).node()?;
            model.replace_uses(made, sum.outputs[0], &[sum.id])?;
            adapter.sums.push((made, sum.outputs[0], [sum.id, up.id, scaled.id, down.id]));
        }
        Ok(adapter)
    }

    /// Adds the adapter to its matrix, and takes its nodes away. The matrix is of plain numbers afterwards.
    ///
    /// # Errors
    /// Those of the host.
    pub fn merge(self, model: &Editor) -> Result<(), Error> {
        for (made, sum, nodes) in &self.sums {
            model.replace_uses(*sum, *made, &[nodes[0]])?;
            nodes.iter().try_for_each(|node| model.remove(*node))?;
        }
        let down = weights::get(&model.model(), &self.down, None)?.affine(self.scale, 0.0)?;
        let up = weights::get(&model.model(), &self.up, None)?;
        change_rows_at(model, &self.matrix.weight, |first, w| {
            w.binary("add", &up.slice(0, first, w.shape()[0])?.matmul(&down)?)
        })
    }
}

/// What techniques that train adapters let a user choose, alike for all of them.
pub struct AdapterForm {
    /// Rows of the first matrix, columns of the second.
    pub rank: u32,
    /// What an adapter's output is multiplied by.
    pub scale: f64,
    /// Learning rate of the second matrix over that of the first (LoRA+, arXiv:2402.12354).
    up_rate: f64,
    /// The group of matrices that gets adapters; all where it is `both`.
    targets: String,
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

    /// Trains adapters.
    ///
    /// # Errors
    /// Those of the host.
    pub fn train(&self, model: &Editor, adapters: &[Adapter], settings: &Settings) -> Result<(), Error> {
        let both = |adapter: &Adapter| {
            let parts = [(&adapter.down, 1.0), (&adapter.up, self.up_rate)];
            parts.map(|(weight, rate)| Trainable { weight: weight.clone(), rate })
        };
        let trainable: Vec<Trainable> = adapters.iter().flat_map(both).collect();
        FineTuning::train(model, &trainable, &FineTuning::settings(settings, &[])?)
    }
}

/// The linear maps that a matrix makes.
///
/// # Errors
/// Those of the host.
pub fn users(model: &Editor, matrix: &Matrix) -> Result<Vec<Node>, Error> {
    let model = model.model();
    let nodes = model.users(&matrix.weight).into_iter().map(|id| model.node(id)).collect::<Result<Vec<_>, _>>()?;
    Ok(nodes.into_iter().filter(|node| node.spec.op == "linear").collect())
}

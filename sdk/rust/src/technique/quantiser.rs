//! What quantisers to affine groups let a user choose, alike for all of them: the form of the layers' matrices, and how
//! many bits the embedding and the head get, which are rounded to nearest.

use super::{Affine, Editor, Error, Group, Matrix, Model, Representation, matrices, weights};
use crate::{Parameter, Settings, choice, flag};
use aehost_numerics::GROUPS;

/// The form of the embedding and of the head.
const OUTER_GROUP: i64 = 32;
/// The choice that leaves embedding and head as they are.
const KEEP: &str = "keep";

/// The parameters `bits` (of those offered, the first is the default), `group`, `symmetric` and `embedding`.
///
/// # Errors
/// not-applicable where no group size divides the columns of every matrix of the layers; the message names the matrix.
#[inline(never)]
pub fn parameters(model: &Model, bits: &[i64]) -> Result<Vec<Parameter>, Error> {
    let matrices = matrices(model)?;
    let sizes = group_sizes(&matrices)?;
    let mut parameters = vec![
        choice("bits", "Bits of a code of the layers' matrices.", bits.iter().copied()).into(),
        // 64 costs half a bit a weight with a minimum; smaller groups are nearer, larger ones smaller.
        choice("group", "Columns that share a scale.", sizes.clone())
            .ordered()
            .default(if sizes.contains(&64) { 64 } else { sizes[0] })
            .into(),
        flag("symmetric", "Leave the minimum out: codes lie evenly around 0.").into(),
    ];
    if matrices.iter().any(|m| outer(m) && i64::from(m.columns()) % OUTER_GROUP == 0) {
        let summary = "Bits of the embedding's and the head's codes, rounded to nearest, without a minimum.";
        parameters.push(choice("embedding", summary, [KEEP, "8", "4"]).ordered().default("8").into());
    }
    Ok(parameters)
}

fn outer(matrix: &Matrix) -> bool {
    matches!(matrix.group, Group::Embedding | Group::Head)
}

/// The group sizes that divide the columns of all matrices of the layers.
fn group_sizes(matrices: &[Matrix]) -> Result<Vec<i64>, Error> {
    let inner = || matrices.iter().filter(|m| m.group.in_layers());
    let Some(first) = inner().next() else {
        return Err(Error::not_applicable("the model has no attention and no feed-forward network"));
    };
    let sizes: Vec<i64> =
        GROUPS.into_iter().filter(|group| inner().all(|m| i64::from(m.columns()) % group == 0)).collect();
    if sizes.is_empty() {
        let odd = inner().find(|m| i64::from(m.columns()) % GROUPS[0] != 0).unwrap_or(first);
        let (weight, columns) = (&odd.weight, odd.columns());
        let message = format!("weight `{weight}` has {columns} columns, which are no multiple of {}", GROUPS[0]);
        return Err(Error::not_applicable(message));
    }
    Ok(sizes)
}

/// How a form is chosen and told.
pub trait AffineForm: Sized {
    /// What was chosen.
    ///
    /// # Errors
    /// invalid-input where a setting is missing.
    fn of(settings: &Settings) -> Result<Self, Error>;

    /// As the host names it.
    fn representation(&self) -> Representation;
}

impl AffineForm for Affine {
    fn of(settings: &Settings) -> Result<Self, Error> {
        let (bits, group) = (settings.integer("bits")?, settings.integer("group")?);
        Ok(Self { bits: bits as u32, group: group as usize, symmetric: settings.flag("symmetric")? })
    }

    fn representation(&self) -> Representation {
        Representation::affine(i64::from(self.bits), self.group as i64, self.symmetric)
    }
}

/// The matrices to be stored in this form, those of the layers, each with the form that its rows have room for.
///
/// # Errors
/// not-applicable where there are none, or one has rows that no group divides, as an earlier technique left it.
#[inline(never)]
pub fn targets(model: &Editor, form: &Affine) -> Result<Vec<(Matrix, Affine)>, Error> {
    let with_form = |matrix: Matrix| match form.dividing(matrix.columns()) {
        Some(form) => Ok((matrix, form)),
        None => {
            let (weight, columns) = (&matrix.weight, matrix.columns());
            let message = format!("weight `{weight}` has {columns} columns, which are no multiple of {}", GROUPS[0]);
            Err(Error::not_applicable(message))
        }
    };
    super::layer_matrices(model)?.into_iter().map(with_form).collect()
}

/// Rounds embedding and head as `embedding` says.
///
/// # Errors
/// Those of the host.
#[inline(never)]
pub fn round_outer(model: &Editor, settings: &Settings) -> Result<(), Error> {
    let Some(bits) = settings.get("embedding").and_then(|v| v.as_text()).and_then(|word| word.parse::<i64>().ok())
    else {
        return Ok(());
    };
    let form = Representation::affine(bits, OUTER_GROUP, true);
    for matrix in matrices(&model.model())?.iter().filter(|m| outer(m) && i64::from(m.columns()) % OUTER_GROUP == 0) {
        weights::encode(model, &matrix.weight, &form, None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(group: Group, columns: u32) -> Matrix {
        let weight = format!("w{columns}");
        Matrix { weight, group, layer: Some(0), role: "up".into(), shape: vec![8, columns], bytes: 0, input: None }
    }

    #[test]
    fn a_group_divides_the_columns_of_every_matrix_of_the_layers() {
        let found = group_sizes(&[matrix(Group::Attention, 576), matrix(Group::FeedForward, 1536)]).unwrap();
        assert_eq!(found, [32, 64]);
        assert_eq!(group_sizes(&[matrix(Group::Embedding, 40), matrix(Group::FeedForward, 128)]).unwrap(), GROUPS);
    }

    #[test]
    fn what_has_no_group_is_named() {
        let error = group_sizes(&[matrix(Group::Attention, 64), matrix(Group::FeedForward, 72)]).unwrap_err();
        assert_eq!(error.code, "not-applicable");
        assert_eq!(error.message, "weight `w72` has 72 columns, which are no multiple of 32");
        assert_eq!(group_sizes(&[matrix(Group::Head, 64)]).unwrap_err().code, "not-applicable");
    }
}

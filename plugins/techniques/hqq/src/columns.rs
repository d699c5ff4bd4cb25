//! How much the error of each column counts, as far as weights alone tell: a column meets inputs of about the size that what
//! makes them gives its channel, by the norm's factor or the length of the matrix's row.

use aehost_sdk::technique::*;

/// No column counts less than this share of the mean: what weights tell is not all.
const LEAST: f32 = 0.05;

/// Expected squares of the inputs of a matrix's columns, 1 in the mean; all 1 where nothing tells them.
pub fn importance(model: &Editor, wiring: Option<&Wiring>, matrix: &Matrix) -> Result<Vec<f32>, Error> {
    let alike = || vec![1.0; matrix.columns() as usize];
    let Some(fold) = wiring.and_then(|wiring| wiring.fold(matrix.input?).ok()) else { return Ok(alike()) };
    let squares = match &fold.maker {
        Maker::Norm { weight, offset, .. } => {
            read(model, weight)?.to_f32()?.iter().map(|factor| (factor + *offset as f32).powi(2)).collect()
        }
        Maker::Linear { weight, .. } => row_squares(model, weight)?,
    };
    let found: Vec<f32> = fold.channels.iter().filter_map(|channel| squares.get(*channel).copied()).collect();
    Ok(if found.len() == matrix.columns() as usize { levelled(found) } else { alike() })
}

/// Squared lengths of a matrix's rows.
fn row_squares(model: &Editor, weight: &str) -> Result<Vec<f32>, Error> {
    read(model, weight)?.unary("square")?.reduce("sum", &[1], false)?.to_f32()
}

fn levelled(squares: Vec<f32>) -> Vec<f32> {
    let mean = squares.iter().sum::<f32>() / squares.len() as f32;
    match mean > 0.0 && mean.is_finite() {
        true => squares.iter().map(|square| (square / mean).max(LEAST)).collect(),
        false => vec![1.0; squares.len()],
    }
}

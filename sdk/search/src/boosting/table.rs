//! Rows by feature, each feature cut into few bins: what trees are grown on.

use crate::rows::{Row, dense};

/// Most bins of a feature.
pub const BINS: usize = 16;

/// One feature of all rows. Most are 0 almost everywhere, so only the other rows are listed.
#[derive(Debug, Clone)]
pub struct Column {
    /// Rows where the feature is not 0, with their bins.
    pub entries: Vec<(u32, u8)>,
    /// The bin of 0.
    pub zero: u8,
    /// Upper bounds of all bins but the last; fewer than [`BINS`].
    pub bounds: Vec<f64>,
}

/// All rows.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<Column>,
    /// Features that take more than one value.
    varied: Vec<usize>,
    rows: Vec<Vec<f64>>,
}

impl Table {
    /// Rows of `width` features.
    pub fn new(rows: &[Row], width: usize) -> Self {
        let mut listed: Vec<Vec<(u32, f64)>> = vec![Vec::new(); width];
        for (row, features) in rows.iter().enumerate() {
            features.iter().filter(|(_, v)| *v != 0.0).for_each(|(f, value)| listed[*f].push((row as u32, *value)));
        }
        let columns: Vec<Column> = listed.iter().map(|entries| column(entries, rows.len())).collect();
        let varied = (0..width).filter(|feature| !columns[*feature].bounds.is_empty()).collect();
        Self { columns, varied, rows: rows.iter().map(|row| dense(row, width)).collect() }
    }

    /// Features of a row.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// A feature.
    pub fn column(&self, feature: usize) -> &Column {
        &self.columns[feature]
    }

    /// Features that tell some rows apart.
    pub fn varied(&self) -> &[usize] {
        &self.varied
    }

    /// All numbers of a row.
    pub fn dense(&self, row: usize) -> &[f64] {
        &self.rows[row]
    }
}

fn column(entries: &[(u32, f64)], rows: usize) -> Column {
    let mut values: Vec<f64> = entries.iter().map(|(_, value)| *value).collect();
    values.resize(rows, 0.0);
    values.sort_by(f64::total_cmp);
    let mut distinct = values.clone();
    distinct.dedup();
    let bounds: Vec<f64> = if distinct.len() <= BINS {
        distinct.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).collect()
    } else {
        // Bins of about as many rows each.
        let cut = |bin: usize| {
            let at = bin * values.len() / BINS;
            0.5 * (values[at - 1] + values[at])
        };
        let mut bounds: Vec<f64> = (1..BINS).map(cut).collect();
        bounds.dedup();
        bounds
    };
    let bin = |value: f64| bounds.partition_point(|bound| *bound < value) as u8;
    Column { entries: entries.iter().map(|(row, value)| (*row, bin(*value))).collect(), zero: bin(0.0), bounds }
}

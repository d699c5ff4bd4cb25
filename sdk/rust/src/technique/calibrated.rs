//! Statistics on calibration text, by the value at which they were taken.

use super::{Editor, Error, Tensor, ValueId, Wanted, calibration};
use crate::setting;
use std::collections::BTreeMap;

impl Wanted {
    /// A statistic of one value.
    pub fn of(statistic: &str, at: ValueId) -> Self {
        Self { statistic: statistic.into(), at, against: None, settings: vec![] }
    }

    /// The value's rows of the first `count` tokens.
    pub fn rows(at: ValueId, count: u32) -> Self {
        Self { settings: vec![setting("count", i64::from(count))], ..Self::of("rows", at) }
    }

    /// The rows in another type, as float16, which takes half the room.
    pub fn kept_as(mut self, dtype: &str) -> Self {
        self.settings.push(setting("dtype", dtype));
        self
    }

    /// The second moments of one value with another.
    pub fn cross(at: ValueId, against: ValueId) -> Self {
        Self { against: Some(against), ..Self::of("cross", at) }
    }
}

/// One statistic of each value, in one pass over the calibration text for all; see the contract's `calibration.wanted`.
///
/// # Errors
/// Those of the host: unsupported, where the study has no calibration text.
pub fn collect_each(
    model: &Editor,
    statistic: &str,
    at: impl IntoIterator<Item = ValueId>,
    tokens: u32,
) -> Result<BTreeMap<ValueId, Tensor>, Error> {
    let mut values: Vec<ValueId> = at.into_iter().collect();
    values.sort_unstable();
    values.dedup();
    if values.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wanted: Vec<Wanted> = values.iter().map(|at| Wanted::of(statistic, *at)).collect();
    let statistics = calibration::collect(model, &wanted, tokens)?;
    Ok(values.into_iter().zip(statistics.values).collect())
}

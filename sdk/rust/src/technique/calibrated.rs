//! Statistics on calibration text, by the value at which they were taken.

use super::{Editor, Error, Tensor, ValueId, Wanted, calibration};
use std::collections::BTreeMap;

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
    let wanted =
        values.iter().map(|at| Wanted { statistic: statistic.into(), at: *at, against: None, settings: vec![] });
    let statistics = calibration::collect(model, &wanted.collect::<Vec<_>>(), tokens)?;
    Ok(values.into_iter().zip(statistics.values).collect())
}

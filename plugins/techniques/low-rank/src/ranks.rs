//! How many dimensions each matrix keeps.

/// A matrix to be factored.
pub struct Spectrum {
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub columns: u32,
    /// Energy of its output's principal directions, descending; what is truncated is the squared error.
    pub energy: Vec<f32>,
}

/// Ranks are a multiple of this, so that groups of a quantiser fit the columns of the second factor.
fn step(rows: u32, columns: u32) -> u32 {
    if rows.min(columns) >= 128 { 64 } else { 32 }
}

/// The rank at which the factors have this share of the matrix's numbers, to the nearest step; none where factors would
/// save nothing.
pub fn uniform(rows: u32, columns: u32, keep: f64) -> Option<u32> {
    let step = step(rows, columns);
    let rank = keep * f64::from(rows) * f64::from(columns) / f64::from(rows + columns);
    saving((((rank / f64::from(step)).round() as u32).max(1)) * step, rows, columns)
}

fn saving(rank: u32, rows: u32, columns: u32) -> Option<u32> {
    let factors = u64::from(rank) * u64::from(rows + columns);
    (factors < u64::from(rows) * u64::from(columns)).then_some(rank)
}

/// Ranks by which all factors together have this share of all matrices' numbers, with the least sum of the matrices'
/// relative errors: steps are taken by their energy for each number that they cost, best first.
pub fn by_energy(spectra: &[Spectrum], keep: f64) -> Vec<Option<u32>> {
    let numbers = |s: &Spectrum| f64::from(s.rows) * f64::from(s.columns);
    let budget = keep * spectra.iter().map(numbers).sum::<f64>();
    // (gain for each number, matrix, cost); every matrix begins with one step.
    let mut steps: Vec<(f64, usize, f64)> = Vec::new();
    let mut spent = 0.0;
    for (i, s) in spectra.iter().enumerate() {
        let step = step(s.rows, s.columns);
        let cost = f64::from(step) * f64::from(s.rows + s.columns);
        let total = s.energy.iter().map(|e| f64::from(*e)).sum::<f64>().max(f64::MIN_POSITIVE);
        let gains = s.energy.chunks(step as usize).map(|c| c.iter().map(|e| f64::from(*e)).sum::<f64>() / total / cost);
        steps.extend(gains.skip(1).map(|gain| (gain, i, cost)));
        spent += cost;
    }
    steps.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut counts = vec![1u32; spectra.len()];
    for (_, i, cost) in steps {
        // A matrix whose factors are as large as itself stays one, and costs no more than that.
        let (s, step) = (&spectra[i], step(spectra[i].rows, spectra[i].columns));
        if saving(counts[i] * step, s.rows, s.columns).is_none() {
            continue;
        }
        let now = f64::from(counts[i]) * cost;
        let cost = (now + cost).min(numbers(s)) - now;
        if spent + cost <= budget {
            spent += cost;
            counts[i] += 1;
        }
    }
    let rank = |(s, count): (&Spectrum, u32)| saving(count * step(s.rows, s.columns), s.rows, s.columns);
    spectra.iter().zip(counts).map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_ranks_keep_the_share_to_the_nearest_step() {
        assert_eq!(uniform(1536, 576, 0.6), Some(256), "251 would be 0.6");
        assert_eq!(uniform(64, 256, 0.9), Some(32));
        assert_eq!(uniform(64, 256, 0.1), Some(32), "one step at least");
        assert_eq!(uniform(192, 576, 0.9), Some(128));
        assert_eq!(uniform(192, 576, 1.0), Some(128));
        assert_eq!(uniform(64, 64, 0.5), None, "the factors would be as large");
    }

    fn spectrum(decay: f32) -> Spectrum {
        Spectrum { rows: 512, columns: 512, energy: (0..512).map(|i| (-decay * i as f32).exp()).collect() }
    }

    #[test]
    fn the_flatter_spectrum_gets_the_higher_rank_within_the_budget() {
        let ranks = by_energy(&[spectrum(0.1), spectrum(0.005)], 0.5);
        let [Some(steep), flat] = ranks[..] else { panic!("{ranks:?}") };
        let numbers = |rank: Option<u32>| rank.map_or(512 * 512, |rank| rank * 1024);
        assert!(steep == 64 && numbers(flat) > numbers(Some(steep)));
        assert!(numbers(Some(steep)) + numbers(flat) <= 512 * 512);
    }

    #[test]
    fn equal_spectra_get_equal_ranks() {
        assert_eq!(by_energy(&[spectrum(0.01), spectrum(0.01)], 0.5), [Some(128), Some(128)]);
        let silent = Spectrum { rows: 128, columns: 128, energy: vec![0.0; 128] };
        assert_eq!(by_energy(&[silent], 0.4), [None], "two steps of 64 are no less than the matrix");
    }

    #[test]
    fn no_other_ranks_within_the_budget_keep_more() {
        let reference: serde_json::Value = serde_json::from_str(include_str!("reference.json")).unwrap();
        let numbers =
            |value: &serde_json::Value| value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let spectra = reference["energies"].as_array().unwrap().iter().map(|energies| {
            let energy: Vec<f64> = numbers(energies);
            Spectrum { rows: 512, columns: 512, energy: energy.into_iter().map(|e| e as f32).collect() }
        });
        // A rank of half the side is the whole matrix.
        let whole = |rank: &f64| (*rank < 256.0).then_some(*rank as u32);
        let expected: Vec<f64> = numbers(&reference["ranks"]);
        assert_eq!(by_energy(&spectra.collect::<Vec<_>>(), 0.5), expected.iter().map(whole).collect::<Vec<_>>());
    }
}

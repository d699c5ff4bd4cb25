//! The multiple-choice knapsack: one candidate of every item, so that sizes fit a budget and costs sum to the least.
//! Exact for sizes of any kind: the Lagrangian relaxation bounds from below what a choice can still become (Sinha and Zoltners
//! 1979; Pisinger 1995), and dynamic programming goes over those alone that may yet be better than the best known.

/// What an item may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// In bytes.
    pub size: u64,
    /// What is to be small, summed over the items; not negative.
    pub cost: f64,
}

/// Halvings of the range in which the multiplier lies.
const HALVINGS: usize = 100;
/// Share of the cost by which sums in another order may differ.
const ROUNDING: f64 = 1e-12;

/// A choice for the first items.
#[derive(Clone, Copy)]
struct State {
    size: u64,
    cost: f64,
    /// Cost and size x multiplier, above the least that its items can have.
    excess: f64,
    /// The state of the items before, and the candidate after it.
    from: (u32, u16),
}

/// The candidate of every item; none where even the smallest do not fit.
pub fn solve(items: &[Vec<Candidate>], budget: u64) -> Option<Vec<usize>> {
    let size = |choice: &[usize]| items.iter().zip(choice).map(|(item, c)| item[*c].size).sum::<u64>();
    let cost = |choice: &[usize]| items.iter().zip(choice).map(|(item, c)| item[*c].cost).sum::<f64>();
    let smallest: Option<Vec<usize>> = items.iter().map(|item| (0..item.len()).min_by_key(|c| item[*c].size)).collect();
    let mut known = smallest.filter(|choice| size(choice) <= budget)?;
    // The least multiplier whose choice fits is the best bound.
    let (mut low, mut high) = (0.0, items.iter().flatten().map(|c| c.cost).sum::<f64>() + 1.0);
    let mut multiplier = high;
    for step in 0..=HALVINGS {
        let tried = if step == 0 { 0.0 } else { 0.5 * (low + high) };
        let choice: Vec<usize> = items.iter().map(|item| relaxed(item, tried)).collect();
        if size(&choice) > budget {
            low = tried;
            continue;
        }
        if cost(&choice) < cost(&known) {
            known = choice;
        }
        (high, multiplier) = (tried, tried);
        if step == 0 {
            break;
        }
    }
    improve(items, budget - size(&known), &mut known);
    let value = |c: &Candidate| c.cost + multiplier * c.size as f64;
    let least: Vec<f64> = items.iter().map(|item| value(&item[relaxed(item, multiplier)])).collect();
    let slack = multiplier * budget as f64;
    let bound = least.iter().sum::<f64>() - slack;
    let gap = cost(&known) - bound + ROUNDING * (cost(&known) + slack);
    let mut levels = vec![vec![State { size: 0, cost: 0.0, excess: 0.0, from: (0, 0) }]];
    for (item, least) in items.iter().zip(&least) {
        let states = levels.last().map_or(&[][..], Vec::as_slice);
        let next = states.iter().zip(0u32..).flat_map(|(state, from)| {
            item.iter().zip(0u16..).map(move |(candidate, c)| State {
                size: state.size + candidate.size,
                cost: state.cost + candidate.cost,
                excess: state.excess + (value(candidate) - least).max(0.0),
                from: (from, c),
            })
        });
        levels.push(undominated(next.filter(|s| s.size <= budget && s.excess <= gap).collect()));
    }
    let best = levels.last()?.iter().zip(0u32..).min_by(|a, b| a.0.cost.total_cmp(&b.0.cost));
    let Some((_, mut at)) = best.filter(|(state, _)| state.cost < cost(&known)) else { return Some(known) };
    for (choice, level) in known.iter_mut().zip(&levels[1..]).rev() {
        let (from, candidate) = level[at as usize].from;
        (*choice, at) = (usize::from(candidate), from);
    }
    Some(known)
}

/// The candidate of least cost and size x multiplier, the smaller of equal ones.
fn relaxed(item: &[Candidate], multiplier: f64) -> usize {
    let value = |c: &usize| item[*c].cost + multiplier * item[*c].size as f64;
    let order = |a: &usize, b: &usize| value(a).total_cmp(&value(b)).then(item[*a].size.cmp(&item[*b].size));
    (0..item.len()).min_by(order).unwrap_or(0)
}

/// Spends what is left, the most of cost for each byte first.
fn improve(items: &[Vec<Candidate>], mut left: u64, choice: &mut [usize]) {
    loop {
        let gains = items.iter().zip(&*choice).enumerate().flat_map(|(i, (item, now))| {
            let now = item[*now];
            item.iter().enumerate().filter_map(move |(c, then)| {
                let more = then.size.saturating_sub(now.size);
                let gain = now.cost - then.cost;
                (gain > 0.0 && more <= left).then_some((gain / (more as f64).max(1e-9), i, c, more))
            })
        });
        let Some((_, i, c, more)) = gains.max_by(|a, b| a.0.total_cmp(&b.0)) else { return };
        choice[i] = c;
        left -= more;
    }
}

/// Those than which no other is both smaller and cheaper, by rising size.
fn undominated(mut states: Vec<State>) -> Vec<State> {
    states.sort_by(|a, b| a.size.cmp(&b.size).then(a.cost.total_cmp(&b.cost)));
    let mut least = f64::INFINITY;
    states.retain(|state| {
        state.cost < least && {
            least = state.cost;
            true
        }
    });
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, in [0, 1).
    fn sequence(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / f64::from(1u32 << 31)
        }
    }

    fn brute_force(items: &[Vec<Candidate>], budget: u64) -> Option<f64> {
        let Some((item, rest)) = items.split_first() else { return Some(0.0) };
        let fitting = item.iter().filter(|c| c.size <= budget);
        fitting.filter_map(|c| Some(c.cost + brute_force(rest, budget - c.size)?)).min_by(f64::total_cmp)
    }

    #[test]
    fn no_choice_that_fits_costs_less() {
        let mut next = sequence(7);
        for round in 0..300 {
            let items: Vec<Vec<Candidate>> = (0..7)
                .map(|_| {
                    let scale = (next() * 40.0) as u64 + 1;
                    // Few sizes and many ones, costs that fall with size and ones that do not.
                    let cost = |size: u64, u: f64| if round % 2 == 0 { u / size as f64 } else { u };
                    (2..6)
                        .map(|bits| (bits * scale, next()))
                        .map(|(size, u)| Candidate { size, cost: cost(size, u) })
                        .collect()
                })
                .collect();
            let total: u64 = items.iter().map(|item| item[3].size).sum();
            let budget = (next() * total as f64) as u64;
            let found = solve(&items, budget);
            let Some(expected) = brute_force(&items, budget) else {
                assert_eq!(found, None, "nothing fits {budget}");
                continue;
            };
            let found = found.unwrap();
            let sum = |of: fn(&Candidate) -> f64| items.iter().zip(&found).map(|(item, c)| of(&item[*c])).sum::<f64>();
            assert!(sum(|c| c.size as f64) <= budget as f64);
            assert!((sum(|c| c.cost) - expected).abs() < 1e-9, "{items:?} {budget}: {found:?} is not {expected}");
        }
    }

    #[test]
    fn many_items_of_few_sizes_are_solved() {
        let mut next = sequence(3);
        let items: Vec<Vec<Candidate>> = (0..800)
            .map(|_| {
                let (size, cost) = ([3u64, 8, 24][(next() * 3.0) as usize], next().powi(4));
                [5u64, 7, 9, 17]
                    .map(|bits| Candidate { size: size * bits, cost: cost * 0.25f64.powi(bits as i32) })
                    .into()
            })
            .collect();
        let all = |c: usize| items.iter().map(|item| item[c].size).sum::<u64>();
        let found = solve(&items, all(1)).unwrap();
        let size: u64 = items.iter().zip(&found).map(|(item, c)| item[*c].size).sum();
        assert!(size <= all(1) && size + 24 > all(1), "{size} of {}", all(1));
        assert_eq!(solve(&items, all(3)), Some(vec![3; 800]));
        assert_eq!(solve(&items, all(0)), Some(vec![0; 800]));
        assert_eq!(solve(&items, all(0) - 1), None);
    }

    #[test]
    fn sizes_that_have_no_common_unit_are_solved() {
        let mut next = sequence(11);
        let items: Vec<Vec<Candidate>> = (0..300)
            .map(|_| {
                let (size, cost) = ((next() * 1e6) as u64 + 1000, next().powi(3));
                let forms = [5u64, 6, 7, 8, 9, 10, 17, 18];
                forms.map(|bits| Candidate { size: size * bits, cost: cost * 0.5f64.powf(bits as f64 + next()) }).into()
            })
            .collect();
        let budget = items.iter().map(|item| item[2].size).sum();
        let found = solve(&items, budget).unwrap();
        let size: u64 = items.iter().zip(&found).map(|(item, c)| item[*c].size).sum();
        assert!(size <= budget && budget - size < 10_000, "{} are left", budget - size);
    }
}

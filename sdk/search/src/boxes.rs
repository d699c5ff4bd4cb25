//! What a front leaves open, cut into disjoint boxes: integrals over it then are sums of products, whatever the number of
//! objectives (Lacour, Klamroth, Fonseca: A Box Decomposition Algorithm to Compute the Hypervolume Indicator, 2017; applied
//! twice as by Daulton, Balandat, Bakshy: Parallel Bayesian Optimization of Multiple Noisy Objectives, 2021).

use crate::hypervolume::minimal;

/// Where a front could be improved: the points below the reference that no point of the front dominates.
#[derive(Debug, Clone)]
pub struct Open {
    /// Lower and upper corner of each box; a lower bound may be minus infinity.
    pub boxes: Vec<(Vec<f64>, Vec<f64>)>,
    /// The distinct bounds of each objective, in order; box corners are among them.
    pub bounds: Vec<Vec<f64>>,
    /// Of each box and objective the places of the lower and upper bound among [`Open::bounds`].
    pub places: Vec<Vec<(usize, usize)>>,
}

impl Open {
    /// What `front` leaves open below `reference`; all objectives are minimised.
    pub fn new(front: &[Vec<f64>], reference: &[f64]) -> Self {
        let inside = |p: &&Vec<f64>| p.iter().zip(reference).all(|(v, r)| v < r);
        let front = minimal(front.iter().filter(inside).cloned().collect());
        let corners = upper_bounds(&front, reference).into_iter().map(|bound| bound.corner);
        // What is below some corner is what is open: seen from below, the corners are a front of their own.
        let mirrored: Vec<Vec<f64>> = corners.map(|corner| corner.iter().map(|v| -v).collect()).collect();
        let infinite = vec![f64::INFINITY; reference.len()];
        let negated = |corner: Vec<f64>| corner.into_iter().map(|v| -v).collect::<Vec<f64>>();
        let boxes: Vec<(Vec<f64>, Vec<f64>)> = dominated(&upper_bounds(&mirrored, &infinite), &infinite)
            .into_iter()
            .map(|(lower, upper)| (negated(upper), negated(lower)))
            .collect();
        let bounds: Vec<Vec<f64>> = (0..reference.len())
            .map(|objective| {
                let mut all: Vec<f64> = boxes.iter().flat_map(|(l, u)| [l[objective], u[objective]]).collect();
                all.sort_by(f64::total_cmp);
                all.dedup();
                all
            })
            .collect();
        let place = |objective: usize, value: f64| bounds[objective].partition_point(|bound| *bound < value);
        let places = boxes
            .iter()
            .map(|(l, u)| {
                (0..l.len()).map(|objective| (place(objective, l[objective]), place(objective, u[objective])))
            })
            .map(Iterator::collect)
            .collect();
        Self { boxes, bounds, places }
    }
}

/// A corner below which nothing is dominated, and for each objective the point that bounds it there.
struct UpperBound {
    corner: Vec<f64>,
    points: Vec<Vec<f64>>,
}

/// The local upper bounds of a front, one point after the other.
fn upper_bounds(front: &[Vec<f64>], reference: &[f64]) -> Vec<UpperBound> {
    let objectives = reference.len();
    let outside = |objective: usize| {
        let mut point = vec![f64::NEG_INFINITY; objectives];
        point[objective] = reference[objective];
        point
    };
    let mut all = vec![UpperBound { corner: reference.to_vec(), points: (0..objectives).map(outside).collect() }];
    for point in front {
        let (within, kept): (Vec<UpperBound>, Vec<UpperBound>) =
            all.into_iter().partition(|bound| point.iter().zip(&bound.corner).all(|(p, c)| p < c));
        all = kept;
        for objective in 0..objectives {
            for bound in &within {
                let others = (0..objectives).filter(|o| *o != objective).map(|o| bound.points[o][objective]);
                if point[objective] >= others.fold(f64::NEG_INFINITY, f64::max) {
                    let (mut corner, mut points) = (bound.corner.clone(), bound.points.clone());
                    corner[objective] = point[objective];
                    points[objective].clone_from(point);
                    all.push(UpperBound { corner, points });
                }
            }
        }
    }
    all
}

/// Disjoint boxes that fill what the points behind these bounds dominate below the reference.
fn dominated(bounds: &[UpperBound], reference: &[f64]) -> Vec<(Vec<f64>, Vec<f64>)> {
    let boxes = bounds.iter().map(|bound| {
        let lower = |objective: usize| match objective {
            0 => bound.points[0][0],
            _ => bound.points[..objective].iter().map(|p| p[objective]).fold(f64::NEG_INFINITY, f64::max),
        };
        let mut upper = bound.corner.clone();
        upper[0] = reference[0];
        ((0..upper.len()).map(lower).collect::<Vec<f64>>(), upper)
    });
    boxes.filter(|(lower, upper)| lower.iter().zip(upper).all(|(l, u)| l < u)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;
    use crate::pareto::dominates;

    #[test]
    fn boxes_are_disjoint_and_hold_what_is_not_dominated() {
        let mut random = Random::new(4);
        for dimensions in 1..=5usize {
            for count in [0, 1, 3, 12] {
                let mut point = || (0..dimensions).map(|_| random.below(8) as f64).collect::<Vec<f64>>();
                let front: Vec<Vec<f64>> = (0..count).map(|_| point()).collect();
                let reference = vec![7.0; dimensions];
                let open = Open::new(&front, &reference);
                for _ in 0..300 {
                    let at: Vec<f64> = (0..dimensions).map(|_| 9.0 * random.unit() - 1.0).collect();
                    let inside =
                        |(l, u): &&(Vec<f64>, Vec<f64>)| at.iter().zip(l).zip(u).all(|((v, l), u)| l <= v && v < u);
                    let within = at.iter().zip(&reference).all(|(v, r)| v < r);
                    let free = within && !front.iter().any(|p| dominates(p, &at));
                    assert_eq!(open.boxes.iter().filter(inside).count(), usize::from(free), "{front:?} {at:?}");
                }
            }
        }
    }
}

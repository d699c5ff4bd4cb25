//! Which elements of a head a rope op turns together, and how fast (arXiv 2104.09864).

use super::{Error, Model, Node, Setting, Span, weights};

/// Two elements of a head that each position turns by `frequency` more; 0 leaves them alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Indices in the head.
    pub elements: [usize; 2],
    /// Radians a position.
    pub frequency: f64,
}

impl Pair {
    /// The mean of exp(i frequency distance), as a complex number, over the distances of a query and its keys up to `reach`;
    /// near keys count for more, in proportion to 1 / (1 + distance).
    pub fn mean_rotation(&self, reach: u32) -> (f64, f64) {
        let (mut re, mut im, mut sum) = (0.0, 0.0, 0.0);
        for distance in 0..=reach {
            let weight = 1.0 / (1.0 + f64::from(distance));
            let (s, c) = (self.frequency * f64::from(distance)).sin_cos();
            (re, im, sum) = (re + weight * c, im + weight * s, sum + weight);
        }
        (re / sum, im / sum)
    }
}

/// The elements of a head of `dim` that turn together; those that the rope, if there is one, leaves alone pair up too.
///
/// # Errors
/// not-applicable for odd heads.
pub fn turned_together(rope: Option<&Node>, dim: usize) -> Result<Vec<[usize; 2]>, Error> {
    if !dim.is_multiple_of(2) {
        return Err(Error::not_applicable(format!("heads of {dim} elements do not fall into pairs")));
    }
    Ok(elements(rope.map_or(&[][..], |node| &node.spec.attributes), if rope.is_some() { dim } else { 0 }, dim))
}

/// Pairs of a head of `dim`, of whose elements `dims` turn unless the attributes say how many.
fn elements(attributes: &[Setting], dims: usize, dim: usize) -> Vec<[usize; 2]> {
    let value = |name: &str| attributes.iter().find(|a| a.name == name).map(|a| &a.value);
    let dims = value("dims").and_then(|v| v.as_integer()).map_or(dims, |v| v as usize);
    let interleaved = value("pairing").and_then(|v| v.as_text()) == Some("interleaved");
    let turned = (0..dims / 2).map(|i| if interleaved { [2 * i, 2 * i + 1] } else { [i, i + dims / 2] });
    turned.chain((dims..dim).step_by(2).map(|e| [e, e + 1])).collect()
}

/// The pairs of a head of `dim` elements; those that the rope leaves alone pair up too.
///
/// # Errors
/// not-applicable for yarn, whose angles are not all that it changes, and odd heads; those of the host.
#[inline(never)]
pub fn rope_pairs(model: &Model, rope: &Node, dim: usize) -> Result<Vec<Pair>, Error> {
    let divisors = rope.weight("frequencies").map(|weight| weights::get(model, weight, None::<Span>)?.to_f32());
    let divisors: Vec<f64> = divisors.transpose()?.unwrap_or_default().into_iter().map(f64::from).collect();
    let yarn = rope.attribute("scaling").and_then(|v| v.as_text()) == Some("yarn");
    if yarn || rope.attribute("attention-factor").is_some() || !dim.is_multiple_of(2) {
        let message =
            format!("node `{}`: yarn, an attention factor or an odd head does not come apart in pairs", rope.spec.name);
        return Err(Error::not_applicable(message));
    }
    Ok(pairs_of(&rope.spec.attributes, &divisors, dim))
}

fn pairs_of(attributes: &[Setting], divisors: &[f64], dim: usize) -> Vec<Pair> {
    let value = |name: &str| attributes.iter().find(|a| a.name == name).map(|a| &a.value);
    let real = |name: &str| value(name).and_then(|v| v.as_real()).unwrap_or(1.0);
    let text = |name: &str| value(name).and_then(|v| v.as_text());
    let dims = value("dims").and_then(|v| v.as_integer()).map_or(dim, |v| v as usize);
    let own = value("divisors").and_then(|v| v.as_reals()).unwrap_or_default();
    let factor = real("factor");
    let scaled = |frequency: f64| match text("scaling") {
        Some("linear") => frequency / factor,
        Some("llama3") => {
            let turns = real("original-context") * frequency / std::f64::consts::TAU;
            let (low, high) = (real("low-frequency-factor"), real("high-frequency-factor"));
            let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 - smooth) * frequency / factor + smooth * frequency
        }
        _ => frequency,
    };
    let frequency = |i: usize| {
        let divisor = own.get(i).unwrap_or(&1.0) * divisors.get(i).unwrap_or(&1.0);
        scaled(real("base").powf(-2.0 * i as f64 / dims as f64)) / divisor
    };
    let pairs = elements(attributes, dim, dim).into_iter().enumerate();
    pairs.map(|(i, elements)| Pair { elements, frequency: if i < dims / 2 { frequency(i) } else { 0.0 } }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::setting;
    use super::*;

    #[test]
    fn llama3_slows_low_frequencies_only() {
        // transformers' `_compute_llama3_parameters` at base 500000, 8 dims, factor 8, bands 1 and 4, 512 tokens.
        let attributes = [
            ("base", 500_000.0),
            ("factor", 8.0),
            ("low-frequency-factor", 1.0),
            ("high-frequency-factor", 4.0),
            ("original-context", 512.0),
        ];
        let mut attributes: Vec<Setting> = attributes.into_iter().map(|(name, value)| setting(name, value)).collect();
        attributes.extend([setting("scaling", "llama3"), setting("pairing", "half")]);
        let pairs = pairs_of(&attributes, &[], 8);
        let expected = [1.0, 2.734414e-02, 1.767_766_9e-4, 6.647_87e-6];
        for (pair, (i, frequency)) in pairs.iter().zip(expected.into_iter().enumerate()) {
            assert_eq!(pair.elements, [i, i + 4]);
            assert!((pair.frequency / frequency - 1.0).abs() < 1e-4, "{i}: {}", pair.frequency);
        }
    }

    #[test]
    fn elements_beyond_the_ropes_stand_still_and_divisors_slow_down() {
        let attributes = [
            setting("base", 100.0),
            setting("dims", 4i64),
            setting("pairing", "interleaved"),
            setting("scaling", "linear"),
            setting("factor", 2.0),
        ];
        let pairs = pairs_of(&attributes, &[1.0, 5.0], 6);
        let pair = |a, frequency| Pair { elements: [a, a + 1], frequency };
        assert_eq!(pairs, [pair(0, 0.5), pair(2, 0.01), pair(4, 0.0)]);
    }

    #[test]
    fn without_a_rope_neighbours_pair_up() {
        assert_eq!(turned_together(None, 4).unwrap(), [[0, 1], [2, 3]]);
        assert_eq!(turned_together(None, 3).unwrap_err().code, "not-applicable");
    }

    #[test]
    fn what_stands_still_is_its_own_mean_and_what_turns_fast_has_nearly_none() {
        let mean = |frequency| Pair { elements: [0, 1], frequency }.mean_rotation(512);
        assert_eq!(mean(0.0), (1.0, 0.0));
        let (re, im) = mean(2.0);
        assert!(re.hypot(im) < 0.3, "{re} + {im} i");
    }
}

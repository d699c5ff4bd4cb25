//! How much tokens use each expert, by the logits of its router.

use aehost_sdk::technique::{Node, largest};

/// How a node chooses experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub experts: usize,
    pub top_k: usize,
    pub score: String,
    pub normalised: bool,
    pub groups: usize,
    pub top_groups: usize,
}

impl Route {
    /// Of an `experts` node with so many experts.
    pub fn of(node: &Node, experts: usize) -> Self {
        let integer = |name: &str, default| {
            node.attribute(name).and_then(|v| v.as_integer()).map_or(default, |v| v.max(1) as usize)
        };
        let word = |name: &str| node.attribute(name).and_then(|v| v.as_text()).unwrap_or_default().to_owned();
        let groups = integer("groups", 1);
        let top_groups = integer("top-groups", groups);
        let (score, normalised) = (word("score"), word("normalise") == "sum");
        Self { experts, top_k: integer("top-k", 1), score, normalised, groups, top_groups }
    }

    /// The mean over tokens of each expert's share or, by `frequency`, of whether it is chosen; `logits` is
    /// `[tokens, experts]`.
    pub fn usage(&self, logits: &[f32], frequency: bool) -> Vec<f64> {
        let mut usage = vec![0f64; self.experts];
        for logits in logits.chunks_exact(self.experts) {
            let scores = self.scores(logits);
            let chosen = self.chosen(&scores);
            let sum: f64 = chosen.iter().map(|e| scores[*e]).sum();
            for expert in chosen {
                usage[expert] += match (frequency || self.score == "one", self.normalised) {
                    (true, _) => 1.0,
                    (false, true) => scores[expert] / sum.max(f64::MIN_POSITIVE),
                    (false, false) => scores[expert],
                };
            }
        }
        let tokens = (logits.len() / self.experts).max(1) as f64;
        usage.iter().map(|u| u / tokens).collect()
    }

    fn scores(&self, logits: &[f32]) -> Vec<f64> {
        let logits = logits.iter().map(|l| f64::from(*l));
        match self.score.as_str() {
            "one" => logits.collect(),
            "sigmoid" => logits.map(|l| 1.0 / (1.0 + (-l).exp())).collect(),
            _ => {
                let most = logits.clone().fold(f64::NEG_INFINITY, f64::max);
                let exps: Vec<f64> = logits.map(|l| (l - most).exp()).collect();
                let sum: f64 = exps.iter().sum();
                exps.iter().map(|e| e / sum).collect()
            }
        }
    }

    /// The experts with the highest scores, of the groups with the best ones.
    fn chosen(&self, scores: &[f64]) -> Vec<usize> {
        let size = self.experts / self.groups;
        let best = |group: usize| scores[group * size..][..size].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let groups = largest(&(0..self.groups).map(best).collect::<Vec<_>>(), self.top_groups);
        let mut experts: Vec<usize> = groups.into_iter().flat_map(|g| g * size..(g + 1) * size).collect();
        experts.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        experts.truncate(self.top_k);
        experts
    }

    /// The experts that stay, ascending: the same number, `share` of them, in each group.
    pub fn kept(&self, usage: &[f64], share: f64) -> Vec<usize> {
        let size = self.experts / self.groups;
        let count = portion(size, share);
        let of_group = |(group, usage)| largest(usage, count).into_iter().map(move |e| group * size + e);
        usage.chunks_exact(size).enumerate().flat_map(of_group).collect()
    }
}

/// So many of these, at least one.
pub fn portion(of: usize, share: f64) -> usize {
    ((of as f64 * share).ceil() as usize).clamp(1, of.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn numbers<T: serde::de::DeserializeOwned>(case: &Value, name: &str) -> T {
        serde_json::from_value(case[name].clone()).unwrap()
    }

    #[test]
    fn usage_equals_that_of_a_reference() {
        let reference: Value = serde_json::from_str(include_str!("reference.json")).unwrap();
        let logits: Vec<f32> = numbers(&reference, "logits");
        for case in reference["cases"].as_array().unwrap() {
            let route = Route {
                experts: numbers(&reference, "experts"),
                top_k: numbers(case, "top_k"),
                score: numbers(case, "score"),
                normalised: numbers(case, "normalised"),
                groups: numbers(case, "groups"),
                top_groups: numbers(case, "top_groups"),
            };
            for (frequency, name) in [(false, "share"), (true, "frequency")] {
                let expected: Vec<f64> = numbers(case, name);
                let found = route.usage(&logits, frequency);
                let gap = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(gap < 1e-6, "{case}: {found:?}");
            }
        }
    }

    #[test]
    fn each_group_keeps_its_most_used_experts() {
        let route = Route { experts: 6, top_k: 1, score: "softmax".into(), normalised: true, groups: 2, top_groups: 1 };
        let usage = [0.3, 0.1, 0.2, 0.05, 0.3, 0.05];
        assert_eq!(route.kept(&usage, 0.5), [0, 2, 3, 4]);
        assert_eq!(Route { groups: 1, ..route }.kept(&usage, 0.5), [0, 2, 4]);
    }

    #[test]
    fn a_portion_is_never_nothing() {
        assert_eq!([portion(8, 0.75), portion(3, 0.5), portion(1, 0.5), portion(2, 0.25)], [6, 2, 1, 1]);
    }
}

//! Which rows go through which matrix of a stack: tokens to the experts that a router chose for them (Shazeer et al.,
//! arXiv 1701.06538; scores and groups as in DeepSeek-V2, arXiv 2405.04434), or each token's equal stretches of columns to
//! one matrix each. Rows of the same matrix are made neighbours, multiplied together, and put back.

/// What of a router's logits orders experts and weighs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Score {
    Softmax,
    Sigmoid,
    /// Logits only order: every chosen expert counts in full, as parts of one dense network do.
    One,
}

/// How a router's logits become experts and their shares.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RouteSpec {
    pub experts: usize,
    /// Experts a token.
    pub top_k: usize,
    pub score: Score,
    /// The shares of a token's experts are made to sum to 1.
    pub normalise: bool,
    /// Factor on the shares.
    pub scale: f32,
    /// Neighbouring experts form this many groups, of which only the `top_groups` with the best expert take part.
    pub groups: usize,
    pub top_groups: usize,
}

/// Rows by matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Grouping {
    /// As the router of this number said.
    Routed(usize),
    /// Each token's columns in this many equal stretches.
    Stretches(usize),
}

impl Grouping {
    /// The number of the router.
    pub fn routed(self) -> Option<usize> {
        match self {
            Grouping::Routed(routing) => Some(routing),
            Grouping::Stretches(_) => None,
        }
    }
}

/// The experts of a step's tokens.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    /// The token of each row; rows are sorted by expert.
    pub tokens: Vec<u32>,
    /// Where each expert's rows begin, and where the last one's end.
    starts: Vec<usize>,
    /// The rows of each token, `[tokens, top_k]`, and their shares.
    rows: Vec<u32>,
    shares: Vec<f32>,
    chosen: Vec<u32>,
    scores: Vec<f32>,
    /// The best score of each group.
    best: Vec<f32>,
    top_k: usize,
}

impl Routing {
    /// Chooses experts by `logits`, `[tokens, experts]`.
    pub fn route(&mut self, spec: &RouteSpec, logits: &[f32]) {
        self.top_k = spec.top_k;
        self.chosen.clear();
        self.shares.clear();
        for logits in logits.chunks_exact(spec.experts) {
            self.choose(spec, logits);
        }
        // Counting sort by expert, stable in tokens.
        self.starts.clear();
        self.starts.resize(spec.experts + 1, 0);
        self.chosen.iter().for_each(|expert| self.starts[*expert as usize + 1] += 1);
        for expert in 0..spec.experts {
            self.starts[expert + 1] += self.starts[expert];
        }
        self.tokens.clear();
        self.tokens.resize(self.chosen.len(), 0);
        self.rows.clear();
        for (i, expert) in self.chosen.iter().enumerate() {
            let next = &mut self.starts[*expert as usize];
            self.rows.push(*next as u32);
            self.tokens[*next] = (i / spec.top_k) as u32;
            *next += 1;
        }
        // Each start has moved to the next one's place.
        self.starts.rotate_right(1);
        self.starts[0] = 0;
    }

    fn choose(&mut self, spec: &RouteSpec, logits: &[f32]) {
        let scores = &mut self.scores;
        scores.clear();
        scores.extend_from_slice(logits);
        match spec.score {
            Score::Softmax => crate::kernels::softmax(scores),
            Score::Sigmoid => scores.iter_mut().for_each(|s| *s = 1.0 / (1.0 + (-*s).exp())),
            Score::One => {}
        }
        if spec.top_groups < spec.groups {
            let size = spec.experts / spec.groups;
            let best = |group: &[f32]| group.iter().copied().fold(f32::MIN, f32::max);
            self.best.clear();
            self.best.extend(scores.chunks_exact(size).map(best));
            for (group, members) in scores.chunks_exact_mut(size).enumerate() {
                let mine = self.best[group];
                let ahead = self.best.iter().enumerate().filter(|(g, b)| **b > mine || (*g < group && **b == mine));
                if ahead.count() >= spec.top_groups {
                    members.fill(f32::NEG_INFINITY);
                }
            }
        }
        let first = self.shares.len();
        for _ in 0..spec.top_k {
            // The first of equals.
            let next = (0..spec.experts).reduce(|a, b| if scores[b] > scores[a] { b } else { a }).unwrap_or(0);
            self.chosen.push(next as u32);
            let score = std::mem::replace(&mut scores[next], f32::NEG_INFINITY);
            self.shares.push(if spec.score == Score::One { 1.0 } else { score });
        }
        let shares = &mut self.shares[first..];
        let sum: f32 = shares.iter().sum();
        let factor = if spec.normalise && sum > 0.0 { spec.scale / sum } else { spec.scale };
        shares.iter_mut().for_each(|share| *share *= factor);
    }
}

impl Routing {
    /// The gradient of each share, `[tokens, top_k]`, from that of the sums by shares, `[tokens, width]`.
    pub fn share_gradients(&self, dy: &[f32], rows: &[f32], width: usize) -> Vec<f32> {
        let of = |(i, row): (usize, &u32)| -> f32 {
            let dy = &dy[i / self.top_k * width..][..width];
            rows[*row as usize * width..][..width].iter().zip(dy).map(|(y, d)| y * d).sum()
        };
        self.rows.iter().enumerate().map(of).collect()
    }

    /// Adds the gradient of the router's logits, `[tokens, experts]`, from that of the shares, `[tokens, top_k]`. Which experts
    /// are chosen has none.
    pub fn back(&self, spec: &RouteSpec, logits: &[f32], d_shares: &[f32], d_logits: &mut [f32]) {
        if spec.score == Score::One {
            return;
        }
        let tokens = logits.chunks_exact(spec.experts).zip(d_logits.chunks_exact_mut(spec.experts));
        let chosen = self.chosen.chunks_exact(spec.top_k).zip(d_shares.chunks_exact(spec.top_k));
        let (mut scores, mut slopes) = (Vec::new(), Vec::new());
        for ((logits, to), (chosen, d_shares)) in tokens.zip(chosen) {
            scores.clear();
            scores.extend_from_slice(logits);
            match spec.score {
                Score::Softmax => crate::kernels::softmax(&mut scores),
                _ => scores.iter_mut().for_each(|s| *s = 1.0 / (1.0 + (-*s).exp())),
            }
            let of = |expert: &u32| scores[*expert as usize];
            let sum: f32 = chosen.iter().map(of).sum();
            // share = scale score / sum, or scale score.
            let (factor, along) = match spec.normalise && sum > 0.0 {
                true => {
                    let along: f32 = chosen.iter().zip(d_shares).map(|(expert, d)| of(expert) * d).sum();
                    (spec.scale / sum, along / sum)
                }
                false => (spec.scale, 0.0),
            };
            slopes.clear();
            slopes.resize(spec.experts, 0f32);
            for (expert, d) in chosen.iter().zip(d_shares) {
                slopes[*expert as usize] = factor * (d - along);
            }
            let whole: f32 = scores.iter().zip(&slopes).map(|(s, d)| s * d).sum();
            for ((to, s), d) in to.iter_mut().zip(&scores).zip(&slopes) {
                *to += if spec.score == Score::Softmax { s * (d - whole) } else { s * (1.0 - s) * d };
            }
        }
    }
}

/// Rows by matrix, of one step.
#[derive(Clone, Copy)]
pub(crate) enum Grouped<'a> {
    Routed(&'a Routing),
    Stretches { tokens: usize },
}

impl Grouped<'_> {
    /// The rows of one matrix.
    pub fn rows(self, group: usize) -> std::ops::Range<usize> {
        match self {
            Grouped::Routed(routing) => routing.starts[group]..routing.starts[group + 1],
            Grouped::Stretches { tokens } => group * tokens..(group + 1) * tokens,
        }
    }

    /// Copies a row from the tokens' values; `x` is all of them, `[tokens, x_width]`.
    pub fn take(self, row: usize, x: &[f32], x_width: usize, to: &mut [f32]) {
        let at = match self {
            Grouped::Routed(routing) => routing.tokens[row] as usize * x_width,
            Grouped::Stretches { tokens } => row % tokens * x_width + row / tokens * to.len(),
        };
        to.copy_from_slice(&x[at..at + to.len()]);
    }

    /// A token's value from its rows: their sum by shares, or their columns one after another; `y` is all rows,
    /// `[rows, y_width]`.
    pub fn give(self, token: usize, y: &[f32], y_width: usize, to: &mut [f32]) {
        match self {
            Grouped::Routed(routing) => {
                to.fill(0.0);
                let mine = token * routing.top_k..(token + 1) * routing.top_k;
                for (row, share) in routing.rows[mine.clone()].iter().zip(&routing.shares[mine]) {
                    let y = &y[*row as usize * y_width..][..y_width];
                    to.iter_mut().zip(y).for_each(|(to, y)| *to += share * y);
                }
            }
            Grouped::Stretches { tokens } => {
                for (group, to) in to.chunks_exact_mut(y_width).enumerate() {
                    to.copy_from_slice(&y[(group * tokens + token) * y_width..][..y_width]);
                }
            }
        }
    }
}

impl Grouped<'_> {
    /// Adds to the gradient of a token's value those of the rows that were copied from it; `d_rows` is `[rows, width]`.
    pub fn take_back(self, token: usize, d_rows: &[f32], width: usize, to: &mut [f32]) {
        let add = |to: &mut [f32], row: usize| {
            to.iter_mut().zip(&d_rows[row * width..][..width]).for_each(|(to, d)| *to += d);
        };
        match self {
            Grouped::Routed(routing) => {
                let mine = &routing.rows[token * routing.top_k..][..routing.top_k];
                mine.iter().for_each(|row| add(to, *row as usize));
            }
            Grouped::Stretches { tokens } => {
                to.chunks_exact_mut(width).enumerate().for_each(|(group, to)| add(to, group * tokens + token));
            }
        }
    }

    /// Adds to the gradient of a row that of the token's value which was made of it; `dy` is `[tokens, width]`.
    pub fn give_back(self, row: usize, dy: &[f32], width: usize, to: &mut [f32]) {
        match self {
            Grouped::Routed(routing) => {
                let token = routing.tokens[row] as usize;
                let mine = token * routing.top_k..(token + 1) * routing.top_k;
                let place = routing.rows[mine.clone()].iter().position(|r| *r as usize == row);
                let share = routing.shares[mine.start + place.expect("a row is one of its token's")];
                to.iter_mut().zip(&dy[token * width..][..width]).for_each(|(to, d)| *to += share * d);
            }
            Grouped::Stretches { tokens } => {
                let from = &dy[row % tokens * width + row / tokens * to.len()..][..to.len()];
                to.iter_mut().zip(from).for_each(|(to, d)| *to += d);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(experts: usize, top_k: usize) -> RouteSpec {
        RouteSpec { experts, top_k, score: Score::Softmax, normalise: true, scale: 1.0, groups: 1, top_groups: 1 }
    }

    #[test]
    fn rows_are_sorted_by_expert_and_come_back_to_their_tokens() {
        let mut routing = Routing::default();
        let logits = [0.0, 3.0, 2.0, 5.0, 0.0, 4.0, 0.0, 1.0, 0.5];
        for _ in 0..2 {
            routing.route(&spec(3, 2), &logits);
            let grouped = Grouped::Routed(&routing);
            assert_eq!((0..3).map(|e| grouped.rows(e)).collect::<Vec<_>>(), [0..1, 1..3, 3..6]);
            assert_eq!(routing.tokens, [1, 0, 2, 0, 1, 2]);
        }
        // A matrix that changes nothing gives every token back, as shares sum to 1.
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let grouped = Grouped::Routed(&routing);
        let mut rows = vec![0.0; 12];
        rows.chunks_exact_mut(2).enumerate().for_each(|(row, to)| grouped.take(row, &x, 2, to));
        let mut back = vec![0.0; 6];
        back.chunks_exact_mut(2).enumerate().for_each(|(token, to)| grouped.give(token, &rows, 2, to));
        back.iter().zip(&x).for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{back:?}"));
    }

    #[test]
    fn only_the_best_groups_take_part_and_shares_are_scaled() {
        let mut routing = Routing::default();
        let limited = RouteSpec { groups: 2, normalise: false, scale: 2.0, ..spec(4, 2) };
        // The two best experts are in different groups; only the first group may take part.
        routing.route(&limited, &[5.0, 0.0, 4.0, 3.0]);
        assert_eq!(routing.chosen, [0, 1]);
        let sum: f32 = [5f32, 0.0, 4.0, 3.0].iter().map(|x| x.exp()).sum();
        assert!((routing.shares[1] - 2.0 / sum).abs() < 1e-6);
    }

    #[test]
    fn experts_of_score_one_are_chosen_by_logits_and_count_in_full() {
        let mut routing = Routing::default();
        let full = RouteSpec { score: Score::One, normalise: false, ..spec(4, 2) };
        routing.route(&full, &[-200.0, -3.0, -2.0, -100.0]);
        assert_eq!((&routing.chosen[..], &routing.shares[..]), (&[2, 1][..], &[1.0, 1.0][..]));
        let limited = RouteSpec { groups: 2, normalise: true, scale: 3.0, ..full };
        routing.route(&limited, &[5.0, -9.0, 4.0, 3.0]);
        assert_eq!((&routing.chosen[..], &routing.shares[..]), (&[0, 1][..], &[1.5, 1.5][..]));
    }

    #[test]
    fn stretches_go_to_a_matrix_each_and_back() {
        let grouped = Grouped::Stretches { tokens: 3 };
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut rows = vec![0.0; 12];
        rows.chunks_exact_mut(2).enumerate().for_each(|(row, to)| grouped.take(row, &x, 4, to));
        assert_eq!(rows, [0.0, 1.0, 4.0, 5.0, 8.0, 9.0, 2.0, 3.0, 6.0, 7.0, 10.0, 11.0]);
        let mut back = vec![0.0; 12];
        back.chunks_exact_mut(4).enumerate().for_each(|(token, to)| grouped.give(token, &rows, 2, to));
        assert_eq!(back, x);
        assert_eq!(grouped.rows(1), 3..6);
    }
}

//! Which block formats fit a group of weights.

use aehost_sdk::technique::Matrix;

/// Formats by falling size, with their bits a weight (ggml's block structures). Rows of whole 256-blocks get the
/// k-quants, which are better at the same size; Q4_0 stays for its speed.
const SUPER_BLOCKS: [(&str, f64); 7] =
    [("Q8_0", 8.5), ("Q6_K", 6.5625), ("Q5_K", 5.5), ("Q4_K", 4.5), ("Q4_0", 4.5), ("Q3_K", 3.4375), ("Q2_K", 2.625)];
/// The same for rows of whole 32-blocks.
const BLOCKS: [(&str, f64); 5] = [("Q8_0", 8.5), ("Q5_1", 6.0), ("Q5_0", 5.5), ("Q4_1", 5.0), ("Q4_0", 4.5)];

/// The formats that fit the rows of all of a group's weights and make the group smaller, the largest first.
pub fn formats(matrices: &[Matrix]) -> Vec<&'static str> {
    let whole = |block: u32| matrices.iter().all(|m| m.columns() % block == 0);
    let known: &[(&str, f64)] = match (whole(256), whole(32)) {
        (true, _) => &SUPER_BLOCKS,
        (false, true) => &BLOCKS,
        (false, false) => &[],
    };
    let elements: f64 = matrices.iter().map(|m| f64::from(m.rows()) * f64::from(m.columns())).sum();
    let bits = matrices.iter().map(|m| m.bytes as f64).sum::<f64>() * 8.0 / elements;
    known.iter().filter(|(_, size)| *size < bits).map(|(format, _)| *format).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aehost_sdk::technique::Group;

    fn weight(shape: &[u32], bytes: u64) -> Matrix {
        let shape = shape.to_vec();
        Matrix {
            weight: "w".into(),
            group: Group::FeedForward,
            layer: None,
            role: "up".into(),
            shape,
            bytes,
            input: None,
        }
    }

    #[test]
    fn k_quants_need_every_row_of_the_group_in_blocks_of_256() {
        let wide = weight(&[576, 1536], 576 * 1536 * 2);
        let narrow = weight(&[1536, 576], 576 * 1536 * 2);
        assert_eq!(formats(std::slice::from_ref(&wide)), ["Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0", "Q3_K", "Q2_K"]);
        assert_eq!(formats(&[wide, narrow]), ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"]);
        assert!(formats(&[weight(&[8, 40], 640)]).is_empty());
    }

    #[test]
    fn a_format_that_would_not_shrink_the_group_is_no_choice() {
        let q8_0 = weight(&[64, 64], 64 * 64 / 32 * 34);
        assert_eq!(formats(&[q8_0]), ["Q5_1", "Q5_0", "Q4_1", "Q4_0"]);
        let q4_0 = weight(&[64, 64], 64 * 64 / 32 * 18);
        assert!(formats(&[q4_0]).is_empty());
    }
}

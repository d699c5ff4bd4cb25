//! Token-wise ops on the CPU. They are short, so they run on the threads that the engine has anyway, and only long inputs
//! are spread over them; candle's own versions hand over to a second set of threads, which costs more than the work.

use crate::EngineError;
use crate::kernels::{mul_silu, root_mean_square_norm, silu};
use crate::model::floats;
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// Elements that one task should at least have.
const TASK: usize = 1 << 15;

/// Applies `f` to matching chunks of two tensors of one size and of a new one; chunks are multiples of `unit` elements.
fn map(
    a: &Tensor,
    b: &Tensor,
    unit: usize,
    f: impl Fn(&[f32], &[f32], &mut [f32]) + Sync,
) -> Result<Tensor, EngineError> {
    let count = a.elem_count();
    let task = TASK.next_multiple_of(unit.max(1));
    let out = floats(a, |a| {
        floats(b, |b| {
            let mut out = vec![0f32; count];
            if count <= task {
                f(a, b, &mut out);
            } else {
                let parts = out.par_chunks_mut(task).zip(a.par_chunks(task)).zip(b.par_chunks(task));
                parts.for_each(|((out, a), b)| f(a, b, out));
            }
            out
        })
    })??;
    Ok(Tensor::from_vec(out, a.shape(), &Device::Cpu)?)
}

/// x * sigmoid(x).
pub(crate) fn silu_of(x: &Tensor) -> Result<Tensor, EngineError> {
    map(x, x, 1, |x, _, out| silu(x, out))
}

/// silu(gate) * up, of equal shapes.
pub(crate) fn gated(gate: &Tensor, up: &Tensor) -> Result<Tensor, EngineError> {
    map(gate, up, 1, mul_silu)
}

/// The sum of two tensors of one shape.
pub(crate) fn sum(a: &Tensor, b: &Tensor) -> Result<Tensor, EngineError> {
    map(a, b, 1, |a, b, out| a.iter().zip(b).zip(out).for_each(|((a, b), o)| *o = a + b))
}

/// The product, element by element, of two tensors of one shape.
pub(crate) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor, EngineError> {
    map(a, b, 1, |a, b, out| a.iter().zip(b).zip(out).for_each(|((a, b), o)| *o = a * b))
}

/// Each group of the weight's length divided by its root mean square, times the weight.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor, EngineError> {
    let n = weight.elem_count();
    floats(weight, |weight| {
        map(x, x, n, |x, _, out| {
            for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
                root_mean_square_norm(x, weight, epsilon, out);
            }
        })
    })?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tensor(values: &[f32], rows: usize) -> Tensor {
        Tensor::from_slice(values, (rows, values.len() / rows), &Device::Cpu).unwrap()
    }

    fn gap(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn they_equal_the_tensor_librarys(rows in 1usize..400, columns in 1usize..300, seed in any::<u64>()) {
            let numbers = |salt: u64| -> Vec<f32> {
                let mut state = seed.wrapping_add(salt) | 1;
                (0..rows * columns).map(|_| { state ^= state << 13; state ^= state >> 7; state ^= state << 17; (state >> 40) as f32 / (1u64 << 21) as f32 - 4.0 }).collect()
            };
            let (a, b) = (tensor(&numbers(1), rows), tensor(&numbers(2), rows));
            prop_assert!(gap(&sum(&a, &b).unwrap(), &(&a + &b).unwrap()) < 1e-6);
            prop_assert!(gap(&product(&a, &b).unwrap(), &(&a * &b).unwrap()) < 1e-5);
            prop_assert!(gap(&silu_of(&a).unwrap(), &a.silu().unwrap()) < 1e-5);
            prop_assert!(gap(&gated(&a, &b).unwrap(), &(a.silu().unwrap() * &b).unwrap()) < 1e-4);
            let weight = b.narrow(0, 0, 1).unwrap().flatten_all().unwrap();
            let theirs = candle_nn::ops::rms_norm_slow(&a, &weight, 1e-5).unwrap();
            prop_assert!(gap(&rms_norm(&a, &weight, 1e-5).unwrap(), &theirs) < 1e-4);
        }
    }
}

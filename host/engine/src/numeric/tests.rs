use super::*;

fn floats(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(values, dims, &Device::Cpu).unwrap()
}

fn indices(dims: &[usize], values: &[u32]) -> Tensor {
    Tensor::from_slice(values, dims, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    to_reals(tensor).unwrap()
}

fn near(tensor: &Tensor, expected: &[f32]) {
    let found = values(tensor);
    assert_eq!(found.len(), expected.len());
    let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-5, "{found:?} is not {expected:?}");
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().message
}

const CPU: Device = Device::Cpu;

#[test]
fn bytes_go_in_and_come_out() {
    for (name, size) in
        [("float64", 8), ("float32", 4), ("float16", 2), ("bfloat16", 2), ("uint8", 1), ("uint32", 4), ("int64", 8)]
    {
        let bytes: Vec<u8> = (0..6 * size as u8).collect();
        let tensor = from_bytes(&[2, 3], name, &bytes, &CPU).unwrap();
        assert_eq!(read(&tensor, 0, 6).unwrap(), bytes, "{name}");
        assert_eq!(read(&tensor, 2, 2).unwrap(), bytes[2 * size..4 * size], "{name}");
    }
    assert_eq!(
        message(from_bytes(&[2, 3], "float32", &[0; 20], &CPU)),
        "from-bytes: float32 [2, 3] takes 24 bytes, not 20"
    );
    assert_eq!(
        message(from_bytes(&[2], "float8", &[], &CPU)),
        "dtype `float8` is unknown; known: float64, float32, float16, bfloat16, uint8, uint32, int64"
    );
    assert_eq!(
        message(read(&floats(&[2], &[1.0, 2.0]), u64::MAX, 2)),
        "read: elements 18446744073709551615 and 2 more are outside float32 [2], which has 2"
    );
}

#[test]
fn hostile_shapes_are_refused_before_anything_is_allocated() {
    let huge = [u32::MAX, u32::MAX, u32::MAX];
    assert_eq!(
        message(full(&huge, "float32", 0.0, &CPU)),
        "full: shape [4294967295, 4294967295, 4294967295] has more than 2147483648 elements"
    );
    assert_eq!(
        message(random_normal(&[1 << 20, 1 << 20], "float32", 0, &CPU)),
        "random-normal: shape [1048576, 1048576] has more than 2147483648 elements"
    );
    assert_eq!(message(full(&[3, 0], "float32", 0.0, &CPU)), "full: shape [3, 0] has no elements");
    assert_eq!(
        message(full(&[1; 9], "float32", 0.0, &CPU)),
        "full: shape [1, 1, 1, 1, 1, 1, 1, 1, 1] has more than 8 dimensions"
    );
    let (row, column) =
        (full(&[1, 1 << 20], "uint8", 1.0, &CPU).unwrap(), full(&[1 << 20, 1], "uint8", 1.0, &CPU).unwrap());
    assert_eq!(
        message(binary(&row, "add", &column)),
        "add: shape [1048576, 1048576] has more than 2147483648 elements"
    );
    let (row, column) = (cast(&row, "float32").unwrap(), cast(&column, "float32").unwrap());
    assert_eq!(message(matmul(&column, &row)), "matmul: shape [1048576, 1048576] has more than 2147483648 elements");
    assert!(reshape(&row, &[u32::MAX, u32::MAX, u32::MAX]).is_err());
    assert!(slice(&row, 1, u32::MAX, u32::MAX).is_err());
    assert!(write(&row, &[0, u32::MAX], &row).is_err());
    assert!(top_k(&row, u32::MAX, true).is_err());
    assert!(gather(&row, u32::MAX, &row).is_err());
}

#[test]
fn every_unary_op_knows_every_dtype() {
    let ops = [
        "neg",
        "abs",
        "sqrt",
        "rsqrt",
        "square",
        "exp",
        "ln",
        "sin",
        "cos",
        "tanh",
        "sigmoid",
        "silu",
        "gelu",
        "relu",
        "sign",
        "floor",
        "round",
        "reciprocal",
    ];
    for (_, name) in DTYPES {
        for op in ops {
            let tensor = full(&[3], name, 3.0, &CPU).unwrap();
            match unary(&tensor, op) {
                Ok(result) => assert_eq!(dtype_name(result.dtype()), name),
                Err(fault) => assert!(fault.message.contains("is not defined on"), "{op} {name}: {fault}"),
            }
        }
    }
    assert_eq!(message(unary(&floats(&[1], &[1.0]), "cosh")), "unary: op `cosh` is unknown");
    near(&unary(&floats(&[3], &[-1.0, 0.0, 2.0]), "sigmoid").unwrap(), &[0.268_941_4, 0.5, 0.880_797_1]);
    near(&unary(&floats(&[2], &[-1.0, 2.0]), "gelu").unwrap(), &[-0.158_655_26, 1.954_499_7]);
    near(&unary(&floats(&[2], &[-1.0, 2.0]), "silu").unwrap(), &[-0.268_941_4, 1.761_594_2]);
    near(&unary(&floats(&[2], &[4.0, 0.25]), "rsqrt").unwrap(), &[0.5, 2.0]);
}

#[test]
fn binary_ops_broadcast_as_numpy_does() {
    let a = floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let b = floats(&[3], &[1.0, 2.0, 2.0]);
    near(&binary(&a, "add", &b).unwrap(), &[2.0, 4.0, 5.0, 5.0, 7.0, 8.0]);
    near(&binary(&a, "div", &b).unwrap(), &[1.0, 1.0, 1.5, 4.0, 2.5, 3.0]);
    near(&binary(&a, "pow", &b).unwrap(), &[1.0, 4.0, 9.0, 4.0, 25.0, 36.0]);
    near(&binary(&floats(&[1], &[-2.0]), "pow", &floats(&[1], &[3.0])).unwrap(), &[-8.0]);
    near(&binary(&a, "minimum", &b).unwrap(), &[1.0, 2.0, 2.0, 1.0, 2.0, 2.0]);
    let less = binary(&b, "lt", &a).unwrap();
    assert_eq!(less.dtype(), DType::F32);
    near(&less, &[0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    assert_eq!(message(binary(&a, "add", &floats(&[2], &[0.0; 2]))), "add: shapes [2, 3] and [2] do not broadcast");
    assert_eq!(
        message(binary(&a, "add", &indices(&[3], &[0; 3]))),
        "add: float32 [2, 3] and uint32 [3] differ in dtype; cast one of them"
    );
    assert_eq!(message(binary(&a, "atan2", &b)), "binary: op `atan2` is unknown");
}

#[test]
fn integer_division_never_panics() {
    let longs = |v: &[i64]| Tensor::from_slice(v, v.len(), &CPU).unwrap();
    let quotient = binary(&longs(&[7, -7, i64::MIN]), "div", &longs(&[2, 2, -1])).unwrap();
    assert_eq!(quotient.to_vec1::<i64>().unwrap(), [3, -3, i64::MIN]);
    assert_eq!(message(binary(&longs(&[1]), "div", &longs(&[0]))), "div: int64 [1] holds a zero");
    let bytes = full(&[2], "uint8", 200.0, &CPU).unwrap();
    assert_eq!(reduce(&bytes, "sum", &[], false).unwrap().to_scalar::<u8>().unwrap(), 255);
    assert_eq!(values(&reduce(&bytes, "mean", &[], false).unwrap()), [200.0]);
    for op in ["add", "sub", "mul", "div", "minimum", "maximum", "pow", "eq", "ne", "lt", "le", "gt", "ge"] {
        for (_, name) in DTYPES {
            let seven = full(&[2], name, 7.0, &CPU).unwrap();
            assert_eq!(binary(&seven, op, &seven).unwrap().dtype(), seven.dtype(), "{op} {name}");
        }
    }
}

#[test]
fn casts_round_to_nearest() {
    let tensor = floats(&[4], &[1.6, -1.6, 2.4, 300.0]);
    assert_eq!(cast(&tensor, "int64").unwrap().to_vec1::<i64>().unwrap(), [2, -2, 2, 300]);
    assert_eq!(cast(&tensor, "uint8").unwrap().to_vec1::<u8>().unwrap(), [2, 0, 2, 255]);
    near(&affine(&indices(&[2], &[3, 5]), 0.5, 0.1).unwrap(), &[2.0, 3.0]);
    near(&clamp(&tensor, -1.0, 2.0).unwrap(), &[1.6, -1.0, 2.0, 2.0]);
    assert_eq!(message(clamp(&tensor, 1.0, f64::NAN)), "clamp: [1, NaN] is empty");
}

#[test]
fn reductions_agree_with_numpy() {
    let a = floats(&[2, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 0.0]);
    near(&reduce(&a, "sum", &[0, -1], false).unwrap(), &[30.0, 36.0]);
    near(&reduce(&a, "mean", &[1], false).unwrap(), &[2.5, 3.5, 4.5, 8.5, 9.5, 4.5]);
    near(&reduce(&a, "maximum", &[0, 1], false).unwrap(), &[10.0, 11.0, 9.0]);
    near(&reduce(&a, "minimum", &[], false).unwrap(), &[0.0]);
    near(&reduce(&a, "norm", &[2], false).unwrap(), &[14f32.sqrt(), 77f32.sqrt(), 194f32.sqrt(), 221f32.sqrt()]);
    assert_eq!(shape(&reduce(&a, "sum", &[0, 2], true).unwrap()), [1, 2, 1]);
    let place = reduce(&a, "argmax", &[], false).unwrap();
    assert_eq!((dtype_name(place.dtype()), place.to_scalar::<u32>().unwrap()), ("uint32", 10));
    assert_eq!(reduce(&a, "argmin", &[-1], false).unwrap().to_vec2::<u32>().unwrap(), [[0, 0], [0, 2]]);
    assert_eq!(
        message(reduce(&a, "sum", &[0, 0], false)),
        "sum: axes [0, 0] are not distinct axes of float32 [2, 2, 3]"
    );
    assert_eq!(
        message(reduce(&a, "sum", &[i32::MIN], false)),
        "sum: axes [-2147483648] are not distinct axes of float32 [2, 2, 3]"
    );
    assert_eq!(message(reduce(&a, "median", &[], false)), "reduce: op `median` is unknown");
    let halves = full(&[4096, 4], "float16", 1.0, &CPU).unwrap();
    near(&reduce(&halves, "sum", &[0], false).unwrap(), &[4096.0; 4]);
    for op in ["sum", "mean", "minimum", "maximum", "argmin", "argmax", "norm"] {
        for (_, name) in DTYPES {
            let scalar = reduce(&full(&[2], name, 1.0, &CPU).unwrap(), op, &[0], false);
            if let Ok(scalar) = scalar {
                assert!(reduce(&scalar, op, &[], false).is_ok() || op.starts_with("arg"), "{op} {name}");
            }
        }
    }
}

#[test]
fn products_and_shapes() {
    let a = floats(&[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
    let b = floats(&[2, 3], &[1.0, 0.0, 2.0, 0.0, 1.0, 1.0]);
    let product = matmul(&a, &b).unwrap();
    assert_eq!(shape(&product), [2, 1, 3]);
    near(&product, &[1.0, 2.0, 4.0, 3.0, 4.0, 10.0]);
    assert_eq!(message(matmul(&b, &b)), "matmul: shapes [2, 3] and [2, 3] do not fit");
    assert_eq!(message(matmul(&floats(&[2], &[0.0; 2]), &b)), "matmul: shapes [2] and [2, 3] do not fit");
    near(&transpose(&b, &[]).unwrap(), &[1.0, 0.0, 0.0, 1.0, 2.0, 1.0]);
    near(&matmul(&transpose(&b, &[]).unwrap(), &b).unwrap(), &[1.0, 0.0, 2.0, 0.0, 1.0, 1.0, 2.0, 1.0, 5.0]);
    assert_eq!(message(transpose(&b, &[0, 0])), "transpose: [0, 0] is no order of the axes of float32 [2, 3]");
    assert_eq!(message(reshape(&b, &[4])), "reshape: float32 [2, 3] has 6 elements, shape [4] has 4");
    near(&slice(&b, 1, 1, 2).unwrap(), &[0.0, 2.0, 1.0, 1.0]);
    assert_eq!(message(slice(&b, 1, 2, 2)), "slice: 2 indices from 2 are outside axis 1 of float32 [2, 3]");
    near(&concat(1, &[b.clone(), floats(&[2, 1], &[8.0, 9.0])]).unwrap(), &[1.0, 0.0, 2.0, 8.0, 0.0, 1.0, 1.0, 9.0]);
    assert_eq!(
        message(concat(0, &[b.clone(), floats(&[1, 2], &[0.0; 2])])),
        "concat along axis 0: float32 [2, 3] and float32 [1, 2] differ in another dimension"
    );
    assert_eq!(message(concat(0, &[])), "concat: no parts are given");
}

#[test]
fn parts_are_written_without_touching_the_original() {
    let zeros = full(&[3, 4], "float32", 0.0, &CPU).unwrap();
    let part = floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let written = write(&zeros, &[1, 2], &part).unwrap();
    near(&written, &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0]);
    near(&zeros, &[0.0; 12]);
    near(&write(&part, &[0, 0], &part).unwrap(), &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(message(write(&zeros, &[2, 2], &part)), "write: float32 [2, 2] at [2, 2] is outside float32 [3, 4]");
}

#[test]
fn gathering_and_scattering_follow_torch() {
    let a = floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    near(&gather(&a, 1, &indices(&[2, 2], &[2, 0, 1, 1])).unwrap(), &[3.0, 1.0, 5.0, 5.0]);
    assert_eq!(
        message(gather(&a, 1, &indices(&[2, 1], &[0, 3]))),
        "gather: index 3 is outside axis 1 of float32 [2, 3]"
    );
    assert_eq!(
        message(gather(&a, 1, &indices(&[2, 1], &[0, u32::MAX]))),
        "gather: index 4294967295 is outside axis 1 of float32 [2, 3]"
    );
    let added = scatter_add(&a, 1, &indices(&[2, 2], &[0, 0, 2, 1]), &floats(&[2, 2], &[10.0, 20.0, 30.0, 40.0]));
    near(&added.unwrap(), &[31.0, 2.0, 3.0, 4.0, 45.0, 36.0]);
    let masked = select(&a, &floats(&[1], &[-1.0]), &floats(&[3], &[1.0, 0.0, 2.0])).unwrap();
    near(&masked, &[1.0, -1.0, 3.0, 4.0, -1.0, 6.0]);
    near(&diagonal(&floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0])).unwrap(), &[1.0, 4.0]);
    assert_eq!(message(diagonal(&a)), "diagonal: float32 [2, 3] is not a square matrix");
    near(&cumulative_sum(&a, 0).unwrap(), &[1.0, 2.0, 3.0, 5.0, 7.0, 9.0]);
    near(&cumulative_sum(&a, 1).unwrap(), &[1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
    assert_eq!(message(cumulative_sum(&a, 2)), "cumulative-sum: float32 [2, 3] has no axis 2");
}

#[test]
fn sorting_is_stable_and_puts_nan_last() {
    let a = floats(&[2, 4], &[3.0, f32::NAN, -1.0, 3.0, 0.0, -0.0, 5.0, f32::NEG_INFINITY]);
    let (sorted, order) = sort(&a, false).unwrap();
    assert_eq!(order.to_vec2::<u32>().unwrap(), [[2, 0, 3, 1], [3, 0, 1, 2]]);
    assert!(values(&sorted)[3].is_nan());
    let (top, place) = top_k(&indices(&[2, 3], &[5, 9, 9, 1, 0, 4_000_000_000]), 2, true).unwrap();
    assert_eq!(top.to_vec2::<u32>().unwrap(), [[9, 9], [4_000_000_000, 1]]);
    assert_eq!(place.to_vec2::<u32>().unwrap(), [[1, 2], [2, 0]]);
    assert_eq!(message(top_k(&a, 5, true)), "top-k: 5 of the last axis of float32 [2, 4]");
}

#[test]
fn random_numbers_are_normal_and_repeatable() {
    let a = random_normal(&[20000], "float32", 7, &CPU).unwrap();
    assert_eq!(values(&a), values(&random_normal(&[20000], "float32", 7, &CPU).unwrap()));
    assert_ne!(values(&a), values(&random_normal(&[20000], "float32", 8, &CPU).unwrap()));
    let numbers = values(&a);
    let mean = numbers.iter().sum::<f32>() / 20000.0;
    let variance = numbers.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 20000.0;
    assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "mean {mean}, variance {variance}");
    for x in [1e-300, 0.1, 0.5, std::f64::consts::FRAC_1_SQRT_2, 0.9999, 1.0, 3.0] {
        assert!((logarithm(x) - f64::ln(x)).abs() <= 1e-14 * f64::ln(x).abs().max(1.0), "{x}");
    }
}

#[test]
fn factors_multiply_back_to_the_matrix() {
    let a = random_normal(&[7, 4], "float32", 1, &CPU).unwrap();
    for a in [a.clone(), transpose(&a, &[]).unwrap()] {
        let (u, s, v) = svd(&a, None).unwrap();
        assert_eq!((s.dims(), u.dims()[1], v.dims()[0]), ([4usize].as_slice(), 4, 4));
        near(&matmul(&binary(&u, "mul", &s).unwrap(), &v).unwrap(), &values(&a));
        assert_eq!(shape(&svd(&a, Some(2)).unwrap().0), [a.dims()[0] as u32, 2]);
    }
    let gram = matmul(&transpose(&a, &[]).unwrap(), &a).unwrap();
    let (e, q) = eigh(&gram).unwrap();
    assert!(values(&e).is_sorted());
    near(&matmul(&binary(&q, "mul", &e).unwrap(), &transpose(&q, &[]).unwrap()).unwrap(), &values(&gram));
    let l = cholesky(&gram, 0.0).unwrap();
    near(&matmul(&l, &transpose(&l, &[]).unwrap()).unwrap(), &values(&gram));
    let x = floats(&[4, 1], &[1.0, -2.0, 3.0, 4.0]);
    let upper = transpose(&l, &[]).unwrap();
    near(&triangular_solve(&l, &matmul(&l, &x).unwrap(), false, false).unwrap(), &values(&x));
    near(&triangular_solve(&l, &matmul(&upper, &x).unwrap(), false, true).unwrap(), &values(&x));
    near(&triangular_solve(&upper, &matmul(&upper, &x).unwrap(), true, false).unwrap(), &values(&x));
    near(&triangular_solve(&upper, &matmul(&l, &x).unwrap(), true, true).unwrap(), &values(&x));
    let identity = matmul(&inverse(&gram).unwrap(), &gram).unwrap();
    let expected: Vec<f32> = (0..16).map(|i| if i % 5 == 0 { 1.0 } else { 0.0 }).collect();
    let apart = values(&identity).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-4, "{apart}");
}

#[test]
fn known_factors() {
    let a = floats(&[2, 2], &[4.0, 2.0, 2.0, 3.0]);
    near(&cholesky(&a, 0.0).unwrap(), &[2.0, 0.0, 1.0, 2f32.sqrt()]);
    near(&inverse(&a).unwrap(), &[0.375, -0.25, -0.25, 0.5]);
    near(&eigh(&a).unwrap().0, &[(7.0 - 17f32.sqrt()) / 2.0, (7.0 + 17f32.sqrt()) / 2.0]);
    near(&svd(&floats(&[2, 2], &[3.0, 0.0, 0.0, -4.0]), None).unwrap().1, &[4.0, 3.0]);
    assert_eq!(message(inverse(&floats(&[2, 2], &[1.0, 2.0, 2.0, 4.0]))), "inverse: float32 [2, 2] is singular");
    assert_eq!(message(inverse(&floats(&[1, 2], &[1.0, 2.0]))), "inverse: float32 [1, 2] is not a square matrix");
    assert_eq!(
        message(cholesky(&floats(&[2, 2], &[1.0, 2.0, 2.0, 1.0]), 0.01)),
        "cholesky: float32 [2, 2] with damping 0.01 is not positive definite; raise the damping"
    );
    assert_eq!(message(svd(&floats(&[1, 1], &[f32::NAN]), None)), "svd: float32 [1, 1] holds NaN or infinite numbers");
    assert_eq!(message(eigh(&floats(&[2, 2], &[1.0, 2.0, 0.0, 1.0]))), "eigh: float32 [2, 2] is not symmetric");
    assert_eq!(
        message(triangular_solve(&a, &floats(&[1, 2], &[0.0; 2]), true, false)),
        "triangular-solve: float32 [2, 2] and float32 [1, 2] differ in rows"
    );
}

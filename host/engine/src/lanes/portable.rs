//! Lanes as arrays, for processors without kernels of their own.

use super::{LANES, Lanes, QUAD};
use half::{bf16, f16};
use std::array::from_fn;

pub(crate) struct Portable;

impl Lanes for Portable {
    type Codes = [u8; LANES * QUAD];
    type Sum = [i32; LANES];
    type Integers = [i32; LANES];
    type Floats = [f32; LANES];

    const NARROW: bool = false;
    const BIAS: i32 = 0;
    const TOKENS: (usize, usize, usize) = (2, 2, 2);

    #[inline(always)]
    unsafe fn codes(at: *const u8) -> Self::Codes {
        // SAFETY: the caller's 64 bytes.
        unsafe { at.cast::<Self::Codes>().read() }
    }

    #[inline(always)]
    unsafe fn and(codes: Self::Codes, mask: u8) -> Self::Codes {
        codes.map(|c| c & mask)
    }

    #[inline(always)]
    unsafe fn or(a: Self::Codes, b: Self::Codes) -> Self::Codes {
        from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    unsafe fn down(codes: Self::Codes, by: u32) -> Self::Codes {
        codes.map(|c| c >> by)
    }

    #[inline(always)]
    unsafe fn up(codes: Self::Codes, by: u32) -> Self::Codes {
        codes.map(|c| c << by)
    }

    #[inline(always)]
    unsafe fn look_up(codes: Self::Codes, table: &[u8; 16]) -> Self::Codes {
        codes.map(|c| table[usize::from(c & 15)])
    }

    #[inline(always)]
    unsafe fn sum() -> Self::Sum {
        [0; LANES]
    }

    #[inline(always)]
    unsafe fn multiply(sum: Self::Sum, codes: Self::Codes, x: i32) -> Self::Sum {
        let x = x.to_le_bytes().map(|b| i32::from(b as i8));
        from_fn(|lane| sum[lane] + (0..QUAD).map(|i| i32::from(codes[lane * QUAD + i]) * x[i]).sum::<i32>())
    }

    #[inline(always)]
    unsafe fn settle(total: Self::Integers, sum: Self::Sum) -> Self::Integers {
        from_fn(|lane| total[lane] + sum[lane])
    }

    #[inline(always)]
    unsafe fn integers(x: i32) -> Self::Integers {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn scaled(x: Self::Integers, by: i32) -> Self::Integers {
        x.map(|x| x * by)
    }

    #[inline(always)]
    unsafe fn multiply_wide(total: Self::Integers, codes: Self::Codes, x: i32) -> Self::Integers {
        // SAFETY: arrays need nothing.
        unsafe { Self::multiply(total, codes, x) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::Floats {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn float(x: Self::Integers) -> Self::Floats {
        x.map(|x| x as f32)
    }

    #[inline(always)]
    unsafe fn unsigned(at: *const u8) -> Self::Floats {
        // SAFETY: the caller's sixteen bytes.
        unsafe { at.cast::<[u8; LANES]>().read() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn signed(at: *const u8) -> Self::Floats {
        // SAFETY: the caller's sixteen bytes.
        unsafe { at.cast::<[i8; LANES]>().read() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn nibbles(at: *const u8) -> [Self::Floats; 2] {
        // SAFETY: the caller's sixteen bytes.
        let bytes = unsafe { at.cast::<[u8; LANES]>().read() };
        [bytes.map(|b| f32::from(b & 15)), bytes.map(|b| f32::from(b >> 4))]
    }

    #[inline(always)]
    unsafe fn singles(at: *const f32) -> Self::Floats {
        // SAFETY: the caller's sixteen numbers.
        unsafe { at.cast::<Self::Floats>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn halves(at: *const u8) -> Self::Floats {
        // SAFETY: the caller's sixteen numbers.
        unsafe { at.cast::<[[u8; 2]; LANES]>().read() }.map(|b| f16::from_le_bytes(b).to_f32())
    }

    #[inline(always)]
    unsafe fn bfloats(at: *const u8) -> Self::Floats {
        // SAFETY: the caller's sixteen numbers.
        unsafe { at.cast::<[[u8; 2]; LANES]>().read() }.map(|b| bf16::from_le_bytes(b).to_f32())
    }

    #[inline(always)]
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    unsafe fn subtract(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    unsafe fn times(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        // Fused only where the processor does it: elsewhere it would be a call.
        from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    unsafe fn indices(bits: u32) -> Self::Integers {
        from_fn(|lane| (bits >> (2 * lane) & 3) as i32)
    }

    #[inline(always)]
    unsafe fn pick(x: *const f32, indices: Self::Integers) -> Self::Floats {
        // SAFETY: the caller's four numbers.
        let x = unsafe { x.cast::<[f32; QUAD]>().read_unaligned() };
        indices.map(|i| x[i as usize & 3])
    }

    #[inline(always)]
    unsafe fn store(x: Self::Floats, to: *mut f32, count: usize) {
        // SAFETY: the caller's room for `count` numbers.
        unsafe { std::ptr::copy_nonoverlapping(x.as_ptr(), to, count) };
    }
}

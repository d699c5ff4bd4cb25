//! Lanes as two registers of AVX2. Products of unsigned and signed bytes come in pairs of 16 bits; codes of eight bits, whose
//! pairs would not fit, are made signed and their magnitudes multiplied with activations that take over the sign.

use super::{LANES, Lanes};
use std::arch::x86_64::*;

pub(crate) struct Avx2;

const HALF: usize = LANES / 2;

#[inline(always)]
fn both<A: Copy, B>(a: [A; 2], f: impl Fn(A) -> B) -> [B; 2] {
    [f(a[0]), f(a[1])]
}

#[inline(always)]
fn zip<A: Copy, B: Copy, C>(a: [A; 2], b: [B; 2], f: impl Fn(A, B) -> C) -> [C; 2] {
    [f(a[0], b[0]), f(a[1], b[1])]
}

// SAFETY of all blocks: the caller's processor has the instructions, and its pointers are to as much as is read or written.
#[allow(clippy::undocumented_unsafe_blocks, reason = "said once, above")]
impl Lanes for Avx2 {
    type Codes = [__m256i; 2];
    type Sum = [__m256i; 2];
    type Integers = [__m256i; 2];
    type Floats = [__m256; 2];

    const NARROW: bool = true;
    const BIAS: i32 = 128;
    const TOKENS: (usize, usize, usize) = (4, 6, 4);

    #[inline(always)]
    unsafe fn codes(at: *const u8) -> Self::Codes {
        unsafe { [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())] }
    }

    #[inline(always)]
    unsafe fn and(codes: Self::Codes, mask: u8) -> Self::Codes {
        unsafe { both(codes, |c| _mm256_and_si256(c, _mm256_set1_epi8(mask as i8))) }
    }

    #[inline(always)]
    unsafe fn or(a: Self::Codes, b: Self::Codes) -> Self::Codes {
        unsafe { zip(a, b, |a, b| _mm256_or_si256(a, b)) }
    }

    #[inline(always)]
    unsafe fn down(codes: Self::Codes, by: u32) -> Self::Codes {
        unsafe { both(codes, |c| _mm256_srl_epi16(c, _mm_cvtsi32_si128(by as i32))) }
    }

    #[inline(always)]
    unsafe fn up(codes: Self::Codes, by: u32) -> Self::Codes {
        unsafe { both(codes, |c| _mm256_sll_epi16(c, _mm_cvtsi32_si128(by as i32))) }
    }

    #[inline(always)]
    unsafe fn look_up(codes: Self::Codes, table: &[u8; 16]) -> Self::Codes {
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            both(codes, |c| _mm256_shuffle_epi8(table, c))
        }
    }

    #[inline(always)]
    unsafe fn sum() -> Self::Sum {
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    unsafe fn multiply(sum: Self::Sum, codes: Self::Codes, x: i32) -> Self::Sum {
        unsafe {
            let x = _mm256_set1_epi32(x);
            zip(sum, codes, |s, c| _mm256_add_epi16(s, _mm256_maddubs_epi16(c, x)))
        }
    }

    #[inline(always)]
    unsafe fn settle(total: Self::Integers, sum: Self::Sum) -> Self::Integers {
        unsafe { zip(total, sum, |t, s| _mm256_add_epi32(t, _mm256_madd_epi16(s, _mm256_set1_epi16(1)))) }
    }

    #[inline(always)]
    unsafe fn integers(x: i32) -> Self::Integers {
        unsafe { [_mm256_set1_epi32(x); 2] }
    }

    #[inline(always)]
    unsafe fn scaled(x: Self::Integers, by: i32) -> Self::Integers {
        unsafe { both(x, |x| _mm256_mullo_epi32(x, _mm256_set1_epi32(by))) }
    }

    #[inline(always)]
    unsafe fn multiply_wide(total: Self::Integers, codes: Self::Codes, x: i32) -> Self::Integers {
        unsafe {
            let x = _mm256_set1_epi32(x);
            // The same for all tokens, and computed once: the calls are inlined.
            let signed = both(codes, |c| _mm256_xor_si256(c, _mm256_set1_epi8(-128)));
            let magnitude = both(signed, |s| _mm256_abs_epi8(s));
            let pairs = zip(magnitude, signed, |m, s| _mm256_maddubs_epi16(m, _mm256_sign_epi8(x, s)));
            zip(total, pairs, |t, p| _mm256_add_epi32(t, _mm256_madd_epi16(p, _mm256_set1_epi16(1))))
        }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::Floats {
        unsafe { [_mm256_set1_ps(x); 2] }
    }

    #[inline(always)]
    unsafe fn float(x: Self::Integers) -> Self::Floats {
        unsafe { both(x, |x| _mm256_cvtepi32_ps(x)) }
    }

    #[inline(always)]
    unsafe fn unsigned(at: *const u8) -> Self::Floats {
        unsafe {
            let bytes = _mm_loadu_si128(at.cast());
            both([bytes, _mm_srli_si128::<8>(bytes)], |b| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b)))
        }
    }

    #[inline(always)]
    unsafe fn signed(at: *const u8) -> Self::Floats {
        unsafe {
            let bytes = _mm_loadu_si128(at.cast());
            both([bytes, _mm_srli_si128::<8>(bytes)], |b| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)))
        }
    }

    #[inline(always)]
    unsafe fn nibbles(at: *const u8) -> [Self::Floats; 2] {
        unsafe {
            let bytes = _mm_loadu_si128(at.cast());
            let wide = both([bytes, _mm_srli_si128::<8>(bytes)], |b| _mm256_cvtepu8_epi32(b));
            let low = both(wide, |w| _mm256_cvtepi32_ps(_mm256_and_si256(w, _mm256_set1_epi32(15))));
            [low, both(wide, |w| _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(w)))]
        }
    }

    #[inline(always)]
    unsafe fn singles(at: *const f32) -> Self::Floats {
        unsafe { [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(HALF))] }
    }

    #[inline(always)]
    unsafe fn halves(at: *const u8) -> Self::Floats {
        unsafe { both([at, at.add(16)], |at| _mm256_cvtph_ps(_mm_loadu_si128(at.cast()))) }
    }

    #[inline(always)]
    unsafe fn bfloats(at: *const u8) -> Self::Floats {
        // A bfloat16 is the upper half of a float32.
        unsafe {
            both([at, at.add(16)], |at| {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            })
        }
    }

    #[inline(always)]
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { zip(a, b, |a, b| _mm256_add_ps(a, b)) }
    }

    #[inline(always)]
    unsafe fn subtract(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { zip(a, b, |a, b| _mm256_sub_ps(a, b)) }
    }

    #[inline(always)]
    unsafe fn times(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { zip(a, b, |a, b| _mm256_mul_ps(a, b)) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    #[inline(always)]
    unsafe fn indices(bits: u32) -> Self::Integers {
        // `pick` looks at the lowest two bits of a lane only.
        unsafe {
            let low = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
            let high = _mm256_setr_epi32(16, 18, 20, 22, 24, 26, 28, 30);
            both([low, high], |shifts| _mm256_srlv_epi32(_mm256_set1_epi32(bits as i32), shifts))
        }
    }

    #[inline(always)]
    unsafe fn pick(x: *const f32, indices: Self::Integers) -> Self::Floats {
        unsafe {
            let x = _mm256_broadcast_ps(&*x.cast::<__m128>());
            both(indices, |i| _mm256_permutevar_ps(x, i))
        }
    }

    #[inline(always)]
    unsafe fn store(x: Self::Floats, to: *mut f32, count: usize) {
        unsafe {
            if count == LANES {
                _mm256_storeu_ps(to, x[0]);
                _mm256_storeu_ps(to.add(HALF), x[1]);
            } else {
                let mut all = [0f32; LANES];
                _mm256_storeu_ps(all.as_mut_ptr(), x[0]);
                _mm256_storeu_ps(all[HALF..].as_mut_ptr(), x[1]);
                std::ptr::copy_nonoverlapping(all.as_ptr(), to, count);
            }
        }
    }
}

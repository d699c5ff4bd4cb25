//! Lanes as one register of AVX-512. VNNI sums products of four unsigned and four signed bytes in 32 bits.

use super::{LANES, Lanes};
use std::arch::x86_64::*;

pub(crate) struct Avx512;

// SAFETY of all blocks: the caller's processor has the instructions, and its pointers are to as much as is read or written.
#[allow(clippy::undocumented_unsafe_blocks, reason = "said once, above")]
impl Lanes for Avx512 {
    type Codes = __m512i;
    type Sum = __m512i;
    type Integers = __m512i;
    type Floats = __m512;

    const NARROW: bool = false;
    const BIAS: i32 = 0;
    const TOKENS: (usize, usize, usize) = (12, 12, 12);

    #[inline(always)]
    unsafe fn codes(at: *const u8) -> Self::Codes {
        unsafe { _mm512_loadu_si512(at.cast()) }
    }

    #[inline(always)]
    unsafe fn and(codes: Self::Codes, mask: u8) -> Self::Codes {
        unsafe { _mm512_and_si512(codes, _mm512_set1_epi8(mask as i8)) }
    }

    #[inline(always)]
    unsafe fn or(a: Self::Codes, b: Self::Codes) -> Self::Codes {
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    unsafe fn down(codes: Self::Codes, by: u32) -> Self::Codes {
        unsafe { _mm512_srl_epi16(codes, _mm_cvtsi32_si128(by as i32)) }
    }

    #[inline(always)]
    unsafe fn up(codes: Self::Codes, by: u32) -> Self::Codes {
        unsafe { _mm512_sll_epi16(codes, _mm_cvtsi32_si128(by as i32)) }
    }

    #[inline(always)]
    unsafe fn look_up(codes: Self::Codes, table: &[u8; 16]) -> Self::Codes {
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, codes)
        }
    }

    #[inline(always)]
    unsafe fn sum() -> Self::Sum {
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn multiply(sum: Self::Sum, codes: Self::Codes, x: i32) -> Self::Sum {
        unsafe { _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(x)) }
    }

    #[inline(always)]
    unsafe fn settle(total: Self::Integers, sum: Self::Sum) -> Self::Integers {
        unsafe { _mm512_add_epi32(total, sum) }
    }

    #[inline(always)]
    unsafe fn integers(x: i32) -> Self::Integers {
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    unsafe fn scaled(x: Self::Integers, by: i32) -> Self::Integers {
        unsafe { _mm512_mullo_epi32(x, _mm512_set1_epi32(by)) }
    }

    #[inline(always)]
    unsafe fn multiply_wide(total: Self::Integers, codes: Self::Codes, x: i32) -> Self::Integers {
        unsafe { Self::multiply(total, codes, x) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::Floats {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn float(x: Self::Integers) -> Self::Floats {
        unsafe { _mm512_cvtepi32_ps(x) }
    }

    #[inline(always)]
    unsafe fn unsigned(at: *const u8) -> Self::Floats {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast()))) }
    }

    #[inline(always)]
    unsafe fn signed(at: *const u8) -> Self::Floats {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()))) }
    }

    #[inline(always)]
    unsafe fn nibbles(at: *const u8) -> [Self::Floats; 2] {
        unsafe {
            let wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast()));
            let low = _mm512_and_si512(wide, _mm512_set1_epi32(15));
            [_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(wide))]
        }
    }

    #[inline(always)]
    unsafe fn singles(at: *const f32) -> Self::Floats {
        unsafe { _mm512_loadu_ps(at) }
    }

    #[inline(always)]
    unsafe fn halves(at: *const u8) -> Self::Floats {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }

    #[inline(always)]
    unsafe fn bfloats(at: *const u8) -> Self::Floats {
        // A bfloat16 is the upper half of a float32.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn subtract(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn times(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn indices(bits: u32) -> Self::Integers {
        // `pick` looks at the lowest two bits of a lane only.
        unsafe {
            let shifts = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            _mm512_srlv_epi32(_mm512_set1_epi32(bits as i32), shifts)
        }
    }

    #[inline(always)]
    unsafe fn pick(x: *const f32, indices: Self::Integers) -> Self::Floats {
        unsafe { _mm512_permutevar_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(x)), indices) }
    }

    #[inline(always)]
    unsafe fn store(x: Self::Floats, to: *mut f32, count: usize) {
        unsafe {
            if count == LANES {
                _mm512_storeu_ps(to, x);
            } else {
                _mm512_mask_storeu_ps(to, (1u16 << count) - 1, x);
            }
        }
    }
}

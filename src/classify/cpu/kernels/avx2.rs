//! AVX2 and FMA kernels: vectors of eight f32, byte products by `vpmaddubsw` on 7-bit activations (see
//! [`super::avx512`] for why not 16-bit operands).

use std::arch::x86_64::*;

use super::simd::{Dot, Simd, operations, with_rows};
use crate::classify::cpu::linear::{BLOCK, GROUP, PANEL};

/// Proof that the processor has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// `None` where the processor lacks AVX2 or FMA.
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

// SAFETY of every block in this impl: the token exists, so the processor has AVX2 and FMA; slices are checked to hold
// a register before they are read or written.
impl Simd for Avx2 {
    type F = __m256;
    const LANES: usize = 8;
    const F32_ROWS: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> __m256 {
        assert!(from.len() >= 8);
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32], x: __m256) {
        assert!(to.len() >= 8);
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), x) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn pow2(self, a: __m256) -> __m256 {
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    fn reduce_add(self, a: __m256) -> f32 {
        let mut x = [0.0; 8];
        self.store(&mut x, a);
        ((x[0] + x[4]) + (x[1] + x[5])) + ((x[2] + x[6]) + (x[3] + x[7]))
    }
    #[inline(always)]
    fn reduce_min(self, a: __m256) -> f32 {
        let mut x = [0.0; 8];
        self.store(&mut x, a);
        x.into_iter().fold(x[0], f32::min)
    }
    #[inline(always)]
    fn reduce_max(self, a: __m256) -> f32 {
        let mut x = [0.0; 8];
        self.store(&mut x, a);
        x.into_iter().fold(x[0], f32::max)
    }
    #[inline(always)]
    fn any_greater(self, a: __m256, b: __m256) -> bool {
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) != 0 }
    }
    #[inline(always)]
    fn store_u8(self, to: &mut [u8], a: __m256) {
        assert!(to.len() >= 8);
        unsafe {
            let words = _mm256_cvtps_epi32(a);
            let halves = _mm_packus_epi32(
                _mm256_castsi256_si128(words),
                _mm256_extracti128_si256::<1>(words),
            );
            _mm_storel_epi64(to.as_mut_ptr().cast(), _mm_packus_epi16(halves, halves));
        }
    }
    #[inline(always)]
    fn without_zero_point(self, acc: &[i32], sums: &[i32], zero: i32) -> __m256 {
        assert!(acc.len() >= 8 && sums.len() >= 8);
        unsafe {
            let acc = _mm256_loadu_si256(acc.as_ptr().cast());
            let sums = _mm256_loadu_si256(sums.as_ptr().cast());
            _mm256_cvtepi32_ps(_mm256_sub_epi32(
                acc,
                _mm256_mullo_epi32(sums, _mm256_set1_epi32(zero)),
            ))
        }
    }
    #[inline(always)]
    fn add_bytes(self, acc: &mut [i32], words: &[i8], left: u32, factor: i32) {
        assert!(acc.len() >= 8 && words.len() >= 32);
        unsafe {
            let words = _mm256_loadu_si256(words.as_ptr().cast());
            let bytes =
                _mm256_srai_epi32::<24>(_mm256_sll_epi32(words, _mm_cvtsi32_si128(left as i32)));
            let product = _mm256_mullo_epi32(bytes, _mm256_set1_epi32(factor));
            let sum = _mm256_add_epi32(_mm256_loadu_si256(acc.as_ptr().cast()), product);
            _mm256_storeu_si256(acc.as_mut_ptr().cast(), sum);
        }
    }
    #[inline(always)]
    unsafe fn load_ptr(self, from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store_ptr(self, to: *mut f32, x: __m256) {
        unsafe { _mm256_storeu_ps(to, x) }
    }
}

impl Dot for Avx2 {
    /// Eight accumulators, four registers of weights, and what a block's sum needs, of sixteen.
    const ROWS: usize = 8;
    const LARGEST_ACTIVATION: u8 = 127;

    #[inline(always)]
    unsafe fn dot_tile(
        self,
        rows: usize,
        a: *const u8,
        panel: *const i8,
        depth: usize,
        out: *mut i32,
    ) {
        // SAFETY: as the caller promises; the token proves the features. Eight columns at a time, four times.
        with_rows!(rows, Self::ROWS, R => unsafe {
            for column in (0..PANEL).step_by(8) {
                columns::<R>(a, panel.add(column * GROUP), depth, out.add(column));
            }
        });
    }
}

/// # Safety
/// As [`Dot::dot_tile`] with `rows = R`, for the eight columns at which `panel` and `out` start.
#[inline(always)]
unsafe fn columns<const R: usize>(a: *const u8, panel: *const i8, depth: usize, out: *mut i32) {
    // SAFETY: offsets stay inside R rows of `depth` bytes and one panel; `depth` is a multiple of 16.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let mut acc = [_mm256_setzero_si256(); R];
        for k in (0..depth).step_by(BLOCK) {
            let mut b = [_mm256_setzero_si256(); 4];
            for (g, b) in b.iter_mut().enumerate() {
                *b = _mm256_loadu_si256(panel.add((k + g * GROUP) * PANEL).cast());
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let product = |g: usize| {
                    let x = a.add(r * depth + k + g * GROUP).cast::<i32>().read_unaligned();
                    _mm256_maddubs_epi16(_mm256_set1_epi32(x), b[g])
                };
                let low = _mm256_add_epi16(product(0), product(1));
                let sum = _mm256_add_epi16(low, _mm256_add_epi16(product(2), product(3)));
                *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(sum, ones));
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            _mm256_storeu_si256(out.add(r * PANEL).cast(), *acc);
        }
    }
}

operations!(Avx2, "avx2,fma");

//! AVX-512 (F, BW, VL, DQ) kernels, with VNNI's byte products where the processor has them.
//!
//! Without VNNI the byte product is `vpmaddubsw`, which adds two products in 16 bits and saturates. Widening to 16-bit
//! operands instead (`vpmaddwd`) would need as many instructions per multiply-add as f32 FMA and so gain nothing;
//! 7-bit activations with weights scaled as [`crate::classify::cpu::linear`] describes are exact and need nine instructions for 256.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::simd::{Dot, Simd, operations, with_rows};
use crate::classify::cpu::linear::{BLOCK, GROUP, PANEL};

/// Proof that the processor has AVX-512 F, BW, VL and DQ, and what `D` names.
pub(super) struct Avx512<D>(PhantomData<D>);

/// Byte products by `vpdpbusd`.
pub(super) struct Vnni;
/// Byte products by `vpmaddubsw`.
pub(super) struct Bw;

impl<D> Clone for Avx512<D> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<D> Copy for Avx512<D> {}

fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("fma")
}

impl Avx512<Vnni> {
    /// `None` where the processor lacks AVX-512 or VNNI.
    pub(super) fn detect() -> Option<Self> {
        (has_avx512() && is_x86_feature_detected!("avx512vnni")).then_some(Self(PhantomData))
    }
}

impl Avx512<Bw> {
    /// `None` where the processor lacks AVX-512.
    pub(super) fn detect() -> Option<Self> {
        has_avx512().then_some(Self(PhantomData))
    }
}

// SAFETY of every block in this impl: the token exists, so the processor has AVX-512 F, BW, VL and DQ; slices are
// checked to hold a register before they are read or written.
impl<D> Simd for Avx512<D> {
    type F = __m512;
    const LANES: usize = 16;
    /// Eleven, not twelve: with 24 accumulators the compiler spills some. Measured.
    const F32_ROWS: usize = 11;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> __m512 {
        assert!(from.len() >= 16);
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32], x: __m512) {
        assert!(to.len() >= 16);
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), x) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn pow2(self, a: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(_mm512_set1_ps(1.0), a) }
    }
    #[inline(always)]
    fn reduce_add(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    fn reduce_min(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_min_ps(a) }
    }
    #[inline(always)]
    fn reduce_max(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }
    #[inline(always)]
    fn any_greater(self, a: __m512, b: __m512) -> bool {
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) != 0 }
    }
    #[inline(always)]
    fn store_u8(self, to: &mut [u8], a: __m512) {
        assert!(to.len() >= 16);
        unsafe {
            let bytes = _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(a));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        }
    }
    #[inline(always)]
    fn without_zero_point(self, acc: &[i32], sums: &[i32], zero: i32) -> __m512 {
        assert!(acc.len() >= 16 && sums.len() >= 16);
        unsafe {
            let acc = _mm512_loadu_si512(acc.as_ptr().cast());
            let sums = _mm512_loadu_si512(sums.as_ptr().cast());
            _mm512_cvtepi32_ps(_mm512_sub_epi32(
                acc,
                _mm512_mullo_epi32(sums, _mm512_set1_epi32(zero)),
            ))
        }
    }
    #[inline(always)]
    fn add_bytes(self, acc: &mut [i32], words: &[i8], left: u32, factor: i32) {
        assert!(acc.len() >= 16 && words.len() >= 64);
        unsafe {
            let words = _mm512_loadu_si512(words.as_ptr().cast());
            let bytes =
                _mm512_srai_epi32::<24>(_mm512_sll_epi32(words, _mm_cvtsi32_si128(left as i32)));
            let product = _mm512_mullo_epi32(bytes, _mm512_set1_epi32(factor));
            let sum = _mm512_add_epi32(_mm512_loadu_si512(acc.as_ptr().cast()), product);
            _mm512_storeu_si512(acc.as_mut_ptr().cast(), sum);
        }
    }
    #[inline(always)]
    unsafe fn load_ptr(self, from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store_ptr(self, to: *mut f32, x: __m512) {
        unsafe { _mm512_storeu_ps(to, x) }
    }
}

impl Dot for Avx512<Vnni> {
    /// 24 accumulators, two registers of weights, one of activations.
    const ROWS: usize = 12;
    const LARGEST_ACTIVATION: u8 = 255;

    #[inline(always)]
    unsafe fn dot_tile(
        self,
        rows: usize,
        a: *const u8,
        panel: *const i8,
        depth: usize,
        out: *mut i32,
    ) {
        // SAFETY: as the caller promises; the token proves the features.
        with_rows!(rows, Self::ROWS, R => unsafe { vnni_tile::<R>(a, panel, depth, out) });
    }
}

/// # Safety
/// As [`Dot::dot_tile`] with `rows = R`; the processor has VNNI.
#[inline(always)]
unsafe fn vnni_tile<const R: usize>(a: *const u8, panel: *const i8, depth: usize, out: *mut i32) {
    // SAFETY: offsets stay inside R rows of `depth` bytes and one panel.
    unsafe {
        let mut acc = [[_mm512_setzero_si512(); 2]; R];
        for k in (0..depth).step_by(GROUP) {
            let b0 = _mm512_loadu_si512(panel.add(k * PANEL).cast());
            let b1 = _mm512_loadu_si512(panel.add(k * PANEL + 64).cast());
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(a.add(r * depth + k).cast::<i32>().read_unaligned());
                acc[0] = _mm512_dpbusd_epi32(acc[0], x, b0);
                acc[1] = _mm512_dpbusd_epi32(acc[1], x, b1);
            }
        }
        store(&acc, out);
    }
}

impl Dot for Avx512<Bw> {
    /// 16 accumulators, eight registers of weights, and what a block's sum needs.
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
        // SAFETY: as the caller promises; the token proves the features.
        with_rows!(rows, Self::ROWS, R => unsafe { bw_tile::<R>(a, panel, depth, out) });
    }
}

/// # Safety
/// As [`Dot::dot_tile`] with `rows = R`.
#[inline(always)]
unsafe fn bw_tile<const R: usize>(a: *const u8, panel: *const i8, depth: usize, out: *mut i32) {
    // SAFETY: offsets stay inside R rows of `depth` bytes and one panel; `depth` is a multiple of 16.
    unsafe {
        let ones = _mm512_set1_epi16(1);
        let mut acc = [[_mm512_setzero_si512(); 2]; R];
        for k in (0..depth).step_by(BLOCK) {
            let mut b = [[_mm512_setzero_si512(); 2]; 4];
            for (g, b) in b.iter_mut().enumerate() {
                let line = panel.add((k + g * GROUP) * PANEL);
                *b = [_mm512_loadu_si512(line.cast()), _mm512_loadu_si512(line.add(64).cast())];
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let group = |g: usize| {
                    _mm512_set1_epi32(
                        a.add(r * depth + k + g * GROUP).cast::<i32>().read_unaligned(),
                    )
                };
                let x = group(0);
                let mut sums = [_mm512_maddubs_epi16(x, b[0][0]), _mm512_maddubs_epi16(x, b[0][1])];
                for (g, b) in b.iter().enumerate().skip(1) {
                    let x = group(g);
                    sums[0] = _mm512_add_epi16(sums[0], _mm512_maddubs_epi16(x, b[0]));
                    sums[1] = _mm512_add_epi16(sums[1], _mm512_maddubs_epi16(x, b[1]));
                }
                acc[0] = _mm512_add_epi32(acc[0], _mm512_madd_epi16(sums[0], ones));
                acc[1] = _mm512_add_epi32(acc[1], _mm512_madd_epi16(sums[1], ones));
            }
        }
        store(&acc, out);
    }
}

/// # Safety
/// `out` is valid for R · 32 writes.
#[inline(always)]
unsafe fn store<const R: usize>(acc: &[[__m512i; 2]; R], out: *mut i32) {
    for (r, acc) in acc.iter().enumerate() {
        // SAFETY: as the caller promises.
        unsafe {
            _mm512_storeu_si512(out.add(r * PANEL).cast(), acc[0]);
            _mm512_storeu_si512(out.add(r * PANEL + 16).cast(), acc[1]);
        }
    }
}

operations!(Avx512<Vnni>, "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma");
operations!(Avx512<Bw>, "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma");

//! NEON kernels (aarch64), with the dot-product extension's `sdot` where the processor has it.
//!
//! `sdot` multiplies signed bytes, so levels are taken relative to 128 as they are loaded ([`Dot::LEVEL_OFFSET`]).
//! Without it, products of 7-bit activations are added four deep in 16 bits, which the packing of
//! [`crate::classify::cpu::linear`] keeps from overflowing, and then widened: ten instructions for 64 multiply-adds where f32 has 16.
//!
//! In tests on other processors this file is compiled against `neon_model`, scalar stand-ins for the intrinsics.

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
use std::marker::PhantomData;

#[cfg(not(target_arch = "aarch64"))]
use super::neon_model::*;
use super::simd::{Dot, Simd, operations, with_rows};
use crate::classify::cpu::linear::{BLOCK, GROUP, PANEL};

/// Proof that the processor has NEON, and what `D` names.
pub(super) struct Neon<D>(PhantomData<D>);

/// Byte products by `smull` and `smlal`.
pub(super) struct Base;
/// Byte products by `sdot`.
pub(super) struct DotProduct;

impl<D> Clone for Neon<D> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<D> Copy for Neon<D> {}

#[cfg(target_arch = "aarch64")]
fn has(dot_product: bool) -> bool {
    use std::arch::is_aarch64_feature_detected;
    is_aarch64_feature_detected!("neon")
        && (!dot_product || is_aarch64_feature_detected!("dotprod"))
}

#[cfg(not(target_arch = "aarch64"))]
fn has(_: bool) -> bool {
    true
}

impl Neon<Base> {
    /// `None` where the processor lacks NEON.
    pub(super) fn detect() -> Option<Self> {
        has(false).then_some(Self(PhantomData))
    }
}

impl Neon<DotProduct> {
    /// `None` where the processor lacks NEON or its dot product.
    pub(super) fn detect() -> Option<Self> {
        has(true).then_some(Self(PhantomData))
    }
}

// SAFETY of every block in this impl: the token exists, so the processor has NEON; slices are checked to hold a
// register before they are read or written.
impl<D> Simd for Neon<D> {
    type F = float32x4_t;
    const LANES: usize = 4;
    const F32_ROWS: usize = 12;

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> float32x4_t {
        assert!(from.len() >= 4);
        unsafe { vld1q_f32(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32], x: float32x4_t) {
        assert!(to.len() >= 4);
        unsafe { vst1q_f32(to.as_mut_ptr(), x) }
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vminq_f32(a, b) }
    }
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmaxq_f32(a, b) }
    }
    #[inline(always)]
    fn round(self, a: float32x4_t) -> float32x4_t {
        unsafe { vrndnq_f32(a) }
    }
    #[inline(always)]
    fn pow2(self, a: float32x4_t) -> float32x4_t {
        unsafe {
            let biased = vaddq_s32(vcvtnq_s32_f32(a), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        }
    }
    #[inline(always)]
    fn reduce_add(self, a: float32x4_t) -> f32 {
        unsafe { vaddvq_f32(a) }
    }
    #[inline(always)]
    fn reduce_min(self, a: float32x4_t) -> f32 {
        unsafe { vminvq_f32(a) }
    }
    #[inline(always)]
    fn reduce_max(self, a: float32x4_t) -> f32 {
        unsafe { vmaxvq_f32(a) }
    }
    #[inline(always)]
    fn any_greater(self, a: float32x4_t, b: float32x4_t) -> bool {
        unsafe { vmaxvq_u32(vcgtq_f32(a, b)) != 0 }
    }
    #[inline(always)]
    fn store_u8(self, to: &mut [u8], a: float32x4_t) {
        assert!(to.len() >= 4);
        unsafe {
            let halves = vqmovun_s32(vcvtnq_s32_f32(a));
            let bytes = vqmovn_u16(vcombine_u16(halves, halves));
            let word = vget_lane_u32::<0>(vreinterpret_u32_u8(bytes));
            to[..4].copy_from_slice(&word.to_ne_bytes());
        }
    }
    #[inline(always)]
    fn without_zero_point(self, acc: &[i32], sums: &[i32], zero: i32) -> float32x4_t {
        assert!(acc.len() >= 4 && sums.len() >= 4);
        unsafe {
            vcvtq_f32_s32(vmlsq_s32(
                vld1q_s32(acc.as_ptr()),
                vld1q_s32(sums.as_ptr()),
                vdupq_n_s32(zero),
            ))
        }
    }
    #[inline(always)]
    fn add_bytes(self, acc: &mut [i32], words: &[i8], left: u32, factor: i32) {
        assert!(acc.len() >= 4 && words.len() >= 16);
        unsafe {
            let words = vreinterpretq_s32_s8(vld1q_s8(words.as_ptr()));
            let bytes = vshrq_n_s32::<24>(vshlq_s32(words, vdupq_n_s32(left as i32)));
            vst1q_s32(
                acc.as_mut_ptr(),
                vmlaq_s32(vld1q_s32(acc.as_ptr()), bytes, vdupq_n_s32(factor)),
            );
        }
    }
    #[inline(always)]
    unsafe fn load_ptr(self, from: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn store_ptr(self, to: *mut f32, x: float32x4_t) {
        unsafe { vst1q_f32(to, x) }
    }
}

impl Dot for Neon<DotProduct> {
    /// 16 accumulators, eight registers of activations, two of weights.
    const ROWS: usize = 8;
    const LARGEST_ACTIVATION: u8 = 255;
    const LEVEL_OFFSET: i32 = 128;

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
                dot_columns::<R>(a, panel.add(column * GROUP), depth, out.add(column));
            }
        });
    }
}

/// # Safety
/// As [`Dot::dot_tile`] with `rows = R`, for the eight columns at which `panel` and `out` start; the processor has
/// `sdot`.
#[inline(always)]
unsafe fn dot_columns<const R: usize>(a: *const u8, panel: *const i8, depth: usize, out: *mut i32) {
    // SAFETY: offsets stay inside R rows of `depth` bytes and one panel; `depth` is a multiple of 16.
    unsafe {
        let middle = vdupq_n_u8(128);
        let mut acc = [[vdupq_n_s32(0); 2]; R];
        for k in (0..depth).step_by(BLOCK) {
            let mut x = [vdupq_n_s8(0); R];
            for (r, x) in x.iter_mut().enumerate() {
                // Flipping the top bit of a byte is subtracting 128 from it.
                *x = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(a.add(r * depth + k)), middle));
            }
            macro_rules! group {
                ($g:literal) => {
                    let line = panel.add((k + $g * GROUP) * PANEL);
                    let b = [vld1q_s8(line), vld1q_s8(line.add(16))];
                    for (acc, &x) in acc.iter_mut().zip(&x) {
                        acc[0] = sdot::<$g>(acc[0], b[0], x);
                        acc[1] = sdot::<$g>(acc[1], b[1], x);
                    }
                };
            }
            group!(0);
            group!(1);
            group!(2);
            group!(3);
        }
        for (r, acc) in acc.iter().enumerate() {
            vst1q_s32(out.add(r * PANEL), acc[0]);
            vst1q_s32(out.add(r * PANEL + 4), acc[1]);
        }
    }
}

/// acc + for each 32-bit lane of `b` its four bytes times the four bytes of lane `LANE` of `x`. The intrinsic is not
/// stable yet.
///
/// # Safety
/// The processor has the dot-product extension.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn sdot<const LANE: i32>(acc: int32x4_t, b: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut sum = acc;
    // SAFETY: registers in, registers out; the caller has the extension.
    unsafe {
        std::arch::asm!(
            "sdot {sum:v}.4s, {b:v}.16b, {x:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            b = in(vreg) b,
            x = in(vreg) x,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

impl Dot for Neon<Base> {
    /// 16 accumulators (two for each four columns), four registers of weights, one of activations, two of sums.
    const ROWS: usize = 4;
    const LARGEST_ACTIVATION: u8 = 127;
    const LEVEL_OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn dot_tile(
        self,
        rows: usize,
        a: *const u8,
        panel: *const i8,
        depth: usize,
        out: *mut i32,
    ) {
        // SAFETY: as the caller promises; the token proves the features. Four columns at a time, eight times.
        with_rows!(rows, Self::ROWS, R => unsafe {
            for column in (0..PANEL).step_by(4) {
                base_columns::<R>(a, panel.add(column * GROUP), depth, out.add(column));
            }
        });
    }
}

/// # Safety
/// As [`Dot::dot_tile`] with `rows = R`, for the four columns at which `panel` and `out` start.
#[inline(always)]
unsafe fn base_columns<const R: usize>(
    a: *const u8,
    panel: *const i8,
    depth: usize,
    out: *mut i32,
) {
    // SAFETY: offsets stay inside R rows of `depth` bytes and one panel; `depth` is a multiple of 16.
    unsafe {
        // Columns 0 and 1 in the first register, 2 and 3 in the second, two partial sums each.
        let mut acc = [[vdupq_n_s32(0); 2]; R];
        for k in (0..depth).step_by(BLOCK) {
            let mut b = [vdupq_n_s8(0); 4];
            for (g, b) in b.iter_mut().enumerate() {
                *b = vld1q_s8(panel.add((k + g * GROUP) * PANEL));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let group = |g: usize| {
                    let word = a.add(r * depth + k + g * GROUP).cast::<i32>().read_unaligned();
                    vreinterpretq_s8_s32(vdupq_n_s32(word))
                };
                let x = group(0);
                let mut low = vmull_s8(vget_low_s8(b[0]), vget_low_s8(x));
                let mut high = vmull_high_s8(b[0], x);
                for (g, &b) in b.iter().enumerate().skip(1) {
                    let x = group(g);
                    low = vmlal_s8(low, vget_low_s8(b), vget_low_s8(x));
                    high = vmlal_high_s8(high, b, x);
                }
                acc[0] = vpadalq_s16(acc[0], low);
                acc[1] = vpadalq_s16(acc[1], high);
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            vst1q_s32(out.add(r * PANEL), vpaddq_s32(acc[0], acc[1]));
        }
    }
}

#[cfg(target_arch = "aarch64")]
operations!(Neon<DotProduct>, "neon,dotprod");
#[cfg(target_arch = "aarch64")]
operations!(Neon<Base>, "neon");
#[cfg(not(target_arch = "aarch64"))]
operations!(Neon<DotProduct>);
#[cfg(not(target_arch = "aarch64"))]
operations!(Neon<Base>);

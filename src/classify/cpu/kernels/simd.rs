//! What an instruction set has to offer: the few vector operations from which [`super::product`],
//! [`super::attention`] and [`super::rows`] are built once for all processors.
//!
//! A value of a type that implements [`Simd`] is a token: it can only be made after the processor was asked whether
//! it has the instructions, so the register operations are safe to call through it. Loads and stores take slices and
//! check them; over `chunks_exact` of a constant width the check folds away. Only the two tile kernels, where a check
//! per load would cost, take pointers.

/// f32 vectors of one instruction set.
pub(super) trait Simd: Copy {
    /// A register of f32.
    type F: Copy;
    /// f32 values in a register; divides 32.
    const LANES: usize;
    /// Rows of the f32 tile: with two registers of columns, as many as there are registers for accumulators.
    const F32_ROWS: usize;

    fn splat(self, x: f32) -> Self::F;
    /// The first `LANES` values of `from`.
    fn load(self, from: &[f32]) -> Self::F;
    /// Into the first `LANES` values of `to`.
    fn store(self, to: &mut [f32], x: Self::F);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// a · b + c, rounded once where the processor can.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// To the nearest integer, ties to even; |a| < 2²².
    fn round(self, a: Self::F) -> Self::F;
    /// 2^a for integral a in −126..=127.
    fn pow2(self, a: Self::F) -> Self::F;
    fn reduce_add(self, a: Self::F) -> f32;
    fn reduce_min(self, a: Self::F) -> f32;
    fn reduce_max(self, a: Self::F) -> f32;
    /// Whether any value of `a` is greater than its counterpart in `b`.
    fn any_greater(self, a: Self::F, b: Self::F) -> bool;
    /// Rounds to the nearest integer, ties to even, and stores `LANES` bytes; 0 ≤ a ≤ 255.
    fn store_u8(self, to: &mut [u8], a: Self::F);
    /// acc − zero · sums as f32, over `LANES` values.
    fn without_zero_point(self, acc: &[i32], sums: &[i32], zero: i32) -> Self::F;
    /// acc + factor · byte over `LANES` values; each byte is taken from a 32-bit word of `words` by shifting the word
    /// left by `left` bits and then right by 24, sign extended.
    fn add_bytes(self, acc: &mut [i32], words: &[i8], left: u32, factor: i32);

    /// # Safety
    /// `from` is valid for `LANES` reads.
    unsafe fn load_ptr(self, from: *const f32) -> Self::F;
    /// # Safety
    /// `to` is valid for `LANES` writes.
    unsafe fn store_ptr(self, to: *mut f32, x: Self::F);
}

/// The 8-bit product of one instruction set.
pub(super) trait Dot: Simd {
    /// Rows that [`Dot::dot_tile`] multiplies at once at most.
    const ROWS: usize;
    /// Largest quantised activation: 255, or 127 where products of pairs are added in 16 bits.
    const LARGEST_ACTIVATION: u8;
    /// What is subtracted from a level before it is multiplied: 128 where the product takes signed bytes.
    const LEVEL_OFFSET: i32 = 0;

    /// `out[r][c] = Σₖ (a[r][k] − LEVEL_OFFSET) · panel[k][c]` for `rows` rows of unsigned and 32 channels of signed 8-bit values, exact.
    ///
    /// # Safety
    /// `1 ≤ rows ≤ ROWS`; `depth` is a multiple of 16; `a` is valid for reads of `depth` bytes at each of `rows`
    /// offsets `r · depth`, `panel` for `32 · depth` bytes in the order of [`crate::classify::cpu::linear::Int8Panels`], and `out` for
    /// `rows · 32` writes.
    unsafe fn dot_tile(
        self,
        rows: usize,
        a: *const u8,
        panel: *const i8,
        depth: usize,
        out: *mut i32,
    );
}

/// Calls `$tile::<.., R>` with the constant that equals `$rows`, for tiles of up to 12 rows. Sizes beyond `$most` are
/// never asked for; they compile to nothing.
macro_rules! with_rows {
    ($rows:expr, $most:expr, $R:ident => $call:expr) => {
        with_rows!(@ $rows, $most, $R, $call, 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    (@ $rows:expr, $most:expr, $R:ident, $call:expr, $($n:literal)*) => {
        match $rows {
            $($n if $n <= $most => { const $R: usize = $n; $call })*
            other => debug_assert!(false, "tile of {other} rows"),
        }
    };
}
pub(super) use with_rows;

/// Implements [`super::Operations`] for a token: each method enters a function compiled with the instruction set's
/// features, into which the generic code is inlined.
macro_rules! operations {
    ($token:ty $(, $features:literal)?) => {
        impl crate::classify::cpu::kernels::Operations for $token {
            fn pairwise_16_bit(&self) -> bool {
                <$token as crate::classify::cpu::kernels::simd::Dot>::LARGEST_ACTIVATION == 127
            }
            operations!(@ $token, product, crate::classify::cpu::kernels::product::run, crate::classify::cpu::kernels::product::Job<'_> $(, $features)?);
            operations!(@ $token, attention, crate::classify::cpu::kernels::attention::run, crate::classify::cpu::kernels::attention::Job<'_> $(, $features)?);
            operations!(@ $token, embed, crate::classify::cpu::kernels::rows::embed, crate::classify::cpu::kernels::rows::Embed<'_> $(, $features)?);
            operations!(@ $token, layer_norm, crate::classify::cpu::kernels::rows::layer_norm, crate::classify::cpu::kernels::rows::LayerNorm<'_> $(, $features)?);
        }
    };
    (@ $token:ty, $name:ident, $run:path, $job:ty $(, $features:literal)?) => {
        fn $name(&self, job: $job) {
            $(#[target_feature(enable = $features)])?
            fn enter(simd: $token, job: $job) {
                $run(simd, job)
            }
            // SAFETY: the token exists, so the processor has the features.
            #[allow(unused_unsafe, reason = "the portable token needs no features")]
            unsafe {
                enter(*self, job)
            }
        }
    };
}
pub(super) use operations;

//! The kernels without any instruction set: what the others are tested against, and the fallback that the compiler
//! vectorises with what its target is sure to have (SSE2, or NEON on aarch64). Safe but for the tile's pointers.

use super::simd::{Dot, Simd, operations};
use crate::classify::cpu::linear::{GROUP, PANEL};

/// Vectors of four f32 in an array.
#[derive(Clone, Copy)]
pub(super) struct Portable;

type V = [f32; 4];

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

impl Simd for Portable {
    type F = V;
    const LANES: usize = 4;
    const F32_ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; 4]
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> V {
        [from[0], from[1], from[2], from[3]]
    }
    #[inline(always)]
    fn store(self, to: &mut [f32], x: V) {
        to[..4].copy_from_slice(&x);
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        // Two roundings: without an FMA instruction `f32::mul_add` is a library call.
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        // Adding 1.5 · 2²³ leaves no fraction bits, so the addition itself rounds to nearest even.
        const SHIFT: f32 = 12_582_912.0;
        a.map(|x| (x + SHIFT) - SHIFT)
    }
    #[inline(always)]
    fn pow2(self, a: V) -> V {
        a.map(|x| f32::from_bits(((x as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn reduce_add(self, a: V) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
    #[inline(always)]
    fn reduce_min(self, a: V) -> f32 {
        a[0].min(a[1]).min(a[2].min(a[3]))
    }
    #[inline(always)]
    fn reduce_max(self, a: V) -> f32 {
        a[0].max(a[1]).max(a[2].max(a[3]))
    }
    #[inline(always)]
    fn any_greater(self, a: V, b: V) -> bool {
        (a[0] > b[0]) | (a[1] > b[1]) | (a[2] > b[2]) | (a[3] > b[3])
    }
    #[inline(always)]
    fn store_u8(self, to: &mut [u8], a: V) {
        for (to, x) in to[..4].iter_mut().zip(self.round(a)) {
            *to = x as u8;
        }
    }
    #[inline(always)]
    fn without_zero_point(self, acc: &[i32], sums: &[i32], zero: i32) -> V {
        let one = |i: usize| (acc[i] - zero * sums[i]) as f32;
        [one(0), one(1), one(2), one(3)]
    }
    #[inline(always)]
    fn add_bytes(self, acc: &mut [i32], words: &[i8], left: u32, factor: i32) {
        for (acc, word) in acc[..4].iter_mut().zip(words.as_chunks::<GROUP>().0) {
            let word = i32::from_le_bytes(word.map(|byte| byte as u8));
            *acc += factor * ((word << left) >> 24);
        }
    }
    #[inline(always)]
    unsafe fn load_ptr(self, from: *const f32) -> V {
        // SAFETY: valid for four reads, says the caller.
        unsafe { from.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_ptr(self, to: *mut f32, x: V) {
        // SAFETY: valid for four writes, says the caller.
        unsafe { to.cast::<V>().write_unaligned(x) }
    }
}

impl Dot for Portable {
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
        // SAFETY: lengths as the caller promises.
        let (a, panel, out) = unsafe {
            (
                std::slice::from_raw_parts(a, rows * depth),
                std::slice::from_raw_parts(panel, PANEL * depth),
                std::slice::from_raw_parts_mut(out, rows * PANEL),
            )
        };
        dot_tile(a, panel, depth, out);
    }
}

/// The meaning of [`Dot::dot_tile`], one product at a time.
pub(super) fn dot_tile(a: &[u8], panel: &[i8], depth: usize, out: &mut [i32]) {
    for (row, out) in a.chunks_exact(depth).zip(out.chunks_exact_mut(PANEL)) {
        out.fill(0);
        for (four, line) in row.chunks_exact(GROUP).zip(panel.chunks_exact(PANEL * GROUP)) {
            for (out, weights) in out.iter_mut().zip(line.chunks_exact(GROUP)) {
                *out += four
                    .iter()
                    .zip(weights)
                    .map(|(&a, &w)| i32::from(a) * i32::from(w))
                    .sum::<i32>();
            }
        }
    }
}

operations!(Portable);

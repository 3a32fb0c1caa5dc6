//! Scalar stand-ins for the NEON intrinsics that [`super::neon`] uses, so that its logic is type-checked and tested on
//! processors that are not aarch64. Semantics after Arm's "Neon Intrinsics Reference"; test code only.

#![allow(non_camel_case_types, reason = "the intrinsics' own names")]

macro_rules! vectors {
    ($($name:ident = [$lane:ty; $n:literal]),* $(,)?) => {
        $(
            #[derive(Clone, Copy)]
            pub(super) struct $name(pub(super) [$lane; $n]);
        )*
    };
}
vectors! {
    float32x4_t = [f32; 4], int32x4_t = [i32; 4], uint32x4_t = [u32; 4], uint32x2_t = [u32; 2], int16x8_t = [i16; 8],
    uint16x8_t = [u16; 8], uint16x4_t = [u16; 4], int8x16_t = [i8; 16], uint8x16_t = [u8; 16], int8x8_t = [i8; 8],
    uint8x8_t = [u8; 8],
}

use std::array::from_fn;

macro_rules! intrinsics {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty = $body:expr;)*) => {
        $(
            pub(super) unsafe fn $name($($arg: $ty),*) -> $out {
                $body
            }
        )*
    };
}

macro_rules! memory {
    ($($load:ident, $store:ident: $vector:ident = $lane:ty;)*) => {
        $(
            pub(super) unsafe fn $load(from: *const $lane) -> $vector {
                // SAFETY: valid for a register's reads, says the caller.
                $vector(unsafe { from.cast::<[$lane; size_of::<$vector>() / size_of::<$lane>()]>().read_unaligned() })
            }
            #[allow(dead_code, reason = "some vectors are only loaded")]
            pub(super) unsafe fn $store(to: *mut $lane, x: $vector) {
                // SAFETY: valid for a register's writes, says the caller.
                unsafe { to.cast::<[$lane; size_of::<$vector>() / size_of::<$lane>()]>().write_unaligned(x.0) }
            }
        )*
    };
}
memory! {
    vld1q_f32, vst1q_f32: float32x4_t = f32;
    vld1q_s32, vst1q_s32: int32x4_t = i32;
    vld1q_s8, vst1q_s8: int8x16_t = i8;
    vld1q_u8, vst1q_u8: uint8x16_t = u8;
}

intrinsics! {
    vdupq_n_f32(x: f32) -> float32x4_t = float32x4_t([x; 4]);
    vdupq_n_s32(x: i32) -> int32x4_t = int32x4_t([x; 4]);
    vdupq_n_s8(x: i8) -> int8x16_t = int8x16_t([x; 16]);
    vdupq_n_u8(x: u8) -> uint8x16_t = uint8x16_t([x; 16]);
    vaddq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = float32x4_t(from_fn(|i| a.0[i] + b.0[i]));
    vsubq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = float32x4_t(from_fn(|i| a.0[i] - b.0[i]));
    vmulq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = float32x4_t(from_fn(|i| a.0[i] * b.0[i]));
    vfmaq_f32(c: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t =
        float32x4_t(from_fn(|i| a.0[i].mul_add(b.0[i], c.0[i])));
    vminq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = float32x4_t(from_fn(|i| a.0[i].min(b.0[i])));
    vmaxq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = float32x4_t(from_fn(|i| a.0[i].max(b.0[i])));
    vrndnq_f32(a: float32x4_t) -> float32x4_t = float32x4_t(a.0.map(f32::round_ties_even));
    vcvtnq_s32_f32(a: float32x4_t) -> int32x4_t = int32x4_t(a.0.map(|x| x.round_ties_even() as i32));
    vcvtq_f32_s32(a: int32x4_t) -> float32x4_t = float32x4_t(a.0.map(|x| x as f32));
    vaddvq_f32(a: float32x4_t) -> f32 = (a.0[0] + a.0[1]) + (a.0[2] + a.0[3]);
    vminvq_f32(a: float32x4_t) -> f32 = a.0.into_iter().fold(a.0[0], f32::min);
    vmaxvq_f32(a: float32x4_t) -> f32 = a.0.into_iter().fold(a.0[0], f32::max);
    vcgtq_f32(a: float32x4_t, b: float32x4_t) -> uint32x4_t =
        uint32x4_t(from_fn(|i| if a.0[i] > b.0[i] { u32::MAX } else { 0 }));
    vmaxvq_u32(a: uint32x4_t) -> u32 = a.0.into_iter().fold(0, u32::max);
    vaddq_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t = int32x4_t(from_fn(|i| a.0[i].wrapping_add(b.0[i])));
    vmlsq_s32(c: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t =
        int32x4_t(from_fn(|i| c.0[i].wrapping_sub(a.0[i].wrapping_mul(b.0[i]))));
    vmlaq_s32(c: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t =
        int32x4_t(from_fn(|i| c.0[i].wrapping_add(a.0[i].wrapping_mul(b.0[i]))));
    vshlq_s32(a: int32x4_t, by: int32x4_t) -> int32x4_t = int32x4_t(from_fn(|i| a.0[i] << by.0[i]));
    vpaddq_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t =
        int32x4_t([a.0[0] + a.0[1], a.0[2] + a.0[3], b.0[0] + b.0[1], b.0[2] + b.0[3]]);
    vpadalq_s16(c: int32x4_t, a: int16x8_t) -> int32x4_t =
        int32x4_t(from_fn(|i| c.0[i] + i32::from(a.0[2 * i]) + i32::from(a.0[2 * i + 1])));
    vreinterpretq_f32_s32(a: int32x4_t) -> float32x4_t = float32x4_t(a.0.map(|x| f32::from_bits(x as u32)));
    vreinterpretq_s32_s8(a: int8x16_t) -> int32x4_t =
        int32x4_t(from_fn(|i| i32::from_le_bytes(from_fn(|j| a.0[4 * i + j] as u8))));
    vreinterpretq_s8_s32(a: int32x4_t) -> int8x16_t = int8x16_t(from_fn(|i| a.0[i / 4].to_le_bytes()[i % 4] as i8));
    vreinterpretq_s8_u8(a: uint8x16_t) -> int8x16_t = int8x16_t(a.0.map(|x| x as i8));
    vreinterpret_u32_u8(a: uint8x8_t) -> uint32x2_t =
        uint32x2_t(from_fn(|i| u32::from_le_bytes(from_fn(|j| a.0[4 * i + j]))));
    veorq_u8(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t = uint8x16_t(from_fn(|i| a.0[i] ^ b.0[i]));
    vqmovun_s32(a: int32x4_t) -> uint16x4_t = uint16x4_t(a.0.map(|x| x.clamp(0, 65_535) as u16));
    vcombine_u16(a: uint16x4_t, b: uint16x4_t) -> uint16x8_t =
        uint16x8_t(from_fn(|i| if i < 4 { a.0[i] } else { b.0[i - 4] }));
    vqmovn_u16(a: uint16x8_t) -> uint8x8_t = uint8x8_t(a.0.map(|x| x.min(255) as u8));
    vget_low_s8(a: int8x16_t) -> int8x8_t = int8x8_t(from_fn(|i| a.0[i]));
    vmull_s8(a: int8x8_t, b: int8x8_t) -> int16x8_t =
        int16x8_t(from_fn(|i| i16::from(a.0[i]) * i16::from(b.0[i])));
    vmull_high_s8(a: int8x16_t, b: int8x16_t) -> int16x8_t =
        int16x8_t(from_fn(|i| i16::from(a.0[8 + i]) * i16::from(b.0[8 + i])));
    vmlal_s8(c: int16x8_t, a: int8x8_t, b: int8x8_t) -> int16x8_t =
        int16x8_t(from_fn(|i| c.0[i].wrapping_add(i16::from(a.0[i]) * i16::from(b.0[i]))));
    vmlal_high_s8(c: int16x8_t, a: int8x16_t, b: int8x16_t) -> int16x8_t =
        int16x8_t(from_fn(|i| c.0[i].wrapping_add(i16::from(a.0[8 + i]) * i16::from(b.0[8 + i]))));
}

pub(super) unsafe fn vshlq_n_s32<const N: i32>(a: int32x4_t) -> int32x4_t {
    int32x4_t(a.0.map(|x| x << N))
}
pub(super) unsafe fn vshrq_n_s32<const N: i32>(a: int32x4_t) -> int32x4_t {
    int32x4_t(a.0.map(|x| x >> N))
}
pub(super) unsafe fn vget_lane_u32<const LANE: i32>(a: uint32x2_t) -> u32 {
    a.0[LANE as usize]
}
/// The instruction `sdot Vd.4S, Vn.16B, Vm.4B[LANE]`.
pub(super) unsafe fn sdot<const LANE: i32>(
    acc: int32x4_t,
    b: int8x16_t,
    x: int8x16_t,
) -> int32x4_t {
    let product =
        |i: usize, j: usize| i32::from(b.0[4 * i + j]) * i32::from(x.0[4 * LANE as usize + j]);
    int32x4_t(from_fn(|i| acc.0[i] + (0..4).map(|j| product(i, j)).sum::<i32>()))
}

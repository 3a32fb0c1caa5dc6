//! The numerical kernels: the only module with `unsafe`, behind functions that check the shapes they are given.
//!
//! [`Kernel`] names a way of computing; [`Operations`] is what the encoder calls. The algorithms are written once, in
//! [`product`], [`attention`] and [`rows`], over the vector operations that [`simd`] asks of an instruction set; each
//! file named after an instruction set supplies them and is the only place that uses its instructions.

pub(crate) mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod math;
#[cfg(any(target_arch = "aarch64", test))]
mod neon;
#[cfg(all(test, not(target_arch = "aarch64")))]
mod neon_model;
mod portable;
pub(crate) mod product;
pub(crate) mod rows;
mod simd;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

/// How the encoder computes: an instruction set and a precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// 8-bit products by AVX-512 VNNI: Intel since Ice Lake, AMD since Zen 4.
    Avx512Vnni,
    /// 8-bit weights and 7-bit activations by AVX-512 BW: Intel Skylake-SP.
    Avx512Bw,
    /// 8-bit weights and 7-bit activations by AVX2: Intel since Haswell, AMD since Excavator.
    Avx2,
    /// 8-bit products by NEON, with its dot-product extension where the processor has it: aarch64.
    Neon,
    /// Products in f32, with the widest vectors the processor has.
    F32,
    /// Products in f32, with only what the compiler's target is sure to have.
    Portable,
}

/// What the weights must be packed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// 8-bit weights.
    Int8 {
        /// The kernel adds products in 16 bits (see [`crate::classify::cpu::linear`]).
        pairwise_16_bit: bool,
    },
    /// Weights of f16, widened for products in f32.
    F32,
}

/// The steps of a forward pass, on one instruction set.
pub(crate) trait Operations: Send + Sync {
    /// Whether byte products are added in 16 bits, for which weights must be packed with care (see [`crate::classify::cpu::linear`]).
    fn pairwise_16_bit(&self) -> bool;
    fn product(&self, job: product::Job<'_>);
    fn attention(&self, job: attention::Job<'_>);
    fn embed(&self, job: rows::Embed<'_>);
    fn layer_norm(&self, job: rows::LayerNorm<'_>);
}

impl Kernel {
    /// Every kernel, fastest first.
    pub const ALL: [Self; 6] =
        [Self::Avx512Vnni, Self::Avx512Bw, Self::Avx2, Self::Neon, Self::F32, Self::Portable];

    /// The fastest kernel of this processor.
    pub fn detect() -> Self {
        Self::ALL.into_iter().find(|kernel| kernel.is_available()).unwrap_or(Self::Portable)
    }

    /// Whether this processor has the instructions.
    pub fn is_available(self) -> bool {
        self.operations().is_some()
    }

    /// What weights are packed for when `operations` multiply them.
    pub(crate) fn precision(self, operations: &dyn Operations) -> Precision {
        match self {
            Self::F32 | Self::Portable => Precision::F32,
            Self::Avx512Vnni | Self::Avx512Bw | Self::Avx2 | Self::Neon => {
                Precision::Int8 { pairwise_16_bit: operations.pairwise_16_bit() }
            }
        }
    }

    /// `None` where this processor lacks the instructions.
    pub(crate) fn operations(self) -> Option<Box<dyn Operations>> {
        fn boxed<T: Operations + 'static>(token: Option<T>) -> Option<Box<dyn Operations>> {
            token.map(|token| Box::new(token) as _)
        }
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx512Vnni => return boxed(avx512::Avx512::<avx512::Vnni>::detect()),
            Self::Avx512Bw => return boxed(avx512::Avx512::<avx512::Bw>::detect()),
            Self::Avx2 => return boxed(avx2::Avx2::detect()),
            Self::F32 => {
                let widest = boxed(avx512::Avx512::<avx512::Bw>::detect());
                return widest
                    .or_else(|| boxed(avx2::Avx2::detect()))
                    .or(boxed(Some(portable::Portable)));
            }
            Self::Neon | Self::Portable => {}
        }
        #[cfg(target_arch = "aarch64")]
        match self {
            Self::Neon => {
                return boxed(neon::Neon::<neon::DotProduct>::detect())
                    .or_else(|| boxed(neon::Neon::<neon::Base>::detect()));
            }
            Self::F32 => {
                return boxed(neon::Neon::<neon::Base>::detect())
                    .or(boxed(Some(portable::Portable)));
            }
            Self::Avx512Vnni | Self::Avx512Bw | Self::Avx2 | Self::Portable => {}
        }
        match self {
            Self::F32 | Self::Portable => boxed(Some(portable::Portable)),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx512Bw => "avx512-bw",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::F32 => "f32",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A kernel's name is none of the known ones.
#[derive(Debug, thiserror::Error)]
#[error("unknown kernel `{0}`, expected avx512-vnni, avx512-bw, avx2, neon, f32 or portable")]
pub struct UnknownKernel(String);

impl FromStr for Kernel {
    type Err = UnknownKernel;
    fn from_str(name: &str) -> Result<Self, UnknownKernel> {
        Self::ALL
            .into_iter()
            .find(|kernel| kernel.name() == name)
            .ok_or_else(|| UnknownKernel(name.into()))
    }
}

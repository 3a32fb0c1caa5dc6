//! The two encoders behind one seam: our own on the CPU, candle as reference and on CUDA.

use std::{
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::Device as CandleDevice;
use safetensors::SafeTensors;

use super::{
    bert::{BertConfig, Pooling},
    candle::CandleEncoder,
    cpu::{CpuEncoder, Kernel, Scratch},
    model::{Device, ModelError},
};

/// How the CPU computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KernelChoice {
    /// The fastest kernel that the processor has.
    #[default]
    Auto,
    /// This one; loading fails where the processor lacks it.
    Forced(Kernel),
    /// candle's f32 path, the reference.
    Candle,
}

impl KernelChoice {
    /// Every spelling in the configuration.
    pub const NAMES: [&str; 8] =
        ["auto", "avx512-vnni", "avx512-bw", "avx2", "neon", "f32", "portable", "candle"];

    /// Reads one of [`Self::NAMES`].
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "candle" => Some(Self::Candle),
            _ => Kernel::from_str(name).ok().map(Self::Forced),
        }
    }
}

/// A loaded encoder. Cheap to clone: clones share the weights.
#[derive(Clone)]
pub enum Encoder {
    /// Our own forward pass.
    Cpu(Arc<CpuPath>),
    /// candle.
    Candle {
        /// The encoder on its device.
        encoder: CandleEncoder,
        /// `candle` on the CPU, `cuda` on a GPU.
        name: &'static str,
    },
}

/// The CPU encoder with a working memory for each thread that has used it at once.
pub struct CpuPath {
    encoder: CpuEncoder,
    scratch: Mutex<Vec<Scratch>>,
}

impl Encoder {
    /// Loads onto the device; the kernel choice counts on the CPU only.
    pub fn load(
        tensors: &SafeTensors<'_>,
        config: &BertConfig,
        pooling: Pooling,
        device: Device,
        kernel: KernelChoice,
    ) -> Result<Self, ModelError> {
        let failed = |error: &dyn std::fmt::Display| ModelError::Encoder(error.to_string());
        let on_candle = |device: &CandleDevice, name| {
            CandleEncoder::load(tensors, config, pooling, device)
                .map(|encoder| Self::Candle { encoder, name })
                .map_err(|error| failed(&error))
        };
        if let Some(device) = cuda(device)? {
            return on_candle(&device, "cuda");
        }
        let kernel = match kernel {
            KernelChoice::Candle => return on_candle(&CandleDevice::Cpu, "candle"),
            KernelChoice::Auto => Kernel::detect(),
            KernelChoice::Forced(kernel) => kernel,
        };
        let encoder = CpuEncoder::load(tensors, config, pooling, kernel).map_err(|e| failed(&e))?;
        Ok(Self::Cpu(Arc::new(CpuPath { encoder, scratch: Mutex::default() })))
    }

    /// What computes: a kernel's name, `candle` or `cuda`.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu(path) => path.encoder.kernel().to_string(),
            Self::Candle { name, .. } => (*name).to_owned(),
        }
    }

    /// One L2-normalised embedding of `hidden_size` f32 for each sequence of token ids. On the CPU
    /// a sequence's embedding has the same bits whatever batch it is in.
    pub fn embed(&self, batch: &[&[u32]]) -> Result<Vec<Vec<f32>>, ModelError> {
        match self {
            Self::Cpu(path) => path.embed(batch),
            Self::Candle { encoder, .. } => {
                encoder.embed(batch).map_err(|error| ModelError::Encoder(error.to_string()))
            }
        }
    }
}

impl CpuPath {
    fn embed(&self, batch: &[&[u32]]) -> Result<Vec<Vec<f32>>, ModelError> {
        let pool = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = pool().pop().unwrap_or_default();
        let hidden = self.encoder.config().hidden_size;
        let mut out = vec![0.0; batch.len() * hidden];
        let embedded = self.encoder.embed(&mut scratch, batch, &mut out);
        pool().push(scratch);
        embedded.map_err(|error| ModelError::Encoder(error.to_string()))?;
        Ok(out.chunks_exact(hidden).map(<[f32]>::to_vec).collect())
    }
}

/// The CUDA device to use, if any.
fn cuda(device: Device) -> Result<Option<CandleDevice>, ModelError> {
    match device {
        Device::Cpu => Ok(None),
        Device::Auto => Ok(CandleDevice::new_cuda(0).ok()),
        Device::Cuda(number) => CandleDevice::new_cuda(number).map(Some).map_err(|error| {
            let hint = if cfg!(feature = "cuda") {
                ""
            } else {
                " (this program was built without the feature `cuda`)"
            };
            ModelError::Encoder(format!("no CUDA device {number}: {error}{hint}"))
        }),
    }
}

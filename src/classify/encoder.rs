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

/// Names what [`KernelChoice::Auto`] means in this process, so that a whole program or test run
/// can be made to compute in one way without touching a configuration.
const KERNEL_VARIABLE: &str = "WEIGHBRIDGE_KERNEL";

/// How the CPU computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KernelChoice {
    /// What the variable `WEIGHBRIDGE_KERNEL` names, or the fastest kernel that the processor has.
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

    /// `Auto` replaced by what it means here.
    fn resolved(self) -> Result<Self, ModelError> {
        if self != Self::Auto {
            return Ok(self);
        }
        match std::env::var(KERNEL_VARIABLE).ok().filter(|name| !name.is_empty()) {
            None => Ok(Self::Forced(Kernel::detect())),
            Some(name) => match Self::from_name(&name) {
                Some(Self::Auto) => Ok(Self::Forced(Kernel::detect())),
                Some(choice) => Ok(choice),
                None => Err(ModelError::Encoder(format!(
                    "{KERNEL_VARIABLE} is `{name}`, expected one of {}",
                    Self::NAMES.join(", ")
                ))),
            },
        }
    }
}

/// How work is best given to an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// Threads that call it at once.
    pub workers: usize,
    /// Tokens in a batch.
    pub tokens: usize,
    /// Whether every text of a batch costs as much as the longest.
    pub padded: bool,
}

/// On the CPU a batch saves reading the weights again, which counts for short texts only, and
/// everyone in it waits for all of it.
const CPU_BATCH_TOKENS: usize = 128;
/// On a GPU a batch must be large to fill the device: 64 texts of 256 tokens.
const GPU_BATCH_TOKENS: usize = 16_384;
/// One thread tokenises and copies while another's batch is on the device.
const GPU_WORKERS: usize = 2;

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
        let KernelChoice::Forced(kernel) = kernel.resolved()? else {
            return on_candle(&CandleDevice::Cpu, "candle");
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

    /// The numbers of threads and tokens that suit it; on the CPU one thread a core.
    pub fn batching(&self) -> Batching {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match self {
            Self::Candle { name: "cuda", .. } => {
                Batching { workers: GPU_WORKERS, tokens: GPU_BATCH_TOKENS, padded: true }
            }
            Self::Cpu(_) | Self::Candle { .. } => {
                Batching { workers: cores, tokens: CPU_BATCH_TOKENS, padded: false }
            }
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

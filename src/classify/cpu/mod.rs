//! Forward pass of BERT-family text encoders on the CPU: token ids in, unit vectors out, one thread, no padding.
//!
//! Start at [`CpuEncoder`]. The numerics live in `kernels`, the only module with `unsafe`.

mod aligned;
mod encoder;
mod error;
#[expect(unsafe_code, reason = "vector instructions; the rest of the crate is safe")]
mod kernels;
mod linear;
mod scratch;
mod weights;

pub use encoder::CpuEncoder;
pub use error::EncoderError;
pub use kernels::{Kernel, UnknownKernel};
pub use scratch::Scratch;

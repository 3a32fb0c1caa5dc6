//! Every buffer of a forward pass, kept between calls so that a warm one allocates nothing.

use crate::classify::cpu::kernels::{attention, product};

/// Working memory of one thread. Grows to the largest batch it has seen: for MiniLM about 8 KB a token, and 0.6 MB
/// whatever the batch.
#[derive(Default)]
pub struct Scratch {
    /// Tokens of each sequence of the batch.
    pub(crate) lengths: Vec<usize>,
    /// `[tokens, hidden]`: the residual stream.
    pub(crate) hidden: Vec<f32>,
    /// `[3 · heads, tokens, head_dim]`.
    pub(crate) qkv: Vec<f32>,
    /// `[tokens, hidden]`.
    pub(crate) context: Vec<f32>,
    /// `[rows of a feed-forward block, intermediate]`.
    pub(crate) intermediate: Vec<f32>,
    pub(crate) operands: product::Operands,
    pub(crate) attention: attention::Buffers,
}

impl Scratch {
    /// Empty: the first call allocates.
    pub fn new() -> Self {
        Self::default()
    }
}

/// The first `len` values of a buffer, which grows where it is shorter.
pub(crate) fn grown(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

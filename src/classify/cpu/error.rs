//! What can go wrong when a model is loaded or a batch is embedded.
//!
//! Loading fails because of the checkpoint or the processor; embedding fails only because of the caller's ids.

use crate::classify::cpu::kernels::Kernel;

/// Why a model could not be loaded or a batch not be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// The checkpoint lacks a tensor that the architecture needs.
    #[error("tensor `{name}` is missing")]
    MissingTensor {
        /// Full name in the checkpoint.
        name: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Full name in the checkpoint.
        name: String,
        /// Shape in the checkpoint.
        found: Vec<usize>,
        /// Shape that follows from the configuration.
        expected: Vec<usize>,
    },
    /// A tensor is neither F32, F16 nor BF16.
    #[error("tensor `{name}` has element type {dtype}, expected F32, F16 or BF16")]
    ElementType {
        /// Full name in the checkpoint.
        name: String,
        /// Element type in the checkpoint.
        dtype: String,
    },
    /// A tensor holds an infinity or NaN, or a value outside the range of f16.
    #[error("tensor `{name}` holds the value {value}, outside ±65504")]
    Range {
        /// Full name in the checkpoint.
        name: String,
        /// The first such value.
        value: f32,
    },
    /// The configuration describes a network this encoder does not compute.
    #[error("unsupported configuration: {0}")]
    Configuration(String),
    /// The forced kernel needs instructions that this processor lacks.
    #[error("kernel {0} is not available on this processor")]
    KernelUnavailable(Kernel),
    /// A sequence is empty or longer than the model's positions.
    #[error("sequence {index} has {tokens} tokens, expected 1..={limit}")]
    SequenceLength {
        /// Index in the batch.
        index: usize,
        /// Its number of tokens.
        tokens: usize,
        /// The model's number of positions.
        limit: usize,
    },
    /// A token id lies outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocabulary}")]
    TokenId {
        /// The offending id.
        id: u32,
        /// Number of rows in the embedding table.
        vocabulary: usize,
    },
    /// The output slice does not hold exactly one vector per sequence.
    #[error("output holds {found} values, expected {expected}")]
    OutputLength {
        /// Values in the slice.
        found: usize,
        /// Sequences × hidden size.
        expected: usize,
    },
}

//! AWS Bedrock Converse and ConverseStream, as a provider, and vectors through InvokeModel.
//!
//! Source: Amazon Bedrock API reference, "Converse", "ConverseStream", and the user guide,
//! "Inference request parameters for foundation models". The framing of the stream is that of
//! [`super::event_stream`].

mod answer;
mod decode;
pub mod embed;
mod write;

pub use answer::read_answer;
pub use decode::Decoder;
pub use write::write_request;

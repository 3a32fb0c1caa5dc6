//! AWS Bedrock Converse and ConverseStream, as a provider.
//!
//! Source: Amazon Bedrock API reference, "Converse", "ConverseStream", and the user guide,
//! "Inference request parameters for foundation models". The framing of the stream is that of
//! [`super::event_stream`].

mod answer;
mod decode;
mod write;

pub use answer::read_answer;
pub use decode::Decoder;
pub use write::write_request;

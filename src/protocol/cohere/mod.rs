//! Cohere v2 chat, as a provider: close to OpenAI's chat in requests, with a stream of its own.
//!
//! Source: Cohere API reference, "Chat (v2)" and "Chat with streaming (v2)".

mod answer;
mod decode;
mod write;

pub use answer::read_answer;
pub use decode::Decoder;
pub use write::write_request;

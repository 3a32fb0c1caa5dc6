//! Google Gemini `generateContent` and `streamGenerateContent?alt=sse`, as a provider.
//!
//! Source: Gemini API reference, "Generating content", "Function calling", "Thinking", "Thought
//! signatures", "Structured output".

mod answer;
mod decode;
mod write;

pub use answer::read_answer;
pub use decode::Decoder;
pub use write::write_request;

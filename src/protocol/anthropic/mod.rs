//! Anthropic messages, in both directions.
//!
//! Source: Anthropic API reference, "Messages", "Streaming messages", "Extended thinking",
//! "Structured outputs".

mod answer;
mod decode;
mod encode;
mod read;
mod write;

pub use answer::{read_answer, write_answer};
pub use decode::Decoder;
pub use encode::Encoder;
pub use read::read_request;
pub use write::write_request;

pub(super) use write::{OPENING, Thinking, beside_thinking, thinking};

use super::{
    json::{RawObject, object},
    neutral::{Stop, Usage},
};

/// `stop_reason` → stop. An unknown word is an ordinary end. Bedrock uses the same words and a
/// few of its own.
pub(super) fn stop_from(reason: &str) -> Stop {
    match reason {
        "max_tokens" => Stop::MaxTokens,
        "stop_sequence" => Stop::StopSequence,
        "tool_use" => Stop::ToolUse,
        "refusal" | "content_filtered" | "guardrail_intervened" => Stop::ContentFilter,
        "pause_turn" => Stop::PauseTurn,
        "model_context_window_exceeded" => Stop::ContextWindow,
        _ => Stop::EndTurn,
    }
}

/// Stop → `stop_reason`.
fn stop_reason(stop: Stop) -> &'static str {
    match stop {
        Stop::EndTurn => "end_turn",
        Stop::StopSequence => "stop_sequence",
        Stop::MaxTokens => "max_tokens",
        Stop::ToolUse => "tool_use",
        Stop::ContentFilter => "refusal",
        Stop::PauseTurn => "pause_turn",
        Stop::ContextWindow => "model_context_window_exceeded",
    }
}

/// The usage object; its input count leaves the cached tokens out.
fn usage_object(usage: &Usage) -> RawObject {
    object! {
        "input_tokens": usage.fresh_input_tokens(),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    }
}

//! OpenAI chat completions, in both directions.
//!
//! Source: OpenAI API reference, "Create chat completion", "Chat completion object" and "Chat
//! completion chunk object". Two additions that other servers and gateways have made common are
//! read and written: `reasoning_content` (DeepSeek, vLLM) and `thinking_blocks` (LiteLLM), which
//! has room for a signature.

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

use super::{
    json::{RawObject, object},
    neutral::{Stop, Usage},
};

/// `finish_reason` → stop. An unknown word is an ordinary end.
fn stop_from(reason: &str) -> Stop {
    match reason {
        "length" => Stop::MaxTokens,
        "tool_calls" | "function_call" => Stop::ToolUse,
        "content_filter" => Stop::ContentFilter,
        _ => Stop::EndTurn,
    }
}

/// Stop → `finish_reason`.
pub fn finish_reason(stop: Stop) -> &'static str {
    match stop {
        Stop::EndTurn | Stop::StopSequence | Stop::PauseTurn => "stop",
        Stop::MaxTokens | Stop::ContextWindow => "length",
        Stop::ToolUse => "tool_calls",
        Stop::ContentFilter => "content_filter",
    }
}

/// The usage object; `cache_write_tokens` is ours, beside OpenAI's own details.
pub(super) fn usage_object(usage: &Usage) -> RawObject {
    let mut prompt = object! { "cached_tokens": usage.cache_read_tokens };
    if usage.cache_write_tokens > 0 {
        prompt.put("cache_write_tokens", &usage.cache_write_tokens);
    }
    object! {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens(),
        "prompt_tokens_details": prompt,
        "completion_tokens_details": object! { "reasoning_tokens": usage.reasoning_tokens },
    }
}

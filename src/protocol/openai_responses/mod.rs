//! OpenAI responses without stored state, in both directions.
//!
//! Source: OpenAI API reference, "Create a model response", "The response object", "Streaming
//! events". What names state that OpenAI keeps (`previous_response_id`, item references,
//! `store: true`) is noted in [`super::neutral::Conversation::stored`].

mod answer;
mod decode;
mod encode;
mod items;
mod read;
mod tools;
mod write;

pub use answer::{read_answer, write_answer};
pub use decode::Decoder;
pub use encode::Encoder;
pub use read::read_request;
pub use write::write_request;

use super::neutral::Stop;

/// `incomplete_details.reason` → stop.
fn stop_from_incomplete(reason: Option<&str>) -> Stop {
    match reason {
        Some("content_filter") => Stop::ContentFilter,
        _ => Stop::MaxTokens,
    }
}

/// Stop → `incomplete_details.reason`; `None` is a completed response.
fn incomplete_reason(stop: Stop) -> Option<&'static str> {
    match stop {
        Stop::MaxTokens | Stop::ContextWindow => Some("max_output_tokens"),
        Stop::ContentFilter => Some("content_filter"),
        Stop::EndTurn | Stop::StopSequence | Stop::ToolUse | Stop::PauseTurn => None,
    }
}

//! ConverseStream, message by message.

use std::collections::HashSet;

use serde::Deserialize;

use super::answer::WireUsage;
use crate::protocol::{
    anthropic::stop_from,
    event_stream::Message,
    failure,
    json::{Json, object},
    neutral::{Dialect, ProviderError, Signature, Stop, parts::Parts},
};

/// Reads one message after the other.
#[derive(Debug)]
pub struct Decoder {
    model: String,
    stop: Option<Stop>,
    /// Blocks that are tool calls.
    calls: HashSet<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    content_block_index: Option<u64>,
    start: Option<Start>,
    delta: Option<Delta>,
    stop_reason: Option<String>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    tool_use: Option<ToolUseStart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUseStart {
    tool_use_id: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delta {
    text: Option<String>,
    tool_use: Option<ToolUseDelta>,
    reasoning_content: Option<ReasoningDelta>,
    citation: Option<Json>,
}

#[derive(Deserialize)]
struct ToolUseDelta {
    input: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReasoningDelta {
    text: Option<String>,
    signature: Option<String>,
    redacted_content: Option<String>,
}

impl Decoder {
    /// A decoder for an answer of this model: the stream does not name it.
    pub fn new(model: &str) -> Self {
        Self { model: model.to_owned(), stop: None, calls: HashSet::new() }
    }

    /// Reads one message. Returns whether the answer is complete.
    pub fn message(&mut self, message: &Message, parts: &mut Parts) -> Result<bool, ProviderError> {
        match message.header(":message-type") {
            Some("event") | None => {}
            // `exception` names itself in its own header, `error` is without a body.
            Some(_) => return Err(exception(message)),
        }
        let event: Event =
            serde_json::from_slice(&message.payload).map_err(ProviderError::malformed)?;
        let index = event.content_block_index.unwrap_or(0);
        match message.header(":event-type") {
            Some("messageStart") => parts.start("", &self.model),
            Some("contentBlockStart") => {
                if let Some(call) = event.start.and_then(|start| start.tool_use) {
                    let id = call.tool_use_id.unwrap_or_default();
                    let name = call.name.unwrap_or_default();
                    self.calls.insert(index);
                    parts.call(index, &id, &name, None, || format!("call_{index}"));
                }
            }
            Some("contentBlockDelta") => {
                if let Some(delta) = event.delta {
                    self.delta(index, delta, parts);
                }
            }
            Some("contentBlockStop") => match self.calls.contains(&index) {
                true => parts.end_call(index),
                false => parts.end_prose(),
            },
            Some("messageStop") => {
                self.stop = Some(event.stop_reason.as_deref().map(stop_from).unwrap_or_default());
                parts.end_all();
            }
            // The last event: usage comes after the reason to stop.
            Some("metadata") => {
                if let Some(usage) = &event.usage {
                    parts.usage(usage.usage());
                }
                if self.stop.is_some() {
                    return self.close(parts);
                }
            }
            _ => {}
        }
        Ok(false)
    }

    /// The stream has ended: complete if a reason to stop had come before.
    pub fn close(&mut self, parts: &mut Parts) -> Result<bool, ProviderError> {
        let stop = self.stop.ok_or_else(ProviderError::truncated)?;
        parts.start("", &self.model);
        parts.finish(stop, None);
        Ok(true)
    }

    fn delta(&mut self, index: u64, delta: Delta, parts: &mut Parts) {
        parts.start("", &self.model);
        if delta.citation.is_some() {
            parts.lost("citations_dropped", &format!("response.content[{index}].citation"));
        }
        parts.text(delta.text.as_deref().unwrap_or_default());
        if let Some(input) = delta.tool_use.and_then(|call| call.input) {
            parts.arguments(index, &input);
        }
        if let Some(reasoning) = delta.reasoning_content {
            parts.thinking(reasoning.text.as_deref().unwrap_or_default());
            if let Some(signature) =
                Signature::some(reasoning.signature, Dialect::Bedrock, &self.model)
            {
                parts.signature(signature);
            }
            if let Some(data) =
                Signature::some(reasoning.redacted_content, Dialect::Bedrock, &self.model)
            {
                parts.redacted(data);
            }
        }
    }
}

/// `:exception-type` is the code, the payload's `message` the sentence; a message of type
/// `error` has both in headers.
fn exception(message: &Message) -> ProviderError {
    let code = message.header(":exception-type").or(message.header(":error-code"));
    let code = code.unwrap_or("internalServerException");
    let sentence = failure::read_error(500, &message.payload).message;
    let sentence = message.header(":error-message").unwrap_or(&sentence);
    let error = object! { "code": code, "message": sentence };
    failure::from_error_value(&Json::of(&error), None)
}

//! A provider's message stream, event by event.
//!
//! The JSON `type` says what the `event:` line says, so the line is not needed. What providers
//! get wrong is tolerated: a second `message_start`, deltas of another kind than their block.

use std::collections::HashMap;

use serde::Deserialize;

use super::{
    answer::{Block, Message, WireUsage},
    stop_from,
};
use crate::protocol::{
    failure,
    json::Json,
    neutral::{Dialect, ProviderError, Signature, Stop, parts::Parts},
};

/// Reads the data of one event after the other.
#[derive(Debug, Default)]
pub struct Decoder {
    model: String,
    usage: Option<WireUsage>,
    stop: Option<(Stop, Option<String>)>,
    /// Blocks that are tool calls, and whether their input came whole at their start.
    calls: HashMap<u64, bool>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type")]
    kind: Option<String>,
    index: Option<u64>,
    message: Option<Message>,
    content_block: Option<Block>,
    delta: Option<Delta>,
    usage: Option<WireUsage>,
    error: Option<Json>,
}

#[derive(Deserialize)]
struct Delta {
    text: Option<String>,
    partial_json: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    citation: Option<Json>,
}

impl Decoder {
    /// Reads one event. Returns whether the answer is complete.
    pub fn event(&mut self, data: &[u8], parts: &mut Parts) -> Result<bool, ProviderError> {
        let wire: Wire = serde_json::from_slice(data).map_err(ProviderError::malformed)?;
        let index = wire.index.unwrap_or(0);
        match wire.kind.as_deref() {
            Some("message_start") => {
                if let Some(message) = wire.message {
                    self.start(message, parts);
                }
            }
            Some("content_block_start") => {
                if let Some(block) = wire.content_block {
                    block.name_lost(index, &mut |code, path| parts.lost(code, path));
                    self.block(index, block, parts);
                }
            }
            Some("content_block_delta") => {
                if let Some(delta) = wire.delta {
                    self.delta(index, delta, parts);
                }
            }
            Some("content_block_stop") => match self.calls.contains_key(&index) {
                true => parts.end_call(index),
                false => parts.end_prose(),
            },
            Some("message_delta") => {
                if let Some(delta) = wire.delta
                    && let Some(reason) = delta.stop_reason
                {
                    self.stop = Some((stop_from(&reason), delta.stop_sequence));
                }
                self.count(wire.usage, parts);
            }
            Some("message_stop") => return self.close(parts),
            Some("error") => {
                let error = wire.error.unwrap_or_default();
                return Err(failure::from_error_value(&error, None));
            }
            // `ping`, and what may yet be invented.
            Some(_) => {}
            None => match wire.error {
                Some(error) => return Err(failure::from_error_value(&error, None)),
                None => return Err(ProviderError::malformed("an event has no type")),
            },
        }
        Ok(false)
    }

    /// The stream has ended: complete if a reason to stop had come before.
    pub fn close(&mut self, parts: &mut Parts) -> Result<bool, ProviderError> {
        let (stop, sequence) = self.stop.take().ok_or_else(ProviderError::truncated)?;
        parts.finish(stop, sequence);
        Ok(true)
    }

    fn start(&mut self, message: Message, parts: &mut Parts) {
        if !parts.started() {
            self.model = message.model.unwrap_or_default();
            parts.start(&message.id.unwrap_or_default(), &self.model);
        }
        self.count(message.usage, parts);
    }

    fn count(&mut self, usage: Option<WireUsage>, parts: &mut Parts) {
        if let Some(usage) = usage {
            let all = self.usage.get_or_insert_default();
            all.update(&usage);
            parts.usage(all.usage());
        }
    }

    fn block(&mut self, index: u64, block: Block, parts: &mut Parts) {
        match block.kind.as_str() {
            "text" => {
                parts.end_prose();
                parts.text(block.text.as_deref().unwrap_or_default());
            }
            "thinking" => {
                parts.end_prose();
                parts.thinking(block.thinking.as_deref().unwrap_or_default());
                if let Some(signature) =
                    Signature::some(block.signature, Dialect::Anthropic, &self.model)
                {
                    parts.signature(signature);
                }
            }
            "redacted_thinking" => {
                let data = block.data.unwrap_or_default();
                parts.redacted(Signature::made(data, Dialect::Anthropic, &self.model));
            }
            "tool_use" => {
                let id = block.id.unwrap_or_default();
                let name = block.name.unwrap_or_default();
                parts.call(index, &id, &name, None, || format!("call_{index}"));
                // Some servers send the whole input here instead of deltas.
                let input = block.input.filter(|input| {
                    input.is_object() && !input.text().chars().all(|c| "{} \n\t".contains(c))
                });
                self.calls.insert(index, input.is_some());
                if let Some(input) = input {
                    parts.arguments(index, input.text());
                }
            }
            _ => parts.end_prose(),
        }
    }

    fn delta(&mut self, index: u64, delta: Delta, parts: &mut Parts) {
        if delta.citation.is_some() {
            parts.lost("citations_dropped", &format!("response.content[{index}].citations"));
        }
        parts.text(delta.text.as_deref().unwrap_or_default());
        parts.thinking(delta.thinking.as_deref().unwrap_or_default());
        if let Some(signature) = Signature::some(delta.signature, Dialect::Anthropic, &self.model) {
            parts.signature(signature);
        }
        // Input of blocks that are no tool calls of the caller's (server tools) is not theirs;
        // a whole input that came before is not repeated.
        if let Some(fragment) = delta.partial_json
            && self.calls.get(&index) == Some(&false)
        {
            parts.arguments(index, &fragment);
        }
    }
}

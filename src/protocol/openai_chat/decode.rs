//! A provider's chat stream, chunk by chunk.
//!
//! What servers do differently is taken as it comes: usage beside choices or alone, text and
//! calls in one chunk, calls without index or all of index 0, a close without `[DONE]`.

use super::{
    answer::{Completion, Message},
    stop_from,
};
use crate::protocol::{
    chunk::DONE,
    failure,
    neutral::{Dialect, ProviderError, Signature, Stop, parts::Parts},
};

/// Reads the data of one event after the other.
#[derive(Debug, Default)]
pub struct Decoder {
    id: String,
    model: String,
    stop: Option<Stop>,
    /// `reasoning_content` has come.
    reasoned: bool,
}

impl Decoder {
    /// Reads one event. Returns whether the answer is complete.
    pub fn event(&mut self, data: &[u8], parts: &mut Parts) -> Result<bool, ProviderError> {
        if data.trim_ascii() == DONE {
            // A server that leaves the reason out has still said that this is all.
            self.stop = self.stop.or((parts.count() > 0).then_some(Stop::EndTurn));
            return self.close(parts);
        }
        let chunk: Completion = serde_json::from_slice(data).map_err(ProviderError::malformed)?;
        let usage = chunk.usage();
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            return Err(failure::from_error_value(&error, None));
        }
        if !parts.started() {
            self.id = chunk.id.unwrap_or_default();
            self.model = chunk.model.unwrap_or_default();
            parts.start(&self.id, &self.model);
        }
        // Other choices than the first are for a caller of the same dialect only.
        let choices = chunk.choices.unwrap_or_default();
        for choice in choices {
            choice.name_lost(&mut |code, path| parts.lost(code, path));
            if !choice.is_first() {
                continue;
            }
            if let Some(message) = choice.delta.or(choice.message) {
                self.message(message, parts);
            }
            if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
                self.stop = Some(stop_from(&reason));
                parts.end_all();
            }
        }
        if let Some(usage) = usage {
            parts.usage(usage);
        }
        Ok(false)
    }

    /// The stream has ended: complete if a choice had ended before.
    pub fn close(&mut self, parts: &mut Parts) -> Result<bool, ProviderError> {
        let stop = self.stop.ok_or_else(ProviderError::truncated)?;
        parts.finish(stop, None);
        Ok(true)
    }

    fn message(&mut self, message: Message, parts: &mut Parts) {
        let (text, reasoning) = message.texts();
        parts.thinking(&reasoning);
        self.reasoned |= !reasoning.is_empty();
        for block in message.thinking_blocks.unwrap_or_default() {
            let sign = |text| Signature::some(text, Dialect::OpenAiChat, &self.model);
            // Beside `reasoning_content`, a block repeats what has been said.
            if !self.reasoned {
                parts.thinking(block.thinking.as_deref().unwrap_or_default());
            }
            if let Some(data) = sign(block.data) {
                parts.redacted(data);
            } else if let Some(made) = sign(block.signature) {
                parts.signature(made);
                parts.end_prose();
            }
        }
        parts.text(&text);
        parts.refusal(message.refusal.as_deref().unwrap_or_default());
        for (at, call) in message.tool_calls.unwrap_or_default().into_iter().enumerate() {
            let key = call.index.unwrap_or(at as u64);
            let signature = call.signature(&self.model);
            let id = call.id.as_deref().unwrap_or_default();
            let function = call.function.as_ref();
            let name = function.and_then(|function| function.name.as_deref()).unwrap_or_default();
            let made = parts.count();
            parts.call(key, id, name, signature, || format!("call_{}_{made}", self.id));
            if let Some(function) = function {
                parts.arguments(key, &function.arguments());
            }
        }
        if let Some(function) = message.function_call {
            let name = function.name.as_deref().unwrap_or_default();
            parts.call(0, "", name, None, || format!("call_{}_0", self.id));
            parts.arguments(0, &function.arguments());
        }
    }
}

//! Gemini's stream, chunk by chunk. It has no last event: the close is the end.

use super::answer::{Response, WirePart, stop_from};
use crate::protocol::{
    json::Json,
    neutral::{Dialect, ProviderError, Signature, Stop, parts::Parts},
};

/// Reads the data of one event after the other.
#[derive(Debug, Default)]
pub struct Decoder {
    id: String,
    model: String,
    stop: Option<Stop>,
    /// Calls so far.
    calls: u64,
}

impl Decoder {
    /// Reads one event. It never completes the answer: usage may follow the reason to stop.
    pub fn event(&mut self, data: &[u8], parts: &mut Parts) -> Result<bool, ProviderError> {
        let chunk: Response = serde_json::from_slice(data).map_err(ProviderError::malformed)?;
        if let Some(error) = chunk.error() {
            return Err(error);
        }
        if !parts.started() {
            self.id = chunk.response_id.unwrap_or_default();
            self.model = chunk.model_version.unwrap_or_default();
            parts.start(&self.id, &self.model);
        }
        if let Some(usage) = &chunk.usage_metadata {
            parts.usage(usage.usage());
        }
        if chunk.prompt_feedback.is_some_and(|feedback| feedback.block_reason.is_some()) {
            self.stop = Some(Stop::ContentFilter);
        }
        let candidates = chunk.candidates.unwrap_or_default();
        for candidate in candidates {
            candidate.name_lost(parts);
            if !candidate.is_first() {
                continue;
            }
            let content = candidate.content.and_then(|content| content.parts);
            for part in content.unwrap_or_default() {
                self.part(part, parts);
            }
            if let Some(reason) = candidate.finish_reason {
                self.stop = Some(stop_from(&reason, candidate.finish_message.as_deref())?);
                parts.end_all();
            }
        }
        Ok(false)
    }

    /// The stream has ended: complete if a reason to stop had come before.
    pub fn close(&mut self, parts: &mut Parts) -> Result<bool, ProviderError> {
        let stop = self.stop.ok_or_else(ProviderError::truncated)?;
        parts.finish(stop, None);
        Ok(true)
    }

    fn part(&mut self, part: WirePart, parts: &mut Parts) {
        let signature = Signature::some(part.thought_signature, Dialect::Gemini, &self.model);
        if let Some(call) = part.function_call {
            let key = self.calls;
            self.calls += 1;
            let id = call.id.unwrap_or_default();
            let name = call.name.unwrap_or_default();
            // Unique in a conversation, and the same whenever this answer is read.
            parts.call(key, &id, &name, signature, || format!("call_{}_{key}", self.id));
            parts.arguments(key, call.args.as_ref().map_or("{}", Json::text));
            parts.end_call(key);
            return;
        }
        let text = part.text.unwrap_or_default();
        match part.thought {
            Some(true) => parts.thinking(&text),
            _ => parts.text(&text),
        }
        // A text's signature may be left out of the next request; reasoning's goes back.
        if let Some(signature) = signature.filter(|_| part.thought == Some(true)) {
            parts.signature(signature);
        }
    }
}

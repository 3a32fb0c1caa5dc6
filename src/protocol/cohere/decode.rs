//! Cohere's stream, event by event.

use serde::Deserialize;

use super::answer::{Call, Piece, WireUsage, stop_from};
use crate::protocol::{
    failure,
    json::Json,
    neutral::{ProviderError, Stop, parts::Parts},
};

/// Reads the data of one event after the other.
#[derive(Debug)]
pub struct Decoder {
    model: String,
    stop: Option<Stop>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<String>,
    index: Option<u64>,
    delta: Option<Delta>,
    message: Option<Json>,
}

#[derive(Deserialize)]
struct Delta {
    message: Option<DeltaMessage>,
    finish_reason: Option<String>,
    error: Option<String>,
    usage: Option<WireUsage>,
}

/// Here content and calls are one, not a list.
#[derive(Deserialize)]
struct DeltaMessage {
    content: Option<OneOrNone<Piece>>,
    tool_plan: Option<String>,
    tool_calls: Option<OneOrNone<Call>>,
}

/// The first event has empty lists in their place.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrNone<T> {
    One(T),
    None([u8; 0]),
}

impl<T> OneOrNone<T> {
    fn one(self) -> Option<T> {
        match self {
            Self::One(one) => Some(one),
            Self::None(_) => None,
        }
    }
}

impl Decoder {
    /// A decoder for an answer of this model: the stream does not name it.
    pub fn new(model: &str) -> Self {
        Self { model: model.to_owned(), stop: None }
    }

    /// Reads one event. Returns whether the answer is complete.
    pub fn event(&mut self, data: &[u8], parts: &mut Parts) -> Result<bool, ProviderError> {
        let wire: Wire = serde_json::from_slice(data).map_err(ProviderError::malformed)?;
        let index = wire.index.unwrap_or(0);
        let Some(kind) = wire.kind else {
            let error = wire.message.unwrap_or_else(|| Json::of("an event has no type"));
            return Err(failure::from_error_value(&error, None));
        };
        let (message, end) = match wire.delta {
            Some(Delta { message, finish_reason, error, usage }) => {
                (message, Some((finish_reason, error, usage)))
            }
            None => (None, None),
        };
        let (piece, plan, call) = match message {
            Some(message) => (
                message.content.and_then(OneOrNone::one),
                message.tool_plan,
                message.tool_calls.and_then(OneOrNone::one),
            ),
            None => (None, None, None),
        };
        match kind.as_str() {
            "message-start" => parts.start(&wire.id.unwrap_or_default(), &self.model),
            "content-start" | "content-delta" => {
                let piece = piece.as_ref();
                let text =
                    |text: Option<&String>| text.map(String::as_str).unwrap_or_default().to_owned();
                parts.thinking(&text(piece.and_then(|piece| piece.thinking.as_ref())));
                parts.text(&text(piece.and_then(|piece| piece.text.as_ref())));
            }
            "content-end" => parts.end_prose(),
            "tool-plan-delta" => parts.thinking(plan.as_deref().unwrap_or_default()),
            "tool-call-start" | "tool-call-delta" => {
                let Some(Call { id, function: Some(function) }) = call else { return Ok(false) };
                if kind == "tool-call-start" {
                    let name = function.name.unwrap_or_default();
                    let id = id.unwrap_or_default();
                    parts.call(index, &id, &name, None, || format!("call_{index}"));
                }
                parts.arguments(index, function.arguments.as_deref().unwrap_or_default());
            }
            "tool-call-end" => parts.end_call(index),
            "citation-start" => parts.lost("citations_dropped", "response.message.citations"),
            "message-end" => {
                let (reason, error, usage) = end.unwrap_or_default();
                if let Some(usage) = usage {
                    parts.usage(usage.usage());
                }
                if let Some(error) = error {
                    return Err(failure::from_error_value(&Json::of(&error), None));
                }
                self.stop = Some(stop_from(reason.as_deref().unwrap_or_default())?);
                return self.close(parts);
            }
            _ => {}
        }
        Ok(false)
    }

    /// The stream has ended: complete if a reason to stop had come before.
    pub fn close(&mut self, parts: &mut Parts) -> Result<bool, ProviderError> {
        let stop = self.stop.ok_or_else(ProviderError::truncated)?;
        parts.finish(stop, None);
        Ok(true)
    }
}

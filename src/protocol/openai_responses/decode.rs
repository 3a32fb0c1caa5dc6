//! A provider's responses stream, event by event.

use std::collections::HashSet;

use serde::Deserialize;

use super::answer::{Item, Response};
use crate::protocol::{
    failure,
    json::Json,
    neutral::{ProviderError, parts::Parts},
};

/// Reads the data of one event after the other.
#[derive(Debug, Default)]
pub struct Decoder {
    model: String,
    /// Output indexes of calls whose arguments have come in pieces.
    fed: HashSet<u64>,
    /// Whether the open message or reasoning has had deltas.
    spoke: bool,
    /// What the next event counts.
    next_sequence: u64,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type")]
    kind: Option<String>,
    sequence_number: Option<u64>,
    output_index: Option<u64>,
    response: Option<Response>,
    item: Option<Item>,
    delta: Option<Json>,
    error: Option<Json>,
}

impl Decoder {
    /// Reads one event. Returns whether the answer is complete.
    pub fn event(&mut self, data: &[u8], parts: &mut Parts) -> Result<bool, ProviderError> {
        let wire: Wire = serde_json::from_slice(data).map_err(ProviderError::malformed)?;
        let number = wire.sequence_number;
        let done = self.read(wire, data, parts)?;
        if let Some(number) = number {
            self.next_sequence = number.saturating_add(1);
        }
        Ok(done)
    }

    /// The `sequence_number` that follows the last event's. One that told an error does not count:
    /// a gateway tells it in its own words.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    fn read(&mut self, wire: Wire, data: &[u8], parts: &mut Parts) -> Result<bool, ProviderError> {
        let index = wire.output_index.unwrap_or(0);
        let delta = || wire.delta.as_ref().and_then(Json::as_string).unwrap_or_default();
        match wire.kind.as_deref() {
            Some("response.created" | "response.in_progress") => {
                if let Some(response) = wire.response {
                    self.model = response.model.unwrap_or_default();
                    parts.start(&response.id.unwrap_or_default(), &self.model);
                }
            }
            Some("response.output_item.added") => {
                self.spoke = false;
                parts.end_prose();
                if let Some(item) = wire.item.filter(|item| item.kind == "function_call") {
                    start_call(index, &item, parts);
                }
            }
            Some("response.output_text.delta") => {
                self.spoke = true;
                parts.text(&delta());
            }
            Some("response.refusal.delta") => {
                self.spoke = true;
                parts.refusal(&delta());
            }
            Some("response.reasoning_summary_text.delta" | "response.reasoning_text.delta") => {
                self.spoke = true;
                parts.thinking(&delta());
            }
            Some("response.reasoning_summary_part.added") => {
                if self.spoke {
                    parts.thinking("\n\n");
                }
            }
            Some("response.function_call_arguments.delta") => {
                self.fed.insert(index);
                parts.arguments(index, &delta());
            }
            Some("response.output_item.done") => {
                if let Some(item) = wire.item {
                    item.name_lost(index, &mut |code, path| parts.lost(code, path));
                    self.item_done(index, &item, parts);
                }
            }
            Some("response.completed" | "response.incomplete" | "response.failed") => {
                let Some(response) = wire.response else {
                    return Err(ProviderError::malformed("the last event has no response"));
                };
                if let Some(usage) = response.usage() {
                    parts.usage(usage);
                }
                parts.finish(response.stop()?, None);
                return Ok(true);
            }
            Some("error") => {
                // The fields stand in the event itself, or under `error`.
                let whole = || Json::parse(&String::from_utf8_lossy(data)).unwrap_or_default();
                let error = wire.error.filter(Json::is_object).unwrap_or_else(whole);
                return Err(failure::from_error_value(&error, None));
            }
            Some(_) => {}
            None => match wire.error {
                Some(error) => return Err(failure::from_error_value(&error, None)),
                None => return Err(ProviderError::malformed("an event has no type")),
            },
        }
        Ok(false)
    }

    /// The stream has ended without its last event.
    pub fn close(&mut self, _: &mut Parts) -> Result<bool, ProviderError> {
        Err(ProviderError::truncated())
    }

    /// An item is complete: whatever did not come in pieces comes now.
    fn item_done(&mut self, index: u64, item: &Item, parts: &mut Parts) {
        match item.kind.as_str() {
            "message" => {
                if !self.spoke {
                    for piece in item.content.iter().flatten() {
                        parts.text(piece.text.as_deref().unwrap_or_default());
                        parts.refusal(piece.refusal.as_deref().unwrap_or_default());
                    }
                }
                parts.end_prose();
            }
            "reasoning" => {
                if !self.spoke {
                    parts.thinking(&item.reasoning());
                }
                if let Some(signature) = item.signature(&self.model) {
                    parts.signature(signature);
                }
                parts.end_prose();
            }
            "function_call" => {
                start_call(index, item, parts);
                if !self.fed.contains(&index) {
                    parts.arguments(index, item.arguments.as_deref().unwrap_or_default());
                }
                parts.end_call(index);
            }
            _ => {}
        }
    }
}

fn start_call(index: u64, item: &Item, parts: &mut Parts) {
    let id = item.call_id.as_deref().unwrap_or_default();
    let name = item.name.as_deref().unwrap_or_default();
    parts.call(index, id, name, None, || format!("call_{index}"));
}

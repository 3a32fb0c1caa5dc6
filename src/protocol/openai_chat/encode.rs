//! A stream for a caller who speaks chat completions.

use std::collections::HashMap;

use super::{
    answer::{redacted_block, thinking_block},
    finish_reason, usage_object,
    write::{google_signature, put_call},
};
use crate::protocol::{
    failure,
    json::{RawObject, object},
    neutral::{
        Accumulator, Dialect, Event, PartBody, PartKind,
        freeform::{Unpacker, is_freeform},
    },
    sse::put_data,
    translate::Show,
};

/// Writes chunks.
#[derive(Debug)]
pub struct Encoder {
    show: Show,
    id: String,
    /// The texts of the reasoning so far, which its signature is written beside.
    seen: Accumulator,
    /// The indexes of the tool calls, by their parts.
    calls: HashMap<usize, usize>,
    /// Of the calls that are shown with a text, by their parts.
    unpackers: HashMap<usize, Unpacker>,
}

impl Encoder {
    /// An encoder for one answer.
    pub fn new(show: Show) -> Self {
        Self {
            show,
            id: String::new(),
            seen: Accumulator::default(),
            calls: HashMap::new(),
            unpackers: HashMap::new(),
        }
    }

    /// Writes what one event is in this dialect; the last one ends with `[DONE]`.
    pub fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        if !matches!(event, Event::ArgumentsDelta { .. } | Event::Usage(_)) {
            self.seen.add(event);
        }
        match event {
            Event::Start { id, .. } => {
                self.id = self.show.id_or(id).to_owned();
                self.delta(object! { "role": "assistant", "content": "" }, out);
            }
            Event::PartStart { index, kind: PartKind::ToolCall { id, name, signature } } => {
                let known = &self.show.known_tools;
                if is_freeform(known.get(name)) {
                    self.unpackers.insert(*index, Unpacker::default());
                }
                let mut call = object! { "index": self.calls.len(), "id": id };
                put_call(&mut call, name, "", known);
                if let Some(made) = signature {
                    call.put("extra_content", &google_signature(made, Dialect::OpenAiChat));
                }
                self.calls.insert(*index, self.calls.len());
                self.delta(object! { "tool_calls": [call] }, out);
            }
            Event::PartStart { kind: PartKind::RedactedThinking(data), .. } => {
                self.delta(object! { "thinking_blocks": [redacted_block(data)] }, out);
            }
            Event::TextDelta { index, text } => {
                let delta = match self.seen.part(*index) {
                    Some(PartBody::Thinking { .. }) => object! { "reasoning_content": text },
                    Some(PartBody::Refusal(_)) => object! { "refusal": text },
                    _ => object! { "content": text },
                };
                self.delta(delta, out);
            }
            Event::ArgumentsDelta { index, fragment } => {
                let mut call = object! { "index": self.call_index(*index) };
                match self.unpackers.get_mut(index) {
                    Some(unpacker) => match unpacker.push(fragment) {
                        text if text.is_empty() => return,
                        text => call.put("custom", &object! { "input": text }),
                    },
                    None => call.put("function", &object! { "arguments": fragment }),
                }
                self.delta(object! { "tool_calls": [call] }, out);
            }
            // Once a part, because the whole text stands beside its signature.
            Event::PartEnd { index } => {
                if let Some(PartBody::Thinking { text, signature: Some(signature) }) =
                    self.seen.part(*index)
                {
                    let block = thinking_block(text, signature);
                    self.delta(object! { "thinking_blocks": [block] }, out);
                }
            }
            Event::PartStart { .. } | Event::Signature { .. } | Event::Usage(_) => {}
            Event::Finish { stop, usage, .. } => {
                let finish = Some(finish_reason(*stop));
                self.chunk(Some((RawObject::default(), finish)), None, out);
                if let Some(usage) = usage.as_ref().filter(|_| self.show.include_usage) {
                    self.chunk(None, Some(usage_object(usage)), out);
                }
                put_data("[DONE]", out);
            }
            Event::Error(error) => {
                let body = failure::write_error(Dialect::OpenAiChat, error, &self.show.request_id);
                put_data(&String::from_utf8_lossy(&body.to_bytes()), out);
            }
        }
    }

    fn call_index(&self, part: usize) -> usize {
        self.calls.get(&part).copied().unwrap_or(0)
    }

    fn delta(&self, delta: RawObject, out: &mut Vec<u8>) {
        self.chunk(Some((delta, None)), None, out);
    }

    fn chunk(
        &self,
        choice: Option<(RawObject, Option<&'static str>)>,
        usage: Option<RawObject>,
        out: &mut Vec<u8>,
    ) {
        let choices: Vec<RawObject> = choice
            .into_iter()
            .map(|(delta, finish)| {
                object! {
                    "index": 0, "delta": delta, "logprobs": None::<u8>, "finish_reason": finish,
                }
            })
            .collect();
        let mut chunk = object! {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.show.created,
            "model": self.show.model,
            "choices": choices,
        };
        chunk.put_some("usage", &usage);
        put_data(&String::from_utf8_lossy(&chunk.to_bytes()), out);
    }
}

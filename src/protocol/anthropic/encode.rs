//! A stream for a caller who speaks messages.
//!
//! Blocks never overlap here, while neutral parts may: events of a part that begins before the
//! one on the wire has ended wait until it has.

use std::collections::BTreeMap;

use super::{answer::redacted_block, stop_reason, usage_object};
use crate::protocol::{
    failure,
    json::{RawObject, object},
    neutral::{Dialect, Event, PartKind, Signature, Stop, Usage},
    sse::put_event,
    translate::Show,
};

/// Writes events.
#[derive(Debug)]
pub struct Encoder {
    show: Show,
    id: String,
    started: bool,
    usage: Usage,
    /// The part on the wire.
    open: Option<Open>,
    /// The next block's index.
    next_block: usize,
    /// The block on the wire is reasoning that has ended unsigned; its end is not written yet: the
    /// signature of a call that follows belongs to it.
    unsigned: bool,
    /// Events of parts that have to wait, by part.
    waiting: BTreeMap<usize, Vec<Event>>,
    refused: bool,
}

/// The part on the wire.
#[derive(Debug, Clone, Copy)]
struct Open {
    part: usize,
    /// Whether it is reasoning.
    thinks: bool,
    /// Whether its signature has been written.
    signed: bool,
}

impl Encoder {
    /// An encoder for one answer.
    pub fn new(show: Show) -> Self {
        Self {
            show,
            id: String::new(),
            started: false,
            usage: Usage::default(),
            open: None,
            next_block: 0,
            unsigned: false,
            waiting: BTreeMap::new(),
            refused: false,
        }
    }

    /// Writes what one event is in this dialect.
    pub fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, .. } => self.id = self.show.id_or(id).to_owned(),
            Event::Usage(usage) => self.usage = *usage,
            Event::Error(error) => {
                self.end_unsigned(out);
                let body = failure::write_error(Dialect::Anthropic, error, &self.show.request_id);
                self.put("error", &body, out);
            }
            Event::Finish { stop, stop_sequence, usage } => {
                self.start(out);
                self.end_unsigned(out);
                self.usage = usage.unwrap_or(self.usage);
                let stop = match stop {
                    Stop::EndTurn if self.refused => Stop::ContentFilter,
                    stop => *stop,
                };
                let delta = object! {
                    "stop_reason": stop_reason(stop), "stop_sequence": stop_sequence,
                };
                let event = object! {
                    "type": "message_delta", "delta": delta, "usage": usage_object(&self.usage),
                };
                self.put("message_delta", &event, out);
                self.put("message_stop", &object! { "type": "message_stop" }, out);
            }
            _ => {
                self.start(out);
                let Some(part) = part_of(event) else { return };
                if self.open.is_some_and(|open| open.part != part) {
                    self.waiting.entry(part).or_default().push(event.clone());
                    return;
                }
                self.write(event, out);
                // Parts are numbered in the order in which they started.
                while self.open.is_none()
                    && let Some((_, events)) = self.waiting.pop_first()
                {
                    for event in &events {
                        self.write(event, out);
                    }
                }
            }
        }
    }

    /// The opening event waits for the first usage, which some providers tell at the start.
    fn start(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let message = object! {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.show.model,
            "content": [(); 0],
            "stop_reason": None::<u8>,
            "stop_sequence": None::<u8>,
            "usage": usage_object(&self.usage),
        };
        let event = object! { "type": "message_start", "message": message };
        self.put("message_start", &event, out);
    }

    fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::PartStart { index, kind } => {
                let thinks = *kind == PartKind::Thinking;
                self.refused |= *kind == PartKind::Refusal;
                if let PartKind::ToolCall { signature: Some(made), .. } = kind {
                    self.seal(made, out);
                }
                self.end_unsigned(out);
                self.open = Some(Open { part: *index, thinks, signed: false });
                self.block_start(kind, out);
            }
            Event::TextDelta { text, .. } if self.open.is_some_and(|open| open.thinks) => {
                self.delta(&object! { "type": "thinking_delta", "thinking": text }, out);
            }
            Event::TextDelta { text, .. } => {
                self.delta(&object! { "type": "text_delta", "text": text }, out);
            }
            Event::ArgumentsDelta { fragment, .. } => {
                let delta = object! { "type": "input_json_delta", "partial_json": fragment };
                self.delta(&delta, out);
            }
            Event::Signature { signature, .. } => {
                if let Some(open) = &mut self.open {
                    open.signed = true;
                }
                self.signature(signature, out);
            }
            Event::PartEnd { .. } => {
                let ended = self.open.take();
                self.unsigned = ended.is_some_and(|open| open.thinks && !open.signed);
                if !self.unsigned {
                    self.block_stop(out);
                }
            }
            Event::Start { .. } | Event::Usage(_) | Event::Finish { .. } | Event::Error(_) => {}
        }
    }

    /// A call has no place for a signature here: it goes to the reasoning just before the call, or
    /// makes one without text.
    fn seal(&mut self, made: &Signature, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.unsigned, true) {
            self.block_start(&PartKind::Thinking, out);
        }
        self.signature(made, out);
    }

    fn end_unsigned(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.unsigned) {
            self.block_stop(out);
        }
    }

    fn signature(&self, made: &Signature, out: &mut Vec<u8>) {
        let signature = made.write(Dialect::Anthropic);
        self.delta(&object! { "type": "signature_delta", "signature": signature }, out);
    }

    fn block_start(&mut self, kind: &PartKind, out: &mut Vec<u8>) {
        let block = match kind {
            PartKind::Text | PartKind::Refusal => object! { "type": "text", "text": "" },
            PartKind::Thinking => {
                object! { "type": "thinking", "thinking": "", "signature": "" }
            }
            PartKind::RedactedThinking(data) => redacted_block(data),
            PartKind::ToolCall { id, name, .. } => object! {
                "type": "tool_use", "id": id, "name": name, "input": RawObject::default(),
            },
        };
        let event = object! {
            "type": "content_block_start", "index": self.next_block, "content_block": block,
        };
        self.put("content_block_start", &event, out);
    }

    fn block_stop(&mut self, out: &mut Vec<u8>) {
        let event = object! { "type": "content_block_stop", "index": self.next_block };
        self.put("content_block_stop", &event, out);
        self.next_block += 1;
    }

    fn delta(&self, delta: &RawObject, out: &mut Vec<u8>) {
        let event = object! {
            "type": "content_block_delta", "index": self.next_block, "delta": delta,
        };
        self.put("content_block_delta", &event, out);
    }

    fn put(&self, name: &str, event: &RawObject, out: &mut Vec<u8>) {
        put_event(name, &String::from_utf8_lossy(&event.to_bytes()), out);
    }
}

/// The part that an event is about.
fn part_of(event: &Event) -> Option<usize> {
    match event {
        Event::PartStart { index, .. }
        | Event::TextDelta { index, .. }
        | Event::Signature { index, .. }
        | Event::ArgumentsDelta { index, .. }
        | Event::PartEnd { index } => Some(*index),
        Event::Start { .. } | Event::Usage(_) | Event::Finish { .. } | Event::Error(_) => None,
    }
}

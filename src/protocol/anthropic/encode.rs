//! A stream for a caller who speaks messages.
//!
//! Blocks never overlap here, while neutral parts may: events of a part that begins before the
//! one on the wire has ended wait until it has.

use std::collections::VecDeque;

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
    /// The part on the wire, and whether it is reasoning.
    open: Option<(usize, bool)>,
    /// The next block's index.
    next_block: usize,
    /// Events of parts that have to wait.
    waiting: VecDeque<Event>,
    refused: bool,
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
            waiting: VecDeque::new(),
            refused: false,
        }
    }

    /// Writes what one event is in this dialect.
    pub fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, .. } => self.id = self.show.id_or(id).to_owned(),
            Event::Usage(usage) => self.usage = *usage,
            Event::Error(error) => {
                let body = failure::write_error(Dialect::Anthropic, error, &self.show.id);
                self.put("error", &body, out);
            }
            Event::Finish { stop, stop_sequence, usage } => {
                self.start(out);
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
                self.waiting.push_back(event.clone());
                self.drain(out);
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

    /// Writes what waits for nothing: all that belongs to the open part, then the next part.
    fn drain(&mut self, out: &mut Vec<u8>) {
        loop {
            let ready = self.waiting.iter().position(|event| match self.open {
                Some((open, _)) => part_of(event) == Some(open),
                None => true,
            });
            let Some(event) = ready.and_then(|at| self.waiting.remove(at)) else { return };
            self.write(event, out);
        }
    }

    fn write(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::PartStart { index, kind } => {
                self.refused |= kind == PartKind::Refusal;
                if let PartKind::ToolCall { signature: Some(made), .. } = &kind {
                    // A call's signature goes before it, as reasoning without text.
                    self.block_start(&PartKind::Thinking, out);
                    self.signature(made, out);
                    self.block_stop(out);
                }
                self.open = Some((index, kind == PartKind::Thinking));
                self.block_start(&kind, out);
            }
            Event::TextDelta { text, .. } if matches!(self.open, Some((_, true))) => {
                self.delta(&object! { "type": "thinking_delta", "thinking": text }, out);
            }
            Event::TextDelta { text, .. } => {
                self.delta(&object! { "type": "text_delta", "text": text }, out);
            }
            Event::ArgumentsDelta { fragment, .. } => {
                let delta = object! { "type": "input_json_delta", "partial_json": fragment };
                self.delta(&delta, out);
            }
            Event::Signature { signature, .. } => self.signature(&signature, out),
            Event::PartEnd { .. } => {
                self.open = None;
                self.block_stop(out);
            }
            Event::Start { .. } | Event::Usage(_) | Event::Finish { .. } | Event::Error(_) => {}
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

//! A stream for a caller who speaks responses: every part is an output item of its own.

use std::collections::{HashMap, HashSet};

use super::items::{Progress, content_part, is_incomplete, item, item_id, response};
use crate::protocol::{
    json::{RawObject, object},
    neutral::{
        Accumulator, Event, Part, PartBody, PartKind, ProviderError, Signature,
        freeform::{self, Unpacker, is_freeform},
    },
    sse::put_event,
    translate::Show,
};

/// Writes events.
#[derive(Debug)]
pub struct Encoder {
    show: Show,
    id: String,
    sequence: u64,
    started: bool,
    answer: Accumulator,
    /// The output index of each part: one more for every call that is signed.
    indexes: Vec<usize>,
    next_index: usize,
    /// Parts that have begun and not ended.
    open: HashSet<usize>,
    /// Of the calls that are shown with a text, by part.
    unpackers: HashMap<usize, Unpacker>,
}

impl Encoder {
    /// An encoder for one answer.
    pub fn new(show: Show) -> Self {
        Self {
            show,
            id: String::new(),
            sequence: 0,
            started: false,
            answer: Accumulator::default(),
            indexes: Vec::new(),
            next_index: 0,
            open: HashSet::new(),
            unpackers: HashMap::new(),
        }
    }

    /// Counts on from an event that came to the caller in another way.
    pub fn go_on_at(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// Writes what one event is in this dialect.
    pub fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        self.answer.add(event);
        match event {
            Event::Start { id, .. } => {
                self.id = self.show.id_or(id).to_owned();
                self.started = true;
                for name in ["response.created", "response.in_progress"] {
                    let response = response(self.answer.answer(), &self.show, &Progress::Running);
                    self.put(name, object! { "response": response }, out);
                }
            }
            Event::PartStart { kind, .. } => self.part_start(kind, out),
            Event::TextDelta { index, text } => self.text(*index, text, out),
            Event::ArgumentsDelta { index, fragment } => self.arguments(*index, fragment, out),
            Event::PartEnd { index } => self.part_end(*index, out),
            Event::Signature { .. } | Event::Usage(_) => {}
            Event::Finish { stop, .. } => {
                let name = match is_incomplete(*stop) {
                    true => "response.incomplete",
                    false => "response.completed",
                };
                let response = response(self.answer.answer(), &self.show, &Progress::Ended);
                self.put(name, object! { "response": response }, out);
            }
            Event::Error(error) => self.error(error, out),
        }
    }

    fn error(&mut self, error: &ProviderError, out: &mut Vec<u8>) {
        if self.started {
            let progress = Progress::Failed { error, open: &self.open };
            let response = response(self.answer.answer(), &self.show, &progress);
            self.put("response.failed", object! { "response": response }, out);
            return;
        }
        let code = error.code.as_deref().unwrap_or_else(|| error.kind.label());
        let fields = object! { "code": code, "message": error.message, "param": error.param };
        self.put("error", fields, out);
    }

    fn part_start(&mut self, kind: &PartKind, out: &mut Vec<u8>) {
        if let PartKind::ToolCall { signature: Some(made), .. } = kind {
            self.seal(made, out);
        }
        let index = self.indexes.len();
        self.indexes.push(self.next_index);
        self.open.insert(index);
        self.next_index += 1;
        let Some(part) = self.part(index) else { return };
        if let PartBody::ToolCall(call) = &part.body
            && is_freeform(self.show.known_tools.get(&call.name))
        {
            self.unpackers.insert(index, Unpacker::default());
        }
        let added = self.item(&part, self.output_index(index), "in_progress");
        let fields = object! { "output_index": self.output_index(index), "item": added };
        self.put("response.output_item.added", fields, out);
        if let Some(content) = content_part(&part) {
            let mut fields = self.place_within(index, "content_index");
            fields.put("part", &content);
            self.put("response.content_part.added", fields, out);
        } else if matches!(part.body, PartBody::Thinking { .. }) {
            let mut fields = self.place_within(index, "summary_index");
            fields.put("part", &object! { "type": "summary_text", "text": "" });
            self.put("response.reasoning_summary_part.added", fields, out);
        }
    }

    /// A call's signature as an item of its own.
    fn seal(&mut self, made: &Signature, out: &mut Vec<u8>) {
        let signature = Some(made.clone());
        let part = Part::new(PartBody::Thinking { text: String::new(), signature });
        let index = self.next_index;
        self.next_index += 1;
        for (name, status) in [
            ("response.output_item.added", "in_progress"),
            ("response.output_item.done", "completed"),
        ] {
            let item = self.item(&part, index, status);
            self.put(name, object! { "output_index": index, "item": item }, out);
        }
    }

    fn arguments(&mut self, index: usize, fragment: &str, out: &mut Vec<u8>) {
        let (name, delta) = match self.unpackers.get_mut(&index) {
            Some(unpacker) => match unpacker.push(fragment) {
                text if text.is_empty() => return,
                text => ("response.custom_tool_call_input.delta", text),
            },
            None => ("response.function_call_arguments.delta", fragment.to_owned()),
        };
        let mut fields = self.place(index);
        fields.put("delta", &delta);
        self.put(name, fields, out);
    }

    fn text(&mut self, index: usize, text: &str, out: &mut Vec<u8>) {
        let (name, at) = match self.answer.part(index) {
            Some(PartBody::Thinking { .. }) => {
                ("response.reasoning_summary_text.delta", "summary_index")
            }
            Some(PartBody::Refusal(_)) => ("response.refusal.delta", "content_index"),
            _ => ("response.output_text.delta", "content_index"),
        };
        let mut fields = self.place_within(index, at);
        fields.put("delta", text);
        if name == "response.output_text.delta" {
            fields.put("logprobs", &[(); 0]);
        }
        self.put(name, fields, out);
    }

    fn part_end(&mut self, index: usize, out: &mut Vec<u8>) {
        self.open.remove(&index);
        let Some(part) = self.part(index) else { return };
        match &part.body {
            PartBody::Text(text) => {
                let mut fields = self.place_within(index, "content_index");
                fields.put("text", text);
                fields.put("logprobs", &[(); 0]);
                self.put("response.output_text.done", fields, out);
            }
            PartBody::Refusal(text) => {
                let mut fields = self.place_within(index, "content_index");
                fields.put("refusal", text);
                self.put("response.refusal.done", fields, out);
            }
            PartBody::Thinking { text, .. } => {
                let mut fields = self.place_within(index, "summary_index");
                fields.put("text", text);
                self.put("response.reasoning_summary_text.done", fields, out);
                let mut fields = self.place_within(index, "summary_index");
                fields.put("part", &object! { "type": "summary_text", "text": text });
                self.put("response.reasoning_summary_part.done", fields, out);
            }
            PartBody::ToolCall(call) if self.unpackers.remove(&index).is_some() => {
                let mut fields = self.place(index);
                fields.put("input", &freeform::text(&call.arguments));
                self.put("response.custom_tool_call_input.done", fields, out);
            }
            PartBody::ToolCall(call) => {
                let known = self.show.known_tools.get(&call.name);
                let mut fields = self.place(index);
                fields.put("name", known.map_or(&call.name, |known| &known.name));
                fields.put("arguments", &call.arguments);
                self.put("response.function_call_arguments.done", fields, out);
            }
            _ => {}
        }
        if let Some(content) = content_part(&part) {
            let mut fields = self.place_within(index, "content_index");
            fields.put("part", &content);
            self.put("response.content_part.done", fields, out);
        }
        let done = self.item(&part, self.output_index(index), "completed");
        let fields = object! { "output_index": self.output_index(index), "item": done };
        self.put("response.output_item.done", fields, out);
    }

    /// The fields that say which item an event is about.
    fn place(&self, index: usize) -> RawObject {
        object! { "item_id": self.item_id(index), "output_index": self.output_index(index) }
    }

    /// And which part of it.
    fn place_within(&self, index: usize, within: &str) -> RawObject {
        let mut fields = self.place(index);
        fields.put(within, &0);
        fields
    }

    fn item(&self, part: &Part, index: usize, status: &str) -> Option<RawObject> {
        item(part, &self.id, index, status, &self.show.known_tools)
    }

    fn part(&self, index: usize) -> Option<Part> {
        self.answer.answer().parts.get(index).cloned()
    }

    fn output_index(&self, index: usize) -> usize {
        self.indexes.get(index).copied().unwrap_or(index)
    }

    fn item_id(&self, index: usize) -> String {
        let part = self.answer.answer().parts.get(index);
        let known = &self.show.known_tools;
        part.map(|part| item_id(part, &self.id, self.output_index(index), known))
            .unwrap_or_default()
    }

    fn put(&mut self, name: &str, fields: RawObject, out: &mut Vec<u8>) {
        let mut event = object! { "type": name, "sequence_number": self.sequence };
        self.sequence += 1;
        for (field, value) in fields.into_fields() {
            event.put(&field, &value);
        }
        put_event(name, &String::from_utf8_lossy(&event.to_bytes()), out);
    }
}

//! Messages, whole and streamed.
//!
//! Stream: `message_start`, then for each block `content_block_start`, deltas and
//! `content_block_stop`, a `ping` after the first block's start, `message_delta` with the stop
//! reason and the cumulative usage, `message_stop`. The `event:` line equals the `type`.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::answer::{Ended, Usage};
use super::super::blocks::{Block, Blocks, Placed};
use super::super::directives::UsageMode;
use super::super::frames::{Frames, MALFORMED};
use super::super::play::Event;
use super::super::wire::{Delta, Telling, Wire, signature};

/// Writes one message.
pub(super) struct Message {
    id: String,
    telling: Telling,
    blocks: Blocks,
    has_pinged: bool,
}

impl Message {
    pub fn new(telling: Telling) -> Self {
        let id = format!("msg_{}", Uuid::now_v7().simple());
        Self { id, telling, blocks: Blocks::default(), has_pinged: false }
    }

    fn head(&self) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.telling.answer.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
        })
    }

    fn stop(&self) -> (Value, Value) {
        let answer = &self.telling.answer;
        let stop_sequence = match &answer.ended {
            Ended::StopText(text) => json!(text),
            _ => Value::Null,
        };
        (json!(answer.finish_reason(stop_word)), stop_sequence)
    }

    fn signature(&self) -> String {
        let answer = &self.telling.answer;
        signature(&answer.model, &answer.reasoning_text())
    }

    fn content(&self) -> Vec<Value> {
        let answer = &self.telling.answer;
        let mut content = Vec::new();
        if answer.reasoning > 0 {
            content.push(json!({
                "type": "thinking",
                "thinking": answer.reasoning_text(),
                "signature": self.signature(),
            }));
        }
        let text = self.telling.text();
        if !text.is_empty() {
            content.push(json!({"type": "text", "text": text}));
        }
        content.extend(answer.calls.iter().map(|call| {
            let input: Value = serde_json::from_str(&Telling::arguments(call)).unwrap_or_default();
            json!({"type": "tool_use", "id": tool_id(&call.id), "name": call.name, "input": input})
        }));
        content
    }

    fn start_block(&mut self, (block, index): Placed, frames: &mut Frames) {
        let content_block = match block {
            Block::Reasoning => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Block::Text => json!({"type": "text", "text": ""}),
            Block::Call(number) => {
                let call = self.telling.answer.calls.get(number);
                let (id, name) = call.map_or(("", ""), |call| (&call.id, &call.name));
                json!({"type": "tool_use", "id": tool_id(id), "name": name, "input": {}})
            }
        };
        let start = json!({"index": index, "content_block": content_block});
        named(frames, "content_block_start", start);
        if !std::mem::replace(&mut self.has_pinged, true) {
            named(frames, "ping", json!({}));
        }
    }

    fn stop_block(&self, (block, index): Placed, frames: &mut Frames) {
        if block == Block::Reasoning {
            let delta = json!({"type": "signature_delta", "signature": self.signature()});
            named(frames, "content_block_delta", json!({"index": index, "delta": delta}));
        }
        named(frames, "content_block_stop", json!({"index": index}));
    }

    fn write_delta(&mut self, event: Event, frames: &mut Frames) {
        let Some(block) = Block::of(event, &self.telling.answer) else { return };
        let (closed, opened) = self.blocks.enter(block);
        if let Some(closed) = closed {
            self.stop_block(closed, frames);
        }
        if let Some(opened) = opened {
            self.start_block(opened, frames);
        }
        let delta = match self.telling.delta(event) {
            Some(Delta::Reasoning(text)) => json!({"type": "thinking_delta", "thinking": text}),
            Some(Delta::Text(text)) => json!({"type": "text_delta", "text": text}),
            Some(Delta::CallHead(_)) => json!({"type": "input_json_delta", "partial_json": ""}),
            Some(Delta::Arguments(part)) => {
                json!({"type": "input_json_delta", "partial_json": part})
            }
            None => return,
        };
        let index = self.blocks.open().map_or(0, |(_, index)| index);
        let mut data = json!({"index": index, "delta": delta});
        if self.telling.usage_mode() == UsageMode::Every {
            data["usage"] = usage(self.telling.usage_so_far());
        }
        named(frames, "content_block_delta", data);
    }
}

impl Wire for Message {
    fn whole(&self) -> Vec<u8> {
        let mut message = self.head();
        let (reason, sequence) = self.stop();
        message["content"] = Value::Array(self.content());
        message["stop_reason"] = reason;
        message["stop_sequence"] = sequence;
        if self.telling.usage_mode() != UsageMode::None {
            message["usage"] = usage(self.telling.usage());
        }
        message.to_string().into_bytes()
    }

    fn write(&mut self, event: Event, frames: &mut Frames) {
        match event {
            Event::Open { .. } => {
                let mut message = self.head();
                let so_far = match self.telling.usage_mode() {
                    UsageMode::None => None,
                    // As servers that only count at the end: nothing yet.
                    UsageMode::Choice => Some(Usage::default()),
                    // One token is on its way when the stream begins.
                    UsageMode::Own | UsageMode::Every => Some(Usage {
                        completion_tokens: 1,
                        reasoning_tokens: 0,
                        ..self.telling.usage()
                    }),
                };
                if let Some(so_far) = so_far {
                    message["usage"] = usage(so_far);
                }
                named(frames, "message_start", json!({"message": message}));
            }
            Event::Reasoning { .. } | Event::Huge { .. } | Event::Content { .. } => {
                self.write_delta(event, frames);
            }
            Event::Finish { .. } => {
                if let Some(closed) = self.blocks.close() {
                    self.stop_block(closed, frames);
                }
                let (reason, sequence) = self.stop();
                let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
                let mut data = json!({"delta": delta});
                if self.telling.usage_mode() != UsageMode::None {
                    data["usage"] = usage(self.telling.usage());
                }
                named(frames, "message_delta", data);
            }
            Event::Done => named(frames, "message_stop", json!({})),
            Event::Malformed => frames.named("content_block_delta", MALFORMED),
            Event::Failure => {
                let error = super::error(&self.telling.script.inner_fault());
                frames.named("error", &error.body);
            }
            Event::Usage | Event::Noise => {}
        }
    }
}

fn named(frames: &mut Frames, kind: &str, fields: Value) {
    let mut data = Map::new();
    data.insert("type".to_owned(), json!(kind));
    if let Value::Object(fields) = fields {
        data.extend(fields);
    }
    frames.named(kind, Value::Object(data).to_string().as_bytes());
}

/// `toolu_…`, as Anthropic writes it.
fn tool_id(id: &str) -> String {
    id.replacen("call_", "toolu_", 1)
}

/// Cached tokens are not among `input_tokens`.
fn usage(usage: Usage) -> Value {
    let cached = usage.cached_tokens + usage.cache_write_tokens;
    json!({
        "input_tokens": usage.prompt_tokens - cached,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "service_tier": "standard",
    })
}

fn stop_word(ended: &Ended) -> &'static str {
    match ended {
        Ended::Stop => "end_turn",
        Ended::StopText(_) => "stop_sequence",
        Ended::Length => "max_tokens",
        Ended::Calls => "tool_use",
    }
}

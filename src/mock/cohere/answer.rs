//! Chat answers, whole and streamed.
//!
//! Stream: `message-start`, for the thinking and the text `content-start`, deltas and
//! `content-end`, before calls `tool-plan-delta`, for each call `tool-call-start`, deltas and
//! `tool-call-end`, then `message-end` with the finish reason and the usage, and `[DONE]`. Content
//! and calls are counted apart.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::answer::{Call, Ended, Usage};
use super::super::blocks::{Block, Blocks};
use super::super::directives::UsageMode;
use super::super::frames::{Frames, MALFORMED};
use super::super::play::Event;
use super::super::wire::{Delta, Telling, Wire};

/// Writes one answer.
pub(super) struct Chat {
    id: String,
    telling: Telling,
    blocks: Blocks,
}

impl Chat {
    pub fn new(telling: Telling) -> Self {
        Self { id: Uuid::now_v7().to_string(), telling, blocks: Blocks::default() }
    }

    fn finish(&self) -> &str {
        self.telling.answer.finish_reason(finish_word)
    }

    fn message(&self) -> Value {
        let answer = &self.telling.answer;
        let text = self.telling.text();
        let mut content = Vec::new();
        if answer.reasoning > 0 {
            content.push(json!({"type": "thinking", "thinking": answer.reasoning_text()}));
        }
        let mut message = json!({"role": "assistant"});
        if answer.calls.is_empty() {
            content.push(json!({"type": "text", "text": text}));
        } else {
            message["tool_plan"] = json!(text);
            let call = |call: &Call| {
                let function = json!({"name": call.name, "arguments": call.arguments});
                json!({"id": tool_id(&call.id), "type": "function", "function": function})
            };
            message["tool_calls"] = answer.calls.iter().map(call).collect();
        }
        if !content.is_empty() {
            message["content"] = Value::Array(content);
        }
        message
    }

    /// The place of a block among its kind; a tool plan has none.
    fn index(&self, block: Block) -> Option<usize> {
        let answer = &self.telling.answer;
        match block {
            Block::Reasoning => Some(0),
            Block::Text if !answer.calls.is_empty() => None,
            Block::Text => Some(usize::from(answer.reasoning > 0)),
            Block::Call(number) => Some(number),
        }
    }

    fn start_block(&self, block: Block, frames: &mut Frames) {
        let Some(index) = self.index(block) else { return };
        let (kind, message) = match block {
            Block::Reasoning => {
                let content = json!({"type": "thinking", "thinking": ""});
                ("content-start", json!({"content": content}))
            }
            Block::Text => ("content-start", json!({"content": {"type": "text", "text": ""}})),
            Block::Call(number) => {
                let call = self.telling.answer.calls.get(number);
                let (id, name) = call.map_or(("", ""), |call| (&call.id, &call.name));
                let function = json!({"name": name, "arguments": ""});
                let call = json!({"id": tool_id(id), "type": "function", "function": function});
                ("tool-call-start", json!({"tool_calls": call}))
            }
        };
        named(frames, kind, json!({"index": index, "delta": {"message": message}}));
    }

    fn stop_block(&self, block: Block, frames: &mut Frames) {
        let kind = if matches!(block, Block::Call(_)) { "tool-call-end" } else { "content-end" };
        if let Some(index) = self.index(block) {
            named(frames, kind, json!({"index": index}));
        }
    }

    fn write_delta(&mut self, event: Event, frames: &mut Frames) {
        let Some(block) = Block::of(event, &self.telling.answer) else { return };
        let (closed, opened) = self.blocks.enter(block);
        if let Some((closed, _)) = closed {
            self.stop_block(closed, frames);
        }
        if let Some((opened, _)) = opened {
            self.start_block(opened, frames);
        }
        let index = self.index(block);
        let (kind, message) = match (self.telling.delta(event), index) {
            (Some(Delta::Reasoning(text)), _) => {
                ("content-delta", json!({"content": {"thinking": text}}))
            }
            (Some(Delta::Text(text)), Some(_)) => {
                ("content-delta", json!({"content": {"text": text}}))
            }
            (Some(Delta::Text(text)), None) => ("tool-plan-delta", json!({"tool_plan": text})),
            (Some(Delta::Arguments(part)), _) => {
                ("tool-call-delta", json!({"tool_calls": {"function": {"arguments": part}}}))
            }
            // The start says what is called.
            (Some(Delta::CallHead(_)) | None, _) => return,
        };
        let mut data = json!({"delta": {"message": message}});
        if let Some(index) = index {
            data["index"] = json!(index);
        }
        if self.telling.usage_mode() == UsageMode::Every {
            data["delta"]["usage"] = usage(self.telling.usage_so_far());
        }
        named(frames, kind, data);
    }

    fn end(&self, finish: &str) -> Value {
        let mut delta = json!({"finish_reason": finish});
        if self.telling.usage_mode() != UsageMode::None {
            delta["usage"] = usage(self.telling.usage());
        }
        delta
    }
}

impl Wire for Chat {
    fn whole(&self) -> Vec<u8> {
        let mut body =
            json!({"id": self.id, "finish_reason": self.finish(), "message": self.message()});
        if self.telling.usage_mode() != UsageMode::None {
            body["usage"] = usage(self.telling.usage());
        }
        body.to_string().into_bytes()
    }

    fn write(&mut self, event: Event, frames: &mut Frames) {
        match event {
            Event::Open { .. } => {
                let message = json!({
                    "role": "assistant", "content": [], "tool_plan": "", "tool_calls": [],
                    "citations": [],
                });
                let start = json!({"id": self.id, "delta": {"message": message}});
                named(frames, "message-start", start);
            }
            Event::Reasoning { .. } | Event::Huge { .. } | Event::Content { .. } => {
                self.write_delta(event, frames);
            }
            Event::Finish { .. } => {
                if let Some((closed, _)) = self.blocks.close() {
                    self.stop_block(closed, frames);
                }
                named(frames, "message-end", json!({"delta": self.end(self.finish())}));
            }
            Event::Done => frames.data(b"[DONE]"),
            Event::Malformed => frames.named("content-delta", MALFORMED),
            Event::Failure => {
                let mut delta = self.end("ERROR");
                delta["error"] = json!(super::sentence(&self.telling.script.inner_fault()));
                named(frames, "message-end", json!({"delta": delta}));
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

fn tool_id(id: &str) -> String {
    id.replacen("call_", "tool_", 1)
}

fn usage(usage: Usage) -> Value {
    let tokens =
        json!({"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens});
    json!({"billed_units": tokens, "tokens": tokens, "cached_tokens": usage.cached_tokens})
}

fn finish_word(ended: &Ended) -> &'static str {
    match ended {
        Ended::Stop => "COMPLETE",
        Ended::StopText(_) => "STOP_SEQUENCE",
        Ended::Length => "MAX_TOKENS",
        Ended::Calls => "TOOL_CALL",
    }
}

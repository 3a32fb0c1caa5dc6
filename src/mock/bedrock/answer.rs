//! Answers of Converse and the events of ConverseStream: `messageStart`, for each block
//! `contentBlockStart` (of tools only), deltas and `contentBlockStop`, `messageStop`, and
//! `metadata` with the usage.

use serde_json::{Value, json};

use super::super::answer::{Ended, Usage};
use super::super::blocks::{Block, Blocks, Placed};
use super::super::directives::UsageMode;
use super::super::frames::{Frames, MALFORMED};
use super::super::play::Event;
use super::super::wire::{Delta, Telling, Wire, signature};
use super::frame::frame;

/// What is reported as the model's latency; nothing is measured.
const LATENCY_MS: u32 = 1;
/// Padding that hides the length of a text, as Bedrock sends it.
const PADDING: &str = "abcdefghijk";

/// Writes one answer.
pub(super) struct Conversing {
    telling: Telling,
    blocks: Blocks,
}

impl Conversing {
    pub fn new(telling: Telling) -> Self {
        Self { telling, blocks: Blocks::default() }
    }

    fn stop_reason(&self) -> &str {
        self.telling.answer.finish_reason(stop_word)
    }

    fn signature(&self) -> String {
        let answer = &self.telling.answer;
        signature(&answer.model, &answer.reasoning_text())
    }

    fn content(&self) -> Vec<Value> {
        let answer = &self.telling.answer;
        let mut content = Vec::new();
        if answer.reasoning > 0 {
            let (text, signature) = (answer.reasoning_text(), self.signature());
            let reasoning = json!({"reasoningText": {"text": text, "signature": signature}});
            content.push(json!({"reasoningContent": reasoning}));
        }
        let text = self.telling.text();
        if !text.is_empty() {
            content.push(json!({"text": text}));
        }
        content.extend(answer.calls.iter().map(|call| {
            let input: Value = serde_json::from_str(&Telling::arguments(call)).unwrap_or_default();
            let id = tool_id(&call.id);
            json!({"toolUse": {"toolUseId": id, "name": call.name, "input": input}})
        }));
        content
    }

    fn start_block(&self, (block, index): Placed, frames: &mut Frames) {
        let Block::Call(number) = block else { return };
        let Some(call) = self.telling.answer.calls.get(number) else { return };
        let start = json!({"toolUse": {"toolUseId": tool_id(&call.id), "name": call.name}});
        let payload = json!({"contentBlockIndex": index, "start": start, "p": PADDING});
        event("contentBlockStart", &payload, frames);
    }

    fn stop_block(&self, (block, index): Placed, frames: &mut Frames) {
        if block == Block::Reasoning {
            let delta = json!({"reasoningContent": {"signature": self.signature()}});
            let payload = json!({"contentBlockIndex": index, "delta": delta, "p": PADDING});
            event("contentBlockDelta", &payload, frames);
        }
        event("contentBlockStop", &json!({"contentBlockIndex": index, "p": PADDING}), frames);
    }

    fn write_delta(&mut self, of: Event, frames: &mut Frames) {
        let Some(block) = Block::of(of, &self.telling.answer) else { return };
        let (closed, opened) = self.blocks.enter(block);
        if let Some(closed) = closed {
            self.stop_block(closed, frames);
        }
        if let Some(opened) = opened {
            self.start_block(opened, frames);
        }
        let delta = match self.telling.delta(of) {
            Some(Delta::Reasoning(text)) => json!({"reasoningContent": {"text": text}}),
            Some(Delta::Text(text)) => json!({"text": text}),
            Some(Delta::Arguments(part)) => json!({"toolUse": {"input": part}}),
            // The block's start says what is called.
            Some(Delta::CallHead(_)) | None => return,
        };
        let index = self.blocks.open().map_or(0, |(_, index)| index);
        let mut payload = json!({"contentBlockIndex": index, "delta": delta, "p": PADDING});
        if self.telling.usage_mode() == UsageMode::Every {
            payload["usage"] = usage(self.telling.usage_so_far());
        }
        event("contentBlockDelta", &payload, frames);
    }
}

impl Wire for Conversing {
    fn whole(&self) -> Vec<u8> {
        let mut body = json!({
            "output": {"message": {"role": "assistant", "content": self.content()}},
            "stopReason": self.stop_reason(),
            "metrics": {"latencyMs": LATENCY_MS},
        });
        if self.telling.usage_mode() != UsageMode::None {
            body["usage"] = usage(self.telling.usage());
        }
        body.to_string().into_bytes()
    }

    fn write(&mut self, of: Event, frames: &mut Frames) {
        let mode = self.telling.usage_mode();
        match of {
            Event::Open { .. } => {
                event("messageStart", &json!({"role": "assistant", "p": PADDING}), frames);
            }
            Event::Reasoning { .. } | Event::Huge { .. } | Event::Content { .. } => {
                self.write_delta(of, frames);
            }
            Event::Finish { .. } => {
                if let Some(closed) = self.blocks.close() {
                    self.stop_block(closed, frames);
                }
                let mut payload = json!({"stopReason": self.stop_reason(), "p": PADDING});
                if mode == UsageMode::Choice {
                    payload["usage"] = usage(self.telling.usage());
                }
                event("messageStop", &payload, frames);
            }
            Event::Done => {
                let mut payload = json!({"metrics": {"latencyMs": LATENCY_MS}, "p": PADDING});
                if matches!(mode, UsageMode::Own | UsageMode::Every) {
                    payload["usage"] = usage(self.telling.usage());
                }
                event("metadata", &payload, frames);
            }
            Event::Malformed => frames.raw(&event_frame("contentBlockDelta", MALFORMED)),
            Event::Failure => {
                let (name, sentence) = super::exception(&self.telling.script.inner_fault());
                frames.raw(&exception_frame(&name, &sentence));
            }
            Event::Usage | Event::Noise => {}
        }
    }
}

fn event(name: &str, payload: &Value, frames: &mut Frames) {
    frames.raw(&event_frame(name, payload.to_string().as_bytes()));
}

fn event_frame(name: &str, payload: &[u8]) -> Vec<u8> {
    let headers =
        [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")];
    frame(&headers, payload)
}

/// Inside a stream the exception's name begins with a small letter.
fn exception_frame(name: &str, sentence: &str) -> Vec<u8> {
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    let name: String = first.into_iter().chain(letters).collect();
    let headers = [
        (":exception-type", name.as_str()),
        (":content-type", "application/json"),
        (":message-type", "exception"),
    ];
    frame(&headers, json!({"message": sentence}).to_string().as_bytes())
}

/// `tooluse_…`, as Bedrock writes it.
fn tool_id(id: &str) -> String {
    id.replacen("call_", "tooluse_", 1)
}

/// Cached tokens are not among `inputTokens`.
fn usage(usage: Usage) -> Value {
    let cached = usage.cached_tokens + usage.cache_write_tokens;
    let mut object = json!({
        "inputTokens": usage.prompt_tokens - cached,
        "outputTokens": usage.completion_tokens,
        "totalTokens": usage.prompt_tokens + usage.completion_tokens,
    });
    if cached > 0 {
        object["cacheReadInputTokens"] = json!(usage.cached_tokens);
        object["cacheWriteInputTokens"] = json!(usage.cache_write_tokens);
    }
    object
}

fn stop_word(ended: &Ended) -> &'static str {
    match ended {
        Ended::Stop => "end_turn",
        Ended::StopText(_) => "stop_sequence",
        Ended::Length => "max_tokens",
        Ended::Calls => "tool_use",
    }
}

//! `GenerateContentResponse`, whole and in chunks.
//!
//! A stream is made of whole responses with a part each; usage counts up on every one, the last
//! has the finish reason. A function call comes in one piece, never in fragments, and carries the
//! signature of the thoughts before it. Nothing announces the end.

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::answer::{Call, Ended, Usage};
use super::super::directives::UsageMode;
use super::super::frames::{Frames, MALFORMED};
use super::super::play::Event;
use super::super::script::Script;
use super::super::wire::{Delta, Telling, Wire, signature};

/// What a signature stands for in this dialect: the call or the text that carries it.
pub(super) const SIGNED: &str = "thought";

/// Writes one response.
pub(super) struct Content {
    id: String,
    telling: Telling,
    /// Reasoning has come and its signature has not.
    owes_signature: bool,
}

impl Content {
    pub fn new(telling: Telling) -> Self {
        let id = Uuid::now_v7().simple().to_string();
        Self { id, owes_signature: telling.answer.reasoning > 0, telling }
    }

    fn response(&self, parts: Vec<Value>, finish: Option<&str>, usage: Option<Usage>) -> Value {
        let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
        if let Some(finish) = finish {
            candidate["finishReason"] = json!(finish);
        }
        let mut response = json!({"candidates": [candidate]});
        if let Some(usage) = usage {
            response["usageMetadata"] = metadata(usage);
        }
        response["modelVersion"] = json!(self.telling.answer.model);
        response["responseId"] = json!(self.id);
        response
    }

    fn finish(&self) -> &str {
        self.telling.answer.finish_reason(finish_word)
    }

    fn signed(&mut self, mut part: Value) -> Value {
        if std::mem::take(&mut self.owes_signature) {
            part["thoughtSignature"] = json!(signature(&self.telling.answer.model, SIGNED));
        }
        part
    }

    fn part(&mut self, event: Event) -> Option<Value> {
        Some(match self.telling.delta(event)? {
            Delta::Reasoning(text) => json!({"text": text, "thought": true}),
            Delta::Text(text) => self.signed(json!({"text": text})),
            Delta::CallHead(call) => self.signed(function_call(&call)),
            Delta::Arguments(_) => return None,
        })
    }

    fn usage_on_chunk(&self) -> Option<Usage> {
        match self.telling.usage_mode() {
            UsageMode::Own | UsageMode::Every => Some(self.telling.usage_so_far()),
            UsageMode::None | UsageMode::Choice => None,
        }
    }
}

impl Wire for Content {
    fn whole(&self) -> Vec<u8> {
        let answer = &self.telling.answer;
        let mut signer = self.owes_signature.then(|| signature(&answer.model, SIGNED));
        let mut signed = |mut part: Value| {
            if let Some(signature) = signer.take() {
                part["thoughtSignature"] = json!(signature);
            }
            part
        };
        let mut parts = Vec::new();
        if answer.reasoning > 0 {
            parts.push(json!({"text": answer.reasoning_text(), "thought": true}));
        }
        let text = self.telling.text();
        if !text.is_empty() {
            parts.push(signed(json!({"text": text})));
        }
        parts.extend(answer.calls.iter().map(|call| signed(function_call(call))));
        let usage = (self.telling.usage_mode() != UsageMode::None).then(|| self.telling.usage());
        self.response(parts, Some(self.finish()), usage).to_string().into_bytes()
    }

    fn write(&mut self, event: Event, frames: &mut Frames) {
        match event {
            Event::Reasoning { .. } | Event::Huge { .. } | Event::Content { .. } => {
                let Some(part) = self.part(event) else { return };
                let chunk = self.response(vec![part], None, self.usage_on_chunk());
                frames.data(chunk.to_string().as_bytes());
            }
            Event::Finish { .. } => {
                let usage =
                    (self.telling.usage_mode() != UsageMode::None).then(|| self.telling.usage());
                let parts = vec![json!({"text": ""})];
                let chunk = self.response(parts, Some(self.finish()), usage);
                frames.data(chunk.to_string().as_bytes());
            }
            Event::Malformed => frames.data(MALFORMED),
            Event::Failure => {
                frames.data(&super::error(&self.telling.script.inner_fault()).body);
            }
            Event::Done => frames.end(),
            // A repeated first event, where there is none: an empty part.
            Event::Open { .. } | Event::Usage | Event::Noise => {}
        }
    }
}

/// The answer to a prompt that offends the policy.
pub(super) fn blocked(script: &Script) -> Vec<u8> {
    let reason = script.directives.finish.as_deref().unwrap_or("PROHIBITED_CONTENT");
    let body = json!({
        "promptFeedback": {"blockReason": reason},
        "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1},
        "modelVersion": script.model,
    });
    body.to_string().into_bytes()
}

fn function_call(call: &Call) -> Value {
    let args: Value = serde_json::from_str(&Telling::arguments(call)).unwrap_or_default();
    json!({"functionCall": {"name": call.name, "args": args, "id": call.id}})
}

/// Thoughts are not among the candidates' tokens.
fn metadata(usage: Usage) -> Value {
    let mut metadata = json!({
        "promptTokenCount": usage.prompt_tokens,
        "candidatesTokenCount": usage.completion_tokens - usage.reasoning_tokens,
        "totalTokenCount": usage.prompt_tokens + usage.completion_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.prompt_tokens}],
    });
    if usage.reasoning_tokens > 0 {
        metadata["thoughtsTokenCount"] = json!(usage.reasoning_tokens);
    }
    if usage.cached_tokens > 0 {
        metadata["cachedContentTokenCount"] = json!(usage.cached_tokens);
    }
    metadata
}

fn finish_word(ended: &Ended) -> &'static str {
    match ended {
        Ended::Stop | Ended::StopText(_) | Ended::Calls => "STOP",
        Ended::Length => "MAX_TOKENS",
    }
}

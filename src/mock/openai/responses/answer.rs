//! Responses, whole and streamed.
//!
//! Stream: `response.created`, `response.in_progress`, for each output item
//! `response.output_item.added`, its parts and deltas, `.done`, and at the end
//! `response.completed` or `response.incomplete`. Every event counts `sequence_number` up.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::super::answer::{Ended, Usage};
use super::super::super::blocks::{Block, Blocks, Placed};
use super::super::super::directives::UsageMode;
use super::super::super::frames::{Frames, MALFORMED};
use super::super::super::play::Event;
use super::super::super::wire::{Delta, Telling, Wire, signature};
use super::super::error::ApiError;
use super::super::fields::Fields;
use super::super::now_s;

/// Fields of the request that its response repeats, and their defaults.
const ECHOED: [(&str, &str); 13] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("store", "true"),
    ("temperature", "1.0"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_p", "1.0"),
    ("truncation", "\"disabled\""),
];

/// The fields that a response repeats.
pub(super) fn echo(request: &Fields<'_>) -> Map<String, Value> {
    let value = |name: &str, default: &str| {
        let default = || serde_json::from_str(default).unwrap_or_default();
        request.get(name).cloned().unwrap_or_else(default)
    };
    ECHOED.iter().map(|(name, default)| ((*name).to_owned(), value(name, default))).collect()
}

/// Writes one response.
pub(super) struct ResponseWire {
    id: String,
    created: u64,
    echo: Map<String, Value>,
    failure: ApiError,
    telling: Telling,
    blocks: Blocks,
    /// Text written into the open item.
    written: String,
    sequence: u64,
}

impl ResponseWire {
    pub fn new(telling: Telling, echo: Map<String, Value>, failure: ApiError) -> Self {
        Self {
            id: Uuid::now_v7().simple().to_string(),
            created: now_s(),
            echo,
            failure,
            telling,
            blocks: Blocks::default(),
            written: String::new(),
            sequence: 0,
        }
    }

    /// The response object; `output` is empty while it is in progress.
    fn response(&self, status: &str, output: Vec<Value>, usage: Option<Usage>) -> Value {
        let details = match status {
            "incomplete" => json!({"reason": self.incomplete_reason()}),
            _ => Value::Null,
        };
        let mut response = json!({
            "id": format!("resp_{}", self.id),
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": details,
            "model": self.telling.answer.model,
            "output": output,
            "service_tier": "default",
            "usage": usage.map(usage_object),
            "user": null,
        });
        if let Value::Object(response) = &mut response {
            response.extend(self.echo.clone());
        }
        response
    }

    /// The response when all was said.
    fn final_response(&self) -> Value {
        let mode = self.telling.usage_mode();
        let reports = matches!(mode, UsageMode::Own | UsageMode::Every);
        let usage = reports.then(|| self.telling.usage());
        self.response(self.status(), self.output(), usage)
    }

    /// `finish=…` is a status, or a reason why the response is incomplete.
    fn status(&self) -> &'static str {
        match (self.telling.answer.finish.as_deref(), &self.telling.answer.ended) {
            (Some("completed" | "stop"), _) => "completed",
            (Some("failed"), _) => "failed",
            (None, Ended::Length) | (Some(_), _) => "incomplete",
            (None, _) => "completed",
        }
    }

    fn incomplete_reason(&self) -> &str {
        self.telling.answer.finish.as_deref().unwrap_or("max_output_tokens")
    }

    fn output(&self) -> Vec<Value> {
        let answer = &self.telling.answer;
        let mut output = Vec::new();
        let mut add = |block, text: &str| {
            let item = self.item((block, output.len()), "completed", text);
            output.push(item);
        };
        if answer.reasoning > 0 {
            add(Block::Reasoning, &answer.reasoning_text());
        }
        let text = self.telling.text();
        if !text.is_empty() || answer.calls.is_empty() {
            add(Block::Text, &text);
        }
        for (number, call) in answer.calls.iter().enumerate() {
            add(Block::Call(number), &call.arguments);
        }
        output
    }

    fn item_id(&self, (block, index): Placed) -> String {
        let prefix = match block {
            Block::Reasoning => "rs",
            Block::Text => "msg",
            Block::Call(_) => "fc",
        };
        format!("{prefix}_{}{index:02}", self.id)
    }

    fn item(&self, placed: Placed, status: &str, text: &str) -> Value {
        let id = self.item_id(placed);
        let is_done = status != "in_progress";
        match placed.0 {
            Block::Reasoning => {
                let part = json!({"type": "summary_text", "text": text});
                let summary = if is_done { vec![part] } else { Vec::new() };
                let encrypted = is_done.then(|| signature(&self.telling.answer.model, text));
                json!({"id": id, "type": "reasoning", "summary": summary,
                       "encrypted_content": encrypted})
            }
            Block::Text => {
                let content = if is_done { vec![text_part(text)] } else { Vec::new() };
                json!({"id": id, "type": "message", "status": status, "role": "assistant",
                       "content": content})
            }
            Block::Call(number) => {
                let call = self.telling.answer.calls.get(number);
                let (call_id, name) = call.map_or(("", ""), |call| (&call.id, &call.name));
                json!({"id": id, "type": "function_call", "status": status, "call_id": call_id,
                       "name": name, "arguments": text})
            }
        }
    }

    fn event(&mut self, kind: &str, fields: Value, frames: &mut Frames) {
        let mut data = Map::new();
        data.insert("type".to_owned(), json!(kind));
        data.insert("sequence_number".to_owned(), json!(self.sequence));
        if let Value::Object(fields) = fields {
            data.extend(fields);
        }
        self.sequence += 1;
        frames.named(kind, Value::Object(data).to_string().as_bytes());
    }

    fn open_item(&mut self, placed: Placed, frames: &mut Frames) {
        self.written.clear();
        let item = self.item(placed, "in_progress", "");
        let (id, index) = (self.item_id(placed), placed.1);
        let added = json!({"output_index": index, "item": item});
        self.event("response.output_item.added", added, frames);
        match placed.0 {
            Block::Text => {
                let part = json!({"item_id": id, "output_index": index, "content_index": 0,
                                  "part": text_part("")});
                self.event("response.content_part.added", part, frames);
            }
            Block::Reasoning => {
                let part = json!({"item_id": id, "output_index": index, "summary_index": 0,
                                  "part": {"type": "summary_text", "text": ""}});
                self.event("response.reasoning_summary_part.added", part, frames);
            }
            Block::Call(_) => {}
        }
    }

    fn close_item(&mut self, placed: Placed, frames: &mut Frames) {
        let text = std::mem::take(&mut self.written);
        let (id, index) = (self.item_id(placed), placed.1);
        match placed.0 {
            Block::Text => {
                let place = json!({"item_id": id, "output_index": index, "content_index": 0});
                let done = with(&place, json!({"text": text, "logprobs": []}));
                self.event("response.output_text.done", done, frames);
                let part = with(&place, json!({"part": text_part(&text)}));
                self.event("response.content_part.done", part, frames);
            }
            Block::Reasoning => {
                let place = json!({"item_id": id, "output_index": index, "summary_index": 0});
                let done = with(&place, json!({"text": text}));
                self.event("response.reasoning_summary_text.done", done, frames);
                let part = json!({"type": "summary_text", "text": text});
                let part = with(&place, json!({"part": part}));
                self.event("response.reasoning_summary_part.done", part, frames);
            }
            Block::Call(number) => {
                let name = self.telling.answer.calls.get(number).map(|call| call.name.clone());
                let done = json!({"item_id": id, "output_index": index, "name": name,
                                  "arguments": text});
                self.event("response.function_call_arguments.done", done, frames);
            }
        }
        let item = self.item(placed, "completed", &text);
        let mut done = json!({"output_index": index, "item": item});
        if self.telling.usage_mode() == UsageMode::Choice {
            done["usage"] = usage_object(self.telling.usage());
        }
        self.event("response.output_item.done", done, frames);
    }

    fn write_delta(&mut self, event: Event, frames: &mut Frames) {
        let Some(block) = Block::of(event, &self.telling.answer) else { return };
        let (closed, opened) = self.blocks.enter(block);
        if let Some(closed) = closed {
            self.close_item(closed, frames);
        }
        if let Some(opened) = opened {
            self.open_item(opened, frames);
        }
        let Some(placed) = self.blocks.open() else { return };
        let place = json!({"item_id": self.item_id(placed), "output_index": placed.1});
        let (kind, delta, more) = match self.telling.delta(event) {
            Some(Delta::Reasoning(text)) => {
                let kind = "response.reasoning_summary_text.delta";
                (kind, text.to_owned(), json!({"summary_index": 0}))
            }
            Some(Delta::Text(text)) => {
                let kind = "response.output_text.delta";
                (kind, text, json!({"content_index": 0, "logprobs": []}))
            }
            Some(Delta::Arguments(part)) => {
                ("response.function_call_arguments.delta", part, json!({}))
            }
            // The item says what is called.
            Some(Delta::CallHead(_)) | None => return,
        };
        self.written.push_str(&delta);
        let mut fields = with(&with(&place, more), json!({"delta": delta}));
        if self.telling.usage_mode() == UsageMode::Every {
            fields["usage"] = usage_object(self.telling.usage_so_far());
        }
        self.event(kind, fields, frames);
    }
}

impl Wire for ResponseWire {
    fn whole(&self) -> Vec<u8> {
        let mut response = self.final_response();
        if self.telling.usage_mode() == UsageMode::Choice {
            response["usage"] = usage_object(self.telling.usage());
        }
        response.to_string().into_bytes()
    }

    fn write(&mut self, event: Event, frames: &mut Frames) {
        match event {
            Event::Open { .. } => {
                let response = json!({"response": self.response("in_progress", Vec::new(), None)});
                self.event("response.created", response.clone(), frames);
                self.event("response.in_progress", response, frames);
            }
            Event::Reasoning { .. } | Event::Huge { .. } | Event::Content { .. } => {
                self.write_delta(event, frames);
            }
            Event::Finish { .. } => {
                if let Some(closed) = self.blocks.close() {
                    self.close_item(closed, frames);
                }
            }
            Event::Done => {
                let kind = format!("response.{}", self.status());
                let response = json!({"response": self.final_response()});
                self.event(&kind, response, frames);
            }
            Event::Malformed => frames.named("response.output_text.delta", MALFORMED),
            Event::Failure => {
                let error: Value =
                    serde_json::from_slice(&self.failure.to_body()).unwrap_or_default();
                let error = json!({
                    "code": error["error"]["code"].as_str().unwrap_or("server_error"),
                    "message": error["error"]["message"],
                    "param": null,
                });
                self.event("error", error, frames);
            }
            Event::Usage | Event::Noise => {}
        }
    }
}

fn with(object: &Value, more: Value) -> Value {
    let mut object = object.clone();
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn usage_object(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}

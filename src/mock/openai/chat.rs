//! `POST /v1/chat/completions`: from the request to a reply, and the two formats of an answer.
//!
//! Stream format: one `id` throughout; first a chunk with the role; tool calls with `id`, `type`
//! and name once and the arguments in fragments; the finish reason on a chunk with an empty
//! delta; usage on a chunk of its own if asked for; `[DONE]`. Source: OpenAI API reference, "Chat
//! Completions", "The chat completion chunk object".

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::answer::{Answer, Piece, Question, REASONING_TEXT, huge_tokens};
use super::super::directives::Directives;
use super::super::frames::MALFORMED;
use super::super::play::Event;
use super::super::reply::Reply;
use super::super::sequence::StatusSequences;
use super::super::tokens;
use super::error::ApiError;
use super::generation::{
    Render, Sampling, UsageMeter, UsageObject, body_usage, generate, token_limit,
};
use super::messages::Conversation;
use super::tools;
use super::{Call, finish_word, now_s};

const SYSTEM_FINGERPRINT: &str = "fp_scripted";

/// The reply to one call.
pub(super) fn reply(call: &Call, sequences: &StatusSequences) -> Result<Reply, ApiError> {
    let (question, sampling) = parse(call)?;
    let status = call.status(sequences);
    let instead = call.instead(status, sampling.streams);
    let answer = || generate::<ChatFormat>(call, &question, &sampling, status);
    Ok(instead.unwrap_or_else(answer))
}

fn parse(call: &Call) -> Result<(Question, Sampling), ApiError> {
    let request = call.fields();
    let conversation = Conversation::parse(&request)?;
    let offer = tools::offer(&request)?;
    let sampling = Sampling::parse(&request)?;
    request.integer("seed", i64::MIN..=i64::MAX)?;
    request.boolean("logprobs")?;
    let max_tokens = token_limit(&request, "max_tokens")?;
    let max_completion_tokens = token_limit(&request, "max_completion_tokens")?;
    let question = Question {
        model: call.script.model.clone(),
        prompt_tokens: conversation.prompt_tokens + offer.prompt_tokens(),
        subject: offer.subject(conversation.last_user_text, conversation.tool_result),
        max_tokens: max_completion_tokens.or(max_tokens),
        stop: sampling.stop.clone(),
        choices: sampling.choices,
        reasoning: 0,
    };
    Ok((question, sampling))
}

/// Answers as chat completions.
struct ChatFormat {
    id: String,
    created: u64,
    answer: Arc<Answer>,
    meter: UsageMeter,
    /// The error object of a failure inside the stream.
    failure: Vec<u8>,
}

impl Render for ChatFormat {
    fn body(answer: &Answer, directives: &Directives) -> Vec<u8> {
        let choice = |index: u32| {
            json!({
                "index": index,
                "message": message(answer, directives, index),
                "logprobs": null,
                "finish_reason": answer.finish_reason(finish_word),
            })
        };
        let mut body = json!({
            "id": completion_id(),
            "object": "chat.completion",
            "created": now_s(),
            "model": answer.model,
            "choices": (0..answer.choices).map(choice).collect::<Vec<_>>(),
            "service_tier": "default",
            "system_fingerprint": SYSTEM_FINGERPRINT,
        });
        if let Some(usage) = body_usage(answer.usage, directives) {
            body["usage"] = json!(usage);
        }
        body.to_string().into_bytes()
    }

    fn new(answer: Arc<Answer>, call: &Call, wants_usage: bool) -> Self {
        let directives = &call.script.directives;
        Self {
            id: completion_id(),
            created: now_s(),
            meter: UsageMeter::new(answer.usage, directives, wants_usage),
            answer,
            failure: call.error_body(&call.script.inner_fault()),
        }
    }

    fn render(&mut self, event: Event) -> Vec<u8> {
        let answer = Arc::clone(&self.answer);
        match event {
            Event::Open { choice } => {
                let content = answer.calls.is_empty().then_some("");
                self.chunk(choice, Delta { content: Some(content), ..Delta::opening() }, None)
            }
            Event::Reasoning { choice } => {
                self.meter.produce(tokens::count(REASONING_TEXT));
                let delta = Delta { reasoning_content: Some(REASONING_TEXT), ..Delta::default() };
                self.chunk(choice, delta, None)
            }
            Event::Huge { bytes } => {
                let filler = "x".repeat(bytes);
                self.meter.produce(huge_tokens(bytes));
                let delta = Delta { content: Some(Some(&filler)), ..Delta::default() };
                self.chunk(0, delta, None)
            }
            Event::Content { choice, chunk } => {
                self.meter.produce(answer.chunk_tokens(chunk));
                self.chunk(choice, content_delta(&answer, choice, chunk), None)
            }
            Event::Finish { choice } => {
                let reason = answer.finish_reason(finish_word);
                self.chunk(choice, Delta::default(), Some(reason))
            }
            Event::Usage => self.with_choices([], Some(Some(self.meter.total()))),
            Event::Done => b"[DONE]".to_vec(),
            Event::Malformed => MALFORMED.to_vec(),
            Event::Noise => Vec::new(),
            Event::Failure => self.failure.clone(),
        }
    }
}

impl ChatFormat {
    fn chunk(&self, index: u32, delta: Delta<'_>, finish_reason: Option<&str>) -> Vec<u8> {
        let usage = self.meter.on_chunk(finish_reason.is_some());
        self.with_choices([ChunkChoice { index, delta, logprobs: None, finish_reason }], usage)
    }

    #[expect(clippy::option_option, reason = "an absent and a null field are different answers")]
    fn with_choices<const N: usize>(
        &self,
        choices: [ChunkChoice<'_>; N],
        usage: Option<Option<UsageObject>>,
    ) -> Vec<u8> {
        let chunk = Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.answer.model,
            service_tier: "default",
            system_fingerprint: SYSTEM_FINGERPRINT,
            choices: &choices,
            usage,
        };
        // Strings and numbers only: there is nothing that serde_json could refuse.
        serde_json::to_vec(&chunk).unwrap_or_default()
    }
}

fn completion_id() -> String {
    format!("chatcmpl-{}", Uuid::now_v7().simple())
}

fn message(answer: &Answer, directives: &Directives, choice: u32) -> Value {
    let mut text = answer.text();
    if let Some(bytes) = directives.huge_bytes.filter(|_| choice == 0) {
        text.insert_str(0, &"x".repeat(bytes));
    }
    let is_bare_call = text.is_empty() && !answer.calls.is_empty();
    let content = if is_bare_call { Value::Null } else { Value::String(text) };
    let mut message =
        json!({"role": "assistant", "content": content, "refusal": null, "annotations": []});
    if answer.reasoning > 0 {
        message["reasoning_content"] = json!(answer.reasoning_text());
    }
    let calls = answer.calls.iter().map(|call| {
        json!({
            "id": call_id(&call.id, choice),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        })
    });
    if !answer.calls.is_empty() {
        message["tool_calls"] = calls.collect();
    }
    message
}

/// Calls of different choices have different ids.
fn call_id(id: &str, choice: u32) -> String {
    if choice == 0 { id.to_owned() } else { format!("{id}{choice}") }
}

fn content_delta(answer: &Answer, choice: u32, chunk: usize) -> Delta<'_> {
    let tool_call = |index, id, kind, name, arguments| {
        let function = FunctionDelta { name, arguments };
        Delta { tool_calls: Some([CallDelta { index, id, kind, function }]), ..Delta::default() }
    };
    match answer.piece(chunk) {
        Some(Piece::Text(text)) => Delta { content: Some(Some(text)), ..Delta::default() },
        Some(Piece::CallHead { call: index }) => {
            let Some(call) = answer.calls.get(*index) else { return Delta::default() };
            let id = Some(call_id(&call.id, choice));
            tool_call(*index, id, Some("function"), Some(&call.name), "")
        }
        Some(Piece::CallArguments { call, fragment }) => {
            tool_call(*call, None, None, None, fragment)
        }
        None => Delta::default(),
    }
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    service_tier: &'static str,
    system_fingerprint: &'static str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    #[expect(clippy::option_option, reason = "an absent and a null field are different answers")]
    usage: Option<Option<UsageObject>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'a str>,
}

/// Fields that are `None` are absent; `content` is null in the first chunk of a tool call.
#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[expect(clippy::option_option, reason = "an absent and a null field are different answers")]
    content: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[CallDelta<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[expect(clippy::option_option, reason = "an absent and a null field are different answers")]
    refusal: Option<Option<()>>,
}

impl Delta<'_> {
    fn opening() -> Self {
        Self { role: Some("assistant"), refusal: Some(None), ..Self::default() }
    }
}

#[derive(Serialize)]
struct CallDelta<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: FunctionDelta<'a>,
}

#[derive(Serialize)]
struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

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
use super::super::play::Event;
use super::super::reply::Reply;
use super::super::sequence::StatusSequences;
use super::super::tokens;
use super::error::ApiError;
use super::generation::{
    Render, Sampling, UsageMeter, UsageObject, body_usage, generate, token_limit,
};
use super::messages::Conversation;
use super::tools::Abilities;
use super::{Call, now_s};

const SYSTEM_FINGERPRINT: &str = "fp_scripted";

/// The reply to one call.
pub(super) fn reply(call: &Call, sequences: &StatusSequences) -> Result<Reply, ApiError> {
    let (question, sampling) = parse(call)?;
    let status = call.status(sequences);
    let instead = call.instead(status, sampling.streams);
    let answer = || generate::<ChatFormat>(&question, &sampling, status, &call.directives);
    Ok(instead.unwrap_or_else(answer))
}

fn parse(call: &Call) -> Result<(Question, Sampling), ApiError> {
    let request = call.fields();
    let conversation = Conversation::parse(&request)?;
    let abilities = Abilities::parse(&request)?;
    let sampling = Sampling::parse(&request)?;
    request.integer("seed", i64::MIN..=i64::MAX)?;
    request.boolean("logprobs")?;
    let max_tokens = token_limit(&request, "max_tokens")?;
    let max_completion_tokens = token_limit(&request, "max_completion_tokens")?;
    let question = Question {
        model: call.model.clone(),
        prompt_tokens: conversation.prompt_tokens + abilities.prompt_tokens(),
        subject: abilities.subject(conversation),
        max_tokens: max_completion_tokens.or(max_tokens),
        stop: sampling.stop.clone(),
        choices: sampling.choices,
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
                "finish_reason": answer.finish_reason,
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

    fn new(answer: Arc<Answer>, directives: &Directives, wants_usage: bool) -> Self {
        Self {
            id: completion_id(),
            created: now_s(),
            meter: UsageMeter::new(answer.usage, directives, wants_usage),
            answer,
            failure: ApiError::in_stream(directives).to_body(),
        }
    }

    fn render(&mut self, event: Event) -> Vec<u8> {
        let answer = Arc::clone(&self.answer);
        match event {
            Event::Open { choice } => {
                let content = answer.call.is_none().then_some("");
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
                self.chunk(choice, Delta::default(), Some(&answer.finish_reason))
            }
            Event::Usage => self.with_choices([], Some(Some(self.meter.total()))),
            Event::Done => b"[DONE]".to_vec(),
            Event::Malformed => Vec::new(),
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
    let content = if answer.call.is_some() { Value::Null } else { Value::String(text) };
    let mut message =
        json!({"role": "assistant", "content": content, "refusal": null, "annotations": []});
    if directives.reasoning > 0 {
        message["reasoning_content"] = json!(REASONING_TEXT.repeat(directives.reasoning));
    }
    if let Some(call) = &answer.call {
        message["tool_calls"] = json!([{
            "id": call_id(&call.id, choice),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }]);
    }
    message
}

/// Calls of different choices have different ids.
fn call_id(id: &str, choice: u32) -> String {
    if choice == 0 { id.to_owned() } else { format!("{id}{choice}") }
}

fn content_delta(answer: &Answer, choice: u32, chunk: usize) -> Delta<'_> {
    let tool_call = |id, kind, name, arguments| {
        let function = FunctionDelta { name, arguments };
        Delta { tool_calls: Some([CallDelta { index: 0, id, kind, function }]), ..Delta::default() }
    };
    match (answer.piece(chunk), &answer.call) {
        (Some(Piece::Text(text)), _) => Delta { content: Some(Some(text)), ..Delta::default() },
        (Some(Piece::CallHead), Some(call)) => {
            tool_call(Some(call_id(&call.id, choice)), Some("function"), Some(&call.name), "")
        }
        (Some(Piece::CallArguments(fragment)), _) => tool_call(None, None, None, fragment),
        _ => Delta::default(),
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
    index: u32,
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

//! A whole chat completion.

use serde::Deserialize;

use super::{
    finish_reason, stop_from, usage_object,
    write::{google_signature, put_call},
};
use crate::{
    protocol::{
        json::{Json, RawObject, object},
        neutral::{
            Answer, Dialect, Part, PartBody, ProviderError, Signature, ToolCall, Usage, Warnings,
        },
        translate::Show,
    },
    units::is_batch_tier,
};

const ME: Dialect = Dialect::OpenAiChat;

/// A completion, or a chunk of one: they differ in `message` and `delta` only.
#[derive(Deserialize)]
pub(super) struct Completion {
    pub id: Option<String>,
    pub model: Option<String>,
    #[serde(default)]
    pub choices: Option<Vec<Choice>>,
    pub usage: Option<WireUsage>,
    pub service_tier: Option<String>,
    pub error: Option<Json>,
}

#[derive(Deserialize)]
pub(super) struct Choice {
    pub index: Option<u64>,
    pub message: Option<Message>,
    pub delta: Option<Message>,
    pub finish_reason: Option<String>,
    logprobs: Option<Json>,
}

#[derive(Deserialize, Default)]
pub(super) struct Message {
    /// A string; Mistral's reasoning models answer with an array of parts.
    content: Option<Json>,
    pub refusal: Option<String>,
    reasoning_content: Option<String>,
    /// OpenRouter's, vLLM's newer and Ollama's name for it; a string with those.
    reasoning: Option<Json>,
    pub thinking_blocks: Option<Vec<Block>>,
    pub tool_calls: Option<Vec<Call>>,
    pub function_call: Option<Function>,
    annotations: Option<Vec<Json>>,
    audio: Option<Json>,
}

#[derive(Deserialize)]
struct ContentPart {
    text: Option<String>,
    /// An array of parts.
    thinking: Option<Json>,
}

#[derive(Deserialize)]
pub(super) struct Block {
    pub thinking: Option<String>,
    pub signature: Option<String>,
    pub data: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Call {
    pub index: Option<u64>,
    pub id: Option<String>,
    pub function: Option<Function>,
    pub extra_content: Option<ExtraContent>,
}

#[derive(Deserialize)]
pub(super) struct Function {
    pub name: Option<String>,
    /// A string; some servers send an object.
    pub arguments: Option<Json>,
}

#[derive(Deserialize)]
pub(super) struct ExtraContent {
    google: Option<GoogleContent>,
}

#[derive(Deserialize)]
struct GoogleContent {
    thought_signature: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    /// DeepSeek's place for it.
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    /// LiteLLM's name for it.
    cache_creation_tokens: Option<u64>,
    audio_tokens: Option<u64>,
    image_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
    audio_tokens: Option<u64>,
}

impl Completion {
    /// What it used, where it says so.
    pub fn usage(&self) -> Option<Usage> {
        let in_batch = self.service_tier.as_deref().is_some_and(is_batch_tier);
        self.usage.as_ref().map(|usage| Usage { in_batch, ..usage.usage() })
    }
}

impl WireUsage {
    fn usage(&self) -> Usage {
        let prompt = self.prompt_tokens_details.as_ref();
        let completion = self.completion_tokens_details.as_ref();
        let cached = prompt.and_then(|details| details.cached_tokens);
        Usage {
            input_tokens: self.prompt_tokens.unwrap_or(0),
            cache_read_tokens: cached.or(self.prompt_cache_hit_tokens).unwrap_or(0),
            cache_write_tokens: prompt
                .and_then(|details| details.cache_write_tokens.or(details.cache_creation_tokens))
                .unwrap_or(0),
            audio_input_tokens: prompt.and_then(|details| details.audio_tokens).unwrap_or(0),
            image_input_tokens: prompt.and_then(|details| details.image_tokens).unwrap_or(0),
            output_tokens: self.completion_tokens.unwrap_or(0),
            reasoning_tokens: completion.and_then(|details| details.reasoning_tokens).unwrap_or(0),
            audio_output_tokens: completion.and_then(|details| details.audio_tokens).unwrap_or(0),
            ..Usage::default()
        }
    }
}

impl Message {
    /// What is said, and what was thought before, wherever the server puts it.
    pub fn texts(&self) -> (String, String) {
        let (text, thought) = self.content.as_ref().map(content_texts).unwrap_or_default();
        let other = || self.reasoning.as_ref().and_then(Json::as_string);
        (text, self.reasoning_content.clone().or_else(other).unwrap_or(thought))
    }
}

/// The texts of a content field: what is said, and what was thought before.
fn content_texts(content: &Json) -> (String, String) {
    if let Some(text) = content.as_string() {
        return (text, String::new());
    }
    let parts: Vec<ContentPart> = content.read().unwrap_or_default();
    let join = |parts: &[ContentPart]| {
        parts.iter().filter_map(|part| part.text.as_deref()).collect::<String>()
    };
    let thinking = parts.iter().filter_map(|part| {
        let thinking = part.thinking.as_ref()?;
        thinking.as_string().or_else(|| Some(join(&thinking.read::<Vec<_>>()?)))
    });
    (join(&parts), thinking.collect())
}

impl Function {
    pub fn arguments(&self) -> String {
        let text = |json: &Json| json.as_string().unwrap_or_else(|| json.text().to_owned());
        self.arguments.as_ref().map(text).unwrap_or_default()
    }
}

impl Call {
    pub fn signature(&self, model: &str) -> Option<Signature> {
        let google = self.extra_content.as_ref()?.google.as_ref()?;
        Signature::some(google.thought_signature.clone(), ME, model)
    }
}

impl Choice {
    /// Whether it is the first, which is all that other dialects have.
    pub fn is_first(&self) -> bool {
        self.index.unwrap_or(0) == 0
    }

    /// Names what has no place in an answer.
    pub fn name_lost(&self, lost: &mut impl FnMut(&'static str, &str)) {
        if !self.is_first() {
            return lost(
                "choice_dropped",
                &format!("response.choices[{}]", self.index.unwrap_or(0)),
            );
        }
        if self.logprobs.as_ref().is_some_and(|logprobs| !logprobs.is_null()) {
            lost("logprobs_dropped", "response.choices[0].logprobs");
        }
        let Some(message) = self.message.as_ref().or(self.delta.as_ref()) else { return };
        if message.annotations.as_ref().is_some_and(|annotations| !annotations.is_empty()) {
            lost("citations_dropped", "response.choices[0].message.annotations");
        }
        if message.audio.as_ref().is_some_and(|audio| !audio.is_null()) {
            lost("audio_dropped", "response.choices[0].message.audio");
        }
    }
}

/// Reads a provider's answer; of several choices the first. A body that is an error object is
/// that error.
pub fn read_answer(body: &[u8]) -> Result<Answer, ProviderError> {
    let wire: Completion = serde_json::from_slice(body).map_err(ProviderError::malformed)?;
    let usage = wire.usage();
    if let Some(error) = wire.error.filter(|error| !error.is_null()) {
        return Err(crate::protocol::failure::from_error_value(&error, None));
    }
    let mut lost = Warnings::default();
    let choices = wire.choices.unwrap_or_default();
    choices.iter().for_each(|choice| choice.name_lost(&mut |code, path| lost.add(code, path)));
    let choice = choices.into_iter().next();
    let choice = choice.ok_or_else(|| ProviderError::malformed("it has no choice"))?;
    let mut answer = Answer {
        id: wire.id.unwrap_or_default(),
        model: wire.model.unwrap_or_default(),
        stop: choice.finish_reason.as_deref().map(stop_from).unwrap_or_default(),
        usage,
        lost,
        ..Answer::default()
    };
    let message = choice.message.unwrap_or_default();
    let mut push = |body| answer.parts.push(Part::new(body));
    let (text, reasoning) = message.texts();
    let blocks = message.thinking_blocks.unwrap_or_default();
    if blocks.is_empty() && !reasoning.is_empty() {
        push(PartBody::Thinking { text: reasoning, signature: None });
    }
    let sign = |text| Signature::some(text, ME, &answer.model);
    for block in blocks {
        push(match sign(block.data) {
            Some(data) => PartBody::RedactedThinking(data),
            None => PartBody::Thinking {
                text: block.thinking.unwrap_or_default(),
                signature: sign(block.signature),
            },
        });
    }
    if !text.is_empty() {
        push(PartBody::Text(text));
    }
    if let Some(refusal) = message.refusal.filter(|refusal| !refusal.is_empty()) {
        push(PartBody::Refusal(refusal));
    }
    let old = message.function_call.map(|function| Call {
        index: None,
        id: None,
        function: Some(function),
        extra_content: None,
    });
    let calls = message.tool_calls.unwrap_or_default().into_iter().chain(old);
    for (at, call) in calls.enumerate() {
        let signature = call.signature(&answer.model);
        let Some(function) = call.function else { continue };
        push(PartBody::ToolCall(ToolCall {
            id: call
                .id
                .filter(|id| !id.is_empty())
                .unwrap_or_else(|| format!("call_{}_{at}", answer.id)),
            arguments: function.arguments(),
            name: function.name.unwrap_or_default(),
            signature,
        }));
    }
    answer.settle_stop();
    Ok(answer)
}

/// Writes an answer for a caller.
pub fn write_answer(answer: &Answer, show: &Show) -> RawObject {
    let mut content: Option<String> = None;
    let mut refusal: Option<String> = None;
    let mut reasoning = String::new();
    let mut blocks = Vec::new();
    let mut calls = Vec::new();
    for part in &answer.parts {
        match &part.body {
            PartBody::Text(text) => content.get_or_insert_default().push_str(text),
            PartBody::Refusal(text) => refusal.get_or_insert_default().push_str(text),
            PartBody::Thinking { text, signature } => {
                reasoning.push_str(text);
                blocks.extend(signature.as_ref().map(|made| thinking_block(text, made)));
            }
            PartBody::RedactedThinking(data) => blocks.push(redacted_block(data)),
            PartBody::ToolCall(call) => {
                let mut written = object! { "id": call.id };
                put_call(&mut written, &call.name, &call.arguments, &show.known_tools);
                if let Some(made) = &call.signature {
                    written.put("extra_content", &google_signature(made, ME));
                }
                calls.push(written);
            }
            PartBody::Image { .. }
            | PartBody::Document { .. }
            | PartBody::Audio { .. }
            | PartBody::ToolResult(_)
            | PartBody::Native(_) => {}
        }
    }
    let mut message = object! { "role": "assistant", "content": content, "refusal": refusal };
    if !reasoning.is_empty() {
        message.put("reasoning_content", &reasoning);
    }
    message.put_list("thinking_blocks", &blocks);
    message.put_list("tool_calls", &calls);
    let choice = object! {
        "index": 0,
        "message": message,
        "logprobs": None::<u8>,
        "finish_reason": finish_reason(answer.stop),
    };
    let mut body = object! {
        "id": show.id_or(&answer.id),
        "object": "chat.completion",
        "created": show.created,
        "model": show.model,
        "choices": [choice],
    };
    body.put_some("usage", &answer.usage.as_ref().map(usage_object));
    body
}

/// LiteLLM's form of signed reasoning.
pub(super) fn thinking_block(text: &str, made: &Signature) -> RawObject {
    object! { "type": "thinking", "thinking": text, "signature": made.write(ME) }
}

/// The same for reasoning that nobody else can read.
pub(super) fn redacted_block(data: &Signature) -> RawObject {
    object! { "type": "redacted_thinking", "data": data.write(ME) }
}

//! A whole message.

use serde::Deserialize;

use super::{stop_from, stop_reason, usage_object};
use crate::{
    protocol::{
        failure,
        json::{Json, RawObject, object},
        neutral::{
            Answer, Dialect, Part, PartBody, ProviderError, Signature, Stop, ToolCall, Usage,
            Warnings,
        },
        translate::Show,
    },
    units::is_batch_tier,
};

const ME: Dialect = Dialect::Anthropic;

#[derive(Deserialize)]
pub(super) struct Message {
    pub id: Option<String>,
    pub model: Option<String>,
    pub content: Option<Vec<Block>>,
    pub stop_reason: Option<String>,
    pub stop_sequence: Option<String>,
    pub usage: Option<WireUsage>,
    pub error: Option<Json>,
}

#[derive(Deserialize)]
pub(super) struct Block {
    #[serde(rename = "type")]
    pub kind: String,
    pub text: Option<String>,
    pub id: Option<String>,
    pub name: Option<String>,
    pub input: Option<Json>,
    pub thinking: Option<String>,
    pub signature: Option<String>,
    pub data: Option<String>,
    citations: Option<Vec<Json>>,
}

#[derive(Deserialize, Default, Clone, Debug)]
pub(super) struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    service_tier: Option<String>,
}

/// How long what was written to the cache is kept.
#[derive(Deserialize, Clone, Copy, Debug)]
struct CacheCreation {
    ephemeral_1h_input_tokens: Option<u64>,
}

impl WireUsage {
    /// Counts are cumulative: later ones replace earlier ones, missing ones change nothing.
    pub fn update(&mut self, later: &Self) {
        let newer = |old: &mut Option<u64>, new: Option<u64>| *old = new.or(*old);
        newer(&mut self.input_tokens, later.input_tokens);
        newer(&mut self.output_tokens, later.output_tokens);
        newer(&mut self.cache_creation_input_tokens, later.cache_creation_input_tokens);
        newer(&mut self.cache_read_input_tokens, later.cache_read_input_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation);
        if later.service_tier.is_some() {
            self.service_tier.clone_from(&later.service_tier);
        }
    }

    pub fn usage(&self) -> Usage {
        let read = self.cache_read_input_tokens.unwrap_or(0);
        let written = self.cache_creation_input_tokens.unwrap_or(0);
        let fresh = self.input_tokens.unwrap_or(0);
        Usage {
            input_tokens: fresh.saturating_add(read).saturating_add(written),
            cache_read_tokens: read,
            cache_write_tokens: written,
            cache_write_1h_tokens: self
                .cache_creation
                .and_then(|written| written.ephemeral_1h_input_tokens)
                .unwrap_or(0),
            output_tokens: self.output_tokens.unwrap_or(0),
            in_batch: self.service_tier.as_deref().is_some_and(is_batch_tier),
            ..Usage::default()
        }
    }
}

/// Reads a provider's answer; a body that is an error object is that error.
pub fn read_answer(body: &[u8]) -> Result<Answer, ProviderError> {
    let wire: Message = serde_json::from_slice(body).map_err(ProviderError::malformed)?;
    if let Some(error) = wire.error.filter(|error| !error.is_null()) {
        return Err(failure::from_error_value(&error, None));
    }
    let blocks = wire.content.ok_or_else(|| ProviderError::malformed("it has no content"))?;
    let mut lost = Warnings::default();
    for (at, block) in blocks.iter().enumerate() {
        block.name_lost(at as u64, &mut |code, path| lost.add(code, path));
    }
    let mut answer = Answer {
        id: wire.id.unwrap_or_default(),
        model: wire.model.unwrap_or_default(),
        stop: wire.stop_reason.as_deref().map(stop_from).unwrap_or_default(),
        stop_sequence: wire.stop_sequence,
        usage: wire.usage.as_ref().map(WireUsage::usage),
        parts: Vec::new(),
        lost,
    };
    let parts = blocks.into_iter().map(|block| Part::new(part(block, &answer.model)));
    answer.parts = parts.collect();
    Ok(answer)
}

impl Block {
    /// Names what has no place in an answer: citations, and blocks of tools that the provider ran.
    pub fn name_lost(&self, index: u64, lost: &mut impl FnMut(&'static str, &str)) {
        let known = ["text", "tool_use", "thinking", "redacted_thinking"];
        if !known.contains(&self.kind.as_str()) {
            lost("part_dropped", &format!("response.content[{index}]"));
        }
        if self.citations.as_ref().is_some_and(|citations| !citations.is_empty()) {
            lost("citations_dropped", &format!("response.content[{index}].citations"));
        }
    }
}

fn part(block: Block, model: &str) -> PartBody {
    match block.kind.as_str() {
        "text" => PartBody::Text(block.text.unwrap_or_default()),
        "tool_use" => PartBody::ToolCall(ToolCall {
            id: block.id.unwrap_or_default(),
            name: block.name.unwrap_or_default(),
            arguments: block.input.map_or_else(String::new, |input| input.text().to_owned()),
            signature: None,
        }),
        "thinking" => PartBody::Thinking {
            text: block.thinking.unwrap_or_default(),
            signature: Signature::some(block.signature, ME, model),
        },
        "redacted_thinking" => {
            PartBody::RedactedThinking(Signature::made(block.data.unwrap_or_default(), ME, model))
        }
        kind => PartBody::Native(Json::of(&object! { "type": kind })),
    }
}

/// Writes an answer for a caller.
pub fn write_answer(answer: &Answer, show: &Show) -> RawObject {
    let mut content = Vec::new();
    for (at, part) in answer.parts.iter().enumerate() {
        let block = match &part.body {
            PartBody::Text(text) | PartBody::Refusal(text) => {
                object! { "type": "text", "text": text }
            }
            PartBody::Thinking { text, signature } => {
                let next = answer.parts.get(at + 1).and_then(call_signature);
                thinking_block(text, signature.as_ref().or(next))
            }
            PartBody::RedactedThinking(data) => redacted_block(data),
            PartBody::ToolCall(call) => {
                // This dialect has no place for a call's signature: it goes to the reasoning just
                // before the call, or makes one without text.
                let before = at.checked_sub(1).and_then(|at| answer.parts.get(at));
                let carried = before.is_some_and(|part| {
                    matches!(part.body, PartBody::Thinking { signature: None, .. })
                });
                let made = call.signature.as_ref().filter(|_| !carried);
                content.extend(made.map(|made| thinking_block("", Some(made))));
                // Text that is no JSON stays readable inside the object.
                let input = call.input("", &mut Warnings::default());
                object! { "type": "tool_use", "id": call.id, "name": call.name, "input": input }
            }
            PartBody::Image { .. }
            | PartBody::Document { .. }
            | PartBody::Audio { .. }
            | PartBody::ToolResult(_)
            | PartBody::Native(_) => continue,
        };
        content.push(block);
    }
    object! {
        "id": show.id_or(&answer.id),
        "type": "message",
        "role": "assistant",
        "model": show.model,
        "content": content,
        "stop_reason": stop_reason(effective_stop(answer)),
        "stop_sequence": answer.stop_sequence,
        "usage": usage_object(&answer.usage.unwrap_or_default()),
    }
}

fn call_signature(part: &Part) -> Option<&Signature> {
    match &part.body {
        PartBody::ToolCall(call) => call.signature.as_ref(),
        _ => None,
    }
}

/// OpenAI's refusals end like any other answer; here they have a reason of their own.
fn effective_stop(answer: &Answer) -> Stop {
    let refused = answer.parts.iter().any(|part| matches!(part.body, PartBody::Refusal(_)));
    if refused && answer.stop == Stop::EndTurn { Stop::ContentFilter } else { answer.stop }
}

pub(super) fn thinking_block(text: &str, made: Option<&Signature>) -> RawObject {
    let signature = made.map(|made| made.write(ME)).unwrap_or_default();
    object! { "type": "thinking", "thinking": text, "signature": signature }
}

pub(super) fn redacted_block(data: &Signature) -> RawObject {
    object! { "type": "redacted_thinking", "data": data.write(ME) }
}

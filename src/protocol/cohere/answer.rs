//! A whole Cohere answer.

use serde::Deserialize;

use crate::protocol::{
    json::Json,
    neutral::{Answer, ErrorKind, Part, PartBody, ProviderError, Stop, ToolCall, Usage, Warnings},
};

#[derive(Deserialize)]
struct Response {
    id: Option<String>,
    finish_reason: Option<String>,
    message: Option<Message>,
    logprobs: Option<Json>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
pub(super) struct Message {
    pub content: Option<Vec<Piece>>,
    pub tool_plan: Option<String>,
    pub tool_calls: Option<Vec<Call>>,
    citations: Option<Vec<Json>>,
}

#[derive(Deserialize)]
pub(super) struct Piece {
    pub text: Option<String>,
    pub thinking: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Call {
    pub id: Option<String>,
    pub function: Option<Function>,
}

#[derive(Deserialize)]
pub(super) struct Function {
    pub name: Option<String>,
    pub arguments: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct WireUsage {
    tokens: Option<Tokens>,
    billed_units: Option<Tokens>,
    cached_tokens: Option<f64>,
}

/// Cohere counts in JSON numbers with a fraction.
#[derive(Deserialize)]
struct Tokens {
    input_tokens: Option<f64>,
    output_tokens: Option<f64>,
}

impl WireUsage {
    pub fn usage(&self) -> Usage {
        let tokens = self.tokens.as_ref().or(self.billed_units.as_ref());
        // A cast from a float saturates: what is negative or no number is 0.
        let count = |value: Option<f64>| value.unwrap_or(0.0) as u64;
        Usage {
            input_tokens: count(tokens.and_then(|tokens| tokens.input_tokens)),
            output_tokens: count(tokens.and_then(|tokens| tokens.output_tokens)),
            cache_read_tokens: count(self.cached_tokens),
            ..Usage::default()
        }
    }
}

/// `finish_reason` → stop; some reasons are failures.
pub(super) fn stop_from(reason: &str) -> Result<Stop, ProviderError> {
    Ok(match reason {
        "MAX_TOKENS" => Stop::MaxTokens,
        "STOP_SEQUENCE" => Stop::StopSequence,
        "TOOL_CALL" => Stop::ToolUse,
        "ERROR_TOXIC" => Stop::ContentFilter,
        "ERROR" | "ERROR_LIMIT" => {
            return Err(ProviderError::new(ErrorKind::Server, "the provider failed to answer"));
        }
        "TIMEOUT" => {
            return Err(ProviderError::new(ErrorKind::Timeout, "the provider's answer timed out"));
        }
        _ => Stop::EndTurn,
    })
}

/// Reads a provider's answer. Cohere does not name the model.
pub fn read_answer(body: &[u8], model: &str) -> Result<Answer, ProviderError> {
    let wire: Response = serde_json::from_slice(body).map_err(ProviderError::malformed)?;
    let message = wire.message.ok_or_else(|| ProviderError::malformed("it has no message"))?;
    let mut lost = Warnings::default();
    if message.citations.as_ref().is_some_and(|citations| !citations.is_empty()) {
        lost.add("citations_dropped", "response.message.citations");
    }
    if wire.logprobs.is_some_and(|logprobs| !logprobs.is_null()) {
        lost.add("logprobs_dropped", "response.logprobs");
    }
    let mut parts = Vec::new();
    let plan = message.tool_plan.filter(|plan| !plan.is_empty());
    parts.extend(plan.map(|text| PartBody::Thinking { text, signature: None }));
    for piece in message.content.into_iter().flatten() {
        let thinking = piece.thinking.filter(|text| !text.is_empty());
        parts.extend(thinking.map(|text| PartBody::Thinking { text, signature: None }));
        parts.extend(piece.text.map(PartBody::Text));
    }
    for (at, call) in message.tool_calls.into_iter().flatten().enumerate() {
        let Some(function) = call.function else { continue };
        parts.push(PartBody::ToolCall(ToolCall {
            id: call.id.unwrap_or_else(|| format!("call_{at}")),
            name: function.name.unwrap_or_default(),
            arguments: function.arguments.unwrap_or_default(),
            signature: None,
        }));
    }
    Ok(Answer {
        lost,
        id: wire.id.unwrap_or_default(),
        model: model.to_owned(),
        parts: parts.into_iter().map(Part::new).collect(),
        stop: stop_from(wire.finish_reason.as_deref().unwrap_or_default())?,
        stop_sequence: None,
        usage: wire.usage.as_ref().map(WireUsage::usage),
    })
}

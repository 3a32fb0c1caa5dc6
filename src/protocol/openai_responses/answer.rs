//! A whole response.

use serde::Deserialize;

use super::{
    items::{Progress, response},
    stop_from_incomplete,
};
use crate::{
    protocol::{
        failure,
        json::{Json, RawObject, object},
        neutral::{
            Answer, Dialect, ErrorKind, Part, PartBody, ProviderError, Signature, Stop, ToolCall,
            Usage, Warnings,
        },
        translate::Show,
    },
    units::is_batch_tier,
};

#[derive(Deserialize)]
pub(super) struct Response {
    pub id: Option<String>,
    pub model: Option<String>,
    pub status: Option<String>,
    pub error: Option<Json>,
    pub incomplete_details: Option<Incomplete>,
    pub output: Option<Vec<Item>>,
    pub usage: Option<WireUsage>,
    pub service_tier: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Incomplete {
    pub reason: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Item {
    #[serde(rename = "type")]
    pub kind: String,
    pub call_id: Option<String>,
    pub name: Option<String>,
    pub arguments: Option<String>,
    pub content: Option<Vec<Piece>>,
    pub summary: Option<Vec<Piece>>,
    pub encrypted_content: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Piece {
    pub text: Option<String>,
    pub refusal: Option<String>,
    #[serde(default)]
    annotations: Vec<Json>,
    #[serde(default)]
    logprobs: Vec<Json>,
}

#[derive(Deserialize)]
pub(super) struct WireUsage {
    input_tokens: Option<u64>,
    input_tokens_details: Option<InputDetails>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct InputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    audio_tokens: Option<u64>,
    image_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
    audio_tokens: Option<u64>,
}

impl WireUsage {
    fn usage(&self) -> Usage {
        let input = self.input_tokens_details.as_ref();
        let cached = input.and_then(|details| details.cached_tokens);
        let written = input.and_then(|details| details.cache_write_tokens);
        let output = self.output_tokens_details.as_ref();
        Usage {
            input_tokens: self.input_tokens.unwrap_or(0),
            cache_read_tokens: cached.unwrap_or(0),
            cache_write_tokens: written.unwrap_or(0),
            audio_input_tokens: input.and_then(|details| details.audio_tokens).unwrap_or(0),
            image_input_tokens: input.and_then(|details| details.image_tokens).unwrap_or(0),
            output_tokens: self.output_tokens.unwrap_or(0),
            reasoning_tokens: output.and_then(|details| details.reasoning_tokens).unwrap_or(0),
            audio_output_tokens: output.and_then(|details| details.audio_tokens).unwrap_or(0),
            ..Usage::default()
        }
    }
}

impl Response {
    /// What it used, where it says so.
    pub fn usage(&self) -> Option<Usage> {
        let in_batch = self.service_tier.as_deref().is_some_and(is_batch_tier);
        self.usage.as_ref().map(|usage| Usage { in_batch, ..usage.usage() })
    }

    /// Why it ended; a failed response is its error.
    pub fn stop(&self) -> Result<Stop, ProviderError> {
        if let Some(error) = self.error.as_ref().filter(|error| !error.is_null()) {
            return Err(failure::from_error_value(error, None));
        }
        match self.status.as_deref() {
            Some("incomplete") => {
                let details = self.incomplete_details.as_ref();
                Ok(stop_from_incomplete(details.and_then(|details| details.reason.as_deref())))
            }
            Some("failed" | "cancelled") => {
                Err(ProviderError::new(ErrorKind::Server, "the provider's response failed"))
            }
            _ => Ok(Stop::EndTurn),
        }
    }
}

impl Item {
    /// Names what has no place in an answer: citations, and calls of tools that the provider runs.
    pub fn name_lost(&self, index: u64, lost: &mut impl FnMut(&'static str, &str)) {
        if !matches!(self.kind.as_str(), "message" | "function_call" | "reasoning") {
            lost("part_dropped", &format!("response.output[{index}]"));
        }
        for piece in self.content.iter().flatten() {
            if !piece.annotations.is_empty() {
                lost("citations_dropped", &format!("response.output[{index}].annotations"));
            }
            if !piece.logprobs.is_empty() {
                lost("logprobs_dropped", &format!("response.output[{index}].logprobs"));
            }
        }
    }

    /// Its reasoning as text: the whole where it is given, else the summary.
    pub fn reasoning(&self) -> String {
        let join = |pieces: &Option<Vec<Piece>>| {
            let texts = pieces.iter().flatten().filter_map(|piece| piece.text.as_deref());
            texts.collect::<Vec<_>>().join("\n\n")
        };
        let whole = join(&self.content);
        if whole.is_empty() { join(&self.summary) } else { whole }
    }

    /// Its seal.
    pub fn signature(&self, model: &str) -> Option<Signature> {
        Signature::some(self.encrypted_content.clone(), Dialect::OpenAiResponses, model)
    }
}

/// Reads a provider's answer; a body that is an error object is that error.
pub fn read_answer(body: &[u8]) -> Result<Answer, ProviderError> {
    let wire: Response = serde_json::from_slice(body).map_err(ProviderError::malformed)?;
    let (stop, usage) = (wire.stop()?, wire.usage());
    let output = wire.output.ok_or_else(|| ProviderError::malformed("it has no output"))?;
    let model = wire.model.unwrap_or_default();
    let mut parts = Vec::new();
    let mut lost = Warnings::default();
    for (at, item) in output.into_iter().enumerate() {
        item.name_lost(at as u64, &mut |code, path| lost.add(code, path));
        match item.kind.as_str() {
            "message" => {
                for piece in item.content.into_iter().flatten() {
                    parts.extend(piece.text.map(PartBody::Text));
                    parts.extend(piece.refusal.map(PartBody::Refusal));
                }
            }
            "function_call" => parts.push(PartBody::ToolCall(ToolCall {
                id: item.call_id.unwrap_or_default(),
                name: item.name.unwrap_or_default(),
                arguments: item.arguments.unwrap_or_default(),
                signature: None,
            })),
            "reasoning" => {
                let signature = item.signature(&model);
                parts.push(PartBody::Thinking { text: item.reasoning(), signature });
            }
            kind => parts.push(PartBody::Native(Json::of(&object! { "type": kind }))),
        }
    }
    let mut answer = Answer {
        id: wire.id.unwrap_or_default(),
        model,
        parts: parts.into_iter().map(Part::new).collect(),
        stop,
        stop_sequence: None,
        usage,
        lost,
    };
    answer.settle_stop();
    Ok(answer)
}

/// Writes an answer for a caller.
pub fn write_answer(answer: &Answer, show: &Show) -> RawObject {
    response(answer, show, &Progress::Ended)
}

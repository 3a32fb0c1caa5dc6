//! A `GenerateContentResponse`: a whole answer, or a chunk of a stream.

use serde::Deserialize;

use super::Decoder;
use crate::protocol::{
    failure,
    json::Json,
    neutral::{Accumulator, Answer, ErrorKind, ProviderError, Stop, Usage, parts::Parts},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Response {
    pub candidates: Option<Vec<Candidate>>,
    pub prompt_feedback: Option<PromptFeedback>,
    pub usage_metadata: Option<UsageMetadata>,
    pub model_version: Option<String>,
    pub response_id: Option<String>,
    pub error: Option<Json>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate {
    pub index: Option<u64>,
    pub content: Option<Content>,
    pub finish_reason: Option<String>,
    pub finish_message: Option<String>,
    grounding_metadata: Option<Json>,
    citation_metadata: Option<Json>,
    logprobs_result: Option<Json>,
}

#[derive(Deserialize)]
pub(super) struct Content {
    pub parts: Option<Vec<WirePart>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WirePart {
    pub text: Option<String>,
    pub thought: Option<bool>,
    pub thought_signature: Option<String>,
    pub function_call: Option<FunctionCall>,
    inline_data: Option<Json>,
    file_data: Option<Json>,
    executable_code: Option<Json>,
    code_execution_result: Option<Json>,
}

#[derive(Deserialize)]
pub(super) struct FunctionCall {
    pub id: Option<String>,
    pub name: Option<String>,
    pub args: Option<Json>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PromptFeedback {
    pub block_reason: Option<String>,
}

/// Counts are cumulative over a stream.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UsageMetadata {
    prompt_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Vec<ModalityCount>,
    #[serde(default)]
    candidates_tokens_details: Vec<ModalityCount>,
}

/// Tokens of one kind of content.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModalityCount {
    modality: Option<String>,
    token_count: Option<u64>,
}

/// The tokens of a kind; a kind that is missing has none.
fn of_modality(counts: &[ModalityCount], wanted: &str) -> u64 {
    let of_it = counts.iter().filter(|count| count.modality.as_deref() == Some(wanted));
    of_it.filter_map(|count| count.token_count).sum()
}

impl UsageMetadata {
    pub fn usage(&self) -> Usage {
        let thoughts = self.thoughts_token_count.unwrap_or(0);
        let tool_use = self.tool_use_prompt_token_count.unwrap_or(0);
        Usage {
            input_tokens: self.prompt_token_count.unwrap_or(0).saturating_add(tool_use),
            cache_read_tokens: self.cached_content_token_count.unwrap_or(0),
            audio_input_tokens: of_modality(&self.prompt_tokens_details, "AUDIO"),
            image_input_tokens: of_modality(&self.prompt_tokens_details, "IMAGE"),
            output_tokens: self.candidates_token_count.unwrap_or(0).saturating_add(thoughts),
            reasoning_tokens: thoughts,
            audio_output_tokens: of_modality(&self.candidates_tokens_details, "AUDIO"),
            ..Usage::default()
        }
    }
}

/// `finishReason` → stop; some reasons are failures.
pub(super) fn stop_from(reason: &str, message: Option<&str>) -> Result<Stop, ProviderError> {
    Ok(match reason {
        "MAX_TOKENS" => Stop::MaxTokens,
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "MODEL_ARMOR" => Stop::ContentFilter,
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE" => {
            let message = message.unwrap_or("the model made a tool call that cannot be read");
            let mut error = ProviderError::new(ErrorKind::Server, message);
            error.code = Some(reason.to_ascii_lowercase());
            return Err(error);
        }
        _ => Stop::EndTurn,
    })
}

/// Reads a provider's answer: a stream of one chunk. A body that is an error object is that
/// error.
pub fn read_answer(body: &[u8]) -> Result<Answer, ProviderError> {
    let mut parts = Parts::default();
    let mut decoder = Decoder::default();
    decoder.event(body, &mut parts)?;
    let finished = decoder.close(&mut parts);
    finished.map_err(|_| ProviderError::malformed("it has no finished candidate"))?;
    let mut answer = Accumulator::default();
    for event in parts.take_events() {
        answer.add(&event);
    }
    Ok(Answer { lost: parts.take_lost(), ..answer.into_answer() })
}

impl Candidate {
    /// Whether it is the first, which is all that other dialects have.
    pub fn is_first(&self) -> bool {
        self.index.unwrap_or(0) == 0
    }

    /// Names what has no place in an answer: sources, other candidates, and what the provider's own
    /// tools made.
    pub fn name_lost(&self, parts: &mut Parts) {
        if !self.is_first() {
            let path = format!("response.candidates[{}]", self.index.unwrap_or(0));
            return parts.lost("choice_dropped", &path);
        }
        for (code, field, value) in [
            ("citations_dropped", "groundingMetadata", &self.grounding_metadata),
            ("citations_dropped", "citationMetadata", &self.citation_metadata),
            ("logprobs_dropped", "logprobsResult", &self.logprobs_result),
        ] {
            if value.as_ref().is_some_and(says_something) {
                parts.lost(code, &format!("response.candidates[0].{field}"));
            }
        }
        let content = self.content.as_ref().and_then(|content| content.parts.as_ref());
        for part in content.into_iter().flatten() {
            let other = [
                &part.inline_data,
                &part.file_data,
                &part.executable_code,
                &part.code_execution_result,
            ];
            if other.into_iter().any(Option::is_some) {
                parts.lost("part_dropped", "response.candidates[0].content");
            }
        }
    }
}

/// Whether it is more than an empty object.
fn says_something(value: &Json) -> bool {
    !value.is_null() && value.text().chars().any(|c| !"{} \n\t".contains(c))
}

impl Response {
    /// The error inside a 200, if it is one.
    pub fn error(&self) -> Option<ProviderError> {
        let error = self.error.as_ref().filter(|error| !error.is_null())?;
        Some(failure::from_error_value(error, None))
    }
}

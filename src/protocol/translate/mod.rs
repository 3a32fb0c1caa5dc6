//! Any surface to any provider's dialect, and back.
//!
//! A request: [`read_request`] → [`write_request`]. A whole answer: [`read_answer`] →
//! [`write_answer`]. A stream: bytes → [`StreamDecoder`] → events → [`StreamEncoder`] → bytes. An
//! error: [`read_error`] → [`write_error`]. Where surface and dialect are the same, a gateway
//! passes the bytes on instead and needs none of this.

mod stream;

pub use super::failure::{read_error, write_error};
pub use stream::{StreamDecoder, StreamEncoder, end_mark};

use super::{
    anthropic, bedrock, cohere,
    fields::RequestError,
    gemini,
    neutral::{Answer, Conversation, Dialect, KnownTools, ProviderError, Surface, Target, Written},
    openai_chat, openai_completions, openai_responses,
};

/// How an answer is shown to the caller.
#[derive(Debug, Clone, Default)]
pub struct Show {
    /// The id used where the provider gave none.
    pub id: String,
    /// The gateway's name for the request, which an error inside a stream repeats.
    pub request_id: String,
    /// The model's name for the caller.
    pub model: String,
    /// Seconds since 1970: the answer's time, which only the gateway knows.
    pub created: u64,
    /// Whether a chat stream ends with a usage chunk.
    pub include_usage: bool,
    /// How the caller knows tools that are no functions to it.
    pub known_tools: KnownTools,
}

impl Show {
    /// The provider's id, or ours.
    pub(super) fn id_or<'a>(&'a self, id: &'a str) -> &'a str {
        if id.is_empty() { &self.id } else { id }
    }
}

/// Reads what a caller sent.
pub fn read_request(surface: Surface, body: &[u8]) -> Result<Conversation, RequestError> {
    match surface {
        Surface::OpenAiChat => openai_chat::read_request(body),
        Surface::OpenAiCompletions => openai_completions::read_request(body),
        Surface::OpenAiResponses => openai_responses::read_request(body),
        Surface::Anthropic => anthropic::read_request(body),
    }
}

/// Writes a request for a provider.
pub fn write_request(conversation: &Conversation, target: &Target<'_>) -> Written {
    match target.dialect {
        Dialect::OpenAiChat => openai_chat::write_request(conversation, target),
        Dialect::OpenAiResponses => openai_responses::write_request(conversation, target),
        Dialect::Anthropic => anthropic::write_request(conversation, target),
        Dialect::Gemini => gemini::write_request(conversation, target),
        Dialect::Bedrock => bedrock::write_request(conversation, target),
        Dialect::Cohere => cohere::write_request(conversation, target),
    }
}

/// Reads a provider's whole answer. `model` is the name under which it was asked, for providers
/// that do not say who answers; `schema_tool` is [`Written::schema_tool`].
pub fn read_answer(
    dialect: Dialect,
    body: &[u8],
    model: &str,
    schema_tool: Option<&str>,
) -> Result<Answer, ProviderError> {
    let mut answer = match dialect {
        Dialect::OpenAiChat => openai_chat::read_answer(body),
        Dialect::OpenAiResponses => openai_responses::read_answer(body),
        Dialect::Anthropic => anthropic::read_answer(body),
        Dialect::Gemini => gemini::read_answer(body),
        Dialect::Bedrock => bedrock::read_answer(body, model),
        Dialect::Cohere => cohere::read_answer(body, model),
    }?;
    if answer.model.is_empty() {
        model.clone_into(&mut answer.model);
    }
    answer.name_calls();
    if let Some(tool) = schema_tool {
        answer.unwrap_schema_tool(tool);
    }
    Ok(answer)
}

/// Writes a whole answer for a caller.
pub fn write_answer(surface: Surface, answer: &Answer, show: &Show) -> Vec<u8> {
    match surface {
        Surface::OpenAiChat => openai_chat::write_answer(answer, show),
        Surface::OpenAiCompletions => openai_completions::write_answer(answer, show),
        Surface::OpenAiResponses => openai_responses::write_answer(answer, show),
        Surface::Anthropic => anthropic::write_answer(answer, show),
    }
    .to_bytes()
}

/// The path under a provider's base URL, without a leading slash.
pub fn request_path(dialect: Dialect, model: &str, stream: bool) -> String {
    match (dialect, stream) {
        (Dialect::OpenAiChat, _) => "chat/completions".to_owned(),
        (Dialect::OpenAiResponses, _) => "responses".to_owned(),
        (Dialect::Anthropic, _) => "messages".to_owned(),
        (Dialect::Gemini, false) => format!("models/{model}:generateContent"),
        (Dialect::Gemini, true) => format!("models/{model}:streamGenerateContent?alt=sse"),
        (Dialect::Bedrock, false) => format!("model/{}/converse", percent_encoded(model)),
        (Dialect::Bedrock, true) => format!("model/{}/converse-stream", percent_encoded(model)),
        (Dialect::Cohere, _) => "chat".to_owned(),
    }
}

/// The path of Bedrock's `InvokeModel`.
pub fn invoke_path(model: &str) -> String {
    format!("model/{}/invoke", percent_encoded(model))
}

/// A path segment: a Bedrock model's name has colons, an inference profile's slashes (RFC 3986,
/// section 2.3).
fn percent_encoded(segment: &str) -> String {
    let mut out = String::new();
    for byte in segment.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests;

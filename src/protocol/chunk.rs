//! What a gateway must notice in a chat completion while its bytes pass: usage, finish reason,
//! errors, and whether the caller has been given any content yet.
//!
//! Source: OpenAI API reference, "Chat completion object" and "Chat completion chunk object".
//! Readers are lenient: what cannot be read is `None`, because other providers differ in detail.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::read;
use crate::units::{NanoUsd, TokenCount, is_batch_tier};

/// The data of the frame that ends a chat stream.
pub const DONE: &[u8] = b"[DONE]";

/// What one event of a chat stream says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChunkFacts {
    /// A choice carries text, a refusal, reasoning or a piece of a tool call.
    pub has_content: bool,
    /// Bytes of that, as JSON writes them.
    pub content_bytes: usize,
    /// A choice has ended, with this reason.
    pub finish_reason: Option<String>,
    /// Usage, on whichever chunk the provider put it.
    pub usage: Option<TokenCount>,
    /// What the provider says that it costs (OpenRouter, Perplexity).
    pub cost: Option<NanoUsd>,
    /// The chunk has no choices: besides usage it carries nothing for the caller.
    pub no_choices: bool,
    /// The provider reports an error inside the stream; the message, if it has one.
    pub error: Option<String>,
}

/// What a whole, not streamed answer says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AnswerFacts {
    /// The first choice's finish reason.
    pub finish_reason: Option<String>,
    /// What the provider counted.
    pub usage: Option<TokenCount>,
    /// What the provider says that it costs (OpenRouter, Perplexity).
    pub cost: Option<NanoUsd>,
    /// Bytes of the choices' messages, as JSON writes them.
    pub content_bytes: usize,
    /// A 200 whose body is an error object; the message, if it has one.
    pub error: Option<String>,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    service_tier: Option<String>,
    #[serde(borrow, default)]
    usage: Option<Usage<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    /// Of a text completion.
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(default)]
    finish_reason: Option<String>,
}

/// The fields of a delta that show something to a caller. Each is raw: only its presence counts.
#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow, default)]
    audio: Option<&'a RawValue>,
}

impl Delta<'_> {
    /// Bytes of what a caller could see, as JSON writes them.
    fn content_bytes(&self) -> usize {
        [
            self.content,
            self.tool_calls,
            self.function_call,
            self.refusal,
            self.reasoning_content,
            self.reasoning,
            self.audio,
        ]
        .into_iter()
        .flatten()
        .filter(|value| !matches!(value.get(), "null" | "\"\"" | "[]"))
        .map(|value| value.get().len())
        .sum()
    }
}

/// OpenAI's usage object; missing counts are zero.
#[derive(Deserialize)]
struct Usage<'a> {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
    #[serde(borrow, default)]
    cost: Option<&'a RawValue>,
}

/// Dollars, as a number or under `total_cost`.
fn cost(usage: &Usage<'_>) -> Option<NanoUsd> {
    #[derive(Deserialize)]
    struct Parts<'a> {
        #[serde(borrow)]
        total_cost: &'a RawValue,
    }
    let value = usage.cost?.get();
    let number = serde_json::from_str::<Parts<'_>>(value).map_or(value, |p| p.total_cost.get());
    // Exact where the number is written out; an exponent goes through a float.
    NanoUsd::parse(number).or_else(|| {
        let usd: f64 = number.parse().ok()?;
        (0.0..1e9).contains(&usd).then(|| NanoUsd((usd * 1e9).round() as i64))
    })
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
    /// OpenRouter's addition.
    #[serde(default)]
    cache_write_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
    #[serde(default)]
    image_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
}

impl From<Usage<'_>> for TokenCount {
    fn from(usage: Usage<'_>) -> Self {
        let prompt = usage.prompt_tokens_details.as_ref();
        let completion = usage.completion_tokens_details.as_ref();
        Self {
            prompt_tokens: usage.prompt_tokens.unwrap_or(0),
            completion_tokens: usage.completion_tokens.unwrap_or(0),
            cached_tokens: prompt.and_then(|d| d.cached_tokens).unwrap_or(0),
            cache_write_tokens: prompt.and_then(|d| d.cache_write_tokens).unwrap_or(0),
            cache_write_1h_tokens: 0,
            audio_prompt_tokens: prompt.and_then(|d| d.audio_tokens).unwrap_or(0),
            image_prompt_tokens: prompt.and_then(|d| d.image_tokens).unwrap_or(0),
            reasoning_tokens: completion.and_then(|d| d.reasoning_tokens).unwrap_or(0),
            audio_completion_tokens: completion.and_then(|d| d.audio_tokens).unwrap_or(0),
            in_batch: false,
        }
    }
}

/// What was used, at which prices.
fn counted(usage: Option<Usage<'_>>, service_tier: Option<&str>) -> Option<TokenCount> {
    let in_batch = service_tier.is_some_and(is_batch_tier);
    usage.map(|usage| TokenCount { in_batch, ..TokenCount::from(usage) })
}

impl ChunkFacts {
    /// Reads the data of one event; `None` when it is not a JSON object.
    pub fn read(data: &[u8]) -> Option<Self> {
        let chunk: Chunk<'_> = read(data).ok()?;
        let choices = chunk.choices.unwrap_or_default();
        let deltas = choices.iter().filter_map(|choice| choice.delta.as_ref());
        let texts = choices.iter().filter_map(|choice| choice.text);
        let texts = texts.filter(|text| text.get() != "\"\"").map(|text| text.get().len());
        let content_bytes = deltas.map(Delta::content_bytes).sum::<usize>() + texts.sum::<usize>();
        Some(Self {
            has_content: content_bytes > 0,
            content_bytes,
            no_choices: choices.is_empty(),
            finish_reason: choices.into_iter().find_map(|choice| choice.finish_reason),
            cost: chunk.usage.as_ref().and_then(cost),
            usage: counted(chunk.usage, chunk.service_tier.as_deref()),
            error: chunk.error.and_then(error_message),
        })
    }
}

impl AnswerFacts {
    /// Reads a whole answer; `None` when it is neither a completion nor an error: not a JSON
    /// object, or one without a choice.
    pub fn read(body: &[u8]) -> Option<Self> {
        let answer: Chunk<'_> = read(body).ok()?;
        let choices = answer.choices.unwrap_or_default();
        let error = answer.error.and_then(error_message);
        if choices.is_empty() && error.is_none() {
            return None;
        }
        let messages = choices.iter().filter_map(|choice| choice.message.or(choice.text));
        Some(Self {
            content_bytes: messages.map(|message| message.get().len()).sum(),
            finish_reason: choices.into_iter().find_map(|choice| choice.finish_reason),
            cost: answer.usage.as_ref().and_then(cost),
            usage: counted(answer.usage, answer.service_tier.as_deref()),
            error,
        })
    }
}

/// The message of an error value, whatever its shape; `None` when the field is null.
fn error_message(error: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Object {
        message: Option<String>,
    }
    if error.get() == "null" {
        return None;
    }
    let message = serde_json::from_str::<Object>(error.get())
        .ok()
        .and_then(|object| object.message)
        .or_else(|| serde_json::from_str(error.get()).ok());
    Some(message.unwrap_or_else(|| "an error without a message".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_noticed_in_every_form_it_takes() {
        for (delta, has_content) in [
            (r#"{"role":"assistant","content":""}"#, false),
            (r#"{"role":"assistant","content":null}"#, false),
            (r#"{"content":"a"}"#, true),
            (r#"{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}"#, true),
            (r#"{"refusal":"no"}"#, true),
            (r#"{"reasoning_content":"hm"}"#, true),
            (r#"{}"#, false),
        ] {
            let data = format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#);
            assert_eq!(
                ChunkFacts::read(data.as_bytes()).unwrap().has_content,
                has_content,
                "{delta}"
            );
        }
    }

    #[test]
    fn usage_is_read_beside_choices_and_alone() {
        let beside = ChunkFacts::read(
            br#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":1}}}"#,
        )
        .unwrap();
        assert_eq!(beside.finish_reason.as_deref(), Some("stop"));
        assert_eq!(beside.usage.unwrap().cached_tokens, 1);
        assert!(!beside.no_choices);
        let alone =
            ChunkFacts::read(br#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"prompt_tokens_details":null}}"#)
                .unwrap();
        assert!(alone.no_choices);
        assert_eq!(alone.usage.unwrap().completion_tokens, 2);
        assert_eq!(ChunkFacts::read(br#"{"usage":null}"#).unwrap().usage, None);
    }

    #[test]
    fn a_whole_answer_without_a_choice_is_none_and_a_chunk_may_have_none() {
        for body in [r#"{"choices":[]}"#, r#"{"choices":null,"usage":{}}"#, "{}"] {
            assert_eq!(AnswerFacts::read(body.as_bytes()), None, "{body}");
            assert!(ChunkFacts::read(body.as_bytes()).unwrap().no_choices, "{body}");
        }
        for body in [r#"{"choices":[{"message":{}}]}"#, r#"{"choices":[],"error":"full"}"#] {
            assert!(AnswerFacts::read(body.as_bytes()).is_some(), "{body}");
        }
    }

    #[test]
    fn errors_are_read_in_the_shapes_providers_use() {
        for (body, message) in [
            (r#"{"error":{"message":"full","type":"x"}}"#, Some("full")),
            (r#"{"error":"full"}"#, Some("full")),
            (r#"{"error":{"code":7}}"#, Some("an error without a message")),
            (r#"{"error":null}"#, None),
            ("<html>", None),
        ] {
            let error = AnswerFacts::read(body.as_bytes()).and_then(|facts| facts.error);
            assert_eq!(error.as_deref(), message, "{body}");
        }
    }
}

//! The OpenAI chat completion request, as far as a gateway must understand it.
//!
//! [`ChatRequest::parse`] is the only place that checks the shape of a request: what comes out
//! of it has a model, at least one message and well-formed overrides. The body itself stays a
//! [`RawObject`], so every field that is not named here is forwarded byte for byte.
//! Source: OpenAI API reference, "Create chat completion".

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::{json, value::RawValue};

use super::{
    fields::{RequestError, read_json, without_position},
    json::{RawObject, raw},
};

/// A chat completion request that has a model and at least one message.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    body: RawObject,
    /// What the caller put in `model`: a policy, a RouteLLM router name or a model.
    pub model: String,
    /// The conversation, oldest first; never empty.
    pub messages: Vec<Message>,
    /// Whether the caller wants server-sent events.
    pub stream: bool,
    /// Whether the caller asked for the usage chunk at the end of the stream.
    pub include_usage: bool,
    /// The caller's bound on the answer: `max_completion_tokens`, else `max_tokens`.
    pub max_output_tokens: Option<u32>,
    /// Whether the request declares tools or the older `functions`.
    pub tools: bool,
    /// Whether the caller says that several tools may be called at once.
    pub parallel_tools: bool,
    /// Whether `response_format` demands a JSON schema.
    pub json_schema: bool,
    /// Whether reasoning is asked for.
    pub reasoning: bool,
    /// The end user, as the caller names them.
    pub user: Option<String>,
    /// The caller's dial, from the body object `weighbridge`.
    pub overrides: Overrides,
}

/// What a caller may set for one request; removed before forwarding.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// A policy to use instead of the one that `model` names.
    pub policy: Option<String>,
    /// Replaces the policy's first threshold, 0..=1.
    pub threshold: Option<f32>,
}

/// One message of the conversation.
#[derive(Debug, Clone, Deserialize)]
pub struct Message {
    /// `system`, `developer`, `user`, `assistant`, `tool` or `function`; others are forwarded.
    pub role: String,
    /// `Content::None` when absent or null, as in an assistant message that only calls tools.
    #[serde(default)]
    pub content: Content,
}

/// The content of a message.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Content {
    /// Absent or null.
    #[default]
    None,
    /// A plain string.
    Text(String),
    /// An array of typed parts.
    Parts(Vec<Part>),
}

/// One part of a content array, reduced to what routing needs.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// `{"type":"text","text":…}`
    Text(String),
    /// `image_url`
    Image,
    /// `input_audio`, whose object has so many bytes.
    Audio(usize),
    /// `file`, the same.
    File(usize),
    /// Any other type: forwarded, not understood.
    Other,
}

/// The fields read from the body; the rest is not looked at.
#[derive(Deserialize)]
struct View {
    model: String,
    messages: Vec<Message>,
    #[serde(default, deserialize_with = "null_is_default")]
    stream: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    stream_options: StreamOptions,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    #[serde(default, deserialize_with = "null_is_default")]
    tools: Vec<Tool>,
    #[serde(default, deserialize_with = "null_is_default")]
    functions: Vec<IgnoredAny>,
    parallel_tool_calls: Option<bool>,
    response_format: Option<ResponseFormat>,
    reasoning_effort: Option<String>,
    user: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    weighbridge: Overrides,
}

#[derive(Deserialize, Default)]
struct StreamOptions {
    #[serde(default, deserialize_with = "null_is_default")]
    include_usage: bool,
}

#[derive(Deserialize)]
struct Tool {
    #[serde(rename = "type")]
    _kind: String,
}

#[derive(Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
}

impl ChatRequest {
    /// Reads and checks a body.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        let body = RawObject::parse(bytes).map_err(|error| RequestError {
            param: None,
            message: format!("the body is not a JSON object that can be read: {error}"),
        })?;
        let view: View = read_json(bytes).map_err(|error| {
            let path = error.path().to_string();
            let param = match missing_field(&error.inner().to_string()) {
                Some(field) if path == "." => field,
                Some(field) => format!("{path}.{field}"),
                None => path,
            };
            let message = format!("`{param}`: {}", without_position(error.inner()));
            RequestError { param: Some(param), message }
        })?;
        if view.messages.is_empty() {
            return Err(field_error("messages", "must hold at least one message"));
        }
        if view.model.trim().is_empty() {
            return Err(field_error("model", "must not be empty"));
        }
        if let Some(threshold) = view.weighbridge.threshold
            && !(0.0..=1.0).contains(&threshold)
        {
            return Err(field_error("weighbridge.threshold", "must lie between 0 and 1"));
        }
        for (name, limit) in
            [("max_tokens", view.max_tokens), ("max_completion_tokens", view.max_completion_tokens)]
        {
            if limit == Some(0) {
                return Err(field_error(name, "must be at least 1"));
            }
        }
        Ok(Self {
            body,
            model: view.model,
            messages: view.messages,
            stream: view.stream,
            include_usage: view.stream_options.include_usage,
            max_output_tokens: view.max_completion_tokens.or(view.max_tokens),
            tools: !view.tools.is_empty() || !view.functions.is_empty(),
            parallel_tools: view.parallel_tool_calls == Some(true),
            reasoning: view.reasoning_effort.is_some_and(|effort| effort != "none"),
            user: view.user,
            json_schema: view.response_format.is_some_and(|f| f.kind == "json_schema"),
            overrides: view.weighbridge,
        })
    }

    /// The body to send to a provider: the caller's bytes with the provider's model name,
    /// without the overrides, and asking for usage at the end of a stream.
    pub fn forward_body(&self, upstream_model: &str, ask_stream_usage: bool) -> Vec<u8> {
        let mut body = self.body.clone();
        body.set_str("model", upstream_model);
        body.remove("weighbridge");
        if self.stream && ask_stream_usage && !self.include_usage {
            let mut options = body
                .get("stream_options")
                .and_then(|options| serde_json::from_str(options.get()).ok())
                .unwrap_or_else(|| json!({}));
            if let Some(options) = options.as_object_mut() {
                options.insert("include_usage".to_owned(), json!(true));
            } else {
                options = json!({"include_usage": true});
            }
            body.set("stream_options", raw(&options));
        }
        body.to_bytes()
    }

    /// The body as it came.
    pub fn body_bytes(&self) -> Vec<u8> {
        self.body.to_bytes()
    }

    /// A field of the body, as it arrived.
    pub fn field(&self, name: &str) -> Option<&serde_json::value::RawValue> {
        self.body.get(name)
    }

    /// All parts of all messages.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.messages.iter().flat_map(|message| match &message.content {
            Content::Parts(parts) => parts.as_slice(),
            Content::None | Content::Text(_) => &[],
        })
    }

    /// Whether the answer shall be spoken.
    pub fn wants_audio(&self) -> bool {
        self.field("modalities").is_some_and(|modalities| modalities.get().contains("\"audio\""))
    }

    /// Bytes of text in all messages together, an input to the token estimate.
    pub fn text_bytes(&self) -> usize {
        self.messages.iter().flat_map(|message| message.content.texts()).map(str::len).sum()
    }

    /// Bytes of the fields that count against the context window besides the messages.
    pub fn tools_bytes(&self) -> usize {
        ["tools", "functions", "response_format"]
            .into_iter()
            .filter_map(|field| self.body.get(field))
            .map(|value| value.get().len())
            .sum()
    }
}

impl Content {
    /// The pieces of text in this content, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let (whole, parts) = match self {
            Self::None => (None, &[][..]),
            Self::Text(text) => (Some(text.as_str()), &[][..]),
            Self::Parts(parts) => (None, parts.as_slice()),
        };
        whole.into_iter().chain(parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        }))
    }
}

fn field_error(param: &str, what: &str) -> RequestError {
    RequestError { param: Some(param.to_owned()), message: format!("`{param}` {what}") }
}

/// serde names a missing field in its message only, not in the path.
fn missing_field(message: &str) -> Option<String> {
    let rest = message.strip_prefix("missing field `")?;
    Some(rest.split('`').next()?.to_owned())
}

/// `null` means the same as absent, as in OpenAI's API.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, an array of content parts, or null")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::None)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Content, E> {
        Ok(Content::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Content, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = sequence.next_element()? {
            parts.push(part);
        }
        Ok(Content::Parts(parts))
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(rename = "type")]
            kind: String,
            text: Option<String>,
            #[serde(borrow)]
            input_audio: Option<&'a RawValue>,
            #[serde(borrow)]
            file: Option<&'a RawValue>,
        }
        let length = |value: Option<&RawValue>| value.map_or(0, |value| value.get().len());
        let fields = Fields::deserialize(deserializer)?;
        Ok(match (fields.kind.as_str(), fields.text) {
            ("text", Some(text)) => Self::Text(text),
            ("text", None) => return Err(serde::de::Error::missing_field("text")),
            ("image_url", _) => Self::Image,
            ("input_audio", _) => Self::Audio(length(fields.input_audio)),
            ("file", _) => Self::File(length(fields.file)),
            _ => Self::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> RequestError {
        ChatRequest::parse(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn bad_bodies_name_the_field() {
        for (body, param) in [
            (r#"{"messages":[]}"#, "model"),
            (r#"{"model":"auto"}"#, "messages"),
            (r#"{"model":"auto","messages":[]}"#, "messages"),
            (r#"{"model":" ","messages":[{"role":"user","content":"x"}]}"#, "model"),
            (r#"{"model":7,"messages":[]}"#, "model"),
            (r#"{"model":"a","messages":"hi"}"#, "messages"),
            (r#"{"model":"a","messages":[{"content":"x"}]}"#, "messages[0].role"),
            (r#"{"model":"a","messages":[{"role":"user","content":3}]}"#, "messages[0].content"),
            (
                r#"{"model":"a","messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
                "messages[0].content[0].text",
            ),
            (r#"{"model":"a","messages":[{"role":"user"}],"stream":"yes"}"#, "stream"),
            (r#"{"model":"a","messages":[{"role":"user"}],"max_tokens":-1}"#, "max_tokens"),
            (r#"{"model":"a","messages":[{"role":"user"}],"max_tokens":0}"#, "max_tokens"),
            (r#"{"model":"a","messages":[{"role":"user"}],"tools":[{}]}"#, "tools[0].type"),
            (
                r#"{"model":"a","messages":[{"role":"user"}],"weighbridge":{"threshold":2}}"#,
                "weighbridge.threshold",
            ),
        ] {
            let error = refused(body);
            assert_eq!(error.param.as_deref(), Some(param), "{body}: {error}");
            assert!(error.message.contains(param), "{error}");
        }
    }

    #[test]
    fn a_body_that_is_not_json_says_so() {
        for body in ["", "[]", "{\"model\":", "\u{0}", "null"] {
            let error = refused(body);
            assert_eq!(error.param, None);
            assert!(error.message.contains("not a JSON object"), "{error}");
        }
    }

    #[test]
    fn unknown_fields_and_digits_survive_forwarding() {
        let body = r#"{"model":"auto","messages":[{"role":"user","content":"x","name":"n"}],"temperature":0.70,"x_new":{"a":[1.0]},"weighbridge":{"threshold":0.2}}"#;
        let request = ChatRequest::parse(body.as_bytes()).unwrap();
        assert_eq!(request.overrides.threshold, Some(0.2));
        assert_eq!(
            String::from_utf8(request.forward_body("small-v1", true)).unwrap(),
            r#"{"model":"small-v1","messages":[{"role":"user","content":"x","name":"n"}],"temperature":0.70,"x_new":{"a":[1.0]}}"#
        );
    }

    #[test]
    fn a_stream_asks_for_usage_and_keeps_the_callers_other_options() {
        let body = r#"{"model":"auto","stream":true,"stream_options":{"x":1},"messages":[{"role":"user","content":"x"}]}"#;
        let request = ChatRequest::parse(body.as_bytes()).unwrap();
        let forwarded = String::from_utf8(request.forward_body("m", true)).unwrap();
        assert!(
            forwarded.contains(r#""stream_options":{"x":1,"include_usage":true}"#),
            "{forwarded}"
        );
        let untouched = String::from_utf8(request.forward_body("m", false)).unwrap();
        assert!(untouched.contains(r#""stream_options":{"x":1}"#), "{untouched}");
    }
}

//! What a caller asks for, on whichever surface: as much as routing must know, and the body.
//!
//! A chat request is read lightly, because most of them go on as they came; the other surfaces
//! are read whole. Either way [`Incoming::conversation`] gives the whole meaning when a provider
//! speaks another language, and [`Incoming::native_body`] the caller's own bytes when it speaks
//! the same.

use std::sync::OnceLock;

use serde_json::json;

use super::{
    chat::{ChatRequest, Content, Message, Overrides, Part},
    embeddings::EmbeddingRequest,
    fields::RequestError,
    json::{RawObject, raw},
    neutral::{Conversation, Format, PartBody, Role, SIGNATURE_TAG, Source, Surface, Turn},
    translate::read_request,
};

/// A request that can be routed.
#[derive(Debug)]
pub struct Incoming {
    /// The language that the caller speaks.
    pub surface: Surface,
    /// What the caller put in `model`: a policy, a RouteLLM router name or a model.
    pub model: String,
    /// The conversation as far as it is weighed, oldest first.
    pub messages: Vec<Message>,
    /// Whether the caller wants server-sent events.
    pub stream: bool,
    /// Whether a chat caller asked for the usage chunk.
    pub include_usage: bool,
    /// The caller's bound on the answer.
    pub max_output_tokens: Option<u32>,
    /// What the request holds besides text.
    pub content: ContentFacts,
    /// The last turn is what a tool answered, and nothing else.
    pub ends_with_tool_result: bool,
    /// The caller's dial, from the body object `weighbridge`.
    pub overrides: Overrides,
    /// Fields that name state which only a provider of the same kind stores.
    pub stored: Vec<String>,
    /// The end user, as the caller names them.
    pub user: Option<String>,
    /// What is asked for, when it is vectors and not an answer.
    pub embeddings: Option<EmbeddingRequest>,
    body: Body,
    conversation: OnceLock<Result<Conversation, RequestError>>,
}

/// What a request holds besides text, and how much text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContentFacts {
    /// Tools are on offer.
    pub tools: bool,
    /// Several tools may be called at once, and the caller says so.
    pub parallel_tools: bool,
    /// A JSON schema is demanded.
    pub json_schema: bool,
    /// Pictures.
    pub images: bool,
    /// Documents.
    pub documents: bool,
    /// Sound.
    pub audio: bool,
    /// Reasoning is asked for.
    pub reasoning: bool,
    /// Vectors are asked for.
    pub embeddings: bool,
    /// Bytes of text, tools and schemas included.
    pub text_bytes: usize,
    /// How many pictures.
    pub image_count: usize,
    /// Bytes of documents, as base64; of those by address or name none are known.
    pub document_bytes: usize,
    /// Bytes of sound, as base64.
    pub audio_bytes: usize,
}

impl ContentFacts {
    fn add_image(&mut self) {
        self.images = true;
        self.image_count += 1;
    }

    fn add_document(&mut self, bytes: usize) {
        self.documents = true;
        self.document_bytes += bytes;
    }

    fn add_audio(&mut self, bytes: usize) {
        self.audio = true;
        self.audio_bytes += bytes;
    }
}

#[derive(Debug)]
enum Body {
    Chat(Box<ChatRequest>),
    Other(RawObject),
}

impl Incoming {
    /// Reads and checks a body.
    pub fn parse(surface: Surface, bytes: &[u8]) -> Result<Self, RequestError> {
        match surface {
            Surface::OpenAiChat => Ok(Self::of_chat(ChatRequest::parse(bytes)?)),
            Surface::OpenAiCompletions | Surface::OpenAiResponses | Surface::Anthropic => {
                Self::of_other(surface, bytes)
            }
        }
    }

    /// Reads and checks a body that asks for embeddings.
    pub fn embeddings(bytes: &[u8]) -> Result<Self, RequestError> {
        let request = EmbeddingRequest::read(bytes)?;
        let body = raw_body(bytes)?;
        let texts = request.texts.clone().unwrap_or_default();
        let text_bytes = texts.iter().map(String::len).sum();
        // The first text says what kind of text it is; the others are more of it.
        let first = texts.into_iter().next().unwrap_or_default();
        Ok(Self {
            surface: Surface::OpenAiChat,
            model: request.model.clone(),
            messages: vec![Message { role: "user".to_owned(), content: Content::Text(first) }],
            stream: false,
            include_usage: false,
            max_output_tokens: None,
            content: ContentFacts { text_bytes, embeddings: true, ..ContentFacts::default() },
            ends_with_tool_result: false,
            overrides: overrides(&body)?,
            stored: Vec::new(),
            user: None,
            embeddings: Some(request),
            body: Body::Other(body),
            conversation: OnceLock::new(),
        })
    }

    fn of_chat(mut chat: ChatRequest) -> Self {
        let mut content = ContentFacts {
            tools: chat.tools,
            parallel_tools: chat.parallel_tools,
            json_schema: chat.json_schema,
            audio: chat.wants_audio(),
            reasoning: chat.reasoning,
            text_bytes: chat.text_bytes() + chat.tools_bytes(),
            ..ContentFacts::default()
        };
        for part in chat.parts() {
            match part {
                Part::Image => content.add_image(),
                Part::File(bytes) => content.add_document(*bytes),
                Part::Audio(bytes) => content.add_audio(*bytes),
                Part::Text(_) | Part::Other => {}
            }
        }
        let last_role = chat.messages.last().map(|message| message.role.as_str());
        Self {
            ends_with_tool_result: matches!(last_role, Some("tool" | "function")),
            surface: Surface::OpenAiChat,
            model: std::mem::take(&mut chat.model),
            messages: std::mem::take(&mut chat.messages),
            stream: chat.stream,
            include_usage: chat.include_usage,
            max_output_tokens: chat.max_output_tokens,
            content,
            overrides: std::mem::take(&mut chat.overrides),
            stored: Vec::new(),
            user: chat.user.take(),
            embeddings: None,
            body: Body::Chat(Box::new(chat)),
            conversation: OnceLock::new(),
        }
    }

    fn of_other(surface: Surface, bytes: &[u8]) -> Result<Self, RequestError> {
        let read = read_request(surface, bytes)?;
        let body = raw_body(bytes)?;
        if read.model.trim().is_empty() {
            return Err(RequestError::at("model", "must not be empty"));
        }
        if read.max_output_tokens == Some(0) {
            let name =
                if surface == Surface::Anthropic { "max_tokens" } else { "max_output_tokens" };
            return Err(RequestError::at(name, "must be at least 1"));
        }
        let overrides = overrides(&body)?;
        let mut content = content_facts(&read);
        content.text_bytes += ["tools", "text", "output_config"]
            .into_iter()
            .filter_map(|field| body.get(field))
            .map(|value| value.get().len())
            .sum::<usize>();
        Ok(Self {
            ends_with_tool_result: read.turns.last().is_some_and(is_tool_result),
            surface,
            model: read.model.clone(),
            messages: read.system.iter().map(system_message).chain(messages(&read)).collect(),
            stream: read.stream,
            include_usage: read.include_usage,
            max_output_tokens: read.max_output_tokens,
            content,
            overrides,
            stored: read.stored.clone(),
            user: read.user.clone(),
            embeddings: None,
            body: Body::Other(body),
            conversation: OnceLock::from(Ok(read)),
        })
    }

    /// The caller's bytes for a provider that speaks the surface's language: with its name of
    /// the model and without the overrides.
    pub fn native_body(&self, upstream_model: &str, ask_stream_usage: bool) -> Vec<u8> {
        match &self.body {
            Body::Chat(chat) => chat.forward_body(upstream_model, ask_stream_usage),
            Body::Other(body) => {
                let mut body = body.clone();
                body.set_str("model", upstream_model);
                body.remove("weighbridge");
                let completes = self.surface == Surface::OpenAiCompletions;
                if completes && self.stream && ask_stream_usage && !self.include_usage {
                    body.set("stream_options", raw(&json!({"include_usage": true})));
                }
                body.to_bytes()
            }
        }
    }

    /// Whether the conversation holds reasoning that another dialect's model made and that we
    /// handed out, signed for it or not at all: its bytes would trouble a provider of the
    /// surface's dialect.
    pub fn holds_foreign_signature(&self) -> bool {
        let field = match self.surface {
            Surface::OpenAiResponses => "input",
            _ => "messages",
        };
        let unsigned = ["\"signature\":\"\"", "\"signature\": \"\""];
        self.field(field).map(serde_json::value::RawValue::get).is_some_and(|text| {
            let is_unsigned = || unsigned.iter().any(|empty| text.contains(empty));
            text.contains(SIGNATURE_TAG) || self.surface == Surface::Anthropic && is_unsigned()
        })
    }

    /// The whole meaning of the request.
    pub fn conversation(&self) -> Result<&Conversation, RequestError> {
        let read = self.conversation.get_or_init(|| match &self.body {
            Body::Chat(chat) => read_request(self.surface, &chat.body_bytes()),
            Body::Other(body) => read_request(self.surface, &body.to_bytes()),
        });
        read.as_ref().map_err(Clone::clone)
    }

    /// A field of the body, as it arrived.
    pub fn field(&self, name: &str) -> Option<&serde_json::value::RawValue> {
        match &self.body {
            Body::Chat(chat) => chat.field(name),
            Body::Other(body) => body.get(name),
        }
    }
}

fn raw_body(bytes: &[u8]) -> Result<RawObject, RequestError> {
    RawObject::parse(bytes).map_err(|error| RequestError {
        param: None,
        message: format!("the body is not a JSON object that can be read: {error}"),
    })
}

fn overrides(body: &RawObject) -> Result<Overrides, RequestError> {
    let Some(value) = body.get("weighbridge").filter(|value| value.get() != "null") else {
        return Ok(Overrides::default());
    };
    let overrides: Overrides = serde_json::from_str(value.get())
        .map_err(|error| RequestError::at("weighbridge", format!("cannot be read: {error}")))?;
    if overrides.threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold)) {
        return Err(RequestError::at("weighbridge.threshold", "must lie between 0 and 1"));
    }
    Ok(overrides)
}

fn content_facts(read: &Conversation) -> ContentFacts {
    let mut facts = ContentFacts {
        tools: !read.tools.is_empty(),
        parallel_tools: read.parallel_tool_calls == Some(true),
        json_schema: matches!(read.format, Some(Format::JsonSchema { .. })),
        reasoning: read.reasoning.as_ref().is_some_and(super::neutral::Reasoning::is_wanted),
        ..ContentFacts::default()
    };
    let parts = read.system.iter().chain(read.turns.iter().flat_map(|turn| &turn.parts));
    for part in parts {
        add_part(&part.body, &mut facts);
    }
    facts
}

fn add_part(body: &PartBody, facts: &mut ContentFacts) {
    match body {
        PartBody::Text(text) | PartBody::Refusal(text) => facts.text_bytes += text.len(),
        PartBody::Image { .. } => facts.add_image(),
        PartBody::Document { source: Source::Base64 { data, .. }, .. } => {
            facts.add_document(data.len());
        }
        PartBody::Document { source: Source::Text(text), .. } => {
            facts.add_document(0);
            facts.text_bytes += text.len();
        }
        PartBody::Document { .. } => facts.add_document(0),
        PartBody::Audio { data, .. } => facts.add_audio(data.len()),
        PartBody::ToolCall(call) => facts.text_bytes += call.name.len() + call.arguments.len(),
        PartBody::ToolResult(result) => {
            for part in &result.content {
                add_part(&part.body, facts);
            }
        }
        PartBody::Thinking { .. } | PartBody::RedactedThinking(_) | PartBody::Native(_) => {}
    }
}

/// Results of tools and nothing that a person wrote.
fn is_tool_result(turn: &Turn) -> bool {
    let has_result = turn.parts.iter().any(|part| matches!(part.body, PartBody::ToolResult(_)));
    let has_text = turn.parts.iter().any(|part| matches!(part.body, PartBody::Text(_)));
    has_result && !has_text
}

fn system_message(part: &super::neutral::Part) -> Message {
    Message { role: "system".to_owned(), content: Content::Parts(vec![weighed(&part.body)]) }
}

fn messages(read: &Conversation) -> impl Iterator<Item = Message> {
    read.turns.iter().map(|turn: &Turn| Message {
        role: match turn.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
        .to_owned(),
        content: Content::Parts(turn.parts.iter().map(|part| weighed(&part.body)).collect()),
    })
}

/// A part as far as it is weighed.
fn weighed(body: &PartBody) -> Part {
    match body {
        PartBody::Text(text) => Part::Text(text.clone()),
        PartBody::Image { .. } => Part::Image,
        _ => Part::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments_are_measured_alike_on_every_surface() {
        let chat = r#"{"model":"a","modalities":["text"],"messages":[{"role":"user","content":[
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},
            {"type":"file","file":{"file_data":"12345678"}},
            {"type":"input_audio","input_audio":{"data":"1234","format":"wav"}}]}]}"#;
        let messages = r#"{"model":"a","max_tokens":9,"messages":[{"role":"user","content":[
            {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},
            {"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"12345678"}}]}]}"#;
        let read = |surface, body: &str| Incoming::parse(surface, body.as_bytes()).unwrap().content;
        let chat_facts = read(Surface::OpenAiChat, chat);
        let messages = read(Surface::Anthropic, messages);
        for facts in [chat_facts, messages] {
            assert!(facts.images && facts.documents);
            assert_eq!(facts.image_count, 1);
        }
        // Of a chat's part the object around the data counts too.
        assert_eq!(chat_facts.document_bytes, r#"{"file_data":"12345678"}"#.len());
        assert_eq!(chat_facts.audio_bytes, r#"{"data":"1234","format":"wav"}"#.len());
        assert_eq!((messages.document_bytes, messages.audio), (8, false));
        let spoken = r#"{"model":"a","modalities":["text","audio"],"messages":[{"role":"user","content":"x"}]}"#;
        assert!(read(Surface::OpenAiChat, spoken).audio);
        let silent = spoken.replace(",\"audio\"", "");
        assert!(!read(Surface::OpenAiChat, &silent).audio);
    }

    #[test]
    fn the_same_question_reads_alike_on_every_surface() {
        let bodies = [
            (
                Surface::OpenAiChat,
                r#"{"model":"auto","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"What is rain?"}],
                    "max_tokens":9,"stream":true,"weighbridge":{"threshold":0.3},"parallel_tool_calls":true,
                    "tools":[{"type":"function","function":{"name":"f"}}],"reasoning_effort":"low"}"#,
            ),
            (
                Surface::OpenAiResponses,
                r#"{"model":"auto","instructions":"Be brief.","input":"What is rain?","max_output_tokens":9,"stream":true,
                    "weighbridge":{"threshold":0.3},"parallel_tool_calls":true,
                    "tools":[{"type":"function","name":"f"}],"reasoning":{"effort":"low"}}"#,
            ),
            (
                Surface::Anthropic,
                r#"{"model":"auto","system":"Be brief.","messages":[{"role":"user","content":"What is rain?"}],"max_tokens":9,
                    "stream":true,"weighbridge":{"threshold":0.3},"thinking":{"type":"enabled","budget_tokens":1024},
                    "tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"auto","disable_parallel_tool_use":false}}"#,
            ),
        ];
        for (surface, body) in bodies {
            let read = Incoming::parse(surface, body.as_bytes()).unwrap();
            assert_eq!((read.model.as_str(), read.stream), ("auto", true), "{surface:?}");
            assert_eq!(read.max_output_tokens, Some(9));
            assert_eq!(read.overrides.threshold, Some(0.3));
            assert!(read.content.tools && read.content.parallel_tools && read.content.reasoning);
            assert!(!read.content.images && read.content.text_bytes >= 22);
            let texts: Vec<_> = read.messages.iter().flat_map(|m| m.content.texts()).collect();
            assert_eq!(texts, ["Be brief.", "What is rain?"], "{surface:?}");
            let native = String::from_utf8(read.native_body("small-v1", false)).unwrap();
            assert!(native.contains("small-v1") && !native.contains("weighbridge"), "{native}");
            assert_eq!(read.conversation().unwrap().turns.len(), 1);
        }
    }

    #[test]
    fn a_wrong_dial_is_named_on_every_surface() {
        for (surface, body) in [
            (
                Surface::OpenAiChat,
                r#"{"model":"m","messages":[{"role":"user","content":"x"}],"weighbridge":{"threshold":2}}"#,
            ),
            (
                Surface::OpenAiResponses,
                r#"{"model":"m","input":"x","weighbridge":{"threshold":2}}"#,
            ),
            (
                Surface::Anthropic,
                r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"weighbridge":{"threshold":2}}"#,
            ),
        ] {
            let error = Incoming::parse(surface, body.as_bytes()).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("weighbridge.threshold"), "{surface:?}");
        }
    }
}

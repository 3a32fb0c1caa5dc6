//! A request in no dialect: what every provider of chat models can be asked.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{Dialect, Reasoning, Signature, Warnings};
use crate::protocol::json::{Json, RawObject, object};

/// A request as a caller meant it.
///
/// Leading system messages are in `system`; tool results are parts of user turns, as in the
/// Anthropic format. Positions in paths are those of the caller's own body.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// The surface it was read on.
    pub origin: Dialect,
    /// What the caller put in `model`.
    pub model: String,
    /// The instructions before the first turn; texts.
    pub system: Vec<Part>,
    /// The conversation, oldest first.
    pub turns: Vec<Turn>,
    /// The tools on offer.
    pub tools: Vec<Tool>,
    /// The same as they arrived, where some are offered in a shape that only the origin's dialect
    /// has; empty otherwise.
    pub tools_as_offered: Vec<Json>,
    /// `None`: the provider's default, which is [`ToolChoice::Auto`] when there are tools.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several tools may be called in one answer; `None` is the provider's default.
    pub parallel_tool_calls: Option<bool>,
    /// The demanded form of the answer; `None` is plain text.
    pub format: Option<Format>,
    /// Sampling parameters.
    pub sampling: Sampling,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// The bound on the answer, reasoning included.
    pub max_output_tokens: Option<u32>,
    /// How much to reason; `None` is the model's default.
    pub reasoning: Option<Reasoning>,
    /// The end user, as the caller names them.
    pub user: Option<String>,
    /// Whether the caller wants a stream.
    pub stream: bool,
    /// Whether a chat caller asked for the usage chunk; the other surfaces always show usage.
    pub include_usage: bool,
    /// Top-level fields that have no place here, as they arrived.
    pub extra: Vec<(String, Json)>,
    /// Paths of fields that only a provider of the same dialect can honour because they name
    /// state that it stores (`previous_response_id`). Not empty: translate to no other.
    pub stored: Vec<String>,
    /// What the reader had to leave behind.
    pub warnings: Warnings,
}

impl Conversation {
    /// An empty conversation.
    pub fn new(origin: Dialect, model: String) -> Self {
        Self {
            origin,
            model,
            system: Vec::new(),
            turns: Vec::new(),
            tools: Vec::new(),
            tools_as_offered: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            format: None,
            sampling: Sampling::default(),
            stop: Vec::new(),
            max_output_tokens: None,
            reasoning: None,
            user: None,
            stream: false,
            include_usage: false,
            extra: Vec::new(),
            stored: Vec::new(),
            warnings: Warnings::default(),
        }
    }

    /// The names of the tools that calls used, by the calls' ids: some dialects want them beside
    /// the results. Of calls with one id the last.
    pub fn tool_names(&self) -> HashMap<&str, &str> {
        let parts = self.turns.iter().flat_map(|turn| &turn.parts);
        let calls = parts.filter_map(|part| match &part.body {
            PartBody::ToolCall(call) => Some((call.id.as_str(), call.name.as_str())),
            _ => None,
        });
        calls.collect()
    }

    /// The names of the tools that calls used, each once, in the order of the first calls.
    pub fn called_tools(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let parts = self.turns.iter().flat_map(|turn| &turn.parts);
        let names = parts.filter_map(|part| match &part.body {
            PartBody::ToolCall(call) => Some(call.name.as_str()),
            _ => None,
        });
        names.filter(|name| seen.insert(*name)).collect()
    }

    /// How the caller knows those of its tools that are no functions to it.
    pub fn known_tools(&self) -> KnownTools {
        let known = self.tools.iter().filter_map(|tool| match tool {
            Tool::Function(function) => Some((function.name.clone(), function.known_as.clone()?)),
            Tool::Native { .. } => None,
        });
        Arc::new(known.collect())
    }

    /// The same for a provider that speaks like the caller; nothing for others.
    pub fn known_tools_of(&self, dialect: Dialect) -> KnownTools {
        if self.origin == dialect { self.known_tools() } else { KnownTools::default() }
    }

    /// Takes the tools, and keeps those of a request that has other than functions as they came.
    pub fn offer(&mut self, tools: Vec<Tool>, as_they_came: Vec<Json>) {
        let is_other = |tool: &Tool| matches!(tool, Tool::Function(f) if f.known_as.is_some());
        if tools.iter().any(is_other) {
            self.tools_as_offered = as_they_came;
        }
        self.tools = tools;
    }

    /// Whether tools have been called, or have answered, in what was said so far.
    pub fn has_tool_parts(&self) -> bool {
        let mut parts = self.turns.iter().flat_map(|turn| &turn.parts);
        parts.any(|part| matches!(part.body, PartBody::ToolCall(_) | PartBody::ToolResult(_)))
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions in the middle of a conversation.
    System,
    /// The caller's side, tool results included.
    User,
    /// The model's side.
    Assistant,
}

/// One turn of the conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// The participant's name, which only OpenAI chat has.
    pub name: Option<String>,
    /// What is said, in order.
    pub parts: Vec<Part>,
    /// Where it stands in the caller's body, for warnings: `messages[3]`.
    pub path: String,
}

/// One piece of a turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it is.
    pub body: PartBody,
    /// Anthropic's `cache_control` object, which marks the end of a prefix worth caching.
    pub cache: Option<Json>,
}

impl Part {
    /// A part without a cache mark.
    pub fn new(body: PartBody) -> Self {
        Self { body, cache: None }
    }

    /// A text without a cache mark.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(PartBody::Text(text.into()))
    }
}

/// What a part is.
#[derive(Debug, Clone, PartialEq)]
pub enum PartBody {
    /// Text.
    Text(String),
    /// A picture; `detail` is OpenAI's `low`, `high` or `auto`.
    Image {
        /// Where its bytes are.
        source: Source,
        /// OpenAI's resolution hint.
        detail: Option<String>,
    },
    /// A document, most often a PDF.
    Document {
        /// Where its bytes are.
        source: Source,
        /// Its file name or title.
        title: Option<String>,
        /// What the caller says about it, outside its text.
        context: Option<String>,
    },
    /// Sound; `format` is `wav`, `mp3`….
    Audio {
        /// Base64.
        data: String,
        /// The container's short name.
        format: String,
    },
    /// The model calls a tool.
    ToolCall(ToolCall),
    /// What a tool answered.
    ToolResult(ToolResult),
    /// The model's reasoning, or a summary of it.
    Thinking {
        /// As far as the provider shows it; may be empty.
        text: String,
        /// The provider's proof that it is unchanged.
        signature: Option<Signature>,
    },
    /// Reasoning that only its maker can read.
    RedactedThinking(Signature),
    /// The model declines, in OpenAI's own kind of part.
    Refusal(String),
    /// A part that only the origin's dialect knows, as it arrived.
    Native(Json),
}

/// Where the bytes of an image or a document are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the request.
    Base64 {
        /// `image/png`, `application/pdf`….
        media_type: String,
        /// Standard base64.
        data: String,
    },
    /// At an address that the provider fetches.
    Url(String),
    /// In the provider's file store.
    FileId(String),
    /// Plain text in the request.
    Text(String),
}

impl Source {
    /// Reads a URL, which may hold the data itself (RFC 2397, base64 only).
    pub fn from_url(url: &str) -> Self {
        let inline = || {
            let (kind, data) = url.strip_prefix("data:")?.split_once(',')?;
            let media_type = kind.strip_suffix(";base64")?;
            Some(Self::Base64 { media_type: media_type.to_owned(), data: data.to_owned() })
        };
        inline().unwrap_or_else(|| Self::Url(url.to_owned()))
    }

    /// The URL, with the data inside when it has no other; `None` for a stored file or text.
    pub fn to_url(&self) -> Option<String> {
        match self {
            Self::Base64 { media_type, data } => Some(format!("data:{media_type};base64,{data}")),
            Self::Url(url) => Some(url.clone()),
            Self::FileId(_) | Self::Text(_) => None,
        }
    }
}

/// The model calls a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The provider's id, or one made from the answer's id and the call's position.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments as the model wrote them: meant to be a JSON object, not checked.
    pub arguments: String,
    /// Gemini signs calls.
    pub signature: Option<Signature>,
}

impl ToolCall {
    /// The arguments where a dialect takes an object only: text that is none is kept inside one,
    /// and named.
    pub fn input(&self, path: &str, warnings: &mut Warnings) -> Json {
        if self.arguments.trim().is_empty() {
            return Json::of(&RawObject::default());
        }
        Json::parse_object(&self.arguments).unwrap_or_else(|| {
            warnings.add("arguments_not_json", path);
            Json::of(&object! { "arguments": self.arguments })
        })
    }
}

/// A call's id as other providers take it: letters, digits, `_` and `-`, at most `max_chars` of
/// them. The same id always gives the same one, so calls and results keep together.
pub fn portable_id(id: &str, max_chars: usize) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if id.len() <= max_chars && id.chars().all(allowed) && !id.is_empty() {
        return id.to_owned();
    }
    // What is cut off or replaced still tells ids apart.
    let check = format!("_{:08x}", crc32fast::hash(id.as_bytes()));
    let kept = id.chars().map(|c| if allowed(c) { c } else { '_' });
    kept.take(max_chars.saturating_sub(check.len())).chain(check.chars()).collect()
}

/// A call's id as Mistral takes it: nine letters and digits. The same id always gives the same
/// one.
pub fn short_id(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    format!("c{:08x}", crc32fast::hash(id.as_bytes()))
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolResult {
    /// The call it answers.
    pub call_id: String,
    /// Texts, images, documents.
    pub content: Vec<Part>,
    /// The tool failed.
    pub is_error: bool,
}

/// A tool on offer.
#[derive(Debug, Clone, PartialEq)]
pub enum Tool {
    /// A function of the caller's.
    Function(Function),
    /// A tool that the origin's provider runs or defines.
    Native {
        /// As it arrived.
        tool: Json,
        /// Where it stands in the caller's body, for warnings: `tools[1]`.
        path: String,
    },
}

/// A function of the caller's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// JSON schema of its arguments; `None` is a function without any.
    pub parameters: Option<Json>,
    /// Whether the arguments must follow the schema exactly.
    pub strict: Option<bool>,
    /// Anthropic's `cache_control` object.
    pub cache: Option<Json>,
    /// How the caller knows it, where that is not as a function of this name.
    pub known_as: Option<KnownAs>,
    /// Where it stands in the caller's body, for warnings: `tools[1]`.
    pub path: String,
}

/// A tool of a kind that only its surface has. To providers it is a function; calls of it are shown
/// to the caller as calls of what was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAs {
    /// The group that it was offered in.
    pub namespace: Option<String>,
    /// Its name there.
    pub name: String,
    /// Whether it takes a text instead of JSON: the one argument of [`freeform`](super::freeform).
    pub is_freeform: bool,
}

impl KnownAs {
    /// Of a tool that takes a text.
    pub fn freeform(name: String) -> Self {
        Self { namespace: None, name, is_freeform: true }
    }
}

/// How the caller knows tools, by the names that providers call.
pub type KnownTools = Arc<HashMap<String, KnownAs>>;

impl Function {
    /// The schema of its arguments, where a dialect demands one.
    pub fn schema(&self) -> Json {
        self.parameters.clone().unwrap_or_else(|| {
            Json::of(&object! { "type": "object", "properties": RawObject::default() })
        })
    }
}

/// Which tool must be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// None.
    None,
    /// Any, but one.
    Required,
    /// This one.
    Named(String),
}

/// The demanded form of the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Some JSON object.
    JsonObject,
    /// JSON that follows a schema.
    JsonSchema {
        /// A name for the schema; `answer` where the surface has none.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// The schema.
        schema: Json,
        /// Whether the answer must follow it exactly.
        strict: Option<bool>,
    },
}

/// Sampling parameters; `None` is the model's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// 0..=2; Anthropic's 0..=1.
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0..=1.
    pub top_p: Option<f64>,
    /// Only the likeliest so many.
    pub top_k: Option<u32>,
    /// −2..=2.
    pub presence_penalty: Option<f64>,
    /// −2..=2.
    pub frequency_penalty: Option<f64>,
    /// For repeatable draws.
    pub seed: Option<i64>,
    /// Answers wanted; dialects other than OpenAI chat give one.
    pub n: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_id_is_nine_letters_and_digits_and_always_the_same() {
        assert_eq!(short_id("abc123DEF"), "abc123DEF");
        let short = short_id("call_01:x");
        assert!(short.len() == 9 && short.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(short, short_id("call_01:x"));
        assert_ne!(short, short_id("call_02:x"));
    }
}

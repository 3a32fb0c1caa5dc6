//! A provider as the configuration describes it: its language, its deployments, its deadlines.

use std::{fmt, time::Duration};

use serde::Deserialize;

use reqwest::{
    Url,
    header::{HeaderName, HeaderValue},
};

use super::BreakerSettings;
use crate::protocol::neutral::{Dialect, MediaKind, Surface};

/// Who serves models. Credentials never print.
#[derive(Debug, Clone)]
pub struct Provider {
    /// The name in the configuration.
    pub name: String,
    /// How it is spoken to.
    pub api: Api,
    /// The same models at several addresses; never empty.
    pub deployments: Vec<Deployment>,
    /// Bound on making a connection.
    pub connect_timeout: Duration,
    /// Bound from sending the request to the head of the answer and, in a stream, from the head
    /// to the first content.
    pub first_byte_timeout: Duration,
    /// Bound on silence inside an answer.
    pub idle_timeout: Duration,
    /// Bound on one whole answer; `None` means none, because it would cut long streams.
    pub total_timeout: Option<Duration>,
    /// Further attempts after one that failed for a reason that may pass; those with another
    /// credential are not counted.
    pub retries: u32,
    /// When a deployment is left alone.
    pub breaker: BreakerSettings,
    /// In what it differs from others of its kind.
    pub quirks: Quirks,
}

/// The kinds of provider: addresses, authentication and wire formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// OpenAI and the many servers that speak as it does.
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// Google Gemini, `generateContent`.
    Gemini,
    /// OpenAI's models on Azure: deployment paths, `api-key`, `api-version`.
    Azure,
    /// AWS Bedrock Converse.
    Bedrock,
    /// Cohere v2.
    Cohere,
}

impl Api {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Azure, Self::Bedrock, Self::Cohere];
    /// The names in the configuration's `dialect`, in the order of the variants.
    pub const NAMES: [&str; 6] = ["openai", "anthropic", "gemini", "azure", "bedrock", "cohere"];

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.name() == name)
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Azure => "azure",
            Self::Bedrock => "bedrock",
            Self::Cohere => "cohere",
        }
    }
}

/// In what a provider differs from others of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quirks {
    /// A chat server understands `stream_options`.
    pub stream_usage: bool,
    /// It serves `/chat/completions`; otherwise everything is translated to responses.
    pub chat: bool,
    /// It serves `/responses`; otherwise that surface is translated to chat.
    pub responses: bool,
    /// It serves `/completions`; otherwise that surface is translated to chat.
    pub completions: bool,
    /// It knows `max_tokens` only, not `max_completion_tokens`.
    pub old_max_tokens: bool,
    /// It takes `reasoning_content` back in the history (DeepSeek, vLLM).
    pub reasoning_content: bool,
    /// It fetches images that are named by address; `None` is as its kind usually does.
    pub image_urls: Option<bool>,
    /// Its tool call ids are nine letters and digits (Mistral).
    pub short_tool_ids: bool,
    /// It counts reasoning tokens beside the completion's, not inside (xAI).
    pub reasoning_beside_output: bool,
    /// Fields of a chat request that make it refuse one; left out of what is translated.
    pub rejects: Vec<String>,
    /// Azure's `api-version`.
    pub api_version: String,
    /// AWS's region, which is part of a signature.
    pub region: String,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            stream_usage: true,
            chat: true,
            responses: false,
            completions: false,
            old_max_tokens: false,
            reasoning_content: false,
            image_urls: None,
            short_tool_ids: false,
            reasoning_beside_output: false,
            rejects: Vec::new(),
            api_version: DEFAULT_API_VERSION.to_owned(),
            region: DEFAULT_REGION.to_owned(),
        }
    }
}

/// The newest generally available version of Azure's data plane with deployment paths (Azure
/// OpenAI, "API version lifecycle").
const DEFAULT_API_VERSION: &str = "2024-10-21";
/// Used where the configuration names no region (chosen: where Bedrock has most models).
const DEFAULT_REGION: &str = "us-east-1";

/// One address of a provider.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// What paths such as `chat/completions` are appended to; ends with a slash.
    pub base_url: Url,
    /// Tried in this order; never empty.
    pub credentials: Vec<Credential>,
    /// Its share of the requests beside the other deployments'.
    pub weight: u32,
}

/// How the gateway shows a provider who it is. It never prints.
#[derive(Clone)]
pub enum Credential {
    /// It does not: a server without keys.
    None,
    /// A header, its value marked sensitive.
    Header(HeaderName, HeaderValue),
    /// A signature over each request.
    Aws(AwsKeys),
}

/// A pair of AWS keys, and the token of a temporary pair.
#[derive(Clone)]
pub struct AwsKeys {
    /// `AKIA…`
    pub access_key: String,
    /// The secret.
    pub secret_key: String,
    /// Of a temporary pair.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Header(name, _) => write!(f, "Header({name}, [redacted])"),
            Self::Aws(_) => f.write_str("Aws([redacted])"),
        }
    }
}

impl Credential {
    /// A key in the header where this kind of provider wants it; `None` when no header can carry
    /// it.
    pub fn of_key(api: Api, key: &str) -> Option<Self> {
        let key = key.trim();
        let (name, value) = match api {
            Api::OpenAi | Api::Cohere | Api::Bedrock => ("authorization", format!("Bearer {key}")),
            Api::Anthropic => ("x-api-key", key.to_owned()),
            Api::Gemini => ("x-goog-api-key", key.to_owned()),
            Api::Azure => ("api-key", key.to_owned()),
        };
        Self::header(name, &value)
    }

    /// A key as a bearer token, whatever the kind of provider.
    pub fn bearer(key: &str) -> Option<Self> {
        Self::header("authorization", &format!("Bearer {}", key.trim()))
    }

    fn header(name: &'static str, value: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        Some(Self::Header(HeaderName::from_static(name), value))
    }
}

impl Provider {
    /// A provider at one address, with the default deadlines, that is asked once.
    pub fn new(name: &str, api: Api, base_url: Url, credential: Credential) -> Self {
        let deployment = Deployment { base_url, credentials: vec![credential], weight: 1 };
        Self {
            name: name.to_owned(),
            api,
            deployments: vec![deployment],
            connect_timeout: CONNECT_TIMEOUT,
            first_byte_timeout: FIRST_BYTE_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            total_timeout: None,
            retries: 0,
            breaker: BreakerSettings::default(),
            quirks: Quirks::default(),
        }
    }

    /// Whether it serves the older text completions.
    pub fn completes(&self) -> bool {
        self.quirks.completions && matches!(self.api, Api::OpenAi | Api::Azure)
    }

    /// Whether it hands its models' reasoning out sealed, on `/responses`, and takes it back: in
    /// chat it would be lost between turns.
    pub fn seals_reasoning(&self) -> bool {
        let quirks = &self.quirks;
        matches!(self.api, Api::OpenAi | Api::Azure)
            && quirks.responses
            && !quirks.reasoning_content
            && !quirks.rejects.iter().any(|field| field == "include")
    }

    /// Whether what a caller names by address goes to it as an address, when it is asked in this
    /// language: it fetches that itself, or takes none in any form. Converse has no field for an
    /// image's; of Gemini's models the newer fetch, and only over https; chat has no field for a
    /// document's, and Cohere takes no documents but texts.
    pub fn takes_addresses(&self, kind: MediaKind, dialect: Dialect) -> bool {
        match (kind, self.api) {
            (MediaKind::Image, Api::Bedrock) => false,
            (MediaKind::Image, api) => self.quirks.image_urls.unwrap_or(api != Api::Gemini),
            (MediaKind::Document, _) => {
                !matches!(dialect, Dialect::OpenAiChat | Dialect::Gemini | Dialect::Bedrock)
            }
        }
    }

    /// The language in which a conversation from this surface is put to it, whatever the model.
    /// Chat goes before responses, of which many servers have a part only.
    pub fn dialect(&self, surface: Surface) -> Dialect {
        match self.api {
            Api::OpenAi | Api::Azure => match surface {
                Surface::OpenAiResponses if self.quirks.responses => Dialect::OpenAiResponses,
                _ if self.quirks.chat => Dialect::OpenAiChat,
                _ => Dialect::OpenAiResponses,
            },
            Api::Anthropic => Dialect::Anthropic,
            Api::Gemini => Dialect::Gemini,
            Api::Bedrock => Dialect::Bedrock,
            Api::Cohere => Dialect::Cohere,
        }
    }
}

/// Default deadlines (chosen: a connection takes well under 10 s; reasoning models can think
/// for minutes before the first byte; a stream that is silent for a minute is dead).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(300);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

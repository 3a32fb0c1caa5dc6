//! One language between all dialects: a request, an answer and a stream that any surface's
//! reader produces and any provider's writer understands.
//!
//! A [`Conversation`] is read from what a caller sent and written for a provider; an [`Answer`],
//! or the [`Event`]s of a stream, go the other way. Nothing is lost silently: what the other side
//! has no word for is named in [`Warnings`]. Read [`request`] first, then [`answer`], [`event`].

pub mod answer;
pub mod error;
pub mod event;
pub mod freeform;
mod media;
pub mod parts;
mod reasoning;
pub mod request;
mod signature;
pub mod target;
mod traits;
mod warning;

pub use answer::{Accumulator, Answer, Stop, Usage};
pub use error::{ErrorKind, ProviderError};
pub use event::{Event, PartKind};
pub use media::MediaKind;
pub use reasoning::{Effort, Reasoning};
pub use request::{
    Conversation, Format, Function, KnownAs, KnownTools, Part, PartBody, Role, Sampling, Source,
    Tool, ToolCall, ToolChoice, ToolResult, Turn, portable_id, short_id,
};
pub use signature::{Maker, SIGNATURE_TAG, Signature};
pub use target::{Target, Written};
pub use traits::{Traits, Tuning};
pub use warning::{Warning, Warnings};

/// The wire languages. The first three are also surfaces, on which callers speak to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI chat completions, and the many servers that speak it.
    OpenAiChat,
    /// OpenAI responses, used without stored state.
    OpenAiResponses,
    /// Anthropic messages.
    Anthropic,
    /// Google Gemini `generateContent`.
    Gemini,
    /// AWS Bedrock Converse.
    Bedrock,
    /// Cohere v2 chat.
    Cohere,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 6] = [
        Self::OpenAiChat,
        Self::OpenAiResponses,
        Self::Anthropic,
        Self::Gemini,
        Self::Bedrock,
        Self::Cohere,
    ];

    /// Its fixed name, as used in signatures' tags and in golden files.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai_chat",
            Self::OpenAiResponses => "openai_responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
            Self::Cohere => "cohere",
        }
    }

    /// The dialect of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name)
    }
}

/// A dialect that callers speak to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Surface {
    /// OpenAI chat completions.
    OpenAiChat,
    /// OpenAI's older text completions, which no provider is translated to.
    OpenAiCompletions,
    /// OpenAI responses.
    OpenAiResponses,
    /// Anthropic messages.
    Anthropic,
}

impl Surface {
    /// Whether bodies of this surface and of this dialect are the same.
    pub fn speaks(self, dialect: Dialect) -> bool {
        self != Self::OpenAiCompletions && Dialect::from(self) == dialect
    }
}

/// The language whose errors, signatures and names the surface shares.
impl From<Surface> for Dialect {
    fn from(surface: Surface) -> Self {
        match surface {
            Surface::OpenAiChat | Surface::OpenAiCompletions => Self::OpenAiChat,
            Surface::OpenAiResponses => Self::OpenAiResponses,
            Surface::Anthropic => Self::Anthropic,
        }
    }
}

//! What a provider says when it fails, in no dialect.

use std::time::Duration;

/// A provider's error, from the body of a failed request or from inside a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderError {
    /// What it means.
    pub kind: ErrorKind,
    /// The provider's own sentence.
    pub message: String,
    /// The provider's own code or type: `context_length_exceeded`, `overloaded_error`….
    pub code: Option<String>,
    /// The field at fault, when the provider names one.
    pub param: Option<String>,
    /// How long to wait before the next try, when the body says.
    pub retry_after: Option<Duration>,
}

/// What an error means to a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request cannot be served as it is.
    InvalidRequest,
    /// The request is longer than the model's window: a larger model may take it.
    ContextLength,
    /// The provider's content filter refused: another model may not.
    ContentPolicy,
    /// The credential is not valid.
    Authentication,
    /// The account is out of credit or quota.
    Billing,
    /// The credential may not do this.
    Permission,
    /// There is no such model or path.
    NotFound,
    /// The body is larger than the provider takes.
    TooLarge,
    /// Too many requests or tokens in a while.
    RateLimit,
    /// The provider has no room at the moment.
    Overloaded,
    /// The provider gave up waiting for itself.
    Timeout,
    /// The provider failed.
    Server,
    /// The stream ended before the answer did.
    Truncated,
    /// The provider broke its own protocol.
    Malformed,
}

impl ErrorKind {
    /// Its fixed snake_case label.
    pub fn label(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::ContextLength => "context_length_exceeded",
            Self::ContentPolicy => "content_policy",
            Self::Authentication => "authentication",
            Self::Billing => "billing",
            Self::Permission => "permission",
            Self::NotFound => "not_found",
            Self::TooLarge => "too_large",
            Self::RateLimit => "rate_limit",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::Server => "server",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
        }
    }
}

impl ProviderError {
    /// An error with a sentence and nothing else.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), code: None, param: None, retry_after: None }
    }

    /// The provider sent something that its protocol does not have.
    pub fn malformed(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::Malformed, format!("the provider's answer is malformed: {what}"))
    }

    /// The stream ended before the answer did.
    pub fn truncated() -> Self {
        let message = "the provider closed the stream before the answer was complete";
        Self::new(ErrorKind::Truncated, message)
    }
}

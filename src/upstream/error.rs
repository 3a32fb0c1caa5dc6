//! What can go wrong at a provider, who is to blame, and whether another may be tried.

use std::time::Duration;

/// One failed attempt. The label is used in metrics and in the JSON `code`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UpstreamError {
    /// No connection: refused, unreachable, DNS or TLS failure.
    #[error("no connection to the provider: {0}")]
    Connect(String),
    /// A deadline passed: `connect`, `first_byte` or `idle`.
    #[error("the provider sent nothing within the {deadline} deadline of {} ms", limit.as_millis())]
    Timeout {
        /// Which deadline.
        deadline: &'static str,
        /// How long it was.
        limit: Duration,
    },
    /// The provider does not accept our credential.
    #[error("the provider rejected the gateway's credential (status {status})")]
    Credential {
        /// 401, 402 or 403.
        status: u16,
    },
    /// The provider wants us to slow down.
    #[error("the provider limits the rate of requests")]
    RateLimited {
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// The provider knows no such model or path.
    #[error("the provider does not know the model or path (status 404): {message}")]
    NotFound {
        /// The provider's sentence, or the start of its body.
        message: String,
    },
    /// The provider failed: a 5xx, or an error object inside a 200.
    #[error("the provider failed (status {status}): {message}")]
    Failed {
        /// The status it sent.
        status: u16,
        /// The provider's sentence, or a description.
        message: String,
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// The provider says the request itself is wrong. Passed on as it came.
    #[error("the provider rejected the request (status {status})")]
    Rejected {
        /// The status it sent, 4xx.
        status: u16,
        /// Its body, bounded.
        body: bytes::Bytes,
    },
    /// The answer is not what the protocol says: wrong content type, malformed JSON, no end.
    #[error("the provider's answer cannot be used: {0}")]
    Malformed(String),
    /// The connection broke while the answer was read.
    #[error("the provider's answer was cut: {0}")]
    Cut(String),
}

impl UpstreamError {
    /// One fixed snake_case label each.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "provider_unreachable",
            Self::Timeout { .. } => "provider_timeout",
            Self::Credential { .. } => "provider_credential_rejected",
            Self::RateLimited { .. } => "provider_rate_limited",
            Self::NotFound { .. } => "provider_model_not_found",
            Self::Failed { .. } => "provider_failed",
            Self::Rejected { .. } => "provider_rejected_request",
            Self::Malformed(_) => "provider_malformed_answer",
            Self::Cut(_) => "provider_answer_cut",
        }
    }

    /// Whether the next candidate may be tried: everything but a request that the provider calls
    /// wrong, which would be wrong everywhere.
    pub fn may_fall_back(&self) -> bool {
        !matches!(self, Self::Rejected { .. })
    }

    /// When the provider wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::Failed { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

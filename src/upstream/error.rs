//! What can go wrong at a provider, who is to blame, and whether another may be tried.

use std::time::Duration;

use bytes::Bytes;

use crate::protocol::{
    failure::read_error,
    neutral::{ErrorKind, ProviderError},
};

/// One failed attempt. The label is used in metrics and in the JSON `code`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UpstreamError {
    /// No connection: refused, unreachable, DNS or TLS failure.
    #[error("no connection to the provider: {0}")]
    Connect(String),
    /// A deadline passed: `connect`, `first_byte`, `idle` or `total`.
    #[error("the provider did not keep the {deadline} deadline of {} ms", limit.as_millis())]
    Timeout {
        /// Which deadline.
        deadline: &'static str,
        /// How long it was.
        limit: Duration,
    },
    /// The provider does not accept our credential.
    #[error("the provider rejected the gateway's credential (status {status})")]
    Credential {
        /// Most often 401, 402 or 403; 429 where a quota is used up; 200 of an error inside one.
        status: u16,
    },
    /// The provider wants us to slow down.
    #[error("the provider limits the rate of requests")]
    RateLimited {
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// The provider knows no such model or path.
    #[error("the provider does not know the model or path: {message}")]
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
    /// The provider says the request itself is wrong, too long, or not allowed.
    #[error("the provider rejected the request (status {status}): {}", error.message)]
    Rejected {
        /// The status it sent, 4xx.
        status: u16,
        /// What it said.
        error: Box<ProviderError>,
        /// Its body, bounded; empty when the error came inside a stream.
        body: Bytes,
    },
    /// The answer is not what the protocol says: wrong content type, malformed JSON, no end.
    #[error("the provider's answer cannot be used: {0}")]
    Malformed(String),
    /// The connection broke while the answer was read.
    #[error("the provider's answer was cut: {0}")]
    Cut(String),
    /// The provider failed so often of late that it is left alone for a while.
    #[error("the provider failed repeatedly and is not asked for another {} s", retry_after.as_secs())]
    CircuitOpen {
        /// When it will be asked again.
        retry_after: Duration,
    },
    /// The gateway stops, and with it what it was passing on.
    #[error("the gateway is shutting down")]
    ShuttingDown,
    /// This kind of provider has no such operation.
    #[error("{0}")]
    Unsupported(String),
}

/// The name of the deadline on making a connection.
pub const CONNECT: &str = "connect";

impl UpstreamError {
    /// Judges an answer that is not 2xx. `retry_after` is that of its headers.
    pub fn of_status(status: u16, retry_after: Option<Duration>, body: Bytes) -> Self {
        let error = read_error(status, &body);
        // Whatever the body says: the address leads elsewhere, or the model is gone, neither of
        // which the caller can mend.
        let kind = match status {
            300..=399 | 405 => ErrorKind::Server,
            410 => ErrorKind::NotFound,
            _ => error.kind,
        };
        let retry_after = retry_after.or(error.retry_after);
        let error = ProviderError { kind, retry_after, ..error };
        Self::of_error(status, error, body)
    }

    /// The provider's status, where it sent one that says so.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Credential { status }
            | Self::Failed { status, .. }
            | Self::Rejected { status, .. } => Some(*status),
            Self::NotFound { .. } => Some(404),
            Self::RateLimited { .. } => Some(429),
            _ => None,
        }
    }

    /// Judges an error inside an answer whose status said nothing of it.
    pub fn of_event(error: ProviderError) -> Self {
        Self::of_error(200, error, Bytes::new())
    }

    fn of_error(status: u16, error: ProviderError, body: Bytes) -> Self {
        let retry_after = error.retry_after;
        match error.kind {
            ErrorKind::Authentication | ErrorKind::Billing | ErrorKind::Permission => {
                Self::Credential { status }
            }
            ErrorKind::RateLimit => Self::RateLimited { retry_after },
            // One that names another field is about something that the caller names: a stored item.
            ErrorKind::NotFound if error.param.as_deref().is_none_or(|param| param == "model") => {
                Self::NotFound { message: error.message }
            }
            ErrorKind::Truncated => Self::Cut(error.message),
            ErrorKind::Malformed => Self::Malformed(error.message),
            ErrorKind::Overloaded | ErrorKind::Timeout | ErrorKind::Server => {
                Self::Failed { status, message: error.message, retry_after }
            }
            ErrorKind::InvalidRequest
            | ErrorKind::NotFound
            | ErrorKind::ContextLength
            | ErrorKind::ContentPolicy
            | ErrorKind::TooLarge => Self::Rejected { status, error: Box::new(error), body },
        }
    }

    /// One fixed snake_case label each.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "provider_unreachable",
            Self::Timeout { .. } => "provider_timeout",
            Self::Credential { .. } => "provider_credential_rejected",
            Self::RateLimited { .. } => "provider_rate_limited",
            Self::NotFound { .. } => "provider_model_not_found",
            Self::Failed { .. } => "provider_failed",
            Self::Rejected { error, .. } => match error.kind {
                ErrorKind::ContextLength => "provider_context_length_exceeded",
                ErrorKind::ContentPolicy => "provider_content_policy",
                _ => "provider_rejected_request",
            },
            Self::Malformed(_) => "provider_malformed_answer",
            Self::Cut(_) => "provider_answer_cut",
            Self::CircuitOpen { .. } => "provider_circuit_open",
            Self::ShuttingDown => "gateway_shutting_down",
            Self::Unsupported(_) => "provider_operation_unsupported",
        }
    }

    /// Whether the same provider may succeed when it is asked again.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Connect(_)
                | Self::Timeout { .. }
                | Self::RateLimited { .. }
                | Self::Failed { .. }
                | Self::Malformed(_)
                | Self::Cut(_)
        )
    }

    /// Whether the provider may charge for the prompt: it had the whole request when it was given up.
    pub fn may_be_charged(&self) -> bool {
        match self {
            Self::Timeout { deadline, .. } => *deadline != CONNECT,
            Self::ShuttingDown => true,
            _ => false,
        }
    }

    /// Whether another credential may succeed.
    pub fn is_of_credential(&self) -> bool {
        matches!(self, Self::Credential { .. } | Self::RateLimited { .. })
    }

    /// Whether it speaks against the deployment's health: not what the caller's request, the
    /// gateway's credential or the account's limits brought about.
    pub fn is_fault(&self) -> bool {
        self.is_retryable() && !self.is_of_credential()
    }

    /// What the provider refused the request for, when it did.
    pub fn rejection(&self) -> Option<ErrorKind> {
        match self {
            Self::Rejected { error, .. } => Some(error.kind),
            _ => None,
        }
    }

    /// When the provider wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::Failed { retry_after, .. } => *retry_after,
            Self::CircuitOpen { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// The same for a caller's surface.
    pub fn to_provider_error(&self) -> ProviderError {
        let kind = match self {
            Self::Rejected { error, .. } => return ProviderError::clone(error),
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::RateLimited { .. } => ErrorKind::RateLimit,
            Self::Failed { status: 503 | 529, .. }
            | Self::CircuitOpen { .. }
            | Self::ShuttingDown => ErrorKind::Overloaded,
            Self::Cut(_) => ErrorKind::Truncated,
            Self::Malformed(_) => ErrorKind::Malformed,
            Self::Unsupported(_) => ErrorKind::InvalidRequest,
            Self::Connect(_)
            | Self::Credential { .. }
            | Self::NotFound { .. }
            | Self::Failed { .. } => ErrorKind::Server,
        };
        let code = Some(self.label().to_owned());
        let retry_after = self.retry_after();
        ProviderError { code, retry_after, ..ProviderError::new(kind, self.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_model_is_the_configurations_and_a_missing_item_the_callers() {
        let judged = |param: &str| {
            let body = format!(
                r#"{{"error":{{"message":"no such thing","type":"not_found_error","param":{param}}}}}"#
            );
            UpstreamError::of_status(404, None, body.into()).label()
        };
        assert_eq!(judged("null"), "provider_model_not_found");
        assert_eq!(judged("\"model\""), "provider_model_not_found");
        assert_eq!(judged("\"input\""), "provider_rejected_request");
    }
}

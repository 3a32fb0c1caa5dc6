//! Every error of the surfaces: status, JSON, `Retry-After`. Nothing else in the program knows
//! status codes. Shapes and codes: PROTOCOLS, section 5.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::Value;

use super::headers::{add_answer, add_decision, add_pace, name, set};
use crate::{
    gateway::GatewayError,
    ledger::{book::AccessError, budget::Kind},
    protocol::{
        fields::RequestError,
        json::{RawObject, object},
        neutral::{ErrorKind, Surface},
    },
    upstream::UpstreamError,
};

/// Why a request gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The body is not a request of its surface.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// A field of another body cannot be used.
    #[error("`{param}`: {message}")]
    Field {
        /// The field.
        param: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Feedback has nowhere to go.
    #[error("decisions are not logged: set `log` under `[decisions]` in the configuration")]
    NoDecisionLog,
    /// A header cannot be read.
    #[error("`{name}`: {message}")]
    Header {
        /// Its name.
        name: HeaderName,
        /// What is wrong with it.
        message: String,
    },
    /// The body is larger than the configuration allows.
    #[error("the body is larger than {limit} bytes (`max_body_bytes` in the configuration)")]
    BodyTooLarge {
        /// The bound in bytes.
        limit: usize,
    },
    /// The body did not arrive in time.
    #[error("the body did not arrive within {} s", .0.as_secs())]
    BodyTimeout(Duration),
    /// The connection broke while the body was read.
    #[error("the body ended early")]
    BodyCut,
    /// Not JSON.
    #[error("`content-type`: `{0}` is not supported; send `application/json`")]
    UnsupportedMediaType(String),
    /// No such path.
    #[error("there is nothing at {0}")]
    NoSuchPath(String),
    /// The path exists, the method does not.
    #[error("{path} does not answer to {method}")]
    MethodNotAllowed {
        /// The path.
        path: String,
        /// The method.
        method: String,
    },
    /// `GET /v1/models/{id}` for an unknown model.
    #[error("there is no model or policy `{0}`")]
    NoSuchModel(String),
    /// The classifier is not loaded yet; `/ready` alone says so.
    #[error("the classifier is still loading")]
    NotReady,
    /// No key, or one that opens nothing.
    #[error("{0}")]
    Access(#[from] AccessError),
    /// The gateway refused or failed.
    #[error("{0}")]
    Gateway(#[from] GatewayError),
}

impl ApiError {
    /// The closed fault-domain label, in `code` and in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Request(_) | Self::Field { .. } => "caller_invalid_request",
            Self::NoDecisionLog => "gateway_no_decision_log",
            Self::Header { .. } => "caller_invalid_header",
            Self::BodyTooLarge { .. } => "caller_body_too_large",
            Self::BodyTimeout(_) => "caller_body_timeout",
            Self::BodyCut => "caller_body_cut",
            Self::UnsupportedMediaType(_) => "caller_unsupported_media_type",
            Self::NoSuchPath(_) => "caller_unknown_path",
            Self::MethodNotAllowed { .. } => "caller_method_not_allowed",
            Self::NoSuchModel(_) => "caller_unknown_model",
            Self::NotReady => "gateway_not_ready",
            Self::Access(AccessError::Address) => "caller_forbidden",
            Self::Access(_) => "caller_unauthenticated",
            Self::Gateway(error) => error.label(),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Request(_) | Self::Field { .. } | Self::Header { .. } | Self::BodyCut => {
                StatusCode::BAD_REQUEST
            }
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout(_) => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NoSuchPath(_) | Self::NoSuchModel(_) | Self::NoDecisionLog => {
                StatusCode::NOT_FOUND
            }
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotReady | Self::Gateway(GatewayError::LedgerUnavailable { .. }) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Access(AccessError::Address) | Self::Gateway(GatewayError::Forbidden(_)) => {
                StatusCode::FORBIDDEN
            }
            Self::Access(_) => StatusCode::UNAUTHORIZED,
            Self::Gateway(GatewayError::Refused { refusal, .. }) => match refusal.budget.kind {
                Kind::Budget => StatusCode::PAYMENT_REQUIRED,
                Kind::Limit => StatusCode::TOO_MANY_REQUESTS,
            },
            Self::Gateway(GatewayError::UnknownModel { .. }) => StatusCode::NOT_FOUND,
            Self::Gateway(
                GatewayError::BadOverride(_)
                | GatewayError::Request(_)
                | GatewayError::NoEligibleModel(_),
            ) => StatusCode::BAD_REQUEST,
            Self::Gateway(GatewayError::Upstream { error, .. }) => upstream_status(error),
        }
    }

    /// The field or header at fault. Unlike the message it holds nothing of the caller's text.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Request(error) | Self::Gateway(GatewayError::Request(error)) => {
                error.param.as_deref()
            }
            Self::Header { name, .. } => Some(name.as_str()),
            Self::Field { param, .. } => Some(param),
            Self::Gateway(GatewayError::UnknownModel { .. }) | Self::NoSuchModel(_) => {
                Some("model")
            }
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Gateway(GatewayError::Upstream { error, .. }) => error.retry_after(),
            Self::Gateway(GatewayError::Refused { refusal, .. }) => {
                let ms = refusal.retry_after_ms?;
                // Rounded up: a second too early would be refused again.
                u64::try_from(ms).ok().map(|ms| Duration::from_secs(ms.div_ceil(1_000)))
            }
            _ => None,
        }
    }
}

/// What a caller sees when the last candidate failed. The gateway's own credential being rejected
/// is not the caller's 401.
fn upstream_status(error: &UpstreamError) -> StatusCode {
    match error {
        UpstreamError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        UpstreamError::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
        UpstreamError::Failed { status: 503 | 529, .. }
        | UpstreamError::CircuitOpen { .. }
        | UpstreamError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        UpstreamError::Rejected { status, .. } => match StatusCode::from_u16(*status) {
            Ok(status) if status.is_client_error() => status,
            _ => StatusCode::BAD_REQUEST,
        },
        UpstreamError::Unsupported(_) => StatusCode::BAD_REQUEST,
        UpstreamError::Connect(_)
        | UpstreamError::Credential { .. }
        | UpstreamError::NotFound { .. }
        | UpstreamError::Failed { .. }
        | UpstreamError::Malformed(_)
        | UpstreamError::Cut(_) => StatusCode::BAD_GATEWAY,
    }
}

/// OpenAI's `type` for a status.
fn error_type(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => "timeout_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    }
}

/// Anthropic's `error.type` for a status.
fn anthropic_error_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 | 408 => "timeout_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// Anthropic's status for a provider that has no room; there is no 503 there.
const OVERLOADED: u16 = 529;

impl ApiError {
    /// The error in a surface's own shape.
    pub fn on(&self, surface: Surface, request_id: &str) -> Response {
        let status = self.status();
        let (status, body) = match surface {
            Surface::Anthropic => {
                let status = match status {
                    StatusCode::SERVICE_UNAVAILABLE => {
                        StatusCode::from_u16(OVERLOADED).unwrap_or(status)
                    }
                    status => status,
                };
                (status, self.anthropic_body(status, request_id))
            }
            Surface::OpenAiChat | Surface::OpenAiCompletions | Surface::OpenAiResponses => {
                (status, self.openai_body(status))
            }
        };
        let (body, upstream_id) = match self.providers_own_body(surface, request_id) {
            Some((body, id)) => (body, id),
            None => (body.into(), None),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if let Some(id) = upstream_id {
            set(headers, name!("x-upstream-request-id"), id);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(after) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if let Self::Gateway(GatewayError::Refused { refusal, .. }) = self {
            add_pace(headers, &refusal.pace());
        }
        if let Self::Gateway(error) = self
            && let Some(routed) = error.routed()
        {
            let attempts = match error {
                GatewayError::Upstream { attempts, overhead, .. } => {
                    add_answer(headers, *overhead, None);
                    *attempts
                }
                _ => 0,
            };
            add_decision(headers, routed, attempts);
        }
        response
    }

    /// The provider's own words about a request that it calls wrong, where they are in the
    /// surface's shape. An Anthropic body names the request: it is given our name, as the headers
    /// have it, and the provider's comes beside it.
    fn providers_own_body(
        &self,
        surface: Surface,
        request_id: &str,
    ) -> Option<(Bytes, Option<String>)> {
        let Self::Gateway(GatewayError::Upstream {
            error: UpstreamError::Rejected { body, .. },
            ..
        }) = self
        else {
            return None;
        };
        let read: serde_json::Map<String, Value> = serde_json::from_slice(body).ok()?;
        let is_anthropic = read.get("type").is_some_and(|kind| kind == "error");
        let error = read.get("error").and_then(Value::as_object)?;
        let is_typed =
            ["message", "type"].iter().all(|f| error.get(*f).is_some_and(Value::is_string));
        if !is_typed || is_anthropic != (surface == Surface::Anthropic) {
            return None;
        }
        if surface != Surface::Anthropic {
            return Some((body.clone(), None));
        }
        let upstream_id = read.get("request_id").and_then(Value::as_str).map(str::to_owned);
        let mut body = RawObject::parse(body).ok()?;
        body.set_str("request_id", request_id);
        Some((body.to_bytes().into(), upstream_id))
    }

    /// What the caller is told.
    fn message(&self) -> String {
        match self {
            Self::Gateway(GatewayError::Upstream {
                error: UpstreamError::Rejected { error, .. },
                ..
            }) => error.message.clone(),
            other => other.to_string(),
        }
    }

    fn openai_body(&self, status: StatusCode) -> Vec<u8> {
        let kind = match (status, self.rejection()) {
            (StatusCode::PAYMENT_REQUIRED, _) => "insufficient_quota",
            (_, Some(_)) => "invalid_request_error",
            (status, None) => error_type(status),
        };
        // The code that OpenAI's SDKs know for this.
        let code = match self.rejection() {
            Some(ErrorKind::ContextLength) => "context_length_exceeded",
            _ => self.label(),
        };
        let error = object! {
            "message": self.message(), "type": kind, "param": self.param(), "code": code,
        };
        object! { "error": error }.to_bytes()
    }

    fn anthropic_body(&self, status: StatusCode, request_id: &str) -> Vec<u8> {
        let error = object! {
            "type": anthropic_error_type(status),
            "message": self.message(),
            "code": self.label(),
        };
        object! { "type": "error", "error": error, "request_id": request_id }.to_bytes()
    }

    fn rejection(&self) -> Option<ErrorKind> {
        match self {
            Self::Gateway(GatewayError::Upstream { error, .. }) => error.rejection(),
            _ => None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.on(Surface::OpenAiChat, "")
    }
}

//! Every error of the admin API: status, code, and a sentence that names the field and the fix.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use super::super::error::ApiError;
use crate::{
    config::{ConfigError, Problems},
    gateway::ReloadError,
    ledger::{secret::NoRandomness, store::StoreError},
};

/// Why the admin API does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminError {
    /// No token.
    #[error(
        "an admin token is needed: send it as `Authorization: Bearer …`, or log in with \
         `POST /admin/session`"
    )]
    NoToken,
    /// A token that opens nothing, and where it was shown.
    #[error(
        "the token is not the one of `token_env` or `viewer_token_env` under [admin] in the \
         configuration"
    )]
    WrongToken(&'static str),
    /// A cookie of no session, or none.
    #[error("there is no such session, or it is over: log in with `POST /admin/session`")]
    NoSession,
    /// A change by cookie without the session's token.
    #[error("a change by cookie needs the session's `csrf_token` in the header `x-csrf-token`")]
    NoCsrfToken,
    /// The page of another site makes the browser send this.
    #[error("the browser says that another site's page sent this: such requests are not taken")]
    CrossSite,
    /// A viewer who wants to change something.
    #[error("a viewer's token only reads: use the master token")]
    ReadOnly,
    /// Wrong tokens came from this address too often.
    #[error("too many wrong tokens came from this address: try again in {} s", seconds(.0))]
    TooManyFailures(Duration),
    /// There are no keys and budgets without a ledger.
    #[error("no ledger is kept: add a [ledger] table to the configuration and restart")]
    NoLedger,
    /// What was sent is not of its schema.
    #[error("{message}")]
    Shape {
        /// The field, header or parameter.
        param: Option<String>,
        /// What is wrong with it, and what to send instead.
        message: String,
    },
    /// It is, and the value does not work.
    #[error("`{param}`: {message}")]
    Value {
        /// The field or parameter.
        param: &'static str,
        /// What is wrong with it, and what to send instead.
        message: String,
    },
    /// The path's id names nothing.
    #[error("there is no {kind} `{id}`")]
    Missing {
        /// `key`, `team` …
        kind: &'static str,
        /// The id.
        id: String,
    },
    /// It cannot be done as things are.
    #[error("{message}")]
    Conflict {
        /// The field at fault, if it is one.
        param: Option<&'static str>,
        /// Why, and what would let it.
        message: String,
    },
    /// The configuration file owns the record.
    #[error("{kind} `{id}` is declared in the configuration file: change it there and reload")]
    OwnedByConfiguration {
        /// `key`, `team` …
        kind: &'static str,
        /// The id.
        id: String,
    },
    /// The store failed, or found the change wrong.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The change is stored, but the running gateway could not read it back.
    #[error("the change is stored and comes into force once the database answers again")]
    NotYetInForce(#[source] StoreError),
    /// No secret could be made.
    #[error("{0}")]
    Randomness(#[from] NoRandomness),
    /// No table could be written.
    #[error("no CSV can be written: {0}")]
    Csv(csv::Error),
    /// The configuration was not reloaded.
    #[error("{0}")]
    Reload(#[from] ReloadError),
    /// What the public listener says in the same case: paths, methods, bodies.
    #[error("{0}")]
    Edge(#[from] ApiError),
}

/// Rounded up: a second too early would be refused again.
fn seconds(wait: &Duration) -> u64 {
    wait.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX)
}

impl AdminError {
    /// The same, where `id` is the path's: what is missing beside it is the field `reference`.
    pub(super) fn of_change(error: StoreError, id: &str, reference: &'static str) -> Self {
        match error {
            StoreError::Missing { kind, id: missing } if missing == id => {
                Self::Missing { kind, id: missing }
            }
            StoreError::Missing { .. } | StoreError::WrongParent { .. } => {
                Self::Value { param: reference, message: error.to_string() }
            }
            other => other.into(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::WrongToken(_) | Self::NoSession => StatusCode::UNAUTHORIZED,
            Self::ReadOnly | Self::NoCsrfToken | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::TooManyFailures(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NoLedger | Self::Missing { .. } => StatusCode::NOT_FOUND,
            Self::Shape { .. } => StatusCode::BAD_REQUEST,
            Self::Value { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict { .. } | Self::OwnedByConfiguration { .. } => StatusCode::CONFLICT,
            Self::Store(error) => match error {
                StoreError::NameTaken { .. } | StoreError::InUse { .. } => StatusCode::CONFLICT,
                StoreError::Missing { .. } => StatusCode::NOT_FOUND,
                StoreError::WrongParent { .. } | StoreError::TooMuch => {
                    StatusCode::UNPROCESSABLE_ENTITY
                }
                error if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::NotYetInForce(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Randomness(_)
            | Self::Csv(_)
            | Self::Reload(ReloadError::Client(_) | ReloadError::Broken(_)) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Reload(ReloadError::NoFile) => StatusCode::CONFLICT,
            Self::Reload(ReloadError::Ledger(error)) if error.is_retryable() => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Reload(ReloadError::Config(_) | ReloadError::Ledger(_)) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::Edge(error) => error.status(),
        }
    }

    /// One word for each kind of error, for programs.
    fn code(&self) -> &'static str {
        match self {
            Self::NoToken | Self::WrongToken(_) => "caller_unauthenticated",
            Self::NoSession => "caller_no_session",
            Self::ReadOnly => "caller_forbidden",
            Self::NoCsrfToken => "caller_no_csrf_token",
            Self::CrossSite => "caller_cross_site",
            Self::TooManyFailures(_) => "caller_too_many_failures",
            Self::NoLedger => "gateway_no_ledger",
            Self::Shape { .. } => "caller_invalid_request",
            Self::Value { .. } => "caller_invalid_value",
            Self::Missing { .. } => "caller_unknown_record",
            Self::Conflict { .. } => "caller_conflict",
            Self::OwnedByConfiguration { .. } => "gateway_owned_by_configuration",
            Self::Store(error) => match error {
                StoreError::NameTaken { .. } => "caller_name_taken",
                StoreError::InUse { .. } => "caller_in_use",
                StoreError::Missing { .. } => "caller_unknown_record",
                StoreError::WrongParent { .. } | StoreError::TooMuch => "caller_invalid_value",
                error if error.is_retryable() => "gateway_ledger_unavailable",
                _ => "gateway_ledger_failed",
            },
            Self::NotYetInForce(_) => "gateway_ledger_unavailable",
            Self::Randomness(_) => "gateway_no_randomness",
            Self::Reload(ReloadError::NoFile) => "gateway_no_configuration_file",
            Self::Reload(ReloadError::Ledger(error)) if error.is_retryable() => {
                "gateway_ledger_unavailable"
            }
            Self::Reload(ReloadError::Config(_) | ReloadError::Ledger(_)) => {
                "gateway_invalid_configuration"
            }
            Self::Csv(_) | Self::Reload(ReloadError::Client(_) | ReloadError::Broken(_)) => {
                "gateway_failed"
            }
            Self::Edge(error) => error.label(),
        }
    }

    fn param(&self) -> Option<String> {
        match self {
            Self::Shape { param, .. } => param.clone(),
            Self::Value { param, .. } => Some((*param).to_owned()),
            Self::Conflict { param, .. } => param.map(str::to_owned),
            Self::NoToken => Some("authorization".to_owned()),
            Self::WrongToken(param) => Some((*param).to_owned()),
            Self::NoSession => Some("cookie".to_owned()),
            Self::NoCsrfToken => Some("x-csrf-token".to_owned()),
            Self::Store(StoreError::NameTaken { .. }) => Some("name".to_owned()),
            Self::Store(StoreError::WrongParent { .. }) => Some("parent".to_owned()),
            Self::Store(StoreError::TooMuch) => Some("by".to_owned()),
            Self::Edge(error) => error.param().map(str::to_owned),
            _ => None,
        }
    }

    /// What the caller is told. Of the database's own words only the log hears.
    fn message(&self) -> String {
        match self {
            Self::Store(StoreError::NameTaken { .. }) => format!("`name`: {self}: choose another"),
            Self::Store(error) if self.status().is_server_error() => match error.is_retryable() {
                true => "the ledger's database does not answer: try again".to_owned(),
                false => "the ledger's database failed: the log says how".to_owned(),
            },
            Self::Reload(ReloadError::NoFile) => {
                format!("{self}: start with `--config FILE`")
            }
            other => other.to_string(),
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooManyFailures(wait) => Some(seconds(wait)),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => None,
        }
    }

    fn problems(&self) -> Option<Vec<Problem>> {
        match self {
            Self::Reload(ReloadError::Config(ConfigError::Invalid(problems))) => {
                Some(Problem::all(problems))
            }
            _ => None,
        }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::error!(error = ?self, "the admin API failed");
        }
        let error = ErrorDetail {
            message: self.message(),
            code: self.code().to_owned(),
            param: self.param(),
            problems: self.problems(),
        };
        let mut response = (status, Json(ErrorBody { error })).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after));
        }
        response
    }
}

/// The body of every error.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorDetail,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorDetail {
    /// A sentence that names the field and the fix.
    message: String,
    /// One word for each kind of error, for programs.
    code: String,
    /// The field, parameter or header at fault.
    param: Option<String>,
    /// Of a configuration that was not reloaded: all that is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Vec<Problem>>,
}

/// One problem of the configuration file.
#[derive(Serialize, ToSchema)]
pub(super) struct Problem {
    /// Its line, from 1.
    line: u64,
    /// Its column, in characters from 1.
    column: u64,
    /// The setting, as a dotted path; empty for a mistake in the file's syntax.
    setting: String,
    /// What is wrong.
    message: String,
    /// What to do about it.
    help: Option<String>,
}

impl Problem {
    pub(super) fn all(problems: &Problems) -> Vec<Self> {
        let one = |(line, column, problem): &(usize, usize, crate::config::Problem)| Self {
            line: *line as u64,
            column: *column as u64,
            setting: problem.path.clone(),
            message: problem.message.clone(),
            help: problem.suggestion.clone(),
        };
        problems.list.iter().map(one).collect()
    }
}

/// 201, for what was made.
pub(super) fn created<T: Serialize>(body: T) -> Response {
    (StatusCode::CREATED, Json(body)).into_response()
}

/// 204, for what is gone.
pub(super) fn gone() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// The errors of a question.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only the OpenAPI document reads it")]
pub(super) enum Asking {
    /// The path or a parameter is not of the schema.
    #[response(status = 400)]
    Shape(ErrorBody),
    /// No token or session, or a wrong one.
    #[response(status = 401)]
    Token(ErrorBody),
    /// Nothing has this id, or no ledger is kept.
    #[response(status = 404)]
    Missing(ErrorBody),
    /// A parameter's value does not work.
    #[response(status = 422)]
    Value(ErrorBody),
    /// Too many wrong tokens; `retry-after` says how long to wait.
    #[response(status = 429)]
    Failures(ErrorBody),
    /// The gateway failed.
    #[response(status = 500)]
    Failed(ErrorBody),
    /// The database does not answer.
    #[response(status = 503)]
    Away(ErrorBody),
}

/// The errors of a change.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only the OpenAPI document reads it")]
pub(super) enum Changing {
    /// The path or the body is not of the schema.
    #[response(status = 400)]
    Shape(ErrorBody),
    /// No token or session, or a wrong one.
    #[response(status = 401)]
    Token(ErrorBody),
    /// A viewer, or a change by cookie that the session's own page did not ask for.
    #[response(status = 403)]
    ReadOnly(ErrorBody),
    /// Nothing has this id, or no ledger is kept.
    #[response(status = 404)]
    Missing(ErrorBody),
    /// The body did not arrive in time.
    #[response(status = 408)]
    Slow(ErrorBody),
    /// The name is taken, something still belongs to it, or the configuration file owns it.
    #[response(status = 409)]
    Conflict(ErrorBody),
    /// The body is too large.
    #[response(status = 413)]
    Large(ErrorBody),
    /// The body is not JSON.
    #[response(status = 415)]
    Kind(ErrorBody),
    /// A field's value does not work.
    #[response(status = 422)]
    Value(ErrorBody),
    /// Too many wrong tokens; `retry-after` says how long to wait.
    #[response(status = 429)]
    Failures(ErrorBody),
    /// The gateway failed.
    #[response(status = 500)]
    Failed(ErrorBody),
    /// The database does not answer.
    #[response(status = 503)]
    Away(ErrorBody),
}

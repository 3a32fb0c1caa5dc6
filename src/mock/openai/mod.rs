//! The OpenAI dialect: paths, and the way of a request to its reply.
//!
//! [`reply`] is the dialect's only entry. Chat, text completions and embeddings each have a
//! module that parses the request and renders the answer; what they share is here.

mod chat;
mod completions;
mod embeddings;
mod error;
mod fields;
mod generation;
mod inputs;
mod messages;
mod tools;

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};

use self::error::ApiError;
use self::fields::Fields;
use super::directives::{self, Directives};
use super::reply::Reply;
use super::sequence::StatusSequences;

/// The models that are listed; every other name is answered just as well.
const MODELS: [&str; 2] = ["mock-small", "mock-large"];
/// The bearer token that is always refused.
const BAD_KEY: &str = "bad-key";

/// The answer to one request.
pub(super) fn reply(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Reply {
    let answered = route(parts, body, sequences);
    answered.unwrap_or_else(|error| Reply::json(error.status, error.to_body()))
}

/// The answer to a request whose body passed `max_bytes`.
pub(super) fn too_large(max_bytes: usize) -> Reply {
    let error = ApiError::too_large(max_bytes);
    Reply::json(error.status, error.to_body())
}

fn route(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Result<Reply, ApiError> {
    let path = parts.uri.path();
    let resource = path.strip_prefix("/v1").unwrap_or(path);
    let allowed = match resource {
        "/chat/completions" | "/completions" | "/embeddings" => Method::POST,
        "/models" | "/health" => Method::GET,
        _ if resource.starts_with("/models/") => Method::GET,
        _ => return Err(ApiError::unknown_path(parts.method.as_str(), path)),
    };
    if parts.method != allowed {
        return Err(ApiError::wrong_method(parts.method.as_str(), path));
    }
    if resource == "/health" {
        return Ok(ok(&json!({"status": "ok"})));
    }
    check_key(&parts.headers)?;
    match resource {
        "/chat/completions" => chat::reply(&Call::parse(body)?, sequences),
        "/completions" => completions::reply(&Call::parse(body)?, sequences),
        "/embeddings" => embeddings::reply(&Call::parse(body)?, sequences),
        "/models" => Ok(ok(&json!({"object": "list", "data": MODELS.map(model_card)}))),
        _ => {
            let model = resource.strip_prefix("/models/").unwrap_or_default();
            let known = MODELS.into_iter().find(|name| *name == model);
            known.map(|name| ok(&model_card(name))).ok_or_else(|| ApiError::unknown_model(model))
        }
    }
}

fn check_key(headers: &HeaderMap) -> Result<(), ApiError> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match authorization.and_then(|value| value.split_once(' ')) {
        Some((scheme, BAD_KEY)) if scheme.eq_ignore_ascii_case("bearer") => {
            Err(ApiError::bad_key(BAD_KEY))
        }
        _ => Ok(()),
    }
}

fn ok(body: &Value) -> Reply {
    Reply::json(StatusCode::OK, body.to_string().into_bytes())
}

/// The first second of 2025: the list is the same at every start.
fn model_card(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 1_735_689_600, "owned_by": "scripted"})
}

/// A request to generate something, as far as all three kinds are alike.
struct Call {
    request: serde_json::Map<String, Value>,
    /// The `model` as it was sent, directives included.
    model_string: String,
    /// The name before the directives.
    model: String,
    directives: Directives,
}

impl Call {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
            return Err(ApiError::bad_json());
        };
        let model_string = Fields::new(&request).required_string("model")?.to_owned();
        let (model, directives) = directives::parse_model(&model_string)
            .map_err(|error| ApiError::invalid("model", "invalid_directive", error.to_string()))?;
        let model = model.to_owned();
        Ok(Self { request, model_string, model, directives })
    }

    fn fields(&self) -> Fields<'_> {
        Fields::new(&self.request)
    }

    /// The status of this request in its sequence; asked once, when the request is known to be
    /// valid.
    fn status(&self, sequences: &StatusSequences) -> StatusCode {
        let directives = &self.directives;
        let says_error = directives.error.is_some() && !directives.error_200;
        match sequences.next(&self.model_string, &directives.statuses) {
            Some(status) => status,
            None if says_error && directives.error_frame.is_none() => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            None => StatusCode::OK,
        }
    }

    /// What the script says in place of an answer.
    fn instead(&self, status: StatusCode, streams: bool) -> Option<Reply> {
        let error_body = |status| ApiError::scripted(status, &self.directives).to_body();
        Reply::instead(status, streams, &self.directives, error_body)
    }
}

/// Seconds since 1970.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

//! The OpenAI dialect: paths, and the way of a request to its reply.
//!
//! [`reply`] is the dialect's only entry. Chat, text completions, embeddings and responses each
//! have a module that parses the request and renders the answer; what they share is here. Azure
//! serves the same resources elsewhere and decorates the answers: it calls [`answer`].

mod chat;
mod completions;
pub(super) mod embeddings;
mod error;
mod fields;
mod generation;
mod inputs;
mod messages;
mod responses;
mod tools;

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Map, Value, json};

pub(super) use self::error::ApiError;
use self::fields::Fields;
use super::answer::Ended;
use super::azure;
use super::frames::StreamFormat;
use super::reply::Reply;
use super::script::{ErrorAnswer, Fault, Script, refusal};
use super::sequence::StatusSequences;

/// The models that are listed; every other name is answered just as well.
pub(super) const MODELS: [&str; 2] = ["mock-small", "mock-large"];

/// The answer to one request.
pub(super) fn reply(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Reply {
    let answered = route(parts, body, sequences);
    answered.unwrap_or_else(|error| Reply::error(error.to_answer()))
}

/// The answer to a request whose body passed `max_bytes`.
pub(super) fn too_large(max_bytes: usize) -> Reply {
    Reply::error(ApiError::too_large(max_bytes).to_answer())
}

fn route(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Result<Reply, ApiError> {
    let path = parts.uri.path();
    let resource = path.strip_prefix("/v1").unwrap_or(path);
    let allowed = match resource {
        "/chat/completions" | "/completions" | "/embeddings" | "/responses" => Method::POST,
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
        "/models" => Ok(ok(&json!({"object": "list", "data": MODELS.map(model_card)}))),
        _ if parts.method == Method::GET => {
            let model = resource.strip_prefix("/models/").unwrap_or_default();
            let known = MODELS.into_iter().find(|name| *name == model);
            known.map(|name| ok(&model_card(name))).ok_or_else(|| ApiError::unknown_model(model))
        }
        _ => answer(resource, &Call::parse(body, Flavour::OpenAi)?, sequences),
    }
}

/// The reply to a call of one of the resources.
pub(super) fn answer(
    resource: &str,
    call: &Call,
    sequences: &StatusSequences,
) -> Result<Reply, ApiError> {
    match resource {
        "/chat/completions" => chat::reply(call, sequences),
        "/completions" => completions::reply(call, sequences),
        "/embeddings" => embeddings::reply(call, sequences),
        "/responses" => responses::reply(call, sequences),
        _ => Err(ApiError::unknown_path("POST", resource)),
    }
}

fn check_key(headers: &HeaderMap) -> Result<(), ApiError> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, key)) = authorization.and_then(|value| value.split_once(' ')) else {
        return Ok(());
    };
    match refusal(key).filter(|_| scheme.eq_ignore_ascii_case("bearer")) {
        Some(StatusCode::UNAUTHORIZED) => {
            let message = format!("Incorrect API key provided: {key}.");
            Err(ApiError::scripted(&Fault::saying(StatusCode::UNAUTHORIZED, message)))
        }
        Some(status) => Err(ApiError::scripted(&Fault::of(status))),
        None => Ok(()),
    }
}

pub(super) fn ok(body: &Value) -> Reply {
    Reply::json(StatusCode::OK, body.to_string().into_bytes())
}

/// The first second of 2025: the list is the same at every start.
fn model_card(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 1_735_689_600, "owned_by": "scripted"})
}

/// Whose answers these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    OpenAi,
    /// With the results of its content filter, and errors of its own.
    Azure,
}

impl Flavour {
    /// A whole body, decorated.
    fn body(self, body: Vec<u8>) -> Vec<u8> {
        match self {
            Self::OpenAi => body,
            Self::Azure => azure::with_filter_results(body),
        }
    }

    /// What comes before the first chunk of a stream.
    fn opening(self) -> Option<Vec<u8>> {
        (self == Self::Azure).then(azure::filter_chunk)
    }
}

/// A request to generate something, as far as all kinds are alike.
pub(super) struct Call {
    request: Map<String, Value>,
    script: Script,
    flavour: Flavour,
}

impl Call {
    /// Reads a body that names its model.
    pub fn parse(body: &[u8], flavour: Flavour) -> Result<Self, ApiError> {
        let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
            return Err(ApiError::bad_json());
        };
        let model_string = Fields::new(&request).required_string("model")?.to_owned();
        Self::of(request, &model_string, flavour)
    }

    /// A body whose model is named by the path.
    pub fn to_deployment(body: &[u8], deployment: &str) -> Result<Self, ApiError> {
        let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
            return Err(ApiError::bad_json());
        };
        Self::of(request, deployment, Flavour::Azure)
    }

    fn of(request: Map<String, Value>, model: &str, flavour: Flavour) -> Result<Self, ApiError> {
        let script = Script::parse(model)
            .map_err(|error| ApiError::invalid("model", "invalid_directive", error.to_string()))?;
        Ok(Self { request, script, flavour })
    }

    fn fields(&self) -> Fields<'_> {
        Fields::new(&self.request)
    }

    fn status(&self, sequences: &StatusSequences) -> StatusCode {
        self.script.status(sequences)
    }

    /// What the script says in place of an answer.
    fn instead(&self, status: StatusCode, streams: bool) -> Option<Reply> {
        let format = streams.then_some(StreamFormat::Events);
        self.script.instead(status, format, |fault| self.error(fault))
    }

    fn error(&self, fault: &Fault) -> ErrorAnswer {
        match self.flavour {
            Flavour::OpenAi => ApiError::scripted(fault).to_answer(),
            Flavour::Azure => azure::error(fault),
        }
    }

    fn error_body(&self, fault: &Fault) -> Vec<u8> {
        self.error(fault).body
    }
}

/// OpenAI's word for why an answer ends.
fn finish_word(ended: &Ended) -> &'static str {
    match ended {
        Ended::Stop | Ended::StopText(_) => "stop",
        Ended::Length => "length",
        Ended::Calls => "tool_calls",
    }
}

/// Seconds since 1970.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

//! The Anthropic dialect: `/v1/messages`, `/v1/messages/count_tokens` and `/v1/models`, also
//! under `/anthropic`.
//!
//! `request` checks a request and reads what the answer is about, `answer` writes messages and
//! their streams. Sources: Anthropic API reference, "Messages", "Streaming Messages", "Errors",
//! "Extended thinking"; refusals use the sentences of api.anthropic.com.

mod answer;
mod request;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use self::answer::Message;
use self::request::Request;
use super::frames::StreamFormat;
use super::openai::{MODELS, ok};
use super::reader::{Bad, Problem, Reader};
use super::reply::Reply;
use super::script::{Cause, ErrorAnswer, Fault, Script, refusal};
use super::sequence::StatusSequences;
use super::wire::generate;

/// Whether the request speaks this dialect.
pub(super) fn claims(parts: &Parts) -> bool {
    let path = resource(parts.uri.path());
    path == "/messages"
        || path.starts_with("/messages/")
        || (path.starts_with("/models") && parts.headers.contains_key("anthropic-version"))
}

/// The path under the version, with or without `/anthropic`.
fn resource(path: &str) -> &str {
    let path = path.strip_prefix("/anthropic").unwrap_or(path);
    path.strip_prefix("/v1").unwrap_or(path)
}

/// The answer to one request.
pub(super) fn reply(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Reply {
    route(parts, body, sequences).unwrap_or_else(|fault| Reply::error(error(&fault)))
}

fn route(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Result<Reply, Fault> {
    check_headers(&parts.headers)?;
    match (&parts.method, resource(parts.uri.path())) {
        (&Method::POST, "/messages") => messages(body, sequences),
        (&Method::POST, "/messages/count_tokens") => count_tokens(body, sequences),
        (&Method::GET, "/models") => Ok(ok(&models())),
        (&Method::GET, path) => model(path.strip_prefix("/models/").unwrap_or_default()),
        (_, "/messages" | "/messages/count_tokens") => {
            Err(Fault::saying(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"))
        }
        _ => Err(Fault::saying(StatusCode::NOT_FOUND, "Not Found")),
    }
}

fn messages(body: &[u8], sequences: &StatusSequences) -> Result<Reply, Fault> {
    let object = parse(body)?;
    let script = script(&object)?;
    let request = Request::parse(&Reader::new(&object), &script.model).map_err(bad)?;
    let question = request.question.clone();
    let status = script.status(sequences);
    let streams = request.streams.then_some(StreamFormat::Events);
    let instead = script.instead(status, streams, error);
    let answer = || generate(&question, &script, status, streams, Message::new);
    Ok(instead.unwrap_or_else(answer))
}

fn count_tokens(body: &[u8], sequences: &StatusSequences) -> Result<Reply, Fault> {
    let object = parse(body)?;
    let script = script(&object)?;
    let input_tokens = request::count_tokens(&Reader::new(&object), &script.model).map_err(bad)?;
    let input_tokens = script.directives.tokens_in.unwrap_or(input_tokens);
    let status = script.status(sequences);
    let body = json!({"input_tokens": input_tokens}).to_string().into_bytes();
    let instead = script.instead(status, None, error);
    Ok(instead.unwrap_or_else(|| Reply::whole(status, body, &script.directives)))
}

fn parse(body: &[u8]) -> Result<Map<String, Value>, Fault> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(request)) => Ok(request),
        _ => Err(Fault::saying(StatusCode::BAD_REQUEST, "The request body is not valid JSON")),
    }
}

fn script(object: &Map<String, Value>) -> Result<Script, Fault> {
    let model = Reader::new(object).required_string("model").map_err(bad)?;
    Script::parse(model).map_err(|e| bad(Bad::says("model", e.to_string())))
}

fn check_headers(headers: &HeaderMap) -> Result<(), Fault> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION.as_str()).and_then(|value| value.split_once(' '));
    let Some(key) = text("x-api-key").or(bearer.map(|(_, key)| key)) else {
        let sentence = "x-api-key header is required";
        return Err(Fault::saying(StatusCode::UNAUTHORIZED, sentence));
    };
    if let Some(status) = refusal(key) {
        return Err(Fault::of(status));
    }
    if text("anthropic-version").is_none() {
        let sentence = "anthropic-version: header is required";
        return Err(Fault::saying(StatusCode::BAD_REQUEST, sentence));
    }
    Ok(())
}

fn models() -> Value {
    let [first, last] = MODELS;
    let data = MODELS.map(model_card);
    json!({"data": data, "has_more": false, "first_id": first, "last_id": last})
}

fn model(name: &str) -> Result<Reply, Fault> {
    let known = MODELS.into_iter().find(|known| *known == name);
    let unknown = || Fault::saying(StatusCode::NOT_FOUND, format!("model: {name}"));
    known.map(|name| ok(&model_card(name))).ok_or_else(unknown)
}

fn model_card(name: &str) -> Value {
    json!({"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"})
}

/// A refused request, in Anthropic's words.
fn bad(bad: Bad) -> Fault {
    let path = bad.dotted_path();
    let sentence = match bad.problem {
        Problem::Missing => format!("{path}: Field required"),
        Problem::NotA("a string") => format!("{path}: Input should be a valid string"),
        Problem::NotA("an array") => format!("{path}: Input should be a valid list"),
        Problem::NotA("an object") => format!("{path}: Input should be a valid dictionary"),
        Problem::NotA("an integer") => format!("{path}: Input should be a valid integer"),
        Problem::NotA(other) => format!("{path}: Input should be {other}"),
        Problem::Unknown => format!("{path}: Extra inputs are not permitted"),
        Problem::Says(sentence) if path.is_empty() => sentence,
        Problem::Says(sentence) => format!("{path}: {sentence}"),
    };
    Fault::saying(StatusCode::BAD_REQUEST, sentence)
}

/// `{"type":"error","error":{"type","message"},"request_id"}`.
pub(super) fn error(fault: &Fault) -> ErrorAnswer {
    let (kind, sentence) = match fault.status.as_u16() {
        400 if fault.cause == Cause::Context => {
            ("invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum")
        }
        400 if fault.cause == Cause::Policy => {
            ("invalid_request_error", "Output blocked by content filtering policy")
        }
        401 => ("authentication_error", "invalid x-api-key"),
        402 => ("billing_error", "Your credit balance is too low to access the Anthropic API."),
        403 => ("permission_error", "Your API key does not have permission to use this model."),
        404 => ("not_found_error", "model: not found"),
        413 => ("request_too_large", "Request exceeds the maximum size"),
        429 => ("rate_limit_error", "This request would exceed your organization's rate limit."),
        504 => ("timeout_error", "The request timed out."),
        529 => ("overloaded_error", "Overloaded"),
        500.. => ("api_error", "Internal server error"),
        _ => ("invalid_request_error", "The request is refused by the script."),
    };
    let kind = fault.kind.as_deref().unwrap_or(kind);
    let request_id = format!("req_{}", Uuid::now_v7().simple());
    let body = json!({
        "type": "error",
        "error": {"type": kind, "message": fault.sentence(sentence)},
        "request_id": request_id,
    });
    let mut answer = ErrorAnswer::new(fault.status, body.to_string().into_bytes());
    if let Ok(id) = HeaderValue::try_from(request_id) {
        answer.headers.push((axum::http::HeaderName::from_static("request-id"), id));
    }
    answer
}

//! The Bedrock dialect: `POST /model/{id}/converse`, `/converse-stream` and, for vectors, `/invoke`.
//!
//! `sigv4` checks the signature, `request` the request; `answer` writes answers and their events,
//! `frame` the frames around them; `embed` makes vectors. Source: Amazon Bedrock API reference,
//! "Converse", "ConverseStream", "InvokeModel", "Common errors".

mod answer;
mod embed;
mod frame;
mod request;
mod sigv4;

use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use self::answer::Conversing;
use super::frames::StreamFormat;
use super::reader::{Bad, Problem, Reader};
use super::reply::Reply;
use super::script::{Cause, ErrorAnswer, Fault, Script};
use super::sequence::StatusSequences;
use super::setting::percent_decode;
use super::wire::generate;

/// Whether the request speaks this dialect.
pub(super) fn claims(parts: &Parts) -> bool {
    parts.uri.path().starts_with("/model/")
}

/// The answer to one request.
pub(super) fn reply(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Reply {
    route(parts, body, sequences).unwrap_or_else(|fault| Reply::error(error(&fault)))
}

fn route(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Result<Reply, Fault> {
    sigv4::check(parts, body)?;
    let unknown = || named(StatusCode::NOT_FOUND, "UnknownOperationException", "");
    let path = parts.uri.path().strip_prefix("/model/").unwrap_or_default();
    let (model, operation) = path.rsplit_once('/').ok_or_else(unknown)?;
    let streams = match (&parts.method, operation) {
        (&Method::POST, "converse" | "invoke") => None,
        (&Method::POST, "converse-stream") => Some(StreamFormat::Amazon),
        _ => return Err(unknown()),
    };
    let model = percent_decode(model).ok_or_else(unknown)?;
    let script = Script::parse(&model).map_err(|e| bad(Bad::says("modelId", e.to_string())))?;
    let Ok(Value::Object(object)) = serde_json::from_slice(body) else {
        let sentence = "The request body is not a JSON object.";
        return Err(named(StatusCode::BAD_REQUEST, "SerializationException", sentence));
    };
    if operation == "invoke" {
        return embed::reply(&object, &script, sequences);
    }
    let question = request::question(&Reader::new(&object), &script.model).map_err(bad)?;
    let status = script.status(sequences);
    let instead = script.instead(status, streams, error);
    Ok(instead.unwrap_or_else(|| generate(&question, &script, status, streams, Conversing::new)))
}

/// A fault with the name of its exception.
fn named(status: StatusCode, exception: &str, sentence: &str) -> Fault {
    Fault { kind: Some(exception.to_owned()), ..Fault::saying(status, sentence) }
}

/// A refused request, in the words of AWS.
fn bad(bad: Bad) -> Fault {
    let path = bad.dotted_path();
    let sentence = match bad.problem {
        Problem::Missing => format!(
            "1 validation error detected: Value at '{path}' failed to satisfy constraint: Member must not be null"
        ),
        Problem::NotA(expected) => format!("Expected {expected} at '{path}'"),
        Problem::Unknown => format!("Unknown member '{path}'"),
        Problem::Says(sentence) => sentence,
    };
    Fault::saying(StatusCode::BAD_REQUEST, sentence)
}

/// The exception's name and sentence.
fn exception(fault: &Fault) -> (String, String) {
    let (name, sentence) = match fault.status.as_u16() {
        400 if fault.cause == Cause::Context => {
            ("ValidationException", "Input is too long for requested model.")
        }
        400 if fault.cause == Cause::Policy => (
            "ValidationException",
            "The content in this request is blocked by our content filters.",
        ),
        401 => (
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
        403 => (
            "AccessDeniedException",
            "You don't have access to the model with the specified model ID.",
        ),
        404 => (
            "ResourceNotFoundException",
            "Could not resolve the foundation model from the provided model identifier.",
        ),
        408 => ("ModelTimeoutException", "The request took too long to process."),
        424 => (
            "ModelErrorException",
            "The request failed due to an error while processing the model.",
        ),
        429 => ("ThrottlingException", "Too many requests, please wait before trying again."),
        503 => (
            "ServiceUnavailableException",
            "The service isn't currently available. Try again later.",
        ),
        500.. => (
            "InternalServerException",
            "The system encountered an unexpected error during processing. Try your request again.",
        ),
        _ => ("ValidationException", "The request is refused by the script."),
    };
    (fault.kind.clone().unwrap_or_else(|| name.to_owned()), fault.sentence(sentence))
}

/// `{"message"}`, and the exception's name in `x-amzn-errortype`.
fn error(fault: &Fault) -> ErrorAnswer {
    let (name, sentence) = exception(fault);
    let body = json!({"message": sentence}).to_string().into_bytes();
    let mut answer = ErrorAnswer::new(fault.status, body);
    let headers = [
        (
            "x-amzn-errortype",
            format!("{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"),
        ),
        ("x-amzn-requestid", Uuid::now_v7().to_string()),
    ];
    for (header, value) in headers {
        let value = HeaderValue::try_from(value);
        answer.headers.extend(value.map(|value| (HeaderName::from_static(header), value)));
    }
    answer
}

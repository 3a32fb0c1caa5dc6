//! The Cohere dialect: `POST /v2/chat` and `POST /v2/embed`.
//!
//! `request` checks a request and reads what the answer is about, `answer` writes answers and
//! their events. Source: Cohere API reference, version 2.

mod answer;
mod request;

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use self::answer::Chat;
use super::frames::StreamFormat;
use super::openai::embeddings::embed;
use super::reader::{Bad, Problem, Reader};
use super::reply::Reply;
use super::script::{Cause, ErrorAnswer, Fault, Script, refusal};
use super::sequence::StatusSequences;
use super::tokens;
use super::wire::generate;

/// As many as `embed-v4.0` has.
const EMBEDDING_DIMENSIONS: u64 = 1_536;
/// What vectors can be made for.
pub(super) const INPUT_TYPES: [&str; 5] =
    ["search_document", "search_query", "classification", "clustering", "image"];

/// Whether the request speaks this dialect.
pub(super) fn claims(parts: &Parts) -> bool {
    parts.uri.path().starts_with("/v2/")
}

/// The answer to one request.
pub(super) fn reply(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Reply {
    route(parts, body, sequences).unwrap_or_else(|fault| Reply::error(error(&fault)))
}

fn route(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Result<Reply, Fault> {
    check_key(&parts.headers)?;
    let path = parts.uri.path();
    if parts.method != Method::POST || !matches!(path, "/v2/chat" | "/v2/embed") {
        return Err(Fault::saying(StatusCode::NOT_FOUND, "404 page not found"));
    }
    let Ok(Value::Object(object)) = serde_json::from_slice(body) else {
        let sentence = "invalid request: the body is not a JSON object";
        return Err(Fault::saying(StatusCode::BAD_REQUEST, sentence));
    };
    let model = Reader::new(&object).required_string("model").map_err(bad)?;
    let script = Script::parse(model).map_err(|e| bad(Bad::says("model", e.to_string())))?;
    if path == "/v2/embed" {
        return embeddings(&object, &script, sequences);
    }
    let request = Reader::new(&object);
    let question = request::question(&request, &script.model).map_err(bad)?;
    let streams = request.boolean("stream").map_err(bad)?.then_some(StreamFormat::Events);
    let status = script.status(sequences);
    let instead = script.instead(status, streams, error);
    Ok(instead.unwrap_or_else(|| generate(&question, &script, status, streams, Chat::new)))
}

fn embeddings(
    object: &Map<String, Value>,
    script: &Script,
    sequences: &StatusSequences,
) -> Result<Reply, Fault> {
    let request = Reader::new(object);
    let texts = embedded_texts(&request).map_err(bad)?;
    let dimensions = request.unsigned("output_dimension").map_err(bad)?;
    let dimensions = dimensions.unwrap_or(EMBEDDING_DIMENSIONS).clamp(1, EMBEDDING_DIMENSIONS);
    let dimensions = usize::try_from(dimensions).unwrap_or(1);
    let vectors: Vec<_> = texts.iter().map(|text| embed(text, dimensions)).collect();
    let counted = texts.iter().map(|text| tokens::count(text)).sum();
    let input_tokens: u64 = script.directives.tokens_in.unwrap_or(counted);
    let answer = json!({
        "id": Uuid::now_v7().to_string(),
        "embeddings": {"float": vectors},
        "texts": texts,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": input_tokens}},
        "response_type": "embeddings_by_type",
    });
    let status = script.status(sequences);
    let body = answer.to_string().into_bytes();
    let answer = || Reply::whole(status, body, &script.directives);
    Ok(script.instead(status, None, error).unwrap_or_else(answer))
}

/// The texts, in `texts` or as the parts of `inputs`.
fn embedded_texts(request: &Reader<'_>) -> Result<Vec<String>, Bad> {
    let kind = request.required_string("input_type")?;
    if !INPUT_TYPES.contains(&kind) {
        return Err(Bad::says("input_type", format!("{kind} is not a valid input type")));
    }
    if request.strings("embedding_types")?.iter().any(|kind| kind != "float") {
        return Err(Bad::says("embedding_types", "only float is scripted"));
    }
    let mut texts = request.strings("texts")?;
    for input in request.objects("inputs")? {
        for part in input.objects("content")? {
            texts.push(part.string("text")?.unwrap_or_default().to_owned());
        }
    }
    if texts.is_empty() {
        return Err(Bad::says("texts", "at least one text is required"));
    }
    Ok(texts)
}

fn check_key(headers: &HeaderMap) -> Result<(), Fault> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = authorization.and_then(|value| value.split_once(' ')).map(|(_, key)| key);
    match key.map(refusal) {
        Some(None) => Ok(()),
        Some(Some(status)) => Err(Fault::of(status)),
        None => Err(Fault::saying(StatusCode::UNAUTHORIZED, "no api key supplied")),
    }
}

/// A refused request, in Cohere's words.
fn bad(bad: Bad) -> Fault {
    let path = bad.path;
    let sentence = match bad.problem {
        Problem::Missing => format!("invalid request: {path} is required"),
        Problem::NotA(expected) => format!("invalid type: parameter {path} should be {expected}"),
        Problem::Unknown => format!("unknown field: parameter '{path}' is not a valid field"),
        Problem::Says(sentence) => format!("invalid request: {path}: {sentence}"),
    };
    Fault::saying(StatusCode::BAD_REQUEST, sentence)
}

/// `{"id","message"}`.
fn error(fault: &Fault) -> ErrorAnswer {
    let body = json!({"id": Uuid::now_v7().to_string(), "message": sentence(fault)});
    ErrorAnswer::new(fault.status, body.to_string().into_bytes())
}

fn sentence(fault: &Fault) -> String {
    let sentence = match fault.status.as_u16() {
        400 if fault.cause == Cause::Context => {
            "too many tokens: size limit exceeded by 1 tokens. Try using shorter or fewer inputs. The limit is 128000 tokens."
        }
        400 if fault.cause == Cause::Policy => "your request was blocked by our safety system",
        401 => "invalid api token",
        402 => "your billing limit has been reached",
        403 => "you are not allowed to use this model",
        404 => {
            "model not found, make sure the correct model ID was used and that you have access to the model."
        }
        429 => "You are past the per minute request limit, please wait and try again later.",
        503 => "the service is overloaded, please try again later",
        504 => "the request timed out",
        500.. => "internal server error, this has been reported to our developers.",
        _ => "the request is refused by the script",
    };
    fault.sentence(sentence)
}

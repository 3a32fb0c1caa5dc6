//! The Azure OpenAI dialect: OpenAI's resources under deployment paths (and, with the model in
//! the body, under `/openai/v1`), with the results of the content filter and errors of Azure's
//! gateway. Source: Azure OpenAI REST API reference; "Content filtering".

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::openai::{self, ApiError, Call, Flavour};
use super::reply::Reply;
use super::script::{Cause, ErrorAnswer, Fault, refusal};
use super::sequence::StatusSequences;
use super::setting::percent_decode;

const DEPLOYMENTS: &str = "/openai/deployments/";
const VERSIONLESS: &str = "/openai/v1/";

/// Whether the request speaks this dialect.
pub(super) fn claims(parts: &Parts) -> bool {
    parts.uri.path().starts_with("/openai/")
}

/// The answer to one request.
pub(super) fn reply(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Reply {
    route(parts, body, sequences).unwrap_or_else(|fault| Reply::error(error(&fault)))
}

fn route(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Result<Reply, Fault> {
    check_key(&parts.headers)?;
    let not_found = || Fault::saying(StatusCode::NOT_FOUND, "Resource not found");
    if parts.method != Method::POST {
        return Err(not_found());
    }
    // A deployment's name that was not encoded brings its script's `?` into the path.
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let call = |call: Result<Call, ApiError>| call.map_err(|error| error.to_fault());
    let (resource, call) = if let Some(target) = target.strip_prefix(DEPLOYMENTS) {
        let (deployment, rest) = deployment_of(target).ok_or_else(not_found)?;
        check_version(rest)?;
        let resource = rest.split('?').next().unwrap_or_default();
        (resource, call(Call::to_deployment(body, &deployment))?)
    } else if let Some(resource) = parts.uri.path().strip_prefix(VERSIONLESS) {
        (resource, call(Call::parse(body, Flavour::Azure))?)
    } else {
        return Err(not_found());
    };
    openai::answer(&format!("/{resource}"), &call, sequences).map_err(|error| error.to_fault())
}

/// The name, decoded, and what follows: `chat/completions?api-version=…`.
fn deployment_of(target: &str) -> Option<(String, &str)> {
    let resources = ["/chat/completions", "/completions", "/embeddings"];
    let at = resources.iter().find_map(|resource| target.find(resource))?;
    let (name, rest) = target.split_at_checked(at)?;
    Some((percent_decode(name)?, rest.strip_prefix('/')?))
}

fn check_version(target: &str) -> Result<(), Fault> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let version = query.split('&').find_map(|pair| pair.strip_prefix("api-version="));
    match version.filter(|version| !version.is_empty()) {
        Some(_) => Ok(()),
        None => {
            let sentence = "The required query parameter 'api-version' is missing.";
            let fault = Fault::saying(StatusCode::BAD_REQUEST, sentence);
            Err(Fault { code: Some("MissingApiVersionParameter".to_owned()), ..fault })
        }
    }
}

fn check_key(headers: &HeaderMap) -> Result<(), Fault> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let key = text(HeaderName::from_static("api-key")).or(bearer);
    match key.map(refusal) {
        Some(None) => Ok(()),
        Some(Some(status)) => Err(Fault::of(status)),
        None => Err(Fault::of(StatusCode::UNAUTHORIZED)),
    }
}

/// The gateway's errors have a code and a message; the content filter says what it found.
pub(super) fn error(fault: &Fault) -> ErrorAnswer {
    let status = fault.status.as_u16();
    let (code, sentence) = match status {
        400 if fault.cause == Cause::Policy => return rejected(fault),
        400 if fault.cause == Cause::Context => (
            "context_length_exceeded",
            "This model's maximum context length is 128000 tokens. Please reduce the length of the messages.",
        ),
        401 => (
            "401",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource.",
        ),
        403 => ("403", "Access denied due to Virtual Network/Firewall rules."),
        404 => ("DeploymentNotFound", "The API deployment for this resource does not exist."),
        429 => ("429", "Requests have exceeded call rate limit of your current pricing tier."),
        500 => ("InternalServerError", "The server had an error while processing your request."),
        503 => ("ServiceUnavailable", "The service is temporarily unable to process your request."),
        _ => ("BadRequest", "The request is refused by the script."),
    };
    let code = fault.code.as_deref().unwrap_or(code);
    let mut message = fault.message.clone().unwrap_or_else(|| sentence.to_owned());
    if let Some(seconds) = fault.retry_s {
        message.push_str(&format!(" Please retry after {seconds} seconds."));
    }
    let mut object = json!({"code": code, "message": message});
    if let Some(kind) = &fault.kind {
        object["type"] = json!(kind);
    }
    answer(fault.status, json!({"error": object}))
}

fn rejected(fault: &Fault) -> ErrorAnswer {
    let default = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry.";
    let mut results = filter_results();
    results["violence"] = json!({"filtered": true, "severity": "high"});
    answer(
        fault.status,
        json!({"error": {
            "message": fault.sentence(default),
            "type": null,
            "param": "prompt",
            "code": "content_filter",
            "status": 400,
            "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": results},
        }}),
    )
}

fn answer(status: StatusCode, body: Value) -> ErrorAnswer {
    let mut answer = ErrorAnswer::new(status, body.to_string().into_bytes());
    let id = HeaderValue::try_from(uuid::Uuid::now_v7().to_string());
    answer.headers.extend(id.map(|id| (HeaderName::from_static("apim-request-id"), id)));
    answer
}

fn filter_results() -> Value {
    let safe = || json!({"filtered": false, "severity": "safe"});
    json!({"hate": safe(), "self_harm": safe(), "sexual": safe(), "violence": safe()})
}

fn prompt_filter_results() -> Value {
    json!([{"prompt_index": 0, "content_filter_results": filter_results()}])
}

/// The chunk before all others: the prompt's results, and no choices.
pub(super) fn filter_chunk() -> Vec<u8> {
    let chunk = json!({
        "choices": [],
        "created": 0,
        "id": "",
        "model": "",
        "object": "",
        "prompt_filter_results": prompt_filter_results(),
    });
    chunk.to_string().into_bytes()
}

/// A whole completion with the results for the prompt and for every choice.
pub(super) fn with_filter_results(body: Vec<u8>) -> Vec<u8> {
    let Ok(mut completion) = serde_json::from_slice::<Value>(&body) else { return body };
    let choices = completion.get_mut("choices").and_then(Value::as_array_mut);
    for choice in choices.into_iter().flatten() {
        choice["content_filter_results"] = filter_results();
    }
    completion["prompt_filter_results"] = prompt_filter_results();
    completion.to_string().into_bytes()
}

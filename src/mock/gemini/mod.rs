//! The Gemini dialect: `generateContent`, `streamGenerateContent`, `countTokens`,
//! `embedContent`, `batchEmbedContents` and the list of models under `/v1beta`.
//!
//! `request` checks a request and reads what the answer is about, `answer` writes responses and
//! chunks. Source: Gemini API reference (ai.google.dev/api); errors as google.rpc.Status.

mod answer;
mod request;

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Map, Value, json};

use self::answer::Content;
use super::frames::StreamFormat;
use super::openai::embeddings::embed;
use super::openai::{MODELS, ok};
use super::reader::{Bad, Problem, Reader};
use super::reply::Reply;
use super::script::{Cause, ErrorAnswer, Fault, Script, refusal};
use super::sequence::StatusSequences;
use super::setting::percent_decode;
use super::tokens;
use super::wire::generate;

const METHODS: [&str; 5] = [
    "generateContent",
    "streamGenerateContent",
    "countTokens",
    "embedContent",
    "batchEmbedContents",
];
/// As many as `gemini-embedding-001` has.
const EMBEDDING_DIMENSIONS: u64 = 3_072;

/// Whether the request speaks this dialect.
pub(super) fn claims(parts: &Parts) -> bool {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    target.starts_with("/v1beta/") || method_of(target).is_some()
}

/// The model string, the method and the query of `/v1beta/models/m:method?query`. The model's own
/// `?` may or may not be encoded, so the method is looked for from the end.
fn method_of(target: &str) -> Option<(String, &'static str, &str)> {
    let (_, target) = target.split_once("/models/")?;
    let found = METHODS.iter().find_map(|method| {
        let at = target.rfind(&format!(":{method}"))?;
        let rest = target.get(at + 1 + method.len()..)?;
        (rest.is_empty() || rest.starts_with('?')).then_some((at, *method, rest))
    });
    let (at, method, query) = found?;
    Some((percent_decode(target.get(..at)?)?, method, query))
}

/// The answer to one request.
pub(super) fn reply(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Reply {
    route(parts, body, sequences).unwrap_or_else(|fault| Reply::error(error(&fault)))
}

fn route(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Result<Reply, Fault> {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    check_key(&parts.headers, target)?;
    if parts.method == Method::GET {
        return models(parts.uri.path());
    }
    let Some((model, method, query)) = method_of(target).filter(|_| parts.method == Method::POST)
    else {
        return Err(Fault::saying(StatusCode::NOT_FOUND, "Requested entity was not found."));
    };
    let script =
        Script::parse(&model).map_err(|error| bad(Bad::says("model", error.to_string())))?;
    let Ok(Value::Object(object)) = serde_json::from_slice(body) else {
        let sentence = "Invalid JSON payload received. Expected an object.";
        return Err(Fault::saying(StatusCode::BAD_REQUEST, sentence));
    };
    let is_events = query.split(['?', '&']).any(|pair| pair == "alt=sse");
    let streams = if is_events { StreamFormat::Events } else { StreamFormat::JsonArray };
    match method {
        "generateContent" => content(&object, &script, None, sequences),
        "streamGenerateContent" => content(&object, &script, Some(streams), sequences),
        "countTokens" => count_tokens(&object, &script, sequences),
        _ => embeddings(&object, &script, method == "batchEmbedContents", sequences),
    }
}

fn content(
    object: &Map<String, Value>,
    script: &Script,
    streams: Option<StreamFormat>,
    sequences: &StatusSequences,
) -> Result<Reply, Fault> {
    let question = request::question(&Reader::of_protobuf(object), &script.model).map_err(bad)?;
    let status = script.status(sequences);
    let instead = match script.fault(status).cause {
        // A prompt that offends the policy is no error here, but an answer without candidates.
        Cause::Policy => {
            Some(Reply::whole(StatusCode::OK, answer::blocked(script), &script.directives))
        }
        _ => script.instead(status, streams, error),
    };
    Ok(instead.unwrap_or_else(|| generate(&question, script, status, streams, Content::new)))
}

fn count_tokens(
    object: &Map<String, Value>,
    script: &Script,
    sequences: &StatusSequences,
) -> Result<Reply, Fault> {
    let request = Reader::of_protobuf(object);
    request.only(&["contents", "generateContentRequest"]).map_err(bad)?;
    let counted = match request.object("generateContentRequest").map_err(bad)? {
        Some(inner) => request::question(&inner, &script.model),
        None => request::question(&request, &script.model),
    };
    let total = script.directives.tokens_in.unwrap_or(counted.map_err(bad)?.prompt_tokens);
    whole(
        script,
        sequences,
        &json!({
            "totalTokens": total,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}],
        }),
    )
}

fn embeddings(
    object: &Map<String, Value>,
    script: &Script,
    is_batch: bool,
    sequences: &StatusSequences,
) -> Result<Reply, Fault> {
    let request = Reader::of_protobuf(object);
    let answer = if is_batch {
        let requests = request.some_objects("requests").map_err(bad)?;
        let embeddings = requests.iter().map(embedding).collect::<Result<Vec<_>, _>>();
        json!({"embeddings": embeddings.map_err(bad)?})
    } else {
        json!({"embedding": embedding(&request).map_err(bad)?})
    };
    whole(script, sequences, &answer)
}

fn embedding(request: &Reader<'_>) -> Result<Value, Bad> {
    request.only(&["model", "content", "taskType", "title", "outputDimensionality"])?;
    let dimensions = request.unsigned("outputDimensionality")?.unwrap_or(EMBEDDING_DIMENSIONS);
    let dimensions = usize::try_from(dimensions.clamp(1, EMBEDDING_DIMENSIONS)).unwrap_or(1);
    let mut text = String::new();
    for part in request.required_object("content")?.some_objects("parts")? {
        text.push_str(part.required_string("text")?);
    }
    Ok(
        json!({"values": embed(&text, dimensions), "statistics": {"tokenCount": tokens::count(&text)}}),
    )
}

fn whole(script: &Script, sequences: &StatusSequences, answer: &Value) -> Result<Reply, Fault> {
    let status = script.status(sequences);
    let body = answer.to_string().into_bytes();
    let answer = || Reply::whole(status, body, &script.directives);
    Ok(script.instead(status, None, error).unwrap_or_else(answer))
}

fn models(path: &str) -> Result<Reply, Fault> {
    let card = |name: &str| {
        json!({
            "name": format!("models/{name}"),
            "version": "001",
            "displayName": name,
            "inputTokenLimit": 1_048_576,
            "outputTokenLimit": 65_536,
            "supportedGenerationMethods": METHODS,
        })
    };
    if path.ends_with("/models") {
        return Ok(ok(&json!({"models": MODELS.map(card)})));
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let known = MODELS.into_iter().find(|known| *known == name);
    let sentence = format!("Model is not found: models/{name} for api version v1beta");
    known.map(|name| ok(&card(name))).ok_or_else(|| Fault::saying(StatusCode::NOT_FOUND, sentence))
}

/// In a header, or in the query as `key`.
fn check_key(headers: &HeaderMap, target: &str) -> Result<(), Fault> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer =
        text(header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
    let in_query = target.split(['?', '&']).find_map(|pair| pair.strip_prefix("key="));
    match text("x-goog-api-key").or(bearer).or(in_query).map(refusal) {
        Some(None) => Ok(()),
        Some(Some(StatusCode::UNAUTHORIZED)) => {
            // Google answers 400 to a key that is none; the status is the script's all the same.
            let sentence = "API key not valid. Please pass a valid API key.";
            Err(Fault::saying(StatusCode::UNAUTHORIZED, sentence))
        }
        Some(Some(status)) => Err(Fault::of(status)),
        None => {
            let sentence = "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API consumer identity to call this API.";
            Err(Fault::saying(StatusCode::FORBIDDEN, sentence))
        }
    }
}

/// A refused request, in the words of Google's JSON transcoder.
fn bad(bad: Bad) -> Fault {
    let path = &bad.path;
    let sentence = match &bad.problem {
        Problem::Missing => format!("* {path}: {path} is not specified"),
        Problem::NotA(expected) => {
            format!("Invalid value at '{path}', {expected} was expected")
        }
        Problem::Unknown => {
            let (at, name) = path.rsplit_once('.').unwrap_or(("", path));
            let at = if at.is_empty() { String::new() } else { format!(" at '{at}'") };
            format!(
                "Invalid JSON payload received. Unknown name \"{name}\"{at}: Cannot find field."
            )
        }
        Problem::Says(sentence) if path.is_empty() => sentence.clone(),
        Problem::Says(sentence) => format!("* {path}: {sentence}"),
    };
    Fault::saying(StatusCode::BAD_REQUEST, sentence)
}

/// google.rpc.Status: `{"error":{"code","message","status","details"}}`.
pub(super) fn error(fault: &Fault) -> ErrorAnswer {
    let (status, sentence) = match fault.status.as_u16() {
        400 if fault.cause == Cause::Context => (
            "INVALID_ARGUMENT",
            "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
        ),
        401 => ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
        402 => ("FAILED_PRECONDITION", "Billing is not enabled for this project."),
        403 => ("PERMISSION_DENIED", "The caller does not have permission"),
        404 => ("NOT_FOUND", "Model is not found for api version v1beta."),
        408 | 504 => ("DEADLINE_EXCEEDED", "The request timed out. Please try again."),
        409 => ("ABORTED", "The operation was aborted."),
        429 => (
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing details.",
        ),
        503 => ("UNAVAILABLE", "The model is overloaded. Please try again later."),
        500.. => ("INTERNAL", "An internal error has occurred. Please retry."),
        _ => ("INVALID_ARGUMENT", "The request is refused by the script."),
    };
    let message = fault.message.as_deref().unwrap_or(sentence);
    let status = fault.kind.as_deref().or(fault.code.as_deref()).unwrap_or(status);
    let mut error = json!({"code": fault.status.as_u16(), "message": message, "status": status});
    if let Some(seconds) = fault.retry_s {
        error["details"] = json!([{
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{seconds}s"),
        }]);
    }
    ErrorAnswer::new(fault.status, json!({"error": error}).to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_method_is_the_last_of_its_kind_and_the_model_is_decoded() {
        let check = |target: &str, expected: Option<(&str, &str, &str)>| {
            let found = method_of(target);
            let found =
                found.as_ref().map(|(model, method, query)| (model.as_str(), *method, *query));
            assert_eq!(found, expected, "{target}");
        };
        let method = "generateContent";
        check("/v1beta/models/m:generateContent", Some(("m", method, "")));
        check("/v1beta/models/m%3Fcut=1:generateContent", Some(("m?cut=1", method, "")));
        check(
            "/v1/models/m?cut=1:streamGenerateContent?alt=sse",
            Some(("m?cut=1", "streamGenerateContent", "?alt=sse")),
        );
        check("/v1beta/models/m", None);
        check("/v1beta/models/m:generateContents", None);
    }
}

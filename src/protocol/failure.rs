//! Errors: what a provider says when it fails, and how a surface says it.
//!
//! The shapes read: `{"error":{"message","type","code","param"}}` (OpenAI and compatible
//! servers), `{"type":"error","error":{"type","message"}}` (Anthropic),
//! `{"error":{"code":429,"message","status","details":[…]}}` (Google), `{"message"}` with or
//! without `__type` (AWS, Cohere), `{"error":"…"}`, `{"detail":…}` (FastAPI servers), and the same
//! inside an array (Google's streams). Anything else is shown as the text that it is.

use std::time::Duration;

use super::{
    json::{Json, RawObject, object},
    neutral::{Dialect, ErrorKind, ProviderError},
};

/// Characters of a body that is not JSON that are shown.
const MAX_SHOWN_CHARS: usize = 300;
/// Longest wait that a body can ask for (chosen: a day; more is a mistake or an attack).
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads the body of a failed request. `status` says what it means when the body does not.
pub fn read_error(status: u16, body: &[u8]) -> ProviderError {
    let text = String::from_utf8_lossy(body);
    let Some(json) = Json::parse(&text) else {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown: String = text.chars().take(MAX_SHOWN_CHARS).collect();
        let shown = if shown.is_empty() { format!("status {status}, no body") } else { shown };
        return ProviderError::new(kind_of_status(Some(status)), shown);
    };
    let inner = json.read::<Vec<Json>>().and_then(|list| list.into_iter().next()).unwrap_or(json);
    let field = |name| object_of(&inner).and_then(|mut object| object.take(name));
    match field("error").filter(|error| !error.is_null()) {
        Some(error) if error.is_object() => from_error_value(&error, Some(status)),
        Some(error) if object_of(&inner).is_some_and(|o| o.get("message").is_some()) => {
            // `{"error":"Bad Request","message":"the reason"}`
            let mut found = from_error_value(&inner, Some(status));
            found.code = found.code.or(error.as_string());
            found
        }
        Some(error) => from_error_value(&error, Some(status)),
        None => from_error_value(&inner, Some(status)),
    }
}

/// Reads an error value: an object, or a string. `status` is that of the answer, if it was its
/// whole body.
pub fn from_error_value(error: &Json, status: Option<u16>) -> ProviderError {
    let mut object = object_of(error).unwrap_or_default();
    let mut text = |names: &[&str]| {
        names.iter().find_map(|name| {
            let value = object.take(name).filter(|value| !value.is_null())?;
            Some(value.as_string().unwrap_or_else(|| value.text().to_owned()))
        })
    };
    let message = text(&["message", "Message", "detail", "msg"])
        .or_else(|| error.as_string())
        .unwrap_or_else(|| "an error without a message".to_owned());
    let codes = [text(&["code"]), text(&["status"]), text(&["type", "__type"])];
    let param = text(&["param"]);
    let retry_after = text(&["retry_after", "retryDelay"])
        .and_then(|text| duration(&text))
        .or_else(|| retry_info(&object))
        .or_else(|| retry_in_message(&message));
    // Google writes the status into the body, also inside a 200 stream.
    let numeric = codes.iter().flatten().find_map(|code| code.parse::<u16>().ok());
    let status = status.filter(|status| *status >= 400).or(numeric);
    let words = codes.iter().flatten().find_map(|code| kind_of_word(code));
    let kind = kind_of_message(&message)
        .filter(|_| matches!(words, None | Some(ErrorKind::InvalidRequest)))
        .filter(|_| status.is_none_or(|status| matches!(status, 400 | 413 | 422 | 500)))
        .or(words)
        .unwrap_or_else(|| kind_of_status(status));
    let code = codes.into_iter().flatten().find(|code| code.parse::<u16>().is_err());
    ProviderError { kind, message, code, param, retry_after }
}

fn object_of(json: &Json) -> Option<RawObject> {
    RawObject::parse(json.text().as_bytes()).ok()
}

/// The words that providers put into `code`, `type`, `status` and exception names.
fn kind_of_word(word: &str) -> Option<ErrorKind> {
    // AWS: `com.amazon.coral.service#ThrottlingException`, `throttlingException:http://…`.
    let word = word.rsplit('#').next().unwrap_or(word);
    let word = word.split(':').next().unwrap_or(word);
    let plain: String =
        word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    Some(match plain.as_str() {
        "contextlengthexceeded" | "modelcontextwindowexceeded" => ErrorKind::ContextLength,
        "contentfilter" | "contentpolicyviolation" | "responsibleaipolicyviolation" => {
            ErrorKind::ContentPolicy
        }
        "invalidrequesterror"
        | "invalidargument"
        | "failedprecondition"
        | "validationexception"
        | "badrequest"
        | "outofrange" => ErrorKind::InvalidRequest,
        "authenticationerror"
        | "invalidapikey"
        | "unauthenticated"
        | "unauthorized"
        | "unrecognizedclientexception"
        | "expiredtokenexception" => ErrorKind::Authentication,
        "insufficientquota" | "billingerror" | "billinghardlimitreached" => ErrorKind::Billing,
        "permissionerror" | "permissiondenied" | "accessdeniedexception" => ErrorKind::Permission,
        "notfounderror" | "notfound" | "modelnotfound" | "resourcenotfoundexception" => {
            ErrorKind::NotFound
        }
        "requesttoolarge" => ErrorKind::TooLarge,
        "ratelimiterror"
        | "ratelimitexceeded"
        | "resourceexhausted"
        | "toomanyrequests"
        | "throttlingexception"
        | "servicequotaexceededexception"
        | "requests"
        | "tokens" => ErrorKind::RateLimit,
        "overloadederror"
        | "unavailable"
        | "serviceunavailableexception"
        | "overloaded"
        | "modelnotreadyexception"
        | "slowdown" => ErrorKind::Overloaded,
        "timeouterror" | "deadlineexceeded" | "modeltimeoutexception" => ErrorKind::Timeout,
        "servererror"
        | "apierror"
        | "internal"
        | "internalserverexception"
        | "internalerror"
        | "internalservererror"
        | "modelstreamerrorexception"
        | "modelerrorexception" => ErrorKind::Server,
        _ => return None,
    })
}

/// Sentences by which a too long prompt is known where no code says so: OpenAI-compatible
/// servers, Anthropic, Google, Bedrock.
fn kind_of_message(message: &str) -> Option<ErrorKind> {
    let message = message.to_ascii_lowercase();
    [
        "context length",
        "context window",
        "context_length",
        "prompt is too long",
        "input is too long",
        "too many tokens",
        "exceeds the maximum number of tokens",
        "input token count",
    ]
    .iter()
    .any(|phrase| message.contains(phrase))
    .then_some(ErrorKind::ContextLength)
}

fn kind_of_status(status: Option<u16>) -> ErrorKind {
    match status {
        Some(401) => ErrorKind::Authentication,
        Some(402) => ErrorKind::Billing,
        Some(403) => ErrorKind::Permission,
        Some(404) => ErrorKind::NotFound,
        Some(408 | 504) => ErrorKind::Timeout,
        Some(413) => ErrorKind::TooLarge,
        Some(429) => ErrorKind::RateLimit,
        Some(503 | 529) => ErrorKind::Overloaded,
        Some(400..=499) => ErrorKind::InvalidRequest,
        _ => ErrorKind::Server,
    }
}

/// `google.rpc.RetryInfo` among the details: `{"retryDelay":"37s"}`.
fn retry_info(error: &RawObject) -> Option<Duration> {
    let details: Vec<Json> = serde_json::from_str(error.get("details")?.get()).ok()?;
    details.iter().find_map(|detail| duration(&object_of(detail)?.take("retryDelay")?.as_string()?))
}

/// OpenAI: "Please try again in 1.244s", "… in 6m0s", "… in 120ms". Azure: "Please retry after 20
/// seconds."
fn retry_in_message(message: &str) -> Option<Duration> {
    let (_, rest) =
        ["try again in ", "retry after "].into_iter().find_map(|m| message.split_once(m))?;
    let mut words = rest.split_whitespace();
    let wait = duration(words.next()?.trim_end_matches(['.', ',']))?;
    let unit = words.next().unwrap_or_default();
    Some(if unit.starts_with("minute") { wait * 60 } else { wait })
}

/// `37s`, `1.5s`, `120ms`, `6m0s`, `1h2m3s`, or seconds without a unit.
fn duration(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    let mut number = String::new();
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_ascii_digit() || c == '.' {
            number.push(c);
            continue;
        }
        let value: f64 = number.parse().ok()?;
        number.clear();
        seconds += value
            * match c {
                'h' => 3600.0,
                'm' if chars.next_if_eq(&'s').is_some() => 0.001,
                'm' => 60.0,
                's' => 1.0,
                _ => return None,
            };
    }
    if !number.is_empty() {
        seconds += number.parse::<f64>().ok()?;
    }
    Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(MAX_RETRY_AFTER))
}

/// The error in a surface's own shape: the body of a failed answer, and for chat and Anthropic
/// also the data of the frame that ends a broken stream.
pub fn write_error(surface: Dialect, error: &ProviderError, request_id: &str) -> RawObject {
    let code = error.code.as_deref().unwrap_or_else(|| error.kind.label());
    if surface == Dialect::Anthropic {
        let inner = object! {
            "type": anthropic_type(error.kind), "message": error.message, "code": code,
        };
        return object! { "type": "error", "error": inner, "request_id": request_id };
    }
    object! { "error": object! {
        "message": error.message,
        "type": openai_type(error.kind),
        "param": error.param,
        "code": code,
    } }
}

/// OpenAI's `type`.
fn openai_type(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest
        | ErrorKind::ContextLength
        | ErrorKind::ContentPolicy
        | ErrorKind::TooLarge => "invalid_request_error",
        ErrorKind::Authentication => "authentication_error",
        ErrorKind::Billing => "insufficient_quota",
        ErrorKind::Permission => "permission_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::RateLimit => "rate_limit_error",
        ErrorKind::Timeout => "timeout_error",
        ErrorKind::Overloaded | ErrorKind::Server | ErrorKind::Truncated | ErrorKind::Malformed => {
            "server_error"
        }
    }
}

/// Anthropic's `error.type`.
fn anthropic_type(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::ContextLength | ErrorKind::ContentPolicy => {
            "invalid_request_error"
        }
        ErrorKind::Authentication => "authentication_error",
        ErrorKind::Billing => "billing_error",
        ErrorKind::Permission => "permission_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::RateLimit => "rate_limit_error",
        ErrorKind::Overloaded => "overloaded_error",
        ErrorKind::Timeout => "timeout_error",
        ErrorKind::Server | ErrorKind::Truncated | ErrorKind::Malformed => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_errors_are_understood_in_their_own_shapes() {
        for (status, body, kind, code, retry_ms) in [
            (
                429,
                r#"{"error":{"message":"Rate limit. Please try again in 1.244s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
                ErrorKind::RateLimit,
                Some("rate_limit_exceeded"),
                Some(1244),
            ),
            (
                429,
                r#"{"error":{"code":"429","message":"Requests have exceeded the call rate limit. Please retry after 20 seconds."}}"#,
                ErrorKind::RateLimit,
                None,
                Some(20_000),
            ),
            (
                429,
                r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                ErrorKind::Billing,
                Some("insufficient_quota"),
                None,
            ),
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens","type":"invalid_request_error","code":null}}"#,
                ErrorKind::ContextLength,
                Some("invalid_request_error"),
                None,
            ),
            (
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                ErrorKind::Overloaded,
                Some("overloaded_error"),
                None,
            ),
            (
                429,
                r#"[{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"37s"}]}}]"#,
                ErrorKind::RateLimit,
                Some("RESOURCE_EXHAUSTED"),
                Some(37_000),
            ),
            (
                400,
                r#"{"__type":"com.amazon.coral.service#ValidationException","message":"Input is too long for requested model."}"#,
                ErrorKind::ContextLength,
                Some("com.amazon.coral.service#ValidationException"),
                None,
            ),
            (401, r#"{"message":"invalid api token"}"#, ErrorKind::Authentication, None, None),
            (500, r#"{"error":"boom"}"#, ErrorKind::Server, None, None),
            (502, "<html>\n<b>Bad gateway</b></html>", ErrorKind::Server, None, None),
            (
                400,
                r#"{"detail":[{"msg":"field required"}]}"#,
                ErrorKind::InvalidRequest,
                None,
                None,
            ),
        ] {
            let error = read_error(status, body.as_bytes());
            assert_eq!(error.kind, kind, "{body}");
            assert_eq!(error.code.as_deref(), code, "{body}");
            assert_eq!(error.retry_after.map(|d| d.as_millis()), retry_ms, "{body}");
            assert!(!error.message.is_empty());
        }
    }

    #[test]
    fn waits_are_read_in_every_spelling() {
        for (text, ms) in [
            ("37s", Some(37_000)),
            ("6m0s", Some(360_000)),
            ("120ms", Some(120)),
            ("1h2m3.5s", Some(3_723_500)),
            ("2", Some(2_000)),
            ("99999999999999999999h", None),
            ("soon", None),
            ("-1s", None),
        ] {
            let wait = duration(text).map(|wait| wait.as_millis());
            let expected = ms.or((text.starts_with('9')).then(|| MAX_RETRY_AFTER.as_millis()));
            assert!(wait == ms || wait == expected, "{text}: {wait:?}");
        }
    }
}

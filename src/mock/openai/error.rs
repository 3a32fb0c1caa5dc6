//! OpenAI's error object, and the sentences OpenAI uses.
//!
//! Shape and wording follow the answers of api.openai.com (platform.openai.com/docs/guides/
//! error-codes); clients match on `type`, `code` and `param`, people read the message.

use axum::http::StatusCode;
use serde_json::json;

use super::super::script::{Cause, ErrorAnswer, Fault};

/// An error answer of the OpenAI API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct ApiError {
    pub status: StatusCode,
    message: String,
    kind: String,
    param: Option<String>,
    code: Option<String>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &str, message: impl Into<String>) -> Self {
        let (message, kind) = (message.into(), kind.to_owned());
        Self { status, message, kind, param: None, code: None }
    }

    /// A request that cannot be served as it is: status 400, naming the field.
    pub fn invalid(param: &str, code: &str, message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message);
        Self { param: Some(param.to_owned()), code: Some(code.to_owned()), ..error }
    }

    /// A field that must be there.
    pub fn missing(param: &str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self::invalid(param, "missing_required_parameter", message)
    }

    /// A field of another type, with articles: "a string", "an object".
    pub fn wrong_type(param: &str, expected: &str, got: &str) -> Self {
        let message =
            format!("Invalid type for '{param}': expected {expected}, but got {got} instead.");
        Self::invalid(param, "invalid_type", message)
    }

    /// A value that is none of those supported.
    pub fn unsupported(param: &str, value: &str, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|value| format!("'{value}'")).collect();
        let supported = supported.join(", ");
        let message = format!("Invalid value: '{value}'. Supported values are: {supported}.");
        Self::invalid(param, "invalid_value", message)
    }

    /// The body is no JSON object.
    pub fn bad_json() -> Self {
        let message = "We could not parse the JSON body of your request. (HINT: This likely means \
             you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, \
             but what was sent was not valid JSON.)";
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// No such path.
    pub fn unknown_path(method: &str, path: &str) -> Self {
        let message = format!("Invalid URL ({method} {path})");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }

    /// A path that exists for another method.
    pub fn wrong_method(method: &str, path: &str) -> Self {
        let message = format!(
            "Not allowed to {method} on {path} (HINT: Perhaps you meant to use a different HTTP method?)"
        );
        let error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message);
        Self { code: Some("method_not_supported".to_owned()), ..error }
    }

    /// A model that is not in the list.
    pub fn unknown_model(model: &str) -> Self {
        let message = format!("The model '{model}' does not exist");
        let error = Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message);
        Self { param: Some("model".to_owned()), code: Some("model_not_found".to_owned()), ..error }
    }

    /// The body could not be read within its bound.
    pub fn too_large(max_bytes: usize) -> Self {
        let message = format!("The request body is larger than {max_bytes} bytes.");
        let error = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message);
        Self { code: Some("request_too_large".to_owned()), ..error }
    }

    /// What the provider says with `status`, where the script does not say otherwise.
    pub fn scripted(fault: &Fault) -> Self {
        let (kind, code, message) = match fault.status.as_u16() {
            400 if fault.cause == Cause::Context => (
                "invalid_request_error",
                Some("context_length_exceeded"),
                "Your input exceeds the context window of this model. Please adjust your input and try again.",
            ),
            400 if fault.cause == Cause::Policy => (
                "invalid_request_error",
                Some("content_policy_violation"),
                "Your request was rejected as a result of our safety system.",
            ),
            401 => {
                ("invalid_request_error", Some("invalid_api_key"), "Incorrect API key provided.")
            }
            402 => ("insufficient_quota", Some("insufficient_quota"), "You have no credit left."),
            403 => ("permission_error", None, "You are not allowed to use this model."),
            404 => ("invalid_request_error", Some("model_not_found"), "The model does not exist."),
            408 => ("timeout_error", None, "The request timed out."),
            413 => {
                ("invalid_request_error", Some("request_too_large"), "The request is too large.")
            }
            429 => ("requests", Some("rate_limit_exceeded"), "Rate limit reached for requests."),
            503 => (
                "server_error",
                None,
                "The engine is currently overloaded, please try again later.",
            ),
            500.. => ("server_error", None, "The server had an error processing your request."),
            _ => ("invalid_request_error", None, "The request is refused by the script."),
        };
        Self {
            status: fault.status,
            message: fault.sentence(message),
            kind: fault.kind.clone().unwrap_or_else(|| kind.to_owned()),
            param: None,
            code: fault.code.clone().or_else(|| code.map(str::to_owned)),
        }
    }

    /// As an answer.
    pub fn to_answer(&self) -> ErrorAnswer {
        ErrorAnswer::new(self.status, self.to_body())
    }

    /// For a dialect that words errors otherwise.
    pub fn to_fault(&self) -> Fault {
        let Self { status, message, code, .. } = self.clone();
        Fault { code, ..Fault::saying(status, message) }
    }

    /// `{"error": {…}}`.
    pub fn to_body(&self) -> Vec<u8> {
        let Self { message, kind, param, code, .. } = self;
        let error = json!({"message": message, "type": kind, "param": param, "code": code});
        json!({ "error": error }).to_string().into_bytes()
    }
}

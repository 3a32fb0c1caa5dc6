//! Where each operation lives under a provider's base URL.
//!
//! Sources: the API references of OpenAI, Anthropic, Google AI, Azure OpenAI, AWS Bedrock Runtime
//! and Cohere.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{
    Uri,
    header::{AUTHORIZATION, HeaderMap, HeaderValue, PROXY_AUTHORIZATION},
    http::uri::Scheme,
};
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::{Api, Provider, UpstreamError};
use crate::protocol::{
    neutral::Dialect,
    translate::{invoke_path, request_path},
};

/// Where a request goes.
#[derive(Debug)]
pub struct Address {
    /// Without what stands before an `@`.
    pub url: Url,
    /// The same.
    pub uri: Uri,
    /// What the way there asks for: the secret of an address `user:password@host`, and that of a
    /// proxy which passes the request on.
    pub headers: HeaderMap,
}

impl Address {
    /// The address of a path under a base URL.
    pub fn new(base: &Url, path: &str, proxies: &Matcher) -> Result<Self, UpstreamError> {
        let invalid = |error: &dyn std::fmt::Display| {
            UpstreamError::Connect(format!("the URL is not valid: {error}"))
        };
        let mut url = base.join(path).map_err(|error| invalid(&error))?;
        let mut headers = HeaderMap::new();
        if let Some(secret) = basic(&mut url) {
            headers.insert(AUTHORIZATION, secret);
        }
        let uri = Uri::try_from(url.as_str()).map_err(|error| invalid(&error))?;
        // Where it only tunnels, the tunnel has the secret.
        if uri.scheme() == Some(&Scheme::HTTP)
            && let Some(proxy) = proxies.intercept(&uri)
            && let Some(secret) = proxy.basic_auth()
        {
            headers.insert(PROXY_AUTHORIZATION, secret.clone());
        }
        Ok(Self { url, uri, headers })
    }
}

/// Takes user and password out of a URL, as the header that says them (RFC 7617).
fn basic(url: &mut Url) -> Option<HeaderValue> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = (decoded(url.username()), url.password().map(decoded));
    if user.is_empty() && password.is_none() {
        return None;
    }
    // A URL with a host can always be without them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let secret = STANDARD.encode(format!("{user}:{}", password.unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {secret}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What a provider is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// An answer to a conversation, in this language.
    Converse {
        /// The language of body and answer.
        dialect: Dialect,
        /// Whether it is streamed.
        stream: bool,
    },
    /// OpenAI's older text completions.
    Complete,
    /// Vectors of texts.
    Embed,
    /// How many tokens a conversation has.
    CountTokens,
}

impl Provider {
    /// The path under a deployment's base URL, without a leading slash; `None` when this kind of
    /// provider has no such operation, or no such model can be (a name with a `..` in it would
    /// lead elsewhere).
    pub fn path(&self, operation: Operation, model: &str) -> Option<String> {
        if model.split('/').any(|segment| matches!(segment, "." | "..")) {
            return None;
        }
        let (name, model) = (model, &escaped(model));
        let plain = match operation {
            // This one escapes by itself.
            Operation::Converse { dialect: Dialect::Bedrock, stream } => {
                request_path(Dialect::Bedrock, name, stream)
            }
            Operation::Converse { dialect, stream } => request_path(dialect, model, stream),
            Operation::Complete => "completions".to_owned(),
            Operation::Embed => match self.api {
                Api::OpenAi | Api::Azure => "embeddings".to_owned(),
                Api::Gemini => format!("models/{model}:batchEmbedContents"),
                Api::Cohere => "embed".to_owned(),
                Api::Bedrock => invoke_path(name),
                Api::Anthropic => return None,
            },
            Operation::CountTokens => match self.api {
                Api::Anthropic => "messages/count_tokens".to_owned(),
                _ => return None,
            },
        };
        let version = &self.quirks.api_version;
        Some(match (self.api, operation) {
            // Responses have no deployment in their path: the body names it.
            (Api::Azure, Operation::Converse { dialect: Dialect::OpenAiResponses, .. }) => {
                format!("v1/{plain}?api-version=preview")
            }
            (Api::Azure, _) => format!("deployments/{model}/{plain}?api-version={version}"),
            _ => plain,
        })
    }
}

/// A model's name as part of a path (RFC 3986, section 3.3); its slashes stay.
fn escaped(model: &str) -> String {
    let mut path = String::with_capacity(model.len());
    for byte in model.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => path.push(byte.into()),
            b'-' | b'_' | b'.' | b'~' | b'/' | b':' | b'@' => path.push(byte.into()),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Credential;

    #[test]
    fn each_kind_of_provider_has_its_own_paths() {
        let chat = |stream| Operation::Converse { dialect: Dialect::OpenAiChat, stream };
        let gemini = Operation::Converse { dialect: Dialect::Gemini, stream: true };
        let bedrock = Operation::Converse { dialect: Dialect::Bedrock, stream: false };
        for (api, operation, expected) in [
            (Api::OpenAi, chat(true), Some("chat/completions")),
            (Api::OpenAi, Operation::CountTokens, None),
            (
                Api::Azure,
                chat(false),
                Some("deployments/a:b/chat/completions?api-version=2024-10-21"),
            ),
            (
                Api::Azure,
                Operation::Embed,
                Some("deployments/a:b/embeddings?api-version=2024-10-21"),
            ),
            (Api::Gemini, gemini, Some("models/a:b:streamGenerateContent?alt=sse")),
            (Api::Bedrock, bedrock, Some("model/a%3Ab/converse")),
            (Api::Bedrock, Operation::Embed, Some("model/a%3Ab/invoke")),
            (Api::Anthropic, Operation::CountTokens, Some("messages/count_tokens")),
            (Api::Cohere, Operation::Embed, Some("embed")),
        ] {
            let url = Url::parse("http://localhost/").unwrap();
            let provider = Provider::new("p", api, url, Credential::None);
            assert_eq!(provider.path(operation, "a:b").as_deref(), expected, "{api:?}");
        }
    }

    #[test]
    fn a_models_name_cannot_leave_its_place_in_the_path() {
        let url = Url::parse("http://localhost/").unwrap();
        let provider = Provider::new("p", Api::Gemini, url, Credential::None);
        let ask = Operation::Converse { dialect: Dialect::Gemini, stream: false };
        assert_eq!(provider.path(ask, "../../key"), None);
        let path = provider.path(ask, "a?key=b#c").unwrap();
        assert_eq!(path, "models/a%3Fkey%3Db%23c:generateContent");
    }
}

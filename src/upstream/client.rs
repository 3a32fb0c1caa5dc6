//! One attempt at an OpenAI-compatible provider.

use std::{error::Error as _, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Client, Response, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
};

use super::UpstreamError;
use crate::protocol::chunk::provider_error_message;

/// Bytes of an error body that are read (chosen: error objects are far smaller; HTML pages are
/// cut).
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// Characters of a provider's error text that are shown to the caller.
const MAX_SHOWN_CHARS: usize = 300;

/// A provider as the configuration describes it. The credential never prints.
#[derive(Clone)]
pub struct Provider {
    /// The name in the configuration.
    pub name: String,
    /// What paths such as `chat/completions` are appended to; ends with a slash.
    pub base_url: Url,
    /// `Bearer …`, marked sensitive; `None` for a server without keys.
    pub authorization: Option<HeaderValue>,
    /// Bound on making a connection.
    pub connect_timeout: Duration,
    /// Bound from sending the request to the head of the answer and, in a stream, from the head
    /// to the first content.
    pub first_byte_timeout: Duration,
    /// Bound on silence inside an answer.
    pub idle_timeout: Duration,
    /// Bound on the whole answer; `None` means none, because it would cut long streams.
    pub total_timeout: Option<Duration>,
    /// Whether the server understands `stream_options`.
    pub stream_usage: bool,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let authorization = self.authorization.as_ref().map(|_| "[redacted]");
        f.debug_struct("Provider")
            .field("name", &self.name)
            .field("base_url", &self.base_url.as_str())
            .field("authorization", &authorization)
            .finish_non_exhaustive()
    }
}

/// A client for each provider.
#[derive(Debug, Clone)]
pub struct Upstreams {
    providers: Vec<(Provider, Client)>,
}

/// The head of an answer whose body has not been read.
pub struct Attempt {
    response: Response,
    idle_timeout: Duration,
}

/// The clients cannot be built; the cause is the TLS setup of this machine.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client can be built: {0}")]
pub struct ClientError(#[from] reqwest::Error);

impl Upstreams {
    /// One client a provider, so that each keeps its own connections and deadlines.
    pub fn new(providers: Vec<Provider>) -> Result<Self, ClientError> {
        let providers = providers
            .into_iter()
            .map(|provider| {
                let client = Client::builder()
                    .connect_timeout(provider.connect_timeout)
                    // A redirect would carry the credential to a host that nobody configured.
                    .redirect(reqwest::redirect::Policy::none())
                    .user_agent(concat!("weighbridge/", env!("CARGO_PKG_VERSION")))
                    .tcp_nodelay(true)
                    .build()?;
                Ok((provider, client))
            })
            .collect::<Result<_, reqwest::Error>>()?;
        Ok(Self { providers })
    }

    /// The provider of this name.
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.find(name).map(|(provider, _)| provider)
    }

    fn find(&self, name: &str) -> Option<&(Provider, Client)> {
        self.providers.iter().find(|(provider, _)| provider.name == name)
    }

    /// Posts a JSON body to `path` under the provider's base URL and waits for the head of the
    /// answer. A status other than 2xx is an error, its body read and judged.
    pub async fn send(
        &self,
        provider: &str,
        path: &str,
        body: Vec<u8>,
        request_id: &str,
    ) -> Result<Attempt, UpstreamError> {
        let Some((provider, client)) = self.find(provider) else {
            return Err(UpstreamError::Connect(format!("no provider is named `{provider}`")));
        };
        let url = provider
            .base_url
            .join(path)
            .map_err(|error| UpstreamError::Connect(format!("the URL is not valid: {error}")))?;
        let mut request = client
            .post(url)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("x-request-id", request_id)
            .body(body);
        if let Some(total) = provider.total_timeout {
            request = request.timeout(total);
        }
        if let Some(authorization) = &provider.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let first_byte =
            UpstreamError::Timeout { deadline: "first_byte", limit: provider.first_byte_timeout };
        let response = tokio::time::timeout(provider.first_byte_timeout, request.send())
            .await
            .map_err(|_| first_byte)?
            .map_err(|error| connection_error(&error, provider))?;
        let attempt = Attempt { response, idle_timeout: provider.idle_timeout };
        if attempt.response.status().is_success() {
            Ok(attempt)
        } else {
            Err(attempt.into_error().await)
        }
    }
}

impl Attempt {
    /// The provider's headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Whether the content type is `expected`, parameters aside. A missing one is accepted:
    /// some servers leave it out and the body is checked anyway.
    pub fn is_content_type(&self, expected: &str) -> bool {
        match self.headers().get(CONTENT_TYPE).map(HeaderValue::to_str) {
            None => true,
            Some(Ok(found)) => found
                .split(';')
                .next()
                .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(expected)),
            Some(Err(_)) => false,
        }
    }

    /// The next bytes, `None` at the end. `limit` bounds the wait; the provider's idle deadline
    /// when `None`.
    pub async fn chunk(&mut self, limit: Option<Duration>) -> Result<Option<Bytes>, UpstreamError> {
        let (deadline, limit) = match limit {
            Some(limit) => ("first_byte", limit),
            None => ("idle", self.idle_timeout),
        };
        match tokio::time::timeout(limit, self.response.chunk()).await {
            Err(_) => Err(UpstreamError::Timeout { deadline, limit }),
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) if error.is_timeout() => {
                Err(UpstreamError::Timeout { deadline: "total", limit })
            }
            Ok(Err(error)) => Err(UpstreamError::Cut(cause(&error))),
        }
    }

    /// The whole body, at most `max_bytes` of it.
    pub async fn body(mut self, max_bytes: usize) -> Result<(HeaderMap, Bytes), UpstreamError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk(None).await? {
            if body.len() + chunk.len() > max_bytes {
                return Err(UpstreamError::Malformed(format!(
                    "it is larger than {max_bytes} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((std::mem::take(self.response.headers_mut()), body.freeze()))
    }

    /// Judges a status that is not 2xx.
    async fn into_error(mut self) -> UpstreamError {
        let status = self.response.status().as_u16();
        let retry_after = self.headers().get(RETRY_AFTER).and_then(seconds);
        let mut body = BytesMut::new();
        while let Ok(Some(chunk)) = self.chunk(None).await {
            let room = MAX_ERROR_BYTES - body.len();
            body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
            if body.len() >= MAX_ERROR_BYTES {
                break;
            }
        }
        let message = || shown(&body);
        match status {
            401..=403 => UpstreamError::Credential { status },
            404 => UpstreamError::NotFound { message: message() },
            408 | 409 | 425 | 500..=599 | 300..=399 => {
                UpstreamError::Failed { status, message: message(), retry_after }
            }
            429 => UpstreamError::RateLimited { retry_after },
            _ => UpstreamError::Rejected { status, body: body.freeze() },
        }
    }
}

/// `Retry-After` in seconds.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    let seconds: u32 = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

/// The provider's own sentence, or the start of whatever it sent.
fn shown(body: &[u8]) -> String {
    let text = provider_error_message(body).unwrap_or_else(|| {
        String::from_utf8_lossy(body).split_whitespace().collect::<Vec<_>>().join(" ")
    });
    if text.is_empty() {
        return "no body".to_owned();
    }
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

fn connection_error(error: &reqwest::Error, provider: &Provider) -> UpstreamError {
    if error.is_timeout() && error.is_connect() {
        UpstreamError::Timeout { deadline: "connect", limit: provider.connect_timeout }
    } else if error.is_timeout() {
        let limit = provider.total_timeout.unwrap_or_default();
        UpstreamError::Timeout { deadline: "total", limit }
    } else if error.is_connect() {
        UpstreamError::Connect(cause(error))
    } else {
        UpstreamError::Cut(cause(error))
    }
}

/// The innermost cause: reqwest's own message would repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut source = error.source();
    let mut message = None;
    while let Some(inner) = source {
        message = Some(inner.to_string());
        source = inner.source();
    }
    message.unwrap_or_else(|| "the connection failed".to_owned())
}

//! One attempt at a provider: a POST with its deadlines, and the head of the answer.

use std::{
    error::Error as _,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    Response,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::{
    Api, Credential, Observed, Operation, Provider, Slot, Tries, UpstreamError, connect::within,
    error::CONNECT, sign::add_signature, tries::Member,
};

/// Bytes of an error body that are read (chosen: error objects are far smaller; HTML pages are
/// cut).
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// How long the body of an error is waited for: its status says what to do next (chosen).
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// The version of Anthropic's API that is asked for when the caller names none.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// A client for each provider. A cheap handle.
#[derive(Debug, Clone)]
pub struct Upstreams {
    members: Arc<[Arc<Member>]>,
    tls: rustls::ClientConfig,
}

/// One request at a provider.
#[derive(Debug)]
pub struct Call<'a> {
    /// What is asked for.
    pub operation: Operation,
    /// The model, as the provider knows it.
    pub model: &'a str,
    /// JSON.
    pub body: Bytes,
    /// The caller's headers that go on: request id, trace, beta features.
    pub headers: HeaderMap,
    /// How long it may take.
    pub limits: Limits,
}

/// The deadlines of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bound on making a connection, where one is needed.
    pub connect: Duration,
    /// Bound from sending the request to the head of the answer, and from there to the first
    /// content.
    pub first_byte: Duration,
    /// Bound on silence inside an answer.
    pub idle: Duration,
    /// Bound on the whole answer.
    pub total: Option<Duration>,
}

/// The head of an answer whose body has not been read.
#[derive(Debug)]
pub struct Attempt {
    response: Response,
    limits: Limits,
    started: Instant,
}

/// No provider can be asked over TLS: this machine's certificates cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client can be built: {0}")]
pub struct ClientError(#[from] rustls::Error);

impl Upstreams {
    /// Clients for these providers. They are built by the threads that use them; what they all
    /// need of this machine is looked for here.
    pub fn new(providers: Vec<Provider>) -> Result<Self, ClientError> {
        let mut tls =
            rustls::ClientConfig::builder().with_platform_verifier()?.with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let member = |provider| Arc::new(Member::new(provider, tls.clone()));
        Ok(Self { members: providers.into_iter().map(member).collect(), tls })
    }

    /// Whom this machine trusts, for clients of others.
    pub fn tls(&self) -> &rustls::ClientConfig {
        &self.tls
    }

    /// The provider of this name.
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.find(name).map(|member| &member.provider)
    }

    fn find(&self, name: &str) -> Option<&Arc<Member>> {
        self.members.iter().find(|member| member.provider.name == name)
    }

    /// Opens the tries at one model.
    pub fn begin(&self, provider: &str, model: &str) -> Result<Tries, UpstreamError> {
        let Some(member) = self.find(provider) else {
            return Err(UpstreamError::Connect(format!("no provider is named `{provider}`")));
        };
        Ok(Tries::new(Arc::clone(member), model))
    }

    /// What is known of a model at this moment.
    pub fn observed(&self, provider: &str, model: &str) -> Observed {
        self.find(provider).map(|member| member.observed(model)).unwrap_or_default()
    }

    /// Makes one attempt and waits for the head of the answer. A status other than 2xx is an
    /// error, its body read and judged.
    pub async fn send(&self, slot: &Slot, call: Call<'_>) -> Result<Attempt, UpstreamError> {
        let started = Instant::now();
        let limits = call.limits;
        let request = request(slot, call)?;
        let response = within(limits.connect, request.send());
        let response = tokio::time::timeout(limits.first_byte, response)
            .await
            .map_err(|_| UpstreamError::Timeout {
                deadline: "first_byte",
                limit: limits.first_byte,
            })?
            .map_err(|error| connection_error(&error, limits))?;
        let attempt = Attempt { response, limits, started };
        if attempt.response.status().is_success() {
            Ok(attempt)
        } else {
            Err(attempt.into_error().await)
        }
    }
}

fn request(slot: &Slot, call: Call<'_>) -> Result<reqwest::RequestBuilder, UpstreamError> {
    let provider = slot.provider();
    let path = provider.path(call.operation, call.model);
    let Some(url) = path.and_then(|path| slot.url(&path)).transpose()? else {
        let (kind, model) = (provider.api.name(), call.model);
        let message = format!("a provider of the kind `{kind}` cannot do this with `{model}`");
        return Err(UpstreamError::Unsupported(message));
    };
    let mut headers = call.headers;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if provider.api == Api::Anthropic {
        headers.entry("anthropic-version").or_insert(ANTHROPIC_VERSION);
    } else {
        headers.remove("anthropic-version");
        headers.remove("anthropic-beta");
    }
    if let Operation::Converse { stream, .. } = call.operation {
        let accepted = match (stream, provider.api) {
            (true, Api::Bedrock) => "application/vnd.amazon.eventstream",
            (true, _) => "text/event-stream",
            (false, _) => "application/json",
        };
        headers.insert(ACCEPT, HeaderValue::from_static(accepted));
    }
    match slot.credential() {
        Some(Credential::Header(name, value)) => {
            headers.insert(name.clone(), value.clone());
        }
        Some(Credential::Aws(keys)) => {
            let region = &provider.quirks.region;
            add_signature(keys, region, &url, &call.body, &mut headers, SystemTime::now())?;
        }
        Some(Credential::None) | None => {}
    }
    let client = slot.client().map_err(|error| UpstreamError::Connect(error.to_string()))?;
    let mut request = client.post(url).headers(headers).body(call.body);
    if let Some(total) = call.limits.total {
        request = request.timeout(total);
    }
    Ok(request)
}

impl Attempt {
    /// The provider's headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// When the request was sent.
    pub fn started(&self) -> Instant {
        self.started
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

    /// The next bytes, `None` at the end. `limit` bounds the wait; the idle deadline when `None`.
    pub async fn chunk(&mut self, limit: Option<Duration>) -> Result<Option<Bytes>, UpstreamError> {
        let (deadline, limit) = match limit {
            Some(limit) => ("first_byte", limit),
            None => ("idle", self.limits.idle),
        };
        match tokio::time::timeout(limit, self.response.chunk()).await {
            Err(_) => Err(UpstreamError::Timeout { deadline, limit }),
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) if error.is_timeout() => Err(total_passed(self.limits)),
            Ok(Err(error)) => Err(UpstreamError::Cut(cause(&error))),
        }
    }

    /// The whole body, at most `max_bytes` of it. `read` is told how much has come, also of one that
    /// breaks off or is given up.
    pub async fn body(
        mut self,
        max_bytes: usize,
        mut read: impl FnMut(usize),
    ) -> Result<Bytes, UpstreamError> {
        let mut body = BytesMut::new();
        let mut limit = Some(self.limits.first_byte);
        while let Some(chunk) = self.chunk(limit.take()).await? {
            let length = body.len() + chunk.len();
            read(length);
            if length > max_bytes {
                return Err(UpstreamError::Malformed(format!(
                    "it is larger than {max_bytes} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// Judges a status that is not 2xx.
    async fn into_error(mut self) -> UpstreamError {
        let status = self.response.status().as_u16();
        let retry_after = retry_after(self.headers());
        let mut body = BytesMut::new();
        let read = async {
            while let Ok(Some(chunk)) = self.chunk(None).await {
                let room = MAX_ERROR_BYTES - body.len();
                body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
                if body.len() >= MAX_ERROR_BYTES {
                    break;
                }
            }
        };
        drop(tokio::time::timeout(ERROR_BODY_TIMEOUT, read).await);
        UpstreamError::of_status(status, retry_after, body.freeze())
    }
}

/// `retry-after-ms` (OpenAI, Azure) or `Retry-After` in seconds or as a date (RFC 9110, section
/// 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(ms) = text("retry-after-ms").and_then(|ms| ms.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(ms / 1e3).ok();
    }
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(Timestamp::now())).unwrap_or_default())
}

fn connection_error(error: &reqwest::Error, limits: Limits) -> UpstreamError {
    if error.is_timeout() && error.is_connect() {
        UpstreamError::Timeout { deadline: CONNECT, limit: limits.connect }
    } else if error.is_timeout() {
        total_passed(limits)
    } else if error.is_connect() {
        UpstreamError::Connect(cause(error))
    } else {
        UpstreamError::Cut(cause(error))
    }
}

fn total_passed(limits: Limits) -> UpstreamError {
    UpstreamError::Timeout { deadline: "total", limit: limits.total.unwrap_or_default() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_wait_comes_in_seconds_milliseconds_or_as_a_date() {
        let wish = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
            retry_after(&headers)
        };
        assert_eq!(wish("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(wish("retry-after", "1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(wish("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(wish("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let later = wish("retry-after", "Fri, 31 Dec 2100 23:59:59 GMT").unwrap();
        assert!(later > Duration::from_secs(1_000_000_000));
        assert_eq!(wish("retry-after", "soon"), None);
        assert_eq!(wish("retry-after", "-3"), None);
    }
}

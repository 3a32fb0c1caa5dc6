//! One attempt at a provider: a POST with its deadlines, and the head of the answer.

use std::{
    error::Error,
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT},
};
use hyper_util::client::proxy::matcher::Matcher;
use jiff::{Timestamp, fmt::rfc2822};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::{
    Api, Credential, Observed, Operation, Provider, Slot, Tries, UpstreamError,
    connect::{Ways, was_refused, within},
    error::CONNECT,
    sign::add_signature,
    tries::Member,
};

/// Bytes of an error body that are read (chosen: error objects are far smaller; HTML pages are
/// cut).
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// How long the body of an error is waited for: its status says what to do next (chosen).
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Times that a connection may refuse a request before it counts as failed (chosen).
const MAX_REFUSALS: u32 = 2;
/// The version of Anthropic's API that is asked for when the caller names none.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");
const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("weighbridge/", env!("CARGO_PKG_VERSION")));
const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");

/// A client for each provider. A cheap handle.
#[derive(Debug, Clone)]
pub struct Upstreams {
    members: Arc<[Arc<Member>]>,
    ways: Ways,
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
    pub headers: &'a HeaderMap,
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
    response: Response<Incoming>,
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
        let ways = Ways { tls: Arc::new(tls), proxies: Arc::new(Matcher::from_env()) };
        let member = |provider| Arc::new(Member::new(provider, ways.clone()));
        Ok(Self { members: providers.into_iter().map(member).collect(), ways })
    }

    /// Whom this machine trusts, for clients of others.
    pub fn tls(&self) -> &rustls::ClientConfig {
        &self.ways.tls
    }

    /// The provider of this name.
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.find(name).map(|member| &member.provider)
    }

    fn find(&self, name: &str) -> Option<&Arc<Member>> {
        self.members.iter().find(|member| member.provider.name == name)
    }

    /// Opens the tries at one model; `conversation` is the same number in all its turns.
    pub fn begin(
        &self,
        provider: &str,
        model: &str,
        conversation: Option<u64>,
    ) -> Result<Tries, UpstreamError> {
        let Some(member) = self.find(provider) else {
            return Err(UpstreamError::Connect(format!("no provider is named `{provider}`")));
        };
        Ok(Tries::new(Arc::clone(member), model, conversation))
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
        let response = within(limits.connect, ask(slot, &call));
        let response = limits.keep(started, "first_byte", limits.first_byte, response).await??;
        let attempt = Attempt { response, limits, started };
        if attempt.response.status().is_success() {
            Ok(attempt)
        } else {
            Err(attempt.into_error().await)
        }
    }
}

impl Limits {
    /// Waits for a part of an answer that was asked for at `started`, for `limit` at most.
    async fn keep<F: Future>(
        &self,
        started: Instant,
        deadline: &'static str,
        limit: Duration,
        part: F,
    ) -> Result<F::Output, UpstreamError> {
        let left = self.total.map(|total| total.saturating_sub(started.elapsed()));
        let wait = left.map_or(limit, |left| left.min(limit));
        let passed = |_| match self.total {
            Some(total) if wait < limit => {
                UpstreamError::Timeout { deadline: "total", limit: total }
            }
            _ => UpstreamError::Timeout { deadline, limit },
        };
        tokio::time::timeout(wait, part).await.map_err(passed)
    }
}

/// Asks, and again where the provider says that it has not looked at the question.
async fn ask(slot: &Slot, call: &Call<'_>) -> Result<Response<Incoming>, UpstreamError> {
    let mut times = MAX_REFUSALS;
    loop {
        match slot.pool().request(request(slot, call)?).await {
            Err(error) if times > 0 && was_refused(&error) => times -= 1,
            asked => return asked.map_err(|error| connection_error(&error, call.limits)),
        }
    }
}

fn request(slot: &Slot, call: &Call<'_>) -> Result<Request<Full<Bytes>>, UpstreamError> {
    let provider = slot.provider();
    let path = provider.path(call.operation, call.model);
    let Some(address) = path.and_then(|path| slot.address(&path)).transpose()? else {
        let (kind, model) = (provider.api.name(), call.model);
        let message = format!("a provider of the kind `{kind}` cannot do this with `{model}`");
        return Err(UpstreamError::Unsupported(message));
    };
    let mut headers = call.headers.clone();
    headers.insert(USER_AGENT, AGENT);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if provider.api == Api::Anthropic {
        headers.entry(VERSION).or_insert(ANTHROPIC_VERSION);
    } else {
        headers.remove(VERSION);
        headers.remove(BETA);
    }
    let accepted = match (call.operation, provider.api) {
        (Operation::Converse { stream: true, .. }, Api::Bedrock) => {
            HeaderValue::from_static("application/vnd.amazon.eventstream")
        }
        (Operation::Converse { stream: true, .. }, _) => {
            HeaderValue::from_static("text/event-stream")
        }
        (Operation::Converse { stream: false, .. }, _) => {
            HeaderValue::from_static("application/json")
        }
        _ => ANYTHING,
    };
    headers.insert(ACCEPT, accepted);
    for (name, value) in &address.headers {
        headers.insert(name.clone(), value.clone());
    }
    match slot.credential() {
        Some(Credential::Header(name, value)) => {
            headers.insert(name.clone(), value.clone());
        }
        Some(Credential::Aws(keys)) => {
            let region = &provider.quirks.region;
            let now = SystemTime::now();
            add_signature(keys, region, &address.url, &call.body, &mut headers, now)?;
        }
        Some(Credential::None) | None => {}
    }
    let mut request = Request::new(Full::new(call.body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = address.uri.clone();
    *request.headers_mut() = headers;
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
        loop {
            let frame = self.response.body_mut().frame();
            let frame = self.limits.keep(self.started, deadline, limit, frame).await?;
            match frame.transpose() {
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => {
                    // What is no data is a trailer, which nobody reads.
                    let Ok(data) = frame.into_data() else { continue };
                    return Ok(Some(data));
                }
                Err(error) => return Err(UpstreamError::Cut(cause(&error))),
            }
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

fn connection_error(error: &hyper_util::client::legacy::Error, limits: Limits) -> UpstreamError {
    if !error.is_connect() {
        return UpstreamError::Cut(cause(error));
    }
    let timed_out = |cause: &&(dyn Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    };
    if causes(error).any(|cause| timed_out(&cause)) {
        UpstreamError::Timeout { deadline: CONNECT, limit: limits.connect }
    } else {
        UpstreamError::Connect(cause(error))
    }
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(error.source(), |error: &&'e (dyn Error + 'static)| (*error).source())
}

/// The innermost cause: what is around it only says that a request failed.
fn cause(error: &(dyn Error + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use reqwest::Url;

    use super::*;
    use crate::upstream::connect::tests::{TUNNELLED, proxy, serve};

    #[tokio::test]
    async fn a_request_that_was_refused_without_a_look_is_sent_again() {
        let (listener, mut ways, tls) = proxy().await;
        Arc::make_mut(&mut ways.tls).alpn_protocols = vec![b"h2".to_vec()];
        let url = Url::parse("https://provider.test/v1/").unwrap();
        let provider = Provider::new("p", Api::OpenAi, url, Credential::None);
        let members = [Arc::new(Member::new(provider, ways.clone()))].into();
        let upstreams = Upstreams { members, ways };
        let mut tries = upstreams.begin("p", "m", None).unwrap();
        let (slot, _) = tries.next(None, Instant::now()).unwrap().unwrap();
        let (patience, headers) = (Duration::from_secs(20), HeaderMap::new());
        let limits =
            Limits { connect: patience, first_byte: patience, idle: patience, total: None };
        let (operation, body) = (Operation::Complete, Bytes::from_static(b"{}"));
        let call = Call { operation, model: "m", body, headers: &headers, limits };
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            serve(&mut stream, TUNNELLED).await;
            let stream = tls.accept(stream).await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (_, mut refused) = connection.accept().await.unwrap().unwrap();
            refused.send_reset(h2::Reason::REFUSED_STREAM);
            let (request, mut answered) = connection.accept().await.unwrap().unwrap();
            assert_eq!(request.uri().path(), "/v1/completions");
            let mut head = Response::new(());
            *head.status_mut() = StatusCode::ACCEPTED;
            answered.send_response(head, true).unwrap();
            while connection.accept().await.is_some() {}
        };
        let answer = tokio::select! {
            answer = upstreams.send(&slot, call) => answer,
            () = server => panic!("the connection is kept"),
        };
        assert_eq!(answer.unwrap().response.status(), StatusCode::ACCEPTED);
    }

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

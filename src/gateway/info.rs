//! Who asks, under which name, and how long it may take.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    ledger::tenant::Tenant,
    upstream::{Limits, Provider, UpstreamError},
};

/// What is known of a request besides its body.
#[derive(Debug, Clone)]
pub struct RequestInfo {
    /// The caller's `x-request-id`, or one of ours.
    pub request_id: String,
    /// When the request had been read.
    pub received: Instant,
    /// The same in seconds since 1970.
    pub unix_time: u64,
    /// Headers that go on to providers.
    pub forwarded: Arc<HeaderMap>,
    /// The caller's own deadlines, which may only be shorter than the configuration's.
    pub deadlines: Deadlines,
    /// The same in milliseconds.
    pub unix_ms: i64,
    /// The caller's name for the conversation, from a header.
    pub session: Option<String>,
    /// Whose key it is; `None` when the gateway is open.
    pub caller: Option<Arc<Tenant>>,
    /// Free tags, from a header.
    pub tags: Vec<(String, String)>,
}

/// Deadlines that a caller sets for one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// Bound on making a connection to a provider.
    pub connect: Option<Duration>,
    /// Bound from sending the request to a provider to the first content.
    pub first_byte: Option<Duration>,
    /// Bound on silence inside an answer.
    pub idle: Option<Duration>,
    /// Bound on the whole request, all attempts together.
    pub total: Option<Duration>,
}

impl RequestInfo {
    /// Whether the caller's own deadline has passed.
    pub(super) fn is_late(&self) -> bool {
        self.deadlines.total.is_some_and(|total| total <= self.received.elapsed())
    }

    /// The deadlines of an attempt that begins after `pause`; `None` when no time is left.
    pub(super) fn limits(&self, provider: &Provider, pause: Duration) -> Option<Limits> {
        let shorter =
            |own: Option<Duration>, theirs: Duration| own.map_or(theirs, |o| o.min(theirs));
        let left = match self.deadlines.total {
            Some(total) => {
                let left = total.checked_sub(self.received.elapsed() + pause)?;
                Some(left)
            }
            None => None,
        };
        Some(Limits {
            connect: shorter(self.deadlines.connect, provider.connect_timeout),
            first_byte: shorter(self.deadlines.first_byte, provider.first_byte_timeout),
            idle: shorter(self.deadlines.idle, provider.idle_timeout),
            total: [left, provider.total_timeout].into_iter().flatten().min(),
        })
    }

    /// The error of a request whose time is over.
    pub(super) fn total_passed(&self) -> UpstreamError {
        let limit = self.deadlines.total.unwrap_or_default();
        UpstreamError::Timeout { deadline: "total", limit }
    }
}

/// Headers of the caller that providers are shown.
static FORWARDED: [HeaderName; 5] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("anthropic-beta"),
    HeaderName::from_static("openai-beta"),
];
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Picks the caller's headers that go on to a provider.
pub fn forwarded(headers: &HeaderMap, request_id: &str) -> Arc<HeaderMap> {
    let mut kept = HeaderMap::new();
    for name in &FORWARDED {
        for value in headers.get_all(name) {
            kept.append(name, value.clone());
        }
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        kept.insert(REQUEST_ID, id);
    }
    Arc::new(kept)
}

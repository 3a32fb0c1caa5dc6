//! What was asked of the scripted upstream, and how each request ended.
//!
//! [`RequestLog`] keeps the last 1,000 requests. A [`Ticket`] travels with the answer to one of
//! them: when it is dropped before the answer was complete, the client has left.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::request::Parts;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Requests remembered; older ones are forgotten.
const MAX_REQUESTS: usize = 1_000;
/// Bytes of a body remembered.
const MAX_RECORDED_BODY_BYTES: usize = 1 << 20;
/// Headers that carry credentials: hidden from debug output.
const SECRET_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// How the answer to a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// All of the script was played, be it a cut or an error.
    Complete,
    /// The client hung up before that.
    ClientLeft,
    /// The server was stopped before that.
    Stopped,
}

/// One request as it arrived.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordedRequest {
    /// Counts up from 0 for the life of the upstream.
    pub number: u64,
    /// `POST`, `GET`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// In the order of arrival, names in lower case, credentials included.
    pub headers: Vec<(String, String)>,
    /// The first 1 MiB of the body.
    pub body: Bytes,
    /// The size of the whole body.
    pub body_bytes: usize,
    /// `None` while the answer is being played.
    pub ending: Option<Ending>,
}

impl RecordedRequest {
    /// Whether the client hung up before the answer was complete.
    pub fn client_left(&self) -> bool {
        self.ending == Some(Ending::ClientLeft)
    }

    /// The first header of that lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The form served at `GET /_requests`.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "number": self.number,
            "method": self.method,
            "path": self.path,
            "headers": self.headers,
            "body": String::from_utf8_lossy(&self.body),
            "body_bytes": self.body_bytes,
            "ending": self.ending,
            "client_left": self.client_left(),
        })
    }
}

/// Shows no credentials: failing assertions print requests.
impl fmt::Debug for RecordedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_secret = |name: &String| SECRET_HEADERS.contains(&name.as_str());
        let shown = |(name, value): &(String, String)| {
            let value = if is_secret(name) { "[redacted]" } else { value };
            format!("{name}: {value}")
        };
        f.debug_struct("RecordedRequest")
            .field("number", &self.number)
            .field("method", &self.method)
            .field("path", &self.path)
            .field("headers", &self.headers.iter().map(shown).collect::<Vec<_>>())
            .field("body", &self.body)
            .field("body_bytes", &self.body_bytes)
            .field("ending", &self.ending)
            .finish()
    }
}

/// The last requests, oldest first. A cheap handle: clones share the log.
#[derive(Debug, Clone)]
pub(super) struct RequestLog {
    requests: Arc<Mutex<VecDeque<RecordedRequest>>>,
    /// Numbers given out so far; sent anew at every change, so that tests can wait for one.
    changes: watch::Sender<u64>,
}

impl Default for RequestLog {
    fn default() -> Self {
        Self { requests: Arc::default(), changes: watch::Sender::new(0) }
    }
}

impl RequestLog {
    /// Notes a request. The ticket must live as long as its answer.
    pub fn record(&self, parts: &Parts, body: &Bytes) -> Ticket {
        let mut requests = self.lock();
        let number = *self.changes.borrow();
        if requests.len() == MAX_REQUESTS {
            requests.pop_front();
        }
        requests.push_back(recorded(number, parts, body));
        // Counted under the lock: no two requests share a number.
        self.changes.send_modify(|count| *count += 1);
        drop(requests);
        Ticket { log: self.clone(), number, ended: false }
    }

    /// A copy of what is remembered, oldest first.
    pub fn snapshot(&self) -> Vec<RecordedRequest> {
        self.lock().iter().cloned().collect()
    }

    /// Forgets everything; numbers go on.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Told of every request and every ending.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn end(&self, number: u64, ending: Ending) {
        let mut requests = self.lock();
        // From the back: what ends is mostly what came last. Absent when it was forgotten.
        if let Some(request) = requests.iter_mut().rev().find(|request| request.number == number) {
            request.ending = Some(ending);
        }
        drop(requests);
        self.changes.send_modify(|_| {});
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<RecordedRequest>> {
        // No code that can panic runs under the lock.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn recorded(number: u64, parts: &Parts, body: &Bytes) -> RecordedRequest {
    let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    // A copy of a large body's beginning, so that the rest of it can be freed.
    let kept = match body.get(..MAX_RECORDED_BODY_BYTES) {
        Some(beginning) => Bytes::copy_from_slice(beginning),
        None => body.clone(),
    };
    RecordedRequest {
        number,
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        headers: parts.headers.iter().map(header).collect(),
        body: kept,
        body_bytes: body.len(),
        ending: None,
    }
}

/// Held by the answer to one request; says how it ended.
#[derive(Debug)]
pub(super) struct Ticket {
    log: RequestLog,
    number: u64,
    ended: bool,
}

impl Ticket {
    /// Notes the ending; only the first one counts.
    pub fn end(&mut self, ending: Ending) {
        if !self.ended {
            self.ended = true;
            self.log.end(self.number, ending);
        }
    }
}

/// The server drops an answer that is not complete only when its client is gone.
impl Drop for Ticket {
    fn drop(&mut self) {
        self.end(Ending::ClientLeft);
    }
}

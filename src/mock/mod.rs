//! The scripted upstream: a server that stands in for paid LLM providers and behaves as badly as
//! they do.
//!
//! Three uses: tests run it in-process on port 0, operators rehearse failures with it, and a fresh
//! install without provider keys has something to talk to. It calls nobody and invents nothing:
//! the answer says which model answered and repeats the beginning of the question, and equal
//! questions get equal answers. What should go wrong is written into the model name, see
//! [`DIRECTIVES`] (read `directives.rs` first: its table is the feature).
//!
//! It speaks every dialect that the gateway speaks to providers, from its own knowledge of their
//! wire formats: nothing here uses [`crate::protocol`], so that a mistake there cannot hide.
//!
//! The way of a request: [`ScriptedUpstream::router`] records it (`record`), the path tells its
//! dialect (`openai`, `anthropic`, `gemini`, `azure`, `bedrock`, `cohere`), which checks it as the
//! provider does (`reader`) and says what is asked (`offer`). The reply is an `answer` put in order
//! by `play`, or what the `script` says instead; the dialect's `wire` turns events into `frames`
//! and `reply` writes them at the script's pace.

mod answer;
mod anthropic;
mod azure;
mod bedrock;
mod blocks;
mod cohere;
mod directives;
mod frames;
mod gemini;
mod offer;
mod openai;
mod play;
mod reader;
mod record;
mod reply;
mod schema;
mod script;
mod sequence;
mod setting;
mod tokens;
mod wire;

pub use directives::{
    DIRECTIVES, DirectiveError, Directives, MAX_DELAY, Rejection, UsageMode, directives_help,
    parse_model,
};
pub use record::{Ending, RecordedRequest};

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{Json, Response};
use axum::routing::get;
use axum::serve::{Listener, ListenerExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;

use self::record::RequestLog;
use self::reply::{Reply, Stop};
use self::sequence::StatusSequences;

/// Bytes of a request body at most; more is answered with 413.
const MAX_BODY_BYTES: usize = 16 << 20;
/// How long connections have to end after a stop, before they are abandoned.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The scripted upstream. A cheap handle: clones share requests and status sequences.
#[derive(Debug, Clone, Default)]
pub struct ScriptedUpstream {
    log: RequestLog,
    sequences: Arc<StatusSequences>,
}

/// What the handlers know.
#[derive(Clone)]
struct Server {
    upstream: ScriptedUpstream,
    stop: Stop,
}

impl ScriptedUpstream {
    /// An upstream that nothing has been asked of.
    pub fn new() -> Self {
        Self::default()
    }

    /// All endpoints, for a server of the caller's. Answers that wait or stall then end when they
    /// are dropped, after [`MAX_DELAY`] at the latest.
    pub fn router(&self) -> Router {
        self.router_until(Stop::never())
    }

    /// Serves HTTP/1.1 and HTTP/2 without TLS until `stop` resolves. Answers in progress are then
    /// broken off; returns when the connections are closed, after 5 seconds at the latest.
    pub async fn serve(
        self,
        listener: impl Listener<Io = TcpStream, Addr = SocketAddr>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let (stopping, signal) = watch::channel(false);
        let router = self.router_until(Stop::on(signal.clone()));
        // Without this the kernel would join the small writes that the script keeps apart. A
        // socket that refuses is closed already.
        let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
        let server = axum::serve(listener, router).with_graceful_shutdown(async move {
            stop.await;
            stopping.send_replace(true);
        });
        let mut stop = Stop::on(signal);
        let abandoned = async move {
            stop.stopped().await;
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            served = server.into_future() => served,
            () = abandoned => Ok(()),
        }
    }

    /// The last 1,000 requests, oldest first; those to `/_requests` are not among them.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.log.snapshot()
    }

    /// Forgets all requests and begins every status sequence again.
    pub fn clear(&self) {
        self.log.clear();
        self.sequences.clear();
    }

    /// Waits until `condition` holds for the recorded requests and returns them. Has no deadline.
    pub async fn requests_when(
        &self,
        mut condition: impl FnMut(&[RecordedRequest]) -> bool,
    ) -> Vec<RecordedRequest> {
        let mut changes = self.log.subscribe();
        loop {
            let requests = self.requests();
            if condition(&requests) {
                return requests;
            }
            // The log, which `self` holds, is what sends: it cannot be gone.
            if changes.changed().await.is_err() {
                return requests;
            }
        }
    }

    fn router_until(&self, stop: Stop) -> Router {
        Router::new()
            .route("/_requests", get(list_requests).delete(clear_requests))
            .fallback(answer_request)
            .with_state(Server { upstream: self.clone(), stop })
    }
}

/// `GET /_requests`: for black-box tests, credentials included.
async fn list_requests(State(server): State<Server>) -> Json<Value> {
    let requests = server.upstream.requests();
    let data: Vec<Value> = requests.iter().map(RecordedRequest::to_json).collect();
    Json(json!({"object": "list", "data": data}))
}

/// `DELETE /_requests`: what [`ScriptedUpstream::clear`] does.
async fn clear_requests(State(server): State<Server>) -> StatusCode {
    server.upstream.clear();
    StatusCode::NO_CONTENT
}

/// The dialect is told by the path; what no other claims is OpenAI's.
fn answer_in_dialect(parts: &Parts, body: &[u8], sequences: &StatusSequences) -> Reply {
    if anthropic::claims(parts) {
        anthropic::reply(parts, body, sequences)
    } else if azure::claims(parts) {
        azure::reply(parts, body, sequences)
    } else if gemini::claims(parts) {
        gemini::reply(parts, body, sequences)
    } else if bedrock::claims(parts) {
        bedrock::reply(parts, body, sequences)
    } else if cohere::claims(parts) {
        cohere::reply(parts, body, sequences)
    } else {
        openai::reply(parts, body, sequences)
    }
}

/// Everything else: records the request and lets the dialect answer.
async fn answer_request(State(server): State<Server>, request: Request) -> Response {
    let Server { upstream, stop } = server;
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await;
    let mut ticket = upstream.log.record(&parts, body.as_ref().unwrap_or(&Default::default()));
    let reply = match &body {
        Ok(body) => answer_in_dialect(&parts, body, &upstream.sequences),
        // Or the client left while it sent, and nobody reads this.
        Err(_) => openai::too_large(MAX_BODY_BYTES),
    };
    if parts.method == Method::HEAD {
        // The server sends the head alone and drops the body, which is not the client's doing.
        ticket.end(Ending::Complete);
    }
    reply.send(ticket, stop).await
}

//! The HTTP edge: paths, bodies, headers, errors.
//!
//! Handlers parse, call the [`Gateway`] and shape the answer; they decide nothing. Status codes
//! are known to [`error`] alone, response headers are written in `headers`. [`admin`] is another
//! door, on a listener of its own.

pub mod admin;
mod connections;
mod converse;
pub mod error;
mod feedback;
mod headers;
mod operations;
mod tls;
mod visitor;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::FromRef,
    http::{
        HeaderMap,
        header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
    },
    routing::{get, post},
    serve::{Listener, ListenerExt},
};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use tokio::{net::TcpStream, sync::watch};

use crate::gateway::{Gateway, House};
use connections::{HEAD_TIMEOUT, serve as serve_connections};
use error::ApiError;
use tls::{Shown, TlsListener, shown};

/// How long a client may take to send its body (chosen: a megabyte over a slow line).
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of a body over the limit that are read to let the client hear of it (chosen: twice the
/// default limit; a client that sends more is cut off).
const MAX_DISCARDED_BYTES: usize = 64 * 1024 * 1024;

/// The gateway's routes. Every path of the surfaces also works without `/v1`, and under
/// `/anthropic`, where some clients put their base URL.
pub fn router(house: impl Into<House>) -> Router {
    let surface = [
        ("/chat/completions", post(converse::chat)),
        ("/completions", post(converse::completions)),
        ("/embeddings", post(converse::embeddings)),
        ("/responses", post(converse::responses)),
        ("/messages", post(converse::messages)),
        ("/messages/count_tokens", post(converse::count_tokens)),
        ("/decision", post(converse::decision)),
        ("/feedback", post(feedback::feedback)),
        ("/models", get(operations::models)),
        ("/models/{*id}", get(operations::model)),
    ];
    // Not nested routers: they build a URI anew for each request.
    let mut router = Router::new();
    for prefix in ["", "/v1", "/anthropic", "/anthropic/v1"] {
        for (path, method) in &surface {
            router = router.route(&format!("{prefix}{path}"), method.clone());
        }
    }
    router
        .route("/health", get(operations::health))
        .route("/ready", get(operations::ready))
        .route("/metrics", get(operations::metrics))
        .fallback(operations::not_found)
        .method_not_allowed_fallback(operations::method_not_allowed)
        .with_state(house.into())
}

impl FromRef<House> for Arc<Gateway> {
    fn from_ref(house: &House) -> Self {
        house.gateway()
    }
}

/// Serves until `stop`; then accepts nothing more, waits up to the configured time for answers in
/// flight, and tells the streams that are left (through `cancel`) to end.
pub async fn serve(
    listener: impl Listener<Io = TcpStream, Addr = SocketAddr>,
    house: impl Into<House>,
    cancel: watch::Sender<bool>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let house = house.into();
    let grace = house.gateway().config().server.shutdown_grace;
    let tls = shown(&house, |config| config.server.tls.as_ref());
    serve_until((listener, tls), router(house), stop, grace, async move {
        cancel.send_replace(true);
        // Streams write one last frame; then the connections are closed on whoever is left.
        tokio::time::sleep(LAST_WORDS).await;
    })
    .await
}

/// Serves until `stop`, then waits up to `grace` for answers in flight, and then for `last`.
async fn serve_until(
    (listener, tls): (impl Listener<Io = TcpStream, Addr = SocketAddr>, Option<Shown>),
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
    grace: Duration,
    last: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let (stopping, mut stopped) = watch::channel(false);
    let stop = async move {
        stop.await;
        stopping.send_replace(true);
    };
    // Small frames go out as they come. A socket that refuses is closed already.
    let server = match tls {
        None => {
            let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
            serve_connections(listener, router, HEAD_TIMEOUT, stop).boxed()
        }
        Some(tls) => {
            let listener = TlsListener::new(listener, tls)
                .tap_io(|stream| drop(stream.get_ref().0.set_nodelay(true)));
            serve_connections(listener, router, HEAD_TIMEOUT, stop).boxed()
        }
    };
    let deadline = async move {
        // An error means that the server has ended by itself.
        let _ = stopped.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(grace).await;
        last.await;
    };
    tokio::select! {
        served = server => served,
        () = deadline => Ok(()),
    }
}

/// Time for streams to write their last frame.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Reads a JSON body within the configured bound.
async fn read_body(gateway: &Gateway, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    if let Some(kind) = headers.get(CONTENT_TYPE) {
        let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::UnsupportedMediaType(kind.to_owned()));
        }
    }
    let limit = gateway.config().server.max_body_bytes;
    let declared =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > limit as u64) && headers.contains_key(EXPECT) {
        // The caller waits for a word before it sends: say no at once.
        return Err(ApiError::BodyTooLarge { limit });
    }
    match tokio::time::timeout(BODY_TIMEOUT, collect(body, limit)).await {
        Err(_) => Err(ApiError::BodyTimeout(BODY_TIMEOUT)),
        Ok(collected) => collected,
    }
}

/// The body, at most `limit` bytes. Of a larger one the rest is read and thrown away: most clients
/// look for an answer only once they have sent everything, and would otherwise see a broken
/// connection instead of the 413.
async fn collect(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut kept = BytesMut::new();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ApiError::BodyCut)?.into_data() else { continue };
        read += data.len();
        if read <= limit {
            kept.extend_from_slice(&data);
        } else {
            kept = BytesMut::new();
        }
        if read > limit + MAX_DISCARDED_BYTES {
            break;
        }
    }
    if read > limit { Err(ApiError::BodyTooLarge { limit }) } else { Ok(kept.freeze()) }
}

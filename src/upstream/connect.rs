//! The connect deadline of one request.
//!
//! A client has one bound on making connections, its requests have none of their own, and a client
//! a deadline would mean a pool of connections a deadline. Instead the deadline travels in a
//! task-local value from [`within`] to the connector, which a layer bounds: a connection is made in
//! the task of the request that wants it, so the two always belong together. A request that finds
//! an idle connection waits for none.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tower::{Layer, Service};

tokio::task_local! {
    static DEADLINE: Duration;
}

/// Runs a request; the connection that it may need must be there within `limit`, the TLS handshake
/// included, or it fails like any connection that times out.
pub async fn within<F: Future>(limit: Duration, request: F) -> F::Output {
    DEADLINE.scope(limit, request).await
}

/// Makes a connector keep the deadline of [`within`].
#[derive(Debug, Clone, Copy)]
pub struct Punctual;

impl<S> Layer<S> for Punctual {
    type Service = PunctualConnector<S>;

    fn layer(&self, connector: S) -> Self::Service {
        PunctualConnector(connector)
    }
}

/// A connector that gives up in time.
#[derive(Debug, Clone)]
pub struct PunctualConnector<S>(S);

/// What goes wrong while connecting, as `reqwest` passes it.
type ConnectError = Box<dyn std::error::Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, ConnectError>> + Send>>;

impl<S, R> Service<R> for PunctualConnector<S>
where
    S: Service<R, Error = ConnectError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = ConnectError;
    type Future = Connecting<S::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, destination: R) -> Self::Future {
        let connecting = self.0.call(destination);
        let Ok(limit) = DEADLINE.try_with(|limit| *limit) else { return Box::pin(connecting) };
        Box::pin(async move {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
            tokio::time::timeout(limit, connecting).await.map_err(late)?
        })
    }
}

//! Connections: a task each, and a deadline for the head of every request.
//!
//! `axum::serve` has no such deadline: a client that sends its headers a byte at a time, or nothing
//! at all, holds its connection for as long as it likes.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, Response},
    serve::Listener,
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use tokio::time::sleep;
use tower::Service as _;

/// How long the head of a request may take from when it could begin, so a kept connection without
/// requests is closed after this time (chosen: longer than the common clients keep theirs).
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// How often an HTTP/2 client is asked whether it is still there, and how long it may think.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves HTTP/1.1 and HTTP/2 until `stop`, then until the requests in flight have their answers.
/// Handlers find the client's address in their request's extensions.
pub(super) async fn serve<L>(
    mut listener: L,
    router: Router,
    head_timeout: Duration,
    stop: impl Future<Output = ()>,
) -> io::Result<()>
where
    L: Listener<Addr = SocketAddr>,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let open = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (router, asked) = (router.clone(), Arc::new(AtomicBool::new(false)));
        let asking = Arc::clone(&asked);
        let service = service_fn(move |request| {
            asking.store(true, Ordering::Relaxed);
            answer(router.clone(), peer, request)
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = open.watch(connection);
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let served = tokio::select! {
                served = &mut connection => served,
                // The builder's deadline begins when the version of HTTP is known.
                () = sleep(head_timeout) => match asked.load(Ordering::Relaxed) {
                    true => connection.await,
                    false => return,
                },
            };
            if let Err(error) = served {
                tracing::debug!(%peer, %error, "a connection broke");
            }
        });
    }
    drop(listener);
    open.shutdown().await;
    Ok(())
}

async fn answer(
    mut router: Router,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    router.call(request).await
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    async fn door(router: Router) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, router, PATIENCE, std::future::pending()));
        address
    }

    async fn read(stream: &mut TcpStream) -> String {
        let mut answer = String::new();
        let reading = stream.read_to_string(&mut answer);
        timeout(Duration::from_secs(20), reading).await.expect("it is closed").unwrap();
        answer
    }

    #[tokio::test]
    async fn a_client_that_never_ends_its_headers_is_closed() {
        let address = door(Router::new()).await;
        for begun in ["", "P", "GET /", "GET / HTTP/1.1\r\nhost: a\r\nx-long: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            assert_eq!(read(&mut stream).await, "", "{begun:?}");
        }
    }

    #[tokio::test]
    async fn headers_a_byte_at_a_time_do_not_put_the_deadline_off() {
        let address = door(Router::new()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let dripping = async {
            for byte in "GET / HTTP/1.1\r\nhost: ".bytes().chain(std::iter::repeat(b'a')) {
                sleep(PATIENCE / 10).await;
                if stream.write_all(&[byte]).await.is_err() {
                    break;
                }
            }
        };
        timeout(Duration::from_secs(20), dripping).await.expect("the door is shut");
    }

    #[tokio::test]
    async fn an_answer_may_take_longer_than_the_headers() {
        let slow = || async {
            sleep(PATIENCE * 3).await;
            "done"
        };
        let address = door(Router::new().route("/", get(slow))).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let answer = read(&mut stream).await;
        assert!(answer.ends_with("done"), "{answer}");
    }
}

//! Connections to providers: straight to them or through the proxy that the environment names,
//! each made within the deadline of the request that wants it.
//!
//! A client has no deadline a request for making connections, and a client a deadline would mean a
//! pool of connections a deadline. Instead the deadline travels in a task-local value from
//! [`within`] to the connector: a connection is made in the task of the request that wants it, so
//! the two always belong together. A request that finds an idle connection waits for none.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Uri,
    http::uri::Scheme,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::{
        legacy::{
            Client,
            connect::{Connected, Connection, HttpConnector, proxy::Tunnel},
        },
        proxy::matcher::Matcher,
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::TcpStream;
use tower::Service;

/// How long an idle connection is kept (chosen: many servers close theirs after a minute or two).
const IDLE: Duration = Duration::from_secs(90);
/// A peer that is gone without a word is noticed after as many probes, so far apart.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;
/// How long sent bytes may stay unacknowledged.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

tokio::task_local! {
    static DEADLINE: Duration;
}

/// Runs a request; the connection that it may need must be there within `limit`, the TLS handshake
/// included, or it fails like any connection that times out.
pub async fn within<F: Future>(limit: Duration, request: F) -> F::Output {
    DEADLINE.scope(limit, request).await
}

/// Whether a server says of a request that it has done nothing with it (RFC 9113, section 8.7): an
/// HTTP/2 connection that is being closed in order refuses what came too late.
pub fn was_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    causes.filter_map(|cause| cause.downcast_ref::<h2::Error>()).any(|error| {
        let reason = error.reason();
        error.is_remote()
            && (error.is_go_away() && reason == Some(h2::Reason::NO_ERROR)
                || error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// A pool of connections, and what makes new ones.
pub type Pool = Client<Connector, Full<Bytes>>;

/// How providers are reached from this machine.
#[derive(Debug, Clone)]
pub struct Ways {
    /// Whom it trusts; HTTP/2 is offered.
    pub tls: Arc<rustls::ClientConfig>,
    /// `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, as curl reads them.
    pub proxies: Arc<Matcher>,
}

impl Ways {
    /// A pool without connections.
    pub fn pool(&self) -> Pool {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        let (tls, proxies) = (Arc::clone(&self.tls), Arc::clone(&self.proxies));
        Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(Connector { tcp, tls, proxies })
    }
}

/// Makes connections, each in time.
#[derive(Debug, Clone)]
pub struct Connector {
    tcp: HttpConnector,
    tls: Arc<rustls::ClientConfig>,
    proxies: Arc<Matcher>,
}

/// TCP, with or without TLS, to a provider or to a proxy.
type Hop = MaybeHttpsStream<TokioIo<TcpStream>>;
type ConnectError = Box<dyn std::error::Error + Send + Sync>;

impl Connector {
    async fn connect(self, destination: Uri) -> Result<Wire, ConnectError> {
        let Some(proxy) = self.proxies.intercept(&destination) else {
            let hop = HttpsConnector::from((self.tcp, self.tls)).call(destination).await?;
            return Ok(Wire { stream: MaybeHttpsStream::Http(hop), is_to_proxy: false });
        };
        // What is said to the proxy itself is HTTP/1.1.
        let mut plain = rustls::ClientConfig::clone(&self.tls);
        plain.alpn_protocols.clear();
        let mut to_proxy = HttpsConnector::from((self.tcp, plain));
        // It passes requests on; of what is encrypted it only passes the bytes.
        if destination.scheme() != Some(&Scheme::HTTPS) {
            let hop = to_proxy.call(proxy.uri().clone()).await?;
            return Ok(Wire { stream: MaybeHttpsStream::Http(hop), is_to_proxy: true });
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
        if let Some(secret) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(secret.clone());
        }
        let stream = HttpsConnector::from((tunnel, self.tls)).call(destination).await?;
        Ok(Wire { stream, is_to_proxy: false })
    }
}

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Wire, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        let connecting = self.clone().connect(destination);
        let Ok(limit) = DEADLINE.try_with(|limit| *limit) else { return Box::pin(connecting) };
        Box::pin(async move {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
            tokio::time::timeout(limit, connecting).await.map_err(late)?
        })
    }
}

/// A connection that requests go over.
pub struct Wire {
    stream: MaybeHttpsStream<Hop>,
    /// Requests name the whole URI: the other side is a proxy.
    is_to_proxy: bool,
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.is_to_proxy)
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use http_body_util::BodyExt as _;
    use hyper::{Request, header::PROXY_AUTHORIZATION};
    use reqwest::Url;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::{
        io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::upstream::address::Address;

    const HOST: &str = "provider.test";
    /// `user:secret`
    const SECRET: &str = "basic dxnlcjpzzwnyzxq=";

    /// A proxy, and this side's ways through it; whoever listens there has a certificate that this
    /// side trusts.
    pub async fn proxy() -> (TcpListener, Ways, TlsAcceptor) {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let keys = || Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(keys());
        let tls = tls.with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let server = rustls::ServerConfig::builder_with_provider(keys());
        let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut server = server.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://user:secret@{}", listener.local_addr().unwrap());
        let proxies = Arc::new(Matcher::builder().all(address).build());
        (listener, Ways { tls: Arc::new(tls), proxies }, TlsAcceptor::from(Arc::new(server)))
    }

    /// Asks for `base`; what came of it.
    async fn ask(ways: &Ways, base: &str) -> Result<Bytes, hyper_util::client::legacy::Error> {
        let base = Url::parse(base).unwrap();
        let address = Address::new(&base, "chat", &ways.proxies).unwrap();
        let mut request = Request::new(Full::new(Bytes::from_static(b"question")));
        *request.uri_mut() = address.uri;
        *request.headers_mut() = address.headers;
        let limit = Duration::from_millis(500);
        let response = within(limit, ways.pool().request(request)).await?;
        Ok(response.into_body().collect().await.unwrap().to_bytes())
    }

    /// The head of the next request, in small letters; `answer` is sent.
    pub async fn serve(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &str) -> String {
        let (mut read, mut buffer) = (Vec::new(), [0; 1024]);
        while !read.windows(4).any(|end| end == b"\r\n\r\n") {
            let n = stream.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0, "{}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&buffer[..n]);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&read).to_lowercase()
    }

    pub const TUNNELLED: &str = "HTTP/1.1 200 OK\r\n\r\n";
    const DONE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nanswer";

    #[tokio::test]
    async fn a_proxy_is_told_the_whole_address_and_its_own_secret() {
        let (listener, ways, _) = proxy().await;
        let proxy = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            serve(&mut stream, DONE).await
        };
        let (answer, seen) = tokio::join!(ask(&ways, "http://me:mine@provider.test/v1/"), proxy);
        assert_eq!(answer.unwrap(), "answer");
        assert!(seen.starts_with("get http://provider.test/v1/chat http/1.1\r\n"), "{seen}");
        assert!(seen.contains("\r\nhost: provider.test\r\n"), "{seen}");
        assert!(seen.contains(&format!("\r\n{PROXY_AUTHORIZATION}: {SECRET}\r\n")), "{seen}");
        // `me:mine`
        assert!(seen.contains("\r\nauthorization: basic bwu6bwluzq==\r\n"), "{seen}");
    }

    #[tokio::test]
    async fn through_a_proxy_what_is_encrypted_is_tunnelled() {
        let (listener, ways, tls) = proxy().await;
        let proxy = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = serve(&mut stream, TUNNELLED).await;
            let mut stream = tls.accept(stream).await.unwrap();
            (asked, serve(&mut stream, DONE).await)
        };
        let (answer, (asked, seen)) = tokio::join!(ask(&ways, "https://provider.test/v1/"), proxy);
        assert_eq!(answer.unwrap(), "answer");
        assert!(asked.starts_with("connect provider.test:443 http/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("\r\n{PROXY_AUTHORIZATION}: {SECRET}\r\n")), "{asked}");
        assert!(seen.starts_with("get /v1/chat http/1.1\r\n"), "{seen}");
        assert!(!seen.contains("proxy-authorization"), "{seen}");
    }

    #[tokio::test]
    async fn what_a_server_refused_without_a_look_is_told_from_what_it_broke() {
        for (reason, is_refusal) in
            [(h2::Reason::REFUSED_STREAM, true), (h2::Reason::INTERNAL_ERROR, false)]
        {
            let (listener, mut ways, tls) = proxy().await;
            Arc::make_mut(&mut ways.tls).alpn_protocols = vec![b"h2".to_vec()];
            let server = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                serve(&mut stream, TUNNELLED).await;
                let stream = tls.accept(stream).await.unwrap();
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let (_, mut answer) = connection.accept().await.unwrap().unwrap();
                answer.send_reset(reason);
                while connection.accept().await.is_some() {}
            };
            let asked = tokio::select! {
                asked = ask(&ways, "https://provider.test/v1/") => asked,
                () = server => panic!("the connection is kept"),
            };
            let error = asked.unwrap_err();
            assert_eq!(was_refused(&error), is_refusal, "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_tunnel_has_the_deadline_of_a_connection() {
        let (listener, ways, _) = proxy().await;
        // It takes the connection and says nothing.
        let proxy = async {
            let _held = listener.accept().await;
            std::future::pending::<()>().await;
        };
        let error = tokio::select! {
            asked = ask(&ways, "https://provider.test/v1/") => asked.unwrap_err(),
            () = proxy => panic!("it says nothing"),
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("nobody gave up"),
        };
        assert!(error.is_connect(), "{error:?}");
        assert!(format!("{error:?}").contains("no connection in time"), "{error:?}");
    }
}

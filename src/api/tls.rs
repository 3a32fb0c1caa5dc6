//! A listener that speaks TLS, with the certificate of the configuration in force.
//!
//! Handshakes run as tasks of their own, so that nobody waits for somebody else's. They have a
//! deadline, and there is room for a number of them: where more begin, the oldest gives way, so
//! that silent clients cannot hold the door shut.

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::{
    net::TcpStream,
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    config::{Config, Tls},
    gateway::House,
};

/// How long a client may take for its handshake (chosen: some round trips over a bad line).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes at a time (chosen: seconds of a busy door, some tens of MB).
const MAX_HANDSHAKES: usize = 1_024;

/// The certificate in force, asked for by each handshake.
pub(super) type Shown = Box<dyn FnMut() -> Arc<ServerConfig> + Send>;

/// What `table` of the configuration in force says; `None` where it says nothing at the start.
pub(super) fn shown(house: &House, table: fn(&Config) -> Option<&Tls>) -> Option<Shown> {
    let house = house.clone();
    // It goes on where a configuration without TLS waits for a restart.
    let mut last = Arc::clone(&table(house.gateway().config())?.handshake);
    Some(Box::new(move || {
        if let Some(tls) = table(house.gateway().config()) {
            last = Arc::clone(&tls.handshake);
        }
        Arc::clone(&last)
    }))
}

/// Accepts connections whose handshake is done.
pub(super) struct TlsListener<L> {
    listener: L,
    shown: Shown,
    room: usize,
    patience: Duration,
    handshakes: JoinSet<Option<Connection>>,
    /// From the oldest; finished ones are among them until there is need of room.
    begun: VecDeque<AbortHandle>,
}

type Connection = (TlsStream<TcpStream>, SocketAddr);

impl<L> TlsListener<L> {
    pub(super) fn new(listener: L, shown: Shown) -> Self {
        Self {
            listener,
            shown,
            room: MAX_HANDSHAKES,
            patience: HANDSHAKE_TIMEOUT,
            handshakes: JoinSet::new(),
            begun: VecDeque::new(),
        }
    }

    fn begin(&mut self, socket: TcpStream, peer: SocketAddr) {
        if self.begun.len() >= self.room {
            self.begun.retain(|handshake| !handshake.is_finished());
        }
        if self.begun.len() >= self.room
            && let Some(oldest) = self.begun.pop_front()
        {
            tracing::debug!("a TLS handshake gave way to newer ones");
            oldest.abort();
        }
        let handshake = handshake((self.shown)().into(), socket, peer, self.patience);
        self.begun.push_back(self.handshakes.spawn(handshake));
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    socket: TcpStream,
    peer: SocketAddr,
    patience: Duration,
) -> Option<Connection> {
    match timeout(patience, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => return Some((stream, peer)),
        Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS handshake"),
        Err(_) => tracing::debug!(%peer, "no TLS handshake in time"),
    }
    None
}

impl<L: Listener<Io = TcpStream, Addr = SocketAddr>> Listener for TlsListener<L> {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Connection {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    // An error is that of a handshake that gave way.
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                (socket, peer) = Listener::accept(&mut self.listener) => self.begin(socket, peer),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt as _, net::TcpListener, sync::mpsc, task::JoinHandle};
    use tokio_rustls::{TlsConnector, client};

    use super::*;

    /// A listener in use, its address, what it has accepted, and a client that trusts it.
    struct Door {
        address: SocketAddr,
        accepted: mpsc::Receiver<SocketAddr>,
        client: TlsConnector,
        listening: JoinHandle<()>,
    }

    impl Door {
        async fn open(room: usize, patience: Duration) -> Self {
            let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut roots = rustls::RootCertStore::empty();
            roots.add(made.cert.der().clone()).unwrap();
            let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
            let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key.unwrap());
            let server = Arc::new(server.unwrap());
            let client = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let listener = TlsListener::new(listener, Box::new(move || Arc::clone(&server)));
            let mut listener = TlsListener { room, patience, ..listener };
            let (send, accepted) = mpsc::channel(1);
            let listening =
                tokio::spawn(
                    async move { while send.send(listener.accept().await.1).await.is_ok() {} },
                );
            Self { address, accepted, client: Arc::new(client).into(), listening }
        }

        async fn silent(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn shake_hands(&self) -> client::TlsStream<TcpStream> {
            let name = "127.0.0.1".try_into().unwrap();
            self.client.connect(name, self.silent().await).await.unwrap()
        }
    }

    const FOR_EVER: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn the_oldest_silent_client_gives_way_and_a_newer_one_does_not() {
        let mut door = Door::open(2, FOR_EVER).await;
        let (mut oldest, newer) = (door.silent().await, door.silent().await);
        let talking = door.shake_hands().await;
        assert_eq!(oldest.read(&mut [0]).await.unwrap(), 0, "its connection is closed");
        assert_eq!(door.accepted.recv().await, talking.get_ref().0.local_addr().ok());
        let name = "127.0.0.1".try_into().unwrap();
        let late = door.client.connect(name, newer).await.unwrap();
        assert_eq!(door.accepted.recv().await, late.get_ref().0.local_addr().ok());
        door.listening.abort();
    }

    #[tokio::test]
    async fn a_silent_client_is_shown_out_in_time() {
        let mut door = Door::open(2, Duration::from_millis(100)).await;
        let mut silent = door.silent().await;
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        let talking = door.shake_hands().await;
        assert_eq!(door.accepted.recv().await, talking.get_ref().0.local_addr().ok());
        door.listening.abort();
    }
}

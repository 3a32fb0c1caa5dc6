//! A listener that speaks TLS, with the certificate of the configuration in force.
//!
//! Handshakes run as tasks of their own, so that nobody waits for somebody else's. They have a
//! deadline, and there is room for a number of them: where more begin, the oldest gives way, so
//! that silent clients cannot hold the door shut.

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
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

/// What a listener shows its callers, at this moment.
pub(super) struct Shown {
    house: House,
    table: fn(&Config) -> Option<&Tls>,
    /// Goes on where a configuration without TLS waits for a restart.
    last: Arc<ServerConfig>,
}

impl Shown {
    /// What `table` of the configuration says; `None` where it says nothing.
    pub(super) fn new(house: &House, table: fn(&Config) -> Option<&Tls>) -> Option<Self> {
        let last = Arc::clone(&table(house.gateway().config())?.handshake);
        Some(Self { house: house.clone(), table, last })
    }

    fn now(&mut self) -> Arc<ServerConfig> {
        if let Some(tls) = (self.table)(self.house.gateway().config()) {
            self.last = Arc::clone(&tls.handshake);
        }
        Arc::clone(&self.last)
    }
}

/// Accepts connections whose handshake is done.
pub(super) struct TlsListener {
    listener: TcpListener,
    shown: Shown,
    handshakes: JoinSet<Option<Connection>>,
    /// From the oldest; finished ones are among them until there is need of room.
    begun: VecDeque<AbortHandle>,
}

type Connection = (TlsStream<TcpStream>, SocketAddr);

impl TlsListener {
    pub(super) fn new(listener: TcpListener, shown: Shown) -> Self {
        Self { listener, shown, handshakes: JoinSet::new(), begun: VecDeque::new() }
    }

    fn begin(&mut self, socket: TcpStream, peer: SocketAddr) {
        if self.begun.len() >= MAX_HANDSHAKES {
            self.begun.retain(|handshake| !handshake.is_finished());
        }
        if self.begun.len() >= MAX_HANDSHAKES
            && let Some(oldest) = self.begun.pop_front()
        {
            tracing::debug!("a TLS handshake gave way to newer ones");
            oldest.abort();
        }
        let acceptor = TlsAcceptor::from(self.shown.now());
        self.begun.push_back(self.handshakes.spawn(handshake(acceptor, socket, peer)));
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    socket: TcpStream,
    peer: SocketAddr,
) -> Option<Connection> {
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => return Some((stream, peer)),
        Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS handshake"),
        Err(_) => tracing::debug!(%peer, "no TLS handshake in time"),
    }
    None
}

impl Listener for TlsListener {
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

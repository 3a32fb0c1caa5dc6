//! Threads that serve, one a core, each with its own runtime.
//!
//! A request stays on one thread from its first byte to its last, the connection to the provider
//! included: threads that hand work to each other have to wake each other. One thread accepts and
//! deals the connections out in turn. The price: what comes over one connection, be it many
//! requests at once by HTTP/2, is served by one core.

use std::{io, net::SocketAddr, thread};

use anyhow::Context as _;
use axum::serve::Listener;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{mpsc, oneshot},
};

/// Connections that wait for a thread to take them (chosen: as many as the kernel lets wait).
const WAITING: usize = 4096;

/// The connections that one thread serves.
pub struct Share {
    connections: mpsc::Receiver<(std::net::TcpStream, SocketAddr)>,
    address: SocketAddr,
}

impl Listener for Share {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        while let Some((stream, peer)) = self.connections.recv().await {
            // A socket that this thread cannot watch is lost, as one that cannot be accepted.
            if let Ok(stream) = TcpStream::from_std(stream) {
                return (stream, peer);
            }
        }
        std::future::pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Threads that serve, and the listener whose connections they share.
pub struct Workers {
    listener: TcpListener,
    dealt: Vec<mpsc::Sender<(std::net::TcpStream, SocketAddr)>>,
    ended: Vec<oneshot::Receiver<io::Result<()>>>,
}

impl Workers {
    /// Starts a thread a core; each runs what `serve` makes of its share.
    pub fn start<S>(listener: TcpListener, serve: impl Fn(Share) -> S) -> anyhow::Result<Self>
    where
        S: Future<Output = io::Result<()>> + Send + 'static,
    {
        let address = listener.local_addr()?;
        let mut workers = Self { listener, dealt: Vec::new(), ended: Vec::new() };
        for number in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (dealt, connections) = mpsc::channel(WAITING);
            let (end, ended) = oneshot::channel();
            let serving = serve(Share { connections, address });
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            thread::Builder::new().name(format!("serve-{number}")).spawn(move || {
                let served = runtime.block_on(serving);
                // What is left of requests ends before the process may.
                drop(runtime);
                // Nobody waits any more where the process ends in another way.
                let _ = end.send(served);
            })?;
            workers.dealt.push(dealt);
            workers.ended.push(ended);
        }
        Ok(workers)
    }

    /// Deals connections out while the threads take them; returns when all threads have ended.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self { listener, dealt, ended } = self;
        tokio::spawn(deal(listener, dealt));
        for ended in ended {
            ended.await.context("a serving thread panicked")??;
        }
        Ok(())
    }
}

/// Ends, and closes the port, when a thread takes no more.
async fn deal(
    mut listener: TcpListener,
    shares: Vec<mpsc::Sender<(std::net::TcpStream, SocketAddr)>>,
) {
    for share in shares.iter().cycle() {
        let (stream, peer) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = share.closed() => return,
        };
        // A socket that cannot change hands is lost, as one that cannot be accepted.
        let Ok(stream) = stream.into_std() else { continue };
        if share.send((stream, peer)).await.is_err() {
            return;
        }
    }
}

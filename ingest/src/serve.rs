//! Serves a router over HTTP/1.1 within limits that `axum::serve` does not set (I9): how long the head of a request may
//! take, and how many connections there are at once. Without them, whoever opens connections and says nothing takes the
//! process's file descriptors, those of the log among them.
//!
//! Knows nothing of what is served. Bodies have limits of their own, where they are received.

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Extension, Router, extract::ConnectInfo};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};

/// How long nothing is accepted after an error, most often that there are no file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Limits of the connections.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// How long the head of a request may take to arrive, and how long a connection may wait for the next one.
    pub head_secs_max: u64,
    /// Connections at once; further ones wait until one ends. Half of the file descriptors that systems commonly give.
    pub connections_max: usize,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self { head_secs_max: 30, connections_max: 512 }
    }
}

/// Serves until `until` is there, and then answers the requests under way. Handlers find the peer's address as
/// [`ConnectInfo`].
///
/// # Errors
/// None at present: what cannot be accepted is logged, and the next one is waited for.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
    until: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(limits.head_secs_max));
    let connections = Arc::new(Semaphore::new(limits.connections_max));
    let graceful = GracefulShutdown::new();
    let mut until = pin!(until);
    loop {
        let next = async {
            let place = connections.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut until => break,
            next = next => next,
        };
        let (stream, peer): (_, SocketAddr) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone().layer(Extension(ConnectInfo(peer))));
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, %peer, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    use axum::routing::get;

    use super::*;

    struct Server {
        runtime: tokio::runtime::Runtime,
        address: SocketAddr,
        stop: tokio::sync::oneshot::Sender<()>,
        task: tokio::task::JoinHandle<io::Result<()>>,
    }

    fn start(limits: ServeLimits) -> Server {
        let peer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            "slow"
        };
        let router = Router::new().route("/", get(peer)).route("/slow", get(slow));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = runtime.spawn(serve(listener, router, limits, async move { drop(stopped.await) }));
        Server { runtime, address, stop, task }
    }

    fn ask(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        stream
    }

    fn answer(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_handler_knows_its_peer() {
        let server = start(ServeLimits::default());
        let stream = ask(server.address, "/");
        let peer = stream.local_addr().unwrap().to_string();
        assert!(answer(stream).ends_with(&peer));
    }

    #[test]
    fn a_head_that_trickles_in_is_cut_off() {
        let server = start(ServeLimits { head_secs_max: 1, ..ServeLimits::default() });
        let mut slow = TcpStream::connect(server.address).unwrap();
        slow.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nhost: ").unwrap();
        let mut chunk = [0; 64];
        let ends = |e: io::Error| !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        let sent = (0..3_000).take_while(|_| {
            let cut_off = slow.write_all(b"a").is_err() || slow.read(&mut chunk).map_or_else(ends, |n| n == 0);
            !cut_off
        });
        assert!(sent.count() < 3_000, "after a minute still not cut off");
    }

    #[test]
    fn connections_that_say_nothing_make_room_for_others() {
        let server = start(ServeLimits { head_secs_max: 1, connections_max: 2 });
        let silent: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(server.address).unwrap()).collect();
        assert!(answer(ask(server.address, "/")).starts_with("HTTP/1.1 200"));
        drop(silent);
    }

    #[test]
    fn what_is_under_way_is_answered_before_the_end() {
        let server = start(ServeLimits::default());
        let stream = ask(server.address, "/slow");
        // The request is under way once another one behind it was answered.
        assert!(answer(ask(server.address, "/")).starts_with("HTTP/1.1 200"));
        server.stop.send(()).unwrap();
        assert!(answer(stream).ends_with("slow"));
        server.runtime.block_on(server.task).unwrap().unwrap();
        assert!(TcpStream::connect(server.address).is_err(), "nobody listens any more");
    }
}

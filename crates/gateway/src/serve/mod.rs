//! Our own accept loop. It bounds what `axum::serve` does not: heads, connections, stalled writes and
//! the drain. It knows nothing of routes.
//!
//! A graceful shutdown waits for ever on an open event stream (tokio-rs/axum#2673): streams end by
//! themselves on the gateway's shutdown token, and [`Limits::drain`] bounds everything else.

pub(crate) mod handover;
mod stall;
pub(crate) mod tls;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::{Method, Request, Version};
use axum::response::Response;
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::Peer;
use crate::limits::{HEADERS, Limits};
use crate::metrics::{Kind, Limit, Metrics};
use handover::{Last, Lent, Turn};
use stall::Stall;
use tls::Tls;

/// How a listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every connection ended by itself.
    Clean,
    /// So many were cut when the time for the drain was over.
    Cut(usize),
}

/// Serves `router` on a TCP listener until `shutdown`, then drains. HTTP/1.1 and HTTP/2.
///
/// Cancel safe: yes; dropping it cuts every connection at once.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    limits: Limits,
) -> Drained {
    serve_edge(listener, router, shutdown, limits, Front::default()).await
}

/// What stands before a listener's routes.
#[derive(Debug, Clone, Default)]
pub struct Front {
    /// TLS; none: plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// Where connections are counted.
    pub metrics: Option<Arc<Metrics>>,
}

/// As [`serve`], with TLS and counted.
///
/// Cancel safe: yes; dropping it cuts every connection at once.
pub async fn serve_edge(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    limits: Limits,
    front: Front,
) -> Drained {
    let mut pool = Pool::new(router, limits);
    if let Some(metrics) = front.metrics {
        pool.count(metrics);
    }
    loop {
        let Some(permit) = pool.permit(&shutdown).await else {
            break;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Answers are small and wait for nothing more.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "set TCP_NODELAY");
                }
                match &front.tls {
                    None => pool.take(stream, Some(Peer(peer)), permit),
                    Some(tls) => pool.take_tls(stream, peer, tls, permit),
                }
            }
            Err(error) => accept_failed(&error).await,
        }
    }
    drop(listener);
    pool.drain().await
}

/// Serves `router` on a unix socket, to processes of our own user and of root only.
///
/// Cancel safe: yes; dropping it cuts every connection at once.
pub async fn serve_unix(
    listener: UnixListener,
    router: Router,
    shutdown: CancellationToken,
    limits: Limits,
) -> Drained {
    let own = rustix::process::geteuid().as_raw();
    let mut pool = Pool::new(router, limits);
    loop {
        let Some(permit) = pool.permit(&shutdown).await else {
            break;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) if may_control(&stream, own) => pool.take(stream, None, permit),
            Ok(_) => tracing::warn!("refused a process of another user on the control socket"),
            Err(error) => accept_failed(&error).await,
        }
    }
    drop(listener);
    pool.drain().await
}

fn may_control(stream: &UnixStream, own: u32) -> bool {
    stream
        .peer_cred()
        .is_ok_and(|peer| admitted(peer.uid(), own))
}

/// Our own user and root.
const fn admitted(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

/// Out of descriptors, most likely: wait for some to come back instead of spinning.
async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "accept");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// The connections of one listener.
struct Pool {
    router: Router,
    builder: Arc<auto::Builder<TokioExecutor>>,
    /// Connections are to end when what they are asked is answered.
    stop: CancellationToken,
    tasks: JoinSet<()>,
    slots: Arc<Semaphore>,
    limits: Limits,
    metrics: Option<Arc<Metrics>>,
}

impl Pool {
    fn new(router: Router, limits: Limits) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(limits.head_bytes)
            .max_headers(HEADERS);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(128)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(limits.head);
        Self {
            router,
            builder: Arc::new(builder),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
            slots: Arc::new(Semaphore::new(limits.connections)),
            limits,
            metrics: None,
        }
    }

    /// Has connections counted.
    fn count(&mut self, metrics: Arc<Metrics>) {
        let (slots, most) = (Arc::clone(&self.slots), self.limits.connections);
        let open = move || (most - slots.available_permits()) as u64;
        metrics.read(
            "gateway_connections",
            "Connections that are open",
            Kind::Level,
            open,
        );
        self.metrics = Some(metrics);
    }

    /// The right to hold one more connection; `None` at shutdown.
    async fn permit(&mut self, shutdown: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        while self.tasks.try_join_next().is_some() {}
        if let (Some(metrics), 0) = (&self.metrics, self.slots.available_permits()) {
            metrics.hit(Limit::Connections);
        }
        tokio::select! {
            permit = Arc::clone(&self.slots).acquire_owned() => permit.ok(),
            () = shutdown.cancelled() => None,
        }
    }

    fn take<S>(&mut self, stream: S, peer: Option<Peer>, permit: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let server = self.server(peer);
        let connection = server.serve(stream);
        self.tasks.spawn(async move {
            let _permit = permit;
            connection.run().await;
        });
    }

    /// The handshake has as long as a head.
    fn take_tls(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        tls: &Tls,
        permit: OwnedSemaphorePermit,
    ) {
        let (server, acceptor) = (self.server(Some(Peer(peer))), tls.acceptor());
        self.tasks.spawn(async move {
            let _permit = permit;
            let handshake = Box::pin(acceptor.accept(stream));
            match tokio::time::timeout(server.limits.head, handshake).await {
                Ok(Ok(stream)) => server.serve(stream).run().await,
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
                Err(_) => tracing::debug!("TLS handshake took too long"),
            }
        });
    }

    fn server(&self, peer: Option<Peer>) -> Server {
        Server {
            builder: Arc::clone(&self.builder),
            stop: self.stop.child_token(),
            limits: self.limits.clone(),
            router: self.router.clone(),
            peer,
        }
    }

    /// Lets requests in flight finish, for a bounded time.
    async fn drain(mut self) -> Drained {
        self.stop.cancel();
        let mut settled = pin!(async { while self.tasks.join_next().await.is_some() {} });
        if tokio::time::timeout(self.limits.drain, &mut settled)
            .await
            .is_ok()
        {
            return Drained::Clean;
        }
        let left = self.limits.connections - self.slots.available_permits();
        tracing::warn!(
            connections = left,
            "cut connections that did not end in time"
        );
        Drained::Cut(left)
    }
}

/// What it takes to serve one connection.
struct Server {
    builder: Arc<auto::Builder<TokioExecutor>>,
    stop: CancellationToken,
    limits: Limits,
    router: Router,
    peer: Option<Peer>,
}

impl Server {
    fn serve<S>(self, stream: S) -> Connection<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let turn = Arc::<Turn>::default();
        let stall = Stall::new(stream, self.limits.head, self.limits.write_stall);
        let lent = Lent::new(stall, Arc::clone(&turn));
        let service = TowerToHyperService::new(Known {
            router: self.router,
            peer: self.peer,
            turn: Arc::clone(&turn),
        });
        let io = TokioIo::new(lent.clone());
        let http = self.builder.serve_connection(io, service).into_owned();
        Connection {
            http: Box::pin(http),
            lent,
            turn,
            stop: self.stop,
        }
    }
}

/// What hyper makes of a connection.
type Http<S> =
    auto::Connection<'static, TokioIo<Lent<Stall<S>>>, TowerToHyperService<Known>, TokioExecutor>;

/// One connection: hyper, on the heap so that it can go, and what is left when it has gone.
struct Connection<S> {
    http: Pin<Box<Http<S>>>,
    lent: Lent<Stall<S>>,
    turn: Arc<Turn>,
    stop: CancellationToken,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection<S> {
    async fn run(self) {
        let Self {
            mut http,
            lent,
            turn,
            stop,
        } = self;
        let (mut stopped, mut is_last) = (pin!(stop.cancelled()), false);
        let ended = std::future::poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = http.as_mut().poll(cx) {
                    return Poll::Ready(Err(ended));
                }
                if let Some(body) = turn.take() {
                    return Poll::Ready(Ok(body));
                }
                if is_last || !(turn.is_last() || stopped.as_mut().poll(cx).is_ready()) {
                    return Poll::Pending;
                }
                // What it is to say about that it says at its next poll.
                is_last = true;
                http.as_mut().graceful_shutdown();
            }
        })
        .await;
        let ended = match ended {
            Err(ended) => ended,
            Ok(body) => {
                let socket = lent.take();
                // All that was read for it is wiped with it.
                drop((http, lent, turn));
                match socket {
                    Some(socket) => handover::go_on(socket, body).await.map_err(Into::into),
                    None => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            // Clients go away in the middle of things all the time.
            tracing::debug!(%error, "connection");
        }
    }
}

/// The routes, for requests of which it is known where they come from.
#[derive(Debug, Clone)]
struct Known {
    router: Router,
    peer: Option<Peer>,
    turn: Arc<Turn>,
}

impl<B> tower::Service<Request<B>> for Known
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        // HTTP/1.0 knows no chunks, HTTP/2 has other streams beside, and HEAD wants no body.
        let plain = request.version() == Version::HTTP_11 && request.method() == Method::GET;
        let is_one = request.version() < Version::HTTP_2;
        let turn = Arc::clone(&self.turn);
        let answer = self.router.call(request);
        Box::pin(async move {
            let Ok(mut response) = answer.await;
            if response.extensions_mut().remove::<Last>().is_some() {
                turn.end_with(&mut response, is_one);
            }
            if plain {
                turn.lay_aside(&mut response);
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::admitted;

    #[test]
    fn only_our_own_user_and_root_control_the_server() {
        assert!(admitted(1_000, 1_000) && admitted(0, 1_000));
        assert!(!admitted(1_001, 1_000) && !admitted(1_000, 0));
    }
}

//! The ways from one client's connection to its server: each is dialled once, kept for the requests that follow,
//! and used by nobody else. It must never lead anywhere but to an address that was judged for this client.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::ahead::Gathered;
use super::super::carried::{Place, Spoken};
use super::super::flow::Flow;
use super::super::limits::{ANSWER_HEAD, ANSWER_HEADERS, IDLE_WAYS, SEND_BUFFER, WINDOW};
use super::super::upstream::{Failure, Upstream, dial, encrypt, identified};
use super::Scope;
use super::asking::Asking;
use super::body::Sent;
use super::exchange::Judged;
use crate::policy::Seen;

/// One client's connection, as requests on it see it.
pub(in super::super) struct Channel {
    pub(super) flow: Flow,
    /// Whether its requests come inside TLS.
    pub(super) spoken: Spoken,
    pub(super) scope: Scope,
    held: Mutex<Held>,
    /// Connections that were made.
    dialled: AtomicUsize,
    /// One dials and sees what the server speaks, before others dial as well.
    turn: tokio::sync::Mutex<()>,
}

/// Connections that wait for a request.
#[derive(Default)]
struct Held {
    one: Vec<(http1::SendRequest<Sent>, IpAddr)>,
    two: Option<(http2::SendRequest<Sent>, IpAddr)>,
    /// Nothing was said over it yet.
    blank: Option<Upstream>,
}

/// A connection to the server, for one request.
pub(super) struct Way {
    pub(super) to: To,
    pub(super) address: IpAddr,
    /// A request was sent on it before: the server may have closed it meanwhile.
    pub(super) used: bool,
}

pub(super) enum To {
    One(http1::SendRequest<Sent>),
    Two(http2::SendRequest<Sent>),
}

/// A request that was not answered.
pub(super) struct Unanswered {
    /// The request, if none of it was sent.
    pub(super) unsent: Option<Request<Sent>>,
    pub(super) error: hyper::Error,
}

impl Channel {
    pub(in super::super) fn new(flow: Flow, spoken: Spoken, scope: Scope) -> Self {
        Self {
            flow,
            spoken,
            scope,
            held: Mutex::default(),
            dialled: AtomicUsize::new(0),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Takes a connection to the server that was made before its client had spoken.
    pub(in super::super) async fn keep(&self, upstream: Upstream) {
        let address = upstream.address;
        self.dialled.fetch_add(1, Ordering::Relaxed);
        if let Ok(one) = self.speak_one(upstream.stream, None).await {
            self.held().one.push((one, address));
        }
    }

    /// Takes one for the first request inside TLS.
    pub(in super::super) fn keep_blank(&self, upstream: Upstream) {
        self.held().blank = Some(upstream);
    }

    /// A connection for that request: one that waits, or a new one.
    pub(super) async fn way(&self, asking: &Asking, judged: &Judged) -> Result<Way, Failure> {
        if let Some(way) = self.waiting(asking).await {
            return Ok(way);
        }
        // Held while it is dialled: those who wait for it want the connection that is being made.
        let turn = self.turn.lock().await;
        if let Some(way) = self.waiting(asking).await {
            return Ok(way);
        }
        let way = Box::pin(self.dial(asking, judged)).await?;
        drop(turn);
        Ok(way)
    }

    /// Has a connection wait for the next request.
    pub(super) fn give_back(&self, to: To, address: IpAddr) {
        if let To::One(one) = to {
            let mut held = self.held();
            if held.one.len() < IDLE_WAYS {
                held.one.push((one, address));
            }
        }
    }

    async fn waiting(&self, asking: &Asking) -> Option<Way> {
        if !asking.only_one()
            && let Some((two, address)) = self.held().two.clone()
            && !two.is_closed()
        {
            return Some(Way {
                to: To::Two(two),
                address,
                used: true,
            });
        }
        loop {
            let (mut one, address) = self.held().one.pop()?;
            if one.ready().await.is_ok() {
                return Some(Way {
                    to: To::One(one),
                    address,
                    used: true,
                });
            }
        }
    }

    async fn dial(&self, asking: &Asking, judged: &Judged) -> Result<Way, Failure> {
        let carried = &self.flow.carried;
        // The first one stands in the client's own place.
        let place = match self.dialled.fetch_add(1, Ordering::Relaxed) {
            0 => None,
            _ => Some(carried.room().ok_or_else(|| {
                Failure::Unreachable("there are too many connections already".to_owned())
            })?),
        };
        let seen = self.seen(asking, judged);
        let attempt = self.flow.attempt(seen);
        let resolver = &carried.host.resolver;
        let blank = self.held().blank.take();
        let upstream = match blank {
            Some(upstream) => upstream,
            None => dial(resolver, &judged.policy, &attempt, &judged.decision).await?,
        };
        let address = upstream.address;
        let broken = |error: hyper::Error| Failure::Unreachable(error.to_string());
        let to = if self.spoken == Spoken::Tls {
            let trust = carried.trust(asking.only_one());
            let trust = identified(trust, &carried.credentials(), &self.flow.target)?;
            let tls = encrypt(upstream.stream, &self.flow.target, trust).await?;
            if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                To::Two(self.speak_two(tls, place).await.map_err(broken)?)
            } else {
                let tls = Gathered(tls);
                To::One(self.speak_one(tls, place).await.map_err(broken)?)
            }
        } else {
            To::One(
                self.speak_one(upstream.stream, place)
                    .await
                    .map_err(broken)?,
            )
        };
        if let To::Two(two) = &to {
            self.held().two = Some((two.clone(), address));
        }
        Ok(Way {
            to,
            address,
            used: false,
        })
    }

    /// What the policy is to judge of a request.
    pub(super) fn seen<'a>(&self, asking: &'a Asking, judged: &'a Judged) -> Seen<'a> {
        super::exchange::seen(
            self.spoken,
            &asking.method,
            &asking.path,
            judged.calls.first(),
        )
    }

    async fn speak_one(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        place: Option<Place>,
    ) -> hyper::Result<http1::SendRequest<Sent>> {
        let (one, connection) = http1::Builder::new()
            .title_case_headers(true)
            .max_headers(ANSWER_HEADERS)
            .max_header_size(ANSWER_HEAD)
            .max_buf_size(2 * ANSWER_HEAD)
            .handshake(TokioIo::new(stream))
            .await?;
        self.scope.spawn(async move {
            // Whoever sent a request is told why it failed.
            let _ended = connection.with_upgrades().await;
            drop(place);
        });
        Ok(one)
    }

    async fn speak_two(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        place: Option<Place>,
    ) -> hyper::Result<http2::SendRequest<Sent>> {
        let (two, connection) = http2::Builder::new(self.scope.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW.0)
            .initial_connection_window_size(WINDOW.1)
            .max_header_list_size(u32::try_from(ANSWER_HEAD).unwrap_or(u32::MAX))
            .max_send_buf_size(SEND_BUFFER)
            .handshake(TokioIo::new(stream))
            .await?;
        self.scope.spawn(async move {
            let _ended = connection.await;
            drop(place);
        });
        Ok(two)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl To {
    /// Sends the request, and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Sent>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let answered = match self {
            Self::One(one) => one.try_send_request(request).await,
            Self::Two(two) => two.try_send_request(request).await,
        };
        answered.map_err(|mut error| Unanswered {
            unsent: error.take_message(),
            error: error.into_error(),
        })
    }
}

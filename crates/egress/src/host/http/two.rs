//! HTTP/2 as a client speaks it inside TLS: its streams side by side, each judged for itself. It must never pass
//! on a stream for another host than the connection's.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::super::answer::{self, Refusal};
use super::super::bytes::Counts;
use super::super::limits::{SEND_BUFFER, STREAMS, WINDOW};
use super::super::line::Socket;
use super::asking::{Asking, drop_hop_by_hop};
use super::body::{Framed, Sent};
use super::early::Early;
use super::exchange::{Answered, Exchange};
use super::turned::Got;
use super::way::{Channel, To};
use crate::limits;

/// How often a client that says nothing is asked whether it is still there, and for how long.
const PING: (std::time::Duration, std::time::Duration) = (
    std::time::Duration::from_secs(60),
    std::time::Duration::from_secs(20),
);

/// Carries a client's requests until the connection ends.
pub(in super::super) async fn serve<S: Socket>(channel: Arc<Channel>, client: S) {
    let places = Arc::new(Semaphore::new(STREAMS as usize));
    let scope = channel.scope.clone();
    let service = service_fn(move |request| {
        let (channel, places) = (Arc::clone(&channel), Arc::clone(&places));
        async move { Ok::<_, Infallible>(carry(&channel, places, request).await) }
    });
    let serving = http2::Builder::new(scope)
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW.0)
        .initial_connection_window_size(WINDOW.1)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits::HEAD).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .serve_connection(TokioIo::new(client), service);
    // Each request has its own record; how the connection ends says nothing more.
    let _ended = serving.await;
}

/// One request. There are as many unrecorded ones at a time as there may be streams.
async fn carry(
    channel: &Arc<Channel>,
    places: Arc<Semaphore>,
    request: Request<Incoming>,
) -> Response<Told> {
    let Ok(place) = places.acquire_owned().await else {
        return Told::refusal(&gone());
    };
    let (parts, incoming) = request.into_parts();
    let is_head = parts.method == http::Method::HEAD;
    let mut asking = match Asking::of_parts(&channel.flow, parts) {
        Ok(asking) => asking,
        Err(refusal) => {
            let protocol = "https";
            channel.flow.record_refusal(protocol, &refusal, None).await;
            return Told::refusal(&refusal);
        }
    };
    let counts = Arc::<Counts>::default();
    let scope = channel.scope.clone();
    let sent = Sent::Two(Framed::new(incoming, Arc::clone(&counts), scope));
    let done = async {
        let (mut judged, sent) = channel.judge(&mut asking, sent, &counts).await?;
        Box::pin(channel.send(&mut asking, &mut judged, sent, counts, Early::default())).await
    };
    match done.await {
        Ok(mut answered) => {
            answered.exchange.hold(place);
            Told::answer(channel, answered, is_head)
        }
        Err(refused) => {
            channel.refuse(&asking, &refused).await;
            Told::refusal(&refused.refusal)
        }
    }
}

fn gone() -> Refusal {
    Refusal {
        status: 503,
        rule: "protocol".to_owned(),
        reason: "the connection is ending".to_owned(),
    }
}

type Wrong = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer on its way to the client.
struct Told(Kind);

enum Kind {
    /// Our own words.
    Ours(Option<Bytes>),
    Theirs(Box<Theirs>),
}

struct Theirs {
    body: Got,
    exchange: Exchange,
    revoked: Pin<Box<WaitForCancellationFutureOwned>>,
    /// To be used again when all of the answer was read.
    way: Option<(Arc<Channel>, To, std::net::IpAddr)>,
}

impl Told {
    fn refusal(refusal: &Refusal) -> Response<Self> {
        answer::response(refusal).map(|body| Self(Kind::Ours(Some(body))))
    }

    fn answer(channel: &Arc<Channel>, answered: Answered, is_head: bool) -> Response<Self> {
        let Answered {
            response,
            exchange,
            to,
            address,
        } = answered;
        let is_kept = super::one::is_kept(&response, &to);
        let (mut parts, body) = response.into_parts();
        let has_body = !is_head && !matches!(parts.status.as_u16(), 204 | 304);
        if has_body && body.size_hint().exact().is_none() {
            parts.headers.remove(CONTENT_LENGTH);
        }
        drop_hop_by_hop(&mut parts.headers);
        for ours in answer::FIELDS {
            parts.headers.remove(ours);
        }
        parts.version = http::Version::HTTP_2;
        let revoked = Box::pin(exchange.revoked().cancelled_owned());
        let mut way = is_kept.then(|| (Arc::clone(channel), to, address));
        if body.is_end_stream()
            && let Some((channel, to, address)) = way.take()
        {
            channel.give_back(to, address);
        }
        let theirs = Theirs {
            body,
            exchange,
            revoked,
            way,
        };
        Response::from_parts(parts, Self(Kind::Theirs(Box::new(theirs))))
    }
}

impl Body for Told {
    type Data = Bytes;
    type Error = Wrong;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.get_mut().0 {
            Kind::Ours(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Kind::Theirs(theirs) => theirs.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Ours(text) => text.is_none(),
            Kind::Theirs(theirs) => theirs.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Ours(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Theirs(theirs) => theirs.body.size_hint(),
        }
    }
}

impl Theirs {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Wrong>>> {
        if self.revoked.as_mut().poll(cx).is_ready() {
            self.exchange.end_revoked();
            return Poll::Ready(Some(Err("the policy has changed".into())));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let length = data.len() as u64;
            self.exchange
                .counts
                .back
                .fetch_add(length, Ordering::Relaxed);
        }
        if (frame.is_none() || self.body.is_end_stream())
            && let Some((channel, to, address)) = self.way.take()
        {
            channel.give_back(to, address);
        }
        Poll::Ready(frame)
    }
}

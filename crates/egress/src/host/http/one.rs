//! HTTP/1 as a client speaks it: one request after the other on a connection that is kept, each answered before
//! the next is read. It must never read on behind a request whose end is in doubt.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use super::super::answer::{self, Refusal};
use super::super::bytes::{Counts, between};
use super::super::limits::{BETWEEN_REQUESTS, CONTINUE, INFORMATIONAL};
use super::super::line::{Line, Reader, Socket};
use super::asking::{Asking, drop_hop_by_hop};
use super::body::{Back, Sent};
use super::early::{Early, Hint};
use super::exchange::{Answered, Exchange, Judged, Refused};
use super::masked::Masked;
use super::sought::Sought;
use super::turned::Got;
use super::way::{Channel, To};
use crate::http1::{self, Body as Framing, Head, Parsed};
use crate::limits;

/// Carries a client's requests, of which `first` was read, until the connection ends.
pub(in super::super) async fn serve<S: Socket>(channel: Arc<Channel>, client: S, first: &[u8]) {
    let line = Line::new(client);
    let mut reader = Reader::new(line.clone(), first);
    let mut client = Client {
        channel,
        line,
        idle: limits::HEAD_TIME,
    };
    loop {
        let head = match reader.head(client.idle).await {
            Ok(Some(head)) => head,
            Ok(None) => break,
            Err(refusal) => return client.refuse_unread(refusal).await,
        };
        let Ok(Parsed::Head(head, _)) = http1::parse(&head) else {
            // It was whole a moment ago.
            return client.line.cut();
        };
        match client.carry(&head, reader).await {
            Some(back) => reader = back,
            None => return,
        }
        client.idle = BETWEEN_REQUESTS;
    }
    // It may have gone already.
    let _ = client.line.shutdown().await;
}

struct Client<S: Socket> {
    channel: Arc<Channel>,
    line: Line<S>,
    idle: std::time::Duration,
}

/// How an answer's body is told to have ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// There is none.
    None,
    Length(u64),
    Chunked,
    /// With the connection.
    Close,
}

/// What a client is told before the answer.
struct Told {
    /// That its body is wanted, if it waits for that.
    expecting: Option<Expecting>,
    /// What else the server says. HTTP/1.0 knows no such thing.
    hints: bool,
}

/// A client that is to be told to go on before it sends its body.
struct Expecting {
    /// The server wants it.
    wanted: Arc<Notify>,
    open: oneshot::Sender<()>,
}

impl<S: Socket> Client<S> {
    /// Carries one request to its end. The reader, if another one may follow.
    async fn carry(&self, head: &Head<'_>, reader: Reader) -> Option<Reader> {
        let counts = Arc::<Counts>::default();
        let mut asking = match Asking::of_head(&self.channel.flow, head) {
            Ok(asking) => asking,
            Err(refusal) => {
                self.refuse_unread(refusal).await;
                return None;
            }
        };
        let length = match head.body {
            Framing::Length(length) => Some(length),
            Framing::None | Framing::Chunked => None,
        };
        let reads = self.channel.reads_calls(&asking) || self.channel.reads_body(length);
        let expects =
            head.expects_continue && !matches!(head.body, Framing::None | Framing::Length(0));
        if expects && reads {
            self.go_on().await?;
        }
        let (gate, expecting) = if expects && !reads {
            let (open, gate) = oneshot::channel();
            let wanted = Arc::default();
            (Some(gate), Some(Expecting { wanted, open }))
        } else {
            (None, None)
        };
        let (sent, back) = Sent::of(head.body, reader, gate, Arc::clone(&counts));
        let done = async {
            let (mut judged, sent) = self.channel.judge(&mut asking, sent, &counts).await?;
            let told = Told {
                expecting,
                hints: head.version == http1::Version::Http11,
            };
            let answered = self
                .send(&mut asking, &mut judged, sent, counts, told)
                .await?;
            Ok::<_, Refused>(answered)
        };
        match done.await {
            Ok(answered) if answered.response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                self.switch(&asking, answered, back).await;
                None
            }
            Ok(answered) => self.answer(head, answered, back).await,
            Err(refused) => {
                self.channel.refuse(&asking, &refused).await;
                self.tell(&refused.refusal, head.method == "HEAD").await;
                None
            }
        }
    }

    /// Sends it on, and tells the client when its body is wanted, and what the server says before its answer.
    async fn send(
        &self,
        asking: &mut Asking,
        judged: &mut Judged,
        sent: Sent,
        counts: Arc<Counts>,
        told: Told,
    ) -> Result<Answered, Refused> {
        let (hints, mut heard) = mpsc::channel(INFORMATIONAL);
        let (wanted, mut open) = told.expecting.map(|it| (it.wanted, it.open)).unzip();
        let early = Early {
            wanted: wanted.clone(),
            hints: told.hints.then_some(hints),
        };
        let back = Arc::clone(&counts);
        let sending = self.channel.send(asking, judged, sent, counts, early);
        let (mut sending, mut wants) = (Box::pin(sending), pin!(is_wanted(wanted)));
        let answered = loop {
            tokio::select! {
                biased;
                Some(hint) = heard.recv() => self.pass_on(&hint, &back).await,
                answered = &mut sending => break answered,
                () = &mut wants, if open.is_some() => {
                    // A client that has gone sends no body, and the request fails by that.
                    if let (Some(()), Some(open)) = (self.go_on().await, open.take()) {
                        let _ = open.send(());
                    }
                }
            }
        };
        while let Ok(hint) = heard.try_recv() {
            self.pass_on(&hint, &back).await;
        }
        answered
    }

    /// One that the client does not take ends its connection: nobody waits for it, and the answer cannot follow.
    async fn pass_on(&self, hint: &Hint, counts: &Counts) {
        let (mut line, written) = (self.line.clone(), hint.written());
        counts
            .back
            .fetch_add(written.len() as u64, Ordering::Relaxed);
        let passing = async {
            line.write_all(&written).await?;
            line.flush().await
        };
        if !matches!(timeout(limits::DRAIN, passing).await, Ok(Ok(()))) {
            self.line.cut();
        }
    }

    async fn go_on(&self) -> Option<()> {
        let mut line = self.line.clone();
        line.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .await
            .ok()?;
        line.flush().await.ok()
    }

    /// Passes an answer back.
    async fn answer(&self, head: &Head<'_>, answered: Answered, mut back: Back) -> Option<Reader> {
        let Answered {
            response,
            exchange,
            to,
            address,
        } = answered;
        let is_kept = is_kept(&response, &to);
        let ends = ends(head, &response);
        // One who answers before all was said may not listen to the rest: then the connection ends here.
        let keep = head.keep_alive && is_kept && back.is_here() && ends != Ends::Close;
        let (parts, mut body) = response.into_parts();
        let written = written(parts, ends, keep);
        exchange
            .counts
            .back
            .fetch_add(written.len() as u64, Ordering::Relaxed);
        let revoked = exchange.revoked();
        let relayed = tokio::select! {
            relayed = self.relay(&mut body, written, ends, &exchange) => relayed.is_ok(),
            () = revoked.cancelled() => {
                exchange.end_revoked();
                false
            }
        };
        if !relayed {
            self.line.cut();
            exchange.end().await;
            return None;
        }
        if is_kept && back.is_here() {
            self.channel.give_back(to, address);
        }
        exchange.end().await;
        match back {
            Back::Here(reader) if keep => Some(reader),
            Back::Here(_) | Back::Coming(_) => {
                answer::close(&mut self.line.clone()).await;
                None
            }
        }
    }

    /// The body as it comes; what is there at once goes out at once, with the head.
    async fn relay(
        &self,
        body: &mut Got,
        mut out: Vec<u8>,
        ends: Ends,
        exchange: &Exchange,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut line = self.line.clone();
        let mut trailers = None;
        let mut over = ends == Ends::None;
        while !over {
            let frame = match body.frame().now_or_never() {
                Some(frame) => frame,
                None => {
                    line.write_all(&out).await?;
                    line.flush().await?;
                    out.clear();
                    body.frame().await
                }
            };
            let Some(frame) = frame else {
                over = true;
                continue;
            };
            let data = match frame?.into_data() {
                Ok(data) => data,
                Err(other) => {
                    trailers = other.into_trailers().ok();
                    continue;
                }
            };
            if data.is_empty() {
                continue;
            }
            exchange
                .counts
                .back
                .fetch_add(data.len() as u64, Ordering::Relaxed);
            if ends == Ends::Chunked {
                out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            }
            if out.len() + data.len() > limits::COPY {
                line.write_all(&out).await?;
                out.clear();
                line.write_all(&data).await?;
            } else {
                out.extend_from_slice(&data);
            }
            if ends == Ends::Chunked {
                out.extend_from_slice(b"\r\n");
            }
        }
        if ends == Ends::Chunked {
            out.extend_from_slice(b"0\r\n");
            fields(&trailers.unwrap_or_default(), &mut out);
            out.extend_from_slice(b"\r\n");
        }
        line.write_all(&out).await?;
        Ok(line.flush().await?)
    }

    /// The connection is a WebSocket from now on, if the client asked for one.
    async fn switch(&self, asking: &Asking, answered: Answered, back: Back) {
        let Answered {
            mut response,
            exchange,
            ..
        } = answered;
        let agreed = response.headers().get(UPGRADE);
        let agreed = agreed.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
        let Back::Here(reader) = back else {
            return self.line.cut();
        };
        if !asking.upgrade || !agreed {
            return self.line.cut();
        }
        let Ok(upgraded) = hyper::upgrade::on(&mut response).await else {
            return self.line.cut();
        };
        let (mut parts, _) = response.into_parts();
        drop_hop_by_hop(&mut parts.headers);
        parts.headers.remove(CONTENT_LENGTH);
        let mut out = status_line(parts.status);
        out.extend_from_slice(b"connection: Upgrade\r\nupgrade: websocket\r\n");
        fields(&parts.headers, &mut out);
        out.extend_from_slice(b"\r\n");
        let counts = &exchange.counts;
        counts.back.fetch_add(out.len() as u64, Ordering::Relaxed);
        let mut line = self.line.clone();
        let (server_read, server_write) = tokio::io::split(TokioIo::new(upgraded));
        let forms = exchange.spending.as_ref().and_then(|it| it.forms());
        let sought = forms.map(|forms| Sought::of(Some(forms)));
        let server_read = Masked::new(server_read, sought);
        let revoked = exchange.revoked();
        let whole = async {
            line.write_all(&out).await?;
            line.flush().await?;
            let client = std::io::Cursor::new(reader.buffer.freeze()).chain(self.line.clone());
            between(client, line, server_read, server_write, counts).await
        };
        tokio::select! {
            ended = whole => {
                let _either_way = ended;
            }
            () = revoked.cancelled() => {
                exchange.end_revoked();
                self.line.cut();
            }
        }
        exchange.end().await;
    }

    /// Refuses a request that could not be read as one.
    async fn refuse_unread(&self, refusal: Refusal) {
        let flow = &self.channel.flow;
        flow.record_refusal(self.channel.spoken.as_str(), &refusal, None)
            .await;
        self.tell(&refusal, false).await;
    }

    async fn tell(&self, refusal: &Refusal, is_head: bool) {
        let text = answer::http(refusal, is_head);
        answer::say(&mut self.line.clone(), text.as_bytes()).await;
    }
}

/// Waits until the server wants the body, or has said nothing for so long that it is sent all the same.
async fn is_wanted(wanted: Option<Arc<Notify>>) {
    if let Some(wanted) = wanted {
        let _ = timeout(CONTINUE, wanted.notified()).await;
    }
}

/// Whether the server waits for another request behind that answer. One with a length and chunks is believed in
/// neither.
pub(super) fn is_kept(response: &Response<Got>, to: &To) -> bool {
    if matches!(to, To::Two(_)) {
        return true;
    }
    let headers = response.headers();
    let says = |what: &str| {
        let all = headers.get_all(CONNECTION).iter();
        all.filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(what))
    };
    let two_framings =
        headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH);
    !two_framings
        && match response.version() {
            Version::HTTP_10 => says("keep-alive"),
            _ => !says("close"),
        }
}

fn ends(head: &Head<'_>, response: &Response<Got>) -> Ends {
    let status = response.status();
    if head.method == "HEAD" || matches!(status.as_u16(), 204 | 304) {
        return Ends::None;
    }
    match response.body().size_hint().exact() {
        Some(length) => Ends::Length(length),
        None if head.version == http1::Version::Http11 => Ends::Chunked,
        None => Ends::Close,
    }
}

/// An answer's head as it goes to the client.
fn written(mut parts: http::response::Parts, ends: Ends, keep: bool) -> Vec<u8> {
    let lengths = parts.headers.remove(CONTENT_LENGTH);
    let is_chunked = parts.headers.contains_key(TRANSFER_ENCODING);
    drop_hop_by_hop(&mut parts.headers);
    for ours in answer::FIELDS {
        parts.headers.remove(ours);
    }
    let mut out = status_line(parts.status);
    fields(&parts.headers, &mut out);
    match ends {
        Ends::Length(length) => {
            out.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        Ends::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // What the body would have had.
        Ends::None if parts.status != StatusCode::NO_CONTENT && !is_chunked => {
            if let Some(length) = lengths {
                out.extend_from_slice(b"content-length: ");
                out.extend_from_slice(length.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
        Ends::None | Ends::Close => {}
    }
    let connection = if keep { "keep-alive" } else { "close" };
    out.extend_from_slice(format!("connection: {connection}\r\n\r\n").as_bytes());
    out
}

pub(super) fn status_line(status: StatusCode) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let reason = status.canonical_reason().unwrap_or("");
    out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
    out
}

pub(super) fn fields(headers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

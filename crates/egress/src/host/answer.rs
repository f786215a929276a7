//! How a client is told that it does not get what it asked for, in the words of what it speaks. It must never
//! leave it to wait.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::speech::Speech;
use crate::limits;

/// A refusal: its status, and one line that an agent can act on.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// Of HTTP.
    pub(super) status: u16,
    /// The rule that decided.
    pub(super) rule: String,
    /// One line.
    pub(super) reason: String,
}

/// Alerts of TLS (RFC 8446 §6).
const HANDSHAKE_FAILURE: u8 = 40;
const ACCESS_DENIED: u8 = 49;
const DECODE_ERROR: u8 = 50;
const INTERNAL_ERROR: u8 = 80;
const UNRECOGNIZED_NAME: u8 = 112;

/// Fields that only we set: a server's are dropped, so that what they say is ours.
pub(super) const FIELDS: [HeaderName; 2] = [
    HeaderName::from_static("x-longhand-egress"),
    HeaderName::from_static("x-longhand-egress-rule"),
];

/// Tells it to a client that spoke so, and closes.
pub(super) async fn refuse(mut client: TcpStream, speech: &Speech, refusal: &Refusal) {
    match speech {
        Speech::Http => say(&mut client, http(refusal, false).as_bytes()).await,
        Speech::Tls(_) | Speech::BadTls(_) => {
            say(&mut client, &alert(speech, refusal.status)).await
        }
        Speech::Opaque | Speech::Begun | Speech::More => reset(client),
    }
}

/// Ends a connection at once: the other side sees a reset.
pub(super) fn reset(stream: TcpStream) {
    // Where it cannot be set the connection ends in order, which says less.
    let _ = set_socket_linger(&stream, Some(Duration::ZERO));
    drop(stream);
}

/// The whole answer of HTTP/1, after which the connection is closed. To a HEAD it has no body.
pub(super) fn http(refusal: &Refusal, is_head: bool) -> String {
    let reason = match refusal.status {
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        status => StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Refused"),
    };
    let body = body(refusal);
    format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\nx-longhand-egress: {}\r\nx-longhand-egress-rule: {}\r\n\r\n{}",
        refusal.status,
        body.len(),
        what(refusal),
        plain(&refusal.rule),
        if is_head { "" } else { &body },
    )
}

/// The same as an answer of HTTP/2.
pub(super) fn response(refusal: &Refusal) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body(refusal)));
    let status = StatusCode::from_u16(refusal.status);
    *response.status_mut() = status.unwrap_or(StatusCode::FORBIDDEN);
    let [denied, rule] = FIELDS;
    let headers = response.headers_mut();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, text);
    headers.insert(denied, HeaderValue::from_static(what(refusal)));
    if let Ok(name) = HeaderValue::from_str(&plain(&refusal.rule)) {
        headers.insert(rule, name);
    }
    response
}

fn body(refusal: &Refusal) -> String {
    format!("longhand egress: {}\n", refusal.reason)
}

fn what(refusal: &Refusal) -> &'static str {
    match refusal.status {
        403 | 421 => "denied",
        _ => "failed",
    }
}

/// Rules are named in printable ASCII; what else there were would end the field.
fn plain(text: &str) -> String {
    let kept = |c: &char| c.is_ascii_graphic() || *c == ' ';
    text.chars().filter(kept).collect()
}

/// A fatal alert, as a server sends one before it has said anything.
fn alert(speech: &Speech, status: u16) -> [u8; 7] {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    let what = match (speech, status) {
        (Speech::BadTls(_), _) => DECODE_ERROR,
        (_, 403) => ACCESS_DENIED,
        (_, 421) => UNRECOGNIZED_NAME,
        (_, 502 | 504) => INTERNAL_ERROR,
        _ => HANDSHAKE_FAILURE,
    };
    [ALERT, 3, 3, 0, 2, FATAL, what]
}

/// Writes, and closes as [`close`] does.
pub(super) async fn say(client: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &[u8]) {
    let said = async {
        client.write_all(answer).await?;
        client.flush().await
    };
    // A client that does not listen has had its chance.
    if matches!(timeout(limits::DRAIN, said).await, Ok(Ok(()))) {
        close(client).await;
    }
}

/// Says that nothing follows, and takes what still comes for a moment: a reset because of unread bytes would
/// overtake what was said.
pub(super) async fn close(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let closed = async {
        client.shutdown().await?;
        let mut buffer = [0; 4096];
        let mut taken = 0;
        while taken < limits::DRAIN_BYTES {
            match client.read(&mut buffer).await? {
                0 => break,
                length => taken += length,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(limits::DRAIN, closed).await;
}

//! How a client is told that it does not get what it asked for, in the words of what it speaks. It must never
//! leave it to wait.

use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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

/// Tells it to a client that spoke so, and closes.
pub(super) async fn refuse(client: TcpStream, speech: &Speech, refusal: &Refusal) {
    match speech {
        Speech::Http => say(client, http(refusal).as_bytes()).await,
        Speech::Tls(_) | Speech::BadTls(_) => say(client, &alert(speech, refusal.status)).await,
        Speech::Opaque | Speech::More => reset(client),
    }
}

/// Ends a connection at once: the other side sees a reset.
pub(super) fn reset(stream: TcpStream) {
    // Where it cannot be set the connection ends in order, which says less.
    let _ = set_socket_linger(&stream, Some(Duration::ZERO));
    drop(stream);
}

/// The whole answer of HTTP/1.
fn http(refusal: &Refusal) -> String {
    let reason = match refusal.status {
        400 => "Bad Request",
        403 => "Forbidden",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        504 => "Gateway Timeout",
        _ => "Refused",
    };
    let what = if refusal.status == 403 || refusal.status == 421 {
        "denied"
    } else {
        "failed"
    };
    let body = format!("longhand egress: {}\n", refusal.reason);
    format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\nx-longhand-egress: {what}\r\nx-longhand-egress-rule: {}\r\n\r\n{body}",
        refusal.status,
        body.len(),
        plain(&refusal.rule),
    )
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

/// Writes, and takes what still comes for a moment: a reset because of unread bytes would overtake the answer.
async fn say(mut client: TcpStream, answer: &[u8]) {
    let said = async {
        client.write_all(answer).await?;
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
    // A client that does not listen has had its chance.
    let _ = timeout(limits::DRAIN, said).await;
}

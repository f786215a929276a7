//! Limits of the HTTP edge, each with its unit and reason. It holds numbers and nothing else.

use std::time::Duration;

/// What one listener may use. The defaults are what `serve` runs with; tests make them smaller.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's backlog.
    pub connections: usize,
    /// From the first byte of a connection, or the end of the request before, to the end of a head.
    pub head: Duration,
    /// Between two pieces of a request body.
    pub body_idle: Duration,
    /// A write that the peer does not take; then the connection is cut.
    pub write_stall: Duration,
    /// From shutdown to the moment open connections are dropped.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            head: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            write_stall: Duration::from_secs(60),
            drain: Duration::from_secs(30),
        }
    }
}

/// Bytes of the head of a request, and of hyper's read buffer.
pub const HEAD_BYTES: usize = 64 * 1024;
/// Header fields of a request (hyper's default, stated).
pub const HEADERS: usize = 100;
/// Bytes read and thrown away of a body over the limit, so that the client can read the refusal
/// instead of a reset connection.
pub const DISCARDED_BYTES: usize = 2 * contract::limits::BODY_BYTES;
/// Bytes read and thrown away of a body whose request was refused before it was looked at.
pub const REFUSED_BYTES: usize = 4 * 1024 * 1024;
/// How long that may take.
pub const REFUSED_TIME: Duration = Duration::from_secs(2);
/// Characters of an API key that are looked at; longer ones are refused unread.
pub const KEY_BYTES: usize = 1_024;
/// Characters of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY: usize = 255;
/// How often a stream says `ping` while it has nothing else to say. Proxies were seen cutting idle
/// streams after 16 s.
pub const PING: Duration = Duration::from_secs(10);
/// Events read at a time when a stream is resumed.
pub const REPLAY_PAGE: u32 = 500;
/// Bytes of agents remembered as sessions get them, by their stored form.
pub const CASTS_BYTES: usize = 8 * 1024 * 1024;

const _: () = assert!(HEAD_BYTES < contract::limits::BODY_BYTES);
const _: () = assert!(PING.as_secs() < 16);

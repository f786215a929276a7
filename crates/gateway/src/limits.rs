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
    /// Bytes of the head of a request, and of hyper's read buffer.
    pub head_bytes: usize,
    /// Bytes of request bodies that are held at once, of all connections together.
    pub bodies: usize,
    /// Streams that one API key may have open.
    pub streams_per_key: usize,
    /// What one API key may ask; none: as much as it likes.
    pub rate: Option<Rate>,
}

/// How fast one API key may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, at least 1.
    pub per_second: u32,
    /// Requests at once after a pause, at least 1.
    pub burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            head: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            write_stall: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            head_bytes: HEAD_BYTES,
            bodies: BODIES_BYTES,
            streams_per_key: STREAMS_PER_KEY,
            rate: None,
        }
    }
}

/// Bytes of the head of a request, unless the operator says otherwise.
pub const HEAD_BYTES: usize = 64 * 1024;
/// Bytes of request bodies held at once, unless the operator says otherwise: eight of the largest, which
/// parsed may take several times as much.
pub const BODIES_BYTES: usize = 8 * contract::limits::BODY_BYTES;
/// Streams of a key, unless the operator says otherwise: fewer than there are connections, so that one key
/// cannot have them all.
pub const STREAMS_PER_KEY: usize = 2_000;
/// Keys whose rate is remembered; beyond it those that have asked nothing for a while are forgotten.
pub const RATES_KEPT: usize = 10_000;
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
/// Sandboxes that are named beside a volume.
pub const SHOWN_SANDBOXES: usize = 100;
/// Bytes of agents remembered as sessions get them, by their stored form; of environments as many again.
pub const CASTS_BYTES: usize = 8 * 1024 * 1024;

const _: () = assert!(HEAD_BYTES < contract::limits::BODY_BYTES);
const _: () = assert!(PING.as_secs() < 16);

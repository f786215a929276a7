//! Limits of the vault. Each is a constant with its unit and reason.

use std::time::Duration;

/// Secrets that a rotation wraps in one write: bounds how long other writes wait for it.
pub const ROTATE_PAGE: u32 = 200;

/// How long before its expiry an access token is refreshed, if it lives as long.
pub const REFRESH_AHEAD: Duration = Duration::from_secs(2 * 60);

/// A token that expires within this is as good as expired: clocks differ, and a request takes its time.
pub const SKEW: Duration = Duration::from_secs(30);

/// No token is refreshed again within this, however short a life its server gives it.
pub const REFRESH_REST: Duration = Duration::from_secs(30);

/// Time for one question to a token endpoint, from name to last byte.
pub const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the right to refresh is held: longer than a question can take, so that a second one is asked only if
/// the first server is gone.
pub const REFRESH_LEASE: Duration = Duration::from_secs(60);

/// Bytes of a token endpoint's answer; a longer one is no answer.
pub const TOKEN_ANSWER: usize = 64 * 1024;

/// How long somebody who needs a token waits for whoever refreshes it.
pub const REFRESH_WAIT: Duration = Duration::from_secs(70);

/// How often a waiter looks, at first and at most.
pub const REFRESH_LOOK: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(250));

/// The pause after a failure, doubled with each further one up to the second.
pub const FAILURE_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// How long new tokens are kept that the store does not take: longer than it takes until another database server has
/// the part of one that is gone, or until somebody has made room on a disk.
pub const STORE_WAIT: Duration = Duration::from_secs(5 * 60);

/// The pause before it is tried again to store them, at first and at most: short, so that nobody else refreshes first
/// if the lease ended meanwhile.
pub const STORE_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));

/// How often somebody looks for tokens that are due.
pub const DUE_LOOK: Duration = Duration::from_secs(10);

/// Tokens that are refreshed at once by the look for those that are due.
pub const DUE_AT_ONCE: usize = 8;

/// Time for one step of a probe of an MCP server.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes that are read of a foreign server's answer to be shown; the rest is cut off and said to be.
pub const SHOWN_ANSWER: usize = 4 * 1024;

/// Probes at once; further ones wait for one to end.
pub const PROBES: usize = 16;

/// Bytes, about, that come of one piece of a text when secrets take the place of placeholders in it: some of the longest, as
/// JSON writes them. So much of a body that streams is held at one time.
pub const PUT_IN_AT_ONCE: usize = 256 << 10;

const _: () = assert!(2 * 6 * contract::limits::SECRET_BYTES <= PUT_IN_AT_ONCE);
const _: () = assert!(TOKEN_TIMEOUT.as_secs() * 2 < REFRESH_LEASE.as_secs());
const _: () = assert!(REFRESH_LEASE.as_secs() < REFRESH_WAIT.as_secs());
const _: () = assert!(STORE_PAUSE.1.as_secs() * 10 < REFRESH_LEASE.as_secs());
const _: () = assert!(SKEW.as_secs() < REFRESH_AHEAD.as_secs());
const _: () = assert!(SHOWN_ANSWER < TOKEN_ANSWER);

/// How long a rotation of the master key waits for other servers on the same database to take up the next key: longer than
/// it takes until one that is gone is known to be, and many of the beats with which they hear and say so.
pub const OTHERS_FOLLOW: Duration = Duration::from_secs(15);

/// How often it looks whether they have.
pub const OTHERS_LOOK: Duration = Duration::from_millis(100);

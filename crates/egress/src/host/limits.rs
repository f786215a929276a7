//! The limits of carrying HTTP and TLS, each with its unit and its reason. No logic stands here.

use std::time::Duration;

/// For the next request on a connection that is kept: longer than clients keep theirs in a pool.
pub(super) const BETWEEN_REQUESTS: Duration = Duration::from_secs(300);
/// For a server to say `100 Continue`; many never do, and then the body is sent all the same (RFC 9110
/// §10.1.1).
pub(super) const CONTINUE: Duration = Duration::from_secs(1);
/// For a handshake of TLS, on either side.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// Answers of 1xx before the one that counts: a server that goes on with them never answers.
pub(super) const INFORMATIONAL: usize = 16;
/// Bytes of an answer's head, and of a chunk's frame around it.
pub(super) const ANSWER_HEAD: usize = 64 << 10;
/// Header fields of an answer.
pub(super) const ANSWER_HEADERS: usize = 256;
/// Bytes that are read from a client at one time.
pub(super) const READ: usize = 16 << 10;
/// Bytes that are asked of the kernel at one time beneath TLS, of which nobody holds any while it waits: four records.
pub(super) const AHEAD: usize = 64 << 10;
/// Bytes of a line with a chunk's length: 15 digits of hex, and what nobody needs behind them.
pub(super) const SIZE_LINE: usize = 256;
/// Requests at one time on one connection of HTTP/2: what browsers count on.
pub(super) const STREAMS: u32 = 100;
/// Bytes of one stream, and of one connection of HTTP/2, that may be under way to us unread.
pub(super) const WINDOW: (u32, u32) = (512 << 10, 2 << 20);
/// Bytes of answers that wait for one HTTP/2 client to take them, a stream.
pub(super) const SEND_BUFFER: usize = 128 << 10;
/// For a client of HTTP/2 to end a body that nobody wants, before its stream is reset: what it has sent by then goes
/// nowhere, and takes a place among its streams.
pub(super) const UNWANTED: Duration = Duration::from_secs(10);
/// Connections to one server that wait for one client's next request.
pub(super) const IDLE_WAYS: usize = 8;
/// Bytes of a body that a rule must be able to read; also what is buffered to replace something in it.
pub(super) const JUDGED_BODY: usize = 1 << 20;
/// Bytes that come of a body that is turned into another as it comes, behind which nothing more of it is turned before they
/// have gone on: what a chunk of most clients has.
pub(super) const TURNED: usize = 64 << 10;
/// Bytes of an answer that are looked through at one time: what stands for a short secret is six times as long.
pub(super) const LOOKED_THROUGH: usize = 64 << 10;
/// Bytes to which such a body may unpack; a longer one is no text that somebody wrote.
pub(super) const UNPACKED_BODY: usize = 8 << 20;

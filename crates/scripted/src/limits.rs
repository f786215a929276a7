//! Every limit of this crate. It holds numbers and must never hold behaviour.

/// Bytes of a request body, as the real API's.
pub(crate) const BODY_BYTES: usize = 32 * 1024 * 1024;
/// Requests that are remembered for `/_scripted/requests`.
pub(crate) const LOG_ENTRIES: usize = 2_000;
/// Bytes of bodies that are remembered with them.
pub(crate) const LOG_BYTES: usize = 64 * 1024 * 1024;
/// Renderings that later requests are compared with; a rendering replaces those it extends.
pub(crate) const PREFIX_ENTRIES: usize = 256;
/// Bytes of those renderings.
pub(crate) const PREFIX_BYTES: usize = 64 * 1024 * 1024;
/// Prefix breaks that are remembered.
pub(crate) const BREAKS: usize = 100;
/// Released gates and counted failures that are remembered.
pub(crate) const NAMES: usize = 4_096;
/// Frames between the writer of an answer and its connection.
pub(crate) const FRAMES: usize = 16;
/// Connections that may wait to be accepted: a server that starts a thousand turns at once opens as many.
pub(crate) const BACKLOG: u32 = 4_096;

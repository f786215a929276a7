//! Owns the packets between a supervisor and the server that looks after its sandbox: how long they may be.
//! It decides nothing.
//!
//! The first server has one end of a pair from the start; a later one connects to [`SOCKET`] in the sandbox's
//! own directory.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use control::{SOCKET, connect, directory, pair, remove};
pub(crate) use control::{accept, listen};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes of the longest packet: a plan with the largest environment that a server takes. Less than what
/// the kernel lets a socket hold unless somebody lowered that.
pub const PACKET_BYTES: usize = 128 << 10;

/// What who carries a sandbox's network says over the line that it got with it. Beside it: one end of a
/// pair, of which the other closes when it carries no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carries;

/// Sends one packet, whole or not at all. Never waits.
///
/// # Errors
/// Those of [`control::send`], for more than [`PACKET_BYTES`].
pub fn send(
    to: impl AsFd,
    value: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    control::send(to, value, descriptors, PACKET_BYTES)
}

/// Takes one packet and what came beside it; `None` when the other side has gone. Waits for it unless the
/// socket is a non-blocking one.
///
/// # Errors
/// Those of [`control::receive`].
pub fn receive<T: DeserializeOwned>(from: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    control::receive(from, PACKET_BYTES)
}

//! Whether the names of one connection agree: the one that was resolved for it, that of TLS, and that of the
//! request. It must never pick one of two that differ.

use crate::name::{Authority, Name, Target};

/// Names that differ: the request is answered 421, and recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misdirected {
    /// TLS names another server than was resolved.
    #[error("the server name of TLS is not the name that was resolved for this connection")]
    ServerName,
    /// The request names another host.
    #[error("the request's host is not the name that was resolved for this connection")]
    Host,
    /// The request names another port.
    #[error("the request's port is not the one of this connection")]
    Port,
}

/// Holds the server name of TLS to the dialled target. None is sent to an address, and some clients send
/// none at all: then only the target counts.
///
/// # Errors
/// [`Misdirected::ServerName`]; also for a connection to a literal address, which has no name to agree with.
pub fn check_server_name(dialled: &Target, server_name: Option<&Name>) -> Result<(), Misdirected> {
    match (dialled, server_name) {
        (_, None) => Ok(()),
        (Target::Name(dialled), Some(name)) if dialled == name => Ok(()),
        (Target::Name(_) | Target::Address(_), Some(_)) => Err(Misdirected::ServerName),
    }
}

/// Holds a request's `Host` or `:authority` to the dialled target and port. One without a port agrees with
/// every port: it cannot reach another one by leaving it out.
///
/// # Errors
/// [`Misdirected`].
pub fn check_authority(
    dialled: &Target,
    port: u16,
    authority: &Authority,
) -> Result<(), Misdirected> {
    if authority.host != *dialled {
        return Err(Misdirected::Host);
    }
    match authority.port {
        Some(named) if named != port => Err(Misdirected::Port),
        Some(_) | None => Ok(()),
    }
}

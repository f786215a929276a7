//! What TLS is looked into with: an authority of each sandbox, which signs what its programs are shown, and what
//! the certificates of servers are held against. It must never write a key to a disk, nor accept what a program
//! that speaks with the server itself would refuse.

mod ca;
mod trust;

pub use self::ca::{Ca, CaError};
pub(crate) use self::trust::problem;
pub use self::trust::{Trust, TrustError};

/// Where programs in a sandbox find the certificates that they trust: the system's own, and the sandbox's.
pub const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
